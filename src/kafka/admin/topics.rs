//! Topics: listed, described, created, grown.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::time::Duration;

use rdkafka_sys as sys;
use sys::rd_kafka_AclOperation_t as Operation;
use sys::rd_kafka_admin_op_t as Op;
use sys::rd_kafka_resp_err_t as Err_t;

use super::{Admin, BATCH};
use crate::error::Result;
use crate::kafka::TopicId;
use crate::kafka::objects::{ErrorText, Owned, c_string, describe, is_error, items, slice, text};

/// Most partitions created in one request.
const PARTITIONS: i64 = 2_000;

/// One topic as the cluster sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// Changes when the topic is deleted and created again.
    pub id: TopicId,
    /// Number of partitions.
    pub partitions: i32,
    /// Replicas of partition 0.
    pub replication_factor: i32,
    /// In-sync replicas of each partition, by its number.
    pub in_sync: Vec<usize>,
    /// Whether we may read it; `None`: the cluster does not tell (KIP-430).
    pub readable: Option<bool>,
    /// Whether we may write it; `None`: the cluster does not tell (KIP-430).
    pub writable: Option<bool>,
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Partitions; −1 takes the broker's default.
    pub partitions: i32,
    /// Replication factor; −1 takes the broker's default.
    pub replication_factor: i32,
    /// Settings by name.
    pub configs: BTreeMap<String, String>,
}

impl Admin {
    /// Every topic we may describe, with its number of partitions. A topic that is just being created or
    /// deleted may be missing.
    pub fn list_topics(&self, timeout: Duration) -> Result<BTreeMap<String, i32>> {
        self.metadata("list topics", timeout, |metadata| {
            // SAFETY: the topics of an answer are an array of `topic_cnt` entries (null only when there are none) with
            // valid names.
            unsafe {
                slice(metadata.topics, metadata.topic_cnt as usize)
                    .iter()
                    .filter(|t| t.err == Err_t::RD_KAFKA_RESP_ERR_NO_ERROR)
                    .map(|t| (text(t.topic), t.partition_cnt))
                    .collect()
            }
        })
    }

    /// Id, partitions and replication factor of each topic, or why it cannot be told.
    pub fn describe_topics(
        &self,
        names: &[&str],
        timeout: Duration,
    ) -> Result<BTreeMap<String, Result<TopicDescription>>> {
        let mut described = BTreeMap::new();
        for batch in names.chunks(BATCH) {
            let names: Vec<CString> = batch.iter().map(|n| c_string(n)).collect();
            let mut pointers: Vec<*const c_char> = names.iter().map(|n| n.as_ptr()).collect();
            // SAFETY: the names live until the end of this block, and the collection copies them.
            let topics = unsafe {
                let topics =
                    sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
                Owned::some(topics, sys::rd_kafka_TopicCollection_destroy)
            };
            let op = Op::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
            let event = self.call("describe topics", op, timeout, |rk, options, queue| {
                // SAFETY: all pointers are valid for the call; the topics are copied by it. The option exists
                // for this operation, so that no error object comes back.
                unsafe {
                    sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
                    sys::rd_kafka_DescribeTopics(rk, topics.ptr(), options, queue);
                }
            })?;
            // SAFETY: the event holds a DescribeTopics result; everything is copied out before it ends.
            unsafe {
                let result = sys::rd_kafka_event_DescribeTopics_result(event.ptr());
                for &topic in items(result, sys::rd_kafka_DescribeTopics_result_topics) {
                    let name = text(sys::rd_kafka_TopicDescription_name(topic));
                    let error = sys::rd_kafka_TopicDescription_error(topic);
                    let outcome = if is_error(error) {
                        Err(self.error_of(&format!("describe topic {name}"), error))
                    } else {
                        let partitions = items(topic, sys::rd_kafka_TopicDescription_partitions);
                        let replicas = partitions
                            .first()
                            .map_or(0, |&p| items(p, sys::rd_kafka_TopicPartitionInfo_replicas).len());
                        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
                        let mut len = 0;
                        let first = sys::rd_kafka_TopicDescription_authorized_operations(topic, &mut len);
                        // As numbers: an operation of a newer Kafka has no name in the bindings.
                        let allowed: &[u32] = slice(first.cast(), len);
                        let may =
                            |op: Operation| (!allowed.is_empty()).then(|| allowed.contains(&(op as u32)));
                        Ok(TopicDescription {
                            id: topic_id(&text(sys::rd_kafka_Uuid_base64str(id))),
                            partitions: partitions.len() as i32,
                            replication_factor: replicas as i32,
                            in_sync: partitions
                                .iter()
                                .map(|&it| items(it, sys::rd_kafka_TopicPartitionInfo_isr).len())
                                .collect(),
                            readable: may(Operation::RD_KAFKA_ACL_OPERATION_READ),
                            writable: may(Operation::RD_KAFKA_ACL_OPERATION_WRITE),
                        })
                    };
                    described.insert(name, outcome);
                }
            }
        }
        Ok(described)
    }

