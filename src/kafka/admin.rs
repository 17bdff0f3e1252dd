//! Administration of one cluster: every call blocks, is bounded by a timeout and returns owned values.
//!
//! All of it goes through librdkafka's admin interface by one helper, `call`, since the safe
//! crate lacks more than half of the operations. This file holds the client and `call`; what is asked, with its types,
//! has a file for each kind of thing.
//! Calls run on blocking threads; one `Admin` may be used by several at once. More than 500 topics are
//! asked for in several requests, each with the timeout of its own.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_void};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;
use sys::rd_kafka_admin_op_t as Op;
use sys::rd_kafka_resp_err_t as Err_t;

use super::ClusterAlias;
use super::client::{ClusterConnection, log_line};
use super::codes::code;
use super::objects::{ErrorText, Owned, describe, free, milliseconds, refresh, text};
use crate::error::{Error, Result, Side};

mod configs;
mod groups;
mod offsets;
mod topics;

pub use configs::{ConfigEntry, ConfigOp, ConfigSource};
pub use groups::{GroupKind, GroupListing, GroupState};
pub use offsets::OffsetSpec;
pub use topics::{NewTopic, TopicDescription};

/// Topics per request, and partitions per question about offsets. Large clusters answer such a request well within a
/// second, and a controller is not flooded (Kafka's own tools send everything at once).
const BATCH: usize = 500;

/// How long one wait for the answer lasts before the client's own events are served.
pub(super) const SLICE: Duration = Duration::from_millis(50);

/// A call without an answer for so long has the client ask again which broker is the controller. librdkafka waits for
/// the one it knows, which may be gone, and asks by itself every 10 s at most (`rd_kafka_metadata_refresh_cb`).
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What the answer may take beyond the timeout given to librdkafka, which normally reports it itself.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// The administration client of one cluster. Dropping it waits until its threads have ended.
pub struct Admin {
    // Declared, and so dropped, before the context its callbacks use.
    pub(super) client: Owned<sys::rd_kafka_t>,
    pub(super) context: Box<Context>,
    pub(super) side: Side,
}

