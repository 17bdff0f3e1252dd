//! A task as a pure step function: everything that can happen is an [`Event`], everything it may ask for is
//! an [`Action`], and all control flow is in one `match`. No clock, no client. It speaks of spans of offsets,
//! never of single records, so that an engine may move whatever unit it likes.
//!
//! ```text
//!  Took ─▶ Enqueue ─▶ … ─▶ Delivered            exactly once:   Begin ─ records ─ closing ─ Commit
//!   │        (or Discard)      │                at least once:  Commit once per interval, of what is answered
//!   ╰── progress.begin         ╰── progress.finish, map.observe
//! ```

use std::time::{Duration, Instant};

use super::progress::PartitionProgress;
use crate::error::{Code, Error, Remedy};
use crate::kafka::{NextOffset, Source};
use crate::offset_map::{MapWriter, Segment};
use crate::topology::Delivery;

/// Number of a partition inside one task, dense from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub usize);

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
    },
    /// Consecutive records wait in hand.
    Took {
        /// Which.
        partition: PartitionId,
        /// Source offset of the first.
        first: i64,
        /// How many.
        count: u32,
        /// What they cost in memory.
        bytes: u64,
    },
    /// Everything before `position` has been taken.
    End {
        /// Which.
        partition: PartitionId,
        /// The next source offset.
        position: i64,
    },
    /// The target has acknowledged consecutive records.
    Delivered {
        /// Which.
        partition: PartitionId,
        /// Source offset of the first.
        first: i64,
        /// Target offset of the first.
        target: i64,
        /// How many.
        count: u32,
        /// What they cost in memory.
        bytes: u64,
    },
    /// Consecutive records were left out on purpose (they come from the target).
    Skipped {
        /// Which.
        partition: PartitionId,
        /// Source offset of the first.
        first: i64,
        /// How many.
        count: u32,
        /// What they cost in memory.
        bytes: u64,
    },
    /// The source cannot give this partition's records.
    SourceFailed(PartitionId, Error),
    /// The target did not take a record of this partition.
    DeliveryFailed(PartitionId, Error),
    /// The commit that was asked for is done.
    Committed,
    /// Time has passed.
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
    /// Store what [`TaskState::pending`] lists, then report [`Event::Committed`].
    Commit,
    /// Stop reading a partition.
    Unassign(PartitionId),
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

/// Limits of a task, from its flow.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes taken and not answered.
    pub in_flight_bytes: u64,
    /// Longest life of a transaction, or age of stored progress.
    pub commit_interval: Duration,
}

/// A task that has caught up commits at most this often: a trickle of records arrives at once, a stream does
/// not turn into a transaction per record.
const CAUGHT_UP_GAP: Duration = Duration::from_millis(100);
/// While far behind, each commit costs a drained pipeline: it may take at most this share of the time …
const COMMIT_SHARE: u32 = 10;
/// … but no transaction grows older than this.
const LONGEST_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes after which a transaction closes.
const TRANSACTION_BYTES: u64 = 1 << 30;
/// A position that moved over markers only is stored this late; retention must not overtake it.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);

/// The state of one task.
#[derive(Debug)]
pub struct TaskState {
    delivery: Delivery,
    limits: Limits,
    partitions: Vec<Option<Partition>>,
    in_flight_bytes: u64,
    transaction: Option<Transaction>,
    /// A commit was asked for and is not reported yet.
    committing: bool,
    last_commit: Instant,
    interval: Duration,
    draining: bool,
    over: bool,
}

#[derive(Debug)]
struct Transaction {
    opened: Instant,
    bytes: u64,
    /// Nothing more is taken; it is committed when everything in flight is answered.
    closing: Option<Instant>,
}

#[derive(Debug)]
struct Partition {
    progress: PartitionProgress,
    map: MapWriter,
    start: Source<NextOffset>,
    next_target: i64,
    stored: Option<Source<NextOffset>>,
    /// Records were answered since the last commit.
    fresh: bool,
    at_end: bool,
    stopped: bool,
}

