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

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, warn};

use crate::context::{ClusterIds, FlowContext, lock};
use crate::copy::thread::TaskHandle;
use crate::error::{Code, Error, Result};
use crate::kafka::TopicPartition;
use crate::kafka::client::{ClusterConnection, TaskMemory};
use crate::kafka::groups::GroupProcess;
use crate::metrics::PartitionMetrics;
use crate::state::mm2_positions;
use crate::state::topics::{self, Found};
use crate::status::{ConfigSyncStatus, FlowStatus, GroupSyncStatus, HeartbeatStatus};
use crate::topology::FlowSpec;

use lag::{LagClock, SourceEnd};
use ownership::Absent;
use status::Holders;
use supervision::{Part, PartHealth, Restarts, panicked};

mod heartbeats;
pub mod lag;
pub mod membership;
mod ownership;
mod positions;
mod status;
mod supervision;
mod sync;
mod watch;

/// A flow that runs until it is drained.
#[derive(Debug)]
pub struct Flow {
    spec: FlowSpec,
    shared: Arc<Mutex<Shared>>,
    drain: CancellationToken,
    runner: JoinHandle<()>,
}

/// What the parts of a flow tell each other and the status.
#[derive(Debug, Default)]
struct Shared {
    /// There is one once the clients of both clusters could be made.
    context: Option<Arc<FlowContext>>,
    tasks: BTreeMap<u32, TaskHandle>,
    absent: BTreeMap<u32, Absent>,
    parts: BTreeMap<Part, PartHealth>,
    tasks_total: Option<u32>,
    /// Why the flow is not running yet.
    trouble: Option<Error>,
    /// Why no task may run: a cluster or an own topic is not the one that the flow started with.
    replaced: Option<Error>,
    joined: bool,
    holders: Holders,
    draining: bool,
    stopped: bool,
    panicked: bool,
    sync: Option<SyncReport>,
    /// Why the last pass of config sync failed as a whole.
    sync_trouble: Option<Error>,
    /// Source ends, as each was heard last.
    ends: BTreeMap<TopicPartition, SourceEnd>,
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

impl Flow {
    /// Starts a flow. Nothing is contacted before this, and nothing fails in it: what cannot be started is tried again.
    pub fn start(
        spec: FlowSpec,
        source: ClusterConnection,
        target: ClusterConnection,
        memory: TaskMemory,
        instance: &str,
        clusters: Arc<ClusterIds>,
        group_process: Arc<GroupProcess>,
    ) -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let drain = CancellationToken::new();
        let span = tracing::info_span!("flow", topology = %spec.id.topology, flow = %spec.id);
        let connect = {
            let spec = spec.clone();
            move || FlowContext::connect(&spec, &source, &target, memory, &clusters, &group_process)
        };
        let runner = Runner {
            connect: Arc::new(connect),
            shared: shared.clone(),
            drain: drain.clone(),
            instance: instance.to_owned(),
        };
        Self {
            spec,
            shared,
            drain,
            runner: tokio::spawn(runner.run().instrument(span)),
        }
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

    /// Names the tasks that have not drained yet.
    pub fn late_tasks(&self) -> Vec<String> {
        let id = &self.spec.id;
        let shared = lock(&self.shared);
        let tasks = shared.tasks.iter().filter(|(_, handle)| !handle.is_finished());
        tasks
            .map(|(task, handle)| {
                let bytes = handle.status(Instant::now()).in_flight_bytes;
                format!("{} {id} task {task}: {bytes} bytes in flight", id.topology)
            })
            .collect()
    }

    /// Names the parts that have not ended yet. They hold no records.
    pub fn late_parts(&self) -> Vec<String> {
        if self.is_stopped() {
            return vec![];
        }
        let id = &self.spec.id;
        let shared = lock(&self.shared);
        supervision::unfinished(&shared)
            .iter()
            .map(|part| format!("{} {id} {part}", id.topology))
            .collect()
    }

    /// The flow as it is now.
    pub fn status(&self) -> FlowStatus {
        let abandoned = self.runner.is_finished();
        watch::status(&self.spec, &lock(&self.shared), abandoned, Instant::now())
    }
}

/// How long the services of a flow may go on with what they do once its tasks have drained. They hold no records, and
/// what they do is safe to be cut off: the next daemon does it again.
const SERVICES_END: Duration = Duration::from_secs(2);

/// Drives one flow.
struct Runner {
    connect: Arc<dyn Fn() -> Result<FlowContext> + Send + Sync>,
    shared: Arc<Mutex<Shared>>,
    drain: CancellationToken,
    instance: String,
}

impl Runner {
    async fn run(self) {
        if let Some(context) = self.connect().await
            && let Some(found) = self.prepare(&context).await
        {
            self.run_parts(&context, found).await;
        }
        lock(&self.shared).stopped = true;
    }

