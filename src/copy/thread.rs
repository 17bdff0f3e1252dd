//! The thread of one task: one session after another until it drains or is given up, with back-off between them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use super::health::{Found, Health};
use super::session::Session;
use crate::context::throttle::Account;
use crate::context::{FlowContext, lock};
use crate::error::panic_text;
use crate::error::{Code, Error, Rank, Remedy, Result};
use crate::kafka::TopicPartition;
use crate::metrics::TaskMetrics;
use crate::status::STALE;
use crate::status::TaskStatus;

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// Everything taken was committed.
    Drained,
    /// Somebody else owns the slot: how that was found.
    GivenUp(Error),
}

/// A running task.
#[derive(Debug)]
pub struct TaskHandle {
    thread: JoinHandle<TaskEnd>,
    drain: Arc<AtomicBool>,
    published: Arc<Mutex<Published>>,
}

/// What a task said about itself, and when.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) status: TaskStatus,
    pub(super) at: Instant,
}

impl TaskHandle {
    /// Starts the thread of task `task`.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn start(flow: Arc<FlowContext>, task: u32) -> Result<Self> {
        let published = Arc::new(Mutex::new(Published {
            status: task_status(task, "starting", None),
            at: Instant::now(),
        }));
        let drain = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name(format!("task-{task}"))
            .spawn({
                let (drain, published) = (drain.clone(), published.clone());
                move || TaskThread::new(flow, task, drain, published).run()
            })
            .map_err(|error| Error::new(Code::NoThread, format!("task {task}: {error}")))?;
        Ok(Self {
            thread,
            drain,
            published,
        })
    }

    /// Asks the task to finish what it has taken and to end.
    pub fn drain(&self) {
        self.drain.store(true, Ordering::Relaxed);
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The task panicked.
    pub fn join(self) -> Result<TaskEnd> {
        self.thread
            .join()
            .map_err(|panic| Error::new(Code::Panicked, panic_text(panic.as_ref())))
    }

    /// What the task last said about itself. One that says nothing any more has failed.
    pub fn status(&self, now: Instant) -> TaskStatus {
        let published = lock(&self.published);
        let mut status = published.status.clone();
        let age = now.saturating_duration_since(published.at);
        status.seconds_since_published = Some(age.as_secs_f64());
        if STALE < age {
            let last = std::mem::replace(&mut status.state, "failed".into());
            let reason = status
                .reason
                .map_or(String::new(), |reason| format!(", {reason}"));
            status.reason = Some(format!(
                "nothing heard for {} s; last: {last}{reason}",
                age.as_secs()
            ));
        }
        status
    }
}

/// A task without partitions.
/// The status of a task that says nothing about partitions.
pub fn task_status(task: u32, state: &str, why: Option<&Error>) -> TaskStatus {
    TaskStatus {
        task,
        state: state.into(),
        reason: why.map(|error| format!("{error}; {}", error.code.page().advice)),
        seconds_since_published: None,
        waiting_for: None,
        in_flight_bytes: 0,
        partitions: vec![],
    }
}

pub(super) struct TaskThread {
    pub(super) flow: Arc<FlowContext>,
    pub(super) task: u32,
    pub(super) drain: Arc<AtomicBool>,
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

impl TaskThread {
    fn new(
        flow: Arc<FlowContext>,
        task: u32,
        drain: Arc<AtomicBool>,
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

    fn run(mut self) -> TaskEnd {
        let span = tracing::info_span!("task", topology = %self.flow.spec.id.topology, flow = %self.flow.spec.id, task = self.task);
        let _in_span = span.enter();
        loop {
            self.set_state("starting", None);
            let end = match Session::open(&mut self) {
                Ok(Some(session)) => session.run(),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            let error = match end {
                Ok(()) => {
                    info!("task drained");
                    self.set_state("stopped", None);
                    return TaskEnd::Drained;
                }
                Err(error) => error,
            };
            self.metrics.restart(error.code);
            if error.code.page().remedy == Remedy::GiveUpTask {
                warn!(%error, "task given up");
                self.set_state("stopped", Some(&error));
                return TaskEnd::GivenUp(error);
            }
            if self.drain.load(Ordering::Relaxed) {
                warn!(%error, "task ends without a last commit; what it had in flight is copied again");
                self.set_state("stopped", Some(&error));
                return TaskEnd::Drained;
            }
            // What is held now does not fail again; everything else fails ever more slowly.
            let pause = back_off(self.failures);
            if error.code.rank() != Rank::Partition {
                self.failures += 1;
            }
            warn!(%error, advice = error.code.page().advice, retry_in = ?pause, "task starts again");
            self.set_state("backing_off", Some(&error));
            let until = Instant::now() + pause;
            while Instant::now() < until && !self.drain.load(Ordering::Relaxed) {
                self.still_here();
                std::thread::park_timeout(Duration::from_millis(50));
            }
        }
    }

    pub(super) fn set_state(&self, state: &str, error: Option<&Error>) {
        let mut published = lock(&self.published);
        published.at = Instant::now();
        let status = &mut published.status;
        status.state = state.into();
        status.reason = error.map(|e| format!("{e}; {}", e.code.page().advice));
        status.waiting_for = None;
        status.in_flight_bytes = 0;
        if !matches!(state, "running" | "draining") {
            // Nobody is there to copy them.
            for it in status.partitions.iter_mut().filter(|it| it.state == "running") {
                it.state = "starting".into();
            }
            self.metrics.in_flight_bytes(0);
        }
    }

    /// What was said last is still so.
    pub(super) fn still_here(&self) {
        lock(&self.published).at = Instant::now();
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

/// 100 ms, doubling up to 30 s.
fn back_off(failures: u32) -> Duration {
    Duration::from_millis(100 << failures.min(9)).min(Duration::from_secs(30))
}
