//! Administration of one cluster: every call blocks, is bounded by a timeout and returns owned values.
//!
//! All of it goes through librdkafka's admin interface by one helper, `call`, since the safe
//! crate lacks more than half of the operations. The only `unsafe` for administration is in this file.
//! Calls run on blocking threads; one `Admin` may be used by several at once. More than 500 topics are
//! asked for in several requests, each with the timeout of its own.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;
use sys::rd_kafka_AclOperation_t as Operation;
use sys::rd_kafka_admin_op_t as Op;
use sys::rd_kafka_resp_err_t as Err_t;

use super::client::{ClusterConnection, log_line};
use super::codes::code;
use super::{ClusterAlias, TopicId, TopicPartition};
use crate::error::{Code, Error, Result, Side};

/// Topics per request, and partitions per question about offsets. Large clusters answer such a request well within a second, and a controller is
/// not flooded (Kafka's own tools send everything at once).
const BATCH: usize = 500;
/// Most partitions created in one request.
const PARTITIONS: i64 = 2_000;

/// How long one wait for the answer lasts before the client's own events are served.
pub(super) const SLICE: Duration = Duration::from_millis(50);

/// A call without an answer for so long has the client ask again which broker is the controller. librdkafka waits for
/// the one it knows, which may be gone, and asks by itself every 10 s at most (`rd_kafka_metadata_refresh_cb`).
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What the answer may take beyond the timeout given to librdkafka, which normally reports it itself.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// How many partitions of `topic` there are in a member's assignment (Kafka's `ConsumerProtocolAssignment`: a version,
/// then topics, each with its partitions).
fn assigned(mut bytes: &[u8], topic: &str) -> Option<usize> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (number, rest) = bytes.split_first_chunk::<N>()?;
        *bytes = rest;
        Some(*number)
    }
    take::<2>(&mut bytes)?;
    let topics = i32::from_be_bytes(take(&mut bytes)?);
    let mut partitions = 0;
    for _ in 0..topics {
        let length = u16::from_be_bytes(take(&mut bytes)?);
        let (name, rest) = bytes.split_at_checked(length.into())?;
        bytes = rest;
        let count = usize::try_from(i32::from_be_bytes(take(&mut bytes)?)).ok()?;
        bytes = bytes.get(count.checked_mul(4)?..)?;
        if name == topic.as_bytes() {
            partitions += count;
        }
    }
    Some(partitions)
}

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

/// One setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// `None` if the broker hides it (sensitive).
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it cannot be set.
    pub read_only: bool,
    /// Whether it is a secret.
    pub sensitive: bool,
}

/// Where the value of a setting comes from (Kafka's `ConfigEntry.ConfigSource`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on this topic.
    DynamicTopic,
    /// Set dynamically on a broker or as the cluster's default.
    DynamicBroker,
    /// From a broker's `server.properties`.
    StaticBroker,
    /// Kafka's built-in default.
    Default,
    /// Anything else.
    Unknown,
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

/// One change of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOp {
    /// Give the setting this value on the topic.
    Set(String, String),
    /// Remove the setting from the topic, so that the broker's default applies again.
    Delete(String),
}

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

/// A consumer group as a broker lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its `group.id`.
    pub group: String,
    /// What it is doing.
    pub state: GroupState,
    /// Its protocol.
    pub kind: GroupKind,
    /// Whether it has never had members: its positions come from consumers that assign themselves, or from
    /// administration.
    pub simple: bool,
}

/// What a consumer group is doing. `Unknown` also stands for what librdkafka has no word for, such as
/// KIP-848's assigning and reconciling, and for brokers before Kafka 2.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// It has positions and no members.
    Empty,
    /// It has members, and each knows its partitions.
    Stable,
    /// Members join.
    PreparingRebalance,
    /// Members learn their partitions.
    CompletingRebalance,
    /// It is being removed.
    Dead,
    /// None of the above.
    Unknown,
}

