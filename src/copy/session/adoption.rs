//! Taking partitions in: what is stored of each is held against both clusters, and those that may begin are assigned.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use super::{Assigned, Session};
use crate::copy::engine::Start;
use crate::copy::health::Found;
use crate::copy::span::PartitionId;
use crate::copy::task::Event;
use crate::error::{Code, Error, Result};
use crate::kafka::{NextOffset, Source, TopicPartition};
use crate::state::bounds::{self, offset};
use crate::state::gaps::Gap;
use crate::state::resume::{Begin, Bounds, NO_PROGRESS, Started, begin_reading};
use crate::state::slot::Unborn;
use crate::state::task_of;

/// How long the source may take to tell where unborn partitions begin, while others wait for the answer.
const UNBORN_TIMEOUT: Duration = Duration::from_secs(1);
/// After a question to the clusters has failed as a whole, it is asked again this much later.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Why partitions could not be taken in.
pub(super) enum Stop {
    /// A cluster could not be asked.
    Asking(Error),
    /// The session cannot go on.
    Session(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Session(error)
    }
}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Asking(error) | Stop::Session(error) => error,
        }
    }
}

/// A partition that may begin, where, and what was found of it.
type Beginning<'b> = (TopicPartition, Begin, &'b Bounds);

impl Session<'_> {
    /// As [`Session::adopt`], of a session that runs: a cluster that cannot be asked now does not end it.
    pub(super) fn adopt_again(&mut self, now: Instant) -> Result<()> {
        if self.ask_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        self.ask_at = None;
        match self.adopt() {
            Err(Stop::Asking(error)) => {
                debug!(%error, "the clusters cannot be asked about partitions now");
                self.ask_at = Some(now + ASK_AGAIN);
                Ok(())
            }
            Err(Stop::Session(error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    /// Holds stored progress of every partition that is ours and not read yet against the source, and
    /// assigns those that may begin.
    pub(super) fn adopt(&mut self) -> std::result::Result<(), Stop> {
        let flow = self.task.flow.clone();
        let wanted = self.due(Instant::now());
        if wanted.is_empty() || self.task.drain.is_cancelled() {
            return Ok(());
        }
        let bounds = bounds::ask(&flow.source_admin, &flow.target_admin, &wanted).map_err(Stop::Asking)?;
        let (assign, trial) = self.held_against(&bounds);
        self.tell_unexplained(assign.iter().chain(&trial).map(|(tp, ..)| tp))?;
        // What was found of partitions that wait, and nothing else is to be stored at the moment.
        if !self.open && !self.unstored.is_empty() {
            self.commit()?;
        }
        if assign.is_empty() && trial.is_none() {
            return Ok(());
        }
        let route = |(tp, begin, bounds): &Beginning<'_>| {
            let from = begin.read_from(self.slot.progress.get(tp), bounds);
            let (source, remote) = (tp.clone(), self.view.partitions[tp].remote.clone());
            Start { source, remote, from }
        };
        let ids = match assign.is_empty() {
            true => vec![],
            false => {
                let starts: Vec<_> = assign.iter().map(route).collect();
                self.engine.assign(&starts)?
            }
        };
        let apart = match trial {
            Some(beginning) => {
                let start = route(&beginning);
                Some((self.engine.assign_apart(start)?, beginning))
            }
            None => None,
        };
        let mut declared = vec![];
        for (id, beginning) in ids.into_iter().zip(assign) {
            self.begin(id, beginning, false, &mut declared)?;
        }
        if let Some((id, beginning)) = apart {
            self.begin(id, beginning, true, &mut declared)?;
        }
        self.declare(declared);
        // A start that was decided is stored before the first record goes.
        self.step(Event::Tick)?;
        Ok(())
    }

    /// The partitions that are ours and not read, with their topics on the target, as far as they may be tried now.
    fn due(&mut self, now: Instant) -> Vec<(TopicPartition, String)> {
        let wanted = self
            .view
            .partitions
            .keys()
            .filter(|tp| task_of(tp, self.view.tasks) == self.task.task)
            .filter(|tp| match self.ids.get(*tp) {
                Some(id) => !self.partitions[id.0].active && self.state.is_settled(*id),
                None => true,
            })
            .filter(|tp| self.task.health.may_be_tried(tp, now))
            .cloned()
            .collect();
        let wanted = self.born_of(wanted);
        // Of those that are tried alone, one at a time.
        let mut may_try = self.state.may_try();
        wanted
            .into_iter()
            .filter(|tp| !self.task.health.is_tried_alone(tp) || std::mem::take(&mut may_try))
            .map(|tp| {
                let remote = self.view.partitions[&tp].remote.clone();
                (tp, remote)
            })
            .collect()
    }

    /// Those that may begin, and the one of them that is tried apart; the others are held.
    fn held_against<'b>(
        &mut self,
        bounds: &'b BTreeMap<TopicPartition, Result<Bounds>>,
    ) -> (Vec<Beginning<'b>>, Option<Beginning<'b>>) {
        let flow = self.task.flow.clone();
        let (mut assign, mut trial) = (vec![], None);
        for (tp, bounds) in bounds {
            let route = self.view.partitions.get(tp);
            let min_in_sync = route.and_then(|route| route.accepts.min_in_sync);
            let begun = bounds.as_ref().map_err(Error::clone).and_then(|bounds| {
                takes_records(bounds, min_in_sync)?;
                let stored = self.slot.progress.get(tp);
                let begin = begin_reading(stored, bounds, flow.spec.on_gap.of(&tp.topic))?;
                Ok((tp.clone(), begin, bounds))
            });
            match begun {
                Ok(beginning) if self.task.health.is_tried_alone(tp) => trial = Some(beginning),
                Ok(beginning) => assign.push(beginning),
                Err(error) => self.hold(tp, error, None, Found::Asked),
            }
        }
        (assign, trial)
    }

    /// A partition was assigned: what is stored of it goes on from where it begins.
    fn begin(
        &mut self,
        id: PartitionId,
        (tp, begin, bounds): Beginning<'_>,
        on_trial: bool,
        declared: &mut Vec<(TopicPartition, Gap)>,
    ) -> Result<()> {
        let flow = &self.task.flow;
        let stored = self.slot.progress.get(&tp);
        let Started {
            progress,
            map,
            replayed,
        } = begin.start(stored, bounds, flow.spec.delivery);
        if let Some(gap) = begin.gap {
            error!(topic = %tp.topic, partition = tp.partition, %gap, "gap declared");
            flow.metrics.gap(gap.offsets());
            declared.push((tp.clone(), gap));
        }
        if 0 < replayed {
            info!(topic = %tp.topic, partition = tp.partition, replayed, "records are copied again");
            self.task.metrics.replayed(replayed);
        }
        // After a crash MM2's positions may be those of the commit before.
        let persist = stored != Some(&progress) || self.mirror.is_some();
        let read = progress.leader_epoch;
        self.slot.progress.insert(tp.clone(), progress);
        debug!(topic = %tp.topic, partition = tp.partition, position = begin.position, "partition assigned");
        if self.partitions.len() <= id.0 {
            let metrics = self.task.metrics.topic(&tp.topic);
            self.partitions.push(Assigned {
                tp: tp.clone(),
                metrics,
                active: true,
                complaint: None,
                start: 0,
                read: None,
            });
        }
        let it = &mut self.partitions[id.0];
        it.active = true;
        it.start = begin.position;
        it.read = read;
        self.ids.insert(tp, id);
        self.step(Event::Assigned {
            partition: id,
            start: Source(NextOffset(begin.position)),
            next_target: bounds.target_end,
            map,
            persist,
            on_trial,
        })
    }

    /// Those that may begin. Of those that are unborn the source is asked, and what it does not tell holds them.
    fn born_of(&mut self, wanted: Vec<TopicPartition>) -> Vec<TopicPartition> {
        let asked = self.slot.to_ask(|tp| wanted.contains(tp));
        if asked.is_empty() {
            return wanted;
        }
        let admin = &self.task.flow.source_admin;
        let told = admin.list_offsets(&asked, true, UNBORN_TIMEOUT);
        // An answer about partitions of which none has a leader is none at all.
        let told = told.unwrap_or_else(|error| {
            let same = |(tp, _)| (tp, Err(error.clone()));
            asked.into_iter().map(same).collect()
        });
        self.bear(&told);
        let unborn: BTreeSet<_> = self.slot.birth.unborn.iter().map(Unborn::tp).collect();
        let (waiting, born): (Vec<_>, _) = wanted.into_iter().partition(|tp| unborn.contains(tp));
        for tp in waiting {
            if let Err(error) = offset(&told, &tp) {
                self.hold(&tp, error, None, Found::Asked);
            }
        }
        born
    }

    /// Says of partitions that begin, before their first record goes, that the target holds records there which
    /// nothing explains.
    fn tell_unexplained<'b>(
        &mut self,
        beginning: impl Iterator<Item = &'b TopicPartition>,
    ) -> std::result::Result<(), Stop> {
        let explained = |tp: &TopicPartition| {
            self.task.unexplained.contains_key(tp) || self.slot.progress.contains_key(tp)
        };
        let there =
            |tp: &TopicPartition| TopicPartition::new(self.view.partitions[tp].remote.as_str(), tp.partition);
        let new: BTreeMap<_, _> = beginning
            .filter(|tp| !explained(tp))
            .map(|tp| (there(tp), tp.clone()))
            .collect();
        let asked: Vec<_> = new.keys().cloned().collect();
        let occupied = bounds::occupied(&self.task.flow.target_admin, &asked).map_err(Stop::Asking)?;
        for (remote, offsets) in occupied {
            let tp = &new[&remote];
            warn!(
                topic = %tp.topic,
                partition = tp.partition,
                target_topic = %remote.topic,
                offsets,
                advice = NO_PROGRESS,
                "the target holds records that no progress explains; copying goes on behind them"
            );
            self.task.unexplained.insert(tp.clone(), offsets);
        }
        Ok(())
    }
}

/// Whether a target partition takes records, as far as asking tells.
fn takes_records(bounds: &Bounds, min_in_sync: Option<usize>) -> Result<()> {
    if bounds.writable == Some(false) {
        let detail = "the target topic may not be written";
        return Err(Error::new(Code::TargetNotAuthorized, detail));
    }
    // A topic with fewer replicas than the setting asks for needs all of them: Kafka's `Partition.effectiveMinIsr`.
    match min_in_sync.map(|least| least.min(bounds.replicas)) {
        Some(least) if bounds.in_sync < least => Err(Error::new(
            Code::TargetNoAnswer,
            format!(
                "the target partition has {} in-sync replicas, and min.insync.replicas is {least}",
                bounds.in_sync
            ),
        )),
        _ => Ok(()),
    }
}
