//! The producer of a task: consumed messages move through it without being copied.
//!
//! ```text
//! consumer ──Message──▶ send ── payload by reference ──▶ librdkafka ──▶ target
//!                         ╰── the message rides along as the opaque of its copy ──▶ delivery report
//!                              (source offset, target offset) ──▶ DeliverySpan; message freed
//! ```

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_void};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;
use sys::rd_kafka_vtype_t as vtype;

use super::consumer::Message;
use super::native::{Context, Handle, message_error};
use super::objects::text;

/// A producer that owns every message given to it until the target has answered.
pub struct Producer {
    topics: Vec<Topic>,
    handle: Handle<Notes>,
}

/// Number of a target topic inside one [`Producer`], in order of [`Producer::topic`] calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicNumber(pub usize);

struct Topic(NonNull<sys::rd_kafka_topic_t>);

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: created by `rd_kafka_topic_new`, released once, before the client (field order).
        unsafe { sys::rd_kafka_topic_destroy(self.0.as_ptr()) }
    }
}

/// What delivery reports leave behind for the thread that polls.
#[derive(Default)]
struct Notes {
    deliveries: RefCell<Vec<DeliverySpan>>,
    state_error: RefCell<Option<RDKafkaErrorCode>>,
}

/// Consecutive records that were answered alike: `target = target_base + (source − source_first)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliverySpan {
    /// The target topic.
    pub topic: TopicNumber,
    /// Same number on both sides.
    pub partition: i32,
    /// Source offset of the first record.
    pub source_first: i64,
    /// How many records.
    pub count: u32,
    /// Target offset of the first record. `None` on an error, and where librdkafka knows only from a later
    /// acknowledgement that these arrived, not where.
    pub target_base: Option<i64>,
    /// Key and value bytes of all of them.
    pub payload_bytes: u64,
    /// Timestamp of the first record, ms since the epoch; −1 for none.
    pub first_timestamp: i64,
    /// Why they did not arrive.
    pub error: Option<RDKafkaErrorCode>,
}

/// How a record's headers travel.
#[derive(Clone, Copy, Debug)]
pub enum Headers<'a> {
    /// As they are.
    Move,
    /// As they are, and one more at the end.
    Append(&'a CStr, &'a [u8]),
}

/// An operation on a transaction failed.
#[derive(Clone, Debug)]
pub struct TransactionError {
    /// librdkafka's code.
    pub code: RDKafkaErrorCode,
    /// librdkafka's words.
    pub text: String,
    /// The same call may be made again.
    pub retriable: bool,
}

impl Producer {
    /// Creates the client.
    ///
    /// # Errors
    /// librdkafka's own words when a setting is refused.
    pub fn new(config: &ClientConfig, label: &str) -> Result<Self, String> {
        let kind = sys::rd_kafka_type_t::RD_KAFKA_PRODUCER;
        let handle = Handle::new(kind, config, label, Notes::default(), Some(on_delivery))?;
        Ok(Self {
            topics: Vec::new(),
            handle,
        })
    }

    /// Prepares a target topic for [`Producer::send`].
    ///
    /// # Errors
    /// When librdkafka refuses the name.
    pub fn topic(&mut self, name: &str) -> Result<TopicNumber, String> {
        let number = self.topics.len();
        let c_name = CString::new(name).map_err(|e| e.to_string())?;
        // SAFETY: the client is valid; `rd_kafka_topic_new` consumes the configuration. The opaque is a
        // plain number, never followed as a pointer.
        let rkt = unsafe {
            let conf = sys::rd_kafka_default_topic_conf_dup(self.handle.ptr());
            sys::rd_kafka_topic_conf_set_opaque(conf, number as *mut c_void);
            sys::rd_kafka_topic_new(self.handle.ptr(), c_name.as_ptr(), conf)
        };
        let rkt = NonNull::new(rkt).ok_or_else(|| format!("librdkafka refuses the topic name {name}"))?;
        self.topics.push(Topic(rkt));
        Ok(TopicNumber(number))
    }

