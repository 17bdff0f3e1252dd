//! How a source topic is named on the target, the way back, and which topics are copied. Strings only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use regex::Regex;

use crate::kafka::ClusterAlias;

/// MM2's two policies. The separator is `.`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicationPolicy {
    /// `orders` of `seoul` becomes `seoul.orders` (MM2 `DefaultReplicationPolicy`).
    Default,
    /// Names stay (MM2 `IdentityReplicationPolicy`), except those of heartbeats, so that those of several
    /// clusters stay apart.
    Identity,
}

/// MM2's name for heartbeat topics, before any prefix.
pub const HEARTBEATS_TOPIC: &str = "heartbeats";

/// Longest topic name Kafka accepts.
pub const MAX_TOPIC_LENGTH: usize = 249;

/// Takes a remote name apart into the alias it claims to come from and its name there (MM2 `topicSource` and
/// `upstreamTopic` of `DefaultReplicationPolicy`). `None`: not a remote name.
fn upstream(topic: &str) -> Option<(&str, &str)> {
    // Java's split drops empty parts at the end: `topic.` is one part.
    let parts = topic.trim_end_matches('.');
    let (source, _) = parts.split_once('.')?;
    Some((source, &topic[source.len() + ".".len()..]))
}

/// How a flow names and chooses topics.
#[derive(Clone, Copy, Debug)]
pub struct Naming<'a> {
    /// What becomes of names.
    pub policy: ReplicationPolicy,
    /// Where topics come from.
    pub source: &'a ClusterAlias,
    /// Where they go.
    pub target: &'a ClusterAlias,
    /// Every alias that is known.
    pub aliases: &'a BTreeSet<ClusterAlias>,
}

impl Naming<'_> {
    /// The name of a source topic on the target (MM2 `formatRemoteTopic`).
    pub fn format_remote_topic(self, topic: &str) -> String {
        if self.renames(topic) {
            format!("{}.{topic}", self.source)
        } else {
            topic.to_owned()
        }
    }

    /// Whether the topic holds MM2's heartbeats: [`HEARTBEATS_TOPIC`], or what clusters that we know made of
    /// theirs (`seoul.heartbeats`, `central.seoul.heartbeats`).
    ///
    /// MM2 takes any name for one whose last part is `heartbeats`, and with the identity policy renames all that
    /// end so; a user's `app.heartbeats` is the user's.
    pub fn is_heartbeats_topic(self, topic: &str) -> bool {
        topic == HEARTBEATS_TOPIC
            || upstream(topic).is_some_and(|(source, topic)| {
                self.aliases.iter().any(|alias| alias.as_str() == source) && self.is_heartbeats_topic(topic)
            })
    }

    /// Whether the records of a source topic have been on the target already, or on the source before, as far as
    /// its name and what is known of prefixes tell. Names that were kept tell nothing.
    ///
    /// MM2's `MirrorSourceConnector.isCycle` looks for the target's alias only, and finds none where another
    /// daemon calls the clusters something else (KAFKA-9914).
    fn cycle(self, topic: &str, prefixes: &Prefixes) -> Result<(), Exclusion> {
        if !self.renames(topic) {
            return Ok(());
        }
        let way = std::iter::successors(upstream(topic), |(_, topic)| upstream(topic));
        let way: Vec<&str> = way.map(|(alias, _)| alias).collect();
        let Some((prefix, before)) = way.split_first() else {
            return Ok(());
        };
        let stands = prefixes.0.get(*prefix);
        let unknown = match stands {
            Some(Stands::Elsewhere) => before,
            _ => &way[..],
        };
        let prefix = (*prefix).to_owned();
        if way.contains(&self.target.as_str()) {
            Err(Exclusion::Cycle(Cycle::Named))
        } else if stands == Some(&Stands::Target) {
            Err(Exclusion::Cycle(Cycle::Proven { prefix }))
        } else if stands == Some(&Stands::Unsaid) {
            Err(Exclusion::OriginUnsaid { prefix })
        } else if stands == Some(&Stands::Somewhere) && prefix == self.source.as_str() {
            Err(Exclusion::Cycle(Cycle::Itself))
        } else if let Some((newest, older)) = unknown.split_first()
            && older.contains(newest)
        {
            Err(Exclusion::Cycle(Cycle::Repeats {
                prefix: (*newest).to_owned(),
            }))
        } else {
            Ok(())
        }
    }

    /// The alias that a source topic claims to come from, where its name is one that tells.
    pub fn claimed_source(self, topic: &str) -> Option<(&str, &str)> {
        upstream(topic).filter(|_| self.renames(topic))
    }

    /// Whether a source topic is copied, or why not (MM2 `shouldReplicateTopic`).
    pub fn should_replicate(
        self,
        topic: &str,
        selection: &Selection,
        heartbeats: HeartbeatTopics,
        prefixes: &Prefixes,
    ) -> Result<(), Exclusion> {
        let heartbeats = match self.is_heartbeats_topic(topic) {
            true => heartbeats,
            false => HeartbeatTopics::ByFilter,
        };
        let filtered = match heartbeats {
            HeartbeatTopics::Always => Ok(()),
            HeartbeatTopics::ByFilter => selection.decide(topic),
            HeartbeatTopics::Elsewhere => Err(Exclusion::HeartbeatsElsewhere),
        };
        if filtered.is_err() {
            filtered
        } else if is_internal_topic(topic) {
            Err(Exclusion::Internal)
        } else {
            self.cycle(topic, prefixes)
        }
    }

    /// Whether the name gets a prefix.
    fn renames(self, topic: &str) -> bool {
        match self.policy {
            ReplicationPolicy::Default => true,
            ReplicationPolicy::Identity => self.is_heartbeats_topic(topic),
        }
    }
}

