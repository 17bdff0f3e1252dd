//! Every key of a topology file.

use serde_json::{Value, json};

use super::*;
use crate::config::keys::{keys, words};
use crate::config::read::{Each, Required, Scalar, Section, Spot, Table, WordOr, Words};
use crate::config::schema::{Key, Kind};
use crate::config::shapes::{AnyText, Bytes, Integer, Milliseconds, Pattern, Patterns, Text};
use crate::config::{self, At};

keys! {
    /// A topology file.
    struct TopologyFile {
        /// Name of the topology, unique among all files. It is part of the names of causeway's own topics: a new
        /// name is a new start.
        name: Required<TopologyName>,
        /// The shape that expands to flows. active-standby: one flow. active-active: every cluster to every other.
        /// hub-and-spoke: spokes to the hub, the hub to spokes, or both. custom: the flows listed under flows.
        pattern: Required<FlowPattern>,
        /// active-standby: the cluster copied from.
        active: Option<ClusterAlias>,
        /// active-standby: the cluster copied to.
        standby: Option<ClusterAlias>,
        /// active-active: two clusters or more.
        clusters: Vec<ClusterAlias>,
        /// hub-and-spoke: the cluster in the middle.
        hub: Option<ClusterAlias>,
        /// hub-and-spoke: the others.
        spokes: Vec<ClusterAlias>,
        /// hub-and-spoke: in copies spokes to the hub, out the hub to spokes.
        direction: Direction = "in",
        /// What every flow of this topology does, unless flows says otherwise.
        replication: Table<Replication>,
        /// Exceptions for single flows, merged key by key over replication. For pattern custom: the list of flows.
        flows: Each<FlowName, Table<Replication>>,
    }
}

keys! {
    /// `replication:` and each of `flows:`
    struct Replication {
        /// Source topics. Every flow needs topics.include, here or under flows.
        topics: Table<Topics>,
        /// Names on the target. default: `orders` of seoul becomes `seoul.orders`. identity: `orders` stays `orders`.
        replication_policy: ReplicationPolicy = "default",
        /// header: the origin's cluster id is written into the record header causeway.origin, and records that come
        /// from the target are not copied back.
        provenance: Provenance = "none",
        /// exactly_once: records and progress in one target transaction. at_least_once: a crash repeats at most what
        /// was written since the last commit.
        delivery: Delivery = "exactly_once",
        /// Where partitions that exist when the flow is created begin: the log start, the end, or the first record at
        /// or after a time. Later partitions begin at offset 0.
        start_from: StartFrom = "earliest",
        /// What a partition does when records were lost at the source before they were copied, or at the target after.
        /// halt: it waits for you, see causeway offsets gaps. continue: it declares the gap and goes on. May differ by
        /// topic.
        on_gap: WordOr<OnGap, OnGapTopics> = "halt",
        /// Slots of the flow, over all daemons. Fixed when the flow is first run.
        tasks: Integer<u32, 1, 1000> = "4",
        /// Codec of the batches written to the target.
        compression: Compression = "lz4",
        /// Longest life of a transaction (exactly_once), or age of stored progress (at_least_once).
        commit_interval: Milliseconds<50, 30_000> = "500ms",
        /// Limits of each flow in each daemon.
        throttle: Table<ThrottleKeys>,
        /// How the target's topics follow the source's partitions and settings.
        config_sync: Table<ConfigSync>,
        /// Consumer groups of the source whose positions are translated.
        groups: Table<Groups>,
        /// How group positions reach the target, and how long the offset map is kept.
        offset_sync: Table<OffsetSync>,
        /// MirrorMaker 2's heartbeats: a record per interval that shows that the flow is alive.
        heartbeats: Table<Heartbeats>,
        /// The MirrorMaker 2 that copied this flow before: where `causeway import mm2-state` finds its positions.
        mirror_maker: Table<MirrorMaker>,
    }
}

keys! {
    /// `topics:`
    struct Topics {
        /// Names copied. At least one.
        include: Vec<Pattern>,
        /// Names left out although included.
        exclude: Vec<Pattern>,
    }
}

keys! {
    /// `groups:`
    struct Groups {
        /// Group names. Default: all.
        include: Vec<Pattern>,
        /// Group names left out although included. Default: console-consumer-.*, connect-.* and __.*, as MirrorMaker 2.
        exclude: Vec<Pattern>,
    }
}

