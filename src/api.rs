//! The HTTP interface: `/live`, `/ready`, `/metrics` and `/status`. Reads the status snapshot, changes nothing.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::status::{DaemonStatus, FlowState};
use crate::supervisor::StatusFn;

/// How often recorded samples are folded while nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);
/// How long [`ApiServer::stop`] waits for requests under way.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// The port, taken but not answering yet.
pub struct ApiListener {
    address: SocketAddr,
    listener: TcpListener,
}

/// A running HTTP server. [`ApiServer::stop`] ends it.
pub struct ApiServer {
    address: SocketAddr,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

/// Takes the address (port 0 takes a free one). Do this before anything starts: a port in use mostly means
/// that this daemon runs already, and a second one would take its tasks away.
///
/// # Errors
/// The address cannot be bound; the text names it.
pub async fn bind(listen: SocketAddr) -> io::Result<ApiListener> {
    let cannot = |error: io::Error| {
        let text = format!("cannot listen on {listen}: {error}; is causeway running already? See api.listen");
        io::Error::new(error.kind(), text)
    };
    let listener = TcpListener::bind(listen).await.map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    Ok(ApiListener { address, listener })
}

impl ApiListener {
    /// Answers until stopped. Needs a tokio runtime.
    pub fn serve(self, metrics: Metrics, status: StatusFn) -> ApiServer {
        let Self { address, listener } = self;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let app = router(metrics.clone(), status);
        let server = tokio::spawn(async move {
            let upkeep = async {
                let mut tick = tokio::time::interval(UPKEEP);
                loop {
                    tick.tick().await;
                    metrics.run_upkeep();
                }
            };
            tokio::select! {
                result = axum::serve(listener, app).with_graceful_shutdown(stopped.cancelled_owned()) => {
                    if let Err(error) = result {
                        tracing::error!(%address, %error, "the HTTP interface stopped");
                    }
                }
                () = upkeep => {}
            }
        });
        ApiServer {
            address,
            stop,
            server,
        }
    }
}

impl ApiServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests under way, for a second at most, and closes the port.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(STOP_PATIENCE, &mut self.server)
            .await
            .is_err()
        {
            self.server.abort();
            // Only says that it was aborted.
            let _ = self.server.await;
        }
    }
}

fn router(metrics: Metrics, status: StatusFn) -> Router {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route(
            "/status",
            get(|State(status): State<StatusFn>| async move { Json(status()) }),
        )
        .with_state(status)
        .route(
            "/metrics",
            get(move || async move {
                let text = "text/plain; version=0.0.4; charset=utf-8";
                ([(header::CONTENT_TYPE, text)], metrics.render())
            }),
        )
}

async fn ready(State(status): State<StatusFn>) -> impl IntoResponse {
    let reasons = not_ready(&status());
    if reasons.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
    }
}

/// Why the daemon is not ready, one line each; nothing when it is.
fn not_ready(status: &DaemonStatus) -> Vec<String> {
    let draining = status.draining.then(|| "draining".to_owned());
    let flows = status
        .flows
        .iter()
        .filter(|flow| !matches!(flow.state, FlowState::Running | FlowState::Standby))
        .map(|flow| {
            let reason = flow.reason.as_deref().unwrap_or("no reason given");
            format!("{} {} is {}: {reason}", flow.topology, flow.flow, flow.state)
        });
    draining.into_iter().chain(flows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::FlowStatus;
    use std::sync::Arc;

    fn status(states: &[(FlowState, Option<&str>)], draining: bool) -> DaemonStatus {
        let flow = |(state, reason): &(FlowState, Option<&str>)| FlowStatus {
            topology: "korea-dr".into(),
            flow: "seoul->busan".into(),
            delivery: "exactly_once".into(),
            state: *state,
            reason: reason.map(str::to_owned),
            tasks_total: Some(4),
            lag_records: None,
            lag_seconds: None,
            uncommitted_records: None,
            open_transaction_seconds: None,
            groups: None,
            config_sync: None,
            heartbeats: None,
            parts: Vec::new(),
            tasks: Vec::new(),
        };
        DaemonStatus {
            instance: "test".into(),
            version: "0".into(),
            uptime_seconds: 1,
            draining,
            flows: states.iter().map(flow).collect(),
        }
    }

    async fn get(address: SocketAddr, path: &'static str) -> (u16, String) {
        let call = move || {
            let agent: ureq::Agent = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .timeout_global(Some(Duration::from_secs(10)))
                .build()
                .into();
            let mut answer = agent
                .get(format!("http://{address}{path}"))
                .call()
                .expect("the server answers");
            let text = answer.body_mut().read_to_string().expect("text");
            (answer.status().as_u16(), text)
        };
        tokio::task::spawn_blocking(call).await.expect("no panic")
    }

    async fn server(status: DaemonStatus) -> ApiServer {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = bind(listen).await.expect("a free port");
        listener.serve(crate::metrics::install(), Arc::new(move || status.clone()))
    }

    #[tokio::test]
    async fn ready_says_yes_while_every_flow_runs_or_stands_by() {
        let server = server(status(
            &[(FlowState::Running, None), (FlowState::Standby, None)],
            false,
        ))
        .await;
        assert_eq!(get(server.address(), "/ready").await, (200, "ready\n".into()));
        server.stop().await;
    }

    #[tokio::test]
    async fn ready_says_no_with_the_reason_of_each_flow_while_live_says_yes() {
        let server = server(status(
            &[(FlowState::Degraded, Some("T101 target_unreachable"))],
            true,
        ))
        .await;
        let expected = "draining\nkorea-dr seoul->busan is degraded: T101 target_unreachable\n";
        assert_eq!(get(server.address(), "/ready").await, (503, expected.into()));
        assert_eq!(get(server.address(), "/live").await.0, 200);
        server.stop().await;
    }

    #[tokio::test]
    async fn status_is_the_snapshot_and_unknown_lag_is_null() {
        let server = server(status(&[(FlowState::Running, None)], false)).await;
        let (code, body) = get(server.address(), "/status").await;
        assert_eq!(code, 200);
        assert!(body.contains(r#""lag_records":null"#), "{body}");
        let read: DaemonStatus = serde_json::from_str(&body).expect("the same type on both ends");
        assert_eq!(read.flows[0].flow, "seoul->busan");
        server.stop().await;
    }

    #[tokio::test]
    async fn metrics_are_served_as_prometheus_text() {
        let server = server(status(&[], false)).await;
        assert_eq!(get(server.address(), "/metrics").await.0, 200);
        server.stop().await;
    }

    #[tokio::test]
    async fn a_port_in_use_is_refused_with_its_address_and_free_again_after_stop() {
        let first = server(status(&[], false)).await;
        let address = first.address();
        let Err(error) = bind(address).await else {
            panic!("two servers on {address}")
        };
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        first.stop().await;
        bind(address).await.expect("the port is free again");
    }
}
