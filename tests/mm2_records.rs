//! MM2's own classes and causeway understand each other's records.

use causeway::kafka::{NextOffset, Offset, Source, Target, TopicPartition};
use causeway::mm2::connect_offsets::{self, Position, PositionKey};
use causeway::mm2::{Checkpoint, Heartbeat, KeyValue, OffsetSync};

use crate::harness::oracle::mm2::{self as java, Record};

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
