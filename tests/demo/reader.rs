//! Consumer groups that read committed records and note when they could.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};

use causeway::context::now_ms;

/// A record that was written while the reader was there, in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When its producer made it.
    pub created: i64,
    /// When the reader had it.
    pub arrived: i64,
}

/// One member of a consumer group, reading in the background until it is closed.
pub struct Reader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    records: AtomicU64,
    seen: Mutex<Vec<Seen>>,
}

impl Reader {
    /// Joins `group` and reads `topics` from their beginnings, or only what is new.
    pub fn start(bootstrap: &str, group: &str, topics: &[&str], from: &str) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", group)
            .set("auto.offset.reset", from)
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "50")
            .set("topic.metadata.refresh.interval.ms", "1000")
            .create()
            .expect("these settings are right");
        consumer.subscribe(topics).expect("these are names of topics");
        let shared = Arc::new(Shared::default());
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || read(&consumer, &shared)
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Records read so far.
    pub fn records(&self) -> u64 {
        self.shared.records.load(Ordering::Relaxed)
    }

    /// When the first record was readable that was written after `created`.
    pub fn first_written_after(&self, created: i64) -> Option<i64> {
        let seen = self.seen();
        let after = seen.iter().rev().take_while(|it| created < it.arrived);
        after.filter(|it| created < it.created).map(|it| it.arrived).min()
    }

    /// How long after their creation the records created in the given span of time were readable, sorted,
    /// in milliseconds.
    pub fn latencies(&self, from: i64, to: i64) -> Vec<i64> {
        let mut latencies: Vec<_> = self
            .seen()
            .iter()
            .filter(|it| (from..to).contains(&it.created))
            .map(|it| it.arrived - it.created)
            .collect();
        latencies.sort_unstable();
        latencies
    }

    /// Commits its position and leaves the group.
    pub fn close(mut self) -> u64 {
        self.shared.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is closed once");
        thread.join().expect("a reader does not panic");
        self.records()
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn read(consumer: &BaseConsumer, shared: &Shared) {
    let started = now_ms();
    while !shared.stop.load(Ordering::Relaxed) {
        // Trouble with a broker passes; the checks at the end notice what does not.
        let Some(Ok(record)) = consumer.poll(Duration::from_millis(50)) else {
            continue;
        };
        shared.records.fetch_add(1, Ordering::Relaxed);
        let created = record.timestamp().to_millis().unwrap_or_default();
        if started < created {
            let arrived = now_ms();
            let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(Seen { created, arrived });
        }
    }
    // Fails when nothing has been read.
    let _ = consumer.commit_consumer_state(CommitMode::Sync);
}

/// The value below which `percent` of the sorted values lie.
pub fn percentile(sorted: &[i64], percent: usize) -> Option<i64> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(sorted.len() * percent / 100).min(last)])
}
