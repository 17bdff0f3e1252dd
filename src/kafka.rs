//! The words of Kafka that the rest of the program speaks. No client and no I/O here.

use std::fmt;
use std::sync::Arc;

#[allow(unsafe_code)]
pub mod admin;
pub mod client;
pub mod codes;
#[allow(unsafe_code)]
pub mod consumer;
pub mod control;
pub mod groups;
#[allow(unsafe_code)]
mod native;
#[allow(unsafe_code)]
mod objects;
#[allow(unsafe_code)]
pub mod producer;
pub mod tail;

/// The user's name for one cluster, as written in `config/`.
///
/// Letters, digits, `_` and `-` only: a dot would make remote topic names ambiguous (MM2's
/// `DefaultReplicationPolicy` splits at the first separator).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterAlias(Arc<str>);

impl ClusterAlias {
    /// Wraps a name that the configuration has checked.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterAlias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The offset of a record that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

/// The next offset to read: what Kafka commits. [`Offset::next`] is the only bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextOffset(pub i64);

impl Offset {
    /// The position after this record. The program's only `+ 1` on an offset.
    pub fn next(self) -> NextOffset {
        NextOffset(self.0 + 1)
    }
}

/// A value that belongs to the source cluster of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source<T>(pub T);

/// A value that belongs to the target cluster of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target<T>(pub T);

/// One partition of a topic. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names one partition.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Kafka's own id of a topic (KIP-516): changes when a topic is deleted and created again.
///
/// Text form as Kafka's tools print it: 22 characters of URL-safe base64.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub Arc<str>);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
