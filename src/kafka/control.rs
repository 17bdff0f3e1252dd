//! A producer of control records: few, small, asked about one by one.

use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::client::{ClusterConnection, LogContext};
use super::codes::code;
use crate::error::{Error, Result, Side};

/// A producer whose records are visible at once and in order. It gives a record up after 10 s.
pub struct ControlProducer {
    producer: BaseProducer<Answers>,
    side: Side,
}

/// What the cluster said to a record: the number that its sender gave it, and a refusal with its topic.
pub type Answer<E = Error> = (u64, std::result::Result<(), (String, E)>);

/// What the cluster said to the records, by the number that the sender gave each.
struct Answers {
    log: LogContext,
    new: Mutex<Vec<Answer<RDKafkaErrorCode>>>,
}

impl ClientContext for Answers {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, text: &str) {
        self.log.log(level, fac, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ProducerContext for Answers {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, report: &DeliveryResult<'_>, number: Self::DeliveryOpaque) {
        let answer = match report {
            Ok(_) => Ok(()),
            Err((error, message)) => {
                let why = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                Err((message.topic().to_owned(), why))
            }
        };
        let mut new = self.new.lock();
        new.push((*number, answer));
    }
}

impl ControlProducer {
    /// Creates the client; contacts nobody yet. `side` decides whether its errors are `S` or `T` codes.
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub fn new(cluster: &ClusterConnection, client_id: &str, side: Side) -> Result<Self> {
        let context = Answers {
            log: LogContext {
                label: format!("{client_id} {}", cluster.alias),
            },
            new: Mutex::default(),
        };
        match cluster.control_producer(client_id).create_with_context(context) {
            Ok(producer) => Ok(Self { producer, side }),
            Err(error) => Err(Error::new(
                code(side, RDKafkaErrorCode::Authentication),
                format!("{}: the client cannot be created: {error}", cluster.alias),
            )),
        }
    }

    /// Enqueues a record, or a tombstone, with this timestamp, in milliseconds since 1970; `number` comes back with
    /// its answer.
    ///
    /// # Errors
    /// When the record cannot be enqueued; there is no answer to it then.
    pub fn send(
        &self,
        topic: &str,
        partition: i32,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: i64,
        number: u64,
    ) -> Result<()> {
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(number))
            .partition(partition)
            .key(key)
            .timestamp(timestamp);
        if let Some(value) = value {
            record = record.payload(value);
        }
        self.producer.send(record).map_err(|(error, _)| {
            let why = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            self.error(topic, why)
        })
    }

    /// Waits until every record has its answer, at most so long.
    pub fn flush(&self, timeout: Duration) {
        // What is not answered by then is asked about again.
        let _ = self.producer.flush(timeout);
    }

    /// What has been answered since the last call, in the order of the answers. Never blocks.
    pub fn answers(&self) -> Vec<Answer> {
        self.producer.poll(Duration::ZERO);
        let mut new = self.producer.context().new.lock();
        let told = |(topic, why): (String, RDKafkaErrorCode)| {
            let error = self.error(&topic, why);
            (topic, error)
        };
        new.drain(..)
            .map(|(number, answer)| (number, answer.map_err(told)))
            .collect()
    }

    /// Whether the client has given up for good and must be replaced.
    pub fn has_failed(&self) -> bool {
        self.producer.client().fatal_error().is_some()
    }

    fn error(&self, topic: &str, why: RDKafkaErrorCode) -> Error {
        Error::new(code(self.side, why), format!("writing to {topic}: {why}"))
    }
}

impl std::fmt::Debug for ControlProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlProducer").finish_non_exhaustive()
    }
}