keys! {
    /// `offset_sync:`
    struct OffsetSync => OffsetSyncSpec {
        /// Time between two looks at the source's groups. (MirrorMaker 2: 60 s, new groups 600 s.)
        interval: Milliseconds<1_000, 3_600_000> = "5s",
        /// Translated positions are committed on the target, for groups that have no members there. (MirrorMaker 2:
        /// sync.group.offsets.enabled, false.)
        write_groups: bool = "true",
        /// A group that is deleted on the source is deleted on the target, if causeway created it there and it has had
        /// no members there since.
        delete_groups: bool = "false",
        /// Where the metadata that a group stored with a position goes along. exact: where the position is the same
        /// offset on both sides; consumers that finish records out of order keep there which they have, counted from
        /// the offset, and on the target the same records may lie closer. always: everywhere, as MirrorMaker 2; only
        /// where no metadata counts from the offset. never: nowhere.
        metadata: MetadataSync = "exact",
        /// Translated positions are also written as MirrorMaker 2's checkpoints.
        checkpoints: bool = "true",
        /// MirrorMaker 2's offset syncs are written, to the target. (MirrorMaker 2: offset-syncs.topic.location,
        /// source.)
        offset_syncs: bool = "true",
        /// How long the offset map stays exact. Older positions are translated to a bound.
        map_retention: Milliseconds<60_000, { 3_650 * 86_400_000 }> = "720h",
        /// How large the offset map of the flow may grow before its oldest part is thinned.
        map_bytes: Bytes<{ 1 << 20 }, { 1 << 40 }> = "256MiB",
    }
}

keys! {
    /// `heartbeats:`
    struct Heartbeats => HeartbeatSpec {
        /// Heartbeats are written to the target, and those of the source are copied whatever topics says. Of several
        /// flows between two clusters one does it for all.
        enabled: bool = "true",
        /// Time between two heartbeats.
        interval: Milliseconds<100, 3_600_000> = "1s",
        /// Heartbeats are also written to the source and watched until they arrive: the only thing ever written there.
        on_source: bool = "false",
    }
}

keys! {
    /// `on_gap:` by topic
    struct OnGapTopics {
        /// What the topics do that are not listed here.
        default: OnGap = "halt",
        /// Source topics that halt, where the default is continue.
        halt: Vec<Pattern>,
        /// Source topics that continue, where the default is halt.
        r#continue: Vec<Pattern>,
    }
}

keys! {
    /// `mirror_maker:`
    struct MirrorMaker {
        /// After each commit the flow's positions are written to offsets_topic too, so that MirrorMaker 2 can go on
        /// where causeway stops.
        mirror_positions: bool = "false",
        /// Name of the MirrorSourceConnector. Default: MirrorSourceConnector, as in dedicated mode.
        connector: Option<Text>,
        /// What it calls the source in stored positions; may be empty. Default: the source's alias here.
        source_alias: Option<AnyText>,
        /// group.id of its Connect workers. Default: <source>-mm2, as in dedicated mode.
        connect_group: Option<Text>,
        /// Where Connect stores positions, on the target. Default: mm2-offsets.<source>.internal.
        offsets_topic: Option<Text>,
        /// Where Connect stores configurations, on the target. Default: mm2-configs.<source>.internal.
        configs_topic: Option<Text>,
        /// Where Connect stores states, on the target. Default: mm2-status.<source>.internal.
        status_topic: Option<Text>,
    }
}

keys! {
    /// `throttle:`
    struct ThrottleKeys => #[derive(Copy, Default)] Throttle {
        /// Key and value bytes per second. Default: no limit.
        bytes_per_second: Option<Bytes<1024, { 1 << 40 }>>,
        /// Records per second. Default: no limit.
        records_per_second: Option<Integer<u32, 1, { u32::MAX as u64 }>>,
    }
}

