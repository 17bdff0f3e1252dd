//! How a source topic is named on the target, the way back, and which topics are copied. Strings only.

use std::collections::BTreeMap;
use std::fmt;

use regex::Regex;

use crate::kafka::ClusterAlias;

/// MM2's two policies. The separator is `.`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicationPolicy {
    /// `orders` of `seoul` becomes `seoul.orders` (MM2 `DefaultReplicationPolicy`).
    Default,
    /// Names stay (MM2 `IdentityReplicationPolicy`), except those that end in `heartbeats`.
    Identity,
}

/// MM2's name for heartbeat topics, before any prefix.
pub const HEARTBEATS_TOPIC: &str = "heartbeats";

/// Longest topic name Kafka accepts.
pub const MAX_TOPIC_LENGTH: usize = 249;

impl ReplicationPolicy {
    /// The name of a topic of `source` on the target (MM2 `formatRemoteTopic`).
    pub fn format_remote_topic(self, source: &ClusterAlias, topic: &str) -> String {
        if self.renames(topic) {
            format!("{source}.{topic}")
        } else {
            topic.to_owned()
        }
    }

    /// The alias that a name on the target says its records come from (MM2 `topicSource`).
    ///
    /// `None` when the name does not say: not a remote name, or the identity policy. (MM2's identity
    /// policy answers with the source it was configured with, which the name does not tell.)
    pub fn topic_source(self, topic: &str) -> Option<&str> {
        // Java's split drops empty parts at the end: `topic.` is one part.
        let parts = topic.trim_end_matches('.');
        let (source, _) = parts.split_once('.')?;
        self.renames(topic).then_some(source)
    }

    /// The name one cluster upstream (MM2 `upstreamTopic`); `None` when this is where it began.
    pub fn upstream_topic(self, topic: &str) -> Option<&str> {
        if !self.renames(topic) {
            return Some(topic);
        }
        let source = self.topic_source(topic)?;
        Some(&topic[source.len() + ".".len()..])
    }

    /// The name where the records were produced (MM2 `originalTopic`).
    pub fn original_topic(self, topic: &str) -> &str {
        let mut topic = topic;
        loop {
            match self.upstream_topic(topic) {
                Some(upstream) if upstream != topic => topic = upstream,
                _ => return topic,
            }
        }
    }

    /// Whether the topic holds heartbeats, of any cluster upstream (MM2 `isHeartbeatsTopic`). A user's
    /// `app.heartbeats` counts too, as in MM2.
    pub fn is_heartbeats_topic(self, topic: &str) -> bool {
        self.original_topic(topic) == HEARTBEATS_TOPIC
    }

    /// Whether the records of a topic have been on `target` already, by its name (MM2
    /// `MirrorSourceConnector.isCycle`). Identity names tell nothing, so the answer is no.
    pub fn is_cycle(self, topic: &str, target: &ClusterAlias) -> bool {
        let mut topic = topic;
        while let Some(source) = self.topic_source(topic) {
            if source == target.as_str() {
                return true;
            }
            match self.upstream_topic(topic) {
                Some(upstream) if upstream != topic => topic = upstream,
                _ => return false,
            }
        }
        false
    }

