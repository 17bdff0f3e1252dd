//! The independent witness: Kafka's own Java client in one long-lived JVM, shared by all threads.
//!
//! Every function panics with the Java client's error; `try_*` variants hand it over.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::kafka::{Resource, SASL_USER, classpath, repository};

pub mod mm2;

/// Which records a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Neither aborted records nor those of open transactions.
    ReadCommitted,
    /// All.
    ReadUncommitted,
}

/// A record as the Java client reads it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct OracleRecord {
    /// Partition number.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970; −1 for none.
    pub timestamp: i64,
    /// `CreateTime`, `LogAppendTime` or `NoTimestampType`.
    pub timestamp_type: String,
    /// `None` is null, which is not empty.
    #[serde(deserialize_with = "optional_hex")]
    pub key: Option<Vec<u8>>,
    /// `None` is null, which is not empty.
    #[serde(deserialize_with = "optional_hex")]
    pub value: Option<Vec<u8>>,
    /// In the order of the record; keys as their own bytes.
    #[serde(deserialize_with = "headers")]
    pub headers: Vec<Header>,
}

/// Key and value of a header.
pub type Header = (Vec<u8>, Option<Vec<u8>>);

/// What a topic holds, without shipping it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Digest {
    /// Records read.
    pub records: u64,
    /// Different keys among those that have one; equals `records - without_key` if none occurs twice.
    pub distinct_keys: u64,
    /// Records whose key is null.
    pub without_key: u64,
    /// In partition order.
    pub partitions: Vec<PartitionDigest>,
}

/// What a partition holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PartitionDigest {
    /// Partition number.
    pub partition: i32,
    /// Records read.
    pub records: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Offset of the first record.
    pub first_offset: Option<i64>,
    /// Offset of the last record.
    pub last_offset: Option<i64>,
    /// The end that was read to.
    pub end_offset: i64,
    /// Of timestamps, keys, values and headers in their order; offsets do not count.
    pub sha256: String,
}

/// What describes a topic.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TopicDescription {
    /// Changes when a topic is deleted and created again.
    pub topic_id: String,
    /// Partition count.
    pub partitions: i32,
    /// Of its first partition.
    pub replication_factor: i32,
}

/// A position of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GroupOffset {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// What the group stored with it.
    pub metadata: String,
}

/// A position of a consumer group with its leader epoch.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GroupCommit {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// What the group stored with it.
    pub metadata: String,
    /// Of the last record read, if the group told.
    pub leader_epoch: Option<i32>,
}

/// A record to write with the Java producer.
#[derive(Clone, Debug, Default)]
pub struct NewRecord {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// CreateTime in milliseconds; now if `None`. 0 is possible here; mind `retention.ms` then.
    pub timestamp: Option<i64>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub value: Option<Vec<u8>>,
    /// Headers; keys must be UTF-8.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl NewRecord {
    /// A record with a text as key and value.
    pub fn new(topic: &str, partition: i32, key: &str, value: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            key: Some(key.into()),
            value: Some(value.into()),
            ..Self::default()
        }
    }

    fn to_json(&self) -> Value {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(key, value)| json!([hex(key.as_bytes()), value.as_deref().map(hex)]))
            .collect();
        json!({
            "topic": self.topic,
            "partition": self.partition,
            "timestamp": self.timestamp,
            "key": self.key.as_deref().map(hex),
            "value": self.value.as_deref().map(hex),
            "headers": headers,
        })
    }
}

/// A step of a transactional producer.
#[derive(Clone, Debug)]
pub enum Step {
    /// Begins a transaction.
    Begin,
    /// Writes in it.
    Send(NewRecord),
    /// Ends it.
    Commit,
    /// Ends it; what was sent is on the broker and aborted.
    Abort,
    /// Gives the producer up without a word; its transaction hangs until it times out.
    Close,
}

/// Answer of [`transactional_load`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct TransactionalLoad {
    /// Records in committed transactions, keys `k-0`, `k-1`…
    pub committed: u64,
    /// Records in aborted ones, keys `aborted-0`…
    pub aborted: u64,
}

