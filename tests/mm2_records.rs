//! MM2's own classes and causeway understand each other's records, and its clients find their way on clusters
//! that causeway writes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use causeway::kafka::{ClusterAlias, NextOffset, Offset, Source, Target, TopicPartition};
use causeway::mm2::connect_offsets::{self, Position, PositionKey};
use causeway::mm2::{Checkpoint, Heartbeat, KeyValue, OffsetSync};

use serde_json::Value;

use crate::harness::daemon::{Daemon, DaemonOptions, clusters_yaml};
use crate::harness::mirror_maker::{MirrorMaker, MirrorMakerOptions};
use crate::harness::oracle::mm2::{self as java, MirrorClient, Record};
use crate::harness::oracle::{self, Isolation, NewRecord, OracleRecord};
use crate::harness::{Cluster, Pair, pair, unique, wait_for, wait_until};

fn checkpoint(group: &str, topic: &str, partition: i32, upstream: i64, downstream: i64) -> Checkpoint {
    Checkpoint {
        group: group.into(),
        topic_partition: TopicPartition::new(topic, partition),
        upstream: Source(NextOffset(upstream)),
        downstream: Target(NextOffset(downstream)),
        metadata: String::new(),
    }
}

fn sync(topic: &str, partition: i32, upstream: i64, downstream: i64) -> KeyValue {
    let sync = OffsetSync {
        topic_partition: TopicPartition::new(topic, partition),
        upstream: Source(Offset(upstream)),
        downstream: Target(Offset(downstream)),
    };
    sync.encode().expect("a short name")
}

/// Our bytes, and what MM2 must read in them.
fn examples() -> Vec<(KeyValue, Record)> {
    let mut examples = vec![];
    for (source, target, timestamp) in [("seoul", "busan", 1_700_000_000_000), ("", "é", i64::MIN)] {
        let ours = Heartbeat {
            source: source.into(),
            target: target.into(),
            timestamp,
        };
        let theirs = Record::Heartbeat {
            source: source.into(),
            target: target.into(),
            timestamp,
        };
        examples.push((ours.encode().expect("short"), theirs));
    }
    for (group, partition, upstream, downstream, metadata) in [
        ("app", 3, 1_234_567_890_123, 42, ""),
        ("그룹", 0, -1, i64::MAX, "{\"x\":\"é\"}"),
    ] {
        let ours = Checkpoint {
            metadata: metadata.into(),
            ..checkpoint(group, "seoul.orders", partition, upstream, downstream)
        };
        let theirs = Record::Checkpoint {
            group: group.into(),
            topic: "seoul.orders".into(),
            partition,
            upstream,
            downstream,
            metadata: metadata.into(),
        };
        examples.push((ours.encode().expect("short"), theirs));
    }
    for (partition, upstream, downstream) in [(0, 0, 0), (i32::MAX, i64::MAX, -1)] {
        let theirs = Record::OffsetSync {
            topic: "orders".into(),
            partition,
            upstream,
            downstream,
        };
        examples.push((sync("orders", partition, upstream, downstream), theirs));
    }
    examples
}

fn kind(record: &Record) -> &'static str {
    match record {
        Record::Heartbeat { .. } => "heartbeat",
        Record::Checkpoint { .. } => "checkpoint",
        Record::OffsetSync { .. } => "offset_sync",
    }
}

#[test]
fn mm2_reads_and_writes_the_same_bytes() {
    for (ours, theirs) in examples() {
        assert_eq!(java::decode(kind(&theirs), &ours).as_ref(), Ok(&theirs));
        let (key, value) = java::encode(&theirs);
        assert_eq!((&key, &value), (&ours.0, &ours.1), "{theirs:?}");
        let again = match theirs {
            Record::Heartbeat { .. } => Heartbeat::decode(&key, &value).and_then(|it| it.encode()),
            Record::Checkpoint { .. } => Checkpoint::decode(&key, &value).and_then(|it| it.encode()),
            Record::OffsetSync { .. } => OffsetSync::decode(&key, &value).and_then(|it| it.encode()),
        };
        assert_eq!(again, Some(ours));
    }
}

