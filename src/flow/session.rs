//! One life of a task's clients: clients become events, actions become calls. One loop; everything that decides
//! is in [`super::task`] and [`super::start`].
//!
//! A session begins by the fixed sequence (own the slot → fence → read stored progress → hold it against the
//! source → assign → run) and ends by draining or by an error. After any error the next session begins the
//! same way: there is no other path of recovery.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use super::audit;
use super::bounds::{self, offset};
use super::engine::{Answer, Origin, Outcome, RECORD_OVERHEAD, RecordEngine, Taken};
use super::gaps::{Gap, Gaps};
use super::ledger::StateRecord;
use super::mm2_mirror::Mm2Mirror;
use super::slot::{Slot, born_record, progress_record, segment_record};
use super::start::{Started, StoredProgress, begin};
use super::task::{Action, Event, Limits, PartitionId, TaskState, concerns_one_partition};
use super::task_thread::{TaskThread, task_of};
use super::throttle::Waiting;
use super::{View, lock, now_ms, state_topics};
use crate::error::{Code, Error, Remedy, Result};
use crate::kafka::admin::OffsetSpec;
use crate::kafka::{NextOffset, Source, TopicPartition};
use crate::metrics::TopicMetrics;
use crate::status::PartitionStatus;
use crate::topology::{Delivery, Provenance, StartFrom};

/// How long one commit may take before its outcome counts as unknown.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer about offsets may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a running task looks at things other than records.
const HOUSEKEEPING: Duration = Duration::from_millis(50);
/// How often its status is published.
const PUBLISH: Duration = Duration::from_millis(500);

/// One life of the task's clients.
pub(super) struct Session<'a> {
    task: &'a mut TaskThread,
    engine: RecordEngine,
    state: TaskState,
    slot: Slot,
    /// Gaps that the next commit tells the audit trail.
    declared: Vec<(TopicPartition, Gap)>,
    /// Where MM2 finds positions, if it is to find ours.
    mirror: Option<Mm2Mirror>,
    view: Arc<View>,
    /// By partition id.
    partitions: Vec<Assigned>,
    ids: HashMap<TopicPartition, PartitionId>,
    open: bool,
    taken: Vec<Taken>,
    answers: Vec<Answer>,
    actions: Vec<Action>,
    /// The state has said that everything is committed after a drain.
    finished: bool,
    waiting: Waiting,
    published: Option<Instant>,
    housekept: Option<Instant>,
}

struct Assigned {
    tp: TopicPartition,
    metrics: TopicMetrics,
    /// Taken out by us; not read at the moment.
    active: bool,
}

impl<'a> Session<'a> {
    /// The fixed sequence, up to reading stored progress. `None`: asked to drain meanwhile.
    pub(super) fn open(task: &'a mut TaskThread) -> Result<Option<Self>> {
        let flow = task.flow.clone();
        let Some(view) = wait_for_view(task) else {
            return Ok(None);
        };
        let origin = (flow.spec.provenance == Provenance::Header).then(|| Origin {
            source_cluster_id: view.source_cluster_id.clone(),
            target_cluster_id: view.target_cluster_id.clone(),
        });
        // A topic that comes later with a smaller limit fails once; the session after that keeps to it.
        let batch_bytes = view
            .partitions
            .iter()
            .filter(|(tp, _)| task_of(tp, view.tasks) == task.task)
            .filter_map(|(_, route)| route.batch_bytes)
            .min();
        let mut engine = RecordEngine::new(
            &flow.spec,
            task.task,
            &flow.source,
            &flow.target,
            flow.memory,
            batch_bytes,
            origin,
        )?;
        while let Err((error, retriable)) = engine.fence(Duration::from_secs(5)) {
            if !retriable {
                return Err(error);
            }
            if task.drain.load(Ordering::Relaxed) {
                return Ok(None);
            }
            task.set_state("starting", Some(&error));
        }
        let slot = Slot::read(
            &flow.target,
            &flow.spec.id.progress_topic(),
            task.task,
            Duration::from_secs(30),
        )?;
        info!(
            partitions = slot.progress.len(),
            first_time = !slot.born,
            "slot owned, stored progress read"
        );
        let commit_interval = match flow.spec.delivery {
            Delivery::ExactlyOnce => flow.spec.commit_interval,
            Delivery::AtLeastOnce => flow.spec.commit_interval.max(Duration::from_secs(1)),
        };
        let mirror = match flow.spec.mirror_maker.mirror_positions {
            true => Some(Mm2Mirror::find(&flow.target_admin, &flow.spec)?),
            false => None,
        };
        let limits = Limits {
            in_flight_bytes: flow.memory.in_flight_bytes,
            commit_interval,
        };
        Ok(Some(Self {
            engine,
            state: TaskState::new(flow.spec.delivery, limits, Instant::now()),
            slot,
            declared: vec![],
            mirror,
            view,
            partitions: vec![],
            ids: HashMap::new(),
            open: false,
            taken: vec![],
            answers: vec![],
            actions: vec![],
            finished: false,
            waiting: Waiting::default(),
            published: None,
            housekept: None,
            task,
        }))
    }

