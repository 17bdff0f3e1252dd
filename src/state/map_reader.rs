//! Reads the offset maps of a flow, and between which topics they were made: the whole offset-map and progress topics
//! at first, then what is new.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::resume::StoredProgress;
use super::slot::progress_of_record;
use crate::error::{Code, Error, Result, Side};
use crate::kafka::admin::{Admin, TopicDescription};
use crate::kafka::client::{ClusterConnection, LogContext};
use crate::kafka::codes::code;
use crate::kafka::{TopicId, TopicPartition};
use crate::offset_map::{PartitionMap, Segment, decode_key};
use crate::topology::FlowId;

/// The maps of all partitions of a flow, as they are committed on the target.
#[derive(Debug)]
pub struct MapReader {
    progress: Follower,
    map: Follower,
    maps: BTreeMap<TopicPartition, PartitionMap>,
    between: BTreeMap<TopicPartition, Between>,
    unreadable: u64,
}

/// The topics that a partition was copied between when its map was written last, by Kafka's ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Between {
    source: String,
    /// `None`: nothing was copied yet, or an older version did not store it.
    target: Option<String>,
}

impl Between {
    fn of(stored: &StoredProgress) -> Self {
        let copied = stored.next_target_offset.is_some_and(|next| 0 < next);
        Self {
            source: stored.topic_id.clone(),
            target: stored.target_topic_id.clone().filter(|_| copied),
        }
    }

    /// Why the map says nothing of topics with these ids, if it does not.
    pub fn outdated(&self, source: &TopicId, target: &TopicId) -> Option<&'static str> {
        if self.source != *source.0 {
            Some("the source topic was made anew, and nothing of the new one is copied yet")
        } else if self.target.as_ref().is_some_and(|id| *id != *target.0) {
            Some("the target topic was made anew, and does not have what was copied")
        } else {
            None
        }
    }
}

/// A reader of partitions of one topic that goes on where it stopped.
struct Follower {
    consumer: Option<BaseConsumer<LogContext>>,
    topic: String,
    /// Partitions of the topic that were not read to their end yet.
    unread: BTreeSet<i32>,
}

/// How long nothing must come before the end counts as reached: fetches wait up to 100 ms at the broker.
const QUIET: Duration = Duration::from_millis(150);
/// How long it is waited for that, once every end has been seen.
const BUSY: Duration = Duration::from_millis(500);

