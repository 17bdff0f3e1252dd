//! Offsets of partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka_sys as sys;
use sys::rd_kafka_admin_op_t as Op;
use sys::rd_kafka_resp_err_t as Err_t;

use super::{Admin, BATCH};
use crate::error::Result;
use crate::kafka::TopicPartition;
use crate::kafka::objects::{Owned, c_string, describe, items, text};

/// librdkafka's number for the end of a partition.
const LATEST: i64 = sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64;

/// The broker's answer when no record has such a timestamp.
const NO_SUCH_RECORD: i64 = -1;

/// Which offset of a partition is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The log start.
    Earliest,
    /// The end: the high watermark, or the last stable offset when only committed records count.
    Latest,
    /// The first record at or after this time, in ms since the epoch (≥ 0); the end if there is none.
    Timestamp(i64),
}

impl Admin {
    /// Offsets of any number of partitions, each named once, in one call (two if a timestamp is among them).
    ///
    /// With `read_committed`, [`OffsetSpec::Latest`] is the last stable offset. A timestamp with no record
    /// at or after it yields the end, taken before the timestamp is looked up: a record that arrives in
    /// between lies behind the answer and is not lost by starting there.
    pub fn list_offsets(
        &self,
        partitions: &[(TopicPartition, OffsetSpec)],
        read_committed: bool,
        timeout: Duration,
    ) -> Result<BTreeMap<TopicPartition, Result<i64>>> {
        let wanted = partitions.iter().map(|(partition, spec)| {
            let number = match spec {
                OffsetSpec::Earliest => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST as i64,
                OffsetSpec::Latest => LATEST,
                OffsetSpec::Timestamp(ms) => *ms,
            };
            (partition, number)
        });
        let by_time = partitions
            .iter()
            .filter(|(_, spec)| matches!(spec, OffsetSpec::Timestamp(_)));
        let ends = self.offsets(by_time.map(|(p, _)| (p, LATEST)), read_committed, timeout)?;
        let mut offsets = self.offsets(wanted, read_committed, timeout)?;
        for (partition, end) in ends {
            if let Some(offset @ Ok(NO_SUCH_RECORD)) = offsets.get_mut(&partition) {
                *offset = end;
            }
        }
        Ok(offsets)
    }

    /// [`Admin::list_offsets`] of one partition.
    ///
    /// # Errors
    /// The cluster cannot be asked, or says nothing of the partition.
    pub fn list_offset(
        &self,
        partition: &TopicPartition,
        spec: OffsetSpec,
        read_committed: bool,
        timeout: Duration,
    ) -> Result<i64> {
        let asked = [(partition.clone(), spec)];
        let mut told = self.list_offsets(&asked, read_committed, timeout)?;
        told.remove(partition).unwrap_or_else(|| {
            let what = format!("list offsets of {partition}");
            Err(self.error(&what, Err_t::RD_KAFKA_RESP_ERR_UNKNOWN, "no answer"))
        })
    }

    fn offsets<'a>(
        &self,
        partitions: impl Iterator<Item = (&'a TopicPartition, i64)>,
        read_committed: bool,
        timeout: Duration,
    ) -> Result<BTreeMap<TopicPartition, Result<i64>>> {
        let all: Vec<_> = partitions.collect();
        let mut offsets = BTreeMap::new();
        // librdkafka searches its list for every partition of an answer.
        for batch in all.chunks(BATCH) {
            offsets.append(&mut self.offsets_of_batch(batch, read_committed, timeout)?);
        }
        Ok(offsets)
    }

    fn offsets_of_batch(
        &self,
        partitions: &[(&TopicPartition, i64)],
        read_committed: bool,
        timeout: Duration,
    ) -> Result<BTreeMap<TopicPartition, Result<i64>>> {
        // SAFETY: a new list, destroyed by its guard.
        let list = unsafe {
            Owned::some(
                sys::rd_kafka_topic_partition_list_new(0),
                sys::rd_kafka_topic_partition_list_destroy,
            )
        };
        for (partition, number) in partitions {
            let topic = c_string(&partition.topic);
            // SAFETY: the list copies the name and returns its new entry, valid until the next one.
            unsafe {
                let entry =
                    sys::rd_kafka_topic_partition_list_add(list.ptr(), topic.as_ptr(), partition.partition);
                (*entry).offset = *number;
            }
        }
        let op = Op::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
        let event = self.call("list offsets", op, timeout, |rk, options, queue| {
            let level = if read_committed {
                sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED
            } else {
                sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED
            };
            // SAFETY: all pointers are valid for the call; the list is copied by it. The option exists for
            // this operation, so the error it returns is null, and destroying null does nothing.
            unsafe {
                let none = sys::rd_kafka_AdminOptions_set_isolation_level(options, level);
                sys::rd_kafka_error_destroy(none);
                sys::rd_kafka_ListOffsets(rk, list.ptr(), options, queue);
            }
        })?;
        let mut offsets = BTreeMap::new();
        // SAFETY: the event holds a ListOffsets result; everything is copied out before it ends.
        unsafe {
            let result = sys::rd_kafka_event_ListOffsets_result(event.ptr());
            for &info in items(result, sys::rd_kafka_ListOffsets_result_infos) {
                let found = &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(info);
                let partition = TopicPartition::new(text(found.topic), found.partition);
                let offset = match found.err {
                    Err_t::RD_KAFKA_RESP_ERR_NO_ERROR if NO_SUCH_RECORD <= found.offset => Ok(found.offset),
                    error => {
                        // While a leader is away librdkafka may report success without an offset.
                        let error = match error {
                            Err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Err_t::RD_KAFKA_RESP_ERR__TRANSPORT,
                            error => error,
                        };
                        Err(self.error(&format!("list offsets of {partition}"), error, &describe(error)))
                    }
                };
                offsets.insert(partition, offset);
            }
        }
        Ok(offsets)
    }
}
