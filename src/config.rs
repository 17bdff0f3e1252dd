//! `config/`: how to connect. Text → checked values; every problem at once, nothing contacted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::kafka::ClusterAlias;
use crate::kafka::client::ClusterConnection;

mod cluster;
mod document;
pub(crate) mod keys;
pub(crate) mod pattern;
mod problem;
pub(crate) mod read;
pub(crate) mod schema;
pub(crate) mod shapes;
pub(crate) mod value;
pub(crate) mod yaml;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::mistakes;

use cluster::Cluster;
pub(crate) use cluster::takes_property;
pub(crate) use document::{KeyRow, json_schema, key_tables, write_table};
use keys::keys;
pub(crate) use problem::{At, Problems, closest, short, suggest};
pub use problem::{Problem, Severity};
use read::{Each, Named, Reader, Required, Section, Table};
use schema::Key;
use shapes::{Bytes, Milliseconds, Text};

keys! {
    /// A config file.
    struct ConfigFile {
        /// Every Kafka cluster, under the name that topologies use for it.
        clusters: Required<Each<ClusterAlias, Table<Cluster>>>,
        /// The HTTP interface: status, metrics, readiness.
        api: Table<Api>,
        /// Name of this daemon in its consumer groups (static membership); different for each daemon.
        /// Default: the host name.
        instance: Option<Text>,
        /// What all tasks of this process together may hold, fetched and not yet acknowledged.
        memory: Bytes<{ 16 << 20 }, { 1 << 40 }> = "256MiB",
        /// How long a stop may take before tasks are abandoned (exit code 3).
        drain_timeout: Milliseconds<1_000, 3_600_000> = "10s",
    }
}

keys! {
    /// `api:`
    struct Api {
        /// Address and port to listen on. There is no authentication: keep it on the loopback interface or
        /// behind a proxy.
        listen: SocketAddr = "127.0.0.1:8083",
    }
}

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

/// The text of a file, or a sentence about why there is none.
pub(crate) type ReadText<'a> = dyn Fn(&Path) -> Result<String, String> + 'a;

/// Reads a config file. The value is complete only when there are no problems; it is returned anyway, so
/// that the topologies can be checked against its clusters. `None` when not even its clusters are known.
///
/// `read` gives a file's text, or what is wrong with it.
pub(crate) fn load(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    read: &ReadText,
) -> (Option<Config>, Vec<Problem>) {
    let mut problems = Problems::new(path);
    let config = document(env, read, &mut problems).and_then(|file| build(file, env, &mut problems));
    (config, problems.into_vec())
}

/// The keys of a config file.
pub(crate) fn table() -> &'static [Key] {
    ConfigFile::keys()
}

/// Reads a file as the keys that it may hold.
pub(crate) fn document<T: Section>(
    env: &dyn Fn(&str) -> Option<String>,
    read: &ReadText,
    problems: &mut Problems,
) -> Option<T> {
    let text = read(problems.file())
        .map_err(|error| {
            problems.add(At::START, error);
        })
        .ok()?;
    let tree = yaml::parse(&text, problems)?;
    Reader { env, problems }.document(&tree)
}

fn build(file: ConfigFile, env: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) -> Option<Config> {
    let clusters = file.clusters.value?;
    if clusters.is_empty() {
        problems
            .add(file.clusters.spot.at, "`clusters` names no cluster")
            .hint = Some("every topology needs two".into());
    }
    let connect = |it: Named<Cluster>| {
        let alias = ClusterAlias::new(&it.name);
        let cluster = it.value.unwrap_or_else(|| Cluster::absent(it.at));
        (alias.clone(), cluster.connection(alias, problems))
    };
    Some(Config {
        clusters: clusters.into_iter().map(connect).collect(),
        listen: file.api.listen.value,
        instance: file.instance.value.or_else(|| host_name(env)).unwrap_or_else(|| {
            problems.add(At::START, "this machine has no host name").hint =
                Some("set `instance` to a name that no other daemon has".into());
            String::new()
        }),
        memory_budget: file.memory.value,
        drain_timeout: file.drain_timeout.value,
    })
}

fn host_name(env: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| env("HOSTNAME"))
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
}