impl Partition {
    /// `count` records from `first` on need not be sent again.
    fn answered(&mut self, first: i64, count: u32) {
        self.progress.finish(first, count);
        self.fresh = true;
    }

    fn is_dirty(&self) -> bool {
        self.stored != Some(self.progress.committable())
    }
}

impl TaskState {
    /// A task without partitions.
    pub fn new(delivery: Delivery, limits: Limits, now: Instant) -> Self {
        Self {
            delivery,
            limits,
            partitions: Vec::new(),
            in_flight_bytes: 0,
            transaction: None,
            committing: false,
            last_commit: now,
            interval: limits.commit_interval,
            draining: false,
            over: false,
        }
    }

    /// All control flow of the task is in this match; the helpers only compute.
    pub fn on_event(&mut self, event: Event, now: Instant, actions: &mut Vec<Action>) {
        match event {
            Event::Assigned {
                partition,
                start,
                next_target,
                map,
                persist,
            } => {
                if self.partitions.len() <= partition.0 {
                    self.partitions.resize_with(partition.0 + 1, || None);
                }
                self.partitions[partition.0] = Some(Partition {
                    progress: PartitionProgress::starting_at(start),
                    map,
                    start,
                    next_target,
                    stored: (!persist).then_some(start),
                    fresh: persist,
                    at_end: false,
                    stopped: false,
                });
                // Partitions come in groups; the tick that follows commits all of them at once.
                return;
            }
            Event::Took {
                partition,
                first,
                count,
                bytes,
            } => {
                let Some(it) = partition_mut(&mut self.partitions, partition) else {
                    return actions.push(Action::Discard(count));
                };
                it.at_end = false;
                // Records taken before a stop may still arrive. Sending one would let `committable` step
                // over the gap that the stop left; a record that has begun must not begin again.
                if it.stopped || self.draining || self.over || !it.progress.begin(first, count) {
                    return actions.push(Action::Discard(count));
                }
                if self.delivery == Delivery::ExactlyOnce {
                    let transaction = self.transaction.get_or_insert_with(|| {
                        actions.push(Action::Begin);
                        Transaction {
                            opened: now,
                            bytes: 0,
                            closing: None,
                        }
                    });
                    transaction.bytes += bytes;
                }
                self.in_flight_bytes += bytes;
                actions.push(Action::Enqueue(count));
            }
            Event::End { partition, position } => {
                let Some(it) = partition_mut(&mut self.partitions, partition) else {
                    return;
                };
                if !it.stopped {
                    it.at_end = true;
                    it.progress.reached(position);
                }
            }
            Event::Delivered {
                partition,
                first,
                target,
                count,
                bytes,
            } => {
                self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
                let Some(it) = partition_mut(&mut self.partitions, partition) else {
                    return;
                };
                it.answered(first, count);
                it.map.observe(first, target, count);
                it.next_target = target + i64::from(count);
            }
            Event::Skipped {
                partition,
                first,
                count,
                bytes,
            } => {
                self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
                let Some(it) = partition_mut(&mut self.partitions, partition) else {
                    return;
                };
                it.answered(first, count);
            }
            Event::SourceFailed(partition, error) => match error.code.page().remedy {
                // `NextPass` is for groups, which no task hears of.
                Remedy::Retry | Remedy::GiveUpTask | Remedy::NextPass => return self.restart(error, actions),
                Remedy::PausePartition | Remedy::HaltPartition => {
                    if let Some(it) = partition_mut(&mut self.partitions, partition) {
                        it.stopped = true;
                        actions.push(Action::Unassign(partition));
                    }
                }
            },
            // A record that did not arrive leaves a hole in the transaction, or in the order: whatever the
            // reason, what is in flight is repeated. The reason decides whether this partition takes part.
            Event::DeliveryFailed(_, error) => return self.restart(error, actions),
            Event::Committed => {
                if let Some(closing) = self.transaction.take().and_then(|t| t.closing) {
                    let cost = now.saturating_duration_since(closing) * COMMIT_SHARE;
                    let behind = !self.is_caught_up();
                    let longest = LONGEST_INTERVAL.max(self.limits.commit_interval);
                    self.interval = if behind { cost.min(longest) } else { Duration::ZERO };
                    self.interval = self.interval.max(self.limits.commit_interval);
                }
                self.committing = false;
                self.last_commit = now;
                for it in self.partitions.iter_mut().flatten() {
                    it.stored = Some(it.progress.committable());
                    it.fresh = false;
                    it.map.committed(it.progress.committable().0.0);
                }
            }
            Event::Tick => {}
            Event::Drain => self.draining = true,
        }
        self.conclude(now, actions);
    }