/// The protocol of a consumer group. `Unknown` for brokers before Kafka 3.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupKind {
    /// Members assign partitions among themselves.
    Classic,
    /// The broker assigns partitions (KIP-848).
    Consumer,
    /// None of the above.
    Unknown,
}

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

    /// All settings of each topic, or why they cannot be told.
    pub fn describe_configs(
        &self,
        names: &[&str],
        timeout: Duration,
    ) -> Result<BTreeMap<String, Result<BTreeMap<String, ConfigEntry>>>> {
        let mut described = BTreeMap::new();
        for batch in names.chunks(BATCH) {
            let topics: Vec<_> = batch.iter().map(|name| topic_resource(name)).collect();
            let mut pointers = pointers(&topics);
            let op = Op::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
            let event = self.call("describe configs", op, timeout, |rk, options, queue| {
                let (all, len) = (pointers.as_mut_ptr(), pointers.len());
                // SAFETY: all pointers are valid for the call; the resources are copied by it.
                unsafe { sys::rd_kafka_DescribeConfigs(rk, all, len, options, queue) }
            })?;
            // SAFETY: the event holds a DescribeConfigs result; everything is copied out before it ends.
            unsafe {
                let result = sys::rd_kafka_event_DescribeConfigs_result(event.ptr());
                for &topic in items(result, sys::rd_kafka_DescribeConfigs_result_resources) {
                    let (name, outcome) = self.resource_outcome("describe configs of", topic);
                    let entries = outcome.map(|()| {
                        items(topic, sys::rd_kafka_ConfigResource_configs)
                            .iter()
                            .map(|&entry| config_entry(entry))
                            .collect()
                    });
                    described.insert(name, entries);
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
            let mut natives = Vec::new();
            for topic in batch {
                match new_topic(topic) {
                    Ok(native) => natives.push(native),
                    Err(why) => {
                        outcomes.insert(topic.name.clone(), Err(self.refused("create", &topic.name, &why)));
                    }
                }
            }
            if natives.is_empty() {
                continue;
            }
            let mut pointers = pointers(&natives);
            let op = Op::RD_KAFKA_ADMIN_OP_CREATETOPICS;
            let event = self.call("create topics", op, timeout, |rk, options, queue| {
                let (all, len) = (pointers.as_mut_ptr(), pointers.len());
                // SAFETY: all pointers are valid for the call; the topics are copied by it.
                unsafe { sys::rd_kafka_CreateTopics(rk, all, len, options, queue) }
            })?;
            // SAFETY: the event holds a CreateTopics result; everything is copied out before it ends.
            unsafe {
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
            let mut natives = Vec::new();
            for (name, total) in batch {
                match new_partitions(name, *total) {
                    Ok(native) => natives.push(native),
                    Err(why) => {
                        outcomes.insert(name.clone(), Err(self.refused("grow", name, &why)));
                    }
                }
            }
            if natives.is_empty() {
                continue;
            }
            let mut pointers = pointers(&natives);
            let op = Op::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS;
            let event = self.call("create partitions", op, timeout, |rk, options, queue| {
                let (all, len) = (pointers.as_mut_ptr(), pointers.len());
                // SAFETY: all pointers are valid for the call; the descriptions are copied by it.
                unsafe { sys::rd_kafka_CreatePartitions(rk, all, len, options, queue) }
            })?;
            // SAFETY: the event holds a CreatePartitions result; everything is copied out before it ends.
            unsafe {
                let result = sys::rd_kafka_event_CreatePartitions_result(event.ptr());
                for &topic in items(result, sys::rd_kafka_CreatePartitions_result_topics) {
                    let (name, outcome) = self.topic_outcome("grow topic", topic);
                    outcomes.insert(name, outcome);
                }
            }
        }
        Ok(outcomes)
    }

    /// Changes settings; those not named stay as they are (KIP-339). A topic's changes go through together
    /// or not at all: Kafka refuses all of them when one is invalid.
    ///
    /// # Errors
    /// The outer error is about the cluster: part of the topics may have been changed then.
    pub fn incremental_alter_configs(
        &self,
        topics: &BTreeMap<String, Vec<ConfigOp>>,
        timeout: Duration,
    ) -> Result<BTreeMap<String, Result<()>>> {
        let all: Vec<_> = topics.iter().filter(|(_, ops)| !ops.is_empty()).collect();
        let mut outcomes = BTreeMap::new();
        for batch in all.chunks(BATCH) {
            let mut natives = Vec::new();
            for (name, ops) in batch {
                match alterations(name, ops) {
                    Ok(native) => natives.push(native),
                    Err(why) => {
                        outcomes.insert((*name).clone(), Err(self.refused("alter configs of", name, &why)));
                    }
                }
            }
            if natives.is_empty() {
                continue;
            }
            let mut pointers = pointers(&natives);
            let op = Op::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS;
            let event = self.call("alter configs", op, timeout, |rk, options, queue| {
                let (all, len) = (pointers.as_mut_ptr(), pointers.len());
                // SAFETY: all pointers are valid for the call; the resources are copied by it.
                unsafe { sys::rd_kafka_IncrementalAlterConfigs(rk, all, len, options, queue) }
            })?;
            // SAFETY: the event holds an IncrementalAlterConfigs result; all is copied out before it ends.
            unsafe {
                let result = sys::rd_kafka_event_IncrementalAlterConfigs_result(event.ptr());
                for &topic in items(result, sys::rd_kafka_IncrementalAlterConfigs_result_resources) {
                    let (name, outcome) = self.resource_outcome("alter configs of", topic);
                    outcomes.insert(name, outcome);
                }
            }
        }
        Ok(outcomes)
    }

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

    /// Client ids of the members of a consumer group. A group that does not exist has none.
    ///
    /// A coordinator that is just starting or moving is asked again until the timeout: librdkafka does not.
    pub fn group_members(&self, group: &str, timeout: Duration) -> Result<Vec<String>> {
        let holdings = self.group_holdings(group, "", timeout)?;
        Ok(holdings.into_iter().map(|(member, _)| member).collect())
    }

    /// As [`Admin::group_members`], each with the number of partitions of `topic` that it holds: none while the group
    /// hands them out.
    ///
    /// # Errors
    /// The coordinator cannot be asked.
    pub fn group_holdings(
        &self,
        group: &str,
        topic: &str,
        timeout: Duration,
    ) -> Result<Vec<(String, usize)>> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.group_holdings_now(group, topic, left) {
                Err(error)
                    if matches!(error.code, Code::SourceUnavailable | Code::TargetUnavailable)
                        && Instant::now() + SLICE < deadline =>
                {
                    thread::sleep(SLICE);
                }
                outcome => return outcome,
            }
        }
    }

    fn group_holdings_now(
        &self,
        group: &str,
        topic: &str,
        timeout: Duration,
    ) -> Result<Vec<(String, usize)>> {
        // Not `DescribeConsumerGroups`: the admin calls that look for a coordinator abort the process when
        // their connection drops at the wrong moment (librdkafka 2.12, issue 4605).
        let name = c_string(group);
        let what = format!("describe group {group}");
        let mut list: *const sys::rd_kafka_group_list = std::ptr::null();
        // SAFETY: client, name and result pointer are valid for the call. The list, if there is one, is ours;
        // everything is copied out before it is destroyed.
        unsafe {
            let ms = milliseconds(timeout);
            let error = sys::rd_kafka_list_groups(self.client.ptr(), name.as_ptr(), &mut list, ms);
            let mut members = match error {
                Err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(Vec::new()),
                error => Err(self.failure(&what, error, &describe(error))),
            };
            if list.is_null() {
                return members;
            }
            for number in 0..(*list).group_cnt as usize {
                let found = &*(*list).groups.add(number);
                if found.err != Err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    members = Err(self.failure(&what, found.err, &describe(found.err)));
                } else if let Ok(members) = &mut members {
                    let of = |number| {
                        let member = &*found.members.add(number);
                        let assignment = member.member_assignment.cast::<u8>();
                        let assignment = match usize::try_from(member.member_assignment_size) {
                            Ok(length) if !assignment.is_null() => {
                                std::slice::from_raw_parts(assignment, length)
                            }
                            _ => &[],
                        };
                        (text(member.client_id), assigned(assignment, topic).unwrap_or(0))
                    };
                    members.extend((0..found.member_cnt as usize).map(of));
                }
            }
            sys::rd_kafka_group_list_destroy(list);
            members
        }
    }

    /// Every group of the consumer protocol and every group without a protocol, and with them what single
    /// brokers could not tell: a group they coordinate is missing then, which does not mean that it is gone.
    ///
    /// # Errors
    /// No broker could be asked.
    pub fn list_groups(&self, timeout: Duration) -> Result<(Vec<GroupListing>, Vec<Error>)> {
        let op = Op::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS;
        let event = self.call("list groups", op, timeout, |rk, options, queue| {
            // SAFETY: all pointers are valid for the call. Without a filter the brokers name all states and
            // types.
            unsafe { sys::rd_kafka_ListConsumerGroups(rk, options, queue) }
        })?;
        // SAFETY: the event holds a ListConsumerGroups result; everything is copied out before it ends.
        unsafe {
            let result = sys::rd_kafka_event_ListConsumerGroups_result(event.ptr());
            let groups = items(result, sys::rd_kafka_ListConsumerGroups_result_valid)
                .iter()
                .map(|&group| group_listing(group))
                .collect();
            let errors = items(result, sys::rd_kafka_ListConsumerGroups_result_errors)
                .iter()
                .map(|&error| self.error_of("list groups", error))
                .collect();
            Ok((groups, errors))
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
                    self.refresh();
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

    /// Has the client learn which brokers there are now.
    fn refresh(&self) {
        let mut metadata: *const sys::rd_kafka_metadata = ptr::null();
        // SAFETY: the client is valid; the answer, if there is one, is ours to destroy.
        unsafe {
            let timeout = milliseconds(SLICE * 4);
            sys::rd_kafka_metadata(self.client.ptr(), 0, ptr::null_mut(), &mut metadata, timeout);
            if !metadata.is_null() {
                sys::rd_kafka_metadata_destroy(metadata);
            }
        }
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

    /// An argument that never left this process.
    fn refused(&self, what: &str, topic: &str, why: &str) -> Error {
        let invalid = Err_t::RD_KAFKA_RESP_ERR__INVALID_ARG;
        self.error(&format!("{what} {topic}"), invalid, why)
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

    /// # Safety
    /// `topic` must be valid.
    unsafe fn resource_outcome(
        &self,
        what: &str,
        topic: *const sys::rd_kafka_ConfigResource_t,
    ) -> (String, Result<()>) {
        // SAFETY: demanded of the caller; name and text live as long as the resource.
        unsafe {
            let name = text(sys::rd_kafka_ConfigResource_name(topic));
            let error = sys::rd_kafka_ConfigResource_error(topic);
            let why = text(sys::rd_kafka_ConfigResource_error_string(topic));
            let outcome = self.outcome(what, &name, error, why);
            (name, outcome)
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

/// librdkafka's number for the end of a partition.
const LATEST: i64 = sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64;

/// The broker's answer when no record has such a timestamp.
const NO_SUCH_RECORD: i64 = -1;

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

/// librdkafka writes the standard alphabet of base64, Kafka's tools the URL-safe one.
fn topic_id(base64: &str) -> TopicId {
    TopicId(base64.replace('+', "-").replace('/', "_").into())
}

/// Frees what librdkafka has allocated for us.
///
/// # Safety
/// `text` must be ours and come from librdkafka.
unsafe extern "C" fn free(text: *mut c_char) {
    // SAFETY: demanded of the caller; this is the call that librdkafka names for it, without a client.
    unsafe { sys::rd_kafka_mem_free(ptr::null_mut(), text.cast()) }
}

fn pointers<T>(objects: &[Owned<T>]) -> Vec<*mut T> {
    objects.iter().map(Owned::ptr).collect()
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

fn topic_resource(name: &str) -> Owned<sys::rd_kafka_ConfigResource_t> {
    let name = c_string(name);
    // SAFETY: the name is valid and copied; the new object is destroyed by its guard.
    unsafe {
        let kind = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        let native = sys::rd_kafka_ConfigResource_new(kind, name.as_ptr());
        Owned::some(native, sys::rd_kafka_ConfigResource_destroy)
    }
}

fn alterations(
    name: &str,
    ops: &[ConfigOp],
) -> std::result::Result<Owned<sys::rd_kafka_ConfigResource_t>, String> {
    let resource = topic_resource(name);
    for op in ops {
        let (kind, key, value) = match op {
            ConfigOp::Set(key, value) => (
                sys::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET,
                c_string(key),
                Some(c_string(value)),
            ),
            ConfigOp::Delete(key) => (
                sys::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_DELETE,
                c_string(key),
                None,
            ),
        };
        let value = value.as_ref().map_or(ptr::null(), |v| v.as_ptr());
        // SAFETY: all pointers are valid; the texts are copied. The error, if any, is ours.
        unsafe {
            let error = sys::rd_kafka_ConfigResource_add_incremental_config(
                resource.ptr(),
                key.as_ptr(),
                kind,
                value,
            );
            if let Some(error) = Owned::new(error, sys::rd_kafka_error_destroy) {
                return Err(text(sys::rd_kafka_error_string(error.ptr())));
            }
        }
    }
    Ok(resource)
}

/// # Safety
/// `entry` must be valid.
unsafe fn config_entry(entry: *const sys::rd_kafka_ConfigEntry_t) -> (String, ConfigEntry) {
    use sys::rd_kafka_ConfigSource_t::*;
    // SAFETY: demanded of the caller; the texts live as long as the entry.
    unsafe {
        let value = sys::rd_kafka_ConfigEntry_value(entry);
        let source = match sys::rd_kafka_ConfigEntry_source(entry) {
            RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG => ConfigSource::DynamicTopic,
            RD_KAFKA_CONFIG_SOURCE_DYNAMIC_BROKER_CONFIG
            | RD_KAFKA_CONFIG_SOURCE_DYNAMIC_DEFAULT_BROKER_CONFIG => ConfigSource::DynamicBroker,
            RD_KAFKA_CONFIG_SOURCE_STATIC_BROKER_CONFIG => ConfigSource::StaticBroker,
            RD_KAFKA_CONFIG_SOURCE_DEFAULT_CONFIG => ConfigSource::Default,
            _ => ConfigSource::Unknown,
        };
        let entry_view = ConfigEntry {
            value: (!value.is_null()).then(|| text(value)),
            source,
            read_only: sys::rd_kafka_ConfigEntry_is_read_only(entry) == 1,
            sensitive: sys::rd_kafka_ConfigEntry_is_sensitive(entry) == 1,
        };
        (text(sys::rd_kafka_ConfigEntry_name(entry)), entry_view)
    }
}

/// # Safety
/// `group` must be valid.
unsafe fn group_listing(group: *const sys::rd_kafka_ConsumerGroupListing_t) -> GroupListing {
    use sys::rd_kafka_consumer_group_state_t::*;
    use sys::rd_kafka_consumer_group_type_t::*;
    // SAFETY: demanded of the caller. States and types are librdkafka's own numbers: it translates from the
    // broker's words.
    unsafe {
        GroupListing {
            group: text(sys::rd_kafka_ConsumerGroupListing_group_id(group)),
            state: match sys::rd_kafka_ConsumerGroupListing_state(group) {
                RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY => GroupState::Empty,
                RD_KAFKA_CONSUMER_GROUP_STATE_STABLE => GroupState::Stable,
                RD_KAFKA_CONSUMER_GROUP_STATE_PREPARING_REBALANCE => GroupState::PreparingRebalance,
                RD_KAFKA_CONSUMER_GROUP_STATE_COMPLETING_REBALANCE => GroupState::CompletingRebalance,
                RD_KAFKA_CONSUMER_GROUP_STATE_DEAD => GroupState::Dead,
                _ => GroupState::Unknown,
            },
            kind: match sys::rd_kafka_ConsumerGroupListing_type(group) {
                RD_KAFKA_CONSUMER_GROUP_TYPE_CLASSIC => GroupKind::Classic,
                RD_KAFKA_CONSUMER_GROUP_TYPE_CONSUMER => GroupKind::Consumer,
                _ => GroupKind::Unknown,
            },
            simple: sys::rd_kafka_ConsumerGroupListing_is_simple_consumer_group(group) == 1,
        }
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
unsafe fn is_error(error: *const sys::rd_kafka_error_t) -> bool {
    // SAFETY: demanded of the caller.
    !error.is_null() && unsafe { sys::rd_kafka_error_code(error) } != Err_t::RD_KAFKA_RESP_ERR_NO_ERROR
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
    fn topic_ids_are_written_as_kafkas_tools_write_them() {
        let id = topic_id("Ad1uWEikQeysd+Icpx2U/A");
        assert_eq!(id.to_string(), "Ad1uWEikQeysd-Icpx2U_A");
    }

    #[test]
    fn of_an_assignment_the_partitions_of_one_topic_count_and_garbage_has_none() {
        // As Kafka writes it: version 1; `ab` with 0 and 1, `c` with 7; user data.
        let mut bytes = vec![0, 1, 0, 0, 0, 2];
        bytes.extend([0, 2, b'a', b'b', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend([0, 1, b'c', 0, 0, 0, 1, 0, 0, 0, 7]);
        bytes.extend([255, 255, 255, 255]);
        let counts = ["ab", "c", "b"].map(|topic| assigned(&bytes, topic));
        assert_eq!(counts, [Some(2), Some(1), Some(0)]);
        assert_eq!(assigned(&[0, 1, 0, 0, 0, 0, 255, 255, 255, 255], "ab"), Some(0));
        assert_eq!(assigned(&[], "ab"), None);
        assert_eq!(assigned(&bytes[..12], "ab"), None);
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

    #[test]
    fn no_name_with_a_nul_is_cut_to_that_of_another_topic() {
        assert_ne!(c_string("orders\0").as_bytes(), b"orders");
    }
}
