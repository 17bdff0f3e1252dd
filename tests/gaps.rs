//! The gap guard: what can no longer be copied is declared, in numbers that hold, and nothing else is.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};

use crate::harness::oracle::{self, Isolation};
use crate::harness::{Cluster, Pair, load, pair, unique};
use crate::replication::{SOON, daemon, partition, topology, wait_until_copied};

const COMMITTED: Isolation = Isolation::ReadCommitted;

/// The gaps that the audit trail tells of one partition.
fn audited(target: &Cluster, topology: &str, topic: &str, number: i32) -> Vec<(i64, i64)> {
    let trail = format!("causeway.{topology}.failover.internal");
    let records = oracle::dump(&target.bootstrap(), &trail, COMMITTED);
    let values = records.iter().filter_map(|it| it.value.as_deref());
    let told = values.flat_map(|value| -> Vec<Value> {
        let value: Value = serde_json::from_slice(value).expect("JSON");
        value["gaps"].as_array().cloned().unwrap_or_default()
    });
    told.filter(|gap| gap["topic"] == topic && gap["partition"] == number)
        .map(|gap| {
            let offset = |key: &str| gap[key].as_i64().expect("an offset");
            (offset("from"), offset("to"))
        })
        .collect()
}

/// Versions before the limit listed every gap with every commit, until no commit fitted any more.
#[test]
fn a_flow_that_stands_because_of_its_many_gaps_goes_on_and_the_audit_trail_has_all_of_them() {
    let Pair { source, target } = pair();
    let topic = unique("many-gaps");
    source.create_topic(&topic, 1, &[]);
    load::fill(&source.bootstrap(), &topic, 1, 100, 10, "none");
    let mut daemon = daemon(topology(&topic, &[&topic], "  tasks: 1\n  on_gap: continue\n"));
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0);

    let progress = format!("causeway.{topic}.seoul.progress.internal");
    let records = oracle::dump(&target.bootstrap(), &progress, COMMITTED);
    let key = json!({ "topic": topic, "partition": 0 }).to_string();
    let parsed = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).expect("JSON") };
    let ours = |key: &[u8]| parsed(key)["topic"] == *topic;
    let stored = records
        .iter()
        .rfind(|it| ours(it.key.as_deref().unwrap_or_default()));
    let mut stored = parsed(stored.and_then(|it| it.value.as_deref()).expect("it was copied"));
    let old: Vec<(i64, i64)> = (0..64_000)
        .map(|n| (-1_000_000 + 10 * n, -999_997 + 10 * n))
        .collect();
    let gap = |(from, to): &(i64, i64)| json!({ "from": from, "to": to, "reason": "source_out_of_range" });
    stored["gaps"] = old.iter().map(gap).collect();
    let large: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", target.bootstrap())
        .set("message.max.bytes", "10000000")
        .set("compression.type", "zstd")
        .create()
        .expect("these settings are right");
    let stored = stored.to_string();
    let record = BaseRecord::to(&progress).partition(0).key(&key).payload(&stored);
    large
        .send(record)
        .map_err(|(e, _)| e)
        .expect("the queue has room");
    large.flush(SOON).expect("the target takes it");

    load::fill(&source.bootstrap(), &topic, 1, 100, 10, "none");
    oracle::delete_records(&source.bootstrap(), &topic, 0, 150);
    daemon.restart();
    wait_until_copied(&daemon, source, &topic, SOON);
    daemon.wait_for("the newest are listed, the others are counted", SOON, |status| {
        partition(status, &topic, 0).is_some_and(|it| {
            let gaps = it["gaps"].as_array().map_or(&[][..], Vec::as_slice);
            gaps.len() == 17
                && gaps[0] == "63985 older gaps, 191955 offsets"
                && gaps[16] == "[100, 150) source_out_of_range"
        })
    });
    let all: Vec<_> = old.into_iter().chain([(100, 150)]).collect();
    assert!(
        audited(target, &topic, &topic, 0) == all,
        "every gap is in the audit trail once, in order"
    );
    let records = oracle::dump(&target.bootstrap(), &progress, COMMITTED);
    let newest = records
        .iter()
        .rfind(|it| ours(it.key.as_deref().unwrap_or_default()));
    let size = newest.and_then(|it| it.value.as_deref()).map_or(0, <[u8]>::len);
    assert!(size < 3_000, "what is stored is small again: {size} bytes");
}
