//! Positions as MM2 keeps them: the offsets topic of Kafka Connect, `mm2-offsets.<source>.internal` on the target.
//!
//! Keys and values are JSON without spaces. Connect looks a key up by its bytes, and so does compaction: a key
//! must be written in Connect's own order of members, which is that of a Java `HashMap`, and into the partition
//! that Java's default partitioner chooses. Whoever has altered offsets through Connect's REST interface may
//! have left another order, so reading goes by meaning.

use serde::Serialize;
use serde_json::Value;

use crate::kafka::{ClusterAlias, Offset, Source, TopicPartition};

/// Name of MM2's source connector in dedicated mode. On a Connect cluster it is the user's choice; Strimzi's
/// is `<source>-><target>.MirrorSourceConnector`.
pub const SOURCE_CONNECTOR: &str = "MirrorSourceConnector";

/// The offsets topic of a dedicated MM2 that copies from `source`. A Connect cluster names its own.
pub fn offsets_topic(source: &ClusterAlias) -> String {
    format!("mm2-offsets.{source}.internal")
}

/// Whose position an entry is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PositionKey {
    /// Name of the source connector.
    pub connector: String,
    /// Alias of the source cluster.
    pub cluster: String,
    /// The partition under its name on the source.
    pub topic_partition: TopicPartition,
}

/// The members in the order that Connect writes.
#[derive(Serialize)]
struct Members<'a> {
    cluster: &'a str,
    partition: i32,
    topic: &'a str,
}

impl PositionKey {
    /// The key as Connect writes it.
    pub fn encode(&self) -> Vec<u8> {
        let members = Members {
            cluster: &self.cluster,
            partition: self.topic_partition.partition,
            topic: &self.topic_partition.topic,
        };
        serde_json::to_vec(&(&self.connector, members)).expect("texts and a number are JSON")
    }

    /// Reads a key, whatever the order of its members. `None`: the entry of a checkpoint or heartbeat
    /// connector, or of no MM2 connector at all.
    pub fn decode(key: &[u8]) -> Option<Self> {
        let (connector, members): (String, Value) = serde_json::from_slice(key).ok()?;
        let partition = i32::try_from(members.get("partition")?.as_i64()?).ok()?;
        (0 <= partition).then_some(())?;
        Some(Self {
            connector,
            cluster: members.get("cluster")?.as_str()?.to_owned(),
            topic_partition: TopicPartition::new(members.get("topic")?.as_str()?, partition),
        })
    }
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The last record that was copied; MM2 goes on with the next one.
    Last(Source<Offset>),
    /// No position: deleted (a tombstone), or an offset that MM2 ignores. MM2 begins as its consumer's
    /// `auto.offset.reset` says, by default at the earliest record.
    Nothing,
}

