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
//!  at least once:  Hold the partition to blame, in place (Restart when nobody is)
//!  exactly once:   Abort ─ Aborted ─ Hold those to blame ─ Restart
//!  on trial:       Abort ─ Aborted ─ Hold it; the others go on
//! ```
//!
//! A partition *on trial* is tried again after a failure: one batch of it, alone in its transaction.

use std::time::{Duration, Instant};

use super::span::{PartitionId, Span};
use crate::error::{Code, Error, Rank, Remedy};
use crate::kafka::{NextOffset, Source};
use crate::topology::Delivery;

mod blame;
mod event;
mod partition;

pub use event::{Action, Event, Pending};
use partition::Partition;

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
                self.partitions[partition.0] = Some(Partition::starting_at(start, next_target, map, persist));
                if on_trial {
                    self.trial = Some(Trial {
                        partition,
                        ready: false,
                    });
                }
                // Partitions come in groups; the tick that follows commits all of them at once.
                return;
            }
            Event::Took { span, next } => return self.take(span, next, now, actions),
            Event::End { partition, position } => {
                let Some(it) = partition_mut(&mut self.partitions, partition) else {
                    return;
                };
                if !it.stopped {
                    it.at_end = true;
                    it.progress.reached(position);
                }
            }
            Event::Delivered { span, target } => self.delivered(span, target, now),
            Event::Skipped(span) => {
                if let Some(it) = self.heard(span, now) {
                    it.answered(span);
                }
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
            Event::DeliveryFailed { span, error } => {
                self.heard(span, now);
                self.fail(Some(span.partition), Some(span.first), error);
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
            Event::Committed => self.committed(now),
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

    /// Sends what waits in hand, unless it is not wanted any more.
    fn take(&mut self, span: Span, next: i64, now: Instant, actions: &mut Vec<Action>) {
        let Span {
            partition,
            first,
            count,
            bytes,
        } = span;
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
        it.progress.reached(next);
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
        self.conclude(false, now, actions);
    }

    /// The target has told what became of records.
    fn heard(&mut self, span: Span, now: Instant) -> Option<&mut Partition> {
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(span.bytes);
        let it = partition_mut(&mut self.partitions, span.partition)?;
        it.heard(span.bytes, now);
        Some(it)
    }

    fn delivered(&mut self, span: Span, target: Option<i64>, now: Instant) {
        self.last_answer = Some(now);
        let Some(it) = self.heard(span, now) else { return };
        let end = it.target_end;
        match target {
            Some(target) if end <= target => {
                it.answered(span);
                it.written(span, target);
            }
            // What was stored before tells the start of the next session what is lost.
            Some(target) => {
                let detail = format!("a record went to offset {target}, where {end} had been written");
                let error = Error::new(Code::TargetLostRecords, detail);
                self.fail(None, Some(span.first), error);
            }
            // librdkafka learns from a later acknowledgement that an earlier batch arrived, not where.
            None => {
                let detail = "records were acknowledged without their offsets: the target had been slow";
                let error = Error::new(Code::TargetUnavailable, detail);
                self.fail(None, Some(span.first), error);
            }
        }
    }

    fn committed(&mut self, now: Instant) {
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

/// Borrows the partitions alone, so that the rest of the state stays at hand.
fn partition_mut(partitions: &mut [Option<Partition>], id: PartitionId) -> Option<&mut Partition> {
    partitions.get_mut(id.0)?.as_mut()
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offset_map::{MapWriter, Segment};

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
        let span = span(first, count);
        Event::Took {
            span,
            next: span.end(),
        }
    }

    fn span(first: i64, count: u32) -> Span {
        Span {
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
                    span: span(first, count),
                    target,
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
