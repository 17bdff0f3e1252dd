//! What copying adds to the way of a record, at a steady 1,000 records of 1 KiB a second.
//!
//! Every value begins with the time it was sent. A consumer on the source gives the floor, which is the
//! probe's own; consumers on the target with the same settings show what is added.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::figure::Figure;
use crate::harness::load;
use crate::reader::Reader;
use crate::rig::{DELIVERIES, Rig};

const PARTITIONS: i32 = 8;
const PER_SECOND: u64 = 1000;
const VALUE_BYTES: usize = 1024;
/// Records of the first seconds meet brokers whose code is not compiled yet, queue up, and do not count.
const WARM_UP: u64 = 20 * PER_SECOND;

/// `latency [SECONDS]`
pub fn run(numbers: &[u64]) -> Vec<Figure> {
    let seconds = numbers.first().copied().unwrap_or(30);
    let rig = Rig::start(|options| options.default_jit());
    let both = DELIVERIES.into_iter();
    both.flat_map(|delivery| measure(&rig, delivery, seconds))
        .collect()
}

fn measure(rig: &Rig, delivery: &str, seconds: u64) -> Vec<Figure> {
    let topic = format!("bench-latency-{delivery}");
    rig.source.create_topic(&topic, PARTITIONS, &[]);
    // Something short, so that the topic is on the target and its partitions are running.
    load::fill(&rig.source.bootstrap(), &topic, PARTITIONS, 8, 1, "none");
    let daemon = rig.daemon(&format!("bench-latency-{delivery}"), &topic, delivery, "");
    rig.wait_until_copied(&daemon, &topic, Duration::from_secs(60));

    let (source, target) = (rig.source.bootstrap(), rig.target.bootstrap());
    let expected = WARM_UP + seconds * PER_SECOND;
    let over = AtomicBool::new(false);
    let readers = [
        (source.as_str(), "read_committed"),
        (target.as_str(), "read_uncommitted"),
        (target.as_str(), "read_committed"),
    ];
    let [mut floor, mut uncommitted, mut committed] = thread::scope(|scope| {
        let threads = readers.map(|(bootstrap, isolation)| {
            let (topic, over) = (&topic, &over);
            scope.spawn(move || read(bootstrap, topic, isolation, expected, over))
        });
        write(&source, &topic, expected);
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline && !threads.iter().all(|it| it.is_finished()) {
            thread::sleep(Duration::from_millis(50));
        }
        over.store(true, Ordering::Relaxed);
        threads.map(|thread| thread.join().expect("a reader reads"))
    });

    let mut figures = vec![];
    for (percent, name) in [(50, "p50"), (99, "p99")] {
        let floor = percentile(&mut floor, percent);
        figures.push(Figure::new(
            format!("{delivery}: {name} floor (source)"),
            floor,
            "ms",
        ));
        for (latencies, isolation) in [
            (&mut uncommitted, "read_uncommitted"),
            (&mut committed, "read_committed"),
        ] {
            let there = percentile(latencies, percent);
            let figure = |what: &str, value| {
                Figure::new(format!("{delivery}: {name} {isolation} {what}"), value, "ms")
            };
            figures.push(figure("on the target", there));
            figures.push(figure("added", there - floor));
        }
    }
    figures
}

fn write(bootstrap: &str, topic: &str, count: u64) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("acks", "all")
        .set("linger.ms", "0")
        .create()
        .expect("these settings are right");
    let mut value = vec![b'.'; VALUE_BYTES];
    let started = Instant::now();
    for n in 0..count {
        // By the plan, not after the last one: a stalled probe must not hide what it missed.
        let due = started + Duration::from_micros(n * 1_000_000 / PER_SECOND);
        while let Some(wait) = due.checked_duration_since(Instant::now()) {
            producer.poll(wait.min(Duration::from_millis(1)));
        }
        let partition = i32::try_from(n % 8).expect("below 8");
        value[..8].copy_from_slice(&now().to_be_bytes());
        let record = BaseRecord::<(), _>::to(topic)
            .partition(partition)
            .payload(&value);
        producer
            .send(record)
            .map_err(|(error, _)| error)
            .expect("the queue has room");
    }
    producer
        .flush(Duration::from_secs(30))
        .expect("the source takes what is written");
}

/// Latencies in milliseconds of what came after the warm-up.
fn read(bootstrap: &str, topic: &str, isolation: &str, expected: u64, over: &AtomicBool) -> Vec<f64> {
    let reader = Reader::new(bootstrap, topic, PARTITIONS, isolation);
    let mut latencies = vec![];
    let mut seen = 0;
    while seen < expected {
        assert!(
            !over.load(Ordering::Relaxed),
            "{seen} of {expected} records seen by a {isolation} reader"
        );
        let sent = reader.next(|value| {
            let head = value[..8.min(value.len())].try_into().ok();
            head.map(u64::from_be_bytes)
        });
        if let Some(Some(sent)) = sent {
            seen += 1;
            if seen > WARM_UP {
                latencies.push(now().saturating_sub(sent) as f64 / 1e6);
            }
        }
    }
    latencies
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let nanoseconds = jiff::Timestamp::now().as_nanosecond();
    u64::try_from(nanoseconds).expect("a clock between 1970 and 2554")
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) * percent / 100]
}
