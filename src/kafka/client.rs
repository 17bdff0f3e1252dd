//! The only file that names librdkafka properties: how a cluster is reached and how each kind of client
//! is set up. Removing one of the settings that guarantee something makes a test fail.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

use super::ClusterAlias;

/// A text that is never printed. Only this file looks inside.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// librdkafka properties by name. Values may be secrets.
pub type Properties = BTreeMap<String, Secret>;

/// How to reach one cluster.
#[derive(Clone, Debug)]
pub struct ClusterConnection {
    /// The user's name for it.
    pub alias: ClusterAlias,
    /// `host:port,…`
    pub bootstrap_servers: String,
    /// `security:` as librdkafka properties (`security.protocol`, `sasl.*`, `ssl.*`).
    pub security: Properties,
    /// `client:` pass-through for every client of this cluster.
    pub client: Properties,
    /// `consumer:` pass-through for consumers.
    pub consumer: Properties,
    /// `producer:` pass-through for producers.
    pub producer: Properties,
}

/// Properties a user may not set, because a guarantee rests on them, with the reason shown.
pub const OWNED: &[(&str, &str)] = &[
    (
        "bootstrap.servers",
        "write it as bootstrap_servers of the cluster",
    ),
    (
        "metadata.broker.list",
        "write it as bootstrap_servers of the cluster",
    ),
    ("group.id", "causeway names its own groups"),
    ("group.instance.id", "set instance at the top of the file"),
    ("group.protocol", "task ownership relies on the classic protocol"),
    (
        "partition.assignment.strategy",
        "task ownership relies on cooperative-sticky",
    ),
    ("session.timeout.ms", "task ownership relies on it"),
    ("heartbeat.interval.ms", "task ownership relies on it"),
    ("max.poll.interval.ms", "task ownership relies on it"),
    ("client.id", "causeway names its clients after flow and task"),
    ("auto.offset.reset", "a reset would skip records silently"),
    ("enable.auto.commit", "progress is kept on the target"),
    ("enable.auto.offset.store", "progress is kept on the target"),
    ("isolation.level", "aborted records are never copied"),
    ("check.crcs", "a damaged batch must not be copied"),
    ("enable.partition.eof", "causeway must know when it has caught up"),
    ("allow.auto.create.topics", "config sync creates topics"),
    ("transactional.id", "causeway names its own transactional ids"),
    (
        "transaction.timeout.ms",
        "the commit interval and drain rely on it",
    ),
    (
        "enable.idempotence",
        "without it retries duplicate and reorder records",
    ),
    (
        "enable.gapless.guarantee",
        "a failed delivery is handled by repeating its transaction",
    ),
    (
        "acks",
        "a record counts as copied when all in-sync replicas have it",
    ),
    (
        "request.required.acks",
        "a record counts as copied when all in-sync replicas have it",
    ),
    (
        "message.timeout.ms",
        "a record must not be dropped because the target is away",
    ),
    (
        "delivery.timeout.ms",
        "a record must not be dropped because the target is away",
    ),
    (
        "retries",
        "a record must not be dropped because the target is away",
    ),
    (
        "message.send.max.retries",
        "a record must not be dropped because the target is away",
    ),
    ("max.in.flight.requests.per.connection", "order relies on it"),
    ("max.in.flight", "order relies on it"),
    ("partitioner", "records keep their partition"),
    (
        "queue.buffering.max.messages",
        "set memory at the top of the file",
    ),
    ("queue.buffering.max.kbytes", "set memory at the top of the file"),
    ("queued.max.messages.kbytes", "set memory at the top of the file"),
    ("queued.min.messages", "set memory at the top of the file"),
    ("compression.type", "set compression in the topology"),
    ("compression.codec", "set compression in the topology"),
    ("log_level", "use --log"),
    ("log.queue", "logs go through causeway's own log"),
];