    pub(super) fn run(mut self) -> Result<()> {
        let end = self.copy();
        if let Err(error) = &end
            && error.code != Code::TargetFenced
        {
            self.settle();
        }
        self.publish(Instant::now());
        end
    }

    /// The loop: answers, housekeeping, records. Ends by draining, or with the error that ends the session.
    fn copy(&mut self) -> Result<()> {
        if !self.slot.born {
            self.be_born()?;
        }
        let untold = std::mem::take(&mut self.slot.untold);
        self.declare(untold);
        self.adopt()?;
        self.task.set_state("running", None);
        loop {
            let in_flight = 0 < self.state.in_flight_bytes();
            let now = Instant::now();
            if self
                .housekept
                .is_none_or(|at| HOUSEKEEPING <= now.saturating_duration_since(at))
            {
                self.housekept = Some(now);
                self.housekeeping(now)?;
            }
            let debt = self.task.account.wait();
            self.task
                .metrics
                .throttled(self.waiting.note(debt.is_some(), now));
            let wants = self.state.wants_records() && debt.is_none();
            // Whichever side is waited for, the other is looked at within a few milliseconds.
            let pause = if in_flight {
                Duration::from_millis(2)
            } else {
                Duration::from_millis(20)
            };
            if wants {
                self.engine.take(pause, &mut self.taken);
                self.take_in()?;
                self.engine.answers(Duration::ZERO, &mut self.answers);
            } else {
                let pause = debt.map_or(Duration::from_millis(5), |d| d.min(Duration::from_millis(20)));
                self.engine.answers(pause, &mut self.answers);
            }
            self.hear_answers()?;
            self.step(Event::Tick)?;
            if self.finished {
                return Ok(());
            }
        }
    }

    /// The slot is owned for the first time: where `start_from` begins is decided now, for every partition of
    /// ours that the source has, and stored. Whatever comes later begins at 0, also after a crash.
    fn be_born(&mut self) -> Result<()> {
        let flow = self.task.flow.clone();
        let spec = match flow.spec.start_from {
            StartFrom::Earliest => None,
            StartFrom::Latest => Some(OffsetSpec::Latest),
            StartFrom::Timestamp(ms) => Some(OffsetSpec::Timestamp(ms)),
        };
        let mut records = vec![];
        if let Some(spec) = spec {
            let ours = self
                .view
                .selected
                .iter()
                .filter(|(tp, _)| task_of(tp, self.view.tasks) == self.task.task);
            let asked: Vec<_> = ours.clone().map(|(tp, _)| (tp.clone(), spec)).collect();
            let starts = flow.source_admin.list_offsets(&asked, true, ADMIN_TIMEOUT)?;
            for (tp, topic_id) in ours {
                let progress = StoredProgress {
                    next_source_offset: offset(&starts, tp)?,
                    next_target_offset: None,
                    topic_id: topic_id.to_string(),
                    map: None,
                    replayed_records: 0,
                    gaps: Gaps::default(),
                };
                records.push(progress_record(tp, &progress));
                self.slot.progress.insert(tp.clone(), progress);
            }
        }
        records.push(born_record(self.task.task, now_ms()));
        self.engine.commit(&records, false, COMMIT_TIMEOUT)?;
        self.slot.born = true;
        Ok(())
    }

