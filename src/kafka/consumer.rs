//! The consumer of a task: whole batches of messages from one queue, by manual assignment.
//!
//! The safe crate hands out one message per poll, with an allocation and two clock reads each; a task takes
//! a thousand at a time through `rd_kafka_consume_batch_queue` and moves each message on to the producer.

use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Offset as RdOffset, TopicPartitionList};
use rdkafka_sys as sys;

use super::native::{Handle, message_error};
use super::objects::{outcome, text};
use super::{NextOffset, TopicPartition};

/// A consumer without a group: it reads what it was told to read.
pub struct Consumer {
    // Dropped in this order: messages, queue, client. Messages that were handed out must be gone by then,
    // which the engine sees to by dropping its producer and its hand first.
    batch: Vec<*mut sys::rd_kafka_message_t>,
    queue: Queue,
    handle: Handle<()>,
}

struct Queue(NonNull<sys::rd_kafka_queue_t>);

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: obtained from `rd_kafka_queue_get_consumer`, released once, before the client.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// The queue of a partition that is read apart from the others: see [`Consumer::set_apart`].
pub struct PartitionQueue(Queue);

impl PartitionQueue {
    /// Whether nothing waits in it.
    pub fn is_empty(&self) -> bool {
        // SAFETY: a valid queue.
        unsafe { sys::rd_kafka_queue_length(self.0.0.as_ptr()) == 0 }
    }
}

/// Where reading a partition begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadFrom {
    /// The next offset to read.
    pub offset: NextOffset,
    /// The leader epoch of the record before it: the leader is asked whether its log is still the one that had that
    /// record (KIP-320) before it is read. `None`: nobody knows, and nobody is asked.
    pub leader_epoch: Option<i32>,
}

/// How long librdkafka may take to note where reading begins.
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);

/// Most messages handed out by one [`Consumer::take`].
pub const BATCH: usize = 1000;

impl Consumer {
    /// Creates the client.
    ///
    /// # Errors
    /// librdkafka's own words when a setting is refused.
    pub fn new(config: &ClientConfig, label: &str) -> Result<Self, String> {
        let handle = Handle::new(sys::rd_kafka_type_t::RD_KAFKA_CONSUMER, config, label, (), None)?;
        // SAFETY: the client is valid and a consumer with a group.id, so it has a consumer queue; forwarding
        // the main queue makes errors arrive with the messages.
        let queue = unsafe {
            sys::rd_kafka_poll_set_consumer(handle.ptr());
            sys::rd_kafka_queue_get_consumer(handle.ptr())
        };
        let queue = Queue(NonNull::new(queue).ok_or("librdkafka gave the consumer no queue")?);
        Ok(Self {
            batch: Vec::with_capacity(BATCH + 1),
            queue,
            handle,
        })
    }

    /// Adds partitions; the ones being read go on undisturbed.
    ///
    /// # Errors
    /// When librdkafka refuses, for example a partition that is already assigned.
    pub fn assign(&mut self, partitions: &[(TopicPartition, ReadFrom)]) -> Result<(), String> {
        let list = positions(partitions)?;
        // SAFETY: both pointers are valid for the call; librdkafka copies the list. A returned error object
        // is ours to destroy, which `outcome` does.
        unsafe { outcome(sys::rd_kafka_incremental_assign(self.handle.ptr(), list.ptr())) }
    }

    /// Whatever comes of a partition waits in a queue of its own until [`Consumer::join`]. To be called while it is
    /// not assigned, and to be dropped before the consumer.
    ///
    /// # Errors
    /// When librdkafka knows no such partition.
    pub fn set_apart(&self, tp: &TopicPartition) -> Result<PartitionQueue, String> {
        let topic = CString::new(&*tp.topic).map_err(|e| e.to_string())?;
        // SAFETY: a valid client and name; the queue is ours and destroyed once. Without a place to forward to,
        // what comes stays in it.
        unsafe {
            let queue = sys::rd_kafka_queue_get_partition(self.handle.ptr(), topic.as_ptr(), tp.partition);
            let queue = NonNull::new(queue).ok_or_else(|| format!("no queue for {tp}"))?;
            sys::rd_kafka_queue_forward(queue.as_ptr(), std::ptr::null_mut());
            Ok(PartitionQueue(Queue(queue)))
        }
    }

