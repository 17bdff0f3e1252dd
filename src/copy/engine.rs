//! The record engine: librdkafka on both sides, one record at a time, payloads never copied. What crosses
//! the port to the task is spans of offsets and bytes of our own; no librdkafka type does.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::CStr;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;

use super::task::PartitionId;
use crate::error::{Code, Error, Result, Side};
use crate::kafka::TopicPartition;
use crate::kafka::client::{ClusterConnection, TaskMemory};
use crate::kafka::codes::code;
use crate::kafka::consumer::{Consumer, Kind, Message, PartitionQueue, ReadFrom, TopicHandle, truncated_at};
use crate::kafka::producer::{DeliverySpan, Headers, Producer, TopicNumber};
use crate::state::ledger::{self, Fence, Ledger, NotFenced, StateRecord};
use crate::state::resume::Truncation;
use crate::topology::{Delivery, FlowSpec};

/// How long one commit may take before its outcome counts as unknown.
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// What librdkafka spends on a record in flight besides key and value: its operation on the consumer's
/// side and its message on the producer's, measured with small records.
pub const RECORD_OVERHEAD: u64 = 512;

/// How long the target may take to tell of a new partition of a topic that is written already.
const LEARN_TIMEOUT: Duration = Duration::from_secs(5);

/// Name of the header that carries the cluster id of a record's origin.
pub const ORIGIN_HEADER: &CStr = c"causeway.origin";

/// What [`RecordEngine::take`] found, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Consecutive records; they wait in hand.
    Records {
        /// Of which partition.
        partition: PartitionId,
        /// Source offset of the first.
        first: i64,
        /// How many.
        count: u32,
        /// Key and value bytes.
        payload_bytes: u64,
        /// The source's leader epoch of the last one, if it is known.
        leader_epoch: Option<i32>,
    },
    /// Everything before `position` was taken.
    End {
        /// Of which partition.
        partition: PartitionId,
        /// The next source offset.
        position: i64,
    },
    /// The source cannot serve a partition; `None`: the source as a whole.
    Failed(Option<PartitionId>, Error),
    /// The source's log is, or was, shorter than what was read of it.
    Truncated(PartitionId, Truncation, Error),
}

/// What became of consecutive records.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Of which partition.
    pub partition: PartitionId,
    /// Source offset of the first.
    pub first: i64,
    /// How many.
    pub count: u32,
    /// What they cost in memory.
    pub bytes: u64,
    /// Key and value bytes.
    pub payload_bytes: u64,
    /// Timestamp of the first, ms since the epoch; −1 for none.
    pub first_timestamp: i64,
    /// Where the first one went, or why it did not.
    pub outcome: Outcome,
}

/// See [`Answer::outcome`].
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Acknowledged by all in-sync replicas; target offset of the first, where the client knows it.
    Delivered(Option<i64>),
    /// Left out: it came from the target.
    Skipped,
    /// The target did not take it.
    Failed(Error),
}

/// Cluster ids for `provenance: header`.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Written to records that have no origin yet.
    pub source_cluster_id: String,
    /// Records of this origin are left out.
    pub target_cluster_id: String,
}

/// Clients and routes of one task. Fields are dropped in order: first the producers, which give every message
/// back, then the messages in hand, then the consumer that owns their memory.
pub struct RecordEngine {
    /// Without transactions, data goes through a producer of its own; the ledger fences former owners in
    /// both modes.
    plain: Option<Producer>,
    ledger: Ledger,
    hand: VecDeque<(PartitionId, Message)>,
    /// The partition on trial is read from a queue of its own.
    apart: Option<(PartitionId, PartitionQueue)>,
    consumer: Consumer,
    routes: Vec<Route>,
    /// Source topic → partition number → id.
    by_source: HashMap<Arc<str>, Vec<Option<PartitionId>>>,
    /// Target topic → its number at the data producer.
    targets: BTreeMap<String, TopicNumber>,
    /// Number at the data producer → partition number → id.
    by_target: Vec<Vec<Option<PartitionId>>>,
    origin: Option<Origin>,
    deliveries: Vec<DeliverySpan>,
    answers: Vec<Answer>,
    zero_timestamps: u64,
}