    fn take_in(&mut self) -> Result<()> {
        let mut taken = std::mem::take(&mut self.taken);
        for it in taken.drain(..) {
            match it {
                Taken::Records {
                    partition,
                    first,
                    count,
                    payload_bytes,
                } => {
                    self.task.account.charge(count.into(), payload_bytes);
                    let bytes = payload_bytes + u64::from(count) * RECORD_OVERHEAD;
                    self.step(Event::Took {
                        partition,
                        first,
                        count,
                        bytes,
                    })?;
                }
                Taken::End { partition, position } => {
                    self.step(Event::End { partition, position })?;
                }
                Taken::Failed(Some(partition), error) => {
                    let tp = self.engine.source(partition).clone();
                    if concerns_one_partition(error.code) && !self.state.is_stopped(partition) {
                        self.task.hold(&tp, error.clone());
                        // Where it stands is decided at once, by the same rules as at the start.
                        if let Some(held) = self.task.held.get_mut(&tp)
                            && error.code.page().remedy == Remedy::HaltPartition
                        {
                            held.retry_at = Some(Instant::now());
                        }
                        self.step(Event::SourceFailed(partition, error))?;
                    } else {
                        debug!(topic = %tp.topic, partition = tp.partition, %error, "source error, retried by the client");
                    }
                }
                Taken::Failed(None, error) => debug!(%error, "source error, retried by the client"),
            }
        }
        self.taken = taken;
        Ok(())
    }

    fn hear_answers(&mut self) -> Result<()> {
        if self.answers.is_empty() {
            return Ok(());
        }
        let mut answers = std::mem::take(&mut self.answers);
        let now_ms = now_ms();
        let mut failure = None;
        for Answer {
            partition,
            first,
            count,
            bytes,
            payload_bytes,
            first_timestamp,
            outcome,
        } in answers.drain(..)
        {
            match outcome {
                Outcome::Delivered(target) => {
                    let metrics = &self.partitions[partition.0].metrics;
                    metrics.records_replicated(count.into(), payload_bytes);
                    if 0 <= first_timestamp {
                        let latency = (now_ms - first_timestamp).max(0) as f64 / 1000.0;
                        self.task.metrics.replication_latency(latency, count.into());
                    }
                    self.step(Event::Delivered {
                        partition,
                        first,
                        target,
                        count,
                        bytes,
                    })?;
                }
                Outcome::Skipped => {
                    self.task.metrics.skipped(count.into());
                    self.step(Event::Skipped {
                        partition,
                        first,
                        count,
                        bytes,
                    })?;
                }
                // Successes behind a failure still count: they tell what need not be sent again.
                Outcome::Failed(error) => failure = failure.or(Some((partition, error))),
            }
        }
        self.answers = answers;
        if let Some((partition, error)) = failure {
            let tp = self.engine.source(partition).clone();
            if concerns_one_partition(error.code) {
                self.task.hold(&tp, error.clone());
            }
            let error = Error::new(error.code, format!("{tp}: {}", error.detail));
            self.step(Event::DeliveryFailed(partition, error))?;
        }
        Ok(())
    }

    /// Feeds one event and performs what it asks for.
    fn step(&mut self, event: Event) -> Result<()> {
        let mut actions = std::mem::take(&mut self.actions);
        self.state.on_event(event, Instant::now(), &mut actions);
        for action in actions.drain(..) {
            match action {
                Action::Begin => {
                    self.engine.begin()?;
                    self.open = true;
                }
                Action::Enqueue(n) => self.engine.enqueue(n),
                Action::Discard(n) => self.engine.discard(n),
                Action::Commit => {
                    self.commit()?;
                    self.step(Event::Committed)?;
                }
                Action::Unassign(partition) => {
                    self.partitions[partition.0].active = false;
                    self.engine.unassign(partition)?;
                }
                Action::Restart(error) => return Err(error),
                Action::Finished => self.finished = true,
            }
        }
        self.actions = actions;
        Ok(())
    }

    /// Has gaps told to the audit trail by the commit that stores them. Who may not write there copies all the
    /// same: what is stored has the newest gaps and the sum of all.
    fn declare(&mut self, gaps: Vec<(TopicPartition, Gap)>) {
        if gaps.is_empty() {
            return;
        }
        match state_topics::ensure_audit(&self.task.flow.target_admin, &self.task.flow.spec) {
            Ok(()) => self.declared.extend(gaps),
            Err(error) => warn!(%error, gaps = gaps.len(), "the audit trail is not told of declared gaps"),
        }
    }