    /// What comes of a partition that was set apart, and what waits already, comes with all the others again.
    pub fn join(&self, queue: PartitionQueue) {
        // SAFETY: both queues are valid; librdkafka keeps the place to forward to by itself.
        unsafe { sys::rd_kafka_queue_forward(queue.0.0.as_ptr(), self.queue.0.as_ptr()) }
    }

    /// Has the leaders asked about the positions of partitions that are assigned, where a leader epoch is known.
    /// librdkafka does so by itself when it first hears of a leader, but not of a partition whose leader it knows.
    ///
    /// # Errors
    /// When a partition cannot be told to wait for the answer.
    pub fn validate(&self, partitions: &[(TopicPartition, ReadFrom)]) -> Result<(), String> {
        let known: Vec<_> = partitions
            .iter()
            .filter(|(_, from)| from.leader_epoch.is_some())
            .cloned()
            .collect();
        if known.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + SEEK_TIMEOUT;
        loop {
            let list = positions(&known)?;
            // SAFETY: both pointers are valid for the call, which writes one error per element; a returned error
            // object is ours to destroy, which `outcome` does.
            unsafe {
                let timeout = SEEK_TIMEOUT.as_millis() as i32;
                outcome(sys::rd_kafka_seek_partitions(
                    self.handle.ptr(),
                    list.ptr(),
                    timeout,
                ))?;
            }
            let refused = list.elements().iter().find_map(|it| match it.error() {
                // Without a leader yet: asked by librdkafka itself when it hears of one.
                Ok(()) | Err(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition)) => None,
                Err(error) => Some(format!("{} {}: {error}", it.topic(), it.partition())),
            });
            match refused {
                None => return Ok(()),
                Some(why) if deadline < Instant::now() => return Err(why),
                // Reading has not begun yet.
                Some(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// How many answers about metadata the client has had.
    pub fn metadata_answers(&self) -> u64 {
        self.handle.metadata_answers()
    }

    /// Asks the cluster where the topics in use are led, so that work begins at once.
    pub fn learn_leaders(&self, timeout: Duration) {
        self.handle.learn_leaders(timeout);
    }

    /// Stops reading partitions. Messages of theirs that are already queued are dropped by librdkafka.
    ///
    /// # Errors
    /// When librdkafka refuses, for example a partition that is not assigned.
    pub fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), String> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for tp in partitions {
            list.add_partition(&tp.topic, tp.partition);
        }
        // SAFETY: as in `assign`.
        unsafe { outcome(sys::rd_kafka_incremental_unassign(self.handle.ptr(), list.ptr())) }
    }

    /// Hands out at most [`BATCH`] messages, in order. Waits up to `timeout` only while there is none:
    /// librdkafka's batch call alone would wait until the batch is full.
    pub fn take(&mut self, timeout: Duration) -> impl Iterator<Item = Message> {
        fill(&self.queue, &mut self.batch);
        if self.batch.is_empty() && !timeout.is_zero() {
            let millis = timeout.as_millis().min(i32::MAX as u128) as i32;
            // SAFETY: a valid queue; a message that is not null is ours from here on.
            let first = unsafe { sys::rd_kafka_consume_queue(self.queue.0.as_ptr(), millis) };
            if !first.is_null() {
                fill(&self.queue, &mut self.batch);
                self.batch.insert(0, first);
            }
        }
        messages(&mut self.batch)
    }

    /// As [`Consumer::take`], of a partition that was set apart, without waiting.
    pub fn take_apart(&mut self, queue: &PartitionQueue) -> impl Iterator<Item = Message> {
        fill(&queue.0, &mut self.batch);
        messages(&mut self.batch)
    }

    /// Errors of the client as a whole since the last call.
    pub fn take_errors(&self) -> Vec<(RDKafkaErrorCode, String)> {
        self.handle.take_errors()
    }
}

fn fill(queue: &Queue, batch: &mut Vec<*mut sys::rd_kafka_message_t>) {
    // SAFETY: the buffer is empty and has room for BATCH pointers; librdkafka fills the first `n` with messages that
    // we now own, and each is moved into a `Message`, which destroys it once.
    unsafe {
        let n = sys::rd_kafka_consume_batch_queue(queue.0.as_ptr(), 0, batch.as_mut_ptr(), BATCH);
        batch.set_len(n.max(0) as usize);
    }
}

fn messages(batch: &mut Vec<*mut sys::rd_kafka_message_t>) -> impl Iterator<Item = Message> {
    batch.drain(..).filter_map(|m| {
        Some(Message {
            native: NonNull::new(m)?,
            not_send: PhantomData,
        })
    })
}

fn positions(partitions: &[(TopicPartition, ReadFrom)]) -> Result<TopicPartitionList, String> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (tp, from) in partitions {
        list.add_partition_offset(&tp.topic, tp.partition, RdOffset::Offset(from.offset.0))
            .map_err(|e| e.to_string())?;
    }
    for (i, (_, from)) in partitions.iter().enumerate() {
        if let Some(epoch) = from.leader_epoch {
            // SAFETY: the list has one element for each partition, in their order.
            unsafe { sys::rd_kafka_topic_partition_set_leader_epoch((*list.ptr()).elems.add(i), epoch) }
        }
    }
    Ok(list)
}

