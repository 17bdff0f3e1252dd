//! What arrives on the target is what a committed reader of the source sees: every record once, unchanged,
//! in order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use causeway::context::now_ms;
use causeway::kafka::client::{ClusterConnection, TaskMemory};
use causeway::kafka::consumer::{Consumer, Kind, ReadFrom};
use causeway::kafka::producer::{Headers, Producer};
use causeway::kafka::{ClusterAlias, NextOffset, TopicPartition};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::harness::flow::{
    SOON, assert_same, assert_same_digest, daemon, is_stopped_for, partition, topology,
    wait_for_target_records, wait_until_copied,
};
use crate::harness::oracle::{self, Isolation, NewRecord, OracleRecord, Step};
use crate::harness::{Cluster, Pair, load, pair, unique, wait_for, wait_until};

const COMMITTED: Isolation = Isolation::ReadCommitted;

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

#[test]
fn keys_values_headers_and_timestamps_arrive_as_they_are_whatever_the_codec() {
    let Pair { source, target } = pair();
    let keys = [
        None,
        Some(vec![]),
        Some(vec![0xff, 0xfe, 0]),
        Some(vec![b'k'; 1024]),
    ];
    let values = [
        None,
        Some(vec![]),
        Some(vec![7]),
        Some(b"0123456789".repeat(10_000)),
    ];
    let header = |key: &str, value: Option<&[u8]>| (key.to_owned(), value.map(<[u8]>::to_vec));
    let headers = [
        vec![],
        vec![
            header("a", Some(b"1")),
            header("b", Some(b"2")),
            header("a", Some(b"3")),
        ],
        vec![
            header("null", None),
            header("empty", Some(b"")),
            header("", Some(b"no name")),
        ],
        vec![
            header("binary", Some(&[0, 0xff, 0x80])),
            header("ключ", Some(&[1; 2000])),
        ],
    ];
    let times = [None, Some(1), Some(978_307_200_000), Some(now_ms() + 30 * 60_000)];
    let prefix = unique("grid");
    let mut topics = vec![];
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("{prefix}-{codec}");
        source.create_topic(&topic, 3, &[]);
        let mut records = vec![];
        for key in &keys {
            for value in &values {
                for (n, headers) in headers.iter().enumerate() {
                    // Every combination of three, each time with another codec and another timestamp.
                    records.push(NewRecord {
                        topic: topic.clone(),
                        partition: (records.len() % 3) as i32,
                        timestamp: times[(n + records.len() / 4 + topics.len()) % times.len()],
                        key: key.clone(),
                        value: value.clone(),
                        headers: headers.clone(),
                    });
                }
            }
        }
        oracle::produce(&source.bootstrap(), &records, codec);
        topics.push(topic);
    }
    for codec in ["zstd", "none"] {
        // Another codec on the way out, and other names: the same records.
        let extra = format!("  compression: {codec}\n");
        let mut yaml = topology(&unique("grid"), &[&format!("{prefix}-.*")], &extra);
        let remote = |topic: &str| match codec {
            "none" => format!("seoul.{topic}"),
            _ => topic.to_owned(),
        };
        if codec == "none" {
            yaml = yaml.replace("replication_policy: identity", "replication_policy: default");
        }
        let daemon = daemon(yaml);
        for topic in &topics {
            wait_until_copied(&daemon, source, topic, SOON);
            assert_eq!(assert_same(source, target, topic, &remote(topic)), 64);
        }
    }
}