    /// Whether a topic is copied to `target`, or why not (MM2 `shouldReplicateTopic`).
    pub fn should_replicate(
        self,
        topic: &str,
        selection: &Selection,
        heartbeats: HeartbeatTopics,
        target: &ClusterAlias,
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
        } else if self.is_cycle(topic, target) {
            Err(Exclusion::Cycle)
        } else {
            Ok(())
        }
    }

    /// Whether this policy prefixes the name. MM2's identity policy treats every name that ends in
    /// `heartbeats` as the default policy does, so that heartbeats of several clusters stay apart.
    fn renames(self, topic: &str) -> bool {
        match self {
            Self::Default => true,
            Self::Identity => topic.ends_with(HEARTBEATS_TOPIC),
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
    policy: ReplicationPolicy,
    selection: &Selection,
    heartbeats: HeartbeatTopics,
    source: &ClusterAlias,
    target: &ClusterAlias,
    topics: impl Iterator<Item = &'a str>,
) -> (BTreeMap<String, String>, BTreeMap<String, Exclusion>) {
    let mut copied = BTreeMap::new();
    let mut excluded = BTreeMap::new();
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    let topics: std::collections::BTreeSet<&str> = topics.collect();
    for topic in topics {
        let remote = policy.format_remote_topic(source, topic);
        let metric_name = remote.replace('.', "_");
        let exclusion = match policy.should_replicate(topic, selection, heartbeats, target) {
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

    #[test]
    fn default_names_are_parsed_as_mm2_parses_them() {
        for (topic, source, upstream, original) in [
            ("orders", None, None, "orders"),
            ("seoul.orders", Some("seoul"), Some("orders"), "orders"),
            ("a.b.c.t", Some("a"), Some("b.c.t"), "t"),
            ("topic.", None, None, "topic."),
            ("topic..", None, None, "topic.."),
            (".x", Some(""), Some("x"), "x"),
            ("a..b", Some("a"), Some(".b"), "b"),
            ("..", None, None, ".."),
        ] {
            assert_eq!(Default.topic_source(topic), source, "{topic}");
            assert_eq!(Default.upstream_topic(topic), upstream, "{topic}");
            assert_eq!(Default.original_topic(topic), original, "{topic}");
        }
    }

    #[test]
    fn identity_keeps_every_name_but_those_of_heartbeats() {
        let seoul = alias("seoul");
        assert_eq!(Identity.format_remote_topic(&seoul, "orders"), "orders");
        assert_eq!(
            Identity.format_remote_topic(&seoul, "app-heartbeats"),
            "seoul.app-heartbeats"
        );
        assert_eq!(Identity.topic_source("seoul.orders"), None);
        assert_eq!(Identity.topic_source("seoul.heartbeats"), Some("seoul"));
        assert_eq!(Identity.upstream_topic("seoul.orders"), Some("seoul.orders"));
        assert!(
            Identity.is_heartbeats_topic("seoul.heartbeats") && Default.is_heartbeats_topic("a.b.heartbeats")
        );
        assert!(!Default.is_heartbeats_topic("app-heartbeats"));
    }

    /// The oracle is MM2's own test of cycles, `MirrorSourceConnectorTest`.
    #[test]
    fn cycles_are_found_as_mm2_finds_them() {
        let target = alias("target");
        let all = selection(&[".*"], &[]);
        let copied = |policy: ReplicationPolicy, topic: &str| {
            policy
                .should_replicate(topic, &all, HeartbeatTopics::ByFilter, &target)
                .is_ok()
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
            let copied = |topic, selection, heartbeats| {
                policy
                    .should_replicate(topic, selection, heartbeats, &alias("busan"))
                    .is_ok()
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
            assert!(!copied("busan.heartbeats", &all, Always));
            for topic in ["us-west_heartbeats", "orders"] {
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
        let names = ["a.b", "a_b", "busan.t", "__x", "skip", "other", &long];
        let (copied, excluded) = select(
            Default,
            &selection(&["a.b", "busan.t", "__x", "skip", "x+"], &["sk.p"]),
            HeartbeatTopics::Always,
            &alias("seoul"),
            &alias("busan"),
            names.into_iter(),
        );
        assert_eq!(copied, [("a.b".to_owned(), "seoul.a.b".to_owned())].into());
        let expected = [
            ("a_b", Exclusion::Collides { with: "a.b".into() }),
            ("busan.t", Exclusion::Cycle),
            ("__x", Exclusion::Internal),
            ("skip", Exclusion::ExcludedBy("sk.p".into())),
            ("other", Exclusion::NotSelected),
            (&long, Exclusion::NameTooLong { len: 255 }),
        ];
        assert_eq!(
            excluded,
            expected.map(|(name, why)| (name.to_owned(), why)).into()
        );
    }

    proptest! {
        #[test]
        fn the_way_back_undoes_the_naming(topic in "[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,20}", source in "[a-zA-Z0-9_-]{1,8}") {
            let source = alias(&source);
            for policy in [Default, Identity] {
                let remote = policy.format_remote_topic(&source, &topic);
                prop_assert_eq!(policy.upstream_topic(&remote), Some(topic.as_str()));
                prop_assert_eq!(policy.original_topic(&remote), policy.original_topic(&topic));
                prop_assert!(remote == topic || policy.is_cycle(&remote, &source));
            }
        }

        #[test]
        fn no_name_panics(topic: String) {
            for policy in [Default, Identity] {
                let _ = (policy.topic_source(&topic), policy.original_topic(&topic), policy.is_cycle(&topic, &alias("x")));
            }
        }
    }
}
