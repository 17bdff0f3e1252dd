//! Flows in tests: topologies of one flow, daemons that run it, and checks of what arrived.

use std::time::Duration;

use causeway::kafka::ClusterAlias;
use causeway::kafka::client::{ClusterConnection, Properties};
use serde_json::Value;

use super::daemon::{Daemon, DaemonOptions, clusters_yaml, sasl_clusters_yaml};
use super::oracle::{self, Digest, Isolation, OracleRecord};
use super::{Cluster, ClusterOptions, Pair, Resource, pair, wait_until};

/// What copying a little takes on a busy machine, the start of the daemon included.
pub const SOON: Duration = Duration::from_secs(60);

/// A topology with one flow that keeps names, `extra` lines being added under `replication:`.
pub fn topology(name: &str, topics: &[&str], extra: &str) -> String {
    let include = topics.join(", ");
    format!(
        "name: {name}\npattern: active-standby\nactive: seoul\nstandby: busan\nreplication:\n  topics: {{ include: [{include}] }}\n  replication_policy: identity\n{extra}"
    )
}

/// A daemon that copies from `source` to `target`.
pub fn daemon_between(source: &Cluster, target: &Cluster, topology: String) -> Daemon {
    let clusters = clusters_yaml(&[("seoul", &source.bootstrap()), ("busan", &target.bootstrap())]);
    Daemon::start(DaemonOptions::new(clusters, topology))
}

/// A daemon on the shared clusters.
pub fn daemon(topology: String) -> Daemon {
    let Pair { source, target } = pair();
    daemon_between(source, target, topology)
}

/// Waits until the daemon says that it has copied `topic` up to where the source ends now.
pub fn wait_until_copied(daemon: &Daemon, source: &Cluster, topic: &str, timeout: Duration) {
    let ends = oracle::end_offsets(&source.bootstrap(), topic, Isolation::ReadCommitted);
    daemon.wait_for(&format!("{topic} is copied up to {ends:?}"), timeout, |status| {
        ends.iter().enumerate().all(|(partition, end)| {
            partitions(status).any(|it| {
                it["topic"] == topic
                    && it["partition"] == partition
                    && it["next_source_offset"].as_i64().is_some_and(|next| *end <= next)
            })
        })
    });
}

/// Every partition in a status, over all flows and tasks.
pub fn partitions(status: &Value) -> impl Iterator<Item = &Value> {
    fn list(value: &Value) -> impl Iterator<Item = &Value> {
        value.as_array().into_iter().flatten()
    }
    let flows = list(&status["flows"]);
    flows
        .flat_map(move |flow| list(&flow["tasks"]))
        .flat_map(move |task| list(&task["partitions"]))
}

/// What a record is, without its place.
fn content(record: &OracleRecord) -> impl PartialEq + std::fmt::Debug + '_ {
    (
        record.partition,
        record.timestamp,
        &record.key,
        &record.value,
        &record.headers,
    )
}

/// The independent check: both sides, read committed, hold the same records in the same order.
pub fn assert_same(source: &Cluster, target: &Cluster, topic: &str, remote: &str) -> usize {
    let from = oracle::dump(&source.bootstrap(), topic, Isolation::ReadCommitted);
    let to = oracle::dump(&target.bootstrap(), remote, Isolation::ReadCommitted);
    for partition in 0..from.iter().map(|it| it.partition + 1).max().unwrap_or(0) {
        let of = |records: &'_ [OracleRecord]| -> Vec<OracleRecord> {
            records
                .iter()
                .filter(|it| it.partition == partition)
                .cloned()
                .collect()
        };
        let (from, to) = (of(&from), of(&to));
        for (a, b) in from.iter().zip(&to) {
            assert_eq!(
                content(a),
                content(b),
                "{topic}-{partition}: source {a:?}, target {b:?}"
            );
        }
        assert_eq!(from.len(), to.len(), "{topic}-{partition}: number of records");
    }
    from.len()
}

