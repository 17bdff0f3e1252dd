//! What goes over the pipe between a daemon and its process for groups. Both ends are one program file, so the JSON
//! is no format that needs to last.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Result, Side};
use crate::kafka::TopicPartition;

/// A position of a group in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The next offset the group reads, ≥ 0.
    pub offset: i64,
    /// Leader epoch of the last record the group has read, if it told.
    pub leader_epoch: Option<i32>,
    /// What the group stored with it; empty for none. Bytes that are not UTF-8 are replaced.
    pub metadata: String,
}

/// Positions by group.
pub type Positions = BTreeMap<String, BTreeMap<TopicPartition, Commit>>;

/// Positions by group, or why they cannot be told.
pub type Read = BTreeMap<String, Result<BTreeMap<TopicPartition, Commit>>>;

/// What became of each position, by group.
pub type Written = BTreeMap<String, Result<BTreeMap<TopicPartition, Result<()>>>>;

/// What became of each group.
pub type Deleted = BTreeMap<String, Result<()>>;

#[derive(Serialize, Deserialize)]
pub(super) struct Request<C> {
    pub(super) cluster: C,
    pub(super) timeout: Duration,
    pub(super) call: Call,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Call {
    Committed(Vec<String>),
    Commit(ByGroup<ByTopic<Commit>>),
    Delete(Vec<String>),
}

/// How a cluster is reached. Some properties are secrets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Cluster {
    pub(super) alias: String,
    pub(super) side: Side,
    pub(super) properties: BTreeMap<String, String>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("alias", &self.alias)
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}

pub(super) type ByGroup<T> = BTreeMap<String, T>;

/// JSON has no objects with partitions as keys.
pub(super) type ByTopic<T> = BTreeMap<String, Vec<(i32, T)>>;

pub(super) fn to_json<T: Serialize>(answer: Result<T>) -> String {
    serde_json::to_string(&answer).expect("texts and numbers")
}

pub(super) fn by_topic<T: Clone>(partitions: &BTreeMap<TopicPartition, T>) -> ByTopic<T> {
    let mut topics = ByTopic::<T>::new();
    for (partition, value) in partitions {
        let value = (partition.partition, value.clone());
        match topics.get_mut(&*partition.topic) {
            Some(values) => values.push(value),
            None => drop(topics.insert(partition.topic.to_string(), vec![value])),
        }
    }
    topics
}

pub(super) fn by_partition<T>(topics: ByTopic<T>) -> BTreeMap<TopicPartition, T> {
    let of_topic = |(topic, values): (String, Vec<(i32, T)>)| {
        let topic: Arc<str> = topic.into();
        values
            .into_iter()
            .map(move |(number, value)| (TopicPartition::new(Arc::clone(&topic), number), value))
    };
    topics.into_iter().flat_map(of_topic).collect()
}

pub(super) fn to_wire<T: Clone>(
    groups: ByGroup<Result<BTreeMap<TopicPartition, T>>>,
) -> ByGroup<Result<ByTopic<T>>> {
    let of_group = |(group, it): (String, Result<BTreeMap<_, _>>)| (group, it.map(|it| by_topic(&it)));
    groups.into_iter().map(of_group).collect()
}

pub(super) fn from_wire<T>(
    groups: ByGroup<Result<ByTopic<T>>>,
) -> ByGroup<Result<BTreeMap<TopicPartition, T>>> {
    let of_group = |(group, it): (String, Result<ByTopic<T>>)| (group, it.map(by_partition));
    groups.into_iter().map(of_group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn commit() -> impl Strategy<Value = Commit> {
        (0..i64::MAX, proptest::option::of(0..i32::MAX), any::<String>()).prop_map(
            |(offset, leader_epoch, metadata)| Commit {
                offset,
                leader_epoch,
                metadata,
            },
        )
    }

    fn positions() -> impl Strategy<Value = BTreeMap<TopicPartition, Commit>> {
        let partition = ("[a-c.]{1,3}", 0..5).prop_map(|(topic, number)| TopicPartition::new(topic, number));
        proptest::collection::btree_map(partition, commit(), 0..10)
    }

    proptest! {
        #[test]
        fn positions_survive_the_pipe(positions in positions()) {
            let read: Read = [("g".to_owned(), Ok(positions))].into();
            let line = to_json(Ok(to_wire(read.clone())));
            prop_assert!(!line.contains('\n'));
            let answer: Result<ByGroup<Result<ByTopic<Commit>>>> = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(from_wire(answer.unwrap()), read);
        }
    }
}
