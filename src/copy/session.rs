//! One life of a task's clients: clients become events, actions become calls. One loop; everything that decides
//! is in [`super::task`] and [`crate::state::resume`].
//!
//! A session begins by the fixed sequence (own the slot → fence → read stored progress → hold it against the
//! source → assign → run) and ends by draining or by an error. After any error the next session begins the
//! same way: there is no other path of recovery.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::engine::{Answer, COMMIT_TIMEOUT, Origin, Outcome, RECORD_OVERHEAD, RecordEngine, Taken};
use super::health::{Found, Held};
use super::seat::Seat;
use super::task::{Action, Event, Limits, PartitionId, Task};
use crate::context::throttle::Waiting;
use crate::context::{View, now_ms};
use crate::error::{Code, Error, Rank, Remedy, Result};
use crate::kafka::TopicPartition;
use crate::kafka::admin::OffsetSpec;
use crate::metrics::TopicMetrics;
use crate::state::audit;
use crate::state::bounds::{self};
use crate::state::gaps::Gap;
use crate::state::ledger::StateRecord;
use crate::state::mm2_positions::Mm2Mirror;
use crate::state::resume::{LeaderEpoch, Truncation};
use crate::state::slot::{Birth, Slot, Unborn, Wanted, born_record, progress_record, segment_record};
use crate::state::{task_of, topics};
use crate::status::TaskState;
use crate::topology::{Delivery, Provenance};

mod adoption;
mod owning;
mod report;

use owning::{own_slot, wait_for_view};

/// How long giving a transaction up may take.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer about offsets may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a running task looks at things other than records.
const HOUSEKEEPING: Duration = Duration::from_millis(50);
/// How often its status is published.
const PUBLISH: Duration = Duration::from_millis(500);
/// How often a task with halted partitions looks whether an operator has decided about something.
const DECISIONS: Duration = Duration::from_secs(1);
/// … and how often where that cannot be told, which takes all the time that an answer may take.
const DECISIONS_UNKNOWN: Duration = Duration::from_secs(5);
/// How long an answer about the audit trail may take.
const TRAIL_TIMEOUT: Duration = Duration::from_millis(500);
/// As many sessions in a row that failed without an explanation make the next one look for who is to blame.
const UNEXPLAINED: u32 = 2;

/// One life of the task's clients.
pub(super) struct Session<'a> {
    task: &'a mut Seat,
    engine: RecordEngine,
    state: Task,
    slot: Slot,
    /// Gaps that the next commit tells the audit trail.
    declared: Vec<(TopicPartition, Gap)>,
    /// Which partitions are unborn is not what is stored.
    unborn_changed: bool,
    /// Partitions of which something was found that is not stored yet, although their positions stay.
    unstored: BTreeSet<TopicPartition>,
    /// Source topics, and the answers about metadata after which they were seen to be those that were taken in.
    confirmed: HashMap<Arc<str>, u64>,
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
    /// The clusters could not be asked; not before this again.
    ask_at: Option<Instant>,
    /// While partitions are halted: the end of the audit trail.
    trail: Option<i64>,
    /// It is not asked for before this.
    look_at: Option<Instant>,
}

struct Assigned {
    tp: TopicPartition,
    metrics: TopicMetrics,
    /// Whether it is read at the moment.
    active: bool,
    /// What the source has said about it since it gave something last, and when first.
    complaint: Option<(Error, Instant)>,
    /// Where copying began. Before it nothing is read but markers.
    start: i64,
    /// The leader epoch of the last record that was read, and the offset behind it.
    read: Option<LeaderEpoch>,
}