    /// Whether the shell should take records now.
    pub fn wants_records(&self) -> bool {
        !self.draining
            && !self.over
            && !self.committing
            && self.transaction.as_ref().is_none_or(|t| t.closing.is_none())
            && self.in_flight_bytes < self.limits.in_flight_bytes
    }

    /// Bytes taken and not answered.
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// Whether the limit of [`TaskState::in_flight_bytes`] is reached.
    pub fn is_full(&self) -> bool {
        self.limits.in_flight_bytes <= self.in_flight_bytes
    }

    /// What the next commit stores: every partition whose position moved.
    pub fn pending(&self) -> impl Iterator<Item = Pending> {
        self.partitions.iter().enumerate().filter_map(|(i, it)| {
            let it = it.as_ref().filter(|it| it.is_dirty())?;
            Some(Pending {
                partition: PartitionId(i),
                next_source: it.progress.committable(),
                next_target: it.next_target,
                segments: it.map.segments(it.progress.committable().0.0),
            })
        })
    }

    /// The position of a partition as it is stored on the target: what is answered but not committed does not
    /// count, because a reader does not see it and a crash takes it back.
    pub fn stored_position(&self, partition: PartitionId) -> Option<Source<NextOffset>> {
        self.partitions.get(partition.0)?.as_ref()?.stored
    }

    /// Where a partition's next record will go.
    pub fn next_target(&self, partition: PartitionId) -> Option<i64> {
        Some(self.partitions.get(partition.0)?.as_ref()?.next_target)
    }

    /// Whether a partition that was assigned has been stopped by an error.
    pub fn is_stopped(&self, partition: PartitionId) -> bool {
        self.partitions
            .get(partition.0)
            .and_then(Option::as_ref)
            .is_some_and(|it| it.stopped)
    }

    /// Whether a partition has shown since it was assigned that it can be copied: its stored position moved, or
    /// there is nothing to copy.
    pub fn is_well(&self, partition: PartitionId) -> bool {
        let it = self.partitions.get(partition.0).and_then(Option::as_ref);
        it.is_some_and(|it| {
            let moved = it.stored.is_some_and(|stored| it.start.0.0 < stored.0.0);
            !it.stopped && (moved || (it.at_end && it.progress.is_idle() && !it.is_dirty()))
        })
    }

    /// Whether a stopped partition has nothing in flight and nothing to store, so that it may be assigned
    /// again from its stored progress.
    pub fn is_settled(&self, partition: PartitionId) -> bool {
        self.partitions
            .get(partition.0)
            .and_then(Option::as_ref)
            .is_none_or(|it| it.stopped && it.progress.is_idle() && !it.is_dirty())
    }

    fn restart(&mut self, error: Error, actions: &mut Vec<Action>) {
        if !self.over {
            self.over = true;
            actions.push(Action::Restart(error));
        }
    }

    fn is_idle(&self) -> bool {
        self.partitions.iter().flatten().all(|it| it.progress.is_idle())
    }

