//! One life of a task's clients: clients become events, actions become calls. One loop; everything that decides
//! is in [`super::task`] and [`crate::state::resume`].
//!
//! A session begins by the fixed sequence (own the slot → fence → read stored progress → hold it against the
//! source → assign → run) and ends by draining or by an error. After any error the next session begins the
//! same way: there is no other path of recovery.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, info};

use super::engine::record::{Origin, RecordEngine};
use super::engine::{COMMIT_TIMEOUT, Engine, Heard, Outcome};
use super::health::Found;
use super::seat::Seat;
use super::span::{PartitionId, Span};
use super::task::{Action, Event, Limits, Task};
use crate::context::throttle::Waiting;
use crate::context::{View, now_ms};
use crate::error::{Code, Error, Rank, Remedy, Result};
use crate::kafka::TopicPartition;
use crate::metrics::TopicMetrics;
use crate::state::gaps::Gap;
use crate::state::ledger::StateRecord;
use crate::state::mm2_positions::Mm2Mirror;
use crate::state::resume::{LeaderEpoch, Truncation};
use crate::state::slot::{Birth, Slot, Unborn, Wanted, born_record, progress_record};
use crate::state::task_of;
use crate::status::TaskState;
use crate::topology::{Delivery, Provenance};

mod adoption;
mod commit;
mod housekeeping;
mod owning;
mod report;

use owning::{own_slot, wait_for_view};

/// How long giving a transaction up may take.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer about offsets may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a running task looks at things other than records.
const HOUSEKEEPING: Duration = Duration::from_millis(50);
/// As many sessions in a row that failed without an explanation make the next one look for who is to blame.
const UNEXPLAINED: u32 = 2;

/// One life of the task's clients.
pub(super) struct Session<'a> {
    task: &'a mut Seat,
    engine: Engine,
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
    heard: Vec<Heard>,
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
            let (source, target) = (&flow.source, &flow.target);
            let engine = RecordEngine::new(spec, fence, source, target, memory, batch_bytes, origin)?;
            Ok(Engine::Record(Box::new(engine)))
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
            heard: vec![],
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
                self.engine.poll_apart(&mut self.heard);
                self.hear()?;
            }
            let debt = self.task.account.wait();
            self.task
                .metrics
                .throttled(self.waiting.note(debt.is_some(), now));
            let wants = self.state.wants_records() && debt.is_none();
            // Whichever side is waited for, the other is looked at within a few milliseconds.
            let pause = Duration::from_millis(match (wants, in_flight, debt) {
                (true, true, _) => 2,
                (true, false, _) | (false, _, Some(_)) => 20,
                (false, _, None) => 5,
            });
            let pause = debt.map_or(pause, |debt| pause.min(debt));
            self.engine.poll(wants, pause, &mut self.heard);
            self.hear()?;
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

    /// What the engine has told becomes events.
    fn hear(&mut self) -> Result<()> {
        if self.heard.is_empty() {
            return Ok(());
        }
        let mut heard = std::mem::take(&mut self.heard);
        let now_ms = now_ms();
        for it in heard.drain(..) {
            match it {
                Heard::Records {
                    span,
                    next,
                    payload_bytes,
                    leader_epoch,
                } => {
                    let it = &mut self.partitions[span.partition.0];
                    let offset = span.end();
                    it.read = leader_epoch.map(|epoch| LeaderEpoch { epoch, offset });
                    it.complaint = None;
                    self.taken_before_the_start(span)?;
                    self.task.account.charge(span.count.into(), payload_bytes);
                    self.step(Event::Took { span, next })?;
                }
                Heard::End { partition, position } => {
                    self.partitions[partition.0].complaint = None;
                    self.step(Event::End { partition, position })?;
                }
                Heard::Truncated(partition, truncation, error) => {
                    self.truncated(partition, truncation, error)?;
                }
                Heard::SourceFailed(Some(partition), error) => self.source_failed(partition, error)?,
                Heard::SourceFailed(None, error) => debug!(%error, "source error, retried by the client"),
                Heard::Answer {
                    span,
                    payload_bytes,
                    first_timestamp,
                    outcome,
                } => match outcome {
                    Outcome::Delivered(target) => {
                        let metrics = &self.partitions[span.partition.0].metrics;
                        metrics.records_replicated(span.count.into(), payload_bytes);
                        if 0 <= first_timestamp {
                            let latency = (now_ms - first_timestamp).max(0) as f64 / 1000.0;
                            self.task.metrics.replication_latency(latency, span.count.into());
                        }
                        self.step(Event::Delivered { span, target })?;
                    }
                    Outcome::Skipped => {
                        self.task.metrics.skipped(span.count.into());
                        self.step(Event::Skipped(span))?;
                    }
                    Outcome::Failed(error) => {
                        let tp = self.engine.source(span.partition);
                        let error = Error::new(error.code, format!("{tp}: {}", error.detail));
                        self.step(Event::DeliveryFailed { span, error })?;
                    }
                },
            }
        }
        self.heard = heard;
        Ok(())
    }

    /// Where there was nothing but markers when the partition began, there can be no record in the same log.
    fn taken_before_the_start(&mut self, span: Span) -> Result<()> {
        let start = self.partitions[span.partition.0].start;
        if start <= span.first {
            return Ok(());
        }
        let text = format!(
            "there is a record at {}, where none was before {start}",
            span.first
        );
        let same_until = Some(span.first);
        let error = Error::new(Code::SourceTruncated, text);
        self.truncated(span.partition, Truncation { same_until }, error)
    }

    fn source_failed(&mut self, partition: PartitionId, error: Error) -> Result<()> {
        let tp = self.engine.source(partition).clone();
        if error.code.rank() == Rank::Partition && !self.state.is_stopped(partition) {
            let halts = error.code.page().remedy == Remedy::HaltPartition;
            self.step(Event::SourceFailed(partition, error))?;
            if halts {
                // Where it stands is decided at once, by the same rules as at the start.
                self.task.health.try_now(&tp, Instant::now());
            }
            return Ok(());
        }
        debug!(topic = %tp.topic, partition = tp.partition, %error, "source error, retried by the client");
        let complaint = &mut self.partitions[partition.0].complaint;
        let since = complaint.take().map_or_else(Instant::now, |(_, since)| since);
        *complaint = Some((error, since));
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
                    self.engine.poll(false, Duration::ZERO, &mut self.heard);
                    self.hear()?;
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

    fn hold(&mut self, tp: &TopicPartition, error: Error, offset: Option<i64>, found: Found) {
        let route = self.view.partitions.get(tp);
        let accepts = route.map(|route| route.accepts.settings.clone());
        self.task
            .hold(tp, error, offset, found, accepts.as_deref().unwrap_or_default());
    }
}