impl<'a> Session<'a> {
    /// The fixed sequence, up to reading stored progress. `None`: asked to drain meanwhile.
    pub(super) fn open(task: &'a mut Seat) -> Result<Option<Self>> {
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
            .filter_map(|(_, route)| route.accepts.batch_bytes)
            .min();
        let engine = |fence| {
            let (spec, memory, origin) = (&flow.spec, flow.memory, origin.clone());
            RecordEngine::new(
                spec,
                fence,
                &flow.source,
                &flow.target,
                memory,
                batch_bytes,
                origin,
            )
        };
        let Some((engine, slot)) = own_slot(task, engine)? else {
            return Ok(None);
        };
        task.health.decide_again(Instant::now());
        slot.birth.fits(view.tasks, &view.source_cluster_id)?;
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
            state: Task::new(
                flow.spec.delivery,
                limits,
                UNEXPLAINED <= task.failures,
                Instant::now(),
            ),
            slot,
            declared: vec![],
            unborn_changed: false,
            unstored: BTreeSet::new(),
            confirmed: HashMap::new(),
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
            ask_at: None,
            trail: None,
            look_at: None,
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
        } else if self.slot.birth.is_incomplete() {
            self.engine.commit(&[self.birth()], false, COMMIT_TIMEOUT)?;
        }
        let untold = std::mem::take(&mut self.slot.untold);
        self.declare(untold);
        self.adopt()?;
        self.task.set_state(TaskState::Running, None);
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
            if self.state.awaits_trial() && self.engine.is_waiting_apart() {
                self.step(Event::TrialReady)?;
            }
            if self.state.wants_trial() {
                self.engine.take_apart(&mut self.taken);
                self.take_in()?;
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
    /// ours that the source has, and stored. Whatever comes later begins at 0, also after a crash. Partitions of which
    /// the source does not tell now are remembered, and asked for again.
    fn be_born(&mut self) -> Result<()> {
        let flow = self.task.flow.clone();
        if let Some(start_from) = Wanted::of(flow.spec.start_from) {
            let ours = self
                .view
                .selected
                .iter()
                .filter(|(tp, _)| task_of(tp, self.view.tasks) == self.task.task);
            self.slot.birth.unborn = ours
                .map(|(tp, topic_id)| Unborn {
                    topic: tp.topic.to_string(),
                    partition: tp.partition,
                    topic_id: topic_id.to_string(),
                    start_from,
                })
                .collect();
        }
        let before: BTreeSet<_> = self.slot.progress.keys().cloned().collect();
        let asked = self.slot.to_ask(|_| true);
        let told = match asked.is_empty() {
            true => BTreeMap::new(),
            false => flow.source_admin.list_offsets(&asked, true, ADMIN_TIMEOUT)?,
        };
        self.bear(&told);
        let new = self.slot.progress.iter().filter(|(tp, _)| !before.contains(*tp));
        let mut records: Vec<_> = new.map(|(tp, progress)| progress_record(tp, progress)).collect();
        records.push(self.birth());
        self.engine.commit(&records, false, COMMIT_TIMEOUT)?;
        self.slot.born = true;
        self.unborn_changed = false;
        Ok(())
    }

    /// The next commit stores which partitions are still unborn. It may be late: who has progress is born.
    fn bear(&mut self, told: &BTreeMap<TopicPartition, Result<i64>>) {
        let (view, before) = (self.view.clone(), self.slot.birth.unborn.len());
        self.slot.bear(told, |tp| view.selected.get(tp).cloned());
        self.unborn_changed |= self.slot.birth.unborn.len() != before;
    }

    /// What the slot says of the flow.
    fn birth(&self) -> StateRecord {
        let source = Some(self.view.source_cluster_id.clone());
        let at = match self.slot.born {
            true => self.slot.birth.created_at_ms,
            false => now_ms(),
        };
        let birth = Birth {
            unborn: self.slot.birth.unborn.clone(),
            ..Birth::new(at, self.view.tasks, source)
        };
        born_record(self.task.task, &birth)
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
                    leader_epoch,
                } => {
                    let it = &mut self.partitions[partition.0];
                    let offset = first + i64::from(count);
                    it.read = leader_epoch.map(|epoch| LeaderEpoch { epoch, offset });
                    if first < it.start {
                        let text =
                            format!("there is a record at {first}, where none was before {}", it.start);
                        let same_until = Some(first);
                        let error = Error::new(Code::SourceTruncated, text);
                        self.truncated(partition, Truncation { same_until }, error)?;
                    }
                    self.task.account.charge(count.into(), payload_bytes);
                    let bytes = payload_bytes + u64::from(count) * RECORD_OVERHEAD;
                    self.partitions[partition.0].complaint = None;
                    self.step(Event::Took {
                        partition,
                        first,
                        count,
                        bytes,
                    })?;
                }
                Taken::End { partition, position } => {
                    self.partitions[partition.0].complaint = None;
                    self.step(Event::End { partition, position })?;
                }
                Taken::Truncated(partition, truncation, error) => {
                    self.truncated(partition, truncation, error)?;
                }
                Taken::Failed(Some(partition), error) => {
                    let tp = self.engine.source(partition).clone();
                    if error.code.rank() == Rank::Partition && !self.state.is_stopped(partition) {
                        let halts = error.code.page().remedy == Remedy::HaltPartition;
                        self.step(Event::SourceFailed(partition, error))?;
                        if halts {
                            // Where it stands is decided at once, by the same rules as at the start.
                            self.task.health.try_now(&tp, Instant::now());
                        }
                    } else {
                        debug!(topic = %tp.topic, partition = tp.partition, %error, "source error, retried by the client");
                        let since = self.partitions[partition.0]
                            .complaint
                            .take()
                            .map(|(_, since)| since);
                        let since = since.unwrap_or_else(Instant::now);
                        self.partitions[partition.0].complaint = Some((error, since));
                    }
                }
                Taken::Failed(None, error) => debug!(%error, "source error, retried by the client"),
            }
        }
        self.taken = taken;
        Ok(())
    }

    /// The source's log is not the one any more that was read, whatever its bounds say by now. Where it stands is
    /// decided at once, by the same rules as at the start.
    fn truncated(&mut self, partition: PartitionId, found: Truncation, error: Error) -> Result<()> {
        if self.state.is_stopped(partition) {
            return Ok(());
        }
        let tp = self.engine.source(partition).clone();
        if let Some(progress) = self.slot.progress.get_mut(&tp) {
            progress.truncated = Some(found);
            self.unstored.insert(tp.clone());
        }
        self.step(Event::SourceFailed(partition, error))?;
        self.task.health.try_now(&tp, Instant::now());
        Ok(())
    }

    fn hear_answers(&mut self) -> Result<()> {
        if self.answers.is_empty() {
            return Ok(());
        }
        let mut answers = std::mem::take(&mut self.answers);
        let now_ms = now_ms();
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
                Outcome::Failed(error) => {
                    let tp = self.engine.source(partition);
                    let error = Error::new(error.code, format!("{tp}: {}", error.detail));
                    self.step(Event::DeliveryFailed {
                        partition,
                        first,
                        bytes,
                        error,
                    })?;
                }
            }
        }
        self.answers = answers;
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
                Action::Commit => match self.commit() {
                    Ok(()) => self.step(Event::Committed)?,
                    // Nothing of the new topic may be stored, and the clients know leaders and positions of the old.
                    Err(error) if error.code == Code::SourceRecreated => return Err(error),
                    Err(error) => self.step(Event::CommitFailed(error))?,
                },
                Action::Abort => {
                    self.task.metrics.abort();
                    let aborted = self.engine.abort(ABORT_TIMEOUT);
                    self.open = false;
                    self.task.left_open = true;
                    // What the client still had to tell is what explains the failure.
                    self.engine.answers(Duration::ZERO, &mut self.answers);
                    self.hear_answers()?;
                    self.step(Event::Aborted(aborted.err()))?;
                }
                Action::Unassign(partition) => {
                    self.partitions[partition.0].active = false;
                    self.engine.unassign(partition)?;
                }
                Action::Hold(partition, error, offset) => {
                    let tp = self.partitions[partition.0].tp.clone();
                    self.hold(&tp, error, offset, Found::Tried);
                }
                Action::Join(partition) => {
                    let tp = &self.partitions[partition.0].tp;
                    debug!(topic = %tp.topic, partition = tp.partition, "partition passed its trial");
                    self.engine.join();
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
        match topics::ensure_audit(&self.task.flow.target_admin, &self.task.flow.spec) {
            Ok(()) => self.declared.extend(gaps),
            Err(error) => warn!(%error, gaps = gaps.len(), "the audit trail is not told of declared gaps"),
        }
    }

    /// Whether what is to be committed was read of the topics that were taken in. librdkafka reads by topic id, and
    /// goes on at its position when the id changes; it hears of another id by an answer about metadata only. So where
    /// none has come since the ids were last looked at, nothing needs to be asked.
    ///
    /// # Errors
    /// A topic was made anew.
    fn confirm(&mut self) -> Result<()> {
        let answers = self.engine.metadata_answers();
        let mut known = BTreeMap::new();
        for partition in self.state.dirty() {
            let tp = &self.partitions[partition.0].tp;
            if self.confirmed.get(&tp.topic) != Some(&answers)
                && let Some(progress) = self.slot.progress.get(tp)
            {
                known.insert(&*tp.topic, progress.topic_id.as_str());
            }
        }
        if known.is_empty() {
            return Ok(());
        }
        match bounds::made_anew(&self.task.flow.source_admin, &known) {
            Ok(anew) => match anew.first() {
                None => {
                    let topics: Vec<Arc<str>> = known.into_keys().map(Arc::from).collect();
                    self.confirmed
                        .extend(topics.into_iter().map(|topic| (topic, answers)));
                    Ok(())
                }
                Some((topic, id)) => {
                    let detail = format!("{topic} has id {id} now; what was read since is not committed");
                    Err(Error::new(Code::SourceRecreated, detail))
                }
            },
            // When the source dies, the last that it gave counts more than this question.
            Err(error) => {
                debug!(%error, "whether topics were made anew is not known");
                Ok(())
            }
        }
    }

    fn commit(&mut self) -> Result<()> {
        self.confirm()?;
        let started = Instant::now();
        let moved = self.state.has_moved();
        let (mut records, mut mirrored): (Vec<StateRecord>, Vec<StateRecord>) = (vec![], vec![]);
        // Together with the progress that lists them, or lists them no longer.
        let of_gaps: BTreeSet<_> = self
            .declared
            .iter()
            .map(|(tp, _)| tp)
            .chain(&self.unstored)
            .collect();
        let of_gaps = of_gaps
            .into_iter()
            .filter_map(|tp| Some((tp, self.slot.progress.get(tp)?)));
        records.extend(of_gaps.map(|(tp, progress)| progress_record(tp, progress)));
        let flow = &self.task.flow.spec.id;
        records.extend(audit::gap_records(flow, self.task.task, now_ms(), &self.declared));
        if self.unborn_changed {
            records.push(self.birth());
        }
        let mut committed = vec![];
        for pending in self.state.pending() {
            let Assigned { tp, read, .. } = &self.partitions[pending.partition.0];
            let Some(progress) = self.slot.progress.get(tp) else {
                continue;
            };
            let mut progress = progress.clone();
            let next = pending.next_source.0.0;
            progress.next_source_offset = next;
            // What was read beyond may be of a later epoch: what lies before has none that is greater.
            progress.leader_epoch = read.map(|it| LeaderEpoch {
                offset: it.offset.min(next),
                ..it
            });
            progress.next_target_offset = Some(pending.next_target);
            records.push(progress_record(tp, &progress));
            committed.push((tp.clone(), progress));
            if let Some(mirror) = &self.mirror {
                mirrored.extend(mirror.record(tp, pending.next_source));
            }
            records.extend(pending.segments.iter().map(|segment| segment_record(tp, segment)));
        }
        self.engine.commit(&records, self.open, COMMIT_TIMEOUT)?;
        self.open = false;
        self.declared.clear();
        self.unborn_changed = false;
        self.unstored.clear();
        self.slot.progress.extend(committed);
        if !mirrored.is_empty() {
            // Not with the records: an MM2 that does not work exactly once reads what is not committed, too, and
            // would leave out what an aborted transaction had said.
            self.engine.commit(&mirrored, false, COMMIT_TIMEOUT)?;
        }
        // Where copying begins can be stored although nothing can be copied.
        if moved {
            self.task.failures = 0;
        }
        self.task.metrics.commit(started.elapsed());
        Ok(())
    }

    /// The session ends by an error: keep what is certain, free readers of the target from waiting.
    fn settle(&mut self) {
        let settled = match self.task.flow.spec.delivery {
            Delivery::ExactlyOnce if self.open => {
                self.task.metrics.abort();
                self.task.left_open = true;
                self.engine.abort(ABORT_TIMEOUT)
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
                // What cannot be told of a topic is no reason to stop copying it; what it needs for that fails by itself.
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

    fn hold(&mut self, tp: &TopicPartition, error: Error, offset: Option<i64>, found: Found) {
        let route = self.view.partitions.get(tp);
        let accepts = route.map(|route| route.accepts.settings.clone());
        self.task
            .hold(tp, error, offset, found, accepts.as_deref().unwrap_or_default());
    }
}