// SAFETY: librdkafka's client handle may be used from any thread at any time (its INTRODUCTION.md,
// "Threads and callbacks"), and the context guards its own state.
unsafe impl Send for Admin {}
// SAFETY: as above.
unsafe impl Sync for Admin {}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("cluster", &self.context.cluster)
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// A client of `cluster`; `side` decides whether its errors are `S` or `T` codes. Contacts nobody yet.
    ///
    /// # Errors
    /// When librdkafka refuses the properties (an unreadable CA file, an unknown mechanism, …).
    pub fn new(cluster: &ClusterConnection, client_id: &str, side: Side) -> Result<Self> {
        // A producer without topics is the lightest kind of client: no group, no fetcher.
        let kind = sys::rd_kafka_type_t::RD_KAFKA_PRODUCER;
        Self::of_kind(kind, &cluster.alias, &cluster.admin(client_id), side)
    }

    pub(super) fn of_kind(
        kind: sys::rd_kafka_type_t,
        cluster: &ClusterAlias,
        config: &ClientConfig,
        side: Side,
    ) -> Result<Self> {
        let refused = |detail: String| {
            let detail = format!("{cluster}: the client cannot be created: {detail}");
            Error::new(code(side, RDKafkaErrorCode::Authentication), detail)
        };
        let native = config.create_native_config().map_err(|e| match e {
            // Without the value: it may be a secret.
            KafkaError::ClientConfig(_, why, key, _) => refused(format!("{key}: {why}")),
            other => refused(other.to_string()),
        })?;
        let context = Box::new(Context {
            cluster: cluster.clone(),
            trouble: Mutex::new(None),
        });
        let mut why = ErrorText::new();
        // SAFETY: `native` is a valid configuration. The opaque pointer stays valid for the life of the
        // client: the box is never moved out of and is dropped after the client.
        let client = unsafe {
            let opaque = ptr::from_ref::<Context>(&context) as *mut c_void;
            sys::rd_kafka_conf_set_opaque(native.ptr(), opaque);
            // A log callback, not the log queue: nobody polls an idle client, and its queue would grow.
            sys::rd_kafka_conf_set_log_cb(native.ptr(), Some(on_log));
            sys::rd_kafka_conf_set_error_cb(native.ptr(), Some(on_error));
            let client = sys::rd_kafka_new(kind, native.ptr(), why.ptr(), ErrorText::LEN);
            Owned::new(client, sys::rd_kafka_destroy)
        }
        .ok_or_else(|| refused(why.to_string()))?;
        // The client owns the configuration from here on; `?` above has dropped it otherwise.
        let _ = ManuallyDrop::new(native);
        // SAFETY: `client` is valid; the call only stores a number.
        unsafe { sys::rd_kafka_set_log_level(client.ptr(), config.log_level as c_int) };
        Ok(Self {
            client,
            context,
            side,
        })
    }

    /// Kafka's id of the cluster, as its last answer about topics said ([`Admin::list_topics`],
    /// [`Admin::describe_topics`], [`Admin::brokers`]). `None` before the first, and from brokers before Kafka 0.10.1.
    pub fn cluster_id(&self) -> Option<String> {
        // Not `DescribeCluster`: librdkafka 2.12 ends the process when the cluster names neither a broker nor a
        // topic, as one does whose brokers are all fenced (`rdkafka_admin.c`, assertion `rko_result`).
        // SAFETY: the client is valid. Without a timeout the call only copies what the client knows; the copy is ours
        // and is freed by librdkafka's own allocator.
        unsafe {
            let id = Owned::new(sys::rd_kafka_clusterid(self.client.ptr(), 0), free)?;
            Some(text(id.ptr()))
        }
    }

    /// The number of brokers that are alive now.
    ///
    /// # Errors
    /// Also while the cluster names none: nothing can be done on it then.
    pub fn brokers(&self, timeout: Duration) -> Result<usize> {
        let brokers = self.metadata("count brokers", timeout, |it| it.broker_cnt as usize)?;
        match brokers {
            0 => {
                let error = Err_t::RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE;
                Err(self.error(
                    "count brokers",
                    error,
                    "the cluster names no broker that is alive",
                ))
            }
            brokers => Ok(brokers),
        }
    }

    /// Asks a broker for all it knows of brokers and topics.
    fn metadata<T>(
        &self,
        what: &str,
        timeout: Duration,
        take: impl FnOnce(&sys::rd_kafka_metadata) -> T,
    ) -> Result<T> {
        let mut metadata: *const sys::rd_kafka_metadata = ptr::null();
        // SAFETY: the client is valid, and `metadata` is ours when the call succeeds.
        let error = unsafe {
            sys::rd_kafka_poll(self.client.ptr(), 0);
            sys::rd_kafka_metadata(
                self.client.ptr(),
                1,
                ptr::null_mut(),
                &mut metadata,
                milliseconds(timeout),
            )
        };
        // SAFETY: the client is valid; serves the error callback that explains a failure.
        unsafe { sys::rd_kafka_poll(self.client.ptr(), 0) };
        if error != Err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(self.failure(what, error, &describe(error)));
        }
        self.context.clear();
        // SAFETY: the call succeeded, so `metadata` is valid until destroyed here.
        unsafe {
            let taken = take(&*metadata);
            sys::rd_kafka_metadata_destroy(metadata);
            Ok(taken)
        }
    }

    /// Sends one request and waits for its answer. `start` gets the client, the options and the queue that
    /// takes the answer, all valid while it runs. An answer that is an error as a whole becomes the error.
    fn call(
        &self,
        what: &str,
        op: Op,
        timeout: Duration,
        start: impl FnOnce(*mut sys::rd_kafka_t, *mut sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
    ) -> Result<Owned<sys::rd_kafka_event_t>> {
        let rk = self.client.ptr();
        // SAFETY: the client is valid, and the new objects are destroyed by their guards.
        let (queue, options) = unsafe {
            (
                Owned::some(sys::rd_kafka_queue_new(rk), sys::rd_kafka_queue_destroy),
                Owned::some(
                    sys::rd_kafka_AdminOptions_new(rk, op),
                    sys::rd_kafka_AdminOptions_destroy,
                ),
            )
        };
        let mut why = ErrorText::new();
        // SAFETY: options and text are valid. The broker's own wait exists for some operations only, and
        // the others refuse it, which changes nothing.
        unsafe {
            let (ms, len) = (milliseconds(timeout), ErrorText::LEN);
            sys::rd_kafka_AdminOptions_set_request_timeout(options.ptr(), ms, why.ptr(), len);
            sys::rd_kafka_AdminOptions_set_operation_timeout(options.ptr(), ms, why.ptr(), len);
        }
        let deadline = Instant::now() + timeout + GRACE;
        let mut ask_at = Instant::now() + ASK_AGAIN;
        start(rk, options.ptr(), queue.ptr());
        let event = loop {
            // SAFETY: client and queue are valid. Serving the client's own events is what calls `on_error`
            // and refreshes tokens; the event is ours and destroyed by its guard.
            let event = unsafe {
                sys::rd_kafka_poll(rk, 0);
                let event = sys::rd_kafka_queue_poll(queue.ptr(), milliseconds(SLICE));
                Owned::new(event, sys::rd_kafka_event_destroy)
            };
            match event {
                Some(event) => break event,
                None if ask_at <= Instant::now() && Instant::now() < deadline => {
                    // SAFETY: the client is valid.
                    unsafe { refresh(rk, SLICE * 4) };
                    ask_at = Instant::now() + ASK_AGAIN;
                }
                None if Instant::now() < deadline => {}
                None => {
                    let error = Err_t::RD_KAFKA_RESP_ERR__TIMED_OUT;
                    return Err(self.failure(what, error, &describe(error)));
                }
            }
        };
        // SAFETY: the event is valid.
        let error = unsafe { sys::rd_kafka_event_error(event.ptr()) };
        if error != Err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            // SAFETY: the event is valid, and so is its text while it lives.
            let why = unsafe {
                sys::rd_kafka_poll(rk, 0);
                text(sys::rd_kafka_event_error_string(event.ptr()))
            };
            return Err(self.failure(what, error, &why));
        }
        self.context.clear();
        Ok(event)
    }

    /// [`Admin::call`] with an array of objects.
    ///
    /// # Safety
    /// `start` must be librdkafka's call for such objects, and copy them.
    unsafe fn call_with<T>(
        &self,
        what: &str,
        op: Op,
        timeout: Duration,
        objects: &[Owned<T>],
        start: Start<T>,
    ) -> Result<Owned<sys::rd_kafka_event_t>> {
        let mut all: Vec<*mut T> = objects.iter().map(Owned::ptr).collect();
        self.call(what, op, timeout, |rk, options, queue| {
            // SAFETY: all pointers are valid for the call, and the rest is demanded of the caller.
            unsafe { start(rk, all.as_mut_ptr(), all.len(), options, queue) }
        })
    }

    /// The objects that could be made of an input; why the others could not goes to `outcomes`.
    fn made<'a, T>(
        &self,
        what: &str,
        all: impl Iterator<Item = (&'a String, std::result::Result<Owned<T>, String>)>,
        outcomes: &mut BTreeMap<String, Result<()>>,
    ) -> Vec<Owned<T>> {
        let mut made = Vec::new();
        for (topic, object) in all {
            match object {
                Ok(object) => made.push(object),
                // It never leaves this process.
                Err(why) => {
                    let invalid = Err_t::RD_KAFKA_RESP_ERR__INVALID_ARG;
                    let error = self.error(&format!("{what} {topic}"), invalid, &why);
                    outcomes.insert(topic.clone(), Err(error));
                }
            }
        }
        made
    }

    /// A call that failed as a whole. A call that merely ran out of time is explained by what the
    /// connections reported meanwhile: that is how refused credentials show.
    pub(super) fn failure(&self, what: &str, error: Err_t, why: &str) -> Error {
        match (error, self.context.trouble()) {
            (
                Err_t::RD_KAFKA_RESP_ERR__TIMED_OUT | Err_t::RD_KAFKA_RESP_ERR__TRANSPORT,
                Some((cause, reason)),
            ) => {
                let detail = format!("{}: {what}: {why}; {reason}", self.context.cluster);
                // No batch is read here: an answer without sense comes from something that is not Kafka.
                let cause = match cause {
                    RDKafkaErrorCode::BadMessage => RDKafkaErrorCode::BrokerTransportFailure,
                    cause => cause,
                };
                Error::new(code(self.side, cause), detail)
            }
            _ => self.error(what, error, why),
        }
    }

    fn error(&self, what: &str, error: Err_t, why: &str) -> Error {
        // Brokers explain some errors in a text of their own and leave others without one.
        let why = why.trim_end_matches([':', ' ']);
        // SAFETY: returns a static text for every code.
        let name = unsafe { text(sys::rd_kafka_err2name(error)) };
        let detail = format!("{}: {what}: {why} ({name})", self.context.cluster);
        Error::new(code(self.side, error.into()), detail)
    }

    /// # Safety
    /// `error` must be valid and not null.
    unsafe fn error_of(&self, what: &str, error: *const sys::rd_kafka_error_t) -> Error {
        // SAFETY: demanded of the caller.
        unsafe {
            let why = text(sys::rd_kafka_error_string(error));
            self.error(what, sys::rd_kafka_error_code(error), &why)
        }
    }

    fn outcome(&self, what: &str, name: &str, error: Err_t, why: String) -> Result<()> {
        match error {
            Err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            error if why.is_empty() => Err(self.error(&format!("{what} {name}"), error, &describe(error))),
            error => Err(self.error(&format!("{what} {name}"), error, &why)),
        }
    }
}

