//! Every metric: name, unit, help and labels in one table, recorders that are verbs.
//!
//! A recorder looks its series up once, when it is made; recording is an atomic operation after that. Making
//! a recorder also registers its series, so that counters exist at zero before anything happened.
//! Gauges that are unknown are `NaN`, never zero.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;

use strum::VariantArray;

use crate::error::{Code, Remedy};
use crate::status::PartitionState;
use crate::topology::FlowId;

/// What kind of series a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; starts at zero with the process.
    Counter,
    /// The value at this moment.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// One metric as operators see it.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Full name, with its unit in it.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// What one step of the value is.
    pub unit: &'static str,
    /// What the value says, in one sentence.
    pub help: &'static str,
    /// Labels besides `topology` and `flow`, which every metric has.
    pub labels: &'static [&'static str],
}

macro_rules! definitions {
    ($($ident:ident: $kind:ident, $name:literal, $unit:literal, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $ident: Definition = Definition {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                help: $help,
                labels: &[$($label),*],
            };
        )*

        /// Every metric there is.
        pub const ALL: &[Definition] = &[$($ident),*];
    };
}

definitions! {
    RECORDS_REPLICATED: Counter, "causeway_records_replicated_total", "records", ["task", "topic"],
        "Records acknowledged by the target.";
    BYTES_REPLICATED: Counter, "causeway_bytes_replicated_total", "bytes", ["task", "topic"],
        "Key and value bytes acknowledged by the target, uncompressed.";
    RECORDS_SKIPPED: Counter, "causeway_records_skipped_total", "records", ["task"],
        "Records not copied because their origin is the target (provenance: header).";
    RECORDS_REPLAYED: Counter, "causeway_records_replayed_total", "records", ["task"],
        "Records copied a second time after a restart (delivery: at_least_once).";
    RECORDS_TIMESTAMP_ZERO: Counter, "causeway_records_timestamp_zero_total", "records", ["task"],
        "Records with CreateTime 0, which the client library can only write as 1 ms.";
    REPLICATION_LATENCY: Histogram, "causeway_replication_latency_seconds", "seconds", ["task"],
        "Time from a record's timestamp to its acknowledgement by the target.";
    COMMIT_DURATION: Histogram, "causeway_commit_duration_seconds", "seconds", ["task"],
        "Time a commit of records and progress took on the target.";
    ABORTS: Counter, "causeway_aborts_total", "aborts", ["task"],
        "Transactions aborted and repeated from stored progress.";
    TASK_RESTARTS: Counter, "causeway_task_restarts_total", "restarts", ["task", "code"],
        "Restarts of a task from its stored progress, by error code.";
    IN_FLIGHT_BYTES: Gauge, "causeway_in_flight_bytes", "bytes", ["task"],
        "Bytes taken from the source and not yet acknowledged by the target.";
    THROTTLED: Counter, "causeway_throttled_milliseconds_total", "milliseconds", ["task"],
        "Time a task took nothing because of its throttle.";
    LAG_RECORDS: Gauge, "causeway_lag_records", "records", ["topic", "partition"],
        "Records between the committed position and the source's end; NaN when unknown or owned elsewhere.";
    LAG_SECONDS: Gauge, "causeway_lag_seconds", "seconds", ["topic", "partition"],
        "Age of the oldest record that is not copied; NaN when unknown or owned elsewhere.";
    UNCOMMITTED_RECORDS: Gauge, "causeway_uncommitted_records", "records", ["topic", "partition"],
        "Records at the source that belong to open transactions or wait behind them, and are not in the lag; NaN when unknown or owned elsewhere.";
    OPEN_TRANSACTION_SECONDS: Gauge, "causeway_open_transaction_seconds", "seconds", ["topic", "partition"],
        "How long an open transaction has been seen to hold records back at the source; 0 without one, NaN when unknown or owned elsewhere.";
    PARTITIONS: Gauge, "causeway_partitions", "partitions", ["state"],
        "Source partitions owned by this daemon, by state; NaN before it is known what can be copied.";
    PART_FAILURES: Counter, "causeway_part_failures_total", "failures", ["part"],
        "Panics, refused threads and other ends that nobody asked for, of a part of the flow or of a task; each is started again.";
    GAPS: Counter, "causeway_gaps_total", "gaps", [],
        "Ranges of source offsets declared as lost.";
    GAP_RECORDS: Counter, "causeway_gap_records_total", "records", [],
        "Source offsets inside declared gaps.";
    CONFIG_SYNC_PASSES: Counter, "causeway_config_sync_passes_total", "passes", [],
        "Passes of the config syncer that read both sides.";
    CONFIG_SYNC_CHANGES: Counter, "causeway_config_sync_changes_total", "changes", [],
        "Changes config sync made on the target.";
    CONFIG_SYNC_ERRORS: Counter, "causeway_config_sync_errors_total", "errors", [],
        "Reads and changes of config sync that failed.";
    CONFIG_SYNC_PENDING: Gauge, "causeway_config_sync_pending_changes", "changes", [],
        "Changes still wanted after the last pass; NaN before the first.";
    CONFIG_SYNC_LAST_SUCCESS: Gauge, "causeway_config_sync_last_success_timestamp_seconds", "seconds", [],
        "Unix time of the last pass without errors; NaN before the first.";
    GROUP_SYNC_PASSES: Counter, "causeway_group_sync_passes_total", "passes", [],
        "Looks at the source's consumer groups.";
    GROUP_SYNC_DURATION: Histogram, "causeway_group_sync_duration_seconds", "seconds", [],
        "Time a look at the source's consumer groups took, with all that was written; more than the interval is too much.";
    GROUP_SYNC_ERRORS: Counter, "causeway_group_sync_errors_total", "errors", [],
        "Questions and writes about group positions that failed.";
    GROUP_STALENESS: Gauge, "causeway_group_staleness_seconds", "seconds", ["group"],
        "Time since the group's positions on the target were last those of the source; NaN when unknown or written elsewhere.";
    OFFSET_MAP_BYTES: Gauge, "causeway_offset_map_bytes", "bytes", [],
        "Keys and values of the offset map in force; NaN when unknown or kept elsewhere.";
    HEARTBEAT_AGE: Gauge, "causeway_heartbeat_age_seconds", "seconds", [],
        "Age of the newest heartbeat of the source that has arrived on the target; NaN when none is known or watched elsewhere.";
    HEARTBEATS_LOST: Counter, "causeway_heartbeats_lost_total", "heartbeats", [],
        "Heartbeats written to the source that have not arrived although later ones have.";
}

