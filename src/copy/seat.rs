//! What a task keeps while its sessions come and go: who it is, which partitions wait, and what it says about itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::health::{Found, Health};
use crate::context::FlowContext;
use crate::context::throttle::Account;
use crate::error::{Code, Error};
use crate::kafka::TopicPartition;
use crate::metrics::TaskMetrics;
use crate::status::{PartitionState, TaskState, TaskStatus};

/// What a task said about itself, and when.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) status: TaskStatus,
    pub(super) at: Instant,
}

/// The status of a task that says nothing about partitions.
pub fn task_status(task: u32, state: TaskState, why: Option<&Error>) -> TaskStatus {
    TaskStatus {
        task,
        state,
        reason: why.map(Error::with_advice),
        seconds_since_published: None,
        waiting_for: None,
        in_flight_bytes: 0,
        partitions: vec![],
    }
}

/// See the [module](self).
pub(super) struct Seat {
    pub(super) flow: Arc<FlowContext>,
    pub(super) task: u32,
    pub(super) drain: CancellationToken,
    pub(super) published: Arc<Mutex<Published>>,
    pub(super) metrics: TaskMetrics,
    pub(super) account: Account,
    pub(super) health: Health,
    /// Offsets that the target held when copying began there, though nothing was stored about them.
    pub(super) unexplained: BTreeMap<TopicPartition, i64>,
    /// Sessions that failed in a row.
    pub(super) failures: u32,
    /// The session before gave a transaction up, which may not have ended: its markers must reach every partition.
    pub(super) left_open: bool,
}

impl Seat {
    pub(super) fn new(
        flow: Arc<FlowContext>,
        task: u32,
        drain: CancellationToken,
        published: Arc<Mutex<Published>>,
    ) -> Self {
        let metrics = TaskMetrics::new(&flow.spec.id, task);
        let account = flow.throttle.account();
        Self {
            flow,
            task,
            drain,
            published,
            metrics,
            account,
            health: Health::default(),
            unexplained: BTreeMap::new(),
            failures: 0,
            left_open: false,
        }
    }

    pub(super) fn set_state(&self, state: TaskState, error: Option<&Error>) {
        let mut published = self.published.lock();
        published.at = Instant::now();
        let status = &mut published.status;
        status.state = state;
        status.reason = error.map(Error::with_advice);
        status.waiting_for = None;
        status.in_flight_bytes = 0;
        if !matches!(state, TaskState::Running | TaskState::Draining) {
            // Nobody is there to copy them.
            for it in status
                .partitions
                .iter_mut()
                .filter(|it| it.state == PartitionState::Running)
            {
                it.state = PartitionState::Starting;
            }
            self.metrics.in_flight_bytes(0);
        }
    }

    /// What was said last is still so.
    pub(super) fn still_here(&self) {
        self.published.lock().at = Instant::now();
    }

    /// Keeps a partition out until it may be tried again. `accepts`: what its target topic takes at present.
    pub(super) fn hold(
        &mut self,
        tp: &TopicPartition,
        error: Error,
        offset: Option<i64>,
        found: Found,
        accepts: &str,
    ) {
        let advice = error.code.page().advice;
        let shown = error.clone();
        let now = Instant::now();
        let first = self.health.hold(tp, error, offset, found, accepts, now);
        match shown.code {
            // The sync loop finds out whether it was deleted, and says so.
            Code::SourceTopicMissing => self.flow.look.notify_one(),
            _ if first => {
                error!(topic = %tp.topic, partition = tp.partition, offset, error = %shown, advice, "partition stopped");
            }
            _ => {
                debug!(topic = %tp.topic, partition = tp.partition, offset, error = %shown, "partition still stopped");
            }
        }
    }
}
