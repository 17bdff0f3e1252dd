//! What can happen to a task, and what it can ask for.

use crate::copy::span::{PartitionId, Span};
use crate::error::Error;
use crate::kafka::{NextOffset, Source};
use crate::offset_map::{MapWriter, Segment};

/// Everything that can happen to a task. A new cause is a new variant, never a side channel.
#[derive(Clone, Debug)]
pub enum Event {
    /// The partition is read from `start` on. `persist`: its position is not stored yet.
    Assigned {
        /// Which.
        partition: PartitionId,
        /// First offset to copy.
        start: Source<NextOffset>,
        /// Where its next record will go.
        next_target: i64,
        /// The part of the offset map that begins here.
        map: MapWriter,
        /// The stored progress must be written even if no record comes.
        persist: bool,
        /// It has failed before: one batch of it is tried, alone. One at a time.
        on_trial: bool,
    },
    /// Records wait in hand. Up to `next`, nothing but markers and removed records follows them.
    Took {
        /// Which.
        span: Span,
        /// A source offset, not before the end of the span.
        next: i64,
    },
    /// Everything before `position` has been taken.
    End {
        /// Which.
        partition: PartitionId,
        /// The next source offset.
        position: i64,
    },
    /// The target has acknowledged records.
    Delivered {
        /// Which.
        span: Span,
        /// Target offset of the first; `None`: they are there, but nobody can say where.
        target: Option<i64>,
    },
    /// Records were left out on purpose (they come from the target).
    Skipped(Span),
    /// The source cannot give this partition's records.
    SourceFailed(PartitionId, Error),
    /// The target did not take records.
    DeliveryFailed {
        /// Which.
        span: Span,
        /// Why.
        error: Error,
    },
    /// The commit that was asked for has failed.
    CommitFailed(Error),
    /// The first records of the partition on trial, or its end, wait to be taken.
    TrialReady,
    /// The commit that was asked for is done.
    Committed,
    /// The open transaction was given up, and everything in flight has been answered. With an error it is not certain.
    Aborted(Option<Error>),
    /// Time has passed; what came together has been heard.
    Tick,
    /// Finish what was taken, commit, and end.
    Drain,
}

/// Everything a task can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a transaction.
    Begin,
    /// Send the next `n` records in hand.
    Enqueue(u32),
    /// Drop the next `n` records in hand.
    Discard(u32),
    /// Store what [`Task::pending`](super::Task::pending) lists, then report [`Event::Committed`].
    Commit,
    /// Give the open transaction up, feed what is still answered, then report [`Event::Aborted`].
    Abort,
    /// Stop reading a partition.
    Unassign(PartitionId),
    /// A partition must wait: why, and at which source offset.
    Hold(PartitionId, Error, Option<i64>),
    /// A partition that was on trial has passed: it is read with the others from now on.
    Join(PartitionId),
    /// Give everything in flight up and start again from stored progress.
    Restart(Error),
    /// Everything is committed; the task may end.
    Finished,
}

/// What one partition has to store.
#[derive(Debug)]
pub struct Pending {
    /// Which.
    pub partition: PartitionId,
    /// The next source offset to copy.
    pub next_source: Source<NextOffset>,
    /// Where it will go.
    pub next_target: i64,
    /// Segments of the offset map.
    pub segments: Vec<Segment>,
}