impl MapReader {
    /// A reader of the maps of a flow with so many tasks. Nothing is read yet.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn open(target: &ClusterConnection, flow: &FlowId, tasks: u32) -> Result<Self> {
        Ok(Self {
            progress: Follower::open(target, &flow.progress_topic(), tasks)?,
            map: Follower::open(target, &flow.offset_map_topic(), tasks)?,
            maps: BTreeMap::new(),
            between: BTreeMap::new(),
            unreadable: 0,
        })
    }

    /// Takes in what has been committed. Returns when the end of every partition has been seen and nothing new
    /// comes, or soon after where something always does.
    ///
    /// # Errors
    /// The target does not answer in time; what was read stays.
    pub fn catch_up(&mut self, timeout: Duration) -> Result<()> {
        // In this order: what progress says of the topics, the map knows, because one transaction writes both.
        let (between, maps, unreadable) = (&mut self.between, &mut self.maps, &mut self.unreadable);
        self.progress.catch_up(timeout, |message| {
            if let Some((partition, stored)) = progress_of_record(message.key(), message.payload()) {
                between.insert(partition, Between::of(&stored));
            }
        })?;
        self.map.catch_up(timeout, |message| {
            if apply(maps, message).is_none() {
                *unreadable += 1;
            }
        })
    }

    /// The maps by source partition.
    pub fn maps(&self) -> &BTreeMap<TopicPartition, PartitionMap> {
        &self.maps
    }

    /// Says nothing of a partition from now on.
    pub fn forget(&mut self, partition: &TopicPartition) {
        self.maps.remove(partition);
    }

    /// Between which topics each was made.
    pub fn between(&self) -> &BTreeMap<TopicPartition, Between> {
        &self.between
    }

    /// Records that could not be understood: of another version, or not ours.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Of partitions with their topics on the target, those whose map is not about the topics that are there now, and
    /// why.
    ///
    /// # Errors
    /// A cluster cannot be asked at all.
    pub fn outdated(
        &self,
        source: &Admin,
        target: &Admin,
        partitions: &BTreeMap<TopicPartition, String>,
        timeout: Duration,
    ) -> Result<BTreeMap<TopicPartition, String>> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let here: BTreeSet<&str> = partitions.keys().map(|tp| &*tp.topic).collect();
        let there: BTreeSet<&str> = partitions.values().map(String::as_str).collect();
        let ids = |admin: &Admin, names: BTreeSet<&str>| {
            let names: Vec<&str> = names.into_iter().collect();
            admin.describe_topics(&names, timeout)
        };
        let (here, there) = (ids(source, here)?, ids(target, there)?);
        let id = |described: &BTreeMap<String, Result<TopicDescription>>, topic: &str| match described
            .get(topic)
        {
            Some(Ok(topic)) => Ok(topic.id.clone()),
            Some(Err(error)) => Err(error.to_string()),
            None => Err(format!("nothing is said about {topic}")),
        };
        let why = |tp: &TopicPartition, remote: &str| -> Option<String> {
            let (here, there) = match (id(&here, &tp.topic), id(&there, remote)) {
                (Ok(here), Ok(there)) => (here, there),
                (Err(error), _) | (_, Err(error)) => return Some(error),
            };
            let between = self.between.get(tp)?;
            between.outdated(&here, &there).map(str::to_owned)
        };
        let outdated = partitions
            .iter()
            .filter_map(|(tp, remote)| Some((tp.clone(), why(tp, remote)?)));
        Ok(outdated.collect())
    }
}

/// Takes in a record of the offset-map topic. `None`: it cannot be understood.
fn apply(maps: &mut BTreeMap<TopicPartition, PartitionMap>, message: &BorrowedMessage<'_>) -> Option<()> {
    let key = message.key().and_then(decode_key)?;
    let written_at = message.timestamp().to_millis().unwrap_or_default();
    let segment = match message.payload() {
        None => None,
        Some(value) => Some((Segment::decode(&key, value)?, written_at)),
    };
    let partition = key.partition.clone();
    maps.entry(partition.clone())
        .or_insert_with(|| PartitionMap::new(partition))
        .apply(&key, segment);
    Some(())
}

impl Follower {
    fn open(target: &ClusterConnection, topic: &str, tasks: u32) -> Result<Self> {
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
        })
    }

    fn catch_up(&mut self, timeout: Duration, mut each: impl FnMut(&BorrowedMessage<'_>)) -> Result<()> {
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
                Some(Ok(message)) => each(&message),
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
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl Drop for Follower {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_says_nothing_of_a_topic_that_was_made_anew() {
        let id = |text: &str| TopicId(text.into());
        let stored = |next_target_offset, target: Option<&str>| {
            Between::of(&StoredProgress {
                next_target_offset,
                target_topic_id: target.map(str::to_owned),
                ..StoredProgress::new(7, &id("here"))
            })
        };
        let copied = stored(Some(9), Some("there"));
        let says = |between: &Between, source, target| between.outdated(&id(source), &id(target)).is_none();
        assert!(says(&copied, "here", "there"));
        assert!(!says(&copied, "here", "anew"));
        assert!(!says(&copied, "anew", "there"));
        // Where nothing was copied, nothing is lost; what an older version stored is believed.
        assert!(says(&stored(Some(0), Some("there")), "here", "anew"));
        assert!(says(&stored(None, None), "here", "anew"));
        assert!(says(&stored(Some(9), None), "here", "anew"));
    }
}
