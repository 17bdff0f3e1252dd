//! What the offset map costs on the topic and in memory, and how long loading it takes.
//!
//! The first part needs no broker: runs go through the tasks' writer, commit by commit, and every 300 commits
//! (30 s at ten a second) through the upkeep of the owner of task 0, as in a daemon. "On the topic" are the keys
//! and values that are left when the topic has been cleaned, without what Kafka adds to a record. "In memory" is
//! what this process grows by when it holds many such maps. The second part loads one from a real broker.

use std::time::{Duration, Instant};

use causeway::kafka::{ClusterAlias, TopicPartition};
use causeway::offset_map::{
    Edit, MapWriter, PartitionMap, Segment, SegmentKey, Translation, decode_key, encode_key,
};
use causeway::state::map_reader::MapReader;
use causeway::topology::FlowId;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::figure::Figure;
use crate::harness::ClusterOptions;
use crate::rig::{connection, proc_status};

/// Of the topic whose map it is: its name is in every key.
const TOPIC: &str = "orders-by-customer";
const UPKEEP_COMMITS: u64 = 300;
/// Copies of a map are held until they take so much, to see what one takes.
const HELD_BYTES: usize = 64 << 20;
/// Partitions without holes that are held to see what one takes.
const PARTITIONS: i32 = 10_000;
const PATIENCE: Duration = Duration::from_secs(120);
/// Commits of one run that the cleaner has not come to: some 60 MB. It leaves as much again as is kept, and the
/// 16 MiB that are being written.
const UNCLEAN_COMMITS: i64 = 700_000;

/// `map [RUNS]`
pub fn run(numbers: &[u64]) -> Vec<Figure> {
    let mut figures = size();
    figures.extend(load(numbers.first().copied().unwrap_or(10_000_000)));
    figures
}

/// Sees every record of the topic: key, and value or tombstone.
type Topic<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

/// One partition as a task copies it, and its map as the owner of task 0 keeps it.
struct Copier<'a> {
    partition: TopicPartition,
    writer: MapWriter,
    map: PartitionMap,
    target: i64,
    /// Each commit puts a marker behind the records.
    exactly_once: bool,
    commits: u64,
    topic: &'a mut Topic<'a>,
}

impl<'a> Copier<'a> {
    fn new(exactly_once: bool, topic: &'a mut Topic<'a>) -> Self {
        let partition = TopicPartition::new(TOPIC, 0);
        Self {
            map: PartitionMap::new(partition.clone()),
            partition,
            // As in a topic that has been used for long: offsets of usual length.
            writer: MapWriter::new(0, true, 1_000_000_000, 2_000_000_000),
            target: 2_000_000_000,
            exactly_once,
            commits: 0,
            topic,
        }
    }

    fn records(&mut self, source: i64, count: u32) {
        self.writer.observe(1_000_000_000 + source, self.target, count);
        self.target += i64::from(count);
    }

    fn commit(&mut self, next: i64) {
        let next = 1_000_000_000 + next;
        for segment in self.writer.segments(next) {
            self.put(&segment);
        }
        self.writer.committed(next);
        self.target += i64::from(self.exactly_once);
        self.commits += 1;
        if self.commits.is_multiple_of(UPKEEP_COMMITS) {
            self.upkeep();
        }
    }

    fn put(&mut self, segment: &Segment) {
        let (key, value) = (encode_key(&segment.key(&self.partition)), segment.encode());
        (self.topic)(&key, Some(&value));
        let key = decode_key(&key).expect("we wrote it");
        let segment = Segment::decode(&key, &value).expect("we wrote it");
        self.map.apply(&key, Some((segment, 0)));
    }

    fn remove(&mut self, key: &SegmentKey) {
        (self.topic)(&encode_key(key), None);
        self.map.apply(key, None);
    }

    fn upkeep(&mut self) {
        for edit in self.map.compact() {
            match edit {
                Edit::Put(segment, _) => self.put(&segment),
                Edit::Remove(key) => self.remove(&key),
            }
        }
    }

    fn into_map(mut self) -> PartitionMap {
        self.upkeep();
        self.map
    }
}

/// Source offsets of records, in order: how many offsets lie from one to the next.
type Steps = fn(&mut u64) -> i64;

/// `None` is a source without holes.
type Shape = Option<Steps>;

/// A marker behind each record.
fn transactions_of_one(_: &mut u64) -> i64 {
    2
}

/// Every second offset is gone, irregularly. xorshift64*, so that it is the same each time.
fn compacted(seed: &mut u64) -> i64 {
    let mut step = 1;
    loop {
        *seed ^= *seed >> 12;
        *seed ^= *seed << 25;
        *seed ^= *seed >> 27;
        if seed.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 63 == 0 {
            return step;
        }
        step += 1;
    }
}