#[test]
fn mm2s_console_formatter_prints_our_checkpoint() {
    let record = checkpoint("app", "seoul.orders", 3, 7, 5)
        .encode()
        .expect("short");
    let text = java::format("checkpoint", &record);
    assert!(
        text.contains("consumerGroupId=app")
            && text.contains("seoul.orders-3")
            && text.contains("downstreamOffset=5"),
        "{text}"
    );
}

#[test]
fn positions_are_stored_as_connect_stores_them() {
    for (connector, cluster, topic, partition, offset) in [
        (connect_offsets::SOURCE_CONNECTOR, "primary", "orders", 3, 7),
        ("a->b.MirrorSourceConnector", "a", "t.x_y-z", 0, 0),
        ("\"quoted\\", "é", "t", i32::MAX, i64::MAX),
    ] {
        let theirs = java::connect_offset(connector, cluster, topic, partition, offset, 25);
        let key = PositionKey {
            connector: connector.into(),
            cluster: cluster.into(),
            topic_partition: TopicPartition::new(topic, partition),
        };
        let position = Position::Last(Source(Offset(offset)));
        let ours = (key.encode(), position.encode().expect("not a tombstone"));
        assert_eq!(ours, theirs.record, "{connector}");
        assert_eq!(connect_offsets::partition(&ours.0, 25), theirs.partition);
        assert_eq!(PositionKey::decode(&theirs.record.0), Some(key));
        assert_eq!(Position::decode(Some(&theirs.record.1)), Some(position));
    }
}

/// The vectors of MM2's own `OffsetSyncStoreTest.testOffsetTranslation` and of its sparse store, fed to the real
/// class with our bytes.
#[test]
fn mm2s_store_translates_with_our_syncs() {
    let translate = |syncs: &[(i64, i64)], offsets: &[i64]| {
        let syncs = java::OffsetSyncs {
            live: syncs.iter().map(|(up, down)| sync("t", 0, *up, *down)).collect(),
            ..java::OffsetSyncs::default()
        };
        syncs.translate("t", 0, offsets)
    };
    assert_eq!(translate(&[], &[5]), [None]);
    assert_eq!(
        translate(&[(100, 200)], &[150, 100, 5]),
        [Some(201), Some(200), Some(-1)]
    );
    assert_eq!(
        translate(&[(100, 200), (150, 251)], &[150, 151, 5]),
        [Some(251), Some(252), Some(-1)]
    );
    assert_eq!(
        translate(&[(100, 200), (150, 251), (200, 10), (20, 20)], &[20, 19]),
        [Some(20), Some(-1)]
    );
    let sparse = [
        0, 3, 4, 9, 27, 28, 64, 100, 101, 150, 300, 301, 302, 1000, 1001, 5000, 5001, 5002, 12345,
    ];
    assert_eq!(
        translate(
            &sparse.map(|up| (up, up + 7)),
            &[0, 1, 27, 5001, 5002, 5003, 12345, 99999]
        ),
        [7, 8, 8, 8, 5009, 5010, 12352, 12353].map(Some)
    );
    let read_to_end = java::OffsetSyncs {
        startup: vec![sync("t", 0, 0, 0), sync("t", 0, 50, 50)],
        live: vec![],
        must_read_to_end: true,
    };
    assert_eq!(read_to_end.translate("t", 0, &[10, 50]), [Some(-1), Some(50)]);
}

/// A record whose bytes are known, in partition 0.
fn raw(topic: &str, (key, value): KeyValue) -> NewRecord {
    NewRecord {
        topic: topic.into(),
        key: Some(key),
        value: Some(value),
        ..NewRecord::default()
    }
}

