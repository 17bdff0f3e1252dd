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

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, warn};

use crate::context::{ClusterIds, FlowContext};
use crate::error::{Code, Error, Result};
use crate::kafka::client::{ClusterConnection, TaskMemory};
use crate::kafka::groups::GroupProcess;
use crate::services::config_sync::ConfigSync;
use crate::services::group_sync::GroupSync;
use crate::services::heartbeats::Heartbeats;
use crate::services::lag::Lag;
use crate::services::supervision::{Part, Restarts, blocking, keep};
use crate::services::{self, Duty, Told};
use crate::state::mm2_positions;
use crate::state::topics::{self, Found};
use crate::status::FlowStatus;
use crate::topology::FlowSpec;

use channels::{Channels, Stands};

mod channels;
pub mod membership;
mod ownership;
mod status;
mod tasks;

/// A flow that runs until it is drained.
#[derive(Debug)]
pub struct Flow {
    spec: FlowSpec,
    told: Arc<Channels>,
    drain: CancellationToken,
    runner: JoinHandle<()>,
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
        let told = Arc::new(Channels::default());
        let drain = CancellationToken::new();
        let span = tracing::info_span!("flow", topology = %spec.id.topology, flow = %spec.id);
        let connect = {
            let spec = spec.clone();
            move || FlowContext::connect(&spec, &source, &target, memory, &clusters, &group_process)
        };
        let runner = Runner {
            connect: Arc::new(connect),
            told: told.clone(),
            drain: drain.clone(),
            instance: instance.to_owned(),
        };
        Self {
            spec,
            told,
            drain,
            runner: tokio::spawn(runner.run().instrument(span)),
        }
    }

    /// Asks every part to finish what it has begun.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Whether everything has ended after [`Flow::drain`].
    pub fn is_stopped(&self) -> bool {
        self.runner.is_finished()
    }

    /// Whether a part of the flow panicked at any time: a bug.
    pub fn has_panicked(&self) -> bool {
        self.told.parts.has_panicked() || self.told.assignment.borrow().panicked
    }

    /// Names the tasks that have not drained yet.
    pub fn late_tasks(&self) -> Vec<String> {
        let id = &self.spec.id;
        let assignment = self.told.assignment.borrow();
        let tasks = assignment
            .tasks
            .iter()
            .filter(|(_, handle)| handle.end().is_none());
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
        let unfinished = self.told.parts.unfinished();
        unfinished
            .iter()
            .map(|part| format!("{} {id} {part}", id.topology))
            .collect()
    }

    /// The flow as it is now.
    pub fn status(&self) -> FlowStatus {
        let stands = Stands {
            draining: self.drain.is_cancelled(),
            abandoned: self.runner.is_finished(),
        };
        status::of(&self.spec, &self.told, &stands, Instant::now())
    }
}

/// How long the services of a flow may go on with what they do once its tasks have drained. They hold no records, and
/// what they do is safe to be cut off: the next daemon does it again.
const SERVICES_END: Duration = Duration::from_secs(2);

/// Drives one flow.
struct Runner {
    connect: Arc<dyn Fn() -> Result<FlowContext> + Send + Sync>,
    told: Arc<Channels>,
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
        self.told.phase.send_modify(|phase| phase.stopped = true);
    }

    async fn run_parts(&self, context: &Arc<FlowContext>, found: Found) {
        let Channels {
            phase,
            assignment,
            config_sync,
            groups,
            heartbeats,
            ends,
            parts,
        } = &*self.told;
        phase.send_modify(|phase| phase.tasks_total = Some(found.tasks));
        let drained = CancellationToken::new();
        let tasks = async {
            keep(Part::Ownership, parts, &context.metrics, &self.drain, || {
                let (context, assignment, drain) = (context.clone(), assignment.clone(), self.drain.clone());
                tasks::run(
                    context,
                    assignment,
                    config_sync.subscribe(),
                    drain,
                    self.instance.clone(),
                    found.clone(),
                )
            })
            .await;
            // While its owner waits to be started again, a task runs on.
            tasks::end_tasks(assignment).await;
            drained.cancel();
        };
        let services = async {
            let spec = &context.spec;
            let config_sync = self.duty(context, &self.drain, config_sync, || {
                ConfigSync::new(context, found.clone(), ends.subscribe())
            });
            let groups = self.duty(context, &self.drain, groups, || GroupSync::new(found.tasks));
            let heartbeats = async {
                if spec.heartbeats.enabled {
                    let make = || Heartbeats::new(spec.heartbeats.interval);
                    self.duty(context, &self.drain, heartbeats, make).await;
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
        // Told to the end: what is left to copy is of interest while the flow drains.
        let never = CancellationToken::new();
        let lag = self.duty(context, &never, ends, Lag::default);
        tokio::select! {
            _ = async { tokio::join!(tasks, services) } => {}
            () = lag => {}
        }
        let cut_off = parts.unfinished();
        if !cut_off.is_empty() {
            info!(
                ?cut_off,
                "the tasks have drained; what still waits for a cluster is left"
            );
        }
    }

    /// Runs a duty, in as many lives as it takes; `make` begins one.
    async fn duty<D: Duty>(
        &self,
        context: &Arc<FlowContext>,
        drain: &CancellationToken,
        told: &Arc<watch::Sender<Told<D::Report>>>,
        make: impl Fn() -> D,
    ) {
        let parts = &self.told.parts;
        keep(D::PART, parts, &context.metrics, drain, || {
            let assignment = self.told.assignment.subscribe();
            services::run(
                make(),
                context.clone(),
                assignment,
                told.clone(),
                parts.clone(),
                drain.clone(),
            )
        })
        .await;
    }

    /// Makes the clients of both clusters, with patience. `None`: asked to drain meanwhile.
    async fn connect(&self) -> Option<Arc<FlowContext>> {
        let mut restarts = Restarts::default();
        loop {
            let connect = self.connect.clone();
            match blocking(move || connect()).await {
                Ok(context) => {
                    let context = Arc::new(context);
                    self.told.phase.send_modify(|phase| {
                        phase.trouble = None;
                        phase.context = Some(context.clone());
                    });
                    return Some(context);
                }
                Err(error) => {
                    let pause = restarts.fail(Instant::now());
                    error!(%error, advice = error.code.page().advice, retry_in = ?pause, "the flow cannot start");
                    self.told.phase.send_modify(|phase| phase.trouble = Some(error));
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
                    self.told.phase.send_modify(|phase| phase.trouble = None);
                    return Some(found);
                }
                Err(error) => {
                    warn!(%error, advice = error.code.page().advice, retry_in = ?pause, "the flow cannot start yet");
                    self.told.phase.send_modify(|phase| phase.trouble = Some(error));
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
