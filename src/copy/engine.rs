//! The port between a task and what moves its records: commands in, events out. This page is all that the session
//! knows of an engine; no type of a client library crosses it.
//!
//! ```text
//!            assign, unassign, enqueue, discard, begin, commit, abort
//!  session ───────────────────────────────────────────────────────────▶ engine ◀──▶ source, target
//!          ◀───────────────────────────────────────────────────────────
//!             poll ─▶ Heard: Records, End, Truncated, SourceFailed, Answer
//! ```
//!
//! An engine moves whatever unit it likes, as long as it speaks in spans of consecutive source offsets:
//!
//! - What `poll` lists as [`Heard::Records`] waits *in hand*, in that order, until `enqueue` sends it or `discard`
//!   drops it. A unit with missing offsets inside (a compacted batch) is several spans that share one fate; when it
//!   ends before its last source offset, `next` tells so.
//! - Each span that was sent is answered once, in one piece or in several. A delivery names the target offset of its
//!   first record; the others follow without a break.
//! - A partition that an engine cannot carry fails as [`Heard::SourceFailed`] with a code of its own, and is held
//!   alone.

use std::time::Duration;

use super::span::PartitionId;
use crate::error::{Error, Result};
use crate::kafka::TopicPartition;
use crate::state::ledger::{NotFenced, StateRecord};

mod event;
pub mod record;

pub use event::{Heard, Outcome, Start};
use record::RecordEngine;

/// How long one commit may take before its outcome counts as unknown.
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// What moves a task's records.
pub enum Engine {
    /// One record at a time, by librdkafka.
    Record(Box<RecordEngine>),
}

/// Calls the engine that there is.
macro_rules! engine {
    ($self:ident, $it:ident => $call:expr) => {
        match $self {
            Engine::Record($it) => $call,
        }
    };
}

impl Engine {
    /// Fences every former owner of this task.
    pub fn fence(&mut self, timeout: Duration) -> std::result::Result<(), NotFenced> {
        engine!(self, it => it.fence(timeout))
    }

    /// Starts to read partitions and prepares where they go. Ids are given in order of first use.
    pub fn assign(&mut self, starts: &[Start]) -> Result<Vec<PartitionId>> {
        engine!(self, it => it.assign(starts))
    }

    /// As [`Engine::assign`], apart from all others: see [`Engine::poll_apart`].
    pub fn assign_apart(&mut self, start: Start) -> Result<PartitionId> {
        engine!(self, it => it.assign_apart(start))
    }

    /// Stops reading a partition.
    pub fn unassign(&mut self, partition: PartitionId) -> Result<()> {
        engine!(self, it => it.unassign(partition))
    }

    /// The partition that was read apart is read with the others from now on.
    pub fn join(&mut self) {
        engine!(self, it => it.join());
    }

    /// The source partition behind an id.
    pub fn source(&self, partition: PartitionId) -> &TopicPartition {
        engine!(self, it => it.source(partition))
    }

    /// Waits up to `timeout`, for records if they are wanted and for answers if not, and lists what there is of both.
    pub fn poll(&mut self, want_records: bool, timeout: Duration, heard: &mut Vec<Heard>) {
        engine!(self, it => it.poll(want_records, timeout, heard));
    }

    /// Whether records of the partition that is read apart, or its end, wait to be listed.
    pub fn is_waiting_apart(&self) -> bool {
        engine!(self, it => it.is_waiting_apart())
    }

    /// Lists what waits of the partition that is read apart. Waits for nothing.
    pub fn poll_apart(&mut self, heard: &mut Vec<Heard>) {
        engine!(self, it => it.poll_apart(heard));
    }

    /// Sends the next `n` records in hand.
    pub fn enqueue(&mut self, n: u32) {
        engine!(self, it => it.enqueue(n));
    }

    /// Drops the next `n` records in hand.
    pub fn discard(&mut self, n: u32) {
        engine!(self, it => it.discard(n));
    }

    /// Opens the transaction of the data (exactly once).
    pub fn begin(&mut self) -> Result<()> {
        engine!(self, it => it.begin())
    }

    /// Stores `records` in a transaction: the open one of the data, which it commits, or one of its own.
    /// On an error the outcome may be unknown: drop the engine and read the stored progress again.
    pub fn commit(&mut self, records: &[StateRecord], open: bool, timeout: Duration) -> Result<()> {
        engine!(self, it => it.commit(records, open, timeout))
    }

    /// Gives the open transaction up, so that readers of the target need not wait for it.
    pub fn abort(&mut self, timeout: Duration) -> Result<()> {
        engine!(self, it => it.abort(timeout))
    }

    /// Errors of the clients as a whole since the last call.
    pub fn client_errors(&mut self) -> Vec<Error> {
        engine!(self, it => it.client_errors())
    }

    /// How many answers about metadata the source's client has had: before one comes, it reads no other topic of a
    /// name than it did.
    pub fn metadata_answers(&self) -> u64 {
        engine!(self, it => it.metadata_answers())
    }

    /// Records with CreateTime 0 sent since the last call.
    pub fn take_zero_timestamps(&mut self) -> u64 {
        engine!(self, it => it.take_zero_timestamps())
    }
}