/// Copies so many records without holes, with so many in a commit.
fn copy_plain(copy: &mut Copier<'_>, records: u64, per_commit: u32) {
    let mut source = 0;
    while source < records as i64 {
        copy.records(source, per_commit);
        source += i64::from(per_commit);
        copy.commit(source);
    }
}

/// Copies so many records, with so many in a commit.
fn copy(copy: &mut Copier<'_>, records: u64, per_commit: u64, steps: Steps) {
    let (mut seed, mut source) = (4711, 0);
    for n in 1..=records {
        copy.records(source, 1);
        source += steps(&mut seed);
        if n.is_multiple_of(per_commit) || n == records {
            copy.commit(source);
        }
    }
}

fn bytes_on_topic(map: &PartitionMap) -> usize {
    let partition = TopicPartition::new(TOPIC, 0);
    map.segments()
        .map(|it| encode_key(&it.key(&partition)).len() + it.encode().len())
        .sum()
}

fn runs(map: &PartitionMap) -> usize {
    map.segments().map(|it| it.runs().count()).sum()
}

/// What this process holds, in bytes.
fn resident() -> f64 {
    proc_status(std::process::id(), "VmRSS:") * 1024.0
}

/// Bytes in memory of what `make` gives, from many of them. They are handed over, so that what follows does not
/// use their memory again.
fn held<T>(count: usize, make: impl Fn() -> T) -> (f64, Vec<T>) {
    let mut all = Vec::with_capacity(count);
    let before = resident();
    all.extend((0..count).map(|_| make()));
    ((resident() - before) / count as f64, all)
}

fn size() -> Vec<Figure> {
    const MILLION: u64 = 1_000_000;
    // At 1,000 records a second a commit has 100; at 10 it has 1; of a backlog it has 100,000.
    let shapes: [(&str, Shape, bool, &[u32]); 4] = [
        ("no holes, exactly_once", None, true, &[1, 100, 1_000, 100_000]),
        (
            "one-record transactions, exactly_once",
            Some(transactions_of_one),
            true,
            &[1, 100, 1_000],
        ),
        (
            "half compacted, exactly_once",
            Some(compacted),
            true,
            &[1, 100, 1_000],
        ),
        (
            "half compacted, at_least_once",
            Some(compacted),
            false,
            &[100, 1_000],
        ),
    ];
    let mut figures = vec![];
    let mut kept = vec![];
    for (shape, steps, exactly_once, commits) in shapes {
        for per_commit in commits {
            let mut nobody = |_: &[u8], _: Option<&[u8]>| {};
            let mut it = Copier::new(exactly_once, &mut nobody);
            let mut millions = 1.0;
            match steps {
                // Few runs come of a million: of more, what a segment costs by itself is shared as it is in use.
                None => {
                    let records = MILLION.max(10_000 * u64::from(*per_commit));
                    millions = records as f64 / MILLION as f64;
                    copy_plain(&mut it, records, *per_commit);
                }
                Some(steps) => copy(&mut it, MILLION, u64::from(*per_commit), steps),
            }
            let map = it.into_map();
            let (topic, runs) = (bytes_on_topic(&map) as f64, runs(&map) as f64);
            let (memory, maps) = held(HELD_BYTES / map.stored_bytes(), || map.clone());
            kept.push(maps);
            let name = format!("{shape}, {per_commit} a commit");
            // Each run is what a transaction of the source or the target put there, or a hole.
            let transactions = !shape.starts_with("half");
            let (each, most) = match transactions {
                true => ("transaction", [4.0, 16.0]),
                false => ("run", [f64::INFINITY; 2]),
            };
            let bounded = |figure: Figure, most: f64| match most.is_finite() {
                true => figure.at_most(most),
                false => figure,
            };
            figures.push(Figure::new(
                format!("{name}: topic per million records"),
                topic / millions / 1024.0,
                "KiB",
            ));
            figures.push(bounded(
                Figure::new(format!("{name}: topic per {each}"), topic / runs, "B"),
                most[0],
            ));
            figures.push(Figure::new(
                format!("{name}: memory per million records"),
                memory / millions / 1024.0,
                "KiB",
            ));
            figures.push(bounded(
                Figure::new(format!("{name}: memory per {each}"), memory / runs, "B"),
                most[1],
            ));
        }
    }
    let mut nobody = |_: &[u8], _: Option<&[u8]>| {};
    let mut plain = Copier::new(false, &mut nobody);
    copy_plain(&mut plain, MILLION, 1_000);
    let map = plain.into_map();
    let (memory, maps) = held(PARTITIONS as usize, || map.clone());
    drop((maps, kept));
    let name = "no holes, at_least_once";
    let topic = bytes_on_topic(&map) as f64;
    figures.push(Figure::new(format!("{name}: topic per partition"), topic, "B").at_most(64.0));
    figures.push(Figure::new(format!("{name}: memory per partition"), memory, "B"));
    figures
}