/// Where a log that lost records ceases to be the one that was read, in the words of the error that librdkafka makes of
/// it when it may not go on elsewhere by itself (`rd_kafka_toppar_handle_OffsetForLeaderEpoch`). `None`: no such error.
/// `Some(None)`: it does not know.
pub fn truncated_at(text: &str) -> Option<Option<i64>> {
    if text.starts_with("No epoch found") {
        return Some(None);
    }
    let (_, rest) = text
        .strip_prefix("Partition log truncation detected")?
        .split_once("end offset is ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
    Some(digits.and_then(|digits| digits.parse().ok()))
}

/// A consumed message: a record, the end of a partition, or an error of a partition. Freed when dropped.
pub struct Message {
    native: NonNull<sys::rd_kafka_message_t>,
    /// Belongs to the thread of its consumer.
    not_send: PhantomData<*mut ()>,
}

/// What a [`Message`] turned out to be.
pub enum Kind {
    /// A record.
    Record,
    /// Everything up to the message's offset has been read.
    End,
    /// The partition (or, without a topic, the client) has a problem.
    Failed(RDKafkaErrorCode, String),
}

/// Identity of a topic inside its consumer; compares faster than a name. Valid while a message holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicHandle(usize);

impl Message {
    fn get(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: the pointer is a live message that we own.
        unsafe { self.native.as_ref() }
    }

    /// Record, end or error.
    pub fn kind(&self) -> Kind {
        // SAFETY: a live message that we own.
        match unsafe { message_error(self.native.as_ptr()) } {
            None => Kind::Record,
            Some(RDKafkaErrorCode::PartitionEOF) => Kind::End,
            Some(err) => {
                // SAFETY: librdkafka returns a static or message-owned string.
                Kind::Failed(err, unsafe {
                    text(sys::rd_kafka_message_errstr(self.native.as_ptr()))
                })
            }
        }
    }

    /// Identity of the topic; `None` on an error of the whole client.
    pub fn topic_handle(&self) -> Option<TopicHandle> {
        let rkt = self.get().rkt;
        (!rkt.is_null()).then_some(TopicHandle(rkt as usize))
    }

    /// Name of the topic; `None` on an error of the whole client.
    pub fn topic(&self) -> Option<&str> {
        let rkt = self.get().rkt;
        if rkt.is_null() {
            return None;
        }
        // SAFETY: the topic object lives as long as the message; Kafka topic names are ASCII.
        unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(rkt)) }
            .to_str()
            .ok()
    }

    /// Partition number.
    pub fn partition(&self) -> i32 {
        self.get().partition
    }

    /// The record's offset; on an end, the next offset to read.
    pub fn offset(&self) -> i64 {
        self.get().offset
    }

    /// The leader epoch under which the record was written; `None`: by a client of before Kafka 0.11, or not a record.
    pub fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: a live message.
        let epoch = unsafe { sys::rd_kafka_message_leader_epoch(self.native.as_ptr()) };
        (0 <= epoch).then_some(epoch)
    }

    /// Key and value together, in bytes.
    pub fn payload_bytes(&self) -> usize {
        self.get().len + self.get().key_len
    }

    /// Its key, if it has one.
    pub fn key(&self) -> Option<&[u8]> {
        let it = self.get();
        // SAFETY: librdkafka keeps so many bytes there for as long as the message lives.
        unsafe { bytes(it.key, it.key_len) }
    }

    /// Its value, if it has one.
    pub fn payload(&self) -> Option<&[u8]> {
        let it = self.get();
        // SAFETY: as in `key`.
        unsafe { bytes(it.payload, it.len) }
    }

    /// Milliseconds since the epoch; −1 when the record has none.
    pub fn timestamp(&self) -> i64 {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: a live message, and a place for the type.
        let timestamp = unsafe { sys::rd_kafka_message_timestamp(self.native.as_ptr(), &mut kind) };
        match kind {
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => -1,
            _ => timestamp,
        }
    }

    /// The value of the last header with this name, when the record has one.
    ///
    /// # Errors
    /// When the header block cannot be parsed; copying the record would lose its headers.
    pub fn header(&self, name: &CStr) -> Result<Option<&[u8]>, RDKafkaErrorCode> {
        use sys::rd_kafka_resp_err_t::{RD_KAFKA_RESP_ERR__NOENT, RD_KAFKA_RESP_ERR_NO_ERROR};
        let mut headers = std::ptr::null_mut();
        let (mut value, mut size) = (std::ptr::null(), 0);
        // SAFETY: headers and the value belong to the message and live as long as it does; the returned
        // slice borrows `self`.
        unsafe {
            match sys::rd_kafka_message_headers(self.native.as_ptr(), &mut headers) {
                RD_KAFKA_RESP_ERR_NO_ERROR => {}
                RD_KAFKA_RESP_ERR__NOENT => return Ok(None),
                err => return Err(err.into()),
            }
            match sys::rd_kafka_header_get_last(headers, name.as_ptr(), &mut value, &mut size) {
                RD_KAFKA_RESP_ERR_NO_ERROR if !value.is_null() => {
                    Ok(Some(std::slice::from_raw_parts(value.cast(), size)))
                }
                RD_KAFKA_RESP_ERR_NO_ERROR => Ok(Some(&[])),
                _ => Ok(None),
            }
        }
    }

    /// Gives the native message away, to be taken back by [`Message::from_raw`].
    pub(super) fn into_raw(self) -> *mut sys::rd_kafka_message_t {
        let raw = self.native.as_ptr();
        std::mem::forget(self);
        raw
    }

    /// # Safety
    /// `raw` came from [`Message::into_raw`] and is taken back once.
    pub(super) unsafe fn from_raw(raw: NonNull<sys::rd_kafka_message_t>) -> Self {
        Self {
            native: raw,
            not_send: PhantomData,
        }
    }
}