/// As [`assert_same`] for topics too large to compare record by record: per partition the same records in the
/// same order, and no key twice.
pub fn assert_same_digest(source: &Cluster, target: &Cluster, topic: &str) -> u64 {
    let digest = |cluster: &Cluster| oracle::digest(&cluster.bootstrap(), topic, Isolation::ReadCommitted);
    let (from, to) = (digest(source), digest(target));
    let content = |digest: &Digest| -> Vec<(i32, u64, String)> {
        let partitions = digest.partitions.iter();
        partitions
            .map(|it| (it.partition, it.records, it.sha256.clone()))
            .collect()
    };
    assert_eq!(content(&from), content(&to), "{topic}: partition, records, hash");
    assert_eq!(
        from.distinct_keys, from.records,
        "{topic}: the source itself has a key twice"
    );
    to.records
}

/// One partition in a status.
pub fn partition<'a>(status: &'a Value, topic: &str, number: i32) -> Option<&'a Value> {
    partitions(status).find(|it| it["topic"] == topic && it["partition"] == number)
}

/// Whether the status says of a partition that it is in `state` for a reason that contains `reason`.
pub fn is_stopped_for(status: &Value, topic: &str, number: i32, state: &str, reason: &str) -> bool {
    partition(status, topic, number).is_some_and(|it| {
        it["state"] == state && it["reason"].as_str().is_some_and(|text| text.contains(reason))
    })
}

/// Waits until a reader of the target sees `topic` end where `end` says.
pub fn wait_for_target_records(target: &Cluster, topic: &str, records: usize) {
    wait_until(
        &format!("{records} records in {topic} on the target"),
        SOON,
        || {
            oracle::try_describe_topic(&target.bootstrap(), topic).is_ok()
                && oracle::dump(&target.bootstrap(), topic, Isolation::ReadCommitted).len() >= records
        },
    );
}

/// Sum of the stored positions.
pub fn copied(status: &Value) -> i64 {
    partitions(status)
        .filter_map(|it| it["next_source_offset"].as_i64())
        .sum()
}

/// Records written more than once, over all partitions.
pub fn replayed(status: &Value) -> u64 {
    partitions(status)
        .filter_map(|it| it["replayed_records"].as_u64())
        .sum()
}

/// Waits until the daemon stores a position it did not have before.
pub fn wait_for_progress(daemon: &Daemon, since: i64) -> i64 {
    let mut now = since;
    daemon.wait_for("progress", SOON, |status| {
        now = copied(status);
        since < now
    });
    now
}

/// A daemon that logs in to the target only.
pub fn daemon_with_password(source: &Cluster, target: &Cluster, topology: String) -> Daemon {
    let source = clusters_yaml(&[("seoul", &source.bootstrap())]);
    let target = sasl_clusters_yaml(&[("busan", target)]).replacen("clusters:\n", "", 1);
    Daemon::start(DaemonOptions::new(format!("{source}{target}"), topology))
}

/// A cluster on which causeway may do what docs/access-rights.md asks for, but write no copied topic; those begin
/// with `prefix`.
pub fn guarded(prefix: &str) -> Cluster {
    let cluster = ClusterOptions::new("guarded").acls().start();
    for (kind, operations) in [
        (
            "Topic",
            &["Create", "Read", "Write", "Describe", "DescribeConfigs"][..],
        ),
        ("Group", &["Read", "Describe"]),
        ("TransactionalId", &["Write", "Describe"]),
    ] {
        cluster.grant(&Resource::prefixed(kind, "causeway."), operations);
    }
    let copied = ["Describe", "Create", "Alter", "DescribeConfigs", "AlterConfigs"];
    cluster.grant(&Resource::prefixed("Topic", prefix), &copied);
    cluster.grant(&Resource::topic("heartbeats"), &["Create", "Write", "Describe"]);
    cluster
}

/// How to reach a cluster of the harness.
pub fn connection(alias: &str, cluster: &Cluster) -> ClusterConnection {
    ClusterConnection {
        alias: ClusterAlias::new(alias),
        bootstrap_servers: cluster.bootstrap(),
        security: Properties::new(),
        client: Properties::new(),
        consumer: Properties::new(),
        producer: Properties::new(),
    }
}