/// What the prefixes of names on the source stand for: the aliases by which whoever writes there knows clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes(pub BTreeMap<String, Stands>);

/// What one prefix stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// The target, whatever we call it.
    Target,
    /// Another cluster than the target.
    Elsewhere,
    /// A flow that uses it has not told yet.
    Unsaid,
    /// A replicator uses it and does not tell.
    Somewhere,
}

/// Topics of Kafka, of MM2 and of causeway, which are never copied.
///
/// This is `ReplicationPolicy.isInternalTopic` of MM2 up to 3.9, which also leaves out user topics such as
/// `billing.internal`. MM2 4.0 (KIP-1074) copies those, and would copy causeway's own topics with them.
pub fn is_internal_topic(topic: &str) -> bool {
    topic.starts_with("__")
        || topic.starts_with('.')
        || topic.ends_with("-internal")
        || topic.ends_with(".internal")
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
        self.includes(name) && self.excluded_by(name).is_none()
    }

    /// The exclude pattern, as written, that keeps a name out.
    pub fn excluded_by(&self, name: &str) -> Option<&str> {
        self.exclude
            .iter()
            .find(|(_, r)| r.is_match(name))
            .map(|(text, _)| text.as_str())
    }

    fn includes(&self, name: &str) -> bool {
        self.include.iter().any(|(_, r)| r.is_match(name))
    }

    fn decide(&self, topic: &str) -> Result<(), Exclusion> {
        if !self.includes(topic) {
            return Err(Exclusion::NotSelected);
        }
        match self.excluded_by(topic) {
            Some(pattern) => Err(Exclusion::ExcludedBy(pattern.to_owned())),
            None => Ok(()),
        }
    }
}

/// Whether a flow copies heartbeats topics, `heartbeats` and what other clusters made of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatTopics {
    /// Whatever its filter says (MM2 4.0 `heartbeats.replication.enabled`).
    Always,
    /// As its filter says, like any other topic.
    ByFilter,
    /// Not at all: another flow between the same clusters does.
    Elsewhere,
}