/// Which of a cluster's clients a Java setting is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JavaClient {
    /// `consumer.*`
    Consumer,
    /// `producer.*`
    Producer,
}

/// Java client settings that librdkafka has too, with the same unit: Java's name, librdkafka's, and whose
/// (both, when none is given). Sources: Kafka's `ConsumerConfig` and `ProducerConfig`, librdkafka's
/// `CONFIGURATION.md`.
const FROM_JAVA: &[(&str, &str, Option<JavaClient>)] = &[
    ("batch.size", "batch.size", Some(JavaClient::Producer)),
    ("client.dns.lookup", "client.dns.lookup", None),
    ("client.rack", "client.rack", Some(JavaClient::Consumer)),
    ("connections.max.idle.ms", "connections.max.idle.ms", None),
    ("fetch.max.bytes", "fetch.max.bytes", Some(JavaClient::Consumer)),
    (
        "fetch.max.wait.ms",
        "fetch.wait.max.ms",
        Some(JavaClient::Consumer),
    ),
    ("fetch.min.bytes", "fetch.min.bytes", Some(JavaClient::Consumer)),
    ("linger.ms", "linger.ms", Some(JavaClient::Producer)),
    (
        "max.partition.fetch.bytes",
        "max.partition.fetch.bytes",
        Some(JavaClient::Consumer),
    ),
    ("metadata.max.age.ms", "topic.metadata.refresh.interval.ms", None),
    ("receive.buffer.bytes", "socket.receive.buffer.bytes", None),
    ("reconnect.backoff.max.ms", "reconnect.backoff.max.ms", None),
    ("reconnect.backoff.ms", "reconnect.backoff.ms", None),
    (
        "request.timeout.ms",
        "socket.timeout.ms",
        Some(JavaClient::Consumer),
    ),
    (
        "request.timeout.ms",
        "request.timeout.ms",
        Some(JavaClient::Producer),
    ),
    ("retry.backoff.max.ms", "retry.backoff.max.ms", None),
    ("retry.backoff.ms", "retry.backoff.ms", None),
    ("send.buffer.bytes", "socket.send.buffer.bytes", None),
    (
        "socket.connection.setup.timeout.ms",
        "socket.connection.setup.timeout.ms",
        None,
    ),
];

/// librdkafka's name for a setting of a Java client, when it means the same.
pub fn from_java(client: JavaClient, name: &str) -> Option<&'static str> {
    FROM_JAVA
        .iter()
        .find(|(java, _, whose)| *java == name && whose.is_none_or(|it| it == client))
        .map(|(_, ours, _)| *ours)
}

/// The group that readers of topics name. Nobody joins it, but the library looks for its coordinator, so it must be one
/// that causeway may describe.
const READERS: &str = "causeway.readers";

/// What one task may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskMemory {
    /// Bytes the consumer may fetch ahead.
    pub fetched_bytes: u64,
    /// Bytes taken and not yet acknowledged, overhead included.
    pub in_flight_bytes: u64,
}

impl ClusterConnection {
    /// Consumer that feeds a task. Never commits: nothing is written to the source.
    pub fn task_consumer(&self, client_id: &str, memory: TaskMemory) -> ClientConfig {
        let mut c = self.base(client_id);
        let kbytes = memory.fetched_bytes / 1024;
        for (key, value) in [
            ("group.id", client_id),
            ("fetch.queue.backoff.ms", "5"),
            ("fetch.wait.max.ms", "250"),
            ("fetch.error.backoff.ms", "100"),
            // Per partition and per request; small enough that one response does not overrun the budget.
            ("fetch.message.max.bytes", "1048576"),
            ("queued.min.messages", "20000"),
            ("topic.metadata.refresh.interval.ms", "30000"),
        ] {
            c.set(key, value);
        }
        // One response may overrun what may be queued, and small records cost several times their size.
        let response = (memory.fetched_bytes / 8).max(1 << 20);
        c.set("fetch.max.bytes", response.to_string());
        c.set("receive.message.max.bytes", (response + (128 << 20)).to_string());
        c.set("queued.max.messages.kbytes", kbytes.max(1024).to_string());
        self.pass_through(&mut c, &self.consumer);
        self.never_skip(&mut c);
        c
    }