/// Cluster id once the cluster answers and has a broker; the reason otherwise.
pub fn try_cluster_id(bootstrap: &str, timeout: Duration) -> Result<String, String> {
    let timeout_ms = u64::try_from(timeout.as_millis()).expect("a short time");
    let answer =
        ask(json!({"command": "describe_cluster", "bootstrap": bootstrap, "timeout_ms": timeout_ms}))?;
    match (answer["brokers"].as_u64(), answer["cluster_id"].as_str()) {
        (Some(1..), Some(id)) => Ok(id.to_owned()),
        _ => Err("no broker has registered yet".to_owned()),
    }
}

/// Every record visible now, in order of partition and offset. For topics of up to some 100,000 records.
pub fn dump(bootstrap: &str, topic: &str, isolation: Isolation) -> Vec<OracleRecord> {
    must(json!({"command": "dump", "bootstrap": bootstrap, "topic": topic, "isolation": isolation}))
}

/// What is visible now, in short; for topics of any size.
pub fn digest(bootstrap: &str, topic: &str, isolation: Isolation) -> Digest {
    must(json!({"command": "digest", "bootstrap": bootstrap, "topic": topic, "isolation": isolation}))
}

/// End offsets in partition order; read_committed ends at the last stable offset.
pub fn end_offsets(bootstrap: &str, topic: &str, isolation: Isolation) -> Vec<i64> {
    must(json!({"command": "end_offsets", "bootstrap": bootstrap, "topic": topic, "isolation": isolation}))
}

/// Log start offsets in partition order.
pub fn start_offsets(bootstrap: &str, topic: &str) -> Vec<i64> {
    let isolation = Isolation::ReadUncommitted;
    must(json!({"command": "start_offsets", "bootstrap": bootstrap, "topic": topic, "isolation": isolation}))
}

/// Names of all topics but Kafka's own, sorted.
pub fn topics(bootstrap: &str) -> Vec<String> {
    must(json!({"command": "topics", "bootstrap": bootstrap}))
}

/// Describes a topic.
pub fn describe_topic(bootstrap: &str, topic: &str) -> TopicDescription {
    try_describe_topic(bootstrap, topic).expect("the oracle answers")
}

/// Describes a topic that may be missing.
pub fn try_describe_topic(bootstrap: &str, topic: &str) -> Result<TopicDescription, String> {
    ask(json!({"command": "describe_topic", "bootstrap": bootstrap, "topic": topic})).map(parse)
}

/// The settings made on the topic itself.
pub fn topic_configs(bootstrap: &str, topic: &str) -> BTreeMap<String, String> {
    must(json!({"command": "topic_configs", "bootstrap": bootstrap, "topic": topic}))
}

/// Creates a topic.
pub fn create_topic(bootstrap: &str, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
    must(json!({
        "command": "create_topic", "bootstrap": bootstrap, "topic": topic, "partitions": partitions,
        "configs": configs.iter().copied().collect::<BTreeMap<_, _>>(),
    }))
}

/// Deletes a topic.
pub fn delete_topic(bootstrap: &str, topic: &str) {
    must(json!({"command": "delete_topic", "bootstrap": bootstrap, "topic": topic}))
}

/// Raises the partition count to `partitions`.
pub fn grow_topic(bootstrap: &str, topic: &str, partitions: i32) {
    must(json!({"command": "grow_topic", "bootstrap": bootstrap, "topic": topic, "partitions": partitions}))
}

/// Sets some topic settings and takes back others.
pub fn alter_topic_config(bootstrap: &str, topic: &str, set: &[(&str, &str)], delete: &[&str]) {
    must(json!({
        "command": "alter_topic_config", "bootstrap": bootstrap, "topic": topic,
        "set": set.iter().copied().collect::<BTreeMap<_, _>>(), "delete": delete,
    }))
}

/// Raises the log start offset of a partition to `before`.
pub fn delete_records(bootstrap: &str, topic: &str, partition: i32, before: i64) {
    must(json!({
        "command": "delete_records", "bootstrap": bootstrap,
        "topic": topic, "partition": partition, "before": before,
    }))
}

/// Positions of a consumer group, in order of topic and partition.
pub fn group_offsets(bootstrap: &str, group: &str) -> Vec<GroupOffset> {
    must(json!({"command": "group_offsets", "bootstrap": bootstrap, "group": group}))
}

