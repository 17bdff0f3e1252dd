//! MM2's own classes, unmodified, from the jars of the brokers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{GroupOffset, ask, hex, must, parse, unhex};

/// Key and value of a record.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// One of MM2's three records, as its class understands it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// `org.apache.kafka.connect.mirror.Heartbeat`
    Heartbeat {
        /// Source alias.
        source: String,
        /// Target alias.
        target: String,
        /// Milliseconds since 1970.
        timestamp: i64,
    },
    /// `org.apache.kafka.connect.mirror.Checkpoint`
    Checkpoint {
        /// Group.
        group: String,
        /// Topic on the target.
        topic: String,
        /// Partition number.
        partition: i32,
        /// Committed on the source.
        upstream: i64,
        /// The same on the target.
        downstream: i64,
        /// Of the commit.
        metadata: String,
    },
    /// `org.apache.kafka.connect.mirror.OffsetSync`
    OffsetSync {
        /// Topic on the source.
        topic: String,
        /// Partition number.
        partition: i32,
        /// Offset on the source.
        upstream: i64,
        /// Offset on the target.
        downstream: i64,
    },
}

fn record_json((key, value): &KeyValue) -> Value {
    json!({"key": hex(key), "value": hex(value)})
}

fn key_value(of: &Value) -> KeyValue {
    let bytes = |name: &str| unhex(of[name].as_str().expect("hex")).expect("hex");
    (bytes("key"), bytes("value"))
}

/// The record as MM2 writes it.
pub fn encode(record: &Record) -> KeyValue {
    let mut request = serde_json::to_value(record).expect("it is JSON");
    request["command"] = "mm2_encode".into();
    key_value(&must(request))
}

/// The record as MM2 reads it; `kind` is `heartbeat`, `checkpoint` or `offset_sync`.
pub fn decode(kind: &str, record: &KeyValue) -> Result<Record, String> {
    let mut request = record_json(record);
    request["command"] = "mm2_decode".into();
    request["kind"] = kind.into();
    ask(request).map(parse)
}

/// What `kafka-console-consumer` prints with MM2's formatter of that kind.
pub fn format(kind: &str, record: &KeyValue) -> String {
    let mut request = record_json(record);
    request["command"] = "mm2_format".into();
    request["kind"] = kind.into();
    must(request)
}

/// A position of MM2's source connector as Connect stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOffset {
    /// Key and value.
    pub record: KeyValue,
    /// Where the default partitioner puts it.
    pub partition: i32,
}

/// Asks Connect's converter and Kafka's partitioner; `partitions` are those of the offsets topic.
pub fn connect_offset(
    connector: &str,
    cluster: &str,
    topic: &str,
    partition: i32,
    offset: i64,
    partitions: i32,
) -> ConnectOffset {
    let answer: Value = must(json!({
        "command": "connect_offset", "connector": connector, "cluster": cluster,
        "topic": topic, "partition": partition, "offset": offset, "partitions": partitions,
    }));
    ConnectOffset {
        record: key_value(&answer),
        partition: answer["partition"]
            .as_i64()
            .and_then(|it| it.try_into().ok())
            .expect("a partition"),
    }
}

/// What MM2's `OffsetSyncStore` is fed with.
#[derive(Clone, Debug, Default)]
pub struct OffsetSyncs {
    /// Records it finds when it starts.
    pub startup: Vec<KeyValue>,
    /// Records that come afterwards.
    pub live: Vec<KeyValue>,
    /// Whether of what it finds only the last sync per partition counts, as where MM2 cannot read its checkpoints.
    pub must_read_to_end: bool,
}

impl OffsetSyncs {
    /// Where MM2 translates these source offsets to: `None` without any sync of the partition, −1 for an
    /// offset older than the oldest sync. MM2 emits a checkpoint in neither case.
    pub fn translate(&self, topic: &str, partition: i32, offsets: &[i64]) -> Vec<Option<i64>> {
        let records = |of: &[KeyValue]| -> Vec<_> { of.iter().map(record_json).collect() };
        must(json!({
            "command": "offset_sync_store", "topic": topic, "partition": partition, "offsets": offsets,
            "startup": records(&self.startup), "live": records(&self.live),
            "must_read_to_end": self.must_read_to_end,
        }))
    }
}

/// A record that a connector hands to Connect, which would write it to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// Topic on the target.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Key and value.
    pub record: KeyValue,
}

