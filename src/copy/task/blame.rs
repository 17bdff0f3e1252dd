//! What follows from a failure: who is to blame waits, and the others go on.

use std::time::{Duration, Instant};

use super::partition::SILENCE;
use super::{Action, Failure, Task, partition_mut};
use crate::copy::in_flight::PartitionProgress;
use crate::copy::span::PartitionId;
use crate::error::{Code, Error, Rank};
use crate::topology::Delivery;

/// Records that get no answer for so long, with nothing to compare to, are given up: whether the target is away or
/// only their partitions shows when the task starts again.
const LONG_SILENCE: Duration = Duration::from_secs(6);
/// At least once, nobody waits for a partition without answers until the memory is full; it is named after so long.
const LONG_SILENCE_ALONE: Duration = Duration::from_secs(10);

impl Task {
    pub(super) fn fail(&mut self, partition: Option<PartitionId>, offset: Option<i64>, error: Error) {
        if !self.over {
            self.failures.push(Failure {
                partition,
                offset,
                error,
            });
        }
    }

    /// A partition takes no part from now on.
    pub(super) fn stop(
        &mut self,
        partition: PartitionId,
        error: Error,
        offset: Option<i64>,
        actions: &mut Vec<Action>,
    ) {
        if self.is_on_trial(partition) {
            self.trial = None;
        }
        if let Some(it) = partition_mut(&mut self.partitions, partition).filter(|it| !it.stopped) {
            it.stopped = true;
            actions.push(Action::Unassign(partition));
            actions.push(Action::Hold(partition, error, offset));
        }
    }

    pub(super) fn restart(&mut self, error: Error, actions: &mut Vec<Action>) {
        if !self.over {
            self.over = true;
            actions.push(Action::Restart(error));
        }
    }

    /// What gets no answer while the target answers others must not hold them up; what gets none and cannot be
    /// compared to anything is given up after a while.
    pub(super) fn note_silence(&mut self, now: Instant) {
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
    pub(super) fn give_up(&mut self, alone: bool, actions: &mut Vec<Action>) {
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
    pub(super) fn hold_those_to_blame(&mut self, actions: &mut Vec<Action>) {
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
}

/// Whether a failure says nothing about who is to blame. That the target does not answer does so, where it was there
/// when the session began.
fn is_unexplained(code: Code) -> bool {
    matches!(
        code,
        Code::TargetTransactionFailed | Code::TargetUnexpected | Code::TargetUnreachable
    )
}