/// The parts of `causeway_part_failures_total`, as in [`crate::status::PartStatus::part`], and the tasks.
pub const PARTS: [&str; 6] = [
    "ownership",
    "config_sync",
    "groups",
    "heartbeats",
    "watch",
    "task",
];

/// Bucket bounds of all histograms, in seconds.
const BUCKETS: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0,
];

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// Installs the process's recorder; later calls give the same handle. Call it before any recorder is made.
pub fn install() -> Metrics {
    static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();
    let handle = INSTALLED.get_or_init(|| {
        let recorder = builder().build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).expect("nothing else in this program installs a recorder");
        describe();
        handle
    });
    Metrics(handle.clone())
}

fn builder() -> PrometheusBuilder {
    PrometheusBuilder::new()
        .set_buckets(BUCKETS)
        .expect("the list of buckets is not empty")
}

fn describe() {
    for it in ALL {
        match it.kind {
            Kind::Counter => metrics::describe_counter!(it.name, it.help),
            Kind::Gauge => metrics::describe_gauge!(it.name, it.help),
            Kind::Histogram => metrics::describe_histogram!(it.name, it.help),
        }
    }
}

impl Metrics {
    /// All series in the Prometheus text format.
    pub fn render(&self) -> String {
        self.0.render() + &Latency::render_all()
    }

    /// Folds recorded samples into their buckets. Call it every few seconds: without it samples pile up
    /// while nobody scrapes.
    pub fn run_upkeep(&self) {
        self.0.run_upkeep();
    }
}

fn flow_labels(flow: &FlowId) -> Vec<Label> {
    vec![
        Label::new("topology", flow.topology.clone()),
        Label::new("flow", flow.to_string()),
    ]
}