    /// Asks the cluster where the topics in use are led, so that work begins at once.
    pub fn learn_leaders(&self, timeout: Duration) {
        self.handle.learn_leaders(timeout);
    }

    /// Waits until the client knows a partition that a topic has got lately: librdkafka refuses records for
    /// partitions beyond those it knows, and asks for news only every now and then.
    ///
    /// # Errors
    /// When the target does not tell of the partition in time.
    pub fn learn_partition(
        &mut self,
        topic: TopicNumber,
        partition: i32,
        timeout: Duration,
    ) -> Result<(), String> {
        let deadline = Instant::now() + timeout;
        loop {
            let mut metadata: *const sys::rd_kafka_metadata_t = std::ptr::null();
            // SAFETY: client and topic are valid; the answer is ours until destroyed and names one topic.
            let known = unsafe {
                let rkt = self.topics[topic.0].0.as_ptr();
                let err = sys::rd_kafka_metadata(self.handle.ptr(), 0, rkt, &mut metadata, 1000);
                if metadata.is_null() {
                    Err(RDKafkaErrorCode::from(err).to_string())
                } else {
                    let it = &*metadata;
                    let known = if it.topic_cnt == 1 {
                        (*it.topics).partition_cnt
                    } else {
                        0
                    };
                    sys::rd_kafka_metadata_destroy(metadata);
                    Ok(known)
                }
            };
            match known {
                Ok(known) if partition < known => return Ok(()),
                Ok(known) if deadline <= Instant::now() => {
                    return Err(format!(
                        "partition {partition} is not there; the target tells of {known}"
                    ));
                }
                Err(why) if deadline <= Instant::now() => return Err(why),
                _ => std::thread::park_timeout(Duration::from_millis(20)),
            }
        }
    }

    /// Enqueues one record, keeping partition, key, value, headers and timestamp. Never blocks.
    ///
    /// # Errors
    /// When the record cannot be enqueued; it comes back, without its headers: its transaction must be repeated.
    pub fn send(
        &mut self,
        topic: TopicNumber,
        message: Message,
        headers: Headers,
    ) -> Result<(), (Message, RDKafkaErrorCode)> {
        use sys::rd_kafka_resp_err_t::{RD_KAFKA_RESP_ERR__NOENT, RD_KAFKA_RESP_ERR_NO_ERROR};
        let timestamp = match message.timestamp() {
            // librdkafka takes 0 for "now"; 1 ms later is the nearest it can write.
            0 => 1,
            timestamp => timestamp,
        };
        let raw = message.into_raw();
        // SAFETY: `raw` is a live message that we own until librdkafka accepts it; from then on the delivery
        // report owns it (`on_delivery`). The payload is passed by reference and stays valid as long as the
        // message; the key is copied. Detached headers belong to us until `producev` accepts them.
        unsafe {
            let mut hdrs: *mut sys::rd_kafka_headers_t = std::ptr::null_mut();
            match sys::rd_kafka_message_detach_headers(raw, &mut hdrs) {
                RD_KAFKA_RESP_ERR_NO_ERROR | RD_KAFKA_RESP_ERR__NOENT => {}
                err => {
                    return Err((Message::from_raw(NonNull::new_unchecked(raw)), err.into()));
                }
            }
            if let Headers::Append(name, value) = headers {
                if hdrs.is_null() {
                    hdrs = sys::rd_kafka_headers_new(1);
                }
                sys::rd_kafka_header_add(
                    hdrs,
                    name.as_ptr(),
                    -1,
                    value.as_ptr().cast(),
                    value.len() as isize,
                );
            }
            let m = &*raw;
            let err = sys::rd_kafka_producev(
                self.handle.ptr(),
                vtype::RD_KAFKA_VTYPE_RKT,
                self.topics[topic.0].0.as_ptr(),
                vtype::RD_KAFKA_VTYPE_PARTITION,
                m.partition,
                vtype::RD_KAFKA_VTYPE_MSGFLAGS,
                0i32,
                vtype::RD_KAFKA_VTYPE_VALUE,
                m.payload,
                m.len,
                vtype::RD_KAFKA_VTYPE_KEY,
                m.key,
                m.key_len,
                vtype::RD_KAFKA_VTYPE_TIMESTAMP,
                timestamp,
                vtype::RD_KAFKA_VTYPE_OPAQUE,
                raw.cast::<c_void>(),
                // A null header list is no header list.
                vtype::RD_KAFKA_VTYPE_HEADERS,
                hdrs,
                vtype::RD_KAFKA_VTYPE_END,
            );
            if err == RD_KAFKA_RESP_ERR_NO_ERROR {
                return Ok(());
            }
            if !hdrs.is_null() {
                sys::rd_kafka_headers_destroy(hdrs);
            }
            Err((Message::from_raw(NonNull::new_unchecked(raw)), err.into()))
        }
    }

