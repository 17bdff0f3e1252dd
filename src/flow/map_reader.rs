//! Reads the offset maps of a flow: the whole offset-map topic at first, then what is new.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::error::{Code, Error, Result, Side};
use crate::kafka::TopicPartition;
use crate::kafka::client::{ClusterConnection, LogContext};
use crate::kafka::codes::code;
use crate::offset_map::{PartitionMap, Segment, decode_key};

/// The maps of all partitions of a flow, as they are committed on the target.
pub struct MapReader {
    consumer: Option<BaseConsumer<LogContext>>,
    topic: String,
    /// Partitions of the topic that were not read to their end yet.
    unread: BTreeSet<i32>,
    maps: BTreeMap<TopicPartition, PartitionMap>,
    unreadable: u64,
}

/// How long nothing must come before the end counts as reached: fetches wait up to 100 ms at the broker.
const QUIET: Duration = Duration::from_millis(150);
/// How long it is waited for that, once every end has been seen.
const BUSY: Duration = Duration::from_millis(500);

impl MapReader {
    /// A reader of the offset-map topic of a flow with so many tasks. Nothing is read yet.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn open(target: &ClusterConnection, topic: &str, tasks: u32) -> Result<Self> {
        let context = LogContext {
            label: topic.to_owned(),
        };
        let side = |e: KafkaError| target_error(topic, &e);
        let consumer: BaseConsumer<LogContext> = target
            .state_reader(topic)
            .create_with_context(context)
            .map_err(side)?;
        let mut list = TopicPartitionList::new();
        for partition in 0..tasks as i32 {
            list.add_partition_offset(topic, partition, Offset::Beginning)
                .map_err(side)?;
        }
        consumer.assign(&list).map_err(side)?;
        Ok(Self {
            consumer: Some(consumer),
            topic: topic.to_owned(),
            unread: (0..tasks as i32).collect(),
            maps: BTreeMap::new(),
            unreadable: 0,
        })
    }

    /// Takes in what has been committed. Returns when the end of every partition has been seen and nothing new
    /// comes, or soon after where something always does.
    ///
    /// # Errors
    /// The target does not answer in time; what was read stays.
    pub fn catch_up(&mut self, timeout: Duration) -> Result<()> {
        let Some(consumer) = &self.consumer else {
            return Ok(());
        };
        let (started, deadline) = (Instant::now(), Instant::now() + timeout);
        while Instant::now() < deadline {
            // A flow that writes all the time is never quiet; what it writes now is for the next look.
            if self.unread.is_empty() && BUSY <= started.elapsed() {
                return Ok(());
            }
            match consumer.poll(QUIET) {
                None if self.unread.is_empty() => return Ok(()),
                None => {}
                Some(Ok(message)) => {
                    let Some(key) = message.key().and_then(decode_key) else {
                        self.unreadable += 1;
                        continue;
                    };
                    let written_at = message.timestamp().to_millis().unwrap_or_default();
                    let segment = match message.payload() {
                        None => None,
                        Some(value) => match Segment::decode(&key, value) {
                            Some(segment) => Some((segment, written_at)),
                            None => {
                                self.unreadable += 1;
                                continue;
                            }
                        },
                    };
                    let partition = key.partition.clone();
                    self.maps
                        .entry(partition.clone())
                        .or_insert_with(|| PartitionMap::new(partition))
                        .apply(&key, segment);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.unread.remove(&partition);
                }
                Some(Err(e)) => match target_error(&self.topic, &e) {
                    Error {
                        code: Code::TargetUnreachable | Code::TargetUnavailable,
                        ..
                    } => {}
                    error => return Err(error),
                },
            }
        }
        Err(Error::new(
            Code::TargetUnreachable,
            format!("reading {}: no end after {timeout:?}", self.topic),
        ))
    }

    /// The maps by source partition.
    pub fn maps(&self) -> &BTreeMap<TopicPartition, PartitionMap> {
        &self.maps
    }

    /// Records that could not be understood: of another version, or not ours.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }
}

impl std::fmt::Debug for MapReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MapReader")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl Drop for MapReader {
    fn drop(&mut self) {
        // Closing a client may take most of a second.
        let consumer = self.consumer.take();
        std::thread::spawn(move || drop(consumer));
    }
}

fn target_error(topic: &str, error: &KafkaError) -> Error {
    let known = error.rdkafka_error_code();
    let code = known.map_or(Code::TargetUnreachable, |err| code(Side::Target, err));
    Error::new(code, format!("reading {topic}: {error}")).of_own_topic()
}
