//! Positions of many consumer groups through librdkafka's admin interface: one call per group, several hundred
//! in flight.
//!
//! librdkafka can abort the process in these calls (see [`groups`](super::groups)), so nothing but the process
//! for groups may use this file.

use std::collections::BTreeMap;
use std::ffi::{CString, c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka_sys as sys;
use sys::rd_kafka_admin_op_t as Op;
use sys::rd_kafka_resp_err_t as Err_t;

use super::wire::{Commit, Deleted, Positions, Read, Written};
use crate::error::{Code, Error, Result, Side};
use crate::kafka::admin::{Admin, GRACE, SLICE};
use crate::kafka::codes::group_code;
use crate::kafka::objects::{ErrorText, Owned, c_string, describe, items, milliseconds, slice, text};
use crate::kafka::{ClusterAlias, TopicPartition};

/// Calls in flight. Each is two small requests; more would only wait in the broker's queue.
const WINDOW: usize = 500;

/// Partitions per written request: librdkafka looks each one up in the list of all when the answer comes.
const PARTITIONS: usize = 1_000;

/// The client of one cluster for positions of groups.
pub(super) struct GroupAdmin {
    admin: Admin,
    /// librdkafka keeps the coordinators it last used for as long as they are asked, wrong or not; only a new
    /// client looks again.
    misled: AtomicBool,
}

impl GroupAdmin {
    /// Contacts nobody yet.
    pub(super) fn new(cluster: &str, config: &ClientConfig, side: Side) -> Result<Self> {
        let kind = sys::rd_kafka_type_t::RD_KAFKA_CONSUMER;
        Ok(Self {
            admin: Admin::of_kind(kind, &ClusterAlias::new(cluster), config, side)?,
            misled: AtomicBool::new(false),
        })
    }

    /// Whether it has asked a broker that does not coordinate the group, and so should be replaced.
    pub(super) fn is_misled(&self) -> bool {
        self.misled.load(Ordering::Relaxed)
    }

    pub(super) fn committed(&self, groups: &[String], timeout: Duration) -> Result<Read> {
        let op = Op::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
        let mut read = Read::new();
        self.calls(
            op,
            groups,
            timeout,
            |group, options, queue| {
                let name = c_string(group);
                // SAFETY: client, options and queue are valid (contract of `calls`); the call copies the
                // request, which its guard destroys. No list stands for all partitions.
                unsafe {
                    let request = sys::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), ptr::null());
                    let request = Owned::some(request, sys::rd_kafka_ListConsumerGroupOffsets_destroy);
                    let rk = self.admin.client.ptr();
                    sys::rd_kafka_ListConsumerGroupOffsets(rk, &mut request.ptr(), 1, options, queue);
                }
            },
            |group, answer| {
                let what = format!("read the positions of group {group}");
                let positions = self.outcome(&what, answer).and_then(|event| {
                    // SAFETY: the event holds a ListConsumerGroupOffsets result, which lives as long as it.
                    let found = unsafe {
                        let result = sys::rd_kafka_event_ListConsumerGroupOffsets_result(event.ptr());
                        group_partitions(result, sys::rd_kafka_ListConsumerGroupOffsets_result_groups)
                    };
                    self.check_group(&what, &found)?;
                    // A partition without a position has a negative offset.
                    let positions = found.into_iter().filter(|it| 0 <= it.commit.offset);
                    positions
                        .map(|it| match it.error {
                            0 => Ok((it.partition, it.commit)),
                            error => Err(self.error(&format!("{what} in {}", it.partition), error, "")),
                        })
                        .collect()
                });
                read.insert(group.clone(), positions);
            },
        );
        self.cluster_failure(read.values().map(|it| it.as_ref().err()))?;
        Ok(read)
    }

    pub(super) fn commit(&self, positions: &Positions, timeout: Duration) -> Result<Written> {
        let op = Op::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS;
        let mut written: Written = positions
            .keys()
            .map(|group| (group.clone(), Ok(BTreeMap::new())))
            .collect();
        let mut parts = Vec::new();
        for (group, commits) in positions {
            let (valid, invalid): (Vec<_>, Vec<_>) = commits.iter().partition(|(_, it)| 0 <= it.offset);
            for (partition, _) in invalid {
                let what = format!("write the position of group {group} in {partition}");
                let error = self.error(&what, Err_t::RD_KAFKA_RESP_ERR__INVALID_ARG as c_int, "");
                if let Some(Ok(outcomes)) = written.get_mut(group) {
                    outcomes.insert(partition.clone(), Err(error));
                }
            }
            parts.extend(valid.chunks(PARTITIONS).map(|part| (group, part.to_vec())));
        }
        self.calls(
            op,
            &parts,
            timeout,
            |(group, part), options, queue| {
                let (rk, name) = (self.admin.client.ptr(), c_string(group));
                let list = self.list(part);
                // SAFETY: client, options and queue are valid (contract of `calls`); the call copies the
                // request, which its guard destroys, and the request its list.
                unsafe {
                    let request = sys::rd_kafka_AlterConsumerGroupOffsets_new(name.as_ptr(), list.ptr());
                    let request = Owned::some(request, sys::rd_kafka_AlterConsumerGroupOffsets_destroy);
                    sys::rd_kafka_AlterConsumerGroupOffsets(rk, &mut request.ptr(), 1, options, queue);
                }
            },
            |(group, _), answer| {
                let what = format!("write the positions of group {group}");
                let outcomes = self.outcome(&what, answer).and_then(|event| {
                    // SAFETY: the event holds an AlterConsumerGroupOffsets result, which lives as long as it.
                    let found = unsafe {
                        let result = sys::rd_kafka_event_AlterConsumerGroupOffsets_result(event.ptr());
                        group_partitions(result, sys::rd_kafka_AlterConsumerGroupOffsets_result_groups)
                    };
                    self.check_group(&what, &found)?;
                    Ok(found.into_iter().map(|it| {
                        let outcome = match it.error {
                            0 => Ok(()),
                            error => Err(self.error(&format!("{what} in {}", it.partition), error, "")),
                        };
                        (it.partition, outcome)
                    }))
                });
                match (written.get_mut(*group), outcomes) {
                    (Some(Ok(all)), Ok(outcomes)) => all.extend(outcomes),
                    (Some(group @ Ok(_)), Err(error)) => *group = Err(error),
                    // One part has failed as a whole already.
                    _ => {}
                }
            },
        );
        self.cluster_failure(written.values().map(|it| it.as_ref().err()))?;
        Ok(written)
    }

    pub(super) fn delete(&self, groups: &[String], timeout: Duration) -> Result<Deleted> {
        let op = Op::RD_KAFKA_ADMIN_OP_DELETEGROUPS;
        let mut deleted = Deleted::new();
        self.calls(
            op,
            groups,
            timeout,
            |group, options, queue| {
                let name = c_string(group);
                // SAFETY: client, options and queue are valid (contract of `calls`); the call copies the
                // request, which its guard destroys.
                unsafe {
                    let request = sys::rd_kafka_DeleteGroup_new(name.as_ptr());
                    let request = Owned::some(request, sys::rd_kafka_DeleteGroup_destroy);
                    let rk = self.admin.client.ptr();
                    sys::rd_kafka_DeleteGroups(rk, &mut request.ptr(), 1, options, queue);
                }
            },
            |group, answer| {
                let what = format!("delete group {group}");
                let outcome = self.outcome(&what, answer).and_then(|event| {
                    // SAFETY: the event holds a DeleteGroups result with one group, whose error is null or
                    // lives as long as the event.
                    let (error, why) = unsafe {
                        let result = sys::rd_kafka_event_DeleteGroups_result(event.ptr());
                        let groups = items(result, sys::rd_kafka_DeleteGroups_result_groups);
                        let error = groups.first().map(|&it| sys::rd_kafka_group_result_error(it));
                        match error {
                            Some(error) if !error.is_null() => {
                                (error_code(error), text(sys::rd_kafka_error_string(error)))
                            }
                            _ => (0, String::new()),
                        }
                    };
                    // Somebody else, or an earlier call whose answer was lost, deleted it.
                    let gone = Err_t::RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND as c_int;
                    match error {
                        0 => Ok(()),
                        error if error == gone => Ok(()),
                        error => Err(self.error(&what, error, &why)),
                    }
                });
                deleted.insert(group.clone(), outcome);
            },
        );
        self.cluster_failure(deleted.values().map(|it| it.as_ref().err()))?;
        Ok(deleted)
    }

    /// Makes one call per item and hands each its answer, or nothing when time has run out. `start` gets options
    /// and queue, which are valid while it runs.
    fn calls<T>(
        &self,
        op: Op,
        all: &[T],
        timeout: Duration,
        start: impl Fn(&T, *mut sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
        mut done: impl FnMut(&T, Option<Owned<sys::rd_kafka_event_t>>),
    ) {
        let rk = self.admin.client.ptr();
        // SAFETY: the client is valid, and the queue is destroyed by its guard. Answers that come later are
        // dropped with it.
        let queue = unsafe { Owned::some(sys::rd_kafka_queue_new(rk), sys::rd_kafka_queue_destroy) };
        let deadline = Instant::now() + timeout;
        let mut answered = vec![false; all.len()];
        let (mut next, mut in_flight) = (0, 0);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            while in_flight < WINDOW && next < all.len() && !left.is_zero() {
                let options = self.options(op, left, next);
                start(&all[next], options.ptr(), queue.ptr());
                next += 1;
                in_flight += 1;
            }
            if in_flight == 0 {
                break;
            }
            // SAFETY: client and queue are valid. Serving the client's own events is what tells why a
            // connection fails; the event is ours and destroyed by its guard.
            let event = unsafe {
                sys::rd_kafka_poll(rk, 0);
                let event = sys::rd_kafka_queue_poll(queue.ptr(), milliseconds(SLICE));
                Owned::new(event, sys::rd_kafka_event_destroy)
            };
            match event {
                Some(event) => {
                    // SAFETY: the event is valid; its opaque pointer is the number given in `options`.
                    let number = unsafe { sys::rd_kafka_event_opaque(event.ptr()) } as usize;
                    in_flight -= 1;
                    answered[number] = true;
                    done(&all[number], Some(event));
                }
                None if Instant::now() < deadline + GRACE => {}
                None => break,
            }
        }
        for (it, _) in all.iter().zip(answered).filter(|(_, answered)| !answered) {
            done(it, None);
        }
    }

    fn options(&self, op: Op, timeout: Duration, number: usize) -> Owned<sys::rd_kafka_AdminOptions_t> {
        let mut why = ErrorText::new();
        // SAFETY: the client is valid, and the options are destroyed by their guard. The opaque pointer is a
        // number that is never followed.
        unsafe {
            let options = sys::rd_kafka_AdminOptions_new(self.admin.client.ptr(), op);
            let options = Owned::some(options, sys::rd_kafka_AdminOptions_destroy);
            let (ms, len) = (milliseconds(timeout), ErrorText::LEN);
            sys::rd_kafka_AdminOptions_set_request_timeout(options.ptr(), ms, why.ptr(), len);
            sys::rd_kafka_AdminOptions_set_opaque(options.ptr(), number as *mut c_void);
            options
        }
    }

    /// The positions in librdkafka's form.
    fn list(&self, part: &[(&TopicPartition, &Commit)]) -> Owned<sys::rd_kafka_topic_partition_list_t> {
        // SAFETY: a new list, destroyed by its guard. It copies the topic and returns its new entry, valid until
        // the next one. The list frees the metadata with librdkafka's own allocator, which it comes from.
        unsafe {
            let list = Owned::some(
                sys::rd_kafka_topic_partition_list_new(part.len() as c_int),
                sys::rd_kafka_topic_partition_list_destroy,
            );
            let mut topic: (&str, CString) = ("", CString::default());
            for (partition, commit) in part {
                if topic.0 != &*partition.topic {
                    topic = (&partition.topic, c_string(&partition.topic));
                }
                let number = partition.partition;
                let entry = sys::rd_kafka_topic_partition_list_add(list.ptr(), topic.1.as_ptr(), number);
                (*entry).offset = commit.offset;
                let epoch = commit.leader_epoch.unwrap_or(NO_EPOCH);
                sys::rd_kafka_topic_partition_set_leader_epoch(entry, epoch);
                let bytes = commit.metadata.as_bytes();
                if !bytes.is_empty() {
                    let copy = sys::rd_kafka_mem_malloc(self.admin.client.ptr(), bytes.len());
                    ptr::copy_nonoverlapping(bytes.as_ptr(), copy.cast(), bytes.len());
                    (*entry).metadata = copy;
                    (*entry).metadata_size = bytes.len();
                }
            }
            list
        }
    }

    /// An answer that is an error as a whole, or missing, becomes the error.
    fn outcome(
        &self,
        what: &str,
        answer: Option<Owned<sys::rd_kafka_event_t>>,
    ) -> Result<Owned<sys::rd_kafka_event_t>> {
        let Some(event) = answer else {
            let late = Err_t::RD_KAFKA_RESP_ERR__TIMED_OUT;
            return Err(self.error(what, late as c_int, &describe(late)));
        };
        // SAFETY: the event is valid, and so is its text while it lives.
        let (error, why) = unsafe {
            (
                event_error(event.ptr()),
                text(sys::rd_kafka_event_error_string(event.ptr())),
            )
        };
        if error != 0 {
            return Err(self.error(what, error, &why));
        }
        self.admin.context.clear();
        Ok(event)
    }

    /// Brokers answer per partition what concerns the whole group.
    fn check_group(&self, what: &str, found: &[Found]) -> Result<()> {
        let of_group = |it: &&Found| {
            matches!(
                known(it.error),
                Err_t::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID
                    | Err_t::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION
                    | Err_t::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS
                    | Err_t::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED
                    | Err_t::RD_KAFKA_RESP_ERR_NOT_COORDINATOR
                    | Err_t::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE
                    | Err_t::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS
            )
        };
        match found.iter().find(of_group) {
            Some(it) => Err(self.error(what, it.error, "")),
            None => Ok(()),
        }
    }

    /// When no group got an answer the trouble is not the groups'.
    fn cluster_failure<'a>(&self, mut errors: impl Iterator<Item = Option<&'a Error>>) -> Result<()> {
        let of_cluster = |it: &Error| {
            matches!(
                it.code,
                Code::SourceUnreachable
                    | Code::SourceAuthentication
                    | Code::TargetUnreachable
                    | Code::TargetAuthentication
            )
        };
        match errors.next() {
            Some(Some(first)) if of_cluster(first) && errors.all(|it| it.is_some_and(of_cluster)) => {
                Err(first.clone())
            }
            _ => Ok(()),
        }
    }

    fn error(&self, what: &str, number: c_int, why: &str) -> Error {
        let cause = known(number);
        if cause == Err_t::RD_KAFKA_RESP_ERR_NOT_COORDINATOR {
            self.misled.store(true, Ordering::Relaxed);
        }
        let why = if why.is_empty() { &describe(cause) } else { why };
        let mut error = self.admin.failure(what, cause, why);
        if cause == Err_t::RD_KAFKA_RESP_ERR_UNKNOWN {
            error.detail.push_str(&format!(" [{number}]"));
        }
        let refined = group_code(self.admin.side, cause.into());
        if refined != crate::kafka::codes::code(self.admin.side, cause.into()) {
            error.code = refined;
        }
        error
    }
}

