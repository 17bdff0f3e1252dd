//! What a running session looks at besides records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, info};

use super::Session;
use crate::copy::health::Held;
use crate::copy::span::PartitionId;
use crate::copy::task::Event;
use crate::error::{Code, Error, Remedy, Result};
use crate::kafka::TopicPartition;
use crate::kafka::admin::OffsetSpec;
use crate::state::{bounds, topics};
use crate::status::TaskState;

/// How often its status is published.
const PUBLISH: Duration = Duration::from_millis(500);
/// How often a task with halted partitions looks whether an operator has decided about something.
const DECISIONS: Duration = Duration::from_secs(1);
/// … and how often where that cannot be told, which takes all the time that an answer may take.
const DECISIONS_UNKNOWN: Duration = Duration::from_secs(5);
/// How long an answer about the audit trail may take.
const TRAIL_TIMEOUT: Duration = Duration::from_millis(500);

impl Session<'_> {
    pub(super) fn housekeeping(&mut self, now: Instant) -> Result<()> {
        if self.task.drain.is_cancelled() {
            self.task.set_state(TaskState::Draining, None);
            self.step(Event::Drain)?;
        }
        for error in self.engine.client_errors() {
            match error.code {
                Code::TargetFenced => return Err(error),
                _ => debug!(%error, "client error, retried by the client"),
            }
        }
        if let Some(view) = self.task.flow.view.load_full()
            && !Arc::ptr_eq(&view, &self.view)
        {
            self.view = view;
            let view = self.view.clone();
            self.task
                .health
                .accepts(now, |tp| Some(&view.partitions.get(tp)?.accepts.settings));
            self.leave_what_is_gone()?;
            self.adopt_again(now)?;
        } else if !self.task.health.is_empty() || self.ask_at.is_some() {
            self.adopt_again(now)?;
        }
        self.heed_decisions(now)?;
        // Tried again is not recovered: until it is, it is shown as it was and its pauses go on growing.
        let (ids, partitions, state) = (&self.ids, &self.partitions, &self.state);
        let well = self.task.health.recovered(|tp| {
            let id = ids.get(tp).filter(|id| partitions[id.0].active);
            id.is_some_and(|id| state.is_well(*id))
        });
        for tp in well {
            info!(topic = %tp.topic, partition = tp.partition, "partition goes on");
        }
        self.task
            .metrics
            .timestamp_zero(self.engine.take_zero_timestamps());
        self.task.metrics.in_flight_bytes(self.state.in_flight_bytes());
        if self
            .published
            .is_none_or(|at| PUBLISH <= now.saturating_duration_since(at))
        {
            self.publish(now);
        }
        Ok(())
    }

    /// An operator decides about halted partitions by a command that fences this task, which finds out by its next
    /// commit only, and where nothing is copied there is none. But whoever decides tells the audit trail: when that has
    /// grown, and before it can be known whether it has, a commit tells whether the task is still ours.
    fn heed_decisions(&mut self, now: Instant) -> Result<()> {
        let halted = |held: &Held| held.error.code.page().remedy == Remedy::HaltPartition;
        let mut all = self.task.health.all();
        let waits = all.find(|(tp, held)| halted(held) && self.slot.progress.contains_key(*tp));
        let Some(tp) = waits.map(|(tp, _)| tp.clone()) else {
            self.trail = None;
            return Ok(());
        };
        drop(all);
        if self.look_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        self.look_at = Some(now + DECISIONS);
        match self.trail_end() {
            Ok(end) if self.trail.replace(end) == Some(end) => {}
            Ok(_) => {
                self.unstored.insert(tp);
                if !self.open {
                    self.commit()?;
                }
            }
            Err(error) => {
                debug!(%error, "whether an operator has decided is not known");
                self.look_at = Some(now + DECISIONS_UNKNOWN);
            }
        }
        Ok(())
    }

    fn trail_end(&self) -> Result<i64> {
        let (admin, spec) = (&self.task.flow.target_admin, &self.task.flow.spec);
        if self.trail.is_none() {
            // The end of a topic that is not there is asked for in vain until the time is up.
            topics::ensure_audit(admin, spec)?;
        }
        let trail = TopicPartition::new(spec.id.failover_topic(), 0);
        admin.list_offset(&trail, OffsetSpec::Latest, false, TRAIL_TIMEOUT)
    }

    /// Stops partitions that are not in the view any more. Where a topic was made anew the session ends: the clients
    /// know leaders and positions of the old one.
    fn leave_what_is_gone(&mut self) -> Result<()> {
        let (mut source, mut target) = (BTreeMap::new(), BTreeMap::new());
        let mut gone = vec![];
        for (i, it) in self.partitions.iter().enumerate().filter(|(_, it)| it.active) {
            let Some(seen) = self.view.partitions.get(&it.tp) else {
                gone.push((PartitionId(i), it.tp.clone()));
                continue;
            };
            let Some(known) = self.slot.progress.get(&it.tp) else {
                continue;
            };
            if *seen.topic_id.0 != *known.topic_id {
                source.insert(&*it.tp.topic, known.topic_id.as_str());
            }
            if let Some(id) = known.target_topic_id.as_deref()
                && *seen.target_topic_id.0 != *id
            {
                target.insert(seen.remote.as_str(), id);
            }
        }
        // The view may be older than what the partition was taken in with.
        let flow = &self.task.flow;
        for (admin, known, code) in [
            (&flow.source_admin, source, Code::SourceRecreated),
            (&flow.target_admin, target, Code::TargetLostRecords),
        ] {
            if !known.is_empty()
                && let Some((topic, id)) = bounds::made_anew(admin, &known)?.first()
            {
                return Err(Error::new(
                    code,
                    format!("{topic} was made anew and has id {id} now"),
                ));
            }
        }
        for (id, tp) in gone {
            if self.view.is_gone(&tp) {
                // Said by the sync loop, once for the whole topic.
                let deleted = Error::new(Code::SourceTopicMissing, "deleted");
                self.step(Event::SourceFailed(id, deleted))?;
                continue;
            }
            let error = match self.view.held.get(&tp) {
                // What cannot be told of a topic is no reason to stop copying it; what it needs for that fails by
                // itself.
                _ if self.view.hidden.contains_key(&*tp.topic) => continue,
                Some(error) if error.code != Code::TargetTopicMissing => continue,
                _ => Error::new(
                    Code::TargetTopicMissing,
                    "the target does not have the partition any more",
                ),
            };
            self.step(Event::SourceFailed(id, error))?;
            // Decided by the rules of the start, as soon as the view has the partition.
            self.task.health.try_now(&tp, Instant::now());
        }
        let held = self.task.health.all().map(|(tp, _)| tp.clone());
        let deleted: Vec<_> = held.filter(|tp| self.view.is_gone(tp)).collect();
        for tp in deleted {
            self.task.health.forget(&tp);
        }
        Ok(())
    }
}
