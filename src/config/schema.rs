//! Every key of both kinds of file: one table, which checks files, gives defaults, and writes the
//! reference and the JSON schema. What is not here does not exist.

use Kind::*;
use Presence::*;

/// One key.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub presence: Presence,
    /// One or two sentences for people.
    pub doc: &'static str,
}

/// What happens when a key is absent.
#[derive(Clone, Copy, Debug)]
pub enum Presence {
    Required,
    Optional,
    /// The value taken instead, in the words of the file itself.
    Default(&'static str),
}

/// What may stand after a key.
#[derive(Debug)]
pub enum Kind {
    Text,
    /// Text that may also be empty, `""`.
    AnyText,
    /// Text of which every character is in the set; the sentence says so.
    Name {
        set: fn(char) -> bool,
        pattern: &'static str,
        rule: &'static str,
    },
    Integer {
        min: u64,
        max: u64,
    },
    /// Bytes.
    Bytes {
        min: u64,
        max: u64,
    },
    /// Milliseconds.
    Duration {
        min: u64,
        max: u64,
    },
    Boolean,
    OneOf(&'static [&'static str]),
    /// One of these words, or keys that say more.
    WordOr(&'static [&'static str], &'static [Key]),
    /// One of these words or an RFC 3339 time.
    Time(&'static [&'static str]),
    /// `host:port` with a numeric host.
    Address,
    /// `host:port,…`
    Servers,
    /// May be given as `<key>_file` instead; never shown.
    Secret,
    /// A file that exists. Relative to the file that names it.
    File,
    /// A regular expression that must match the whole name.
    Pattern,
    List(&'static Kind),
    Table(&'static [Key]),
    /// Any names, all with the same kind of value.
    Each {
        name: &'static str,
        key: &'static Kind,
        value: &'static Kind,
    },
    /// librdkafka properties; values are scalars and may be secrets.
    Properties,
}

const fn key(name: &'static str, kind: Kind, presence: Presence, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        presence,
        doc,
    }
}

/// `clusters.<alias>` and every place that names a cluster.
pub const ALIAS: Kind = Name {
    set: |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'),
    pattern: "^[A-Za-z0-9_-]+$",
    rule: "letters, digits, `_` and `-`; a dot would make `alias.topic` ambiguous",
};

/// A config file.
pub static CONFIG: &[Key] = &[
    key(
        "clusters",
        Each {
            name: "alias",
            key: &ALIAS,
            value: &Table(CLUSTER),
        },
        Required,
        "Every Kafka cluster, under the name that topologies use for it.",
    ),
    key(
        "api",
        Table(API),
        Optional,
        "The HTTP interface: status, metrics, readiness.",
    ),
    key(
        "instance",
        Text,
        Optional,
        "Name of this daemon in its consumer groups (static membership); different for each daemon. Default: the host name.",
    ),
    key(
        "memory",
        Bytes {
            min: 16 << 20,
            max: 1 << 40,
        },
        Default("256MiB"),
        "What all tasks of this process together may hold, fetched and not yet acknowledged.",
    ),
    key(
        "drain_timeout",
        Duration {
            min: 1_000,
            max: 3_600_000,
        },
        Default("10s"),
        "How long a stop may take before tasks are abandoned (exit code 3).",
    ),
];

static API: &[Key] = &[key(
    "listen",
    Address,
    Default("127.0.0.1:8083"),
    "Address and port to listen on. There is no authentication: keep it on the loopback interface or behind a proxy.",
)];

static CLUSTER: &[Key] = &[
    key(
        "bootstrap_servers",
        Servers,
        Required,
        "host:port of some brokers, separated by commas.",
    ),
    key(
        "security",
        Table(SECURITY),
        Optional,
        "How to prove who we are, and who they are.",
    ),
    key(
        "client",
        Properties,
        Optional,
        "librdkafka properties for every client of this cluster.",
    ),
    key(
        "consumer",
        Properties,
        Optional,
        "librdkafka properties for consumers.",
    ),
    key(
        "producer",
        Properties,
        Optional,
        "librdkafka properties for producers.",
    ),
];

