//! MM2's records and topic names, byte for byte, so that MM2 and its Java clients read what causeway writes.
//!
//! The three records are plain structs of Kafka's protocol: big-endian integers, and texts of at most 32,767
//! bytes behind a 16-bit length. MM2's readers fail on a record without a value, so none of these topics may
//! ever hold a tombstone, and they read partition 0 only.

use crate::kafka::{ClusterAlias, NextOffset, Offset, Source, Target, TopicPartition};

pub mod connect_offsets;
pub mod overlap;

/// The topic with MM2's checkpoints of the groups of `source`; it lives on the target.
pub fn checkpoints_topic(source: &ClusterAlias) -> String {
    format!("{source}.checkpoints.internal")
}

/// The topic with MM2's offset syncs. It is named after the cluster that does not hold it: after the target
/// where it lives on the source (MM2's default), after the source where it lives on the target.
pub fn offset_syncs_topic(other: &ClusterAlias) -> String {
    format!("mm2-offset-syncs.{other}.internal")
}

/// Key and value of a record.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// A sign of life in topic `heartbeats` (MM2 `Heartbeat`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Heartbeat {
    /// Alias of the source of the flow that writes it.
    pub source: String,
    /// Alias of the target of the flow that writes it; the cluster it is written to.
    pub target: String,
    /// Milliseconds since 1970; also the timestamp of the record.
    pub timestamp: i64,
}

impl Heartbeat {
    /// Its bytes; `None` when an alias is longer than the format can say.
    pub fn encode(&self) -> Option<KeyValue> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        put_text(&mut key, &self.source)?;
        put_text(&mut key, &self.target)?;
        put_version(&mut value);
        put_i64(&mut value, self.timestamp);
        Some((key, value))
    }

    /// The reverse of [`Heartbeat::encode`]; `None` when the bytes are none.
    pub fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let (key, value) = (&mut &*key, &mut &*value);
        let heartbeat = Self {
            source: text(key)?,
            target: text(key)?,
            timestamp: version(value).and_then(|()| i64(value))?,
        };
        ends(key, value).then_some(heartbeat)
    }
}

/// Where a group of the source continues on the target (MM2 `Checkpoint`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    /// The group.
    pub group: String,
    /// The partition under its name on the target.
    pub topic_partition: TopicPartition,
    /// What the group has committed on the source.
    pub upstream: Source<NextOffset>,
    /// The same position on the target.
    pub downstream: Target<NextOffset>,
    /// What the group has stored with its commit; empty, never null.
    pub metadata: String,
}

impl Checkpoint {
    /// Its bytes; `None` when a text is longer than the format can say.
    pub fn encode(&self) -> Option<KeyValue> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        put_text(&mut key, &self.group)?;
        put_topic_partition(&mut key, &self.topic_partition)?;
        put_version(&mut value);
        put_i64(&mut value, self.upstream.0.0);
        put_i64(&mut value, self.downstream.0.0);
        put_text(&mut value, &self.metadata)?;
        Some((key, value))
    }

    /// The reverse of [`Checkpoint::encode`]; `None` when the bytes are none.
    pub fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let (key, value) = (&mut &*key, &mut &*value);
        version(value)?;
        let checkpoint = Self {
            group: text(key)?,
            topic_partition: topic_partition(key)?,
            upstream: Source(NextOffset(i64(value)?)),
            downstream: Target(NextOffset(i64(value)?)),
            metadata: text(value)?,
        };
        ends(key, value).then_some(checkpoint)
    }
}

/// One record and its copy (MM2 `OffsetSync`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OffsetSync {
    /// The partition under its name on the source.
    pub topic_partition: TopicPartition,
    /// The record.
    pub upstream: Source<Offset>,
    /// Its copy.
    pub downstream: Target<Offset>,
}

impl OffsetSync {
    /// Its bytes; `None` when the topic is longer than the format can say. The value has no version.
    pub fn encode(&self) -> Option<KeyValue> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        put_topic_partition(&mut key, &self.topic_partition)?;
        put_i64(&mut value, self.upstream.0.0);
        put_i64(&mut value, self.downstream.0.0);
        Some((key, value))
    }

    /// The reverse of [`OffsetSync::encode`]; `None` when the bytes are none.
    pub fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let (key, value) = (&mut &*key, &mut &*value);
        let sync = Self {
            topic_partition: topic_partition(key)?,
            upstream: Source(Offset(i64(value)?)),
            downstream: Target(Offset(i64(value)?)),
        };
        ends(key, value).then_some(sync)
    }
}

/// MM2's readers only assert the version, which production switches off: another one would be misread.
const VERSION: i16 = 0;

fn put_version(out: &mut Vec<u8>) {
    out.extend_from_slice(&VERSION.to_be_bytes());
}

fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) -> Option<()> {
    let length = i16::try_from(text.len()).ok()?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Some(())
}

fn put_topic_partition(out: &mut Vec<u8>, tp: &TopicPartition) -> Option<()> {
    put_text(out, &tp.topic)?;
    out.extend_from_slice(&tp.partition.to_be_bytes());
    Some(())
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*taken)
}

fn version(input: &mut &[u8]) -> Option<()> {
    (i16::from_be_bytes(take(input)?) == VERSION).then_some(())
}

fn i64(input: &mut &[u8]) -> Option<i64> {
    take(input).map(i64::from_be_bytes)
}