/// Why a topic is not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// No `include` matches.
    NotSelected,
    /// This `exclude`, as written, matches.
    ExcludedBy(String),
    /// Another flow between the same clusters copies heartbeats.
    HeartbeatsElsewhere,
    /// A topic of Kafka, of MM2 or of causeway.
    Internal,
    /// Its records have been on the target, or on the source before.
    Cycle(Cycle),
    /// The flow that puts this prefix before names has not stored yet from which cluster it copies.
    OriginUnsaid {
        /// What the name begins with.
        prefix: String,
    },
    /// Its name on the target would have this many characters; Kafka accepts 249.
    NameTooLong {
        /// Characters.
        len: usize,
    },
}

/// How it is known that a topic goes round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cycle {
    /// The target's alias is in its name.
    Named,
    /// A flow into the source that puts this prefix before names copies from the target.
    Proven {
        /// What the name begins with.
        prefix: String,
    },
    /// It claims to come from the very cluster it is read from, and a replicator there writes such names.
    Itself,
    /// It claims to have been on one cluster twice.
    Repeats {
        /// What that cluster is called.
        prefix: String,
    },
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exclusion::NotSelected => f.write_str("no include pattern matches it"),
            Exclusion::ExcludedBy(pattern) => write!(f, "exclude pattern `{pattern}` matches it"),
            Exclusion::HeartbeatsElsewhere => {
                f.write_str("another flow between these clusters copies the heartbeats")
            }
            Exclusion::Internal => f.write_str("it is an internal topic by its name"),
            Exclusion::Cycle(Cycle::Named) => f.write_str("by its name its records come from the target"),
            Exclusion::Cycle(Cycle::Proven { prefix }) => write!(
                f,
                "its records come from the target: the flow that writes `{prefix}.…` copies topics of the target, by their ids"
            ),
            Exclusion::Cycle(Cycle::Itself) => {
                f.write_str("by its name its records come from the cluster it is read from")
            }
            Exclusion::Cycle(Cycle::Repeats { prefix }) => {
                write!(
                    f,
                    "by its name its records have been on a cluster `{prefix}` twice"
                )
            }
            Exclusion::OriginUnsaid { prefix } => write!(
                f,
                "the flow that writes `{prefix}.…` has not stored yet which topics it copies, so they could be the target's"
            ),
            Exclusion::NameTooLong { len } => {
                write!(
                    f,
                    "its name on the target would have {len} characters, Kafka accepts {MAX_TOPIC_LENGTH}"
                )
            }
        }
    }
}

/// Which of the source's topics a flow copies and under which name on the target, and why not the others.
pub fn select<'a>(
    naming: Naming<'_>,
    selection: &Selection,
    heartbeats: HeartbeatTopics,
    prefixes: &Prefixes,
    topics: impl Iterator<Item = &'a str>,
) -> (BTreeMap<String, String>, BTreeMap<String, Exclusion>) {
    let mut copied = BTreeMap::new();
    let mut excluded = BTreeMap::new();
    for topic in topics {
        let remote = naming.format_remote_topic(topic);
        let exclusion = match naming.should_replicate(topic, selection, heartbeats, prefixes) {
            Err(exclusion) => Some(exclusion),
            Ok(()) if remote.len() > MAX_TOPIC_LENGTH => Some(Exclusion::NameTooLong { len: remote.len() }),
            Ok(()) => None,
        };
        match exclusion {
            Some(exclusion) => {
                excluded.insert(topic.to_owned(), exclusion);
            }
            None => {
                copied.insert(topic.to_owned(), remote);
            }
        }
    }
    (copied, excluded)
}

/// What Kafka takes a topic name for in names of metrics; it refuses to create a second topic with the same
/// (`Topic.hasCollision`).
pub fn metric_name(topic: &str) -> String {
    topic.replace('.', "_")
}