    /// Consumer that reads a topic of ours to its end, committed records only.
    pub fn state_reader(&self, client_id: &str) -> ClientConfig {
        let mut c = self.base(client_id);
        c.set("group.id", READERS);
        c.set("fetch.wait.max.ms", "100");
        self.pass_through(&mut c, &self.consumer);
        self.never_skip(&mut c);
        c
    }

    /// Consumer that reads a topic to its end, with or without what is not committed.
    pub fn control_reader(&self, client_id: &str, uncommitted: bool) -> ClientConfig {
        let mut c = self.state_reader(client_id);
        if uncommitted {
            c.set("isolation.level", "read_uncommitted");
        }
        c
    }

    /// Member of the group whose partitions are the tasks of a flow.
    pub fn member(&self, client_id: &str, group: &str, instance: &str) -> ClientConfig {
        let mut c = self.base(client_id);
        self.pass_through(&mut c, &self.consumer);
        self.never_skip(&mut c);
        for (key, value) in [
            ("group.id", group),
            ("group.instance.id", instance),
            ("group.protocol", "classic"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "2000"),
            ("max.poll.interval.ms", "300000"),
        ] {
            c.set(key, value);
        }
        c
    }

    /// Producer of a task. With a transactional id its records become visible by commit only.
    pub fn task_producer(
        &self,
        client_id: &str,
        compression: &str,
        transactional_id: Option<&str>,
    ) -> ClientConfig {
        let mut c = self.base(client_id);
        for (key, value) in [
            ("linger.ms", "5"),
            ("batch.size", "1000000"),
            ("batch.num.messages", "10000"),
            // The target topic decides what is too large, not the client.
            ("message.max.bytes", "1000000000"),
            ("sticky.partitioning.linger.ms", "0"),
            ("topic.metadata.refresh.interval.ms", "30000"),
            ("topic.metadata.propagation.max.ms", "5000"),
        ] {
            c.set(key, value);
        }
        self.pass_through(&mut c, &self.producer);
        for (key, value) in [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("allow.auto.create.topics", "false"),
            ("compression.type", compression),
            // causeway's own budget is the bound; the client's must never be the smaller one.
            ("queue.buffering.max.messages", "10000000"),
            ("queue.buffering.max.kbytes", "2097151"),
        ] {
            c.set(key, value);
        }
        match transactional_id {
            Some(id) => {
                c.set("transactional.id", id);
                c.set(
                    "transaction.timeout.ms",
                    TRANSACTION_TIMEOUT.as_millis().to_string(),
                );
            }
            None => {
                c.set("message.timeout.ms", "0");
            }
        }
        c
    }

    /// Producer of control records: few, small, and worth nothing once they are old.
    pub fn control_producer(&self, client_id: &str) -> ClientConfig {
        let mut c = self.base(client_id);
        self.pass_through(&mut c, &self.producer);
        for (key, value) in [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("allow.auto.create.topics", "false"),
            ("message.timeout.ms", "10000"),
        ] {
            c.set(key, value);
        }
        c
    }

    /// Keeps a producer's batches within `bytes`: a target counts whole batches against a topic's
    /// `max.message.bytes`. A record larger than that still makes a batch of its own.
    pub fn limit_batches(c: &mut ClientConfig, bytes: u64) {
        let set = c.get("batch.size").and_then(|set| set.parse().ok());
        if set.is_none_or(|set: u64| bytes < set) {
            c.set("batch.size", bytes.max(1).to_string());
        }
    }

    /// Client for administration and metadata.
    pub fn admin(&self, client_id: &str) -> ClientConfig {
        let mut c = self.base(client_id);
        c.set("allow.auto.create.topics", "false");
        c
    }