fn text(input: &mut &[u8]) -> Option<String> {
    // A negative length means null elsewhere in Kafka; here no field may be.
    let length = usize::try_from(i16::from_be_bytes(take(input)?)).ok()?;
    let (text, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(std::str::from_utf8(text).ok()?.to_owned())
}

fn topic_partition(input: &mut &[u8]) -> Option<TopicPartition> {
    let topic = text(input)?;
    Some(TopicPartition::new(topic, i32::from_be_bytes(take(input)?)))
}

fn ends(key: &[u8], value: &[u8]) -> bool {
    key.is_empty() && value.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn shown(record: Option<KeyValue>) -> (String, String) {
        let (key, value) = record.expect("the texts are short");
        (hex(&key), hex(&value))
    }

    fn checkpoint(
        group: &str,
        tp: TopicPartition,
        upstream: i64,
        downstream: i64,
        metadata: &str,
    ) -> Checkpoint {
        Checkpoint {
            group: group.into(),
            topic_partition: tp,
            upstream: Source(NextOffset(upstream)),
            downstream: Target(NextOffset(downstream)),
            metadata: metadata.into(),
        }
    }

    fn sync(tp: TopicPartition, upstream: i64, downstream: i64) -> OffsetSync {
        OffsetSync {
            topic_partition: tp,
            upstream: Source(Offset(upstream)),
            downstream: Target(Offset(downstream)),
        }
    }

    /// What MM2's own classes have written.
    #[test]
    fn the_bytes_are_those_of_mm2() {
        let heartbeat = Heartbeat {
            source: "primary".into(),
            target: "backup".into(),
            timestamp: 1_700_000_000_000,
        };
        let ours = [
            shown(heartbeat.encode()),
            shown(
                checkpoint(
                    "my-group",
                    TopicPartition::new("primary.orders", 3),
                    1_234_567_890_123,
                    42,
                    "",
                )
                .encode(),
            ),
            shown(checkpoint("gé", TopicPartition::new("t", 0), -1, 0, "meta").encode()),
            shown(sync(TopicPartition::new("orders", 3), 1_234_567_890_123, 42).encode()),
        ];
        let theirs = [
            ("00077072696d61727900066261636b7570", "00000000018bcfe56800"),
            (
                "00086d792d67726f7570000e7072696d6172792e6f726465727300000003",
                "00000000011f71fb04cb000000000000002a0000",
            ),
            (
                "000367c3a900017400000000",
                "0000ffffffffffffffff000000000000000000046d657461",
            ),
            ("00066f726465727300000003", "0000011f71fb04cb000000000000002a"),
        ];
        assert_eq!(
            ours,
            theirs.map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn the_topics_are_those_of_mm2() {
        let seoul = ClusterAlias::new("seoul");
        assert_eq!(checkpoints_topic(&seoul), "seoul.checkpoints.internal");
        assert_eq!(offset_syncs_topic(&seoul), "mm2-offset-syncs.seoul.internal");
    }

    #[test]
    fn what_the_format_cannot_say_has_no_bytes() {
        let longest = "x".repeat(32_767);
        let heartbeat = |source: String| Heartbeat {
            source,
            target: String::new(),
            timestamp: 0,
        };
        assert!(heartbeat(longest.clone()).encode().is_some());
        assert!(heartbeat(longest + "x").encode().is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            (a, b, c) in (".{0,12}", ".{0,12}", ".{0,12}"),
            partition: i32, upstream: i64, downstream: i64,
        ) {
            let tp = TopicPartition::new(b.as_str(), partition);
            let heartbeat = Heartbeat { source: a.clone(), target: b, timestamp: upstream };
            let (key, value) = heartbeat.encode().unwrap();
            prop_assert_eq!(Heartbeat::decode(&key, &value), Some(heartbeat));
            let checkpoint = checkpoint(&a, tp.clone(), upstream, downstream, &c);
            let (key, value) = checkpoint.encode().unwrap();
            prop_assert_eq!(Checkpoint::decode(&key, &value), Some(checkpoint));
            let sync = sync(tp, upstream, downstream);
            let (key, value) = sync.encode().unwrap();
            prop_assert_eq!(OffsetSync::decode(&key, &value), Some(sync));
        }

        /// And what is read is written so: no other bytes mean the same record.
        #[test]
        fn arbitrary_bytes_are_a_record_or_nothing(
            key in prop::collection::vec(prop_oneof![Just(0u8), 0u8..4, any::<u8>()], 0..24),
            value in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..24),
        ) {
            let bytes = (key, value);
            if let Some(it) = Heartbeat::decode(&bytes.0, &bytes.1) {
                prop_assert_eq!(it.encode(), Some(bytes.clone()));
            }
            if let Some(it) = Checkpoint::decode(&bytes.0, &bytes.1) {
                prop_assert_eq!(it.encode(), Some(bytes.clone()));
            }
            if let Some(it) = OffsetSync::decode(&bytes.0, &bytes.1) {
                prop_assert_eq!(it.encode(), Some(bytes.clone()));
            }
        }

        #[test]
        fn a_record_cut_short_or_longer_is_none(cut in 0usize..30, more in 1usize..4) {
            let (key, value) = checkpoint("g", TopicPartition::new("t", 1), 7, 8, "m").encode().unwrap();
            let short = &value[..cut.min(value.len() - 1)];
            prop_assert_eq!(Checkpoint::decode(&key, short), None);
            let long = [value.clone(), vec![0; more]].concat();
            prop_assert_eq!(Checkpoint::decode(&key, &long), None);
            let another_version = [&[0, 1], &value[2..]].concat();
            prop_assert_eq!(Checkpoint::decode(&key, &another_version), None);
        }
    }
}
