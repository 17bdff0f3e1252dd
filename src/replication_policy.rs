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

    /// Whether the records of a source topic have been on the target already, by its name (MM2
    /// `MirrorSourceConnector.isCycle`). Names that were kept tell nothing, so the answer is no.
    fn is_cycle(self, topic: &str) -> bool {
        self.renames(topic)
            && std::iter::successors(upstream(topic), |(_, topic)| upstream(topic))
                .any(|(source, _)| source == self.target.as_str())
    }

    /// Whether a source topic is copied, or why not (MM2 `shouldReplicateTopic`).
    pub fn should_replicate(
        self,
        topic: &str,
        selection: &Selection,
        heartbeats: HeartbeatTopics,
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
        } else if self.is_cycle(topic) {
            Err(Exclusion::Cycle)
        } else {
            Ok(())
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
    /// Its name says that its records come from the target.
    Cycle,
    /// Its name on the target would have this many characters; Kafka accepts 249.
    NameTooLong {
        /// Characters.
        len: usize,
    },
    /// Its name on the target and that of this source topic are the same to Kafka, which does not tell
    /// `.` from `_` in metric names and refuses to create the second.
    Collides {
        /// The source topic that is copied.
        with: String,
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
            Exclusion::Cycle => f.write_str("by its name its records come from the target"),
            Exclusion::NameTooLong { len } => {
                write!(
                    f,
                    "its name on the target would have {len} characters, Kafka accepts {MAX_TOPIC_LENGTH}"
                )
            }
            Exclusion::Collides { with } => {
                write!(
                    f,
                    "Kafka cannot tell its name on the target from that of `{with}` (`.` and `_` are the same there)"
                )
            }
        }
    }
}

/// Which of the source's topics a flow copies and under which name on the target, and why not the others.
///
/// Of names that collide the first in alphabetical order is copied.
pub fn select<'a>(
    naming: Naming<'_>,
    selection: &Selection,
    heartbeats: HeartbeatTopics,
    topics: impl Iterator<Item = &'a str>,
) -> (BTreeMap<String, String>, BTreeMap<String, Exclusion>) {
    let mut copied = BTreeMap::new();
    let mut excluded = BTreeMap::new();
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    let topics: BTreeSet<&str> = topics.collect();
    for topic in topics {
        let remote = naming.format_remote_topic(topic);
        let metric_name = remote.replace('.', "_");
        let exclusion = match naming.should_replicate(topic, selection, heartbeats) {
            Err(exclusion) => Some(exclusion),
            Ok(()) if remote.len() > MAX_TOPIC_LENGTH => Some(Exclusion::NameTooLong { len: remote.len() }),
            Ok(()) => taken
                .get(&metric_name)
                .map(|with| Exclusion::Collides { with: with.clone() }),
        };
        match exclusion {
            Some(exclusion) => {
                excluded.insert(topic.to_owned(), exclusion);
            }
            None => {
                taken.insert(metric_name, topic.to_owned());
                copied.insert(topic.to_owned(), remote);
            }
        }
    }
    (copied, excluded)
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
                it.should_replicate(topic, &all, HeartbeatTopics::ByFilter)
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
                    it.should_replicate(topic, selection, heartbeats).is_ok()
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
        let names = ["a.b", "a_b", "target.t", "__x", "skip", "other", &long];
        let selection = selection(&["a.b", "target.t", "__x", "skip", "x+"], &["sk.p"]);
        let (copied, excluded) = naming(Default, &[], |it| {
            select(it, &selection, HeartbeatTopics::Always, names.into_iter())
        });
        assert_eq!(copied, [("a.b".to_owned(), "source.a.b".to_owned())].into());
        let expected = [
            ("a_b", Exclusion::Collides { with: "a.b".into() }),
            ("target.t", Exclusion::Cycle),
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
                let _ = naming(policy, &["a"], |it| (it.format_remote_topic(&topic), it.is_cycle(&topic)));
            }
        }
    }
}
