//! The thread of one task: one session after another until it drains or is given up, with back-off between them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::seat::{Published, Seat, task_status};
use super::session::Session;
use crate::context::FlowContext;
use crate::error::{Code, Error, Rank, Remedy, Result, panic_text};
use crate::status::{STALE, TaskState, TaskStatus};

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// Everything taken was committed.
    Drained,
    /// Somebody else owns the slot: how that was found.
    GivenUp(Error),
}

/// A task that runs or has ended, as everybody sees it who holds this.
#[derive(Clone, Debug)]
pub struct TaskHandle {
    drain: CancellationToken,
    published: Arc<Mutex<Published>>,
    end: Arc<OnceLock<Result<TaskEnd>>>,
    /// Cancelled once `end` is there.
    ended: CancellationToken,
}

impl TaskHandle {
    /// Starts the thread of task `task`, which drains when it is asked to, or when `drain` asks the whole flow.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn start(flow: Arc<FlowContext>, task: u32, drain: &CancellationToken) -> Result<Self> {
        let handle = Self {
            drain: drain.child_token(),
            published: Arc::new(Mutex::new(Published {
                status: task_status(task, TaskState::Starting, None),
                at: Instant::now(),
            })),
            end: Arc::default(),
            ended: CancellationToken::new(),
        };
        std::thread::Builder::new()
            .name(format!("task-{task}"))
            .spawn({
                let handle = handle.clone();
                move || {
                    let seat = Seat::new(flow, task, handle.drain.clone(), handle.published.clone());
                    let end = catch_unwind(AssertUnwindSafe(|| run(seat)));
                    let end = end.map_err(|panic| Error::new(Code::Panicked, panic_text(panic.as_ref())));
                    // This thread alone sets it, and once.
                    let _ = handle.end.set(end);
                    handle.ended.cancel();
                }
            })
            .map_err(|error| Error::new(Code::NoThread, format!("task {task}: {error}")))?;
        Ok(handle)
    }

    /// Asks the task to finish what it has taken and to end.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// How the task has ended, or that it panicked; `None`: it runs.
    pub fn end(&self) -> Option<&Result<TaskEnd>> {
        self.end.get()
    }

    /// Waits until the task has ended.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// What the task last said about itself. One that says nothing any more has failed.
    pub fn status(&self, now: Instant) -> TaskStatus {
        let published = self.published.lock();
        let mut status = published.status.clone();
        let age = now.saturating_duration_since(published.at);
        status.seconds_since_published = Some(age.as_secs_f64());
        if STALE < age {
            let last = std::mem::replace(&mut status.state, TaskState::Failed);
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

fn run(mut seat: Seat) -> TaskEnd {
    let span = tracing::info_span!("task", topology = %seat.flow.spec.id.topology, flow = %seat.flow.spec.id, task = seat.task);
    let _in_span = span.enter();
    loop {
        seat.set_state(TaskState::Starting, None);
        let end = match Session::open(&mut seat) {
            Ok(Some(session)) => session.run(),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        let error = match end {
            Ok(()) => {
                info!("task drained");
                seat.set_state(TaskState::Stopped, None);
                return TaskEnd::Drained;
            }
            Err(error) => error,
        };
        seat.metrics.restart(error.code);
        if error.code.page().remedy == Remedy::GiveUpTask {
            warn!(%error, "task given up");
            seat.set_state(TaskState::Stopped, Some(&error));
            return TaskEnd::GivenUp(error);
        }
        if seat.drain.is_cancelled() {
            warn!(%error, "task ends without a last commit; what it had in flight is copied again");
            seat.set_state(TaskState::Stopped, Some(&error));
            return TaskEnd::Drained;
        }
        // What is held now does not fail again; everything else fails ever more slowly.
        let pause = back_off(seat.failures);
        if error.code.rank() != Rank::Partition {
            seat.failures += 1;
        }
        warn!(%error, advice = error.code.page().advice, retry_in = ?pause, "task starts again");
        seat.set_state(TaskState::BackingOff, Some(&error));
        let until = Instant::now() + pause;
        while Instant::now() < until && !seat.drain.is_cancelled() {
            seat.still_here();
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

/// 100 ms, doubling up to 30 s.
fn back_off(failures: u32) -> Duration {
    Duration::from_millis(100 << failures.min(9)).min(Duration::from_secs(30))
}
