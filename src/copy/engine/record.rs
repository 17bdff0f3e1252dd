//! The record engine: librdkafka on both sides, one record at a time, payloads never copied. Its calls are those of
//! the [port](super::Engine).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::CStr;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;

use super::event::{Heard, Outcome, Start};
use crate::copy::span::{PartitionId, Span};
use crate::error::{Code, Error, Result, Side};
use crate::kafka::TopicPartition;
use crate::kafka::client::{ClusterConnection, TaskMemory};
use crate::kafka::codes::code;
use crate::kafka::consumer::{Consumer, Kind, Message, PartitionQueue, TopicHandle, truncated_at};
use crate::kafka::producer::{DeliverySpan, Headers, Producer, TopicNumber};
use crate::state::ledger::{self, Fence, Ledger, NotFenced, StateRecord};
use crate::state::resume::Truncation;
use crate::topology::{Delivery, FlowSpec};

/// What librdkafka spends on a record in flight besides key and value: its operation on the consumer's
/// side and its message on the producer's, measured with small records.
const RECORD_OVERHEAD: u64 = 512;

/// How long the target may take to tell of a new partition of a topic that is written already.
const LEARN_TIMEOUT: Duration = Duration::from_secs(5);

/// Name of the header that carries the cluster id of a record's origin.
pub const ORIGIN_HEADER: &CStr = c"causeway.origin";

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
    /// Fates of records that were never sent.
    unsent: Vec<Heard>,
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
            unsent: Vec::new(),
            zero_timestamps: 0,
        })
    }

    pub(super) fn fence(&mut self, timeout: Duration) -> std::result::Result<(), NotFenced> {
        self.ledger.fence(timeout)
    }

    pub(super) fn assign_apart(&mut self, start: Start) -> Result<PartitionId> {
        let queue = self
            .consumer
            .set_apart(&start.source)
            .map_err(|e| Error::new(Code::SourceUnexpected, e))?;
        let ids = self.assign(&[start])?;
        self.apart = Some((ids[0], queue));
        Ok(ids[0])
    }

    pub(super) fn is_waiting_apart(&self) -> bool {
        self.apart.as_ref().is_some_and(|(_, queue)| !queue.is_empty())
    }

    pub(super) fn poll_apart(&mut self, heard: &mut Vec<Heard>) {
        let Some((_, queue)) = &self.apart else { return };
        let messages = self.consumer.take_apart(queue);
        sort(messages, &self.by_source, &mut self.hand, heard);
    }

    pub(super) fn join(&mut self) {
        if let Some((_, queue)) = self.apart.take() {
            self.consumer.join(queue);
        }
    }

    pub(super) fn assign(&mut self, starts: &[Start]) -> Result<Vec<PartitionId>> {
        let mut ids = Vec::with_capacity(starts.len());
        // Of the others librdkafka has not heard yet.
        let known: Vec<_> = starts
            .iter()
            .filter(|start| self.by_source.contains_key(&start.source.topic))
            .map(|start| (start.source.clone(), start.from))
            .collect();
        for Start { source, remote, .. } in starts {
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
        let positions: Vec<_> = starts.iter().map(|it| (it.source.clone(), it.from)).collect();
        let refused = |e| Error::new(Code::SourceUnexpected, e);
        self.consumer.assign(&positions).map_err(refused)?;
        self.consumer.learn_leaders(LEARN_TIMEOUT);
        self.consumer.validate(&known).map_err(refused)?;
        data(&mut self.plain, &mut self.ledger).learn_leaders(LEARN_TIMEOUT);
        Ok(ids)
    }

    pub(super) fn unassign(&mut self, partition: PartitionId) -> Result<()> {
        let tp = self.routes[partition.0].source.clone();
        let unassigned = self.consumer.unassign(&[tp]);
        if self.apart.as_ref().is_some_and(|(id, _)| *id == partition) {
            self.join();
        }
        unassigned.map_err(|e| Error::new(Code::SourceUnexpected, e))
    }

    pub(super) fn source(&self, partition: PartitionId) -> &TopicPartition {
        &self.routes[partition.0].source
    }

    pub(super) fn metadata_answers(&self) -> u64 {
        self.consumer.metadata_answers()
    }

    pub(super) fn enqueue(&mut self, n: u32) {
        let data = data(&mut self.plain, &mut self.ledger);
        for (partition, message) in self.hand.drain(..n as usize) {
            let headers = match route(self.origin.as_ref(), &message) {
                Ok(Some(headers)) => headers,
                Ok(None) => {
                    unsent(&mut self.unsent, partition, &message, Outcome::Skipped);
                    continue;
                }
                Err(err) => {
                    let error = Error::new(Code::SourceCorrupt, format!("headers cannot be read: {err}"));
                    unsent(&mut self.unsent, partition, &message, Outcome::Failed(error));
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
                unsent(&mut self.unsent, partition, &message, Outcome::Failed(error));
            }
        }
    }

    pub(super) fn discard(&mut self, n: u32) {
        self.hand.drain(..n as usize);
    }

    pub(super) fn poll(&mut self, want_records: bool, timeout: Duration, heard: &mut Vec<Heard>) {
        let mut wait = timeout;
        if want_records {
            let messages = self.consumer.take(timeout);
            sort(messages, &self.by_source, &mut self.hand, heard);
            wait = Duration::ZERO;
        }
        if !self.unsent.is_empty() {
            wait = Duration::ZERO;
        }
        data(&mut self.plain, &mut self.ledger).poll(wait);
        heard.append(&mut self.unsent);
        data(&mut self.plain, &mut self.ledger).take_deliveries(&mut self.deliveries);
        for it in &self.deliveries {
            let known = self.by_target[it.topic.0]
                .get(it.partition as usize)
                .copied()
                .flatten();
            let Some(partition) = known else { continue };
            heard.push(Heard::Answer {
                span: span(partition, it.source_first, it.count, it.payload_bytes),
                payload_bytes: it.payload_bytes,
                first_timestamp: it.first_timestamp,
                outcome: match it.error {
                    None => Outcome::Delivered(it.target_base),
                    Some(err) => Outcome::Failed(target_error(err)),
                },
            });
        }
        if self.plain.is_some() {
            self.ledger.producer().poll(Duration::ZERO);
        }
    }

    pub(super) fn begin(&mut self) -> Result<()> {
        self.ledger.begin()
    }

    pub(super) fn commit(&mut self, records: &[StateRecord], open: bool, timeout: Duration) -> Result<()> {
        self.ledger.commit(records, open, timeout)
    }

    pub(super) fn abort(&mut self, timeout: Duration) -> Result<()> {
        self.ledger.abort(timeout)
    }

    pub(super) fn client_errors(&mut self) -> Vec<Error> {
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

    pub(super) fn take_zero_timestamps(&mut self) -> u64 {
        std::mem::take(&mut self.zero_timestamps)
    }
}

/// Lists messages as what the task hears of, in order; the records among them are in hand from now on.
fn sort(
    messages: impl Iterator<Item = Message>,
    by_source: &HashMap<Arc<str>, Vec<Option<PartitionId>>>,
    hand: &mut VecDeque<(PartitionId, Message)>,
    heard: &mut Vec<Heard>,
) {
    // Consecutive messages mostly belong to one partition: look it up when it changes.
    let mut current: Option<(TopicHandle, i32, Option<PartitionId>)> = None;
    let (mut in_hand, before) = (hand.len(), heard.len());
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
                match heard.last_mut() {
                    Some(Heard::Records {
                        span,
                        next,
                        payload_bytes,
                        ..
                    }) if span.partition == partition && *next == offset => {
                        span.count += 1;
                        *next += 1;
                        *payload_bytes += payload;
                    }
                    _ => heard.push(Heard::Records {
                        span: span(partition, offset, 1, 0),
                        next: offset + 1,
                        payload_bytes: payload,
                        leader_epoch: None,
                    }),
                }
            }
            (Kind::End, Some(partition)) => heard.push(Heard::End {
                partition,
                position: message.offset(),
            }),
            (Kind::Failed(RDKafkaErrorCode::AutoOffsetReset, text), Some(partition)) => {
                let (code, same_until) = match truncated_at(&text) {
                    Some(same_until) => (Code::SourceTruncated, same_until),
                    None => (Code::SourceOutOfRange, None),
                };
                heard.push(Heard::Truncated(
                    partition,
                    Truncation { same_until },
                    Error::new(code, text),
                ));
            }
            (Kind::Failed(err, text), partition) => {
                heard.push(Heard::SourceFailed(
                    partition,
                    Error::new(code(Side::Source, err), text),
                ));
            }
            // A partition that is not read any more.
            (Kind::Record | Kind::End, None) => {}
        }
    }
    // Asked of one record of a span, not of each.
    for it in &mut heard[before..] {
        if let Heard::Records {
            span: records,
            payload_bytes,
            leader_epoch,
            ..
        } = it
        {
            *records = span(records.partition, records.first, records.count, *payload_bytes);
            in_hand += records.count as usize;
            *leader_epoch = hand[in_hand - 1].1.leader_epoch();
        }
    }
}