    /// Enqueues a record of causeway's own (progress, offset map); `None` is a tombstone. Never blocks.
    ///
    /// # Errors
    /// When the record cannot be enqueued.
    pub fn send_state(
        &mut self,
        topic: TopicNumber,
        partition: i32,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), RDKafkaErrorCode> {
        let (payload, len) = value.map_or((std::ptr::null(), 0), |v| (v.as_ptr(), v.len()));
        // SAFETY: key and value are copied by librdkafka before the call returns.
        let err = unsafe {
            sys::rd_kafka_producev(
                self.handle.ptr(),
                vtype::RD_KAFKA_VTYPE_RKT,
                self.topics[topic.0].0.as_ptr(),
                vtype::RD_KAFKA_VTYPE_PARTITION,
                partition,
                vtype::RD_KAFKA_VTYPE_MSGFLAGS,
                sys::RD_KAFKA_MSG_F_COPY,
                vtype::RD_KAFKA_VTYPE_VALUE,
                payload,
                len,
                vtype::RD_KAFKA_VTYPE_KEY,
                key.as_ptr(),
                key.len(),
                vtype::RD_KAFKA_VTYPE_END,
            )
        };
        match err {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            err => Err(err.into()),
        }
    }

    /// Serves delivery reports, waiting up to `timeout` for the first.
    pub fn poll(&mut self, timeout: Duration) {
        // SAFETY: a valid client; callbacks run inside this call, on this thread.
        unsafe { sys::rd_kafka_poll(self.handle.ptr(), timeout.as_millis().min(60_000) as i32) };
    }

    /// Records answered since the last call, in the order of the answers. Swaps buffers: no allocation.
    pub fn take_deliveries(&mut self, into: &mut Vec<DeliverySpan>) {
        into.clear();
        std::mem::swap(into, &mut self.handle.notes().deliveries.borrow_mut());
    }

    /// Whether one of causeway's own records failed since the last call.
    pub fn take_state_error(&mut self) -> Option<RDKafkaErrorCode> {
        self.handle.notes().state_error.take()
    }

    /// The error that has put the client out of order for good, if one has.
    pub fn fatal_error(&self) -> Option<RDKafkaErrorCode> {
        self.handle.fatal_error()
    }

    /// Errors of the client as a whole since the last call.
    pub fn take_errors(&self) -> Vec<(RDKafkaErrorCode, String)> {
        self.handle.take_errors()
    }

    /// Registers the transactional id; fences every former owner of it (KIP-98, KIP-360).
    ///
    /// # Errors
    /// `retriable` when the target does not answer in time; the call may then be repeated.
    pub fn init_transactions(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        let (client, ms) = (self.handle.ptr(), millis(timeout));
        // SAFETY: a valid client; the error object is owned by `transaction_outcome`.
        unsafe { transaction_outcome(sys::rd_kafka_init_transactions(client, ms)) }
    }

