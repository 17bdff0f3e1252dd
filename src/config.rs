//! `config/`: how to connect. Text → checked values; every problem at once, nothing contacted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::kafka::ClusterAlias;
use crate::kafka::client::ClusterConnection;

/// A checked configuration: how to reach each cluster, and how this process behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Every cluster by its alias.
    pub clusters: BTreeMap<ClusterAlias, ClusterConnection>,
    /// Where the HTTP interface listens. Default `127.0.0.1:8083`.
    pub listen: SocketAddr,
    /// The name of this daemon in its consumer groups (static membership). Default: the host name.
    pub instance: String,
    /// Bytes that all tasks of this process together may hold, fetched and not yet acknowledged.
    pub memory_budget: u64,
    /// How long a stop may take before tasks are abandoned. Default 10 s.
    pub drain_timeout: Duration,
}