const PROTOCOLS: &[&str] = &["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
const MECHANISMS: &[&str] = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"];

static SECURITY: &[Key] = &[
    key(
        "protocol",
        OneOf(PROTOCOLS),
        Default("plaintext"),
        "How connections are protected.",
    ),
    key(
        "mechanism",
        OneOf(MECHANISMS),
        Optional,
        "SASL mechanism; required with sasl_plaintext and sasl_ssl.",
    ),
    key("username", Text, Optional, "For PLAIN and SCRAM."),
    key("password", Secret, Optional, "For PLAIN and SCRAM."),
    key(
        "ca_file",
        File,
        Optional,
        "CA certificates (PEM) that sign the brokers' certificates. Default: the system's.",
    ),
    key(
        "certificate_file",
        File,
        Optional,
        "Our own certificate (PEM), for mutual TLS.",
    ),
    key(
        "key_file",
        File,
        Optional,
        "The private key (PEM) of certificate_file.",
    ),
    key("key_password", Secret, Optional, "The pass phrase of key_file."),
    key(
        "verify_hostname",
        Boolean,
        Default("true"),
        "Whether a broker's certificate must carry the name we connected to.",
    ),
    key(
        "oauth",
        Table(OAUTH),
        Optional,
        "For OAUTHBEARER: tokens from an OIDC token endpoint.",
    ),
    key("kerberos", Table(KERBEROS), Optional, "For GSSAPI."),
];

static OAUTH: &[Key] = &[
    key(
        "token_endpoint",
        Text,
        Required,
        "URL of the OIDC token endpoint.",
    ),
    key(
        "client_id",
        Text,
        Required,
        "Our public identifier at the authorisation server.",
    ),
    key(
        "client_secret",
        Secret,
        Required,
        "What only we and the authorisation server know.",
    ),
    key("scope", Text, Optional, "Scopes asked for, separated by blanks."),
];

static KERBEROS: &[Key] = &[
    key(
        "service_name",
        Text,
        Default("kafka"),
        "Primary of the brokers' principal.",
    ),
    key("principal", Text, Required, "Our principal."),
    key(
        "keytab_file",
        File,
        Required,
        "The keytab that holds our principal's key.",
    ),
];

/// The patterns and the keys that say which clusters take part in each.
pub const PATTERNS: &[(&str, &[&str])] = &[
    ("active-standby", &["active", "standby"]),
    ("active-active", &["clusters"]),
    ("hub-and-spoke", &["hub", "spokes", "direction"]),
    ("custom", &[]),
];
const PATTERN_NAMES: &[&str] = &[PATTERNS[0].0, PATTERNS[1].0, PATTERNS[2].0, PATTERNS[3].0];

/// A topology file.
pub static TOPOLOGY: &[Key] = &[
    key(
        "name",
        Name {
            set: |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-',
            pattern: "^[a-z0-9-]+$",
            rule: "lower-case letters, digits and `-`; it becomes part of topic names",
        },
        Required,
        "Name of the topology, unique among all files. It is part of the names of causeway's own topics: a new name is a new start.",
    ),
    key(
        "pattern",
        OneOf(PATTERN_NAMES),
        Required,
        "The shape that expands to flows. active-standby: one flow. active-active: every cluster to every other. hub-and-spoke: spokes to the hub, the hub to spokes, or both. custom: the flows listed under flows.",
    ),
    key(
        "active",
        ALIAS,
        Optional,
        "active-standby: the cluster copied from.",
    ),
    key(
        "standby",
        ALIAS,
        Optional,
        "active-standby: the cluster copied to.",
    ),
    key(
        "clusters",
        List(&ALIAS),
        Optional,
        "active-active: two clusters or more.",
    ),
    key(
        "hub",
        ALIAS,
        Optional,
        "hub-and-spoke: the cluster in the middle.",
    ),
    key("spokes", List(&ALIAS), Optional, "hub-and-spoke: the others."),
    key(
        "direction",
        OneOf(&["in", "out", "both"]),
        Default("in"),
        "hub-and-spoke: in copies spokes to the hub, out the hub to spokes.",
    ),
    key(
        "replication",
        Table(REPLICATION),
        Optional,
        "What every flow of this topology does, unless flows says otherwise.",
    ),
    key(
        "flows",
        Each {
            name: "source->target",
            key: &Text,
            value: &Table(REPLICATION),
        },
        Optional,
        "Exceptions for single flows, merged key by key over replication. For pattern custom: the list of flows.",
    ),
];

/// `replication:` and each of `flows:`
pub static REPLICATION: &[Key] = &[
    key(
        "topics",
        Table(SELECTION),
        Optional,
        "Source topics. Every flow needs topics.include, here or under flows.",
    ),
    key(
        "replication_policy",
        OneOf(&["default", "identity"]),
        Default("default"),
        "Names on the target. default: `orders` of seoul becomes `seoul.orders`. identity: `orders` stays `orders`.",
    ),
    key(
        "provenance",
        OneOf(&["none", "header"]),
        Default("none"),
        "header: the origin's cluster id is written into the record header causeway.origin, and records that come from the target are not copied back.",
    ),
    key(
        "delivery",
        OneOf(&["exactly_once", "at_least_once"]),
        Default("exactly_once"),
        "exactly_once: records and progress in one target transaction. at_least_once: a crash repeats at most what was written since the last commit.",
    ),
    key(
        "start_from",
        Time(&["earliest", "latest"]),
        Default("earliest"),
        "Where partitions that exist when the flow is created begin: the log start, the end, or the first record at or after a time. Later partitions begin at offset 0.",
    ),
    key(
        "on_gap",
        WordOr(ON_GAP_WORDS, ON_GAP),
        Default("halt"),
        "What a partition does when records were lost at the source before they were copied, or at the target after. halt: it waits for you, see causeway offsets gaps. continue: it declares the gap and goes on. May differ by topic.",
    ),
    key(
        "tasks",
        Integer { min: 1, max: 1000 },
        Default("4"),
        "Slots of the flow, over all daemons. Fixed when the flow is first run.",
    ),
    key(
        "compression",
        OneOf(&["none", "gzip", "snappy", "lz4", "zstd"]),
        Default("lz4"),
        "Codec of the batches written to the target.",
    ),
    key(
        "commit_interval",
        Duration { min: 50, max: 30_000 },
        Default("500ms"),
        "Longest life of a transaction (exactly_once), or age of stored progress (at_least_once).",
    ),
    key(
        "throttle",
        Table(THROTTLE),
        Optional,
        "Limits of each flow in each daemon.",
    ),
    key(
        "config_sync",
        Table(CONFIG_SYNC),
        Optional,
        "How the target's topics follow the source's partitions and settings.",
    ),
    key(
        "groups",
        Table(GROUPS),
        Optional,
        "Consumer groups of the source whose positions are translated.",
    ),
    key(
        "offset_sync",
        Table(OFFSET_SYNC),
        Optional,
        "How group positions reach the target, and how long the offset map is kept.",
    ),
    key(
        "heartbeats",
        Table(HEARTBEATS),
        Optional,
        "MirrorMaker 2's heartbeats: a record per interval that shows that the flow is alive.",
    ),
    key(
        "mirror_maker",
        Table(MIRROR_MAKER),
        Optional,
        "The MirrorMaker 2 that copied this flow before: where `causeway import mm2-state` finds its positions.",
    ),
];

static SELECTION: &[Key] = &[
    key("include", List(&Pattern), Optional, "Names copied. At least one."),
    key(
        "exclude",
        List(&Pattern),
        Optional,
        "Names left out although included.",
    ),
];

static GROUPS: &[Key] = &[
    key("include", List(&Pattern), Optional, "Group names. Default: all."),
    key(
        "exclude",
        List(&Pattern),
        Optional,
        "Group names left out although included. Default: console-consumer-.*, connect-.* and __.*, as MirrorMaker 2.",
    ),
];

static OFFSET_SYNC: &[Key] = &[
    key(
        "interval",
        Duration {
            min: 1_000,
            max: 3_600_000,
        },
        Default("5s"),
        "Time between two looks at the source's groups. (MirrorMaker 2: 60 s, new groups 600 s.)",
    ),
    key(
        "write_groups",
        Boolean,
        Default("true"),
        "Translated positions are committed on the target, for groups that have no members there. (MirrorMaker 2: sync.group.offsets.enabled, false.)",
    ),
    key(
        "delete_groups",
        Boolean,
        Default("false"),
        "A group that is deleted on the source is deleted on the target, if causeway created it there and it has had no members there since.",
    ),
    key(
        "metadata",
        OneOf(&["exact", "always", "never"]),
        Default("exact"),
        "Where the metadata that a group stored with a position goes along. exact: where the position is the same offset on both sides; consumers that finish records out of order keep there which they have, counted from the offset, and on the target the same records may lie closer. always: everywhere, as MirrorMaker 2; only where no metadata counts from the offset. never: nowhere.",
    ),
    key(
        "checkpoints",
        Boolean,
        Default("true"),
        "Translated positions are also written as MirrorMaker 2's checkpoints.",
    ),
    key(
        "offset_syncs",
        Boolean,
        Default("true"),
        "MirrorMaker 2's offset syncs are written, to the target. (MirrorMaker 2: offset-syncs.topic.location, source.)",
    ),
    key(
        "map_retention",
        Duration {
            min: 60_000,
            max: 3_650 * 86_400_000,
        },
        Default("720h"),
        "How long the offset map stays exact. Older positions are translated to a bound.",
    ),
    key(
        "map_bytes",
        Bytes {
            min: 1 << 20,
            max: 1 << 40,
        },
        Default("256MiB"),
        "How large the offset map of the flow may grow before its oldest part is thinned.",
    ),
];

static HEARTBEATS: &[Key] = &[
    key(
        "enabled",
        Boolean,
        Default("true"),
        "Heartbeats are written to the target, and those of the source are copied whatever topics says. Of several flows between two clusters one does it for all.",
    ),
    key(
        "interval",
        Duration {
            min: 100,
            max: 3_600_000,
        },
        Default("1s"),
        "Time between two heartbeats.",
    ),
    key(
        "on_source",
        Boolean,
        Default("false"),
        "Heartbeats are also written to the source and watched until they arrive: the only thing ever written there.",
    ),
];

const ON_GAP_WORDS: &[&str] = &["halt", "continue"];

static ON_GAP: &[Key] = &[
    key(
        "default",
        OneOf(ON_GAP_WORDS),
        Default("halt"),
        "What the topics do that are not listed here.",
    ),
    key(
        "halt",
        List(&Pattern),
        Optional,
        "Source topics that halt, where the default is continue.",
    ),
    key(
        "continue",
        List(&Pattern),
        Optional,
        "Source topics that continue, where the default is halt.",
    ),
];

static MIRROR_MAKER: &[Key] = &[
    key(
        "mirror_positions",
        Boolean,
        Default("false"),
        "After each commit the flow's positions are written to offsets_topic too, so that MirrorMaker 2 can go on where causeway stops.",
    ),
    key(
        "connector",
        Text,
        Optional,
        "Name of the MirrorSourceConnector. Default: MirrorSourceConnector, as in dedicated mode.",
    ),
    key(
        "source_alias",
        AnyText,
        Optional,
        "What it calls the source in stored positions; may be empty. Default: the source's alias here.",
    ),
    key(
        "connect_group",
        Text,
        Optional,
        "group.id of its Connect workers. Default: <source>-mm2, as in dedicated mode.",
    ),
    key(
        "offsets_topic",
        Text,
        Optional,
        "Where Connect stores positions, on the target. Default: mm2-offsets.<source>.internal.",
    ),
    key(
        "configs_topic",
        Text,
        Optional,
        "Where Connect stores configurations, on the target. Default: mm2-configs.<source>.internal.",
    ),
    key(
        "status_topic",
        Text,
        Optional,
        "Where Connect stores states, on the target. Default: mm2-status.<source>.internal.",
    ),
];

static THROTTLE: &[Key] = &[
    key(
        "bytes_per_second",
        Bytes {
            min: 1024,
            max: 1 << 40,
        },
        Optional,
        "Key and value bytes per second. Default: no limit.",
    ),
    key(
        "records_per_second",
        Integer {
            min: 1,
            max: u32::MAX as u64,
        },
        Optional,
        "Records per second. Default: no limit.",
    ),
];

static CONFIG_SYNC: &[Key] = &[
    key(
        "interval",
        Duration {
            min: 1_000,
            max: 3_600_000,
        },
        Default("5s"),
        "Time between two comparisons.",
    ),
    key(
        "mode",
        OneOf(&["apply", "report"]),
        Default("apply"),
        "apply: differences are repaired. report: they are shown and counted; nothing is written.",
    ),
    key(
        "exclude",
        List(&Pattern),
        Optional,
        "Topic settings left alone, besides those MirrorMaker 2 leaves alone.",
    ),
    key(
        "replication_factor",
        Integer { min: 1, max: 32_767 },
        Optional,
        "Replication factor of new topics. Default: the source's, at most the number of live brokers of the target.",
    ),
];