struct Route {
    source: TopicPartition,
    target: TopicNumber,
}

impl RecordEngine {
    /// Creates the clients of a task, whose batches stay within `batch_bytes`. Nothing is fenced yet.
    pub fn new(
        spec: &FlowSpec,
        fence: Fence,
        source: &ClusterConnection,
        target: &ClusterConnection,
        memory: TaskMemory,
        batch_bytes: Option<u64>,
        origin: Option<Origin>,
    ) -> Result<Self> {
        let task = fence.task();
        let label = format!("{} {}/{task}", spec.id.topology, spec.id);
        let client_id = spec.id.transactional_id(task);
        let refused = |code: Code| move |text: String| Error::new(code, text);
        let consumer = Consumer::new(&source.task_consumer(&client_id, memory), &label)
            .map_err(refused(Code::SourceAuthentication))?;
        let plain = match spec.delivery {
            Delivery::ExactlyOnce => None,
            Delivery::AtLeastOnce => Some(ledger::producer(spec, task, target, batch_bytes, None)?),
        };
        Ok(Self {
            plain,
            ledger: Ledger::new(spec, fence, target, batch_bytes)?,
            hand: VecDeque::new(),
            apart: None,
            consumer,
            routes: Vec::new(),
            by_source: HashMap::new(),
            targets: BTreeMap::new(),
            by_target: Vec::new(),
            origin,
            deliveries: Vec::new(),
            answers: Vec::new(),
            zero_timestamps: 0,
        })
    }

    /// Fences every former owner of this task.
    pub fn fence(&mut self, timeout: Duration) -> std::result::Result<(), NotFenced> {
        self.ledger.fence(timeout)
    }

    /// As [`RecordEngine::assign`], apart from all others: see [`RecordEngine::take_apart`].
    pub fn assign_apart(
        &mut self,
        source: &TopicPartition,
        remote: &str,
        from: ReadFrom,
    ) -> Result<PartitionId> {
        let queue = self
            .consumer
            .set_apart(source)
            .map_err(|e| Error::new(Code::SourceUnexpected, e))?;
        let ids = self.assign(&[(source.clone(), remote.to_owned(), from)])?;
        self.apart = Some((ids[0], queue));
        Ok(ids[0])
    }

    /// Whether records of the partition that is read apart, or its end, wait to be taken.
    pub fn is_waiting_apart(&self) -> bool {
        self.apart.as_ref().is_some_and(|(_, queue)| !queue.is_empty())
    }

    /// As [`RecordEngine::take`], of the partition that is read apart. Waits for nothing.
    pub fn take_apart(&mut self, taken: &mut Vec<Taken>) {
        let Some((_, queue)) = &self.apart else { return };
        let messages = self.consumer.take_apart(queue);
        sort(messages, &self.by_source, &mut self.hand, taken);
    }

    /// The partition that was read apart is read with the others from now on.
    pub fn join(&mut self) {
        if let Some((_, queue)) = self.apart.take() {
            self.consumer.join(queue);
        }
    }

