//! Ownership of one native librdkafka client, and what it tells us by callback: its log and its errors.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;

use super::client::log_line;
use super::objects::{ErrorText, refresh, text};

/// What librdkafka's callbacks may touch. Lives at a fixed address for as long as the client.
pub(super) struct Context<T> {
    /// `orders seoul->busan/2`, for log lines.
    label: String,
    /// Errors of the client as a whole; written and read on the thread that polls.
    errors: RefCell<Vec<(RDKafkaErrorCode, String)>>,
    /// Answers about metadata that have come; counted on librdkafka's threads.
    metadata: AtomicU64,
    /// What the kind of client collects; written and read on the thread that polls.
    pub(super) notes: T,
}

/// One native client.
pub(super) struct Handle<T> {
    rk: NonNull<sys::rd_kafka_t>,
    context: Box<Context<T>>,
}

pub(super) type DeliveryCallback =
    unsafe extern "C" fn(*mut sys::rd_kafka_t, *const sys::rd_kafka_message_t, *mut c_void);

impl<T> Handle<T> {
    /// Creates the client. Nothing is contacted yet, except that librdkafka starts to connect.
    pub(super) fn new(
        kind: sys::rd_kafka_type_t,
        config: &ClientConfig,
        label: &str,
        notes: T,
        on_delivery: Option<DeliveryCallback>,
    ) -> Result<Self, String> {
        let native = config.create_native_config().map_err(|e| e.to_string())?;
        let context = Box::new(Context {
            label: label.to_owned(),
            errors: RefCell::default(),
            metadata: AtomicU64::new(0),
            notes,
        });
        let mut why = ErrorText::new();
        // SAFETY: `rd_kafka_new` consumes the configuration, so it gets a copy and `native` keeps its own.
        // The context is boxed, outlives the client (see `Drop`), and the callbacks cast it back to the
        // same type; what other threads call, the log callback and the interceptor, reads only the immutable label and
        // an atomic.
        let rk = unsafe {
            let conf = sys::rd_kafka_conf_dup(native.ptr());
            let opaque = std::ptr::from_ref(&*context) as *mut c_void;
            sys::rd_kafka_conf_set_opaque(conf, opaque);
            sys::rd_kafka_conf_interceptor_add_on_new(conf, INTERCEPTOR.as_ptr(), Some(on_new::<T>), opaque);
            sys::rd_kafka_conf_set_log_cb(conf, Some(on_log::<T>));
            sys::rd_kafka_conf_set_error_cb(conf, Some(on_error::<T>));
            if on_delivery.is_some() {
                sys::rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
            }
            let rk = sys::rd_kafka_new(kind, conf, why.ptr(), ErrorText::LEN);
            if rk.is_null() {
                sys::rd_kafka_conf_destroy(conf);
            } else {
                sys::rd_kafka_set_log_level(rk, config.log_level as i32);
            }
            rk
        };
        match NonNull::new(rk) {
            Some(rk) => Ok(Self { rk, context }),
            None => Err(why.to_string()),
        }
    }

    pub(super) fn ptr(&self) -> *mut sys::rd_kafka_t {
        self.rk.as_ptr()
    }

    /// Asks the cluster where the topics in use are led, so that work begins now and not at the client's next
    /// look, up to 1 s later. Without an answer, that look is what remains.
    pub(super) fn learn_leaders(&self, timeout: Duration) {
        // SAFETY: a valid client.
        unsafe { refresh(self.ptr(), timeout.min(Duration::from_secs(60))) }
    }

    /// The error that has put the client out of order for good, if one has.
    pub(super) fn fatal_error(&self) -> Option<RDKafkaErrorCode> {
        // SAFETY: a valid client; without a buffer no text is written.
        match unsafe { sys::rd_kafka_fatal_error(self.ptr(), std::ptr::null_mut(), 0) } {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => None,
            err => Some(err.into()),
        }
    }

    /// How many answers about metadata have come. Nothing that the client knows of topics and their leaders changes
    /// without one.
    pub(super) fn metadata_answers(&self) -> u64 {
        self.context.metadata.load(Ordering::Acquire)
    }