    /// Client for the positions of many groups. A consumer, though it never joins or reads: librdkafka
    /// follows a null pointer when another kind of client is told that a coordinator has moved (issue 5040).
    pub fn group_admin(&self, client_id: &str) -> ClientConfig {
        let mut c = self.admin(client_id);
        c.set("group.id", READERS);
        c.set("enable.auto.commit", "false");
        c
    }

    fn base(&self, client_id: &str) -> ClientConfig {
        let mut c = ClientConfig::new();
        c.set_log_level(RDKafkaLogLevel::Info);
        c.set("client.id", client_id);
        c.set("bootstrap.servers", &self.bootstrap_servers);
        c.set("socket.keepalive.enable", "true");
        c.set("socket.nagle.disable", "true");
        c.set("reconnect.backoff.ms", "100");
        c.set("reconnect.backoff.max.ms", "2000");
        c.set("broker.address.ttl", "1000");
        for (key, value) in self.security.iter().chain(&self.client) {
            c.set(key, value.expose());
        }
        c
    }

    fn pass_through(&self, c: &mut ClientConfig, properties: &Properties) {
        for (key, value) in properties {
            c.set(key, value.expose());
        }
    }

    /// The settings on which "nothing is skipped silently" rests.
    fn never_skip(&self, c: &mut ClientConfig) {
        for (key, value) in [
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("check.crcs", "true"),
            ("isolation.level", "read_committed"),
            ("enable.partition.eof", "true"),
            ("allow.auto.create.topics", "false"),
        ] {
            c.set(key, value);
        }
    }
}

/// Context of the safe crate's consumers: librdkafka's log goes to ours, under a name that says whose it is.
/// Errors that the client retries by itself are no errors of ours.
#[derive(Clone, Debug)]
pub struct LogContext {
    /// `orders seoul->busan`
    pub label: String,
}

impl ClientContext for LogContext {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, text: &str) {
        log_line(level as i32, &self.label, fac, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", client = self.label, %error, "{reason}");
    }
}

impl ConsumerContext for LogContext {}

/// One line of librdkafka's log (its levels are syslog's). What it calls an error, a connection that failed,
/// is something that it retries: degraded, not lost.
///
/// While a coordinator loads, every client says the same several times within a second: the first says it for all.
pub(super) fn log_line(level: i32, label: &str, fac: &str, text: &str) {
    static LINES: Mutex<Option<Lines>> = Mutex::new(None);
    let line = format!("{fac}: {text}");
    let repeated = match level {
        ..=6 => {
            let mut lines = LINES.lock();
            lines.get_or_insert_default().admit(&line, Instant::now())
        }
        _ => Some(0),
    };
    match (level, repeated) {
        (..=4, Some(0)) => tracing::warn!(target: "librdkafka", client = label, "{line}"),
        (..=4, Some(repeated)) => tracing::warn!(target: "librdkafka", client = label, repeated, "{line}"),
        (5 | 6, Some(_)) => tracing::info!(target: "librdkafka", client = label, "{line}"),
        _ => tracing::debug!(target: "librdkafka", client = label, "{line}"),
    }
}

/// Which lines have been written lately, and how often each has come since.
#[derive(Default)]
struct Lines(HashMap<String, (Instant, u32)>);

impl Lines {
    /// Equal lines are left out for so long.
    const QUIET: Duration = Duration::from_secs(10);
    /// Most lines that are remembered.
    const MOST: usize = 1_000;

    /// `None`: leave it out. Otherwise how many equal ones were left out before.
    fn admit(&mut self, line: &str, now: Instant) -> Option<u32> {
        let recent = |at: Instant| now.saturating_duration_since(at) < Self::QUIET;
        if let Some((at, left_out)) = self.0.get_mut(line) {
            if recent(*at) {
                *left_out += 1;
                return None;
            }
            *at = now;
            return Some(std::mem::take(left_out));
        }
        if Self::MOST <= self.0.len() {
            self.0.retain(|_, (at, _)| recent(*at));
            if Self::MOST <= self.0.len() {
                self.0.clear();
            }
        }
        self.0.insert(line.to_owned(), (now, 0));
        Some(0)
    }
}

