//! Keeps the parts of a flow running. One that ends before the flow drains, by an error or a panic, is said, counted
//! and started again, ever more rarely; while it is away the flow has failed.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error};

use crate::error::{Code, Error, Result, panic_text};
use crate::metrics::FlowMetrics;
use crate::status::{PartState, PartStatus};

/// What runs beside the tasks of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Membership of the group, and the tasks that it gives us.
    Ownership,
    /// The config syncer.
    ConfigSync,
    /// The positions of groups and the upkeep of the offset map.
    Groups,
    /// Heartbeats.
    Heartbeats,
    /// Source ends, lag and gauges.
    Lag,
}

impl Part {
    /// Every part, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Ownership,
        Self::ConfigSync,
        Self::Groups,
        Self::Heartbeats,
        Self::Lag,
    ];

    /// As in status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Part::Ownership => "ownership",
            Part::ConfigSync => "config_sync",
            Part::Groups => "groups",
            Part::Heartbeats => "heartbeats",
            // `lag` is a word of its own in the status.
            Part::Lag => "watch",
        }
    }

    /// How long it may be at one thing: longer than all time-outs of that together.
    fn patience(self) -> Duration {
        Duration::from_secs(match self {
            Part::Ownership | Part::Heartbeats | Part::Lag => 30,
            Part::ConfigSync => 120,
            // Reads the whole offset map at first, and asks about groups with the longest patience of all.
            Part::Groups => 300,
        })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the parts of a flow are, each in a channel of its own.
#[derive(Clone, Debug, Default)]
pub struct Parts(Arc<[watch::Sender<PartHealth>; Part::ALL.len()]>);

impl Parts {
    fn of(&self, part: Part) -> &watch::Sender<PartHealth> {
        &self.0[part as usize]
    }

    /// Says that a part is at work until that is dropped.
    pub fn busy(&self, part: Part) -> Busy<'_> {
        let health = self.of(part);
        health.send_modify(|it| it.busy = Some(Instant::now()));
        Busy(health)
    }

    /// How each part that was ever started is.
    pub fn status(&self, now: Instant) -> Vec<PartStatus> {
        let started = Part::ALL.iter().filter(|part| self.of(**part).borrow().started);
        started
            .map(|part| self.of(*part).borrow().status(*part, now))
            .collect()
    }

    /// Names the parts that have not ended. Lag goes on until the others have.
    pub fn unfinished(&self) -> Vec<&'static str> {
        let is_late = |part: &&Part| {
            let health = self.of(**part).borrow();
            **part != Part::Lag && health.started && !health.ended
        };
        Part::ALL.iter().filter(is_late).map(|part| part.name()).collect()
    }

    /// Whether a part panicked at any time.
    pub fn has_panicked(&self) -> bool {
        self.0.iter().any(|it| it.borrow().panicked)
    }
}

/// How one part is.
#[derive(Debug, Default)]
struct PartHealth {
    started: bool,
    /// It is away, or was; why.
    trouble: Option<Error>,
    away: bool,
    failures: u64,
    panicked: bool,
    /// Since when it has been at what it does now.
    busy: Option<Instant>,
    ended: bool,
}

impl PartHealth {
    fn status(&self, part: Part, now: Instant) -> PartStatus {
        let busy = self.busy.map(|since| now.saturating_duration_since(since));
        let hangs = busy.filter(|busy| part.patience() < *busy);
        let said = self.trouble.as_ref().map(Error::with_advice);
        PartStatus {
            part: part.name().into(),
            state: match self.away || hangs.is_some() {
                true => PartState::Failed,
                false => PartState::Running,
            },
            reason: match hangs {
                Some(busy) => Some(format!("it has not come back for {} s", busy.as_secs())),
                None => said,
            },
            seconds_busy: busy.map(|busy| busy.as_secs_f64()),
            failures: self.failures,
        }
    }
}

/// See [`Parts::busy`].
pub struct Busy<'a>(&'a watch::Sender<PartHealth>);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|it| it.busy = None);
    }
}

/// How often something has failed in a row, and so how long it waits. Pure.
#[derive(Debug, Default)]
pub struct Restarts {
    failures: u32,
    started: Option<Instant>,
}

/// How long the group keeps the seat of a member that left: its session, and a little.
const SEAT: Duration = Duration::from_secs(8);
/// What ran for so long had recovered.
const STEADY: Duration = Duration::from_secs(60);

impl Restarts {
    /// It starts now.
    pub fn start(&mut self, now: Instant) {
        self.started = Some(now);
    }

    /// It failed now: how long until it may start again. 1 s, doubling up to 30 s.
    pub fn fail(&mut self, now: Instant) -> Duration {
        if self
            .started
            .is_some_and(|at| STEADY <= now.saturating_duration_since(at))
        {
            self.failures = 0;
        }
        let pause = Duration::from_secs(1 << self.failures.min(5));
        self.failures += 1;
        pause.min(Duration::from_secs(30))
    }
}

