//! Owns every flow of this daemon: starts them, says how they are, and drains them within a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::config::Config;
use crate::context::ClusterIds;
use crate::flow::Flow;
use crate::kafka::client::TaskMemory;
use crate::kafka::groups::GroupProcess;
use crate::status::DaemonStatus;
use crate::topology::FlowSpec;

/// How a stop ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Everything that was taken is committed.
    Drained,
    /// The deadline passed; these were late. What they had in flight is copied again at the next start.
    Late(Vec<String>),
    /// Drained, but a part of the program had panicked: a bug.
    Panicked,
}

/// All flows of this daemon.
pub struct Supervisor {
    flows: Arc<Vec<Flow>>,
    config: Arc<Config>,
    started: Instant,
    draining: Arc<AtomicBool>,
}

/// Answers with the daemon's status at the time of the call.
pub type StatusFn = Arc<dyn Fn() -> DaemonStatus + Send + Sync>;

/// What the process takes without any record: code, threads, connections.
const PROCESS_MEMORY: u64 = 32 << 20;
/// Below this a task cannot hold one fetch and one batch.
const LEAST_TASK_MEMORY: u64 = 4 << 20;

impl Supervisor {
    /// Starts every flow; one that cannot start holds up no other. Must be called inside a tokio runtime.
    pub fn start(config: Arc<Config>, flows: Vec<FlowSpec>) -> Self {
        let tasks: u64 = flows.iter().map(|flow| u64::from(flow.tasks)).sum();
        let memory = task_memory(config.memory_budget, tasks);
        let clusters = Arc::new(ClusterIds::default());
        let group_process = Arc::new(GroupProcess::new());
        let mut started = Vec::with_capacity(flows.len());
        for spec in flows {
            let cluster = |alias| {
                config
                    .clusters
                    .get(alias)
                    .cloned()
                    .expect("topologies name only configured clusters")
            };
            let (source, target) = (cluster(&spec.id.source), cluster(&spec.id.target));
            started.push(Flow::start(
                spec,
                source,
                target,
                memory,
                &config.instance,
                clusters.clone(),
                group_process.clone(),
            ));
        }
        Self {
            flows: Arc::new(started),
            config,
            started: Instant::now(),
            draining: Arc::new(AtomicBool::new(false)),
        }
    }

    /// A function that reads the status, for whoever serves it.
    pub fn status_fn(&self) -> StatusFn {
        let (flows, config) = (self.flows.clone(), self.config.clone());
        let (started, draining) = (self.started, self.draining.clone());
        Arc::new(move || DaemonStatus {
            instance: config.instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: started.elapsed().as_secs(),
            draining: draining.load(Ordering::Relaxed),
            flows: flows.iter().map(Flow::status).collect(),
        })
    }

    /// Stops everything: takes nothing more, finishes what was taken, commits. Names who is late every few
    /// seconds. `impatient` ends the waiting before the deadline.
    pub async fn drain(&self, impatient: CancellationToken) -> DrainOutcome {
        self.draining.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + self.config.drain_timeout;
        self.flows.iter().for_each(Flow::drain);
        let mut told = Instant::now();
        loop {
            if self.flows.iter().all(Flow::is_stopped) {
                return self.drained();
            }
            let now = Instant::now();
            let named = |what: fn(&Flow) -> Vec<String>| self.flows.iter().flat_map(what).collect::<Vec<_>>();
            let late = || [named(Flow::late_tasks), named(Flow::late_parts)].concat();
            if deadline <= now || impatient.is_cancelled() {
                if named(Flow::late_tasks).is_empty() {
                    warn!(left = ?late(), "drain deadline passed; all tasks have drained");
                    return self.drained();
                }
                let late = late();
                error!(?late, "drain deadline passed");
                return DrainOutcome::Late(late);
            }
            if Duration::from_secs(5) <= now - told {
                told = now;
                warn!(remaining = ?late(), time_left = ?deadline - now, "draining");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn drained(&self) -> DrainOutcome {
        match self.flows.iter().any(Flow::has_panicked) {
            true => DrainOutcome::Panicked,
            false => DrainOutcome::Drained,
        }
    }
}

/// Cuts the process's budget into equal shares per task. Of each share a part is fetched ahead, a part is in
/// flight, and the rest is for what the clients copy on the way: requests, decompressed and compressed batches.
fn task_memory(budget: u64, tasks: u64) -> TaskMemory {
    let share = budget.saturating_sub(PROCESS_MEMORY) / tasks.max(1);
    if share < LEAST_TASK_MEMORY {
        warn!(
            tasks,
            memory = budget,
            needed = PROCESS_MEMORY + LEAST_TASK_MEMORY * tasks,
            "the memory budget is too small for so many tasks; each gets its least share"
        );
    }
    let share = share.max(LEAST_TASK_MEMORY);
    TaskMemory {
        fetched_bytes: share * 3 / 16,
        in_flight_bytes: share * 5 / 16,
    }
}
