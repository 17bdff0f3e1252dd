//! What arrives on the target is what a committed reader of the source sees: every record once, unchanged,
//! in order.

use std::time::Duration;

use serde_json::Value;

use crate::harness::oracle::{self, Isolation, OracleRecord};
use crate::harness::{
    Cluster, Pair, daemon::Daemon, daemon::DaemonOptions, daemon::clusters_yaml, load, pair, unique,
};

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

#[test]
fn every_record_arrives_once_and_in_order() {
    let Pair { source, target } = pair();
    let topic = unique("orders");
    source.create_topic(&topic, 4, &[]);
    load::fill(&source.bootstrap(), &topic, 4, 20_000, 100, "lz4");
    let daemon = daemon(topology("once", &[&topic], ""));
    wait_until_copied(&daemon, source, &topic, Duration::from_secs(30));
    assert_eq!(assert_same(source, target, &topic, &topic), 20_000);
    load::fill(&source.bootstrap(), &topic, 4, 1_000, 100, "none");
    wait_until_copied(&daemon, source, &topic, Duration::from_secs(30));
    assert_eq!(assert_same(source, target, &topic, &topic), 21_000);
}