fn with(labels: &[Label], more: impl IntoIterator<Item = (&'static str, String)>) -> Vec<Label> {
    let more = more.into_iter().map(|(name, value)| Label::new(name, value));
    labels.iter().cloned().chain(more).collect()
}

/// A counter that exists at zero from now on.
fn zero(definition: Definition, labels: Vec<Label>) -> Counter {
    let counter = counter!(definition.name, labels);
    counter.increment(0);
    counter
}

/// A gauge that is unknown until it is set.
fn unknown(definition: Definition, labels: Vec<Label>) -> Gauge {
    let gauge = gauge!(definition.name, labels);
    gauge.set(f64::NAN);
    gauge
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The histogram of one task's replication latency. The library's histograms keep each sample until they are
/// folded: at a million records per second that is memory and time the data plane must not pay. Here a span
/// of records costs two additions.
#[derive(Debug, Default)]
struct Latency {
    /// Records by the first bound of [`BUCKETS`] that they reach; the last is beyond all bounds.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    microseconds: AtomicU64,
}

/// Every task's latency in this process, by its rendered labels.
static LATENCIES: Mutex<BTreeMap<String, Arc<Latency>>> = Mutex::new(BTreeMap::new());

impl Latency {
    fn of(labels: &[Label]) -> Arc<Self> {
        // Names of topologies, clusters and tasks need no escaping: the configuration allows letters,
        // digits, `_` and `-` only.
        let labels: Vec<_> = labels
            .iter()
            .map(|label| format!("{}=\"{}\"", label.key(), label.value()))
            .collect();
        let mut all = LATENCIES.lock();
        all.entry(labels.join(",")).or_default().clone()
    }

    fn record(&self, seconds: f64, count: u64) {
        let bucket = BUCKETS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(count, Ordering::Relaxed);
        // Clocks of producers run ahead at times; the sum of a histogram may only grow.
        let microseconds = (seconds.max(0.0) * 1e6) as u64;
        self.microseconds
            .fetch_add(microseconds.saturating_mul(count), Ordering::Relaxed);
    }

    fn render_all() -> String {
        let all = LATENCIES.lock();
        let Definition { name, help, .. } = REPLICATION_LATENCY;
        let mut text = format!("# HELP {name} {help}\n# TYPE {name} histogram\n");
        for (labels, latency) in &*all {
            // Writing to a string cannot fail.
            let _ = latency.render(&mut text, name, labels);
        }
        text
    }

    fn render(&self, text: &mut String, name: &str, labels: &str) -> std::fmt::Result {
        let bounds = BUCKETS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut total = 0;
        for (bound, records) in bounds.zip(&self.buckets) {
            total += records.load(Ordering::Relaxed);
            writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {total}")?;
        }
        let sum = self.microseconds.load(Ordering::Relaxed) as f64 / 1e6;
        writeln!(text, "{name}_sum{{{labels}}} {sum}")?;
        writeln!(text, "{name}_count{{{labels}}} {total}")
    }
}

/// What one task records.
#[derive(Clone, Debug)]
pub struct TaskMetrics {
    labels: Vec<Label>,
    skipped: Counter,
    replayed: Counter,
    timestamp_zero: Counter,
    latency: Arc<Latency>,
    commit_duration: Histogram,
    aborts: Counter,
    in_flight_bytes: Gauge,
    throttled: Counter,
}

impl TaskMetrics {
    /// Registers the series of one task.
    pub fn new(flow: &FlowId, task: u32) -> Self {
        let labels = with(&flow_labels(flow), [("task", task.to_string())]);
        let it = Self {
            skipped: zero(RECORDS_SKIPPED, labels.clone()),
            replayed: zero(RECORDS_REPLAYED, labels.clone()),
            timestamp_zero: zero(RECORDS_TIMESTAMP_ZERO, labels.clone()),
            latency: Latency::of(&labels),
            commit_duration: histogram!(COMMIT_DURATION.name, labels.clone()),
            aborts: zero(ABORTS, labels.clone()),
            in_flight_bytes: gauge!(IN_FLIGHT_BYTES.name, labels.clone()),
            throttled: zero(THROTTLED, labels.clone()),
            labels,
        };
        for code in Code::ALL
            .iter()
            .filter(|code| code.page().remedy == Remedy::Retry)
        {
            it.restarts(*code).increment(0);
        }
        it
    }

    /// Registers the series of one source topic in this task.
    pub fn topic(&self, topic: &str) -> TopicMetrics {
        let labels = with(&self.labels, [("topic", topic.to_owned())]);
        TopicMetrics {
            records: zero(RECORDS_REPLICATED, labels.clone()),
            bytes: zero(BYTES_REPLICATED, labels),
        }
    }

    /// Records and progress were committed, and how long that took.
    pub fn commit(&self, duration: Duration) {
        self.commit_duration.record(duration.as_secs_f64());
    }

    /// A transaction was aborted.
    pub fn abort(&self) {
        self.aborts.increment(1);
    }

    /// This many records were copied again.
    pub fn replayed(&self, count: u64) {
        self.replayed.increment(count);
    }

    /// This many records were not copied because they come from the target.
    pub fn skipped(&self, count: u64) {
        self.skipped.increment(count);
    }

    /// This many records had CreateTime 0.
    pub fn timestamp_zero(&self, count: u64) {
        self.timestamp_zero.increment(count);
    }

    /// Bytes taken and not yet acknowledged at this moment.
    pub fn in_flight_bytes(&self, bytes: u64) {
        self.in_flight_bytes.set(bytes as f64);
    }

    /// The throttle held this task for so long.
    pub fn throttled(&self, duration: Duration) {
        self.throttled.increment(milliseconds(duration));
    }

    /// The task starts again because of this error. Rare, so it may look its series up.
    pub fn restart(&self, code: Code) {
        self.restarts(code).increment(1);
    }

    /// A span of `count` records was acknowledged `seconds` after its timestamp. Call it once per span.
    pub fn replication_latency(&self, seconds: f64, count: u64) {
        self.latency.record(seconds, count);
    }

    fn restarts(&self, code: Code) -> Counter {
        counter!(
            TASK_RESTARTS.name,
            with(&self.labels, [("code", code.page().id.to_owned())])
        )
    }
}

/// What one task records about one source topic.
#[derive(Clone, Debug)]
pub struct TopicMetrics {
    records: Counter,
    bytes: Counter,
}

impl TopicMetrics {
    /// The target acknowledged `count` records of together `bytes` bytes.
    pub fn records_replicated(&self, count: u64, bytes: u64) {
        self.records.increment(count);
        self.bytes.increment(bytes);
    }
}

/// What is recorded about one source partition by the task that owns it. Dropping it makes its gauges
/// unknown, because another daemon may own the partition from then on.
#[derive(Debug)]
pub struct PartitionMetrics {
    lag_records: Gauge,
    lag_seconds: Gauge,
    uncommitted_records: Gauge,
    open_transaction_seconds: Gauge,
}

impl PartitionMetrics {
    /// Registers the series of one partition; its lag is unknown.
    pub fn new(flow: &FlowId, topic: &str, partition: i32) -> Self {
        let labels = with(
            &flow_labels(flow),
            [("topic", topic.to_owned()), ("partition", partition.to_string())],
        );
        Self {
            lag_records: unknown(LAG_RECORDS, labels.clone()),
            lag_seconds: unknown(LAG_SECONDS, labels.clone()),
            uncommitted_records: unknown(UNCOMMITTED_RECORDS, labels.clone()),
            open_transaction_seconds: unknown(OPEN_TRANSACTION_SECONDS, labels),
        }
    }

    /// The lag at this moment; `None` is unknown.
    pub fn lag(&self, records: Option<u64>, seconds: Option<f64>) {
        self.lag_records
            .set(records.map_or(f64::NAN, |records| records as f64));
        self.lag_seconds.set(seconds.unwrap_or(f64::NAN));
    }

    /// What lies behind the end of what is committed at the source, and for how long; `None` records are unknown.
    pub fn uncommitted(&self, records: Option<u64>, seconds: Option<f64>) {
        self.uncommitted_records
            .set(records.map_or(f64::NAN, |records| records as f64));
        let seconds = records.map_or(f64::NAN, |_| seconds.unwrap_or(0.0));
        self.open_transaction_seconds.set(seconds);
    }
}

impl Drop for PartitionMetrics {
    fn drop(&mut self) {
        self.lag(None, None);
        self.uncommitted(None, None);
    }
}

/// What is recorded about a flow as a whole.
#[derive(Clone, Debug)]
pub struct FlowMetrics {
    labels: Vec<Label>,
    /// By [`PartitionState`].
    partitions: Vec<Gauge>,
    gaps: Counter,
    gap_records: Counter,
}

impl FlowMetrics {
    /// Registers the series of one flow.
    pub fn new(flow: &FlowId) -> Self {
        let labels = flow_labels(flow);
        let it = Self {
            partitions: PartitionState::VARIANTS
                .iter()
                .map(|state| unknown(PARTITIONS, with(&labels, [("state", state.to_string())])))
                .collect(),
            gaps: zero(GAPS, labels.clone()),
            gap_records: zero(GAP_RECORDS, labels.clone()),
            labels,
        };
        for part in PARTS {
            it.part_failures(part).increment(0);
        }
        it
    }

    /// So many partitions are in this state.
    pub fn partitions(&self, state: PartitionState, count: usize) {
        self.partitions[state as usize].set(count as f64);
    }

    /// A part, one of [`PARTS`], ended although nobody had asked it to. Rare, so it may look its series up.
    pub fn part_failed(&self, part: &str) {
        self.part_failures(part).increment(1);
    }

    fn part_failures(&self, part: &str) -> Counter {
        counter!(
            PART_FAILURES.name,
            with(&self.labels, [("part", part.to_owned())])
        )
    }

    /// A gap of so many source offsets was declared.
    pub fn gap(&self, records: u64) {
        self.gaps.increment(1);
        self.gap_records.increment(records);
    }
}

/// What the config syncer of a flow records.
#[derive(Clone, Debug)]
pub struct ConfigSyncMetrics {
    passes: Counter,
    changes: Counter,
    errors: Counter,
    pending: Gauge,
    last_success: Gauge,
}

impl ConfigSyncMetrics {
    /// Registers the series of one flow's config syncer.
    pub fn new(flow: &FlowId) -> Self {
        let labels = flow_labels(flow);
        Self {
            passes: zero(CONFIG_SYNC_PASSES, labels.clone()),
            changes: zero(CONFIG_SYNC_CHANGES, labels.clone()),
            errors: zero(CONFIG_SYNC_ERRORS, labels.clone()),
            pending: unknown(CONFIG_SYNC_PENDING, labels.clone()),
            last_success: unknown(CONFIG_SYNC_LAST_SUCCESS, labels),
        }
    }

    /// A pass read both sides.
    pub fn pass(&self) {
        self.passes.increment(1);
    }

    /// So many changes were made on the target.
    pub fn changes(&self, count: u64) {
        self.changes.increment(count);
    }

    /// So many reads or changes failed.
    pub fn errors(&self, count: u64) {
        self.errors.increment(count);
    }

    /// So many changes are still wanted.
    pub fn pending(&self, count: u64) {
        self.pending.set(count as f64);
    }

    /// A pass ended without errors at this Unix time, in seconds.
    pub fn last_success(&self, unix_seconds: f64) {
        self.last_success.set(unix_seconds);
    }
}

/// What is recorded about the positions of groups. Dropping it makes the gauges unknown, because another daemon
/// may write them from then on.
#[derive(Debug)]
pub struct GroupSyncMetrics {
    labels: Vec<Label>,
    passes: Counter,
    duration: Histogram,
    errors: Counter,
    map_bytes: Gauge,
    staleness: BTreeMap<String, Gauge>,
}

impl GroupSyncMetrics {
    /// Registers the series of one flow.
    pub fn new(flow: &FlowId) -> Self {
        let labels = flow_labels(flow);
        Self {
            passes: zero(GROUP_SYNC_PASSES, labels.clone()),
            duration: histogram!(GROUP_SYNC_DURATION.name, labels.clone()),
            errors: zero(GROUP_SYNC_ERRORS, labels.clone()),
            map_bytes: unknown(OFFSET_MAP_BYTES, labels.clone()),
            staleness: BTreeMap::new(),
            labels,
        }
    }

    /// A look at the groups took so long, and ended with so many errors.
    pub fn pass(&self, took: Duration, errors: u64) {
        self.passes.increment(1);
        self.duration.record(took.as_secs_f64());
        self.errors.increment(errors);
    }

    /// The positions of a group on the target were right so many seconds ago; `None` is unknown.
    pub fn staleness(&mut self, group: &str, seconds: Option<f64>) {
        let gauge = match self.staleness.get(group) {
            Some(gauge) => gauge,
            None => {
                let labels = with(&self.labels, [("group", group.to_owned())]);
                self.staleness
                    .entry(group.to_owned())
                    .or_insert(unknown(GROUP_STALENESS, labels))
            }
        };
        gauge.set(seconds.unwrap_or(f64::NAN));
    }

    /// The offset map takes so many bytes.
    pub fn map_bytes(&self, bytes: usize) {
        self.map_bytes.set(bytes as f64);
    }
}

impl Drop for GroupSyncMetrics {
    fn drop(&mut self) {
        self.map_bytes.set(f64::NAN);
        for gauge in self.staleness.values() {
            gauge.set(f64::NAN);
        }
    }
}

/// What is recorded about the heartbeats that a flow copies. Dropping it makes their age unknown, because
/// another daemon may watch them from then on.
#[derive(Debug)]
pub struct HeartbeatMetrics {
    age: Gauge,
    lost: Counter,
}

impl HeartbeatMetrics {
    /// Registers the series of one flow; the age is unknown.
    pub fn new(flow: &FlowId) -> Self {
        let labels = flow_labels(flow);
        Self {
            age: unknown(HEARTBEAT_AGE, labels.clone()),
            lost: zero(HEARTBEATS_LOST, labels),
        }
    }

    /// The newest one is so many seconds old; `None` is unknown.
    pub fn age(&self, seconds: Option<f64>) {
        self.age.set(seconds.unwrap_or(f64::NAN));
    }

    /// So many more did not arrive.
    pub fn lost(&self, count: u64) {
        self.lost.increment(count);
    }
}

impl Drop for HeartbeatMetrics {
    fn drop(&mut self) {
        self.age(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::ClusterAlias;
    use std::collections::BTreeSet;

    fn flow() -> FlowId {
        FlowId {
            topology: "korea-dr".into(),
            source: ClusterAlias::new("seoul"),
            target: ClusterAlias::new("busan"),
        }
    }

    /// What is rendered after `record` ran against a recorder of its own.
    fn rendered(record: impl FnOnce()) -> String {
        let recorder = builder().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            record();
        });
        Metrics(handle).render()
    }

    fn every_recorder() -> (
        TaskMetrics,
        TopicMetrics,
        PartitionMetrics,
        FlowMetrics,
        ConfigSyncMetrics,
        GroupSyncMetrics,
        HeartbeatMetrics,
    ) {
        let mut groups = GroupSyncMetrics::new(&flow());
        groups.staleness("shop", None);
        let task = TaskMetrics::new(&flow(), 3);
        let topic = task.topic("orders");
        (
            task,
            topic,
            PartitionMetrics::new(&flow(), "orders", 7),
            FlowMetrics::new(&flow()),
            ConfigSyncMetrics::new(&flow()),
            groups,
            HeartbeatMetrics::new(&flow()),
        )
    }

    /// The definition behind a rendered series, histogram suffixes removed.
    fn definition(series: &str) -> Option<&'static Definition> {
        let name = series.split(['{', ' ']).next()?;
        ALL.iter().find(|it| {
            it.name == name
                || it.kind == Kind::Histogram
                    && ["_bucket", "_sum", "_count"]
                        .iter()
                        .any(|suffix| name.strip_suffix(suffix) == Some(it.name))
        })
    }

    #[test]
    fn names_are_unique_documented_and_carry_their_unit() {
        let names: BTreeSet<_> = ALL.iter().map(|it| it.name).collect();
        assert_eq!(names.len(), ALL.len());
        for it in ALL {
            assert!(it.name.starts_with("causeway_"), "{}", it.name);
            assert!(20 < it.help.len() && it.help.ends_with('.'), "{}", it.name);
            assert!(it.name.contains(it.unit), "{} lacks {}", it.name, it.unit);
            assert_eq!(
                it.name.ends_with("_total"),
                it.kind == Kind::Counter,
                "{}",
                it.name
            );
        }
    }

    #[test]
    fn every_rendered_series_is_defined_and_has_exactly_its_labels() {
        let text = rendered(|| {
            let (task, ..) = every_recorder();
            task.commit(Duration::from_millis(3));
            task.replication_latency(0.2, 10);
        });
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let it = definition(line).unwrap_or_else(|| panic!("not in the table: {line}"));
            let labels = &line[line.find('{').expect("labels")..line.rfind('}').expect("labels")];
            let found: BTreeSet<_> = labels
                .trim_matches('{')
                .split(',')
                .filter_map(|label| label.split('=').next())
                .filter(|label| *label != "le")
                .collect();
            let expected: BTreeSet<_> = ["topology", "flow"].iter().chain(it.labels).copied().collect();
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn every_metric_is_rendered_before_anything_happened() {
        // Histograms show their first sample only.
        let text = rendered(|| {
            let _recorders = every_recorder();
        });
        for it in ALL.iter().filter(|it| it.kind != Kind::Histogram) {
            assert!(
                text.lines()
                    .any(|line| line.starts_with(&format!("{}{{", it.name))),
                "{} is missing",
                it.name
            );
        }
    }

    #[test]
    fn recorded_values_show_under_their_labels() {
        let text = rendered(|| {
            let (task, topic, _partition, flow, ..) = every_recorder();
            topic.records_replicated(5, 700);
            task.restart(Code::TargetUnreachable);
            flow.partitions(PartitionState::Halted, 2);
            flow.gap(40);
        });
        let base = r#"topology="korea-dr",flow="seoul->busan""#;
        for line in [
            format!(r#"causeway_records_replicated_total{{{base},task="3",topic="orders"}} 5"#),
            format!(r#"causeway_bytes_replicated_total{{{base},task="3",topic="orders"}} 700"#),
            format!(r#"causeway_task_restarts_total{{{base},task="3",code="T101"}} 1"#),
            format!(r#"causeway_task_restarts_total{{{base},task="3",code="S101"}} 0"#),
            format!(r#"causeway_partitions{{{base},state="halted"}} 2"#),
            format!(r#"causeway_gap_records_total{{{base}}} 40"#),
        ] {
            assert!(text.contains(&line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn latency_counts_every_record_of_a_span_in_its_bucket() {
        let text = rendered(|| {
            let task = TaskMetrics::new(&flow(), 44);
            task.replication_latency(0.2, 10);
            task.replication_latency(0.21, 5);
            task.replication_latency(9_999.0, 1);
            task.replication_latency(-3.0, 2);
        });
        let labels = r#"topology="korea-dr",flow="seoul->busan",task="44""#;
        let name = REPLICATION_LATENCY.name;
        for line in [
            format!(r#"{name}_bucket{{{labels},le="0.1"}} 2"#),
            format!(r#"{name}_bucket{{{labels},le="0.2"}} 12"#),
            format!(r#"{name}_bucket{{{labels},le="0.5"}} 17"#),
            format!(r#"{name}_bucket{{{labels},le="3600"}} 17"#),
            format!(r#"{name}_bucket{{{labels},le="+Inf"}} 18"#),
            format!("{name}_sum{{{labels}}} 10002.05"),
            format!("{name}_count{{{labels}}} 18"),
        ] {
            assert!(text.contains(&line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn unknown_lag_is_nan_and_so_is_the_lag_of_a_partition_given_away() {
        let lag = |text: &str| {
            text.lines()
                .find(|line| line.starts_with("causeway_lag_records{"))
                .and_then(|line| line.rsplit(' ').next())
                .map(str::to_owned)
        };
        let kept = rendered(|| {
            let partition = PartitionMetrics::new(&flow(), "orders", 0);
            partition.lag(Some(3), Some(0.5));
            std::mem::forget(partition);
        });
        assert_eq!(lag(&kept).as_deref(), Some("3"));
        let given_away = rendered(|| PartitionMetrics::new(&flow(), "orders", 0).lag(Some(3), Some(0.5)));
        assert_eq!(lag(&given_away).as_deref(), Some("NaN"));
    }
}