/// MM2's checkpoint connector on syncs that causeway might have written, and MM2's clients on what it emits.
#[test]
fn mm2s_checkpoint_task_and_clients_work_on_our_syncs() {
    let Pair { source, target } = pair();
    let (here, there) = (source.bootstrap(), target.bootstrap());
    // Aliases of its own: the internal topics are named after them.
    let (seoul, busan) = (unique("ck-seoul"), unique("ck-busan"));
    let (topic, group) = (unique("ck-orders"), unique("ck-group"));
    let remote = format!("{seoul}.{topic}");
    source.create_topic(&topic, 1, &[]);
    target.create_topic(&remote, 1, &[]);
    let records: Vec<_> = (0..20)
        .map(|n| NewRecord::new(&topic, 0, &format!("k{n}"), "v"))
        .collect();
    oracle::produce(&here, &records, "none");
    let copies: Vec<_> = (0..30)
        .map(|n| NewRecord::new(&remote, 0, &format!("k{n}"), "v"))
        .collect();
    oracle::produce(&there, &copies, "none");
    oracle::set_group_offset(&here, &group, &topic, 0, 12);

    let syncs = causeway::mm2::offset_syncs_topic(&ClusterAlias::new(&seoul));
    target.create_topic(&syncs, 1, &[("cleanup.policy", "compact")]);
    let written = [(0, 5), (12, 17)].map(|(up, down)| raw(&syncs, sync(&topic, 0, up, down)));
    oracle::produce(&there, &written, "none");
    let properties = java::checkpoint_properties(
        (&seoul, &here),
        (&busan, &there),
        &[
            ("offset-syncs.topic.location", "target"),
            ("topics", &topic),
            ("groups", &group),
        ],
    );
    let emitted = java::checkpoint_task(&properties, LONG);
    let checkpoints = causeway::mm2::checkpoints_topic(&ClusterAlias::new(&seoul));
    let [emitted] = &emitted[..] else {
        panic!("one checkpoint, not {emitted:?}");
    };
    assert_eq!(
        (emitted.topic.as_str(), emitted.partition),
        (checkpoints.as_str(), 0)
    );
    let expected = checkpoint(&group, &remote, 0, 12, 17);
    assert_eq!(
        Checkpoint::decode(&emitted.record.0, &emitted.record.1),
        Some(expected.clone())
    );
    assert_eq!(expected.encode(), Some(emitted.record.clone()));

    let client = MirrorClient::new(&there, &[]);
    assert!(client.checkpoint_topics().contains(&checkpoints));
    oracle::produce(&there, &[raw(&checkpoints, emitted.record.clone())], "none");
    for positions in [
        client.translate_offsets(&seoul, &group),
        client.remote_consumer_offsets(&seoul, &group),
    ] {
        let [position] = &positions[..] else {
            panic!("one position, not {positions:?}");
        };
        assert_eq!(
            (position.topic.as_str(), position.partition, position.offset),
            (remote.as_str(), 0, 17)
        );
    }
}

/// Two clusters without heartbeats of anybody else; one test at a time has them.
fn clusters() -> MutexGuard<'static, Pair> {
    static CLUSTERS: OnceLock<Mutex<Pair>> = OnceLock::new();
    let clusters = CLUSTERS.get_or_init(|| {
        thread::scope(|scope| {
            let source = scope.spawn(|| Cluster::start("mm2-source"));
            let target = Cluster::start("mm2-target");
            Mutex::new(Pair {
                source: source.join().expect("the source cluster starts"),
                target,
            })
        })
    });
    let clusters = clusters.lock().unwrap_or_else(PoisonError::into_inner);
    for cluster in [&clusters.source, &clusters.target] {
        let names = oracle::topics(&cluster.bootstrap());
        for name in names.iter().filter(|name| name.ends_with("heartbeats")) {
            cluster.delete_topic(name);
        }
    }
    clusters
}

/// A daemon between two clusters, `seoul` and `busan`.
fn daemon(clusters: &Pair, name: &str, pattern: &str, replication: &str) -> Daemon {
    let config = clusters_yaml(&[
        ("seoul", &clusters.source.bootstrap()),
        ("busan", &clusters.target.bootstrap()),
    ]);
    let topology = format!(
        "name: {name}\npattern: {pattern}\nreplication:\n  topics: {{ include: [{name}.*] }}\n{replication}"
    );
    Daemon::start(DaemonOptions::new(config, topology))
}

