//! A consumer that sees records as soon as a user's would.

use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// Reads a topic from its beginning.
pub struct Reader(BaseConsumer);

impl Reader {
    /// Reads partitions 0 to `partitions`, which exist; `isolation` is Kafka's word.
    pub fn new(bootstrap: &str, topic: &str, partitions: i32, isolation: &str) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            // Never joined: librdkafka wants a name to assign partitions.
            .set("group.id", "bench-reader")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", isolation)
            .set("fetch.wait.max.ms", "10")
            .create()
            .expect("these settings are right");
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning)
                .expect("a beginning is an offset");
        }
        // Otherwise librdkafka notices only after half a second where the partitions are.
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10));
        metadata.expect("the cluster answers");
        consumer.assign(&list).expect("it is assigned once");
        Self(consumer)
    }

    /// Hands over the value of the next record, if one comes within a few milliseconds.
    pub fn next<T>(&self, see: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let message = self.0.poll(Duration::from_millis(5))?.ok()?;
        message.payload().map(see)
    }

    /// Reads until a record with this value comes; when it did.
    pub fn wait_for(&self, value: &str, timeout: Duration) -> Instant {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if self.next(|it| it == value.as_bytes()) == Some(true) {
                return Instant::now();
            }
        }
        panic!("waited {timeout:?} in vain for {value} on the target");
    }
}

/// Waits until a topic exists; without a group, so that nothing is created on the way.
pub fn wait_for_topic(bootstrap: &str, topic: &str, timeout: Duration) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .expect("these settings are right");
    let deadline = Instant::now() + timeout;
    loop {
        let metadata = consumer.fetch_metadata(None, Duration::from_secs(1));
        let exists = metadata.is_ok_and(|it| {
            it.topics()
                .iter()
                .any(|it| it.name() == topic && !it.partitions().is_empty())
        });
        if exists {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "waited {timeout:?} in vain for topic {topic} on the target"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