    /// Starts to read partitions and prepares where they go. Ids are given in order of first use.
    pub fn assign(&mut self, partitions: &[(TopicPartition, String, ReadFrom)]) -> Result<Vec<PartitionId>> {
        let mut ids = Vec::with_capacity(partitions.len());
        // Of the others librdkafka has not heard yet.
        let known: Vec<_> = partitions
            .iter()
            .filter(|(source, ..)| self.by_source.contains_key(&source.topic))
            .map(|(source, _, from)| (source.clone(), *from))
            .collect();
        for (source, remote, _) in partitions {
            let target = match self.targets.get(remote) {
                Some(number) => {
                    let learnt = data(&mut self.plain, &mut self.ledger).learn_partition(
                        *number,
                        source.partition,
                        LEARN_TIMEOUT,
                    );
                    learnt.map_err(|why| Error::new(Code::TargetUnavailable, format!("{remote}: {why}")))?;
                    *number
                }
                None => {
                    let number = data(&mut self.plain, &mut self.ledger)
                        .topic(remote)
                        .map_err(|e| Error::new(Code::TargetTopicMissing, e))?;
                    self.targets.insert(remote.clone(), number);
                    number
                }
            };
            let slots = self.by_source.entry(source.topic.clone()).or_default();
            let id = match slot(slots, source.partition) {
                Some(id) => *id,
                empty => {
                    let id = PartitionId(self.routes.len());
                    *empty = Some(id);
                    self.routes.push(Route {
                        source: source.clone(),
                        target,
                    });
                    id
                }
            };
            if self.by_target.len() <= target.0 {
                self.by_target.resize_with(target.0 + 1, Vec::new);
            }
            *slot(&mut self.by_target[target.0], source.partition) = Some(id);
            ids.push(id);
        }
        let starts: Vec<_> = partitions
            .iter()
            .map(|(tp, _, from)| (tp.clone(), *from))
            .collect();
        let refused = |e| Error::new(Code::SourceUnexpected, e);
        self.consumer.assign(&starts).map_err(refused)?;
        self.consumer.learn_leaders(LEARN_TIMEOUT);
        self.consumer.validate(&known).map_err(refused)?;
        data(&mut self.plain, &mut self.ledger).learn_leaders(LEARN_TIMEOUT);
        Ok(ids)
    }

    /// Stops reading a partition.
    pub fn unassign(&mut self, partition: PartitionId) -> Result<()> {
        let tp = self.routes[partition.0].source.clone();
        let unassigned = self.consumer.unassign(&[tp]);
        if self.apart.as_ref().is_some_and(|(id, _)| *id == partition) {
            self.join();
        }
        unassigned.map_err(|e| Error::new(Code::SourceUnexpected, e))
    }

    /// The source partition behind an id.
    pub fn source(&self, partition: PartitionId) -> &TopicPartition {
        &self.routes[partition.0].source
    }

    /// Waits up to `timeout` for records and lists what came, in order. Records wait in hand until
    /// [`RecordEngine::enqueue`] or [`RecordEngine::discard`].
    pub fn take(&mut self, timeout: Duration, taken: &mut Vec<Taken>) {
        let messages = self.consumer.take(timeout);
        sort(messages, &self.by_source, &mut self.hand, taken);
    }

    /// How many answers about metadata the source's client has had: before one comes, it reads no other topic of a
    /// name than it did.
    pub fn metadata_answers(&self) -> u64 {
        self.consumer.metadata_answers()
    }

    /// Sends the next `n` records in hand.
    pub fn enqueue(&mut self, n: u32) {
        let data = data(&mut self.plain, &mut self.ledger);
        for (partition, message) in self.hand.drain(..n as usize) {
            let headers = match route(self.origin.as_ref(), &message) {
                Ok(Some(headers)) => headers,
                Ok(None) => {
                    answer(
                        &mut self.answers,
                        Answer::of(partition, &message, Outcome::Skipped),
                    );
                    continue;
                }
                Err(err) => {
                    let error = Error::new(Code::SourceCorrupt, format!("headers cannot be read: {err}"));
                    answer(
                        &mut self.answers,
                        Answer::of(partition, &message, Outcome::Failed(error)),
                    );
                    continue;
                }
            };
            self.zero_timestamps += u64::from(message.timestamp() == 0);
            if let Err((message, err)) = data.send(self.routes[partition.0].target, message, headers) {
                let error = match err {
                    // What librdkafka cannot parse is the record's fault, not the target's.
                    RDKafkaErrorCode::BadMessage => {
                        Error::new(Code::SourceCorrupt, format!("headers cannot be read: {err}"))
                    }
                    err => target_error(data.fatal_error().unwrap_or(err)),
                };
                answer(
                    &mut self.answers,
                    Answer::of(partition, &message, Outcome::Failed(error)),
                );
            }
        }
    }