    pub(super) fn notes(&self) -> &T {
        &self.context.notes
    }

    /// Errors of the client as a whole since the last call, such as "all brokers are down".
    pub(super) fn take_errors(&self) -> Vec<(RDKafkaErrorCode, String)> {
        self.context.errors.take()
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: created by `rd_kafka_new`, destroyed once; the context is still alive while librdkafka's
        // threads end. Our consumers are never group members, so there is nothing to leave.
        unsafe { sys::rd_kafka_destroy_flags(self.ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) }
    }
}

/// Name of our interceptor in librdkafka's log.
const INTERCEPTOR: &CStr = c"causeway";
/// Kafka's number of the metadata request.
const METADATA: i16 = 3;

/// Interceptors are added while the client is made.
unsafe extern "C" fn on_new<T>(
    rk: *mut sys::rd_kafka_t,
    _: *const sys::rd_kafka_conf_t,
    opaque: *mut c_void,
    _: *mut c_char,
    _: usize,
) -> sys::rd_kafka_resp_err_t {
    // SAFETY: called by `rd_kafka_new` with the client that it makes and the opaque of `Handle::new`.
    unsafe {
        let name = INTERCEPTOR.as_ptr();
        sys::rd_kafka_interceptor_add_on_response_received(rk, name, Some(on_response::<T>), opaque)
    }
}

unsafe extern "C" fn on_response<T>(
    _: *mut sys::rd_kafka_t,
    _: c_int,
    _: *const c_char,
    _: i32,
    api: i16,
    _: i16,
    _: i32,
    _: usize,
    _: i64,
    _: sys::rd_kafka_resp_err_t,
    opaque: *mut c_void,
) -> sys::rd_kafka_resp_err_t {
    if api == METADATA {
        // SAFETY: the opaque of `Handle::new`, which outlives the client's threads; only the atomic is touched.
        let metadata = unsafe { &*std::ptr::addr_of!((*opaque.cast::<Context<T>>()).metadata) };
        metadata.fetch_add(1, Ordering::Release);
    }
    sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

unsafe extern "C" fn on_log<T>(
    rk: *const sys::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    message: *const c_char,
) {
    // SAFETY: librdkafka passes valid strings, and the opaque set in `Handle::new`.
    let (label, facility, message) = unsafe {
        let context = sys::rd_kafka_opaque(rk).cast::<Context<T>>();
        ((*context).label.as_str(), text(facility), text(message))
    };
    log_line(level, label, &facility, &message);
}

unsafe extern "C" fn on_error<T>(
    _: *mut sys::rd_kafka_t,
    err: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: the error callback runs inside a poll of the owning thread, with the opaque of `Handle::new`;
    // no other borrow of `errors` is alive there, because `take_errors` does not poll.
    let (context, reason) = unsafe { (&*opaque.cast::<Context<T>>(), text(reason)) };
    let mut errors = context.errors.borrow_mut();
    if errors.len() < 16 {
        errors.push((error_code(err), reason));
    }
}

/// librdkafka hands out plain integers; a number without a name in the bindings, of a newer broker, is unknown.
pub(super) fn error_code(err: c_int) -> RDKafkaErrorCode {
    let known = sys::rd_kafka_resp_err_t::try_from(err);
    known.map_or(RDKafkaErrorCode::Unknown, RDKafkaErrorCode::from)
}

/// The error of a message or delivery report; `None`: it has none.
///
/// # Safety
/// `message` is valid.
pub(super) unsafe fn message_error(message: *const sys::rd_kafka_message_t) -> Option<RDKafkaErrorCode> {
    // SAFETY: demanded of the caller. Read as the integer that C has there: a broker's number may have no name
    // in the enum of the bindings.
    let err = unsafe { std::ptr::addr_of!((*message).err).cast::<c_int>().read() };
    (err != 0).then(|| error_code(err))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_without_a_name_is_an_unknown_error() {
        assert_eq!(error_code(120), RDKafkaErrorCode::Unknown);
        assert_eq!(error_code(-192), RDKafkaErrorCode::MessageTimedOut);
    }
}
