//! One replication flow in this daemon: its membership, its tasks, its config syncer, its status.
//!
//! ```text
//!  Flow (tokio)
//!   ├─ Membership (thread)   which tasks are ours          group on the target
//!   ├─ TaskHandle × n        one OS thread each            copies records
//!   ├─ sync loop             every config_sync.interval    Syncer → View (what the tasks read)
//!   ├─ positions             every offset_sync.interval    groups, checkpoints, upkeep of the offset map
//!   ├─ heartbeats            every heartbeats.interval     written on the target, watched end to end
//!   └─ watch loop            every second                  source ends → lag, status, metrics
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, warn};

use crate::error::{Code, Error, Result, Side};
use crate::kafka::admin::Admin;
use crate::kafka::client::{ClusterConnection, TaskMemory};
use crate::kafka::groups::GroupProcess;
use crate::kafka::{ClusterAlias, TopicId, TopicPartition};
use crate::metrics::{FlowMetrics, PartitionMetrics};
use crate::status::{ConfigSyncStatus, FlowStatus, GroupSyncStatus, HeartbeatStatus};
use crate::topology::FlowSpec;

use lag::LagClock;
use membership::{Membership, Ownership};
use task_thread::{TaskEnd, TaskHandle};
use throttle::FlowThrottle;

pub mod audit;
mod bounds;
pub mod engine;
pub mod gaps;
pub mod health;
mod heartbeats;
pub mod lag;
pub mod ledger;
pub mod map_reader;
pub mod membership;
pub mod mm2_mirror;
mod positions;
pub mod progress;
mod session;
pub mod slot;
pub mod start;
mod state_topics;
pub mod stopped;
mod sync;
pub mod takeover;
pub mod task;
pub mod task_thread;
pub mod throttle;
mod watch;

/// How long a question to a cluster may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What the tasks of a flow share.
#[derive(Debug)]
pub struct FlowContext {
    /// What the flow is.
    pub spec: FlowSpec,
    /// Where records come from.
    pub source: ClusterConnection,
    /// Where they go.
    pub target: ClusterConnection,
    /// Asks the source.
    pub source_admin: Arc<Admin>,
    /// Asks and changes the target.
    pub target_admin: Arc<Admin>,
    /// What each task may hold.
    pub memory: TaskMemory,
    /// Limits of the flow.
    pub throttle: FlowThrottle,
    /// Metrics of the flow.
    pub metrics: FlowMetrics,
    /// Which alias leads to which cluster, over all flows of this daemon.
    pub clusters: Arc<ClusterIds>,
    /// Where calls about group positions are made, for all flows of this daemon.
    pub group_process: Arc<GroupProcess>,
    /// The partitions that can be copied; replaced as a whole by the sync loop.
    pub view: ArcSwapOption<View>,
}

/// Which alias leads to which cluster. The proof that nothing loops rests on aliases being different clusters.
#[derive(Debug, Default)]
pub struct ClusterIds(Mutex<BTreeMap<String, ClusterAlias>>);

impl ClusterIds {
    /// Notes what an alias leads to.
    ///
    /// # Errors
    /// Another alias leads there too.
    fn note(&self, id: &str, alias: &ClusterAlias) -> Result<()> {
        let mut known = lock(&self.0);
        let first = known.entry(id.to_owned()).or_insert_with(|| alias.clone());
        if first == alias {
            return Ok(());
        }
        Err(Error::new(
            Code::SameCluster,
            format!("{first} and {alias} are both the cluster with id {id}"),
        ))
    }
}

/// What can be copied at the moment: selected, and present on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// By source partition.
    pub partitions: BTreeMap<TopicPartition, Route>,
    /// Every selected source partition, whether or not the target has it yet.
    pub selected: BTreeMap<TopicPartition, TopicId>,
    /// Selected partitions that the target does not get, and why.
    pub held: BTreeMap<TopicPartition, Error>,
    /// Tasks of the flow: the partition count of its progress topic.
    pub tasks: u32,
    /// Kafka's id of the source cluster.
    pub source_cluster_id: String,
    /// Kafka's id of the target cluster.
    pub target_cluster_id: String,
}