fn flow() -> FlowId {
    FlowId {
        topology: "bench".into(),
        source: ClusterAlias::new("seoul"),
        target: ClusterAlias::new("busan"),
    }
}

/// Loads a map of so many runs, first as the cleaner and the upkeep leave it, then with as much more behind it as
/// the cleaner may have left: an open segment, written again by each commit.
fn load(runs: u64) -> Vec<Figure> {
    let cluster = ClusterOptions::new("target").default_jit().start();
    let mut figures = vec![];
    let flow = flow();
    let (topic, progress) = (&flow.offset_map_topic(), flow.progress_topic());
    let config = [("cleanup.policy", "compact"), ("segment.bytes", "16777216")];
    for topic in [topic, &progress] {
        cluster.create_topic(topic, 1, &config);
    }
    let producer = Writer::new(&cluster.bootstrap(), topic);
    let mut nobody = |_: &[u8], _: Option<&[u8]>| {};
    let mut it = Copier::new(true, &mut nobody);
    copy(&mut it, runs, 100, transactions_of_one);
    let map = it.into_map();
    let partition = TopicPartition::new(TOPIC, 0);
    for segment in map.segments() {
        producer.send(&encode_key(&segment.key(&partition)), Some(&segment.encode()));
    }
    producer.flush();
    // Held meanwhile, so that the reader cannot use its memory again.
    figures.extend(read(&cluster.bootstrap(), &map, runs, "as upkeep leaves it"));

    let (mut written, mut records) = (0, 0u64);
    let next = map.copied_to().expect("there are runs") - 1_000_000_000;
    let mut tail = |key: &[u8], value: Option<&[u8]>| {
        written += key.len() + value.map_or(0, <[u8]>::len);
        records += 1;
        producer.send(key, value);
    };
    let mut it = Copier::new(true, &mut tail);
    it.writer = MapWriter::new(0, false, 1_000_000_000 + next, 2_000_000_000 + 2 * next);
    it.target += 2 * next;
    for n in 0..UNCLEAN_COMMITS {
        it.records(next + 2 * n, 1);
        it.commit(next + 2 * n + 2);
    }
    producer.flush();
    let runs = runs + UNCLEAN_COMMITS as u64;
    let name = format!("with {} MiB not cleaned, {records} records", written >> 20);
    figures.extend(read(&cluster.bootstrap(), &map, runs, &name));
    figures
}

fn read(bootstrap: &str, like: &PartitionMap, runs: u64, how: &str) -> Vec<Figure> {
    let before = resident();
    let started = Instant::now();
    let mut reader =
        MapReader::open(&connection("busan", bootstrap), &flow(), 1).expect("the settings are right");
    reader.catch_up(PATIENCE).expect("the broker answers");
    let took = started.elapsed().as_secs_f64();
    let memory = resident() - before;
    let map = &reader.maps()[&TopicPartition::new(TOPIC, 0)];
    assert_eq!(crate::map::runs(map) as u64, runs, "runs that were loaded");
    let last = like.copied_to().expect("there are runs");
    let asked = 10_000;
    let started = Instant::now();
    for n in 0..asked {
        let position = 1_000_000_000 + (last - 1_000_000_000) * n / asked;
        let exact = matches!(map.translate(position), Translation::Exact { .. });
        assert!(exact, "{position}");
        assert_eq!(
            map.translate(position).target(),
            like.translate(position).target()
        );
    }
    // Three times as many were asked.
    let each = started.elapsed().as_secs_f64() / (3 * asked) as f64;
    let name = format!("{runs} runs, {how}");
    vec![
        Figure::new(format!("{name}: loaded in"), took, "s").at_most(5.0),
        Figure::new(
            format!("{name}: memory with the reader"),
            memory / 1_048_576.0,
            "MiB",
        ),
        Figure::new(format!("{name}: a translation"), each * 1e6, "µs"),
    ]
}

/// Writes records of a map as fast as the broker takes them.
struct Writer<'a> {
    producer: BaseProducer,
    topic: &'a str,
}

impl<'a> Writer<'a> {
    fn new(bootstrap: &str, topic: &'a str) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .create()
            .expect("these settings are right");
        Self { producer, topic }
    }

    fn send(&self, key: &[u8], value: Option<&[u8]>) {
        let mut record = BaseRecord::to(self.topic).partition(0).key(key);
        if let Some(value) = value {
            record = record.payload(value);
        }
        while let Err((error, back)) = self.producer.send(record) {
            let full = matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            assert!(full, "{error}");
            record = back;
            self.producer.poll(Duration::from_millis(10));
        }
        self.producer.poll(Duration::ZERO);
    }

    fn flush(&self) {
        self.producer
            .flush(PATIENCE)
            .expect("the broker takes what is written");
    }
}