    /// Creates topics. One that exists already counts as created: somebody else, or an earlier call whose
    /// answer was lost, made it; whether it fits is seen by describing it.
    ///
    /// # Errors
    /// The outer error is about the cluster: part of the topics may have been created then.
    pub fn create_topics(
        &self,
        topics: &[NewTopic],
        timeout: Duration,
    ) -> Result<BTreeMap<String, Result<()>>> {
        let mut outcomes = BTreeMap::new();
        for batch in creations(topics) {
            let made = batch.iter().map(|it| (&it.name, new_topic(it)));
            let natives = self.made("create", made, &mut outcomes);
            if natives.is_empty() {
                continue;
            }
            let op = Op::RD_KAFKA_ADMIN_OP_CREATETOPICS;
            // SAFETY: the call copies the topics. The event holds a CreateTopics result; everything is copied out
            // before it ends.
            unsafe {
                let event =
                    self.call_with("create topics", op, timeout, &natives, sys::rd_kafka_CreateTopics)?;
                let result = sys::rd_kafka_event_CreateTopics_result(event.ptr());
                for &topic in items(result, sys::rd_kafka_CreateTopics_result_topics) {
                    let (name, outcome) = self.topic_outcome("create topic", topic);
                    let exists = Err_t::RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS;
                    let there = sys::rd_kafka_topic_result_error(topic) == exists;
                    outcomes.insert(name, if there { Ok(()) } else { outcome });
                }
            }
        }
        Ok(outcomes)
    }

    /// Gives topics more partitions: name and new total. Asking for the present count or fewer is an error.
    ///
    /// # Errors
    /// The outer error is about the cluster: part of the topics may have been grown then.
    pub fn grow_topics(
        &self,
        topics: &[(String, i32)],
        timeout: Duration,
    ) -> Result<BTreeMap<String, Result<()>>> {
        let mut outcomes = BTreeMap::new();
        for batch in topics.chunks(BATCH) {
            let made = batch
                .iter()
                .map(|(name, total)| (name, new_partitions(name, *total)));
            let natives = self.made("grow", made, &mut outcomes);
            if natives.is_empty() {
                continue;
            }
            let op = Op::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS;
            // SAFETY: the call copies the totals. The event holds a CreatePartitions result; everything is copied
            // out before it ends.
            unsafe {
                let start = sys::rd_kafka_CreatePartitions;
                let event = self.call_with("create partitions", op, timeout, &natives, start)?;
                let result = sys::rd_kafka_event_CreatePartitions_result(event.ptr());
                let topics = items(result, sys::rd_kafka_CreatePartitions_result_topics);
                outcomes.extend(topics.iter().map(|&it| self.topic_outcome("grow topic", it)));
            }
        }
        Ok(outcomes)
    }

