//! What has to change on the target so that its topics follow the source's. Values in, values out.

use std::collections::BTreeMap;
use std::fmt;

use regex::Regex;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::kafka::TopicId;
use crate::kafka::admin::{ConfigEntry, ConfigSource};
use crate::topology::ConfigSyncSpec;

/// Settings that are never synced: MM2's `config.properties.exclude` (`DefaultConfigPropertyFilter`).
/// They belong to a cluster and its brokers, not to the data. `config_sync.exclude` adds to them.
pub const EXCLUDED: [&str; 6] = [
    "follower.replication.throttled.replicas",
    "leader.replication.throttled.replicas",
    "message.timestamp.difference.max.ms",
    "message.timestamp.type",
    "min.insync.replicas",
    "unclean.leader.election.enable",
];

/// One topic as one side has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// Changes when the topic is deleted and created again.
    pub id: TopicId,
    /// Number of partitions.
    pub partitions: i32,
    /// Replicas of each partition.
    pub replication_factor: i32,
    /// All settings, wherever their values come from.
    pub configs: BTreeMap<String, ConfigEntry>,
}

/// One side: topics by name, or why one cannot be read. A topic that does not exist is absent.
pub type Views = BTreeMap<String, Result<TopicView>>;

/// The part of `config_sync:` that the plan depends on.
#[derive(Clone, Debug)]
pub struct Rules {
    exclude: Vec<Regex>,
    replication_factor: Option<i32>,
}

impl Rules {
    /// The rules of a flow. The patterns in `exclude` match whole names, as MM2's do.
    pub fn new(spec: &ConfigSyncSpec) -> Self {
        let pattern = |p: &String| {
            Regex::new(&format!("^(?:{p})$")).expect("reading the topology has refused other patterns")
        };
        Self {
            exclude: spec.exclude.iter().map(pattern).collect(),
            replication_factor: spec.replication_factor,
        }
    }

    fn excludes(&self, key: &str) -> bool {
        EXCLUDED.contains(&key) || self.exclude.iter().any(|pattern| pattern.is_match(key))
    }

    /// The settings that somebody made on this very topic and that may be synced.
    ///
    /// Only those are mirrored. A value that a source broker or the source cluster gives to all its topics
    /// is left out: copied, it would be pinned to each topic and would no longer follow the target's own.
    fn own<'a>(&self, topic: &'a TopicView) -> BTreeMap<&'a str, &'a str> {
        topic
            .configs
            .iter()
            .filter(|(key, entry)| {
                entry.source == ConfigSource::DynamicTopic
                    && !entry.read_only
                    && !entry.sensitive
                    && !self.excludes(key)
            })
            .filter_map(|(key, entry)| Some((key.as_str(), entry.value.as_deref()?)))
            .collect()
    }
}

/// The largest batch a topic takes, as compressed. A larger limit of the target's own stays: batches arrive as the
/// flow compresses them, and may be larger than the source had them.
pub const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// The settings on target topics that are ours, so that removing them from the source removes them there.
///
/// Nothing is stored for this. A setting is ours when we set it, or when both sides were seen with the same
/// value: we would have set it. After a restart the first pass finds nearly all of them again that way. The
/// consequence: a setting which somebody made on both sides by hand is removed from the target once it is
/// removed from the source, as one expects of a mirror. And a setting removed from the source while no
/// daemon was running stays on the target and is reported, since nobody can tell any more whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedKeys(BTreeMap<String, BTreeMap<String, String>>);

impl OwnedKeys {
    fn owns(&self, topic: &str, key: &str) -> bool {
        self.0.get(topic).is_some_and(|keys| keys.contains_key(key))
    }

    /// Learns from what both sides look like now. What cannot be read teaches nothing.
    pub fn observe(
        &mut self,
        rules: &Rules,
        topics: &BTreeMap<String, String>,
        source: &Views,
        target: &Views,
    ) {
        for (name, remote) in topics {
            match (source.get(name), target.get(remote)) {
                (Some(Ok(source)), Some(Ok(target))) => {
                    let (wanted, present) = (rules.own(source), rules.own(target));
                    let keys = self.0.entry(remote.clone()).or_default();
                    // A limit that somebody changed is theirs.
                    keys.retain(|key, ours| {
                        let value = present.get(key.as_str());
                        value.is_some_and(|value| key != MAX_MESSAGE_BYTES || value == ours)
                    });
                    let equal = wanted
                        .iter()
                        .filter(|(key, value)| present.get(*key) == Some(value));
                    keys.extend(equal.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
                }
                (_, None) => {
                    self.0.remove(remote);
                }
                _ => {}
            }
        }
    }

    /// Learns from what has been applied.
    pub fn record(&mut self, changes: &[Change]) {
        for change in changes {
            let keys = self.0.entry(change.topic().to_owned()).or_default();
            match change {
                Change::CreateTopic { configs, .. } => keys.extend(configs.clone()),
                Change::SetConfig { key, value, .. } => {
                    keys.insert(key.clone(), value.clone());
                }
                Change::DeleteConfig { key, .. } => {
                    keys.remove(key);
                }
                Change::GrowPartitions { .. } => {}
            }
        }
    }
}

/// One change on the target. `topic` is the name there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// The topic does not exist yet.
    CreateTopic {
        /// Name on the target.
        topic: String,
        /// As many as the source has.
        partitions: i32,
        /// At most as many as the target has live brokers.
        replication_factor: i32,
        /// Settings by name.
        configs: BTreeMap<String, String>,
    },
    /// The source has more partitions.
    GrowPartitions {
        /// Name on the target.
        topic: String,
        /// Partitions now.
        from: i32,
        /// Partitions wanted.
        to: i32,
    },
    /// The source has another value.
    SetConfig {
        /// Name on the target.
        topic: String,
        /// The setting.
        key: String,
        /// Its value on the source.
        value: String,
        /// Its value on the target now, wherever that comes from; `None` if the target does not tell.
        was: Option<String>,
    },
    /// The source's topic no longer has the setting, and it is ours on the target.
    DeleteConfig {
        /// Name on the target.
        topic: String,
        /// The setting.
        key: String,
    },
}