/// librdkafka's call about an array of objects.
type Start<T> = unsafe extern "C" fn(
    *mut sys::rd_kafka_t,
    *mut *mut T,
    usize,
    *const sys::rd_kafka_AdminOptions_t,
    *mut sys::rd_kafka_queue_t,
);

/// What the callbacks of one client know.
pub(super) struct Context {
    pub(super) cluster: ClusterAlias,
    /// What its connections last complained about; cleared by an answer.
    trouble: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

impl Context {
    fn trouble(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.trouble.lock().clone()
    }

    pub(super) fn clear(&self) {
        *self.trouble.lock() = None;
    }

    fn report(&self, error: RDKafkaErrorCode, reason: &str) {
        // librdkafka's own log has said the same, and louder.
        tracing::debug!(target: "librdkafka", cluster = %self.cluster, "{reason}");
        let mut trouble = self.trouble.lock();
        // "All brokers are down" follows every other complaint and says less.
        if error != RDKafkaErrorCode::AllBrokersDown || trouble.is_none() {
            *trouble = Some((error, reason.to_owned()));
        }
    }
}

/// librdkafka's log, on librdkafka's threads.
unsafe extern "C" fn on_log(
    client: *const sys::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    message: *const c_char,
) {
    // Remarks on the configuration come without a client.
    if client.is_null() {
        return;
    }
    // SAFETY: librdkafka passes valid texts, and the opaque pointer is null or the context set before the
    // client was created, which outlives it.
    let (context, facility, message) = unsafe {
        let Some(context) = sys::rd_kafka_opaque(client).cast::<Context>().as_ref() else {
            return;
        };
        (context, text(facility), text(message))
    };
    log_line(level, context.cluster.as_str(), &facility, &message);
}

/// What librdkafka's connections complain about, on the thread that polls.
unsafe extern "C" fn on_error(
    _client: *mut sys::rd_kafka_t,
    error: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: librdkafka passes a valid text, and the opaque pointer is the context, which outlives the
    // client.
    let (context, reason) = unsafe { (&*opaque.cast::<Context>(), text(reason)) };
    let known = Err_t::try_from(error).unwrap_or(Err_t::RD_KAFKA_RESP_ERR_UNKNOWN);
    context.report(known.into(), &reason);
}