    /// Opens a transaction. Local only.
    ///
    /// # Errors
    /// When the producer was fenced or is in another state.
    pub fn begin_transaction(&mut self) -> Result<(), TransactionError> {
        // SAFETY: as above.
        unsafe { transaction_outcome(sys::rd_kafka_begin_transaction(self.handle.ptr())) }
    }

    /// Waits for every outstanding record, then commits.
    ///
    /// # Errors
    /// Whatever it says, the outcome may be unknown: drop the producer and start again from stored progress.
    pub fn commit_transaction(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        let (client, ms) = (self.handle.ptr(), millis(timeout));
        // SAFETY: as above.
        unsafe { transaction_outcome(sys::rd_kafka_commit_transaction(client, ms)) }
    }

    /// Gives up the open transaction, so that its records never become visible.
    ///
    /// # Errors
    /// When the target does not answer; the broker then aborts by timeout or when the id is used again.
    pub fn abort_transaction(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        let (client, ms) = (self.handle.ptr(), millis(timeout));
        // SAFETY: as above.
        unsafe { transaction_outcome(sys::rd_kafka_abort_transaction(client, ms)) }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // Every message must come back through its delivery report, because the consumer that owns its
        // memory cannot end before.
        // SAFETY: a valid client; purging turns queued and in-flight records into failed deliveries.
        unsafe {
            sys::rd_kafka_purge(
                self.handle.ptr(),
                sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT,
            );
            sys::rd_kafka_flush(self.handle.ptr(), 10_000);
        }
    }
}

fn millis(timeout: Duration) -> i32 {
    timeout.as_millis().min(i32::MAX as u128) as i32
}

/// # Safety
/// `error` is null or an error object that the caller owns.
unsafe fn transaction_outcome(error: *mut sys::rd_kafka_error_t) -> Result<(), TransactionError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: not null, owned, and used only before it is destroyed.
    unsafe {
        let code = sys::rd_kafka_error_code(error).into();
        let retriable = sys::rd_kafka_error_is_retriable(error) != 0;
        let text = text(sys::rd_kafka_error_string(error));
        sys::rd_kafka_error_destroy(error);
        Err(TransactionError {
            code,
            text,
            retriable,
        })
    }
}

unsafe extern "C" fn on_delivery(
    _: *mut sys::rd_kafka_t,
    report: *const sys::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: runs inside poll, flush or a transaction call on the owning thread. The report lives for the
    // call; its `_private` is null for our own records and otherwise the message given away in `send`,
    // taken back here exactly once. No other borrow of the notes is alive while librdkafka calls us.
    unsafe {
        let notes = &(*opaque.cast::<Context<Notes>>()).notes;
        let error = message_error(report);
        let report = &*report;
        let Some(source) = NonNull::new(report._private.cast::<sys::rd_kafka_message_t>()) else {
            if error.is_some() {
                *notes.state_error.borrow_mut() = error;
            }
            return;
        };
        let source = Message::from_raw(source);
        let topic = TopicNumber(sys::rd_kafka_topic_opaque(report.rkt) as usize);
        // Acknowledged along with later ones, librdkafka does not know the offset: RD_KAFKA_OFFSET_INVALID.
        let target_base = (error.is_none() && 0 <= report.offset).then_some(report.offset);
        let mut deliveries = notes.deliveries.borrow_mut();
        if let Some(last) = deliveries.last_mut()
            && last.topic == topic
            && last.partition == report.partition
            && last.source_first + i64::from(last.count) == source.offset()
            && last.error == error
            && last.target_base.map(|base| base + i64::from(last.count)) == target_base
        {
            last.count += 1;
            last.payload_bytes += source.payload_bytes() as u64;
            return;
        }
        deliveries.push(DeliverySpan {
            topic,
            partition: report.partition,
            source_first: source.offset(),
            count: 1,
            target_base,
            payload_bytes: source.payload_bytes() as u64,
            first_timestamp: source.timestamp(),
            error,
        });
    }
}
