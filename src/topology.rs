//! `topologies/`: what flows. Each pattern expands to flows; loops and double writers are refused.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Problem;
use crate::kafka::ClusterAlias;
use crate::mm2::connect_offsets;
use crate::names::replication_policy::{HeartbeatTopics, Naming, ReplicationPolicy};

pub(crate) mod keys;
mod load;
mod proof;

#[cfg(test)]
mod tests;

pub use crate::names::replication_policy::Selection;
pub use keys::{ConfigSyncSpec, HeartbeatSpec, OffsetSyncSpec, Throttle};
pub(crate) use keys::{json_schema, table};
pub(crate) use load::UNWANTED_GROUPS;
pub use load::load;
pub(crate) use load::load_from;
pub(crate) use proof::automaton;

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

    /// `causeway.<topology>.failover.internal` (design: on the target): the audit trail.
    pub fn failover_topic(&self) -> String {
        format!("causeway.{}.failover.internal", self.topology)
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

impl Topology {
    /// One line per flow, for people: what is copied, how, and under which names.
    pub fn announcement(&self) -> Vec<String> {
        self.flows
            .iter()
            .map(|flow| format!("{} {flow}", self.name))
            .collect()
    }
}

impl fmt::Display for FlowSpec {
    /// `seoul->busan: identity names, exactly_once, 4 tasks, topics orders.*, payments`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = |patterns: &[(String, regex::Regex)]| {
            patterns
                .iter()
                .map(|(text, _)| text.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let Self {
            id,
            replication_policy,
            delivery,
            tasks,
            topics,
            ..
        } = self;
        let plural = if *tasks == 1 { "" } else { "s" };
        write!(
            f,
            "{id}: {replication_policy} names, {delivery}, {tasks} task{plural}, topics {}",
            texts(&topics.include)
        )?;
        if !topics.exclude.is_empty() {
            write!(f, " except {}", texts(&topics.exclude))?;
        }
        Ok(())
    }
}

impl FlowSpec {
    /// How it names and chooses topics.
    pub fn naming(&self) -> Naming<'_> {
        Naming {
            policy: self.replication_policy,
            source: &self.id.source,
            target: &self.id.target,
            aliases: &self.aliases,
        }
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
    /// What was written and does nothing.
    pub notes: Vec<Problem>,
}

/// Everything one flow needs to know.
#[derive(Clone, Debug)]
pub struct FlowSpec {
    /// Who it is.
    pub id: FlowId,
    /// Every alias of the config file.
    pub aliases: Arc<BTreeSet<ClusterAlias>>,
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
    pub on_gap: GapPolicy,
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
    /// Consumer groups whose positions are translated.
    pub groups: Selection,
    /// How their positions reach the target.
    pub offset_sync: OffsetSyncSpec,
    /// MM2's heartbeats.
    pub heartbeats: HeartbeatSpec,
    /// Which of the source's heartbeats topics are copied. Of several flows between the same clusters one
    /// carries the heartbeats.
    pub heartbeat_topics: HeartbeatTopics,
    /// The MM2 that copied this flow before.
    pub mirror_maker: MirrorMakerSpec,
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

/// `on_gap:` by topic.
#[derive(Clone, Debug)]
pub struct GapPolicy {
    /// What most topics do.
    pub default: OnGap,
    /// Source topics that do the other, as written and compiled.
    pub others: Vec<(String, regex::Regex)>,
}

impl GapPolicy {
    /// What partitions of a source topic do.
    pub fn of(&self, topic: &str) -> OnGap {
        match self.others.iter().any(|(_, pattern)| pattern.is_match(topic)) {
            true => self.default.other(),
            false => self.default,
        }
    }
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

/// `mirror_maker:`, with the names of MM2's dedicated mode as defaults. The topics are on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorMakerSpec {
    /// Whether positions are also written where MM2 finds them. Default no.
    pub mirror_positions: bool,
    /// Name of the source connector.
    pub connector: String,
    /// The source's alias there, which positions are stored under; `""` in an MM2 that keeps names by an empty one.
    pub source_alias: String,
    /// `group.id` of the Connect workers.
    pub connect_group: String,
    /// Positions.
    pub offsets_topic: String,
    /// Configurations.
    pub configs_topic: String,
    /// States.
    pub status_topic: String,
}

impl MirrorMakerSpec {
    /// Where a dedicated MM2 that copies from `source` keeps what it knows.
    pub fn dedicated(source: &ClusterAlias) -> Self {
        Self {
            mirror_positions: false,
            connector: connect_offsets::SOURCE_CONNECTOR.to_owned(),
            source_alias: source.to_string(),
            connect_group: format!("{source}-mm2"),
            offsets_topic: connect_offsets::offsets_topic(source),
            configs_topic: format!("mm2-configs.{source}.internal"),
            status_topic: format!("mm2-status.{source}.internal"),
        }
    }
}

/// `config_sync.mode:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Differences are applied. Default.
    Apply,
    /// Differences are shown and counted; nothing is written.
    Report,
}

/// Where the metadata of a position goes along with it: what consumers keep there may count from the offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataSync {
    /// Where the position is the same offset on both sides. Default.
    Exact,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

impl OnGap {
    fn other(self) -> Self {
        match self {
            Self::Halt => Self::Continue,
            Self::Continue => Self::Halt,
        }
    }
}