/// Of names that are to be created beside those that are there, the ones that Kafka refuses, each with the name
/// it takes them for. Of several new ones the first in alphabetical order is created.
pub fn collisions<'a>(
    new: impl Iterator<Item = &'a str>,
    present: impl Iterator<Item = &'a str>,
) -> BTreeMap<String, String> {
    let mut taken: BTreeMap<String, &str> = present.map(|name| (metric_name(name), name)).collect();
    let new: BTreeSet<&str> = new.collect();
    let mut refused = BTreeMap::new();
    for name in new {
        let first = taken.entry(metric_name(name)).or_insert(name);
        if *first != name {
            refused.insert(name.to_owned(), (*first).to_owned());
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::ReplicationPolicy::{Default, Identity};
    use super::*;
    use proptest::prelude::*;

    fn alias(name: &str) -> ClusterAlias {
        ClusterAlias::new(name)
    }

    fn selection(include: &[&str], exclude: &[&str]) -> Selection {
        let compile = |patterns: &[&str]| {
            patterns
                .iter()
                .map(|p| ((*p).to_owned(), Regex::new(&format!("^(?:{p})$")).unwrap()))
                .collect()
        };
        Selection {
            include: compile(include),
            exclude: compile(exclude),
        }
    }

    /// What a flow `source->target` makes of names, with these aliases known.
    fn naming<T>(policy: ReplicationPolicy, aliases: &[&str], ask: impl Fn(Naming<'_>) -> T) -> T {
        let aliases = aliases.iter().map(|it| alias(it)).collect();
        ask(Naming {
            policy,
            source: &alias("source"),
            target: &alias("target"),
            aliases: &aliases,
        })
    }

    #[test]
    fn remote_names_are_taken_apart_as_mm2_does_it() {
        for (topic, apart) in [
            ("orders", None),
            ("seoul.orders", Some(("seoul", "orders"))),
            ("a.b.c.t", Some(("a", "b.c.t"))),
            ("topic.", None),
            ("topic..", None),
            (".x", Some(("", "x"))),
            ("a..b", Some(("a", ".b"))),
            ("..", None),
        ] {
            assert_eq!(upstream(topic), apart, "{topic}");
        }
    }

    #[test]
    fn identity_keeps_every_name_but_those_of_mm2s_heartbeats() {
        let remote = |topic: &str| naming(Identity, &["seoul"], |it| it.format_remote_topic(topic));
        for topic in ["orders", "app-heartbeats", "app.heartbeats", "heartbeats.app"] {
            assert_eq!(remote(topic), topic);
        }
        for topic in ["heartbeats", "seoul.heartbeats"] {
            assert_eq!(remote(topic), format!("source.{topic}"));
        }
    }

    #[test]
    fn only_the_copies_of_heartbeats_that_known_clusters_made_are_mm2s() {
        for policy in [Default, Identity] {
            let is = |topic: &str| naming(policy, &["a", "b"], |it| it.is_heartbeats_topic(topic));
            for topic in ["heartbeats", "a.heartbeats", "b.a.heartbeats", "a.a.heartbeats"] {
                assert!(is(topic), "{topic}");
            }
            for topic in [
                "app.heartbeats",
                "device-heartbeats",
                "a.app.heartbeats",
                "app.a.heartbeats",
                "a-heartbeats",
                "a.heartbeats.b",
                ".heartbeats",
                "heartbeats.",
                "a..heartbeats",
            ] {
                assert!(!is(topic), "{topic}");
            }
        }
    }

    /// The oracle is MM2's own test of cycles, `MirrorSourceConnectorTest`.
    #[test]
    fn cycles_are_found_as_mm2_finds_them() {
        let all = selection(&[".*"], &[]);
        let copied = |policy, topic: &str| {
            naming(policy, &["source", "target"], |it| {
                it.should_replicate(topic, &all, HeartbeatTopics::ByFilter, &Prefixes::default())
                    .is_ok()
            })
        };
        for topic in [
            "target.topic1",
            "target.source.topic1",
            "source.target.topic1",
            "source.target.source.topic1",
            "target.source.target.topic1",
        ] {
            assert!(!copied(Default, topic), "{topic}");
            assert!(copied(Identity, topic), "{topic}");
            assert!(
                !copied(Identity, &topic.replace("topic1", "heartbeats")),
                "{topic}"
            );
        }
        for topic in ["topic1", "source.topic1", "heartbeats", "source.heartbeats"] {
            assert!(copied(Default, topic) && copied(Identity, topic), "{topic}");
        }
    }

    /// The oracle is MM2's own `MirrorSourceConnectorTest`: `testReplicatesHeartbeatsByDefault`, `…DespiteFilter`,
    /// `testDoesNotReplicateHeartbeatsWhenDisabled`, `…WhenDisabledButFilterAllows`.
    #[test]
    fn heartbeats_are_copied_as_mm2_copies_them() {
        use HeartbeatTopics::{Always, ByFilter, Elsewhere};
        let (all, nothing) = (selection(&[".*"], &[]), selection(&[".*"], &[".*"]));
        for policy in [Default, Identity] {
            let copied = |topic: &str, selection, heartbeats| {
                naming(policy, &["us-west", "target"], |it| {
                    it.should_replicate(topic, selection, heartbeats, &Prefixes::default())
                        .is_ok()
                })
            };
            for topic in ["heartbeats", "us-west.heartbeats"] {
                assert!(
                    copied(topic, &all, Always) && copied(topic, &nothing, Always),
                    "{topic}"
                );
                assert!(
                    copied(topic, &all, ByFilter) && !copied(topic, &nothing, ByFilter),
                    "{topic}"
                );
                assert!(!copied(topic, &all, Elsewhere), "{topic}");
            }
            assert!(!copied("target.heartbeats", &all, Always));
            for topic in ["us-west_heartbeats", "app.heartbeats", "orders"] {
                assert!(
                    !copied(topic, &nothing, Always) && copied(topic, &all, Elsewhere),
                    "{topic}"
                );
            }
        }
    }

    #[test]
    fn internal_topics_are_never_copied() {
        for topic in [
            "__consumer_offsets",
            ".hidden",
            "mm2-offset-syncs.b.internal",
            "a.checkpoints.internal",
            "connect-internal",
            "causeway.dr.a.progress.internal",
        ] {
            assert!(is_internal_topic(topic), "{topic}");
        }
        assert!(!is_internal_topic("internal") && !is_internal_topic("_schemas"));
    }

    #[test]
    fn every_topic_is_either_copied_or_left_out_for_a_reason() {
        let long = "x".repeat(MAX_TOPIC_LENGTH);
        let names = ["a.b", "target.t", "__x", "skip", "other", &long];
        let selection = selection(&["a.b", "target.t", "__x", "skip", "x+"], &["sk.p"]);
        let (copied, excluded) = naming(Default, &[], |it| {
            select(
                it,
                &selection,
                HeartbeatTopics::Always,
                &Prefixes::default(),
                names.into_iter(),
            )
        });
        assert_eq!(copied, [("a.b".to_owned(), "source.a.b".to_owned())].into());
        let expected = [
            ("target.t", Exclusion::Cycle(Cycle::Named)),
            ("__x", Exclusion::Internal),
            ("skip", Exclusion::ExcludedBy("sk.p".into())),
            ("other", Exclusion::NotSelected),
            (&long, Exclusion::NameTooLong { len: 256 }),
        ];
        assert_eq!(
            excluded,
            expected.map(|(name, why)| (name.to_owned(), why)).into()
        );
    }

    #[test]
    fn a_name_that_goes_round_is_known_by_what_its_prefix_stands_for() {
        let repeats = |prefix: &str| {
            Err(Exclusion::Cycle(Cycle::Repeats {
                prefix: prefix.into(),
            }))
        };
        let proven = Err(Exclusion::Cycle(Cycle::Proven { prefix: "x".into() }));
        let unsaid = Err(Exclusion::OriginUnsaid { prefix: "x".into() });
        for (topic, stands, expected) in [
            ("orders", Some(Stands::Target), Ok(())),
            ("x.orders", Some(Stands::Target), proven.clone()),
            ("x.y.orders", Some(Stands::Target), proven),
            ("y.x.orders", Some(Stands::Target), Ok(())),
            ("x.orders", Some(Stands::Elsewhere), Ok(())),
            ("x.orders", Some(Stands::Unsaid), unsaid),
            ("x.orders", Some(Stands::Somewhere), Ok(())),
            ("x.orders", None, Ok(())),
            // A chain of clusters that each call the one before `x` differs from a ring only by its length.
            ("x.x.orders", Some(Stands::Elsewhere), Ok(())),
            ("x.x.x.orders", Some(Stands::Elsewhere), repeats("x")),
            ("x.x.orders", None, repeats("x")),
            ("x.y.x.orders", Some(Stands::Somewhere), repeats("x")),
            ("x.y.y.orders", None, Ok(())),
            ("x.y.x", None, Ok(())),
            (
                "x.target.orders",
                Some(Stands::Elsewhere),
                Err(Exclusion::Cycle(Cycle::Named)),
            ),
        ] {
            let prefixes = Prefixes(stands.map(|it| ("x".to_owned(), it)).into_iter().collect());
            let cycle = naming(Default, &[], |it| it.cycle(topic, &prefixes));
            assert_eq!(cycle, expected, "{topic} {stands:?}");
            assert_eq!(naming(Identity, &[], |it| it.cycle(topic, &prefixes)), Ok(()));
        }
        // A user may call a topic as we call its cluster; a copy from there is a cycle.
        for (stands, expected) in [
            (None, Ok(())),
            (Some(Stands::Elsewhere), Ok(())),
            (Some(Stands::Somewhere), Err(Exclusion::Cycle(Cycle::Itself))),
        ] {
            let prefixes = Prefixes(stands.map(|it| ("source".to_owned(), it)).into_iter().collect());
            let cycle = naming(Default, &[], |it| it.cycle("source.orders", &prefixes));
            assert_eq!(cycle, expected, "{stands:?}");
        }
    }

    /// Kafka's `TopicTest.testTopicHasCollision` and `testTopicHasCollisionChars`.
    #[test]
    fn of_names_that_kafka_takes_for_one_the_first_stays() {
        let refused =
            |new: &[&str], present: &[&str]| collisions(new.iter().copied(), present.iter().copied());
        let taken = |name: &str, first: &str| BTreeMap::from([(name.to_owned(), first.to_owned())]);
        assert_eq!(refused(&["a_b"], &["a.b"]), taken("a_b", "a.b"));
        assert_eq!(refused(&["a.b"], &["a_b", "x"]), taken("a.b", "a_b"));
        assert_eq!(refused(&["a_b", "a.b"], &[]), taken("a_b", "a.b"));
        assert_eq!(refused(&["a.b.c", "a_b.c"], &["a.b_c"]).len(), 2);
        assert_eq!(refused(&["ab", "a.b", "a-b"], &["abc"]), BTreeMap::new());
    }

    proptest! {
        /// Its own name, or one that says where it comes from.
        #[test]
        fn the_way_back_undoes_the_naming(topic in "[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,20}|(a[.])?heartbeats") {
            for policy in [Default, Identity] {
                let remote = naming(policy, &["a"], |it| it.format_remote_topic(&topic));
                prop_assert!(remote == topic || upstream(&remote) == Some(("source", topic.as_str())), "{}", remote);
            }
        }

        #[test]
        fn no_name_panics(topic: String) {
            for policy in [Default, Identity] {
                let _ = naming(policy, &["a"], |it| (it.format_remote_topic(&topic), it.cycle(&topic, &Prefixes::default())));
            }
        }
    }
}