keys! {
    /// `config_sync:`
    struct ConfigSync => ConfigSyncSpec {
        /// Time between two comparisons.
        interval: Milliseconds<1_000, 3_600_000> = "5s",
        /// apply: differences are repaired. report: they are shown and counted; nothing is written.
        mode: SyncMode = "apply",
        /// Topic settings left alone, besides those MirrorMaker 2 leaves alone.
        exclude: Patterns,
        /// Replication factor of new topics. Default: the source's, at most the number of live brokers of the target.
        replication_factor: Option<Integer<i32, 1, 32_767>>,
    }
}

/// `name:`
pub struct TopologyName;

impl Scalar for TopologyName {
    type Value = String;
    const KIND: Kind = Kind::Name {
        set: |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-',
        pattern: "^[a-z0-9-]+$",
        rule: "lower-case letters, digits and `-`; it becomes part of topic names",
    };

    fn parse(text: &str) -> Result<String, Option<String>> {
        Self::KIND.allows(text).then(|| text.to_owned()).ok_or(None)
    }
}

/// A name under `flows:`; the clusters in it are looked up later.
pub struct FlowName;

impl Scalar for FlowName {
    type Value = String;
    const KIND: Kind = Kind::Text;
    const PLACEHOLDER: &'static str = "source->target";

    fn parse(text: &str) -> Result<String, Option<String>> {
        Ok(text.to_owned())
    }
}

/// `pattern:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowPattern {
    ActiveStandby,
    ActiveActive,
    HubAndSpoke,
    Custom,
}

words!(FlowPattern {
    ActiveStandby = "active-standby", ActiveActive = "active-active", HubAndSpoke = "hub-and-spoke", Custom = "custom"
});

/// `direction:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
    Both,
}

words!(Direction { In = "in", Out = "out", Both = "both" });

words!(ReplicationPolicy { Default = "default", Identity = "identity" });
words!(Provenance { None = "none", Header = "header" });
words!(Delivery { ExactlyOnce = "exactly_once", AtLeastOnce = "at_least_once" });
words!(OnGap { Halt = "halt", Continue = "continue" });
words!(Compression { None = "none", Gzip = "gzip", Snappy = "snappy", Lz4 = "lz4", Zstd = "zstd" });
words!(SyncMode { Apply = "apply", Report = "report" });
words!(MetadataSync { Exact = "exact", Always = "always", Never = "never" });

impl Scalar for StartFrom {
    type Value = Self;
    const KIND: Kind = Kind::Time(&["earliest", "latest"]);

    fn parse(text: &str) -> Result<Self, Option<String>> {
        match (text, text.parse::<jiff::Timestamp>()) {
            ("earliest", _) => Ok(Self::Earliest),
            ("latest", _) => Ok(Self::Latest),
            // Kafka's own words for "latest" and "earliest" are the times -1 and -2.
            (_, Ok(time)) if time.as_millisecond() >= 0 => Ok(Self::Timestamp(time.as_millisecond())),
            _ => Err(None),
        }
    }
}

impl TopologyFile {
    /// The keys that say which clusters take part in a pattern: those it needs, and one that it takes.
    pub fn members(&self, pattern: FlowPattern) -> (Vec<Spot>, Option<Spot>) {
        match pattern {
            FlowPattern::ActiveStandby => (vec![self.active.spot, self.standby.spot], None),
            FlowPattern::ActiveActive => (vec![self.clusters.spot], None),
            FlowPattern::HubAndSpoke => (vec![self.hub.spot, self.spokes.spot], Some(self.direction.spot)),
            FlowPattern::Custom => (vec![], None),
        }
    }
}

/// The keys of a topology file.
pub(crate) fn table() -> &'static [Key] {
    TopologyFile::keys()
}

/// The JSON schema of a topology file, with what each pattern adds: its members, and for custom the flows.
pub(crate) fn json_schema() -> Value {
    let mut schema = config::json_schema("causeway: what flows", table());
    let file = TopologyFile::absent(At::START);
    let of_pattern = |pattern: &FlowPattern| {
        let mut required = file.members(*pattern).0;
        if required.is_empty() {
            required.push(file.flows.spot);
        }
        let required: Vec<&str> = required.iter().map(|spot| spot.name).collect();
        json!({
            "if": { "properties": { "pattern": { "const": pattern.as_str() } }, "required": ["pattern"] },
            "then": { "required": required },
        })
    };
    schema["allOf"] = FlowPattern::VALUES.iter().map(of_pattern).collect();
    schema
}