    fn is_caught_up(&self) -> bool {
        self.partitions.iter().flatten().all(|it| it.at_end || it.stopped)
    }

    /// Decides, after every event, whether it is time to commit or to end.
    fn conclude(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.over || self.committing {
            return;
        }
        let since_commit = now.saturating_duration_since(self.last_commit);
        let idle = self.is_idle();
        let commit = match &self.transaction {
            Some(transaction) => {
                let age = now.saturating_duration_since(transaction.opened);
                let (bytes, closing) = (transaction.bytes, transaction.closing);
                let close = self.draining
                    || self.interval <= age
                    || TRANSACTION_BYTES <= bytes
                    || (idle && CAUGHT_UP_GAP <= since_commit && self.is_caught_up());
                if close && let Some(transaction) = &mut self.transaction {
                    transaction.closing.get_or_insert(now);
                }
                (close || closing.is_some()) && idle
            }
            None => {
                let dirty = self.partitions.iter().flatten().any(Partition::is_dirty);
                let fresh = self
                    .partitions
                    .iter()
                    .flatten()
                    .any(|it| it.fresh && it.is_dirty());
                let unstored = self.partitions.iter().flatten().any(|it| it.stored.is_none());
                dirty
                    && (unstored
                        || (self.draining && idle)
                        || (fresh && self.limits.commit_interval <= since_commit)
                        || IDLE_INTERVAL <= since_commit)
            }
        };
        if commit {
            self.committing = true;
            actions.push(Action::Commit);
        } else if self.draining && idle {
            self.over = true;
            actions.push(Action::Finished);
        }
    }
}

/// Borrows the partitions alone, so that the rest of the state stays at hand.
fn partition_mut(partitions: &mut [Option<Partition>], id: PartitionId) -> Option<&mut Partition> {
    partitions.get_mut(id.0)?.as_mut()
}

/// Whether a failure concerns one partition, which then waits while the rest of the task goes on.
pub fn concerns_one_partition(code: Code) -> bool {
    matches!(code.page().remedy, Remedy::PausePartition | Remedy::HaltPartition)
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;

    /// A task with one partition that begins at 0, and what it asks for after each event.
    fn task() -> impl FnMut(Event) -> (Vec<Action>, bool) {
        let now = Instant::now();
        let limits = Limits {
            in_flight_bytes: 100,
            commit_interval: Duration::from_secs(1),
        };
        let mut state = TaskState::new(Delivery::AtLeastOnce, limits, now);
        let partition = PartitionId(0);
        let start = Source(NextOffset(0));
        let assigned = Event::Assigned {
            partition,
            start,
            next_target: 0,
            map: MapWriter::new(0, true, 0, 0),
            persist: false,
        };
        state.on_event(assigned, now, &mut vec![]);
        move |event| {
            let mut actions = vec![];
            state.on_event(event, now, &mut actions);
            (actions, state.is_settled(partition))
        }
    }

    fn took(first: i64, count: u32) -> Event {
        Event::Took {
            partition: PartitionId(0),
            first,
            count,
            bytes: 1,
        }
    }

    #[test]
    fn a_stopped_partition_sends_nothing_more_and_can_be_assigned_again() {
        let mut step = task();
        let error = Error::new(Code::SourceTopicMissing, "gone");
        let (actions, settled) = step(Event::SourceFailed(PartitionId(0), error));
        assert_eq!((actions, settled), (vec![Action::Unassign(PartitionId(0))], true));
        assert_eq!(step(took(0, 3)).0, [Action::Discard(3)]);
    }

    #[test]
    fn records_that_have_begun_are_not_sent_again() {
        let mut step = task();
        assert_eq!(step(took(0, 3)).0, [Action::Enqueue(3)]);
        assert_eq!(step(took(1, 2)).0, [Action::Discard(2)]);
        assert_eq!(step(took(3, 1)).0, [Action::Enqueue(1)]);
    }
}