const ONE_WAY: &str = "active-standby\nactive: seoul\nstandby: busan";
const BOTH_WAYS: &str = "active-active\nclusters: [seoul, busan]";
const LONG: Duration = Duration::from_secs(60);

/// The heartbeats of a flow, as its status tells.
fn status(status: &Value) -> &Value {
    &status["flows"][0]["heartbeats"]
}

fn age(of: &Value) -> Option<f64> {
    status(of)["age_seconds"].as_f64()
}

/// A metric of a daemon with one flow.
fn metric(daemon: &Daemon, name: &str) -> Option<f64> {
    let (_, text) = daemon.get("/metrics")?;
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn dump(cluster: &Cluster, topic: &str) -> Vec<OracleRecord> {
    match oracle::try_describe_topic(&cluster.bootstrap(), topic) {
        Ok(_) => oracle::dump(&cluster.bootstrap(), topic, Isolation::ReadCommitted),
        Err(_) => vec![],
    }
}

/// Waits for some heartbeats in a topic; MM2's class must read each as one with these aliases.
fn assert_heartbeats(cluster: &Cluster, topic: &str, source: &str, target: &str) {
    let records = wait_for(&format!("heartbeats in {topic}"), LONG, || {
        Some(dump(cluster, topic)).filter(|records| 3 <= records.len())
    });
    for record in records {
        let bytes = (record.key.expect("a key"), record.value.expect("a value"));
        let read = java::decode("heartbeat", &bytes).expect("MM2 understands it");
        let timestamp = record.timestamp;
        let (source, target) = (source.to_owned(), target.to_owned());
        assert_eq!(
            read,
            Record::Heartbeat {
                source,
                target,
                timestamp
            },
            "{topic}"
        );
        assert_eq!(record.partition, 0);
    }
    let settings = oracle::topic_configs(&cluster.bootstrap(), topic);
    assert_eq!(
        settings.get("cleanup.policy").map(String::as_str),
        Some("compact")
    );
    assert_eq!(oracle::describe_topic(&cluster.bootstrap(), topic).partitions, 1);
}

#[test]
fn mm2s_clients_see_one_hop_by_heartbeats_that_we_write_on_both_sides() {
    for policy in ["default", "identity"] {
        let clusters = clusters();
        let (source, target) = (&clusters.source, &clusters.target);
        let _daemon = daemon(
            &clusters,
            &unique("hb-one-way"),
            ONE_WAY,
            &format!("  replication_policy: {policy}\n  heartbeats: {{ interval: 200ms, on_source: true }}"),
        );
        assert_heartbeats(source, "heartbeats", "busan", "seoul");
        assert_heartbeats(target, "heartbeats", "seoul", "busan");
        assert_heartbeats(target, "seoul.heartbeats", "busan", "seoul");
        let there = target.bootstrap();
        for client in [
            MirrorClient::new(&there, &[]),
            MirrorClient::identity(&there, "seoul"),
        ] {
            assert_eq!(client.heartbeat_topics(), ["heartbeats", "seoul.heartbeats"]);
            assert_eq!(client.upstream_clusters(), ["seoul"]);
            assert_eq!(client.replication_hops("seoul"), 1);
            assert_eq!(client.replication_hops("tokyo"), -1);
        }
    }
}

#[test]
fn mm2s_clients_see_both_clusters_of_an_active_active_pair() {
    let clusters = clusters();
    let (source, target) = (&clusters.source, &clusters.target);
    let _daemon = daemon(
        &clusters,
        &unique("hb-both"),
        BOTH_WAYS,
        "  heartbeats: { interval: 200ms }",
    );
    assert_heartbeats(source, "heartbeats", "busan", "seoul");
    assert_heartbeats(source, "busan.heartbeats", "seoul", "busan");
    assert_heartbeats(target, "seoul.heartbeats", "busan", "seoul");
    for (cluster, other) in [(source, "busan"), (target, "seoul")] {
        let client = MirrorClient::new(&cluster.bootstrap(), &[]);
        let mut names = [format!("{other}.heartbeats"), "heartbeats".to_owned()];
        names.sort();
        assert_eq!(client.heartbeat_topics(), names);
        assert_eq!(client.upstream_clusters(), [other]);
        assert_eq!(client.replication_hops(other), 1);
    }
}

/// Every topic of a cluster and where its partitions end.
fn contents(cluster: &Cluster) -> BTreeMap<String, Vec<i64>> {
    let here = cluster.bootstrap();
    let ends = |topic: &String| oracle::end_offsets(&here, topic, Isolation::ReadUncommitted);
    let topics = oracle::topics(&here).into_iter();
    topics.map(|topic| (topic.clone(), ends(&topic))).collect()
}

#[test]
fn without_on_source_nothing_is_written_to_the_source() {
    let clusters = clusters();
    let (source, target) = (&clusters.source, &clusters.target);
    let name = unique("hb-quiet");
    source.create_topic(&name, 1, &[]);
    oracle::produce(&source.bootstrap(), &[NewRecord::new(&name, 0, "k", "v")], "none");
    let before = contents(source);
    let daemon = daemon(&clusters, &name, ONE_WAY, "  heartbeats: { interval: 100ms }");
    let remote = format!("seoul.{name}");
    wait_until("the record is copied", LONG, || dump(target, &remote).len() == 1);
    wait_until("ten heartbeats", LONG, || 10 <= dump(target, "heartbeats").len());
    assert_eq!(contents(source), before);
    // Nobody writes any there: their age is unknown, and no trouble.
    let said = daemon.status().expect("the daemon answers");
    assert!(status(&said).is_object() && age(&said).is_none(), "{said}");
    assert!(metric(&daemon, "causeway_heartbeat_age_seconds").is_some_and(f64::is_nan));
}

#[test]
fn the_age_of_heartbeats_rises_while_the_source_is_away_and_none_is_lost() {
    let clusters = clusters();
    let daemon = daemon(
        &clusters,
        &unique("hb-age"),
        ONE_WAY,
        "  heartbeats: { interval: 200ms, on_source: true }",
    );
    let fresh = |status: &Value| age(status).is_some_and(|age| age < 2.0);
    daemon.wait_for("fresh heartbeats", LONG, fresh);
    clusters.source.stop();
    daemon.wait_for("an age of 4 s", LONG, |status| {
        age(status).is_some_and(|age| 4.0 < age)
    });
    let shown = metric(&daemon, "causeway_heartbeat_age_seconds");
    assert!(shown.is_some_and(|age| 3.0 < age), "{shown:?}");
    clusters.source.cont();
    daemon.wait_for("fresh heartbeats again", LONG, fresh);
    assert_eq!(status(&daemon.status().expect("it answers"))["lost"], 0);
}

#[test]
fn heartbeats_that_the_source_lost_are_counted_once() {
    let clusters = clusters();
    let (source, target) = (&clusters.source, &clusters.target);
    let (topic, copy) = ("heartbeats", "seoul.heartbeats");
    // In mode report the settings with which this test makes trouble stay. At least once, because the markers of a
    // transaction must fit into a batch, too.
    target.create_topic(copy, 1, &[("cleanup.policy", "compact")]);
    let daemon = daemon(
        &clusters,
        &unique("hb-lost"),
        ONE_WAY,
        "  delivery: at_least_once\n  on_gap: continue\n  config_sync: { mode: report }\n  heartbeats: { interval: 100ms, on_source: true }",
    );
    daemon.wait_for("fresh heartbeats", LONG, |status| {
        age(status).is_some_and(|age| age < 2.0)
    });
    target.alter_topic(copy, &[("max.message.bytes", "1")], &[]);
    daemon.wait_for("heartbeats that do not arrive", LONG, |status| {
        age(status).is_some_and(|age| 4.0 < age)
    });
    // Of a compacted topic Kafka deletes no records on request.
    source.alter_topic(topic, &[("cleanup.policy", "delete")], &[]);
    let end = oracle::end_offsets(&source.bootstrap(), topic, Isolation::ReadCommitted)[0];
    oracle::delete_records(&source.bootstrap(), topic, 0, end);
    target.alter_topic(copy, &[], &["max.message.bytes"]);
    let mut lost = 0;
    daemon.wait_for("lost heartbeats", LONG, |said| {
        lost = status(said)["lost"].as_u64().unwrap_or(0);
        0 < lost
    });
    assert!(10 < lost, "{lost}");
    assert_eq!(
        metric(&daemon, "causeway_heartbeats_lost_total"),
        Some(lost as f64)
    );
    let copied = dump(target, copy).len();
    wait_until("five more heartbeats", LONG, || {
        copied + 5 <= dump(target, copy).len()
    });
    assert_eq!(status(&daemon.status().expect("it answers"))["lost"], lost);
}

#[test]
fn heartbeats_of_a_real_mm2_have_an_age() {
    let clusters = clusters();
    // MM2 runs a herder for the opposite direction of every flow, which writes heartbeats even if it copies nothing.
    let mm2 = MirrorMaker::start(MirrorMakerOptions::fast(
        &[
            ("seoul", &clusters.source.bootstrap()),
            ("busan", &clusters.target.bootstrap()),
        ],
        "seoul->busan.enabled = false\nseoul->busan.emit.heartbeats.enabled = false\nbusan->seoul.enabled = false",
    ));
    let daemon = daemon(&clusters, &unique("hb-mm2"), ONE_WAY, "");
    daemon.wait_for("fresh heartbeats", LONG, |status| {
        age(status).is_some_and(|age| age < 5.0)
    });
    assert_heartbeats(&clusters.target, "seoul.heartbeats", "busan", "seoul");
    mm2.kill9();
    daemon.wait_for("an age of 5 s", LONG, |status| {
        age(status).is_some_and(|age| 5.0 < age)
    });
}

/// What MM2 has stored about `topic`, last entry per key.
fn mm2_positions(target: &Cluster, topic: &str) -> BTreeMap<i32, i64> {
    let mut positions = BTreeMap::new();
    let offsets = connect_offsets::offsets_topic(&ClusterAlias::new("seoul"));
    for record in dump(target, &offsets) {
        let bytes = record.key.expect("a key");
        assert_eq!(connect_offsets::partition(&bytes, 5), record.partition);
        let Some(key) = PositionKey::decode(&bytes) else {
            continue;
        };
        assert_eq!(
            (key.encode(), key.connector.as_str(), key.cluster.as_str()),
            (bytes, connect_offsets::SOURCE_CONNECTOR, "seoul")
        );
        if let Some(Position::Last(Source(Offset(last)))) = Position::decode(record.value.as_deref())
            && &*key.topic_partition.topic == topic
        {
            positions.insert(key.topic_partition.partition, last);
        }
    }
    positions
}

#[test]
fn the_positions_of_a_real_mm2_can_be_read_after_it_was_stopped_or_killed() {
    let clusters = clusters();
    let (source, target) = (&clusters.source, &clusters.target);
    let topic = unique("mm2-orders");
    source.create_topic(&topic, 2, &[]);
    let produce = || {
        let records: Vec<_> = (0..20).map(|n| NewRecord::new(&topic, n % 2, "k", "v")).collect();
        oracle::produce(&source.bootstrap(), &records, "none");
    };
    produce();
    let mut mm2 = MirrorMaker::start(MirrorMakerOptions::fast(
        &[("seoul", &source.bootstrap()), ("busan", &target.bootstrap())],
        &format!(
            "seoul->busan.enabled = true\nseoul->busan.topics = {topic}\nbusan->seoul.emit.heartbeats.enabled = false"
        ),
    ));
    let remote = format!("seoul.{topic}");
    wait_until("MM2 copies", LONG, || dump(target, &remote).len() == 20);
    wait_until("MM2 stores its positions", LONG, || {
        mm2_positions(target, &topic) == [(0, 9), (1, 9)].into()
    });
    mm2.kill9();
    produce();
    mm2.restart();
    wait_until("MM2 copies", LONG, || 40 <= dump(target, &remote).len());
    mm2.terminate(LONG);
    assert_eq!(mm2_positions(target, &topic), [(0, 19), (1, 19)].into());
}
