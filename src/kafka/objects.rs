//! Objects, arrays and texts of librdkafka.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka_sys as sys;
use sys::rd_kafka_resp_err_t as Err_t;

/// An object of librdkafka that is ours, with the call that frees it.
pub(super) struct Owned<T> {
    pointer: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// Takes over an object; `None` for null.
    ///
    /// # Safety
    /// The object must be ours, valid, and freed by `destroy` and nothing else.
    pub(super) unsafe fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        NonNull::new(pointer).map(|pointer| Self { pointer, destroy })
    }

    /// Takes over an object that librdkafka always delivers: its constructors abort without memory.
    ///
    /// # Safety
    /// As [`Owned::new`].
    pub(super) unsafe fn some(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Self {
        // SAFETY: demanded of the caller.
        unsafe { Self::new(pointer, destroy) }.expect("librdkafka constructors do not return null")
    }

    pub(super) fn ptr(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the object is ours and valid until here (contract of `new`).
        unsafe { (self.destroy)(self.ptr()) }
    }
}

/// Frees what librdkafka has allocated for us.
///
/// # Safety
/// `text` must be ours and come from librdkafka.
pub(super) unsafe extern "C" fn free(text: *mut c_char) {
    // SAFETY: demanded of the caller; this is the call that librdkafka names for it, without a client.
    unsafe { sys::rd_kafka_mem_free(ptr::null_mut(), text.cast()) }
}

/// Room for librdkafka's error texts.
pub(super) struct ErrorText([u8; ErrorText::LEN]);

impl ErrorText {
    pub(super) const LEN: usize = 512;

    pub(super) fn new() -> Self {
        Self([0; Self::LEN])
    }

    pub(super) fn ptr(&mut self) -> *mut c_char {
        self.0.as_mut_ptr().cast()
    }
}

impl fmt::Display for ErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = CStr::from_bytes_until_nul(&self.0).unwrap_or_default();
        f.write_str(&text.to_string_lossy())
    }
}

/// Kafka's names and values hold no NUL; one that does is changed into a name that no broker accepts.
pub(super) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{FFFD}")).expect("no NUL is left")
}

/// # Safety
/// `text` must be null or a valid C string.
pub(super) unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: demanded of the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// # Safety
/// `first` must be null or the start of `len` values that outlive the slice.
pub(super) unsafe fn slice<'a, T>(first: *const T, len: usize) -> &'a [T] {
    if first.is_null() {
        return &[];
    }
    // SAFETY: demanded of the caller.
    unsafe { std::slice::from_raw_parts(first, len) }
}

/// The items of a result, by the getter librdkafka has for them.
///
/// # Safety
/// `result` must be valid, and outlive the slice.
pub(super) unsafe fn items<'a, R, T>(
    result: *const R,
    getter: unsafe extern "C" fn(*const R, *mut usize) -> *mut *const T,
) -> &'a [*const T] {
    let mut len = 0;
    // SAFETY: demanded of the caller; the getter returns an array of `len` items that the result owns.
    unsafe { slice(getter(result, &mut len), len) }
}

/// # Safety
/// `error` must be null or valid.
pub(super) unsafe fn is_error(error: *const sys::rd_kafka_error_t) -> bool {
    // SAFETY: demanded of the caller.
    !error.is_null() && unsafe { sys::rd_kafka_error_code(error) } != Err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// Turns librdkafka's error object into words and frees it.
///
/// # Safety
/// `error` is null or an error object that the caller owns.
pub(super) unsafe fn outcome(error: *mut sys::rd_kafka_error_t) -> Result<(), String> {
    // SAFETY: demanded of the caller; the guard destroys it.
    match unsafe { Owned::new(error, sys::rd_kafka_error_destroy) } {
        None => Ok(()),
        // SAFETY: not null, and so valid.
        Some(error) => Err(unsafe { text(sys::rd_kafka_error_string(error.ptr())) }),
    }
}

/// Has a client ask which brokers there are and who leads the topics in use.
///
/// # Safety
/// `client` must be valid.
pub(super) unsafe fn refresh(client: *mut sys::rd_kafka_t, timeout: Duration) {
    let mut metadata = ptr::null();
    // SAFETY: demanded of the caller; the answer, if there is one, is ours to destroy.
    unsafe {
        sys::rd_kafka_metadata(client, 0, ptr::null_mut(), &mut metadata, milliseconds(timeout));
        if !metadata.is_null() {
            sys::rd_kafka_metadata_destroy(metadata);
        }
    }
}

pub(super) fn describe(error: Err_t) -> String {
    // SAFETY: returns a static text for every code.
    unsafe { text(sys::rd_kafka_err2str(error)) }
}

/// librdkafka's timeouts: at least 1 ms, since 0 and below have meanings of their own.
pub(super) fn milliseconds(duration: Duration) -> c_int {
    c_int::try_from(duration.as_millis()).unwrap_or(c_int::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_with_a_nul_is_cut_to_that_of_another_topic() {
        assert_ne!(c_string("orders\0").as_bytes(), b"orders");
    }
}