    /// Drops the next `n` records in hand.
    pub fn discard(&mut self, n: u32) {
        self.hand.drain(..n as usize);
    }

    /// Collects what became of records, waiting up to `timeout` for the first answer.
    pub fn answers(&mut self, timeout: Duration, answers: &mut Vec<Answer>) {
        let wait = if self.answers.is_empty() {
            timeout
        } else {
            Duration::ZERO
        };
        data(&mut self.plain, &mut self.ledger).poll(wait);
        answers.append(&mut self.answers);
        data(&mut self.plain, &mut self.ledger).take_deliveries(&mut self.deliveries);
        for span in &self.deliveries {
            let known = self.by_target[span.topic.0]
                .get(span.partition as usize)
                .copied()
                .flatten();
            let Some(partition) = known else { continue };
            answers.push(Answer {
                partition,
                first: span.source_first,
                count: span.count,
                bytes: span.payload_bytes + u64::from(span.count) * RECORD_OVERHEAD,
                payload_bytes: span.payload_bytes,
                first_timestamp: span.first_timestamp,
                outcome: match span.error {
                    None => Outcome::Delivered(span.target_base),
                    Some(err) => Outcome::Failed(target_error(err)),
                },
            });
        }
        if self.plain.is_some() {
            self.ledger.producer().poll(Duration::ZERO);
        }
    }

    /// Opens the transaction of the data (exactly once).
    pub fn begin(&mut self) -> Result<()> {
        self.ledger.begin()
    }

    /// Stores `records` in a transaction: the open one of the data, which it commits, or one of its own.
    /// On an error the outcome may be unknown: drop the engine and read the stored progress again.
    pub fn commit(&mut self, records: &[StateRecord], open: bool, timeout: Duration) -> Result<()> {
        self.ledger.commit(records, open, timeout)
    }

    /// Gives the open transaction up, so that readers of the target need not wait for it.
    pub fn abort(&mut self, timeout: Duration) -> Result<()> {
        self.ledger.abort(timeout)
    }

    /// Errors of the clients as a whole since the last call.
    pub fn client_errors(&mut self) -> Vec<Error> {
        let mut errors = vec![];
        let mut add = |side, list: Vec<(RDKafkaErrorCode, String)>| {
            errors.extend(
                list.into_iter()
                    .map(|(err, text)| Error::new(code(side, err), text)),
            );
        };
        add(Side::Source, self.consumer.take_errors());
        add(Side::Target, self.ledger.producer().take_errors());
        if let Some(plain) = &self.plain {
            add(Side::Target, plain.take_errors());
        }
        errors
    }

    /// Records with CreateTime 0 sent since the last call.
    pub fn take_zero_timestamps(&mut self) -> u64 {
        std::mem::take(&mut self.zero_timestamps)
    }
}