    fn commit(&mut self) -> Result<()> {
        let started = Instant::now();
        let (mut records, mut mirrored): (Vec<StateRecord>, Vec<StateRecord>) = (vec![], vec![]);
        // Together with the progress that lists them, or lists them no longer.
        let of_gaps: BTreeSet<_> = self.declared.iter().map(|(tp, _)| tp).collect();
        let of_gaps = of_gaps
            .into_iter()
            .filter_map(|tp| Some((tp, self.slot.progress.get(tp)?)));
        records.extend(of_gaps.map(|(tp, progress)| progress_record(tp, progress)));
        let flow = &self.task.flow.spec.id;
        records.extend(audit::gap_records(flow, self.task.task, now_ms(), &self.declared));
        for pending in self.state.pending() {
            let tp = &self.partitions[pending.partition.0].tp;
            let Some(progress) = self.slot.progress.get_mut(tp) else {
                continue;
            };
            progress.next_source_offset = pending.next_source.0.0;
            progress.next_target_offset = Some(pending.next_target);
            records.push(progress_record(tp, progress));
            if let Some(mirror) = &self.mirror {
                mirrored.extend(mirror.record(tp, pending.next_source));
            }
            records.extend(pending.segments.iter().map(|segment| segment_record(tp, segment)));
        }
        self.engine.commit(&records, self.open, COMMIT_TIMEOUT)?;
        self.open = false;
        self.declared.clear();
        if !mirrored.is_empty() {
            // Not with the records: an MM2 that does not work exactly once reads what is not committed, too, and
            // would leave out what an aborted transaction had said.
            self.engine.commit(&mirrored, false, COMMIT_TIMEOUT)?;
        }
        self.task.failures = 0;
        self.task.metrics.commit(started.elapsed());
        Ok(())
    }

    /// The session ends by an error: keep what is certain, free readers of the target from waiting.
    fn settle(&mut self) {
        let settled = match self.task.flow.spec.delivery {
            Delivery::ExactlyOnce if self.open => {
                self.task.metrics.abort();
                self.engine.abort(Duration::from_secs(5))
            }
            Delivery::ExactlyOnce => Ok(()),
            Delivery::AtLeastOnce => {
                self.engine.answers(Duration::ZERO, &mut self.answers);
                self.commit()
            }
        };
        if let Err(error) = settled {
            debug!(%error, "the target aborts by itself when the task starts again");
        }
    }