#[test]
fn missing_and_odd_timestamps_arrive_as_they_are_and_only_zero_becomes_one() {
    let Pair { source, target } = pair();
    let topic = unique("times");
    source.create_topic(
        &topic,
        1,
        &[("message.timestamp.after.max.ms", "9223372036854775807")],
    );
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", source.bootstrap())
        .create()
        .expect("these settings are right");
    let times = [-1, now_ms(), -1, 1, 4_102_444_800_000, -1];
    for time in times {
        let record = BaseRecord::to(&topic).key("k").payload("v").timestamp(time);
        producer
            .send(record)
            .map_err(|(e, _)| e)
            .expect("the queue has room");
    }
    producer.flush(SOON).expect("the source takes them");
    let zero = NewRecord {
        timestamp: Some(0),
        ..NewRecord::new(&topic, 0, "zero", "v")
    };
    oracle::produce(&source.bootstrap(), &[zero], "none");
    let daemon = daemon(topology(&topic, &[&topic], ""));
    wait_until_copied(&daemon, source, &topic, SOON);
    let read = |cluster: &Cluster| -> Vec<i64> {
        let records = oracle::dump(&cluster.bootstrap(), &topic, COMMITTED);
        records.iter().map(|it| it.timestamp).collect()
    };
    let (from, mut expected) = (read(source), times.to_vec());
    expected.push(0);
    assert_eq!(from, expected, "the source has what this test is about");
    expected[6] = 1;
    assert_eq!(read(target), expected);
    let (_, metrics) = daemon.get("/metrics").expect("it runs");
    let counted = metrics
        .lines()
        .any(|line| line.contains("timestamp_zero") && line.ends_with(" 1"));
    assert!(
        counted,
        "the record that could not keep its timestamp is counted:\n{metrics}"
    );
}

#[test]
fn a_source_with_log_append_time_gives_its_times_to_the_target() {
    let Pair { source, target } = pair();
    let topic = unique("append-time");
    source.create_topic(&topic, 1, &[("message.timestamp.type", "LogAppendTime")]);
    load::fill(&source.bootstrap(), &topic, 1, 100, 10, "lz4");
    let daemon = daemon(topology(&topic, &[&topic], ""));
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(assert_same(source, target, &topic, &topic), 100);
    let kinds = |cluster: &Cluster| {
        oracle::dump(&cluster.bootstrap(), &topic, COMMITTED)[0]
            .timestamp_type
            .clone()
    };
    assert_eq!(
        (kinds(source), kinds(target)),
        ("LogAppendTime".into(), "CreateTime".into())
    );
}

/// Java's and Rust's clients write UTF-8 only, so causeway's own producer writes these.
#[test]
fn a_header_name_that_is_no_text_arrives_as_it_is() {
    let Pair { source, target } = pair();
    let (plain, topic) = (unique("plain"), unique("header-bytes"));
    source.create_topic(&plain, 1, &[]);
    source.create_topic(&topic, 1, &[]);
    let first = NewRecord {
        headers: vec![("text".into(), None)],
        ..NewRecord::new(&plain, 0, "k", "v")
    };
    oracle::produce(
        &source.bootstrap(),
        &[first, NewRecord::new(&plain, 0, "k", "v")],
        "none",
    );
    let connection = ClusterConnection {
        alias: ClusterAlias::new("seoul"),
        bootstrap_servers: source.bootstrap(),
        security: BTreeMap::new(),
        client: BTreeMap::new(),
        consumer: BTreeMap::new(),
        producer: BTreeMap::new(),
    };
    let memory = TaskMemory {
        fetched_bytes: 1 << 20,
        in_flight_bytes: 1 << 20,
    };
    let mut consumer = Consumer::new(&connection.task_consumer("test", memory), "test").expect("settings");
    let mut producer =
        Producer::new(&connection.task_producer("test", "none", None), "test").expect("settings");
    let to = producer.topic(&topic).expect("a name");
    let start = (
        TopicPartition::new(plain.as_str(), 0),
        ReadFrom {
            offset: NextOffset(0),
            leader_epoch: None,
        },
    );
    consumer.assign(&[start]).expect("it exists");
    let (mut sent, mut delivered) = (0, vec![]);
    wait_until("both records are written with a header of bytes", SOON, || {
        let taken: Vec<_> = consumer.take(Duration::from_millis(50)).collect();
        for message in taken.into_iter().filter(|it| matches!(it.kind(), Kind::Record)) {
            producer
                .send(to, message, Headers::Append(c"\xff\xfe", &[0xff, 0]))
                .map_err(|(_, err)| err)
                .expect("room");
            sent += 1;
        }
        producer.poll(Duration::from_millis(10));
        let mut answers = vec![];
        producer.take_deliveries(&mut answers);
        delivered.extend(answers);
        sent == 2 && delivered.iter().map(|it| it.count).sum::<u32>() == 2
    });
    let daemon = daemon(topology(&topic, &[&topic], ""));
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(assert_same(source, target, &topic, &topic), 2);
    let copied = oracle::dump(&target.bootstrap(), &topic, COMMITTED);
    assert!(
        copied
            .iter()
            .all(|it| it.headers.last() == Some(&(vec![0xff, 0xfe], Some(vec![0xff, 0]))))
    );
}