/// Lists messages as what the task hears of, in order; the records among them are in hand from now on.
fn sort(
    messages: impl Iterator<Item = Message>,
    by_source: &HashMap<Arc<str>, Vec<Option<PartitionId>>>,
    hand: &mut VecDeque<(PartitionId, Message)>,
    taken: &mut Vec<Taken>,
) {
    // Consecutive messages mostly belong to one partition: look it up when it changes.
    let mut current: Option<(TopicHandle, i32, Option<PartitionId>)> = None;
    let (mut in_hand, before) = (hand.len(), taken.len());
    for message in messages {
        let at = message.partition();
        let partition = message.topic_handle().and_then(|handle| match current {
            Some((h, p, id)) if h == handle && p == at => id,
            _ => {
                let id = message
                    .topic()
                    .and_then(|topic| by_source.get(topic))
                    .and_then(|slots| slots.get(at as usize).copied().flatten());
                current = Some((handle, at, id));
                id
            }
        });
        match (message.kind(), partition) {
            (Kind::Record, Some(partition)) => {
                let offset = message.offset();
                let payload = message.payload_bytes() as u64;
                hand.push_back((partition, message));
                match taken.last_mut() {
                    Some(Taken::Records {
                        partition: p,
                        first,
                        count,
                        payload_bytes,
                        ..
                    }) if *p == partition && *first + i64::from(*count) == offset => {
                        *count += 1;
                        *payload_bytes += payload;
                    }
                    _ => taken.push(Taken::Records {
                        partition,
                        first: offset,
                        count: 1,
                        payload_bytes: payload,
                        leader_epoch: None,
                    }),
                }
            }
            (Kind::End, Some(partition)) => taken.push(Taken::End {
                partition,
                position: message.offset(),
            }),
            (Kind::Failed(RDKafkaErrorCode::AutoOffsetReset, text), Some(partition)) => {
                let (code, same_until) = match truncated_at(&text) {
                    Some(same_until) => (Code::SourceTruncated, same_until),
                    None => (Code::SourceOutOfRange, None),
                };
                taken.push(Taken::Truncated(
                    partition,
                    Truncation { same_until },
                    Error::new(code, text),
                ));
            }
            (Kind::Failed(err, text), partition) => {
                taken.push(Taken::Failed(
                    partition,
                    Error::new(code(Side::Source, err), text),
                ));
            }
            // A partition that is not read any more.
            (Kind::Record | Kind::End, None) => {}
        }
    }
    // Asked of one record of a span, not of each.
    for it in &mut taken[before..] {
        if let Taken::Records {
            count, leader_epoch, ..
        } = it
        {
            in_hand += *count as usize;
            *leader_epoch = hand[in_hand - 1].1.leader_epoch();
        }
    }
}

/// What the target's refusal of a record means.
fn target_error(err: RDKafkaErrorCode) -> Error {
    Error::new(code(Side::Target, err), err.to_string())
}

/// The producer of data.
fn data<'a>(plain: &'a mut Option<Producer>, ledger: &'a mut Ledger) -> &'a mut Producer {
    match plain {
        Some(plain) => plain,
        None => ledger.producer(),
    }
}

/// How a record's headers travel; `None`: the record came from the target and is left out.
fn route<'a>(
    origin: Option<&'a Origin>,
    message: &Message,
) -> std::result::Result<Option<Headers<'a>>, RDKafkaErrorCode> {
    let Some(origin) = origin else {
        return Ok(Some(Headers::Move));
    };
    Ok(match message.header(ORIGIN_HEADER)? {
        Some(id) if id == origin.target_cluster_id.as_bytes() => None,
        Some(_) => Some(Headers::Move),
        None => Some(Headers::Append(
            ORIGIN_HEADER,
            origin.source_cluster_id.as_bytes(),
        )),
    })
}

impl Answer {
    /// The fate of one record.
    fn of(partition: PartitionId, message: &Message, outcome: Outcome) -> Self {
        let payload_bytes = message.payload_bytes() as u64;
        Self {
            partition,
            first: message.offset(),
            count: 1,
            bytes: payload_bytes + RECORD_OVERHEAD,
            payload_bytes,
            first_timestamp: message.timestamp(),
            outcome,
        }
    }
}

/// Adds one record's fate, extending the last answer when both were skipped in a row.
fn answer(answers: &mut Vec<Answer>, next: Answer) {
    if let Some(last) = answers.last_mut()
        && last.partition == next.partition
        && last.first + i64::from(last.count) == next.first
        && matches!(
            (&last.outcome, &next.outcome),
            (Outcome::Skipped, Outcome::Skipped)
        )
    {
        last.count += next.count;
        last.bytes += next.bytes;
        last.payload_bytes += next.payload_bytes;
        return;
    }
    answers.push(next);
}

fn slot(slots: &mut Vec<Option<PartitionId>>, partition: i32) -> &mut Option<PartitionId> {
    let at = partition as usize;
    if slots.len() <= at {
        slots.resize(at + 1, None);
    }
    &mut slots[at]
}