/// # Safety
/// `start` is null, or `len` bytes are there for as long as the result is used.
unsafe fn bytes<'a>(start: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: as promised by the caller.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast(), len) })
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: we own the message; it is destroyed once.
        unsafe { sys::rd_kafka_message_destroy(self.native.as_ptr()) }
    }
}

/// Name and value of each header of a message that rdkafka holds. Its own iterator panics where a name is not UTF-8.
/// The library gives a name up to its first NUL only.
pub fn headers<'a>(message: &'a BorrowedMessage<'_>) -> Vec<(&'a CStr, Option<&'a [u8]>)> {
    let mut list = std::ptr::null_mut();
    let mut headers = vec![];
    // SAFETY: the message is live, and names and values belong to it; the slices borrow it.
    unsafe {
        if sys::rd_kafka_message_headers(message.ptr(), &mut list)
            != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return headers;
        }
        for index in 0..sys::rd_kafka_header_cnt(list) {
            let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
            sys::rd_kafka_header_get_all(list, index, &mut name, &mut value, &mut size);
            let value: *const u8 = value.cast();
            headers.push((
                CStr::from_ptr(name),
                (!value.is_null()).then(|| std::slice::from_raw_parts(value, size)),
            ));
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::truncated_at;

    #[test]
    fn where_a_log_was_cut_is_read_from_librdkafkas_words() {
        let cut = "Partition log truncation detected at offset 1000 (leader epoch 3): broker end offset is 600 (offset \
                   leader epoch 2). Reset to INVALID.: Local: Broker log truncation (broker 1)";
        assert_eq!(truncated_at(cut), Some(Some(600)));
        let unknown = "No epoch found less or equal to offset 9 (leader epoch 3): broker end offset is -1 (offset leader \
                       epoch -1). Reset using configured policy.";
        assert_eq!(truncated_at(unknown), Some(None));
        assert_eq!(
            truncated_at("fetch failed due to requested offset not available on the broker"),
            None
        );
    }
}