impl Position {
    /// The value as Connect writes it; `None` is a tombstone.
    pub fn encode(self) -> Option<Vec<u8>> {
        match self {
            Self::Last(Source(Offset(offset))) => Some(format!(r#"{{"offset":{offset}}}"#).into_bytes()),
            Self::Nothing => None,
        }
    }

    /// Reads a value. `None`: the bytes are nothing that Connect or MM2 writes.
    pub fn decode(value: Option<&[u8]>) -> Option<Self> {
        let Some(value) = value else {
            return Some(Self::Nothing);
        };
        match serde_json::from_slice(value).ok()? {
            Value::Null => Some(Self::Nothing),
            Value::Object(members) => match members.get("offset") {
                None | Some(Value::Null) => Some(Self::Nothing),
                Some(offset) => match offset.as_i64()? {
                    ..0 => Some(Self::Nothing),
                    offset => Some(Self::Last(Source(Offset(offset)))),
                },
            },
            _ => None,
        }
    }
}

/// The partition of a key among `partitions`, at least 1 (Java's default partitioner; librdkafka's
/// `murmur2_random`). In another partition an entry would stand beside the one it is meant to replace.
pub fn partition(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff).cast_signed() % partitions
}

/// `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut h = 0x9747_b28c ^ data.len() as u32;
    let (words, rest) = data.as_chunks();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> R)).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(connector: &str, cluster: &str, topic: &str, partition: i32) -> PositionKey {
        PositionKey {
            connector: connector.into(),
            cluster: cluster.into(),
            topic_partition: TopicPartition::new(topic, partition),
        }
    }

    #[test]
    fn a_key_is_written_in_connects_order() {
        let key = key(SOURCE_CONNECTOR, "primary", "orders", 3);
        let bytes = br#"["MirrorSourceConnector",{"cluster":"primary","partition":3,"topic":"orders"}]"#;
        assert_eq!(key.encode(), bytes);
        assert_eq!(PositionKey::decode(bytes), Some(key));
        assert_eq!(
            Position::Last(Source(Offset(7))).encode(),
            Some(br#"{"offset":7}"#.to_vec())
        );
        assert_eq!(
            offsets_topic(&ClusterAlias::new("primary")),
            "mm2-offsets.primary.internal"
        );
    }

    #[test]
    fn a_key_is_read_in_any_order_and_under_any_connector_name() {
        let strimzi = br#"[ "a->b.MirrorSourceConnector", {"topic":"t.x","partition":0,"cluster":"a"} ]"#;
        assert_eq!(
            PositionKey::decode(strimzi),
            Some(key("a->b.MirrorSourceConnector", "a", "t.x", 0))
        );
    }

    #[test]
    fn entries_of_other_connectors_are_none_of_ours() {
        for other in [
            r#"["MirrorCheckpointConnector",{"partition":3,"topic":"primary.orders","group":"my-group"}]"#,
            r#"["MirrorHeartbeatConnector",{"sourceClusterAlias":"primary","targetClusterAlias":"backup"}]"#,
            r#"["files",{"filename":"x"}]"#,
            r#"["MirrorSourceConnector",{"cluster":"a","partition":-1,"topic":"t"}]"#,
            r#"["MirrorSourceConnector",{"cluster":"a","partition":"1","topic":"t"}]"#,
            r#"["MirrorSourceConnector",null]"#,
            r#"{"cluster":"a","partition":1,"topic":"t"}"#,
            "",
        ] {
            assert_eq!(PositionKey::decode(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_value_is_a_position_nothing_or_not_connects() {
        for (value, expected) in [
            (None, Some(Position::Nothing)),
            (Some("null"), Some(Position::Nothing)),
            (Some("{}"), Some(Position::Nothing)),
            (Some(r#"{"offset":null}"#), Some(Position::Nothing)),
            (Some(r#"{"offset":-1}"#), Some(Position::Nothing)),
            (
                Some(r#"{ "offset" : 0 }"#),
                Some(Position::Last(Source(Offset(0)))),
            ),
            (
                Some(r#"{"offset":9223372036854775807}"#),
                Some(Position::Last(Source(Offset(i64::MAX)))),
            ),
            (Some(r#"{"offset":9223372036854775808}"#), None),
            (Some(r#"{"offset":"7"}"#), None),
            (Some(r#"{"offset":1.5}"#), None),
            (Some("7"), None),
            (Some(""), None),
        ] {
            assert_eq!(Position::decode(value.map(str::as_bytes)), expected, "{value:?}");
        }
    }

    /// What Kafka's own partitioner has answered.
    #[test]
    fn keys_land_where_java_puts_them() {
        for (key, expected) in [
            (
                r#"["MirrorSourceConnector",{"cluster":"primary","partition":3,"topic":"orders"}]"#,
                4,
            ),
            (
                r#"["MirrorCheckpointConnector",{"partition":3,"topic":"primary.orders","group":"my-group"}]"#,
                1,
            ),
            (
                r#"["MirrorHeartbeatConnector",{"sourceClusterAlias":"primary","targetClusterAlias":"backup"}]"#,
                7,
            ),
        ] {
            assert_eq!(partition(key.as_bytes(), 25), expected, "{key}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            connector in ".{0,12}", cluster in ".{0,12}", topic in ".{0,12}", number in 0..i32::MAX, offset in 0..i64::MAX,
        ) {
            let key = key(&connector, &cluster, &topic, number);
            prop_assert_eq!(PositionKey::decode(&key.encode()), Some(key));
            let position = Position::Last(Source(Offset(offset)));
            prop_assert_eq!(Position::decode(position.encode().as_deref()), Some(position));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), partitions in 1..100i32) {
            let _ = (PositionKey::decode(&bytes), Position::decode(Some(&bytes)));
            prop_assert!((0..partitions).contains(&partition(&bytes, partitions)));
        }
    }
}