#[test]
fn aborted_records_never_arrive_and_open_transactions_arrive_when_they_are_committed() {
    let Pair { source, target } = pair();
    let topic = unique("transactions");
    source.create_topic(&topic, 3, &[]);
    let bootstrap = source.bootstrap();
    let bulk = oracle::transactional_load(&bootstrap, &topic, 3, 60, 20, 3, 50);
    assert!(0 < bulk.aborted);
    let send = |partition, key: &str| Step::Send(NewRecord::new(&topic, partition, key, "v"));
    let (a, b, open) = (unique("a"), unique("b"), unique("open"));
    // Two transactions interleaved over the same partitions, one of them aborted, and plain records between.
    oracle::transaction(&bootstrap, &a, &[Step::Begin, send(0, "a1"), send(1, "a2")]);
    oracle::transaction(&bootstrap, &b, &[Step::Begin, send(0, "b1"), send(1, "b2")]);
    oracle::produce(&bootstrap, &[NewRecord::new(&topic, 0, "plain", "v")], "none");
    oracle::transaction(&bootstrap, &a, &[send(0, "a3"), Step::Abort]);
    oracle::transaction(&bootstrap, &b, &[send(2, "b3"), Step::Commit]);
    // And one that pins partition 1.
    oracle::transaction(&bootstrap, &open, &[Step::Begin, send(1, "open1")]);
    oracle::produce(&bootstrap, &[NewRecord::new(&topic, 1, "behind", "v")], "none");

    let daemon = daemon(topology(&topic, &[&topic], ""));
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(
        assert_same(source, target, &topic, &topic),
        bulk.committed as usize + 4
    );
    daemon.wait_for("lag counts what a committed reader can see", SOON, |status| {
        (0..3).all(|number| {
            partition(status, &topic, number)
                .is_some_and(|it| it["lag_records"] == 0 && it["lag_seconds"] == 0.0)
        })
    });

    oracle::transaction(&bootstrap, &open, &[Step::Commit]);
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(
        assert_same(source, target, &topic, &topic),
        bulk.committed as usize + 6
    );
    let all = oracle::dump(&target.bootstrap(), &topic, COMMITTED);
    let aborted = |it: &OracleRecord| {
        let key = it.key.as_deref().unwrap_or_default();
        key.starts_with(b"aborted-") || key.starts_with(b"a")
    };
    assert!(!all.iter().any(aborted));
}

#[test]
fn a_compacted_source_is_copied_with_its_holes_and_tombstones() {
    let Pair { source, target } = pair();
    let topic = unique("compacted");
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1048576"),
        ("segment.ms", "500"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("delete.retention.ms", "3600000"),
    ];
    source.create_topic(&topic, 1, &configs);
    let record = |key: i32, value: Option<&str>| NewRecord {
        value: value.map(Into::into),
        ..NewRecord::new(&topic, 0, &format!("key-{key}"), "")
    };
    let rounds = ["one", "two", "three"].map(Some);
    let live: Vec<_> = rounds
        .iter()
        .flat_map(|v| (0..50).map(|key| record(key, *v)))
        .collect();
    oracle::produce(&source.bootstrap(), &live, "none");
    let tombstones: Vec<_> = (0..10).map(|key| record(key * 5, None)).collect();
    oracle::produce(&source.bootstrap(), &tombstones, "none");
    // The segment in use is never compacted: records that roll it, until only the last of each key is left.
    let mut rolls = 0;
    wait_until("compaction leaves 50 keys", SOON, || {
        rolls += 1;
        oracle::produce(&source.bootstrap(), &[record(1000, Some("roll"))], "none");
        let left = oracle::dump(&source.bootstrap(), &topic, COMMITTED);
        left.iter()
            .filter(|it| it.key.as_deref() != Some(b"key-1000"))
            .count()
            == 50
    });
    let daemon = daemon(topology(&topic, &[&topic], ""));
    wait_until_copied(&daemon, source, &topic, SOON);
    let last = |cluster: &Cluster| -> BTreeMap<Option<Vec<u8>>, Option<Vec<u8>>> {
        let records = oracle::dump(&cluster.bootstrap(), &topic, COMMITTED);
        records.into_iter().map(|it| (it.key, it.value)).collect()
    };
    // Both sides go on compacting, so what counts is the last value of each key, tombstones included.
    assert_eq!(last(source), last(target));
    assert_eq!(last(target).values().filter(|it| it.is_none()).count(), 10);
    oracle::produce(&source.bootstrap(), &[record(7, Some("after"))], "none");
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(last(source), last(target));
}