    fn housekeeping(&mut self, now: Instant) -> Result<()> {
        if self.task.drain.load(Ordering::Relaxed) {
            self.task.set_state("draining", None);
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
            self.leave_what_is_gone()?;
            self.adopt()?;
        } else if !self.task.held.is_empty() {
            self.adopt()?;
        }
        // Tried again is not recovered: until it is, it is shown as it was and its pauses go on growing.
        let (ids, partitions, state) = (&self.ids, &self.partitions, &self.state);
        self.task.held.retain(|tp, _| {
            let id = ids.get(tp).filter(|id| partitions[id.0].active);
            id.is_none_or(|id| !state.is_well(*id))
        });
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

    /// Stops partitions that are not in the view any more or belong to another topic of the same name.
    fn leave_what_is_gone(&mut self) -> Result<()> {
        for i in 0..self.partitions.len() {
            let (tp, active) = (self.partitions[i].tp.clone(), self.partitions[i].active);
            let known = self
                .slot
                .progress
                .get(&tp)
                .map(|p| p.topic_id.clone())
                .unwrap_or_default();
            let error = match self.view.partitions.get(&tp) {
                None => Error::new(
                    Code::SourceTopicMissing,
                    "the partition is not on the source, or not selected",
                ),
                Some(seen) if *seen.topic_id.0 != *known => Error::new(
                    Code::SourceRecreated,
                    format!("topic id {known} became {}", seen.topic_id),
                ),
                Some(_) => continue,
            };
            if active {
                self.task.hold(&tp, error.clone());
                if let Some(held) = self.task.held.get_mut(&tp) {
                    // Decided by the rules of the start, as soon as the view has the partition.
                    held.retry_at = Some(Instant::now());
                }
                self.step(Event::SourceFailed(PartitionId(i), error))?;
            }
        }
        Ok(())
    }

    /// Holds stored progress of every partition that is ours and not read yet against the source, and
    /// assigns those that may begin.
    fn adopt(&mut self) -> Result<()> {
        let now = Instant::now();
        let flow = self.task.flow.clone();
        let wanted: Vec<TopicPartition> = self
            .view
            .partitions
            .keys()
            .filter(|tp| task_of(tp, self.view.tasks) == self.task.task)
            .filter(|tp| match self.ids.get(*tp) {
                Some(id) => !self.partitions[id.0].active && self.state.is_settled(*id),
                None => true,
            })
            .filter(|tp| {
                self.task
                    .held
                    .get(*tp)
                    .is_none_or(|held| held.retry_at.is_some_and(|at| at <= now))
            })
            .cloned()
            .collect();
        if wanted.is_empty() || self.task.drain.load(Ordering::Relaxed) {
            return Ok(());
        }
        let routed: Vec<_> = wanted
            .into_iter()
            .map(|tp| {
                let remote = self.view.partitions[&tp].remote.clone();
                (tp, remote)
            })
            .collect();
        let bounds = bounds::ask(&flow.source_admin, &flow.target_admin, &routed)?;

        let mut assign = vec![];
        for (tp, bounds) in &bounds {
            let bounds = match bounds {
                Ok(bounds) => bounds,
                Err(error) => {
                    self.task.hold(tp, error.clone());
                    continue;
                }
            };
            let stored = self.slot.progress.get(tp);
            match begin(stored, bounds, flow.spec.on_gap) {
                Ok(begin) => assign.push((tp.clone(), begin, bounds)),
                Err(error) => self.task.hold(tp, error),
            }
        }
        let routes: Vec<_> = assign
            .iter()
            .map(|(tp, begin, ..)| {
                (
                    tp.clone(),
                    self.view.partitions[tp].remote.clone(),
                    NextOffset(begin.position),
                )
            })
            .collect();
        if routes.is_empty() {
            return Ok(());
        }
        let ids = self.engine.assign(&routes)?;
        let mut declared = vec![];
        for (id, (tp, begin, bounds)) in ids.into_iter().zip(assign) {
            let target_end = bounds.target_end;
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
            self.slot.progress.insert(tp.clone(), progress);
            debug!(topic = %tp.topic, partition = tp.partition, position = begin.position, "partition assigned");
            if self.partitions.len() <= id.0 {
                let metrics = self.task.metrics.topic(&tp.topic);
                self.partitions.push(Assigned {
                    tp: tp.clone(),
                    metrics,
                    active: true,
                });
            }
            self.partitions[id.0].active = true;
            self.ids.insert(tp, id);
            let start = Source(NextOffset(begin.position));
            self.step(Event::Assigned {
                partition: id,
                start,
                next_target: target_end,
                map,
                persist,
            })?;
        }
        self.declare(declared);
        // A start that was decided is stored before the first record goes.
        self.step(Event::Tick)?;
        Ok(())
    }

    fn publish(&mut self, now: Instant) {
        self.published = Some(now);
        let mut partitions: Vec<PartitionStatus> = vec![];
        let present = self
            .view
            .partitions
            .keys()
            .filter(|tp| task_of(tp, self.view.tasks) == self.task.task);
        // What was stopped and has left the view since, as with its topic, must not just vanish.
        let all: BTreeSet<&TopicPartition> = present.chain(self.task.held.keys()).collect();
        for tp in all {
            let stored = self.slot.progress.get(tp);
            let id = self.ids.get(tp).filter(|id| self.partitions[id.0].active);
            let held = self.task.held.get(tp);
            partitions.push(PartitionStatus {
                topic: tp.topic.to_string(),
                partition: tp.partition,
                state: match (held, id) {
                    (Some(held), _) if held.error.code.page().remedy == Remedy::HaltPartition => "halted",
                    (Some(_), _) => "paused",
                    (None, Some(_)) => "running",
                    (None, None) => "starting",
                }
                .into(),
                reason: held.map(|held| format!("{}; {}", held.error, held.error.code.page().advice)),
                next_source_offset: match id {
                    Some(id) => self.state.stored_position(*id).map(|next| next.0.0),
                    None => stored.map(|stored| stored.next_source_offset),
                },
                next_target_offset: id
                    .and_then(|id| self.state.next_target(*id))
                    .or(stored.and_then(|stored| stored.next_target_offset)),
                source_end_offset: None,
                lag_records: None,
                lag_seconds: None,
                replayed_records: stored.map_or(0, |stored| stored.replayed_records),
                gaps: stored.map_or(vec![], |stored| stored.gaps.lines()),
            });
        }
        let mut status = lock(&self.task.status);
        status.waiting_for = match (self.task.account.wait().is_some(), self.state.is_full()) {
            (true, _) => Some("throttled".into()),
            (false, true) => Some("buffer_full".into()),
            (false, false) => None,
        };
        status.in_flight_bytes = self.state.in_flight_bytes();
        status.partitions = partitions;
    }
}

fn wait_for_view(task: &TaskThread) -> Option<Arc<View>> {
    loop {
        if task.drain.load(Ordering::Relaxed) {
            return None;
        }
        if let Some(view) = task.flow.view.load_full() {
            return Some(view);
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
