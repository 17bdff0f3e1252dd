//! `topologies/`: what flows. Each pattern expands to flows; loops and double writers are refused.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use regex::Regex;

use crate::kafka::ClusterAlias;
use crate::replication_policy::ReplicationPolicy;

/// One direction between two clusters of one topology: `seoul->busan`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId {
    /// The topology's name.
    pub topology: String,
    /// Where records come from.
    pub source: ClusterAlias,
    /// Where they go.
    pub target: ClusterAlias,
}

impl FlowId {
    /// `causeway.<topology>.<source>.progress.internal` (design: on the target).
    pub fn progress_topic(&self) -> String {
        format!("causeway.{}.{}.progress.internal", self.topology, self.source)
    }

    /// `causeway.<topology>.<source>.offset-map.internal` (design: on the target).
    pub fn offset_map_topic(&self) -> String {
        format!("causeway.{}.{}.offset-map.internal", self.topology, self.source)
    }

    /// The consumer group whose members own the tasks of this flow, on the target.
    pub fn group(&self) -> String {
        format!("causeway.{}.{}->{}", self.topology, self.source, self.target)
    }

    /// The transactional id that fences former owners of task `task`.
    pub fn transactional_id(&self, task: u32) -> String {
        format!(
            "causeway.{}.{}->{}.{task}",
            self.topology, self.source, self.target
        )
    }
}

impl fmt::Display for FlowId {
    /// `seoul->busan`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}", self.source, self.target)
    }
}

/// A topology file, checked and expanded.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Unique among the loaded files.
    pub name: String,
    /// Its flows, in a stable order.
    pub flows: Vec<FlowSpec>,
}

/// Everything one flow needs to know.
#[derive(Clone, Debug)]
pub struct FlowSpec {
    /// Who it is.
    pub id: FlowId,
    /// Source topics.
    pub topics: Selection,
    /// Names on the target.
    pub replication_policy: ReplicationPolicy,
    /// Whether the origin cluster is written into a header and checked on the way back.
    pub provenance: Provenance,
    /// What a crash may cost.
    pub delivery: Delivery,
    /// Where a new flow begins.
    pub start_from: StartFrom,
    /// What a lost range does to its partition.
    pub on_gap: OnGap,
    /// Slots of the flow, fixed when it is created; 1 to 1,000.
    pub tasks: u32,
    /// Codec of the batches written to the target. Default lz4.
    pub compression: Compression,
    /// Longest life of a transaction (exactly once) or age of progress (at least once).
    pub commit_interval: Duration,
    /// Limits.
    pub throttle: Throttle,
    /// How the target's topics follow the source's.
    pub config_sync: ConfigSyncSpec,
}

/// Anchored regular expressions: a name is selected when an `include` and no `exclude` matches all of it.
#[derive(Clone, Debug)]
pub struct Selection {
    /// As written, and compiled with `^(?:…)$`.
    pub include: Vec<(String, Regex)>,
    /// As written, and compiled with `^(?:…)$`.
    pub exclude: Vec<(String, Regex)>,
}

impl Selection {
    /// Whether a name is selected.
    pub fn matches(&self, name: &str) -> bool {
        self.include.iter().any(|(_, r)| r.is_match(name)) && self.excluded_by(name).is_none()
    }

    /// The exclude pattern, as written, that keeps a name out.
    pub fn excluded_by(&self, name: &str) -> Option<&str> {
        self.exclude
            .iter()
            .find(|(_, r)| r.is_match(name))
            .map(|(text, _)| text.as_str())
    }
}

/// `provenance:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// Records arrive untouched.
    None,
    /// Header `causeway.origin` carries the origin's cluster id; records that come from the target are skipped.
    Header,
}

/// `delivery:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Records, progress and offset map in one target transaction. Default.
    ExactlyOnce,
    /// Idempotent producer; progress once a second; replays are counted.
    AtLeastOnce,
}

/// `start_from:` for partitions that exist when the flow is created. Later ones start at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// The log start. Default.
    Earliest,
    /// The end at that moment.
    Latest,
    /// The first record at or after this time, in ms since the epoch.
    Timestamp(i64),
}

/// `on_gap:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGap {
    /// The partition stops. Default.
    Halt,
    /// The gap is declared and the partition goes on behind it.
    Continue,
}

/// `compression:` (librdkafka's `compression.type`)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    /// librdkafka's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// `throttle:`; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// Key, value and header bytes per second for the flow in this process; at least 1 KiB.
    pub bytes_per_second: Option<u64>,
    /// Records per second for the flow in this process; at least 1.
    pub records_per_second: Option<u32>,
}

/// `config_sync:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSyncSpec {
    /// Time between passes. Default 5 s.
    pub interval: Duration,
    /// Whether differences are applied or only reported.
    pub mode: SyncMode,
    /// Setting names, as regular expressions, that are not synced, besides MM2's default list.
    pub exclude: Vec<String>,
    /// Replication factor of new topics; `None`: the source's, capped by the target's live brokers.
    pub replication_factor: Option<i32>,
}

/// `config_sync.mode:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Differences are applied. Default.
    Apply,
    /// Differences are shown and counted; nothing is written.
    Report,
}

/// All flows of all loaded topologies, by id.
pub type Flows = BTreeMap<FlowId, FlowSpec>;
