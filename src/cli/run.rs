//! `causeway run`: the life of the daemon.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::answer::{ExitCode, Outcome, failed};
use crate::api;
use crate::config::Config;
use crate::metrics;
use crate::supervisor::{DrainOutcome, Supervisor};
use crate::topology::FlowSpec;

/// Runs the flows until a signal, then drains them.
pub fn run(config: Config, flows: Vec<FlowSpec>) -> Outcome<()> {
    // Before anything that records is made.
    let metrics = metrics::install();
    // The control plane only waits; the data plane has its own threads.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| failed(format_args!("cannot start threads: {error}")))?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::new().map_err(failed)?;
        let listener = api::bind(config.listen).await.map_err(failed)?;
        announce(&config, &flows);

        let drain_timeout = config.drain_timeout;
        let supervisor = Supervisor::start(Arc::new(config), flows);
        let api = listener.serve(metrics, supervisor.status_fn());
        info!(address = %api.address(), "answering /live, /ready, /status and /metrics");

        let reason = signals.next().await;
        info!(
            reason,
            ?drain_timeout,
            "draining; a second signal gives up at once"
        );
        let patience = CancellationToken::new();
        let impatient = tokio::spawn({
            let patience = patience.clone();
            async move {
                let signal = signals.next().await;
                warn!(signal, "giving up the drain");
                patience.cancel();
            }
        });
        let outcome = supervisor.drain(patience).await;
        impatient.abort();
        // Last, so that /status answers until the end.
        api.stop().await;
        match outcome {
            DrainOutcome::Drained => {
                info!("drained");
                Ok(())
            }
            DrainOutcome::Panicked => {
                error!("drained, but a part of causeway had panicked: this is a bug, please report the log");
                Err(ExitCode::Failed)
            }
            DrainOutcome::Late(late) => {
                error!(
                    late = late.join(", "),
                    "not drained in time; it is safe to start again"
                );
                Err(ExitCode::DrainDeadline)
            }
        }
    });
    // A call to a cluster that does not answer must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_millis(500));
    outcome
}

fn announce(config: &Config, flows: &[FlowSpec]) {
    info!(
        version = env!("CARGO_PKG_VERSION"),
        instance = config.instance,
        memory_bytes = config.memory_budget,
        "causeway starts"
    );
    for (alias, cluster) in &config.clusters {
        info!(%alias, bootstrap_servers = cluster.bootstrap_servers, "cluster");
    }
    for flow in flows {
        info!(topology = flow.id.topology, "flow {flow}");
    }
}

/// What asks the daemon to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