/// Sets one position of a group without members.
pub fn set_group_offset(bootstrap: &str, group: &str, topic: &str, partition: i32, offset: i64) {
    must(json!({
        "command": "set_group_offset", "bootstrap": bootstrap, "group": group,
        "topic": topic, "partition": partition, "offset": offset,
    }))
}

/// Positions of a consumer group with their leader epochs, in order of topic and partition.
pub fn group_commits(bootstrap: &str, group: &str) -> Vec<GroupCommit> {
    must(json!({"command": "group_commits", "bootstrap": bootstrap, "group": group}))
}

/// Writes a position as a consumer that assigns itself its partition does: the group has no members.
pub fn assign_and_commit(bootstrap: &str, group: &str, commit: &GroupCommit) {
    must(json!({
        "command": "assign_and_commit", "bootstrap": bootstrap, "group": group,
        "topic": commit.topic, "partition": commit.partition, "offset": commit.offset,
        "metadata": commit.metadata, "leader_epoch": commit.leader_epoch,
    }))
}

/// Joins a group with a consumer that stays until [`leave_group`]; it has read and committed when this returns.
/// `protocol` is Kafka's `group.protocol`, `classic` or `consumer`.
pub fn join_group(bootstrap: &str, group: &str, topic: &str, protocol: &str) {
    must(json!({
        "command": "join_group", "bootstrap": bootstrap, "group": group, "topic": topic, "protocol": protocol,
    }))
}

/// Ends the member of [`join_group`]; it has left when this returns.
pub fn leave_group(bootstrap: &str, group: &str) {
    must(json!({"command": "leave_group", "bootstrap": bootstrap, "group": group}))
}

/// Deletes one position of a group.
pub fn delete_group_offset(bootstrap: &str, group: &str, topic: &str, partition: i32) {
    must(json!({
        "command": "delete_group_offset", "bootstrap": bootstrap, "group": group,
        "topic": topic, "partition": partition,
    }))
}

/// Deletes a group without members, with its positions.
pub fn delete_group(bootstrap: &str, group: &str) {
    must(json!({"command": "delete_group", "bootstrap": bootstrap, "group": group}))
}

/// Creates or deletes (`create_acls`, `delete_acls`) rights of [`SASL_USER`]; `permission` is `Allow`, `Deny` or, to
/// delete either, `Any`.
pub fn change_acls(
    bootstrap: &str,
    command: &str,
    permission: &str,
    resource: &Resource,
    operations: &[&str],
) {
    must(json!({
        "command": command, "bootstrap": bootstrap, "principal": format!("User:{SASL_USER}"),
        "permission": permission, "operations": operations,
        "resource": resource.kind, "name": resource.name, "pattern": resource.pattern,
    }))
}

/// Writes records and answers their offsets. `compression` is Kafka's word, `none`, `gzip`, `lz4`…
pub fn produce(bootstrap: &str, records: &[NewRecord], compression: &str) -> Vec<i64> {
    let records: Vec<_> = records.iter().map(NewRecord::to_json).collect();
    must(json!({
        "command": "produce", "bootstrap": bootstrap, "records": records, "compression": compression,
    }))
}

/// Carries out the steps under a transactional id and answers the offsets of what was sent. A transaction left
/// open stays open until a later call with the same id ends it.
pub fn transaction(bootstrap: &str, transactional_id: &str, steps: &[Step]) -> Vec<i64> {
    let steps: Vec<_> = steps
        .iter()
        .map(|step| {
            let (name, mut step) = match step {
                Step::Begin => ("begin", json!({})),
                Step::Send(record) => ("send", record.to_json()),
                Step::Commit => ("commit", json!({})),
                Step::Abort => ("abort", json!({})),
                Step::Close => ("close", json!({})),
            };
            step["step"] = name.into();
            step
        })
        .collect();
    must(json!({
        "command": "transaction", "bootstrap": bootstrap, "transactional_id": transactional_id, "steps": steps,
    }))
}