/// Runs one part of a flow, again and again, until the flow drains and it has ended. Dropping this ends the part.
pub async fn keep<F>(
    part: Part,
    parts: &Parts,
    metrics: &FlowMetrics,
    drain: &CancellationToken,
    run: impl Fn() -> F,
) where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let health = parts.of(part);
    let mut restarts = Restarts::default();
    loop {
        restarts.start(Instant::now());
        health.send_modify(|it| (it.started, it.away) = (true, false));
        // As a task of its own, so that a panic ends nothing else.
        let mut running = JoinSet::new();
        running.spawn(run().in_current_span());
        let error = match running.join_next().await {
            Some(Ok(Ok(()))) | None if drain.is_cancelled() => break,
            Some(Ok(Ok(()))) | None => Error::new(Code::Panicked, "it ended although nobody asked it to"),
            Some(Ok(Err(error))) => error,
            Some(Err(panic)) => panicked(panic),
        };
        metrics.part_failed(part.name());
        let mut pause = restarts.fail(Instant::now());
        if error.code == Code::TasksUnassigned {
            // A member that comes back to its seat gets what it had, which is nothing: the seat has to go first.
            pause = pause.max(SEAT);
        }
        error!(%part, %error, advice = error.code.page().advice, retry_in = ?pause, "a part of the flow failed");
        health.send_modify(|it| {
            it.panicked |= error.code == Code::Panicked;
            it.trouble = Some(error);
            it.away = true;
            it.busy = None;
            it.failures += 1;
        });
        tokio::select! {
            () = drain.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    health.send_modify(|it| it.ended = true);
}

/// Runs a blocking call of a client away from the runtime's threads.
///
/// # Errors
/// What the call says, or that it panicked.
pub async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(e) => Err(panicked(e)),
    }
}

/// What a task of the runtime said when it panicked.
pub fn panicked(error: JoinError) -> Error {
    let text = match error.try_into_panic() {
        Ok(panic) => panic_text(panic.as_ref()),
        Err(cancelled) => cancelled.to_string(),
    };
    Error::new(Code::Panicked, text)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::runtime::Builder;

    use super::*;
    use crate::kafka::ClusterAlias;
    use crate::topology::FlowId;

    fn flow() -> FlowId {
        FlowId {
            topology: "korea-dr".into(),
            source: ClusterAlias::new("seoul"),
            target: ClusterAlias::new("busan"),
        }
    }

    #[test]
    fn a_part_that_panics_is_failed_until_it_has_been_started_again_and_the_reason_stays() {
        let (parts, drain) = (Parts::default(), CancellationToken::new());
        let metrics = FlowMetrics::new(&flow());
        let starts = AtomicU32::new(0);
        let part = Part::Heartbeats;
        let run = || {
            let (first, drain) = (starts.fetch_add(1, Ordering::Relaxed) == 0, drain.clone());
            async move {
                assert!(!first, "the clock is wrong");
                drain.cancelled().await;
                Ok(())
            }
        };
        let kept = keep(part, &parts, &metrics, &drain, run);
        let until = async |wanted: PartState, started: u32| loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let reached = |it: &PartStatus| it.state == wanted && starts.load(Ordering::Relaxed) == started;
            if let Some(status) = parts.status(Instant::now()).into_iter().find(reached) {
                return status;
            }
        };
        let watched = async {
            for (state, started) in [(PartState::Failed, 1), (PartState::Running, 2)] {
                let status = until(state, started).await;
                assert_eq!(
                    (status.part.as_str(), status.failures),
                    ("heartbeats", 1),
                    "{state}"
                );
                let reason = status.reason.unwrap_or_default();
                assert!(
                    reason.contains("L901") && reason.contains("the clock is wrong"),
                    "{state}: {reason}"
                );
            }
            assert!(parts.has_panicked(), "whoever runs the flow is told");
            assert_eq!(parts.unfinished(), ["heartbeats"]);
            drain.cancel();
        };
        let time_out = Duration::from_secs(30);
        let both = async { tokio::time::timeout(time_out, async { tokio::join!(kept, watched) }).await };
        let runtime = Builder::new_current_thread().enable_time().build();
        let ended = runtime.expect("a runtime").block_on(both);
        ended.expect("it starts again, and ends when it is asked to");
        assert!(parts.unfinished().is_empty());
    }

    #[test]
    fn what_fails_again_and_again_is_started_ever_more_rarely_until_it_has_run_for_a_while() {
        let (mut restarts, mut now) = (Restarts::default(), Instant::now());
        let mut pauses = vec![];
        for _ in 0..7 {
            restarts.start(now);
            let pause = restarts.fail(now);
            pauses.push(pause.as_secs());
            now += pause;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        restarts.start(now);
        assert_eq!(restarts.fail(now + STEADY), Duration::from_secs(1));
    }
}