    /// # Safety
    /// `topic` must be valid.
    unsafe fn topic_outcome(
        &self,
        what: &str,
        topic: *const sys::rd_kafka_topic_result_t,
    ) -> (String, Result<()>) {
        // SAFETY: demanded of the caller; name and text live as long as the result.
        unsafe {
            let name = text(sys::rd_kafka_topic_result_name(topic));
            let error = sys::rd_kafka_topic_result_error(topic);
            let why = text(sys::rd_kafka_topic_result_error_string(topic));
            let outcome = self.outcome(what, &name, error, why);
            (name, outcome)
        }
    }
}

/// librdkafka writes the standard alphabet of base64, Kafka's tools the URL-safe one.
fn topic_id(base64: &str) -> TopicId {
    TopicId(base64.replace('+', "-").replace('/', "_").into())
}

/// Topics in lists that a controller takes: KRaft refuses a request for 10,000 partitions or more.
fn creations(topics: &[NewTopic]) -> impl Iterator<Item = &[NewTopic]> {
    let mut rest = topics;
    std::iter::from_fn(move || {
        let mut partitions = 0;
        let fits = |topic: &&NewTopic| {
            partitions += i64::from(topic.partitions.max(1));
            partitions <= PARTITIONS
        };
        // A topic that is too large by itself is tried all the same.
        let count = rest
            .iter()
            .take(BATCH)
            .take_while(fits)
            .count()
            .max(1)
            .min(rest.len());
        let (batch, behind) = rest.split_at(count);
        rest = behind;
        (!batch.is_empty()).then_some(batch)
    })
}

fn new_topic(topic: &NewTopic) -> std::result::Result<Owned<sys::rd_kafka_NewTopic_t>, String> {
    let name = c_string(&topic.name);
    let mut why = ErrorText::new();
    // SAFETY: name and text are valid; the new object is destroyed by its guard.
    let native = unsafe {
        let native = sys::rd_kafka_NewTopic_new(
            name.as_ptr(),
            topic.partitions,
            topic.replication_factor,
            why.ptr(),
            ErrorText::LEN,
        );
        Owned::new(native, sys::rd_kafka_NewTopic_destroy)
    }
    .ok_or_else(|| why.to_string())?;
    for (key, value) in &topic.configs {
        let (key, value) = (c_string(key), c_string(value));
        // SAFETY: all pointers are valid; the texts are copied.
        let error = unsafe { sys::rd_kafka_NewTopic_set_config(native.ptr(), key.as_ptr(), value.as_ptr()) };
        if error != Err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(describe(error));
        }
    }
    Ok(native)
}

fn new_partitions(
    name: &str,
    total: i32,
) -> std::result::Result<Owned<sys::rd_kafka_NewPartitions_t>, String> {
    let name = c_string(name);
    let mut why = ErrorText::new();
    let total = usize::try_from(total).map_err(|_| format!("{total} is no partition count"))?;
    // SAFETY: name and text are valid; the new object is destroyed by its guard.
    unsafe {
        let native = sys::rd_kafka_NewPartitions_new(name.as_ptr(), total, why.ptr(), ErrorText::LEN);
        Owned::new(native, sys::rd_kafka_NewPartitions_destroy)
    }
    .ok_or_else(|| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_are_written_as_kafkas_tools_write_them() {
        let id = topic_id("Ad1uWEikQeysd+Icpx2U/A");
        assert_eq!(id.to_string(), "Ad1uWEikQeysd-Icpx2U_A");
    }

    #[test]
    fn topics_are_created_in_requests_that_a_controller_takes() {
        let topics = |partitions: &[i32]| -> Vec<NewTopic> {
            let of = |partitions: &i32| NewTopic {
                name: "t".to_owned(),
                partitions: *partitions,
                replication_factor: 1,
                configs: BTreeMap::new(),
            };
            partitions.iter().map(of).collect()
        };
        let sizes =
            |partitions: &[i32]| -> Vec<usize> { creations(&topics(partitions)).map(<[_]>::len).collect() };
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&[1_000, 1_000, 1]), [2, 1]);
        assert_eq!(sizes(&[1, 20_000, 1]), [1, 1, 1], "one too large goes alone");
        assert_eq!(sizes(&[1; 1_100]), [500, 500, 100]);
    }
}