#[test]
fn empty_partitions_single_records_and_records_near_the_limit_are_copied() {
    let Pair { source, target } = pair();
    let topic = unique("sizes");
    source.create_topic(&topic, 4, &[]);
    let record = |partition, bytes: usize| NewRecord {
        key: None,
        value: Some((0..bytes).map(|i| (i * i % 251) as u8).collect()),
        ..NewRecord::new(&topic, partition, "", "")
    };
    // Partition 0 stays empty; 1 has one record of one byte; the Java client takes 1 MiB with overhead.
    let mut records = vec![record(1, 1)];
    records.extend([1, 999_000, 10, 1_040_000, 100].map(|bytes| record(2, bytes)));
    records.extend((0..40).map(|n| record(3, 1 + n * 2500)));
    oracle::produce(&source.bootstrap(), &records, "none");
    let daemon = daemon(topology(&topic, &[&topic], ""));
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(assert_same(source, target, &topic, &topic), 46);
}

#[test]
fn a_topic_with_a_small_batch_limit_takes_batches_within_it() {
    let Pair { source, target } = pair();
    let topic = unique("small-batches");
    source.create_topic(&topic, 2, &[("max.message.bytes", "20000")]);
    let value: Vec<u8> = (0..9_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for round in 0..50 {
        let records = [0, 1].map(|partition| NewRecord {
            value: Some(value.clone()),
            ..NewRecord::new(&topic, partition, &format!("{round}-{partition}"), "")
        });
        oracle::produce(&source.bootstrap(), &records, "none");
    }
    let daemon = daemon(topology(&topic, &[&topic], "  compression: none\n"));
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(assert_same(source, target, &topic, &topic), 100);
}

#[test]
fn a_record_larger_than_the_target_allows_stops_its_partition_only_until_the_limit_is_raised() {
    let Pair { source, target } = pair();
    let topic = unique("too-large");
    source.create_topic(&topic, 3, &[("max.message.bytes", "3000000")]);
    // The limit stays different: config sync leaves it alone.
    target.create_topic(&topic, 3, &[("max.message.bytes", "100000")]);
    let large: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", source.bootstrap())
        .set("message.max.bytes", "3000000")
        .create()
        .expect("these settings are right");
    load::fill(&source.bootstrap(), &topic, 3, 30, 1000, "none");
    let record = BaseRecord::to(&topic)
        .partition(1)
        .key("large")
        .payload(&[b'x'; 2_000_000][..]);
    large
        .send(record)
        .map_err(|(e, _)| e)
        .expect("the queue has room");
    large.flush(SOON).expect("the source takes it");
    let extra = "  compression: none\n  config_sync: { exclude: [max.message.bytes] }\n";
    let daemon = daemon(topology(&topic, &[&topic], extra));
    daemon.wait_for("partition 1 is paused", SOON, |status| {
        is_stopped_for(status, &topic, 1, "paused", "target_record_too_large")
    });
    // Written after the stop: the others go on, and what stands behind the large record waits.
    load::fill(&source.bootstrap(), &topic, 3, 30, 1000, "none");
    daemon.wait_for("the other partitions are copied", SOON, |status| {
        [0, 2]
            .iter()
            .all(|number| partition(status, &topic, *number).is_some_and(|it| it["next_source_offset"] == 20))
    });
    daemon.wait_for("the flow says so", SOON, |status| {
        status["flows"][0]["state"] == "degraded"
    });
    target.alter_topic(&topic, &[("max.message.bytes", "3000000")], &[]);
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(assert_same(source, target, &topic, &topic), 61);
}

#[test]
fn a_throttle_holds_its_rate() {
    let Pair { source, target } = pair();
    for (limit, bytes, rate) in [
        ("bytes_per_second: 5MiB", 1024, 5.0 * 1024.0),
        ("records_per_second: 5000", 10, 5000.0),
    ] {
        let topic = unique("throttle");
        source.create_topic(&topic, 4, &[]);
        load::fill(&source.bootstrap(), &topic, 4, 30_000, bytes, "none");
        let extra = format!("  throttle: {{ {limit} }}\n  commit_interval: 100ms\n  tasks: 2\n");
        let daemon = daemon(topology(&topic, &[&topic], &extra));
        let at = |least: i64| {
            wait_for("records are copied", SOON, || {
                oracle::try_describe_topic(&target.bootstrap(), &topic).ok()?;
                let asked = Instant::now();
                let ends = oracle::end_offsets(&target.bootstrap(), &topic, COMMITTED);
                let copied: i64 = ends.iter().sum();
                (least <= copied).then(|| (asked, copied as f64, Instant::now()))
            })
        };
        // Never above, however late the answers come. How far below depends on how busy the machine is.
        let ((start, first, _), (_, last, end)) = (at(5_000), at(25_000));
        let measured = (last - first) / (end - start).as_secs_f64();
        assert!(measured < 1.2 * rate, "{limit}: {measured} records a second");
        wait_until_copied(&daemon, source, &topic, SOON);
        assert_eq!(assert_same_digest(source, target, &topic), 30_000);
    }
}

#[test]
fn a_flow_from_latest_copies_what_comes_after_its_start_and_new_partitions_whole() {
    let Pair { source, target } = pair();
    let topic = unique("latest");
    // One partition, so that three of the four tasks own nothing at first.
    source.create_topic(&topic, 1, &[]);
    load::fill(&source.bootstrap(), &topic, 1, 100, 10, "none");
    let mut daemon = daemon(topology(
        &topic,
        &[&topic],
        "  start_from: latest\n  config_sync: { interval: 1s }\n",
    ));
    daemon.wait_for("the start is stored", SOON, |status| {
        status["flows"][0]["state"] == "running"
            && partition(status, &topic, 0).is_some_and(|it| it["next_source_offset"] == 100)
    });
    // Killed before its first record: what comes meanwhile is not skipped.
    daemon.kill9();
    load::fill(&source.bootstrap(), &topic, 1, 50, 10, "none");
    daemon.restart();
    wait_until_copied(&daemon, source, &topic, SOON);
    source.grow_topic(&topic, 6);
    load::fill(&source.bootstrap(), &topic, 6, 600, 10, "none");
    wait_until_copied(&daemon, source, &topic, SOON);
    let from = oracle::dump(&source.bootstrap(), &topic, COMMITTED);
    let to = oracle::dump(&target.bootstrap(), &topic, COMMITTED);
    for number in 0..6 {
        let first = if number == 0 { 100 } else { 0 };
        let of = |records: &[OracleRecord], first| -> Vec<Option<Vec<u8>>> {
            let those = records
                .iter()
                .filter(|it| it.partition == number && first <= it.offset);
            those.map(|it| it.key.clone()).collect()
        };
        assert_eq!(of(&from, first), of(&to, 0), "partition {number}");
    }
    assert_eq!(to.len(), 650);
}

#[test]
fn a_flow_from_a_timestamp_begins_at_the_first_record_of_that_time() {
    let Pair { source, target } = pair();
    let topic = unique("timestamp");
    source.create_topic(&topic, 1, &[]);
    let records: Vec<_> = (0..10)
        .map(|n| NewRecord {
            timestamp: Some(1_700_000_000_000 + n * 1000),
            ..NewRecord::new(&topic, 0, &n.to_string(), "v")
        })
        .collect();
    oracle::produce(&source.bootstrap(), &records, "none");
    // 1 700 000 004 s and half a second.
    let extra = "  start_from: \"2023-11-14T22:13:24.5Z\"\n";
    let daemon = daemon(topology(&topic, &[&topic], extra));
    wait_until_copied(&daemon, source, &topic, SOON);
    wait_for_target_records(target, &topic, 5);
    let copied = oracle::dump(&target.bootstrap(), &topic, COMMITTED);
    let keys: Vec<_> = copied.iter().filter_map(|it| it.key.as_deref()).collect();
    assert_eq!(keys, [b"5", b"6", b"7", b"8", b"9"]);
}
