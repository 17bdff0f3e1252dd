//! How MM2 proves who it is → `security:` of a cluster. Secrets become variables.

use super::input::{Cluster, Sheet};
use super::write::Map;
use builder::Builder;

mod builder;
mod jaas;
mod java;
mod sasl;
mod strimzi;
mod tls;

/// Everything the cluster says about security; each of its keys gets a verdict.
///
/// `prefix` begins the names of its variables.
pub fn security(cluster: &Cluster, prefix: &str, sheet: &mut Sheet) -> Map {
    let mut builder = Builder::new(prefix, sheet);
    if cluster.strimzi.is_empty() {
        builder.java(&cluster.security);
    } else {
        builder.strimzi(&cluster.strimzi);
        let tls = cluster.strimzi.keys().any(|key| key.starts_with("tls"));
        builder.hostname(&cluster.security, tls);
        for (key, id) in &cluster.security {
            if !builder.sheet.is_marked(*id) {
                builder.other(key, *id);
            }
        }
    }
    builder.lines
}
