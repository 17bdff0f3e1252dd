//! Reads partitions of a topic to their ends: control topics, and short stretches of data.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Offset, TopicPartitionList};

use super::admin::Admin;
use super::client::{ClusterConnection, LogContext};
use super::codes::code;
use super::consumer::{Consumer as TaskConsumer, Kind, Message, ReadFrom};
use super::{NextOffset, TopicPartition};
use crate::error::{Code, Error, Result, Side};

/// What is read of a topic.
#[derive(Clone, Debug)]
pub struct Stretch<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Its partitions, each with its first offset; `None`: from the beginning.
    pub partitions: &'a [(i32, Option<i64>)],
    /// Whether records of transactions that are open or aborted count.
    pub uncommitted: bool,
}

/// Hands every committed record of a topic to `each`, in the order of each partition.
///
/// # Errors
/// There is no such topic, or as [`read_to_end`].
pub fn read_topic(
    admin: &Admin,
    cluster: &ClusterConnection,
    side: Side,
    topic: &str,
    patience: Duration,
    mut each: impl FnMut(&BorrowedMessage<'_>),
) -> Result<()> {
    let all: Vec<_> = (0..partitions(admin, topic, patience)?)
        .map(|number| (number, None))
        .collect();
    let stretch = Stretch {
        topic,
        partitions: &all,
        uncommitted: false,
    };
    read_to_end(cluster, side, &stretch, patience, |message| {
        each(message);
        Ok(true)
    })
}

/// The partition count of a topic.
///
/// # Errors
/// There is no such topic, or the cluster cannot tell.
pub fn partitions(admin: &Admin, topic: &str, timeout: Duration) -> Result<i32> {
    match admin.describe_topics(&[topic], timeout)?.remove(topic) {
        Some(Ok(topic)) => Ok(topic.partitions),
        Some(Err(error)) => Err(Error::new(error.code, format!("{topic}: {}", error.detail))),
        None => Err(Error::new(
            Code::TargetUnexpected,
            format!("nothing is said about {topic}"),
        )),
    }
}

/// A topic that is not there has no records.
///
/// # Errors
/// Any other error of reading it.
pub fn absent_is_empty(read: Result<()>) -> Result<()> {
    match read {
        Err(error) if matches!(error.code, Code::SourceTopicMissing | Code::TargetTopicMissing) => Ok(()),
        other => other,
    }
}

/// Hands every committed record of a partition from offset `start` on to `each`, until everything before offset `end`
/// has been read, however the leader of the moment stands to it.
///
/// # Errors
/// Nothing came for `patience`, the cluster refuses, or what `each` says.
pub fn read_up_to(
    cluster: &ClusterConnection,
    side: Side,
    partition: &TopicPartition,
    (start, end): (i64, i64),
    patience: Duration,
    mut each: impl FnMut(&Message) -> Result<()>,
) -> Result<()> {
    let topic = &*partition.topic;
    let (unreachable, unexpected) = match side {
        Side::Source => (Code::SourceUnreachable, Code::SourceUnexpected),
        Side::Target => (Code::TargetUnreachable, Code::TargetUnexpected),
    };
    let refused = |why: String| Error::new(unexpected, format!("reading {topic}: {why}"));
    let mut consumer = TaskConsumer::new(&cluster.state_reader(topic), topic).map_err(refused)?;
    let from = ReadFrom {
        offset: NextOffset(start),
        leader_epoch: None,
    };
    consumer.assign(&[(partition.clone(), from)]).map_err(refused)?;
    // A client that knows the partition's leader reads at once instead of at its next look.
    consumer.learn_leaders(patience);
    let mut deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        for message in consumer.take(Duration::from_millis(100)) {
            match message.kind() {
                Kind::Record => {
                    deadline = Instant::now() + patience;
                    each(&message)?;
                }
                Kind::End if end <= message.offset() => return Ok(()),
                // The leader does not know yet of all that was committed.
                Kind::End => {}
                Kind::Failed(err, text) => {
                    let error = Error::new(code(side, err), format!("reading {topic}: {text}"));
                    if !passes(error.code) {
                        return Err(error);
                    }
                }
            }
        }
    }
    let detail = format!("reading {topic}: nothing for {patience:?}, and not at offset {end}");
    Err(Error::new(unreachable, detail))
}

/// Whether a reader need only wait.
fn passes(code: Code) -> bool {
    matches!(
        code,
        Code::SourceUnreachable | Code::SourceUnavailable | Code::TargetUnreachable | Code::TargetUnavailable
    )
}

/// Hands every record to `each`, in the order of each partition, until every partition has ended or `each` has
/// answered `false` for it: then no more of that partition comes.
///
/// # Errors
/// Nothing came for `patience`, the cluster refuses, or what `each` says.
pub fn read_to_end(
    cluster: &ClusterConnection,
    side: Side,
    stretch: &Stretch<'_>,
    patience: Duration,
    mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<bool>,
) -> Result<()> {
    let Stretch { topic, .. } = stretch;
    // An error without a code of librdkafka's is one of waiting.
    let unreachable = match side {
        Side::Source => Code::SourceUnreachable,
        Side::Target => Code::TargetUnreachable,
    };
    let told = |e: KafkaError| {
        let code = e.rdkafka_error_code().map_or(unreachable, |err| code(side, err));
        Error::new(code, format!("reading {topic}: {e}"))
    };
    let context = LogContext {
        label: (*topic).to_owned(),
    };
    let consumer: BaseConsumer<LogContext> = cluster
        .control_reader(topic, stretch.uncommitted)
        .create_with_context(context)
        .map_err(told)?;
    let mut list = TopicPartitionList::new();
    for (partition, start) in stretch.partitions {
        let start = start.map_or(Offset::Beginning, Offset::Offset);
        list.add_partition_offset(topic, *partition, start)
            .map_err(told)?;
    }
    // A client that knows the partitions' leaders reads at once instead of at its next look, up to 1 s later.
    consumer.fetch_metadata(Some(topic), patience).map_err(told)?;
    consumer.incremental_assign(&list).map_err(told)?;
    let mut open: BTreeSet<i32> = stretch
        .partitions
        .iter()
        .map(|(partition, _)| *partition)
        .collect();
    let mut deadline = Instant::now() + patience;
    let mut read = || {
        while !open.is_empty() {
            if deadline <= Instant::now() {
                let detail = format!("reading {topic}: no end after {patience:?} without a record");
                return Err(Error::new(unreachable, detail));
            }
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(message)) => {
                    use rdkafka::Message as _;
                    deadline = Instant::now() + patience;
                    let partition = message.partition();
                    if open.contains(&partition) && !each(&message)? {
                        open.remove(&partition);
                        let mut ended = TopicPartitionList::new();
                        ended.add_partition(topic, partition);
                        consumer.incremental_unassign(&ended).map_err(told)?;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(e)) => match told(e) {
                    error if passes(error.code) => {}
                    error => return Err(error),
                },
            }
        }
        Ok(())
    };
    let outcome = read();
    // Closing a client may take most of a second.
    std::thread::spawn(move || drop(consumer));
    outcome
}
