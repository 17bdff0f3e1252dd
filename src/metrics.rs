//! Every metric: name, unit, help and labels in one table, recorders that are verbs.
//!
//! A recorder looks its series up once, when it is made; recording is an atomic operation after that. Making
//! a recorder also registers its series, so that counters exist at zero before anything happened.
//! Gauges that are unknown are `NaN`, never zero.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use strum::VariantArray;

use crate::error::{Code, Remedy};
use crate::status::PartitionState;
use crate::topology::FlowId;

mod latency;
mod table;

pub use table::*;

use latency::Latency;

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

/// A gauge that is unknown until it is set, and again when it is dropped: another daemon may know it from then on.
#[derive(Debug)]
struct Owned(Gauge);

impl Owned {
    fn new(definition: Definition, labels: Vec<Label>) -> Self {
        Self(unknown(definition, labels))
    }

    /// `None` is unknown.
    fn set(&self, value: Option<f64>) {
        self.0.set(value.unwrap_or(f64::NAN));
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.set(None);
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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

/// What is recorded about one source partition by the task that owns it.
#[derive(Debug)]
pub struct PartitionMetrics {
    lag_records: Owned,
    lag_seconds: Owned,
    uncommitted_records: Owned,
    open_transaction_seconds: Owned,
}

impl PartitionMetrics {
    /// Registers the series of one partition; its lag is unknown.
    pub fn new(flow: &FlowId, topic: &str, partition: i32) -> Self {
        let labels = with(
            &flow_labels(flow),
            [("topic", topic.to_owned()), ("partition", partition.to_string())],
        );
        Self {
            lag_records: Owned::new(LAG_RECORDS, labels.clone()),
            lag_seconds: Owned::new(LAG_SECONDS, labels.clone()),
            uncommitted_records: Owned::new(UNCOMMITTED_RECORDS, labels.clone()),
            open_transaction_seconds: Owned::new(OPEN_TRANSACTION_SECONDS, labels),
        }
    }

    /// The lag at this moment; `None` is unknown.
    pub fn lag(&self, records: Option<u64>, seconds: Option<f64>) {
        self.lag_records.set(records.map(|records| records as f64));
        self.lag_seconds.set(seconds);
    }

    /// What lies behind the end of what is committed at the source, and for how long; `None` records are unknown.
    pub fn uncommitted(&self, records: Option<u64>, seconds: Option<f64>) {
        self.uncommitted_records
            .set(records.map(|records| records as f64));
        let seconds = records.map(|_| seconds.unwrap_or(0.0));
        self.open_transaction_seconds.set(seconds);
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

/// What is recorded about the positions of groups.
#[derive(Debug)]
pub struct GroupSyncMetrics {
    labels: Vec<Label>,
    passes: Counter,
    duration: Histogram,
    errors: Counter,
    map_bytes: Owned,
    staleness: BTreeMap<String, Owned>,
}

impl GroupSyncMetrics {
    /// Registers the series of one flow.
    pub fn new(flow: &FlowId) -> Self {
        let labels = flow_labels(flow);
        Self {
            passes: zero(GROUP_SYNC_PASSES, labels.clone()),
            duration: histogram!(GROUP_SYNC_DURATION.name, labels.clone()),
            errors: zero(GROUP_SYNC_ERRORS, labels.clone()),
            map_bytes: Owned::new(OFFSET_MAP_BYTES, labels.clone()),
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
        let new = || Owned::new(GROUP_STALENESS, with(&self.labels, [("group", group.to_owned())]));
        let gauge = self.staleness.entry(group.to_owned()).or_insert_with(new);
        gauge.set(seconds);
    }

    /// The offset map takes so many bytes.
    pub fn map_bytes(&self, bytes: usize) {
        self.map_bytes.set(Some(bytes as f64));
    }
}

/// What is recorded about the heartbeats that a flow copies.
#[derive(Debug)]
pub struct HeartbeatMetrics {
    age: Owned,
    lost: Counter,
}

impl HeartbeatMetrics {
    /// Registers the series of one flow; the age is unknown.
    pub fn new(flow: &FlowId) -> Self {
        let labels = flow_labels(flow);
        Self {
            age: Owned::new(HEARTBEAT_AGE, labels.clone()),
            lost: zero(HEARTBEATS_LOST, labels),
        }
    }

    /// The newest one is so many seconds old; `None` is unknown.
    pub fn age(&self, seconds: Option<f64>) {
        self.age.set(seconds);
    }

    /// So many more did not arrive.
    pub fn lost(&self, count: u64) {
        self.lost.increment(count);
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
