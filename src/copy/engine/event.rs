//! What crosses the port: where reading begins, and what is heard.

use crate::copy::span::{PartitionId, Span};
use crate::error::Error;
use crate::kafka::TopicPartition;
use crate::kafka::consumer::ReadFrom;
use crate::state::resume::Truncation;

/// Where reading of one partition begins, and where its records go.
#[derive(Clone, Debug)]
pub struct Start {
    /// The source partition.
    pub source: TopicPartition,
    /// Topic on the target; the partition number stays.
    pub remote: String,
    /// First offset, and what is known of the log before it.
    pub from: ReadFrom,
}

/// What [`Engine::poll`](super::Engine::poll) has to tell, in order.
#[derive(Clone, Debug)]
pub enum Heard {
    /// Records wait in hand.
    Records {
        /// Which.
        span: Span,
        /// The source offset behind everything that came with them: the end of the span, or later where markers or
        /// removed records follow.
        next: i64,
        /// Key and value bytes.
        payload_bytes: u64,
        /// The source's leader epoch of the last one, if it is known.
        leader_epoch: Option<i32>,
    },
    /// Everything before `position` was taken.
    End {
        /// Of which partition.
        partition: PartitionId,
        /// The next source offset.
        position: i64,
    },
    /// The source cannot serve a partition; `None`: the source as a whole.
    SourceFailed(Option<PartitionId>, Error),
    /// The source's log is, or was, shorter than what was read of it.
    Truncated(PartitionId, Truncation, Error),
    /// What became of records that were sent.
    Answer {
        /// Which.
        span: Span,
        /// Key and value bytes.
        payload_bytes: u64,
        /// Timestamp of the first, ms since the epoch; −1 for none.
        first_timestamp: i64,
        /// Where the first one went, or why it did not.
        outcome: Outcome,
    },
}

/// See [`Heard::Answer`].
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Acknowledged by all in-sync replicas; target offset of the first, where the client knows it.
    Delivered(Option<i64>),
    /// Left out: it came from the target.
    Skipped,
    /// The target did not take it.
    Failed(Error),
}