/// Where a source partition goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Topic on the target.
    pub remote: String,
    /// Kafka's id of the source topic.
    pub topic_id: TopicId,
    /// What the target topic takes.
    pub accepts: Accepts,
}

/// The settings of a target topic that decide which records it takes. Empty where they are not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepts {
    /// `key=value`, one a line: a partition that waits because of a refusal is tried again when this changes.
    pub settings: Arc<str>,
    /// `max.message.bytes`, which bounds whole batches; `None`: not known.
    pub batch_bytes: Option<u64>,
    /// `min.insync.replicas`; `None`: not known.
    pub min_in_sync: Option<usize>,
}

/// A flow that runs until it is drained.
#[derive(Debug)]
pub struct Flow {
    context: Arc<FlowContext>,
    shared: Arc<Mutex<Shared>>,
    drain: CancellationToken,
    runner: JoinHandle<()>,
}

/// What the parts of a flow tell each other and the status.
#[derive(Debug, Default)]
struct Shared {
    tasks: BTreeMap<u32, TaskHandle>,
    tasks_total: Option<u32>,
    /// Why the flow is not running yet.
    trouble: Option<Error>,
    joined: bool,
    draining: bool,
    stopped: bool,
    panicked: bool,
    sync: Option<SyncReport>,
    /// Why the last pass of config sync failed as a whole.
    sync_trouble: Option<Error>,
    /// Source ends, and when each was heard last.
    ends: BTreeMap<TopicPartition, (i64, Instant)>,
    clocks: BTreeMap<TopicPartition, LagClock>,
    gauges: BTreeMap<TopicPartition, PartitionMetrics>,
    /// Only in the daemon that writes them.
    groups: Option<GroupSyncStatus>,
    /// As it was then; only in the daemon that carries them.
    heartbeats: Option<(HeartbeatStatus, Instant)>,
}

#[derive(Debug)]
struct SyncReport {
    at: Option<Instant>,
    status: ConfigSyncStatus,
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A panic elsewhere must not keep the rest from saying how it is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flow {
    /// Starts a flow. Nothing is contacted before this.
    ///
    /// # Errors
    /// When librdkafka refuses the settings of a cluster.
    pub fn start(
        spec: FlowSpec,
        source: ClusterConnection,
        target: ClusterConnection,
        memory: TaskMemory,
        instance: &str,
        clusters: Arc<ClusterIds>,
        group_process: Arc<GroupProcess>,
    ) -> Result<Self> {
        let client_id = spec.id.group();
        let context = Arc::new(FlowContext {
            source_admin: Arc::new(Admin::new(&source, &client_id, Side::Source)?),
            target_admin: Arc::new(Admin::new(&target, &client_id, Side::Target)?),
            throttle: FlowThrottle::new(spec.throttle),
            metrics: FlowMetrics::new(&spec.id),
            clusters,
            group_process,
            view: ArcSwapOption::empty(),
            spec,
            source,
            target,
            memory,
        });
        let shared = Arc::new(Mutex::new(Shared::default()));
        let drain = CancellationToken::new();
        let span = tracing::info_span!("flow", topology = %context.spec.id.topology, flow = %context.spec.id);
        let runner = Runner {
            context: context.clone(),
            shared: shared.clone(),
            drain: drain.clone(),
            instance: instance.to_owned(),
        };
        let runner = tokio::spawn(runner.run().instrument(span));
        Ok(Self {
            context,
            shared,
            drain,
            runner,
        })
    }

    /// Asks every part to finish what it has begun.
    pub fn drain(&self) {
        lock(&self.shared).draining = true;
        self.drain.cancel();
    }

    /// Whether everything has ended after [`Flow::drain`].
    pub fn is_stopped(&self) -> bool {
        self.runner.is_finished()
    }

    /// Whether a part of the flow panicked at any time: a bug.
    pub fn has_panicked(&self) -> bool {
        lock(&self.shared).panicked
    }

    /// Names what has not ended yet.
    pub fn late(&self) -> Vec<String> {
        let id = &self.context.spec.id;
        let shared = lock(&self.shared);
        let tasks = shared.tasks.iter().filter(|(_, handle)| !handle.is_finished());
        tasks
            .map(|(task, handle)| {
                let bytes = handle.status().in_flight_bytes;
                format!("{} {id} task {task}: {bytes} bytes in flight", id.topology)
            })
            .collect()
    }

    /// The flow as it is now.
    pub fn status(&self) -> FlowStatus {
        watch::status(&self.context, &lock(&self.shared), Instant::now())
    }
}

/// Drives one flow.
struct Runner {
    context: Arc<FlowContext>,
    shared: Arc<Mutex<Shared>>,
    drain: CancellationToken,
    instance: String,
}

impl Runner {
    async fn run(self) {
        let Some(tasks_total) = self.prepare().await else {
            lock(&self.shared).stopped = true;
            return;
        };
        lock(&self.shared).tasks_total = Some(tasks_total);
        let (context, shared, drain) = (self.context.clone(), self.shared.clone(), self.drain.clone());
        let beats = heartbeats::run(context.clone(), shared.clone(), drain.clone());
        let beats = tokio::spawn(beats.in_current_span());
        let positions = positions::run(context.clone(), shared.clone(), drain.clone(), tasks_total);
        let positions = tokio::spawn(positions.in_current_span());
        let sync = tokio::spawn(sync::run(context, shared, drain, tasks_total).in_current_span());
        let watch = tokio::spawn(watch::run(self.context.clone(), self.shared.clone()).in_current_span());
        self.own_tasks(tasks_total).await;
        lock(&self.shared).stopped = true;
        watch.abort();
        for service in [sync, beats, positions] {
            if let Err(e) = service.await
                && e.is_panic()
            {
                lock(&self.shared).panicked = true;
            }
        }
    }