    async fn run_parts(&self, context: &Arc<FlowContext>, found: Found) {
        let tasks_total = found.tasks;
        lock(&self.shared).tasks_total = Some(tasks_total);
        // What every part gets; `run` makes the future of one of its lives.
        macro_rules! keep {
            ($part:expr, |$context:ident, $shared:ident, $drain:ident| $run:expr) => {
                supervision::keep(
                    $part,
                    self.shared.clone(),
                    context.metrics.clone(),
                    self.drain.clone(),
                    || {
                        let ($context, $shared, $drain) =
                            (context.clone(), self.shared.clone(), self.drain.clone());
                        $run
                    },
                )
            };
        }
        let drained = CancellationToken::new();
        let tasks = async {
            keep!(Part::Ownership, |context, shared, drain| {
                ownership::run(context, shared, drain, self.instance.clone(), found.clone())
            })
            .await;
            // While its owner waits to be started again, a task runs on.
            ownership::end_tasks(&self.shared).await;
            drained.cancel();
        };
        let services = async {
            let config_sync = keep!(Part::ConfigSync, |context, shared, drain| {
                sync::run(context, shared, drain, found.clone())
            });
            let groups = keep!(Part::Groups, |context, shared, drain| {
                positions::run(context, shared, drain, tasks_total)
            });
            let heartbeats = async {
                if context.spec.heartbeats.enabled {
                    keep!(Part::Heartbeats, |context, shared, drain| {
                        heartbeats::run(context, shared, drain)
                    })
                    .await;
                }
            };
            let patience = async {
                drained.cancelled().await;
                tokio::time::sleep(SERVICES_END).await;
            };
            tokio::select! {
                _ = async { tokio::join!(config_sync, groups, heartbeats) } => {}
                () = patience => {}
            }
        };
        let watch = keep!(Part::Watch, |context, shared, _drain| watch::run(context, shared));
        tokio::select! {
            _ = async { tokio::join!(tasks, services) } => {}
            () = watch => {}
        }
        let cut_off = supervision::unfinished(&lock(&self.shared));
        if !cut_off.is_empty() {
            info!(
                ?cut_off,
                "the tasks have drained; what still waits for a cluster is left"
            );
        }
    }

    /// Makes the clients of both clusters, with patience. `None`: asked to drain meanwhile.
    async fn connect(&self) -> Option<Arc<FlowContext>> {
        let mut restarts = Restarts::default();
        loop {
            let connect = self.connect.clone();
            match blocking(move || connect()).await {
                Ok(context) => {
                    let context = Arc::new(context);
                    let mut shared = lock(&self.shared);
                    shared.trouble = None;
                    shared.context = Some(context.clone());
                    return Some(context);
                }
                Err(error) => {
                    let pause = restarts.fail(Instant::now());
                    error!(%error, advice = error.code.page().advice, retry_in = ?pause, "the flow cannot start");
                    lock(&self.shared).trouble = Some(error);
                    tokio::select! {
                        () = self.drain.cancelled() => return None,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// Creates the flow's own topics, with patience. `None`: asked to drain meanwhile.
    async fn prepare(&self, context: &Arc<FlowContext>) -> Option<Found> {
        let mut pause = Duration::from_millis(250);
        loop {
            let preparing = context.clone();
            match blocking(move || prepare(&preparing)).await {
                Ok(found) => {
                    let tasks = found.tasks;
                    if tasks != context.spec.tasks {
                        warn!(
                            tasks,
                            configured = context.spec.tasks,
                            "the number of tasks is fixed when a flow is created; the configured one is ignored"
                        );
                    }
                    lock(&self.shared).trouble = None;
                    return Some(found);
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
}

/// Creates the flow's own topics. A flow does not start beside an MM2 that copies the same
/// topics to the same names.
fn prepare(context: &FlowContext) -> Result<Found> {
    let (spec, target) = (&context.spec, &context.target);
    // Before anything that waits longer: whether the target answers at all.
    let found = topics::find(&context.target_admin, target, &spec.id)?;
    match mm2_positions::running(&context.target_admin, target, spec, Duration::ZERO) {
        Ok(None) => {}
        Ok(Some(running)) => return Err(Error::new(Code::Mm2Running, running)),
        // Who never had an MM2 need not be allowed to ask about it.
        Err(error) if !spec.mirror_maker.mirror_positions => {
            debug!(%error, "whether MirrorMaker 2 runs is not known");
        }
        Err(error) => return Err(error),
    }
    topics::prepare(&context.target_admin, target, spec, found)
}

/// Runs a blocking call of a client away from the runtime's threads.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(e) => Err(panicked(e)),
    }
}