/// Consecutive records with so many bytes of keys and values.
fn span(partition: PartitionId, first: i64, count: u32, payload_bytes: u64) -> Span {
    Span {
        partition,
        first,
        count,
        bytes: payload_bytes + u64::from(count) * RECORD_OVERHEAD,
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

/// Adds the fate of a record that is not sent; records that are skipped in a row are one span.
fn unsent(heard: &mut Vec<Heard>, partition: PartitionId, message: &Message, outcome: Outcome) {
    let bytes = message.payload_bytes() as u64;
    let one = span(partition, message.offset(), 1, bytes);
    if let Some(Heard::Answer {
        span: last,
        payload_bytes,
        outcome: Outcome::Skipped,
        ..
    }) = heard.last_mut()
        && last.partition == partition
        && last.end() == one.first
        && matches!(outcome, Outcome::Skipped)
    {
        last.count += 1;
        last.bytes += one.bytes;
        *payload_bytes += bytes;
        return;
    }
    heard.push(Heard::Answer {
        span: one,
        payload_bytes: bytes,
        first_timestamp: message.timestamp(),
        outcome,
    });
}

fn slot(slots: &mut Vec<Option<PartitionId>>, partition: i32) -> &mut Option<PartitionId> {
    let at = partition as usize;
    if slots.len() <= at {
        slots.resize(at + 1, None);
    }
    &mut slots[at]
}