/// Writes many transactions round-robin over the partitions; every `abort_every`-th is aborted (0: none).
pub fn transactional_load(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    transactions: u32,
    records_per_transaction: u32,
    abort_every: u32,
    value_bytes: usize,
) -> TransactionalLoad {
    must(json!({
        "command": "transactional_load", "bootstrap": bootstrap, "topic": topic, "partitions": partitions,
        "transactions": transactions, "records_per_transaction": records_per_transaction,
        "abort_every": abort_every, "value_bytes": value_bytes,
    }))
}

fn must<T: for<'a> Deserialize<'a>>(request: Value) -> T {
    let shown: String = request.to_string().chars().take(300).collect();
    match ask(request) {
        Ok(answer) => parse(answer),
        Err(error) => panic!("oracle: {shown}: {error}"),
    }
}

fn parse<T: for<'a> Deserialize<'a>>(answer: Value) -> T {
    serde_json::from_value(answer).expect("the oracle answers what was asked")
}

type Answer = Result<Value, String>;

/// The JVM. It ends when its stdin does, and so with this process.
struct Oracle {
    requests: Mutex<(ChildStdin, u64)>,
    waiting: Arc<Mutex<HashMap<u64, Sender<Answer>>>>,
    _jvm: Child,
}

fn ask(mut request: Value) -> Answer {
    static ORACLE: OnceLock<Oracle> = OnceLock::new();
    let answer = ORACLE.get_or_init(Oracle::start).send(&mut request);
    answer
        .recv()
        .expect("the oracle runs; its stderr says why it does not")
}

impl Oracle {
    fn start() -> Self {
        // Its clients log what the answers say as well: brokers that are killed or not up yet.
        let mut jvm = Command::new("java")
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=off")
            .args(["-Xms64m", "-Xmx1g", "-XX:+UseSerialGC", "-Xshare:auto", "-cp"])
            .arg(classpath())
            .arg("tests/kafka/Oracle.java")
            .current_dir(repository())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("java starts");
        let requests = jvm.stdin.take().expect("it is piped");
        let answers = BufReader::new(jvm.stdout.take().expect("it is piped"));
        let waiting: Arc<Mutex<HashMap<u64, Sender<Answer>>>> = Arc::default();
        thread::spawn({
            let waiting = Arc::clone(&waiting);
            move || {
                for line in answers.lines().map_while(Result::ok) {
                    let mut answer: Value = serde_json::from_str(&line).expect("the oracle speaks JSON");
                    let id = answer["id"]
                        .as_u64()
                        .expect("an answer has the id of its request");
                    let result = match answer["error"].take() {
                        Value::Null => Ok(answer["result"].take()),
                        error => Err(error.as_str().unwrap_or("no reason").to_owned()),
                    };
                    if let Some(asker) = waiting.lock().expect("no panic while held").remove(&id) {
                        let _ = asker.send(result);
                    }
                }
                // The JVM has ended: whoever waits learns it from a closed channel.
                waiting.lock().expect("no panic while held").clear();
            }
        });
        Self {
            requests: Mutex::new((requests, 0)),
            waiting,
            _jvm: jvm,
        }
    }

    fn send(&self, request: &mut Value) -> Receiver<Answer> {
        let (asker, answer) = channel();
        let mut requests = self.requests.lock().expect("no panic while held");
        let (pipe, last_id) = &mut *requests;
        *last_id += 1;
        request["id"] = (*last_id).into();
        self.waiting
            .lock()
            .expect("no panic while held")
            .insert(*last_id, asker);
        // A broken pipe shows as a closed channel.
        let _ = writeln!(pipe, "{request}");
        answer
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .ok_or_else(|| format!("no hex: {text}"))
    };
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).map_err(|e| e.to_string()),
            _ => Err(format!("no hex: {text}")),
        })
        .collect()
}

fn optional_hex<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| unhex(&text))
        .transpose()
        .map_err(serde::de::Error::custom)
}

fn headers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Header>, D::Error> {
    let decode = |(key, value): (String, Option<String>)| {
        Ok((unhex(&key)?, value.map(|value| unhex(&value)).transpose()?))
    };
    Vec::<(String, Option<String>)>::deserialize(from)?
        .into_iter()
        .map(decode)
        .collect::<Result<_, String>>()
        .map_err(serde::de::Error::custom)
}
