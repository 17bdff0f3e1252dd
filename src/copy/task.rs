//! A task as a pure step function: everything that can happen is an [`Event`], everything it may ask for is
//! an [`Action`], and all control flow is in one `match`. No clock, no client. It speaks of spans of offsets,
//! never of single records, so that an engine may move whatever unit it likes.
//!
//! ```text
//!  Took ─▶ Enqueue ─▶ … ─▶ Delivered            exactly once:   Begin ─ records ─ closing ─ Commit
//!   │        (or Discard)      │                at least once:  Commit once per interval, of what is answered
//!   ╰── progress.begin         ╰── progress.finish, map.observe
//! ```
//!
//! A failure is decided at the end of its round, when everything that came with it has been heard:
//!
//! ```text
//!  at least once:  Hold the partition to blame, in place        exactly once:  Abort ─ Aborted ─ Hold those to blame ─ Restart
//!                  (Restart when nobody is)                     on trial:      Abort ─ Aborted ─ Hold it; the others go on
//! ```
//!
//! A partition *on trial* is tried again after a failure: one batch of it, alone in its transaction.

use std::time::{Duration, Instant};

use super::in_flight::PartitionProgress;
use crate::error::{Code, Error, Rank, Remedy};
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
        /// It has failed before: one batch of it is tried, alone. One at a time.
        on_trial: bool,
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
        /// Target offset of the first; `None`: they are there, but nobody can say where.
        target: Option<i64>,
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
    /// The target did not take consecutive records.
    DeliveryFailed {
        /// Which.
        partition: PartitionId,
        /// Source offset of the first.
        first: i64,
        /// What they cost in memory.
        bytes: u64,
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
    /// Store what [`Task::pending`] lists, then report [`Event::Committed`].
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
/// When nothing in flight is answered for so long, although the target has answered others since it was sent, those
/// that wait are kept from holding up the rest.
const SILENCE: Duration = Duration::from_secs(2);
/// … and for so much longer as one batch takes on a slow line, in bytes per second.
const SLOW_LINE: u64 = 512 << 10;
const BATCH_BYTES: u64 = 1 << 20;
/// Records that get no answer for so long, with nothing to compare to, are given up: whether the target is away or
/// only their partitions shows when the task starts again.
const LONG_SILENCE: Duration = Duration::from_secs(6);
/// At least once, nobody waits for a partition without answers until the memory is full; it is named after so long.
const LONG_SILENCE_ALONE: Duration = Duration::from_secs(10);
/// A partition that has given nothing for so long does not keep the others from counting as caught up.
const QUIET: Duration = Duration::from_secs(1);

/// The state of one task.
#[derive(Debug)]
pub struct Task {
    delivery: Delivery,
    limits: Limits,
    partitions: Vec<Option<Partition>>,
    in_flight_bytes: u64,
    transaction: Option<Transaction>,
    /// A commit or an abort was asked for and is not reported yet.
    ending: bool,
    last_commit: Instant,
    /// When the target answered last, whatever it was about.
    last_answer: Option<Instant>,
    interval: Duration,
    trial: Option<Trial>,
    /// What failed in this round.
    failures: Vec<Failure>,
    /// The sessions before this one failed, and nothing explained it.
    suspicious: bool,
    draining: bool,
    over: bool,
}

/// A partition that is tried alone.
#[derive(Clone, Copy, Debug)]
struct Trial {
    partition: PartitionId,
    /// Its records wait to be taken. Before that, nobody needs to wait for it.
    ready: bool,
}

#[derive(Debug)]
struct Failure {
    /// `None`: nobody's in particular.
    partition: Option<PartitionId>,
    offset: Option<i64>,
    error: Error,
}

#[derive(Debug)]
struct Transaction {
    opened: Instant,
    bytes: u64,
    /// Nothing more is taken; it is committed when everything in flight is answered.
    closing: Option<Instant>,
    /// Only the partition on trial takes part.
    on_trial: bool,
}

#[derive(Debug)]
struct Partition {
    progress: PartitionProgress,
    map: MapWriter,
    start: Source<NextOffset>,
    /// Where the record at the committable position will go.
    next_target: i64,
    /// Where the target will write next, behind what was answered out of turn, too.
    target_end: i64,
    /// Answered out of turn, behind something that is not answered: (source, target, count).
    out_of_turn: Vec<(i64, i64, u32)>,
    stored: Option<Source<NextOffset>>,
    /// Records were answered since the last commit.
    fresh: bool,
    at_end: bool,
    taken: Option<Instant>,
    /// Bytes taken and not answered.
    in_flight_bytes: u64,
    /// Since when something is in flight without any answer.
    silent: Option<Instant>,
    stopped: bool,
}

impl Partition {
    /// The target has told what became of records that take `bytes`.
    fn heard(&mut self, bytes: u64, now: Instant) {
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        self.silent = (0 < self.in_flight_bytes).then_some(now);
    }

    /// `count` records from `first` on need not be sent again.
    fn answered(&mut self, first: i64, count: u32) {
        self.progress.finish(first, count);
        self.fresh = true;
    }

    /// `count` records from `source` on are on the target from `target` on. What stands there behind a hole is sent
    /// again after it: until the hole is filled, neither the map nor the next offset may count with it.
    fn written(&mut self, source: i64, target: i64, count: u32) {
        self.target_end = target + i64::from(count);
        self.out_of_turn.push((source, target, count));
        // Nearly always this one span, and in its turn.
        self.out_of_turn.sort_unstable();
        let committable = self.progress.committable().0.0;
        let behind = self.out_of_turn.partition_point(|it| it.0 < committable);
        for (source, target, count) in self.out_of_turn.drain(..behind) {
            self.map.observe(source, target, count);
            self.next_target = target + i64::from(count);
        }
    }

    /// How long its silence may last: what one batch of it takes on a slow line counts.
    fn patience(&self) -> Duration {
        SILENCE + Duration::from_millis(self.in_flight_bytes.min(BATCH_BYTES) * 1000 / SLOW_LINE)
    }

    fn is_dirty(&self) -> bool {
        self.stored != Some(self.progress.committable())
    }
}

impl Task {
    /// A task without partitions. `suspicious`: those before it failed, and nothing explained it; if it fails so,
    /// too, each partition that took part is tried alone.
    pub fn new(delivery: Delivery, limits: Limits, suspicious: bool, now: Instant) -> Self {
        Self {
            suspicious,
            delivery,
            limits,
            partitions: Vec::new(),
            in_flight_bytes: 0,
            transaction: None,
            ending: false,
            last_commit: now,
            last_answer: None,
            interval: limits.commit_interval,
            trial: None,
            failures: Vec::new(),
            draining: false,
            over: false,
        }
    }

    /// All control flow of the task is in this match; the helpers only compute.
    pub fn on_event(&mut self, event: Event, now: Instant, actions: &mut Vec<Action>) {
        let round_is_over = matches!(event, Event::Tick);
        match event {
            Event::Assigned {
                partition,
                start,
                next_target,
                map,
                persist,
                on_trial,
            } => {
                if self.partitions.len() <= partition.0 {
                    self.partitions.resize_with(partition.0 + 1, || None);
                }
                self.partitions[partition.0] = Some(Partition {
                    progress: PartitionProgress::starting_at(start),
                    map,
                    start,
                    next_target,
                    target_end: next_target,
                    out_of_turn: vec![],
                    stored: (!persist).then_some(start),
                    fresh: persist,
                    at_end: false,
                    taken: None,
                    in_flight_bytes: 0,
                    silent: None,
                    stopped: false,
                });
                if on_trial {
                    self.trial = Some(Trial {
                        partition,
                        ready: false,
                    });
                }
                // Partitions come in groups; the tick that follows commits all of them at once.
                return;
            }
            Event::Took {
                partition,
                first,
                count,
                bytes,
            } => {
                let on_trial = self.is_on_trial(partition);
                let Some(it) = partition_mut(&mut self.partitions, partition) else {
                    return actions.push(Action::Discard(count));
                };
                it.at_end = false;
                it.taken = Some(now);
                // Records taken before a stop may still arrive. Sending one would let `committable` step
                // over the gap that the stop left; a record that has begun must not begin again.
                let unwanted = it.stopped || self.draining || self.over;
                if unwanted || !it.progress.begin(first, count) {
                    return actions.push(Action::Discard(count));
                }
                it.silent.get_or_insert(now);
                it.in_flight_bytes += bytes;
                if self.delivery == Delivery::ExactlyOnce {
                    let transaction = self.transaction.get_or_insert_with(|| {
                        actions.push(Action::Begin);
                        Transaction {
                            opened: now,
                            bytes: 0,
                            // Of a trial, one batch is enough.
                            closing: on_trial.then_some(now),
                            on_trial,
                        }
                    });
                    transaction.bytes += bytes;
                    // With another's records in it, a failure concerns more than the trial.
                    transaction.on_trial &= on_trial;
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
                self.last_answer = Some(now);
                self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
                let Some(it) = partition_mut(&mut self.partitions, partition) else {
                    return;
                };
                it.heard(bytes, now);
                match target {
                    Some(target) if it.target_end <= target => {
                        it.answered(first, count);
                        it.written(first, target, count);
                    }
                    // What was stored before tells the start of the next session what is lost.
                    Some(target) => {
                        let end = it.target_end;
                        let detail =
                            format!("a record went to offset {target}, where {end} had been written");
                        self.fail(None, Some(first), Error::new(Code::TargetLostRecords, detail));
                    }
                    // librdkafka learns from a later acknowledgement that an earlier batch arrived, not where.
                    None => {
                        let detail =
                            "records were acknowledged without their offsets: the target had been slow";
                        self.fail(None, Some(first), Error::new(Code::TargetUnavailable, detail));
                    }
                }
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
                it.heard(bytes, now);
                it.answered(first, count);
            }
            Event::SourceFailed(partition, error) => match error.code.page().remedy {
                // `NextPass` is for groups, which no task hears of.
                Remedy::Retry | Remedy::GiveUpTask | Remedy::NextPass => self.fail(None, None, error),
                Remedy::PausePartition | Remedy::HaltPartition => {
                    let position = self.position(partition);
                    self.stop(partition, error, position, actions);
                }
            },
            // A record that did not arrive leaves a hole in the transaction, or in the order.
            Event::DeliveryFailed {
                partition,
                first,
                bytes,
                error,
            } => {
                self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
                if let Some(it) = partition_mut(&mut self.partitions, partition) {
                    it.heard(bytes, now);
                }
                self.fail(Some(partition), Some(first), error);
            }
            Event::CommitFailed(error) => {
                self.ending = false;
                self.fail(None, None, error);
            }
            Event::TrialReady => {
                if let Some(trial) = &mut self.trial {
                    trial.ready = true;
                }
            }
            Event::Committed => {
                if let Some(closing) = self.transaction.take().and_then(|t| t.closing) {
                    let cost = now.saturating_duration_since(closing) * COMMIT_SHARE;
                    let behind = !self.is_caught_up(now);
                    let longest = LONGEST_INTERVAL.max(self.limits.commit_interval);
                    self.interval = if behind { cost.min(longest) } else { Duration::ZERO };
                    self.interval = self.interval.max(self.limits.commit_interval);
                }
                self.ending = false;
                self.last_commit = now;
                for it in self.partitions.iter_mut().flatten() {
                    it.stored = Some(it.progress.committable());
                    it.fresh = false;
                    it.map.committed(it.progress.committable().0.0);
                }
            }
            Event::Aborted(error) => {
                self.ending = false;
                let alone = self.transaction.take().is_some_and(|it| it.on_trial) && error.is_none();
                if let Some(error) = error {
                    self.fail(None, None, error);
                }
                return self.give_up(alone, actions);
            }
            Event::Tick => self.note_silence(now),
            Event::Drain => self.draining = true,
        }
        self.conclude(round_is_over, now, actions);
    }

    /// Whether the shell should take records now.
    pub fn wants_records(&self) -> bool {
        let alone = self.delivery == Delivery::ExactlyOnce && self.trial.is_some_and(|trial| trial.ready);
        !alone && self.may_take()
    }

    /// Whether the shell should look whether something of the partition on trial waits to be taken.
    pub fn awaits_trial(&self) -> bool {
        self.trial.is_some_and(|trial| !trial.ready)
    }

    /// Whether the shell should take a batch of the partition on trial now.
    pub fn wants_trial(&self) -> bool {
        let Some(trial) = self.trial.filter(|trial| trial.ready) else {
            return false;
        };
        // The others' transaction is committed first.
        let it = self.partitions.get(trial.partition.0).and_then(Option::as_ref);
        // Where it begins is stored before its first record goes.
        let free = it.is_some_and(|it| it.in_flight_bytes == 0 && !it.stopped && it.stored.is_some());
        free && self.transaction.is_none() && self.may_take()
    }

    /// Whether another partition may be assigned on trial.
    pub fn may_try(&self) -> bool {
        self.trial.is_none() && !self.draining && !self.over
    }

    fn is_on_trial(&self, partition: PartitionId) -> bool {
        self.trial.is_some_and(|trial| trial.partition == partition)
    }

    fn may_take(&self) -> bool {
        !self.draining
            && !self.over
            && !self.ending
            && self.failures.is_empty()
            && self.transaction.as_ref().is_none_or(|t| t.closing.is_none())
            && self.in_flight_bytes < self.limits.in_flight_bytes
    }

    /// Bytes taken and not answered.
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// Whether the limit of [`Task::in_flight_bytes`] is reached.
    pub fn is_full(&self) -> bool {
        self.limits.in_flight_bytes <= self.in_flight_bytes
    }

    /// The partitions that the next commit stores.
    pub fn dirty(&self) -> impl Iterator<Item = PartitionId> {
        let dirty = |it: &Option<Partition>| it.as_ref().is_some_and(Partition::is_dirty);
        let all = self.partitions.iter().enumerate();
        all.filter(move |(_, it)| dirty(it)).map(|(i, _)| PartitionId(i))
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

    /// Whether the next commit stores positions of records that were answered, not only where copying begins.
    pub fn has_moved(&self) -> bool {
        let moved = |it: &Partition| it.is_dirty() && it.start != it.progress.committable();
        self.partitions.iter().flatten().any(moved)
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
            .is_none_or(|it| it.stopped && it.in_flight_bytes == 0 && !it.is_dirty())
    }

    /// The first source offset of a partition that is not answered.
    fn position(&self, partition: PartitionId) -> Option<i64> {
        let it = self.partitions.get(partition.0)?.as_ref()?;
        Some(it.progress.committable().0.0)
    }

    fn fail(&mut self, partition: Option<PartitionId>, offset: Option<i64>, error: Error) {
        if !self.over {
            self.failures.push(Failure {
                partition,
                offset,
                error,
            });
        }
    }

    /// A partition takes no part from now on.
    fn stop(&mut self, partition: PartitionId, error: Error, offset: Option<i64>, actions: &mut Vec<Action>) {
        if self.is_on_trial(partition) {
            self.trial = None;
        }
        if let Some(it) = partition_mut(&mut self.partitions, partition).filter(|it| !it.stopped) {
            it.stopped = true;
            actions.push(Action::Unassign(partition));
            actions.push(Action::Hold(partition, error, offset));
        }
    }

    fn restart(&mut self, error: Error, actions: &mut Vec<Action>) {
        if !self.over {
            self.over = true;
            actions.push(Action::Restart(error));
        }
    }

    /// What gets no answer while the target answers others must not hold them up; what gets none and cannot be
    /// compared to anything is given up after a while.
    fn note_silence(&mut self, now: Instant) {
        let exactly_once = self.delivery == Delivery::ExactlyOnce;
        let since_answer = self.last_answer.map(|at| now.saturating_duration_since(at));
        let full = self.is_full();
        let (mut failures, mut close, mut waiting, mut all_long) = (vec![], false, false, true);
        for (i, it) in self.partitions.iter().enumerate() {
            let Some((it, since)) = it.as_ref().and_then(|it| it.silent.map(|since| (it, since))) else {
                continue;
            };
            let silence = now.saturating_duration_since(since);
            waiting = true;
            all_long &= LONG_SILENCE + it.patience() <= silence;
            let others = self.last_answer.is_some_and(|heard| since < heard);
            let alone = exactly_once && self.is_on_trial(PartitionId(i));
            if it.stopped || !(others || alone) || silence < it.patience() {
                continue;
            }
            // Exactly once, the others must have stopped being answered, too: a long queue is no fault.
            let to_blame = if exactly_once {
                close = true;
                since_answer.is_none_or(|it| SILENCE <= it)
            } else {
                full || LONG_SILENCE_ALONE <= silence
            };
            if to_blame {
                failures.push((PartitionId(i), it.progress.committable().0.0, silence));
            }
        }
        if close && let Some(transaction) = &mut self.transaction {
            transaction.closing.get_or_insert(now);
        }
        let nothing = failures.is_empty();
        for (partition, offset, silence) in failures {
            let detail = format!(
                "records from offset {offset} on have had no answer for {} s, while the target answers others",
                silence.as_secs()
            );
            self.fail(
                Some(partition),
                Some(offset),
                Error::new(Code::TargetNoAnswer, detail),
            );
        }
        let no_answer = since_answer.is_none_or(|it| LONG_SILENCE <= it);
        // At least once, somebody waits for it only when the memory is full.
        if nothing && (exactly_once || full) && waiting && all_long && no_answer {
            let detail = format!("no answer at all for {} s", LONG_SILENCE.as_secs());
            self.fail(None, None, Error::new(Code::TargetUnreachable, detail));
        }
    }

    /// Exactly once: the transaction is gone, and what failed in it has been heard. Those to blame are named and held;
    /// then the session ends, unless only the partition on trial took part (`alone`).
    fn give_up(&mut self, alone: bool, actions: &mut Vec<Action>) {
        let mut failures = std::mem::take(&mut self.failures);
        failures.sort_by_key(|it| it.error.code.rank());
        let Some(first) = failures.first().map(|it| it.error.clone()) else {
            return;
        };
        let trial = self.trial.filter(|_| alone);
        let blamed = self.stop_those_to_blame(failures, actions);
        if let Some(trial) = trial {
            // Alone in its transaction, it is to blame for whatever went wrong.
            let position = self.position(trial.partition);
            self.stop(trial.partition, first, position, actions);
            self.forget(trial.partition);
            return;
        }
        if !blamed {
            self.suspect(&first, actions);
        }
        self.restart(first, actions);
    }

    /// Nobody is to blame for a failure, and sessions before this one ended so, too: each partition that took part is
    /// tried alone.
    fn suspect(&mut self, error: &Error, actions: &mut Vec<Action>) {
        if !self.suspicious || !is_unexplained(error.code) {
            return;
        }
        let answered_too = error.code != Code::TargetUnreachable;
        for i in 0..self.partitions.len() {
            let it = self.partitions[i].as_ref();
            if it.is_some_and(|it| it.silent.is_some() || (answered_too && it.fresh)) {
                let position = self.position(PartitionId(i));
                self.stop(PartitionId(i), error.clone(), position, actions);
            }
        }
    }

    /// Stops each partition that a failure blames; tells whether there was one.
    fn stop_those_to_blame(&mut self, ranked: Vec<Failure>, actions: &mut Vec<Action>) -> bool {
        let mut blamed = false;
        for it in ranked {
            if let Some(partition) = it.partition
                && it.error.code.rank() == Rank::Partition
            {
                blamed = true;
                self.stop(partition, it.error, it.offset, actions);
            }
        }
        blamed
    }

    /// At least once, a partition is to blame for itself alone: the others go on where they are.
    fn hold_those_to_blame(&mut self, actions: &mut Vec<Action>) {
        let mut failures = std::mem::take(&mut self.failures);
        failures.sort_by_key(|it| it.error.code.rank());
        // What follows from a failure of the same partition is part of it.
        let explained = |partition: PartitionId| {
            let blamed =
                |it: &Failure| it.partition == Some(partition) && it.error.code.rank() == Rank::Partition;
            self.is_stopped(partition) || failures.iter().any(blamed)
        };
        let rest = failures.iter().find(|it| !it.partition.is_some_and(explained));
        let rest = rest.map(|it| it.error.clone());
        self.stop_those_to_blame(failures, actions);
        if let Some(error) = rest {
            self.suspect(&error, actions);
            self.restart(error, actions);
        }
    }

    /// What a partition had in flight is gone, and nothing of it is to be stored.
    fn forget(&mut self, partition: PartitionId) {
        if let Some(it) = partition_mut(&mut self.partitions, partition) {
            it.progress = PartitionProgress::starting_at(it.stored.unwrap_or(it.start));
            it.stored = Some(it.progress.committable());
            (it.in_flight_bytes, it.silent, it.fresh) = (0, None, false);
        }
    }

    /// Whether the memory is full of what waits for stopped partitions.
    fn is_clogged(&self) -> bool {
        let mut waiting = self
            .partitions
            .iter()
            .flatten()
            .filter(|it| 0 < it.in_flight_bytes);
        self.is_full() && waiting.all(|it| it.stopped)
    }

    /// Whether everything that has begun is answered. At least once, nobody waits for a partition that was stopped.
    fn is_idle(&self) -> bool {
        let counts = |it: &&Partition| self.delivery == Delivery::ExactlyOnce || !it.stopped;
        self.partitions
            .iter()
            .flatten()
            .filter(counts)
            .all(|it| it.progress.is_idle())
    }

    fn is_caught_up(&self, now: Instant) -> bool {
        let quiet = |it: &Partition| {
            it.taken
                .is_some_and(|at| QUIET <= now.saturating_duration_since(at))
        };
        self.partitions
            .iter()
            .flatten()
            .all(|it| it.at_end || it.stopped || quiet(it))
    }

    /// Decides, after every event, whether it is time to commit or to end and, when everything that came together has
    /// been heard, what follows from a failure.
    fn conclude(&mut self, round_is_over: bool, now: Instant, actions: &mut Vec<Action>) {
        if self.over || self.ending {
            return;
        }
        if !self.failures.is_empty() {
            if !round_is_over {
                return;
            }
            let fenced = self
                .failures
                .iter()
                .find(|it| it.error.code.rank() == Rank::Fenced);
            if let Some(fenced) = fenced.map(|it| it.error.clone()) {
                return self.restart(fenced, actions);
            }
            match self.delivery {
                Delivery::AtLeastOnce => self.hold_those_to_blame(actions),
                Delivery::ExactlyOnce if self.transaction.is_some() => {
                    self.ending = true;
                    actions.push(Action::Abort);
                }
                Delivery::ExactlyOnce => self.give_up(false, actions),
            }
            return;
        }
        if round_is_over && self.is_clogged() {
            let detail = "what waits for partitions without an answer fills the memory";
            return self.restart(Error::new(Code::TargetUnavailable, detail), actions);
        }
        let since_commit = now.saturating_duration_since(self.last_commit);
        let idle = self.is_idle();
        let commit = match &self.transaction {
            Some(transaction) => {
                let age = now.saturating_duration_since(transaction.opened);
                let (bytes, closing) = (transaction.bytes, transaction.closing);
                let close = self.draining
                    || self.trial.is_some_and(|trial| trial.ready)
                    || self.interval <= age
                    || TRANSACTION_BYTES <= bytes
                    || (idle && CAUGHT_UP_GAP <= since_commit && self.is_caught_up(now));
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
            self.ending = true;
            actions.push(Action::Commit);
            return;
        }
        if let Some(Trial { partition, .. }) = self.trial
            && self.is_well(partition)
        {
            self.trial = None;
            actions.push(Action::Join(partition));
        }
        if self.draining && idle {
            self.over = true;
            actions.push(Action::Finished);
        }
    }
}

/// Whether a failure says nothing about who is to blame. That the target does not answer does so, where it was there
/// when the session began.
fn is_unexplained(code: Code) -> bool {
    matches!(
        code,
        Code::TargetTransactionFailed | Code::TargetUnexpected | Code::TargetUnreachable
    )
}

/// Borrows the partitions alone, so that the rest of the state stays at hand.
fn partition_mut(partitions: &mut [Option<Partition>], id: PartitionId) -> Option<&mut Partition> {
    partitions.get_mut(id.0)?.as_mut()
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
        let mut state = Task::new(Delivery::AtLeastOnce, limits, false, now);
        let partition = PartitionId(0);
        let start = Source(NextOffset(0));
        let assigned = Event::Assigned {
            partition,
            start,
            next_target: 0,
            map: MapWriter::new(0, true, 0, 0),
            persist: false,
            on_trial: false,
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
        let (actions, settled) = step(Event::SourceFailed(PartitionId(0), error.clone()));
        let expected = vec![
            Action::Unassign(PartitionId(0)),
            Action::Hold(PartitionId(0), error.clone(), Some(0)),
        ];
        assert_eq!((actions, settled), (expected, true));
        assert_eq!(step(took(0, 3)).0, [Action::Discard(3)]);
    }

    /// Acknowledged along with later ones, records are somewhere on the target: librdkafka says −1001.
    #[test]
    fn records_whose_place_on_the_target_is_unknown_count_for_neither_progress_nor_the_offset_map() {
        let (partition, now) = (PartitionId(0), Instant::now());
        let limits = Limits {
            in_flight_bytes: 100,
            commit_interval: Duration::from_secs(1),
        };
        for delivery in [Delivery::ExactlyOnce, Delivery::AtLeastOnce] {
            for unknown in [None, Some(-1001)] {
                let mut state = Task::new(delivery, limits, false, now);
                let delivered = |first, target, count| Event::Delivered {
                    partition,
                    first,
                    target,
                    count,
                    bytes: 1,
                };
                let mut actions = vec![];
                for event in [
                    Event::Assigned {
                        partition,
                        start: Source(NextOffset(0)),
                        next_target: 0,
                        map: MapWriter::new(0, true, 0, 0),
                        persist: false,
                        on_trial: false,
                    },
                    took(0, 3),
                    delivered(0, Some(10), 1),
                    delivered(1, unknown, 2),
                    Event::Tick,
                ] {
                    state.on_event(event, now, &mut actions);
                }
                let gives_up = |it: &Action| matches!(it, Action::Abort | Action::Restart(_));
                assert!(
                    actions.last().is_some_and(gives_up),
                    "{delivery} {unknown:?}: {actions:?}"
                );
                assert!(!actions.contains(&Action::Commit), "{actions:?}");
                let pending: Vec<Pending> = state.pending().collect();
                let [pending] = &pending[..] else {
                    panic!("one partition has moved, not {pending:?}");
                };
                assert_eq!((pending.next_source.0.0, pending.next_target), (1, 11));
                let targets = |segment: &Segment| segment.runs().map(|run| run.target).collect::<Vec<_>>();
                assert_eq!(
                    pending.segments.iter().flat_map(targets).collect::<Vec<_>>(),
                    [10]
                );
            }
        }
    }

    #[test]
    fn records_that_have_begun_are_not_sent_again() {
        let mut step = task();
        assert_eq!(step(took(0, 3)).0, [Action::Enqueue(3)]);
        assert_eq!(step(took(1, 2)).0, [Action::Discard(2)]);
        assert_eq!(step(took(3, 1)).0, [Action::Enqueue(1)]);
    }
}
