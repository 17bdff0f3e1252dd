//! What a flow does besides copying: its duties, and the one loop that runs each of them.
//!
//! ```text
//!               ┌─ config_sync   every config_sync.interval   the target's topics like the source's; the view
//!  Assignment ──┼─ group_sync    every offset_sync.interval   groups, checkpoints, upkeep of the offset map
//!  (who leads)  ├─ heartbeats    every heartbeats.interval    written on the target, watched end to end
//!               └─ lag           every second                 source ends → lag, gauges
//!                    │
//!                    ╰──▶ Told<Report>: what each has found, in a channel of its own
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::context::FlowContext;
use crate::copy::assignment::Assignment;
use crate::error::{Error, Result};

use supervision::{Part, Parts, panicked};

pub mod config_sync;
pub mod group_sync;
pub mod heartbeats;
pub mod lag;
pub mod supervision;

/// Longest pause between passes after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Something a flow does over and over besides copying.
pub trait Duty: Send + 'static {
    /// What a pass has found.
    type Report: Send + Sync + 'static;
    /// Which part of the flow it is.
    const PART: Part;

    /// How long after the beginning of the last pass the next one begins.
    fn interval(&self) -> Duration;

    /// What asks for a pass before its time.
    fn bell(_: &FlowContext) -> Option<&Notify> {
        None
    }

    /// One pass, on a thread that may wait. What needs to lead the flow asks `assignment` for it.
    ///
    /// # Errors
    /// The pass came to nothing: the next one comes later.
    fn pass(&mut self, flow: &FlowContext, assignment: &Assignment) -> Result<Self::Report>;
}

/// What a duty has told: its last report stays while passes fail.
#[derive(Debug)]
pub struct Told<R> {
    /// What the last pass that came to something has found, and when it had.
    pub report: Option<(R, Instant)>,
    /// Why the last pass came to nothing.
    pub trouble: Option<Error>,
}

impl<R> Default for Told<R> {
    fn default() -> Self {
        Self {
            report: None,
            trouble: None,
        }
    }
}

/// Runs a duty until the flow drains. A pass comes at its time, when its bell rings, and when leading begins or ends.
///
/// # Errors
/// A pass panicked.
pub async fn run<D: Duty>(
    mut duty: D,
    flow: Arc<FlowContext>,
    mut assignment: watch::Receiver<Assignment>,
    told: Arc<watch::Sender<Told<D::Report>>>,
    parts: Parts,
    drain: CancellationToken,
) -> Result<()> {
    let mut failures = 0u32;
    loop {
        let begun = Instant::now();
        let now = assignment.borrow_and_update().clone();
        let stands = (now.joined, now.lead().is_some());
        let busy = parts.busy(D::PART);
        let call = {
            let flow = flow.clone();
            move || {
                let outcome = duty.pass(&flow, &now);
                (duty, outcome)
            }
        };
        let (back, outcome) = tokio::task::spawn_blocking(call).await.map_err(panicked)?;
        drop(busy);
        duty = back;
        let mut pause = duty.interval();
        match outcome {
            Ok(report) => {
                failures = 0;
                told.send_replace(Told {
                    report: Some((report, Instant::now())),
                    trouble: None,
                });
            }
            Err(error) => {
                failures += 1;
                pause = back_off(pause, failures);
                warn!(part = %D::PART, %error, advice = error.code.page().advice, retry_in = ?pause, "a pass has failed");
                told.send_modify(|told| told.trouble = Some(error));
            }
        }
        let bell = async {
            match D::bell(&flow) {
                Some(bell) => bell.notified().await,
                None => std::future::pending().await,
            }
        };
        let moved = async {
            let changed = assignment.wait_for(|it| (it.joined, it.lead().is_some()) != stands);
            // Ownership outlives every duty.
            if changed.await.is_err() {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = drain.cancelled() => return Ok(()),
            () = tokio::time::sleep((begun + pause).saturating_duration_since(Instant::now())) => {}
            () = bell => {}
            () = moved => {}
        }
    }
}

/// The interval, doubled by each failure after the first, up to 30 s or the interval if that is longer.
fn back_off(interval: Duration, failures: u32) -> Duration {
    (interval * 2u32.saturating_pow(failures.min(4) - 1)).min(LONGEST_PAUSE.max(interval))
}
