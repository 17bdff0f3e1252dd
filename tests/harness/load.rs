//! Source data, fast.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use causeway::context::now_ms;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

/// Writes `count` records with the keys `k-0`, `k-1`… round-robin over the partitions, with values of
/// `value_bytes` bytes and timestamps one millisecond apart that end now. `compression` is librdkafka's word.
pub fn fill(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    count: u64,
    value_bytes: usize,
    compression: &str,
) {
    let mut writer = Writer::new(bootstrap, topic, partitions, value_bytes, compression);
    let start = now_ms() - i64::try_from(count).expect("a count of records");
    for n in 0..count {
        writer.send(n, start + i64::try_from(n).expect("a count of records"));
    }
    assert_eq!(
        writer.finish(),
        count,
        "records acknowledged of those written to {topic}"
    );
}

/// Writes in the background until stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    thread: Option<JoinHandle<u64>>,
}

impl Load {
    /// Writes `per_second` records a second, keys `k-0`, `k-1`… round-robin over the partitions, timestamps now.
    pub fn start(bootstrap: &str, topic: &str, partitions: i32, per_second: u32, value_bytes: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut writer = Writer::new(bootstrap, topic, partitions, value_bytes, "none");
        let acknowledged = Arc::clone(&writer.producer.context().acknowledged);
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let started = Instant::now();
                let mut written = 0;
                while !stop.load(Ordering::Relaxed) {
                    let due = (started.elapsed().as_secs_f64() * f64::from(per_second)) as u64;
                    while written < due && !stop.load(Ordering::Relaxed) {
                        writer.send(written, now_ms());
                        written += 1;
                    }
                    writer.producer.poll(Duration::from_millis(5));
                }
                writer.finish()
            }
        });
        Self {
            stop,
            acknowledged,
            thread: Some(thread),
        }
    }

    /// How many records the cluster has acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Stops writing; how many records are on the cluster, each once. Waits while the cluster is away.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is stopped once");
        thread.join().expect("the load does not panic")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Counter {
    acknowledged: Arc<AtomicU64>,
}

impl ClientContext for Counter {}

impl ProducerContext for Counter {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Writer {
    producer: BaseProducer<Counter>,
    topic: String,
    partitions: u64,
    value: Vec<u8>,
}

impl Writer {
    fn new(bootstrap: &str, topic: &str, partitions: i32, value_bytes: usize, compression: &str) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("compression.type", compression)
            .set("linger.ms", "5")
            .set("batch.size", "500000")
            .set("queue.buffering.max.messages", "500000")
            // A load goes on when its cluster comes back.
            .set("message.timeout.ms", "0")
            .set("reconnect.backoff.max.ms", "500")
            .create_with_context(Counter::default())
            .expect("these settings are right");
        // Neither zeros nor noise: something like text, which compresses to about half.
        let value = (0..value_bytes)
            .map(|i| b'a' + (i * i % 251 % 26) as u8)
            .collect();
        Self {
            producer,
            topic: topic.to_owned(),
            partitions: u64::try_from(partitions).expect("a partition count"),
            value,
        }
    }

    fn send(&mut self, n: u64, timestamp: i64) {
        let key = format!("k-{n}");
        let partition = i32::try_from(n % self.partitions).expect("a partition number");
        let mut record = BaseRecord::to(&self.topic)
            .partition(partition)
            .key(&key)
            .payload(&self.value)
            .timestamp(timestamp);
        while let Err((error, back)) = self.producer.send(record) {
            let full = matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            assert!(full, "load on {}: {error}", self.topic);
            record = back;
            self.producer.poll(Duration::from_millis(10));
        }
        if n.is_multiple_of(1000) {
            self.producer.poll(Duration::ZERO);
        }
    }

    fn finish(&self) -> u64 {
        let flushed = self.producer.flush(Duration::from_secs(120));
        flushed.expect("the cluster takes what has been written");
        self.producer.context().acknowledged.load(Ordering::Relaxed)
    }
}