/// Runs MM2's checkpoint connector and task, and nothing else of MM2, against syncs and copies that somebody
/// else writes. Answers the records of its first poll that has some; none after `timeout`.
///
/// `properties` are the connector's; see [`checkpoint_properties`].
pub fn checkpoint_task(properties: &BTreeMap<String, String>, timeout: Duration) -> Vec<Emitted> {
    let timeout_ms = u64::try_from(timeout.as_millis()).expect("a short time");
    let answer: Vec<Value> = must(json!({
        "command": "mm2_checkpoint_task", "properties": properties, "timeout_ms": timeout_ms,
    }));
    let emitted = |it: &Value| Emitted {
        topic: it["topic"].as_str().expect("a topic").to_owned(),
        partition: it["partition"]
            .as_i64()
            .and_then(|it| it.try_into().ok())
            .expect("a partition"),
        timestamp: it["timestamp"].as_i64().expect("a timestamp"),
        record: key_value(it),
    };
    answer.iter().map(emitted).collect()
}

/// Properties of a checkpoint connector that polls ten times a second; `more` wins.
pub fn checkpoint_properties(
    (source, source_bootstrap): (&str, &str),
    (target, target_bootstrap): (&str, &str),
    more: &[(&str, &str)],
) -> BTreeMap<String, String> {
    [
        ("name", "MirrorCheckpointConnector"),
        (
            "connector.class",
            "org.apache.kafka.connect.mirror.MirrorCheckpointConnector",
        ),
        ("source.cluster.alias", source),
        ("source.cluster.bootstrap.servers", source_bootstrap),
        ("target.cluster.alias", target),
        ("target.cluster.bootstrap.servers", target_bootstrap),
        ("checkpoints.topic.replication.factor", "1"),
        ("offset-syncs.topic.replication.factor", "1"),
        ("emit.checkpoints.interval.seconds", "1"),
        ("sync.group.offsets.interval.seconds", "1"),
        ("consumer.poll.timeout.ms", "100"),
    ]
    .iter()
    .chain(more)
    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
    .collect()
}

/// MM2's client library, as an application that fails over uses it: `RemoteClusterUtils` and `MirrorClient`.
#[derive(Clone, Debug)]
pub struct MirrorClient {
    bootstrap: String,
    properties: BTreeMap<String, String>,
}

impl MirrorClient {
    /// A client of the target cluster; `properties` such as `replication.policy.class`.
    pub fn new(bootstrap: &str, properties: &[(&str, &str)]) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            properties: properties
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    /// As [`MirrorClient::new`], with MM2's identity policy for copies from `source`.
    pub fn identity(bootstrap: &str, source: &str) -> Self {
        let class = "org.apache.kafka.connect.mirror.IdentityReplicationPolicy";
        Self::new(
            bootstrap,
            &[
                ("replication.policy.class", class),
                ("source.cluster.alias", source),
            ],
        )
    }

    fn ask<T: for<'a> Deserialize<'a>>(&self, command: &str, mut request: Value) -> T {
        request["command"] = command.into();
        request["bootstrap"] = self.bootstrap.as_str().into();
        request["properties"] = json!(self.properties);
        must(request)
    }

    /// `RemoteClusterUtils.translateOffsets`
    pub fn translate_offsets(&self, source: &str, group: &str) -> Vec<GroupOffset> {
        self.ask("translate_offsets", json!({"source": source, "group": group}))
    }

    /// `MirrorClient.remoteConsumerOffsets`
    pub fn remote_consumer_offsets(&self, source: &str, group: &str) -> Vec<GroupOffset> {
        self.ask(
            "remote_consumer_offsets",
            json!({"source": source, "group": group}),
        )
    }

    /// `MirrorClient.replicationHops`; −1 when there is no way.
    pub fn replication_hops(&self, source: &str) -> i32 {
        self.ask("replication_hops", json!({"source": source}))
    }

    /// `MirrorClient.upstreamClusters`
    pub fn upstream_clusters(&self) -> Vec<String> {
        self.ask("upstream_clusters", json!({}))
    }

    /// `MirrorClient.heartbeatTopics`
    pub fn heartbeat_topics(&self) -> Vec<String> {
        self.ask("heartbeat_topics", json!({}))
    }

    /// `MirrorClient.checkpointTopics`
    pub fn checkpoint_topics(&self) -> Vec<String> {
        self.ask("checkpoint_topics", json!({}))
    }
}