/// Longest time a transaction may stay open before the broker aborts it.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ClusterConnection {
        ClusterConnection {
            alias: ClusterAlias::new("seoul"),
            bootstrap_servers: "127.0.0.1:9092".into(),
            security: [("sasl.password".to_owned(), Secret::new("hunter2"))].into(),
            client: Properties::new(),
            consumer: Properties::new(),
            producer: Properties::new(),
        }
    }

    #[test]
    fn equal_lines_are_written_once_in_ten_seconds_and_counted() {
        let (start, mut lines) = (Instant::now(), Lines::default());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(lines.admit("loading", at(0)), Some(0));
        assert_eq!(lines.admit("loading", at(10)), None);
        assert_eq!(lines.admit("another", at(20)), Some(0));
        assert_eq!(lines.admit("loading", at(9_999)), None);
        assert_eq!(lines.admit("loading", at(10_000)), Some(2));
        for n in 0..2 * Lines::MOST {
            lines.admit(&n.to_string(), at(10_001));
        }
        assert!(lines.0.len() <= Lines::MOST);
    }

    fn assert_set(c: &ClientConfig, expected: &[(&str, &str)]) {
        for (key, value) in expected {
            assert_eq!(c.get(key), Some(*value), "{key}");
        }
    }

    #[test]
    fn the_task_consumer_cannot_skip_silently() {
        let memory = TaskMemory {
            fetched_bytes: 8 << 20,
            in_flight_bytes: 8 << 20,
        };
        assert_set(
            &cluster().task_consumer("t", memory),
            &[
                ("auto.offset.reset", "error"),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("check.crcs", "true"),
                ("isolation.level", "read_committed"),
                ("enable.partition.eof", "true"),
                ("allow.auto.create.topics", "false"),
            ],
        );
    }

    #[test]
    fn the_task_producer_neither_drops_nor_reorders() {
        let plain = cluster().task_producer("t", "lz4", None);
        assert_set(
            &plain,
            &[
                ("enable.idempotence", "true"),
                ("acks", "all"),
                ("message.timeout.ms", "0"),
            ],
        );
        let transactional = cluster().task_producer("t", "lz4", Some("id"));
        assert_set(
            &transactional,
            &[
                ("enable.idempotence", "true"),
                ("acks", "all"),
                ("transactional.id", "id"),
            ],
        );
    }

    #[test]
    fn the_control_producer_reorders_nothing_and_creates_no_topic() {
        assert_set(
            &cluster().control_producer("t"),
            &[
                ("enable.idempotence", "true"),
                ("acks", "all"),
                ("allow.auto.create.topics", "false"),
            ],
        );
    }

    #[test]
    fn every_property_that_carries_a_guarantee_is_refused_in_pass_through() {
        let memory = TaskMemory {
            fetched_bytes: 8 << 20,
            in_flight_bytes: 8 << 20,
        };
        let owned = |key: &str| OWNED.iter().any(|(name, _)| *name == key);
        let mut c = ClientConfig::new();
        cluster().never_skip(&mut c);
        for key in c.config_map().keys() {
            assert!(owned(key), "{key}");
        }
        for key in [
            "transactional.id",
            "enable.idempotence",
            "acks",
            "message.timeout.ms",
            "compression.type",
        ] {
            assert!(owned(key), "{key}");
        }
        assert!(
            cluster()
                .task_consumer("t", memory)
                .get("queued.max.messages.kbytes")
                .is_some()
        );
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        assert!(!format!("{:?}", cluster()).contains("hunter2"));
    }
}