/// Kafka's number for a commit without a leader epoch.
const NO_EPOCH: i32 = -1;

/// One partition of an answer.
struct Found {
    partition: TopicPartition,
    commit: Commit,
    error: c_int,
}

/// The partitions of a result with one group.
///
/// # Safety
/// `result` must be valid, and `getter` be made for it.
unsafe fn group_partitions<R>(
    result: *const R,
    getter: unsafe extern "C" fn(*const R, *mut usize) -> *mut *const sys::rd_kafka_group_result_t,
) -> Vec<Found> {
    // SAFETY: demanded of the caller; a list is null or has `cnt` entries. The error is read as the number it is
    // in C: a broker may send one that has no name here.
    unsafe {
        let Some(&group) = items(result, getter).first() else {
            return Vec::new();
        };
        let list = sys::rd_kafka_group_result_partitions(group);
        if list.is_null() {
            return Vec::new();
        }
        let mut topic: Arc<str> = "".into();
        (0..(*list).cnt as usize)
            .map(|number| found((*list).elems.add(number), &mut topic))
            .collect()
    }
}

/// # Safety
/// `entry` must be valid except for the number in `err`.
unsafe fn found(entry: *const sys::rd_kafka_topic_partition_t, topic: &mut Arc<str>) -> Found {
    // SAFETY: demanded of the caller.
    unsafe {
        let name = text((*entry).topic);
        if **topic != *name {
            *topic = name.into();
        }
        let epoch = sys::rd_kafka_topic_partition_get_leader_epoch(entry);
        let metadata = slice(
            (*entry).metadata.cast::<u8>().cast_const(),
            (*entry).metadata_size,
        );
        Found {
            partition: TopicPartition::new(Arc::clone(topic), (*entry).partition),
            commit: Commit {
                offset: (*entry).offset,
                leader_epoch: (0 <= epoch).then_some(epoch),
                metadata: String::from_utf8_lossy(metadata).into_owned(),
            },
            error: (&raw const (*entry).err).cast::<c_int>().read(),
        }
    }
}

fn known(number: c_int) -> Err_t {
    Err_t::try_from(number).unwrap_or(Err_t::RD_KAFKA_RESP_ERR_UNKNOWN)
}

// The crate declares these with an enum as result, which a number without a name in it would break.
unsafe extern "C" {
    #[link_name = "rd_kafka_event_error"]
    fn event_error(event: *mut sys::rd_kafka_event_t) -> c_int;
    #[link_name = "rd_kafka_error_code"]
    fn error_code(error: *const sys::rd_kafka_error_t) -> c_int;
}
