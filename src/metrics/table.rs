//! Every metric: name, unit, help and labels.

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
pub(super) const BUCKETS: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0,
];