impl Change {
    /// The name of the topic on the target.
    pub fn topic(&self) -> &str {
        match self {
            Self::CreateTopic { topic, .. }
            | Self::GrowPartitions { topic, .. }
            | Self::SetConfig { topic, .. }
            | Self::DeleteConfig { topic, .. } => topic,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateTopic {
                topic,
                partitions,
                replication_factor,
                configs,
            } => {
                write!(
                    f,
                    "create {topic} partitions={partitions} replication_factor={replication_factor}"
                )?;
                configs
                    .iter()
                    .try_for_each(|(key, value)| write!(f, " {key}={value}"))
            }
            Self::GrowPartitions { topic, from, to } => write!(f, "grow {topic} {from} -> {to}"),
            Self::SetConfig {
                topic,
                key,
                value,
                was,
            } => {
                let was = was.as_deref().unwrap_or("unknown");
                write!(f, "set {topic} {key}={value} (was {was})")
            }
            Self::DeleteConfig { topic, key } => write!(f, "delete {topic} {key} (source default)"),
        }
    }
}

/// What one pass wants to change, and what it can only tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Changes, in the order of the topics.
    pub changes: Vec<Change>,
    /// Differences that are never repaired, one line each.
    pub warnings: Vec<String>,
    /// Topics that cannot be judged, one line each: what was seen and what to do.
    pub errors: Vec<String>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.changes
            .iter()
            .try_for_each(|change| writeln!(f, "{change}"))?;
        self.warnings
            .iter()
            .try_for_each(|line| writeln!(f, "warning: {line}"))?;
        self.errors
            .iter()
            .try_for_each(|line| writeln!(f, "error: {line}"))
    }
}

/// What has to change so that each topic of `topics` (name on the source → name on the target) has the
/// source's partitions and settings. New topics take the source's replication factor, or that of the rules,
/// but not more than the target has live brokers.
pub fn plan(
    rules: &Rules,
    topics: &BTreeMap<String, String>,
    source: &Views,
    target: &Views,
    live_brokers: usize,
    owned: &OwnedKeys,
) -> Plan {
    let mut plan = Plan::default();
    for (name, remote) in topics {
        match (source.get(name), target.get(remote)) {
            // Deleted since the topics were listed.
            (None, _) => {}
            (Some(Err(error)), _) => plan.errors.push(error_line(name, error)),
            (Some(Ok(_)), Some(Err(error))) => plan.errors.push(error_line(remote, error)),
            (Some(Ok(source)), None) => plan.create(rules, remote, source, live_brokers),
            (Some(Ok(source)), Some(Ok(target))) => plan.align(rules, remote, source, target, owned),
        }
    }
    plan
}

impl Plan {
    fn create(&mut self, rules: &Rules, topic: &str, source: &TopicView, live_brokers: usize) {
        let wanted = rules.replication_factor.unwrap_or(source.replication_factor);
        let possible = i32::try_from(live_brokers).unwrap_or(i32::MAX).max(1);
        if possible < wanted {
            self.warnings.push(format!(
                "{topic}: replication factor {possible} instead of {wanted}, because so many brokers are alive on the target"
            ));
        }
        self.changes.push(Change::CreateTopic {
            topic: topic.to_owned(),
            partitions: source.partitions,
            replication_factor: wanted.min(possible),
            configs: rules
                .own(source)
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        });
    }

    fn align(
        &mut self,
        rules: &Rules,
        topic: &str,
        source: &TopicView,
        target: &TopicView,
        owned: &OwnedKeys,
    ) {
        if target.partitions < source.partitions {
            self.changes.push(Change::GrowPartitions {
                topic: topic.to_owned(),
                from: target.partitions,
                to: source.partitions,
            });
        } else if source.partitions < target.partitions {
            self.warnings.push(format!(
                "{topic}: the target has {} partitions and the source {}; partitions are never removed",
                target.partitions, source.partitions
            ));
        }
        let (wanted, present) = (rules.own(source), rules.own(target));
        for (key, value) in &wanted {
            let own = present.get(key);
            let number = |text: &str| text.parse::<u64>().ok();
            if let Some(own) = own
                && *key == MAX_MESSAGE_BYTES
                && number(value) < number(own)
                && !owned.owns(topic, key)
            {
                self.warnings.push(format!(
                    "{topic}: kept: {key}={own} of the target's own, larger than the source's {value}"
                ));
            } else if own != Some(value) {
                self.changes.push(Change::SetConfig {
                    topic: topic.to_owned(),
                    key: (*key).to_owned(),
                    value: (*value).to_owned(),
                    was: target.configs.get(*key).and_then(|entry| entry.value.clone()),
                });
            }
        }
        for (key, value) in present.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
            if owned.owns(topic, key) {
                self.changes.push(Change::DeleteConfig {
                    topic: topic.to_owned(),
                    key: (*key).to_owned(),
                });
            } else {
                self.warnings
                    .push(format!("{topic}: drift: the target has {key}={value} of its own"));
            }
        }
    }
}

/// One line for one topic: what was seen, and what the operator can do.
pub(super) fn error_line(what: impl fmt::Display, error: &Error) -> String {
    format!("{what}: {}", error.with_advice())
}