    /// Creates the flow's own topics, with patience. `None`: asked to drain meanwhile.
    async fn prepare(&self) -> Option<u32> {
        let mut pause = Duration::from_millis(250);
        loop {
            let context = self.context.clone();
            match blocking(move || prepare(&context)).await {
                Ok(tasks) => {
                    if tasks != self.context.spec.tasks {
                        warn!(
                            tasks,
                            configured = self.context.spec.tasks,
                            "the number of tasks is fixed when a flow is created; the configured one is ignored"
                        );
                    }
                    lock(&self.shared).trouble = None;
                    return Some(tasks);
                }
                Err(error) => {
                    warn!(%error, advice = error.code.page().advice, retry_in = ?pause, "the flow cannot start yet");
                    lock(&self.shared).trouble = Some(error);
                }
            }
            tokio::select! {
                () = self.drain.cancelled() => return None,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
            }
        }
    }

    /// Runs the tasks that the group gives us, until drained.
    async fn own_tasks(&self, tasks_total: u32) {
        let spec = &self.context.spec;
        let all: BTreeSet<u32> = (0..tasks_total).collect();
        let label = format!("{} {} {}", spec.id.topology, spec.id, self.instance);
        // An early start is safe because tasks fence each other. It saves the broker's initial rebalance
        // delay, which applies to a group without members, and after a crash of ours the time that joining
        // takes: a seat that bears our own name is our former life's.
        let (context, own) = (self.context.clone(), label.clone());
        let alone = blocking(move || {
            let members = context
                .target_admin
                .group_members(&context.spec.id.group(), ADMIN_TIMEOUT)?;
            Ok(members.iter().all(|member| *member == own))
        });
        let mut owned = match alone.await {
            Ok(true) => all,
            Ok(false) => BTreeSet::new(),
            Err(error) => {
                debug!(%error, "whether the group has other members is not known");
                BTreeSet::new()
            }
        };
        let (events, mut ownership) = mpsc::unbounded_channel();
        let config = self
            .context
            .target
            .member(&label, &spec.id.group(), &self.instance);
        let joined = Membership::join(&config, &spec.id.progress_topic(), &label, move |event| {
            // The receiver is gone only while everything ends.
            let _ = events.send(event);
        });
        let membership = match joined {
            Ok(membership) => membership,
            Err(e) => {
                let error = Error::new(Code::TargetAuthentication, e.to_string());
                error!(%error, "the flow cannot join its group");
                lock(&self.shared).trouble = Some(error);
                return self.drain.cancelled().await;
            }
        };
        let mut joined = false;
        let mut releasing = BTreeSet::new();
        let mut given_up: BTreeMap<u32, Instant> = BTreeMap::new();
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(event) = ownership.recv() => match event {
                    Ownership::Gained(tasks) => {
                        if !joined {
                            owned.clear();
                        }
                        joined = true;
                        lock(&self.shared).joined = true;
                        owned.extend(tasks);
                    }
                    Ownership::Revoked(tasks) => {
                        owned.retain(|task| !tasks.contains(task));
                        releasing.extend(tasks);
                    }
                },
                _ = tick.tick() => {}
            }
            let draining = self.drain.is_cancelled();
            let now = Instant::now();
            let ended: Vec<(u32, TaskHandle)> = {
                let mut shared = lock(&self.shared);
                for (task, handle) in &shared.tasks {
                    if draining || !owned.contains(task) {
                        handle.drain();
                    }
                }
                if !draining {
                    for task in &owned {
                        if shared.tasks.contains_key(task) || given_up.get(task).is_some_and(|at| now < *at) {
                            continue;
                        }
                        shared
                            .tasks
                            .insert(*task, TaskHandle::start(self.context.clone(), *task));
                    }
                }
                let done: Vec<u32> = shared
                    .tasks
                    .iter()
                    .filter(|(_, handle)| handle.is_finished())
                    .map(|(task, _)| *task)
                    .collect();
                done.into_iter()
                    .filter_map(|task| shared.tasks.remove_entry(&task))
                    .collect()
            };
            for (task, handle) in ended {
                match handle.join() {
                    Some(TaskEnd::Drained) => {}
                    // Before the join is complete the other owner is as good as we are; after it, the group
                    // says that the task is ours, and starting again fences whoever is mistaken.
                    Some(TaskEnd::GivenUp) if joined => {
                        given_up.insert(task, now + Duration::from_secs(1));
                    }
                    Some(TaskEnd::GivenUp) => {
                        owned.remove(&task);
                    }
                    None => {
                        error!(task, code = %Code::Panicked, "a task panicked");
                        lock(&self.shared).panicked = true;
                        given_up.insert(task, now + Duration::from_secs(10));
                    }
                }
            }
            let running = |task: &u32| lock(&self.shared).tasks.contains_key(task);
            let free: BTreeSet<u32> = releasing.iter().copied().filter(|task| !running(task)).collect();
            if !free.is_empty() {
                releasing.retain(|task| !free.contains(task));
                membership.release(free);
            }
            if draining && lock(&self.shared).tasks.is_empty() {
                break;
            }
        }
        // Leaving closes a consumer, which may wait for the target.
        let left = tokio::task::spawn_blocking(move || drop(membership));
        if tokio::time::timeout(Duration::from_secs(2), left).await.is_err() {
            debug!("the group will notice by its session timeout that we left");
        }
    }
}

/// Creates the flow's own topics; returns the number of tasks. A flow does not start beside an MM2 that copies the same
/// topics to the same names.
fn prepare(context: &FlowContext) -> Result<u32> {
    let (spec, target) = (&context.spec, &context.target);
    // Before anything that waits longer: whether the target answers at all.
    let tasks = state_topics::tasks(&context.target_admin, &spec.id)?;
    match mm2_mirror::running(&context.target_admin, target, spec, Duration::ZERO) {
        Ok(None) => {}
        Ok(Some(running)) => return Err(Error::new(Code::Mm2Running, running)),
        // Who never had an MM2 need not be allowed to ask about it.
        Err(error) if !spec.mirror_maker.mirror_positions => {
            debug!(%error, "whether MirrorMaker 2 runs is not known");
        }
        Err(error) => return Err(error),
    }
    match tasks {
        Some(tasks) => Ok(tasks),
        None => state_topics::create(&context.target_admin, spec),
    }
}

/// Runs a blocking call of a client away from the runtime's threads.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(e) => Err(Error::new(Code::Panicked, e.to_string())),
    }
}
