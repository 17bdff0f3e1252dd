//! Which clusters the prefixes of names on the source stand for, by what those that write there have left.
//!
//! A flow into the source keeps its progress there, in a topic that bears the alias by which it knows its own source;
//! each of its records holds the id of a topic it copies. Kafka makes those ids once in the world, so one that the
//! target has proves that the alias stands for the target, whatever the two daemons call it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::message::Message;
use serde::Deserialize;

use crate::context::ADMIN_TIMEOUT;
use crate::error::{Code, Result, Side};
use crate::kafka::admin::Admin;
use crate::kafka::client::ClusterConnection;
use crate::kafka::tail::{absent_is_empty, read_topic};
use crate::names::replication_policy::{Prefixes, Stands};
use crate::topology::FlowSpec;

/// How long the source may take for one more record of a progress topic.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most topics of a flow that are looked for on the target: one that is there decides.
const SAMPLE: usize = 200;

/// Asks, and remembers what does not change any more.
#[derive(Debug)]
pub struct Origins {
    source: ClusterConnection,
    /// By the progress topic of a flow into the source.
    known: BTreeMap<String, Stands>,
}

/// Key of a progress record, as far as it matters here.
#[derive(Deserialize)]
struct Key {
    topic: String,
}

/// Value of a progress record, as far as it matters here.
#[derive(Deserialize)]
struct Value {
    topic_id: String,
}

impl Origins {
    /// Nothing is known yet, and nothing is asked.
    pub fn new(source: ClusterConnection) -> Self {
        Self {
            source,
            known: BTreeMap::new(),
        }
    }

    /// What the prefixes of the topics that `flow` would copy stand for. `names` are those of the source.
    ///
    /// # Errors
    /// A cluster cannot be asked.
    pub(super) fn look<'a>(
        &mut self,
        source: &Admin,
        target: &Admin,
        flow: &FlowSpec,
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<Prefixes> {
        let naming = flow.naming();
        let nothing_known = Prefixes::default();
        let mut used: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for name in names.clone() {
            let Some((prefix, upstream)) = naming.claimed_source(name) else {
                continue;
            };
            let copied = naming.should_replicate(name, &flow.topics, flow.heartbeat_topics, &nothing_known);
            if copied.is_ok() {
                used.entry(prefix).or_default().insert(upstream);
            }
        }
        let mut traces: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for name in names {
            if let Some(prefix) = trace(name).filter(|prefix| used.contains_key(prefix)) {
                traces.entry(prefix).or_default().push(name);
            }
        }
        let mut prefixes = Prefixes::default();
        for (prefix, traces) in traces {
            let mut stands = vec![];
            for topic in traces {
                stands.push(match self.known.get(topic) {
                    Some(known) => *known,
                    None if topic.ends_with(PROGRESS) => self.ask(source, target, topic, &used[prefix])?,
                    None => Stands::Somewhere,
                });
            }
            let weightiest = [
                Stands::Target,
                Stands::Unsaid,
                Stands::Elsewhere,
                Stands::Somewhere,
            ];
            let stands = weightiest.into_iter().find(|it| stands.contains(it));
            prefixes
                .0
                .extend(stands.map(|stands| (prefix.to_owned(), stands)));
        }
        Ok(prefixes)
    }

    /// Where the flow of a progress topic copies from. `upstream`: the names from which topics with its prefix
    /// could have been copied.
    fn ask(
        &mut self,
        source: &Admin,
        target: &Admin,
        topic: &str,
        upstream: &BTreeSet<&str>,
    ) -> Result<Stands> {
        let mut ids: BTreeMap<String, String> = BTreeMap::new();
        let read = read_topic(source, &self.source, Side::Source, topic, PATIENCE, |record| {
            let json = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
            let key = serde_json::from_slice::<Key>(&json(record.key()));
            let value = serde_json::from_slice::<Value>(&json(record.payload()));
            if let (Ok(key), Ok(value)) = (key, value) {
                ids.insert(key.topic, value.topic_id);
            }
        });
        match absent_is_empty(read) {
            Err(error) if error.code == Code::SourceNotAuthorized => {
                self.known.insert(topic.to_owned(), Stands::Somewhere);
                return Ok(Stands::Somewhere);
            }
            read => read?,
        }
        let asked: Vec<&str> = match ids.is_empty() {
            true => upstream.iter().copied().collect(),
            false => ids.keys().map(String::as_str).take(SAMPLE).collect(),
        };
        let there = target.describe_topics(&asked, ADMIN_TIMEOUT)?;
        let mut there = there
            .iter()
            .filter_map(|(name, topic)| Some((name, topic.as_ref().ok()?)));
        let stands = if ids.is_empty() {
            // It has stored nothing yet. If the target has no such topic, it is none of the target's.
            return Ok(match there.next() {
                Some(_) => Stands::Unsaid,
                None => Stands::Elsewhere,
            });
        } else if there.any(|(name, topic)| ids.get(name).is_some_and(|id| *id == *topic.id.0)) {
            Stands::Target
        } else {
            Stands::Elsewhere
        };
        self.known.insert(topic.to_owned(), stands);
        Ok(stands)
    }
}

/// How the names of progress topics end: `causeway.<topology>.<source>.progress.internal`.
const PROGRESS: &str = ".progress.internal";

/// The alias that a topic of a replicator tells that its copies begin with: causeway's progress, MM2's checkpoints
/// and positions.
fn trace(topic: &str) -> Option<&str> {
    let inner = topic.strip_suffix(".internal")?;
    let alias = match inner.split('.').collect::<Vec<_>>()[..] {
        ["causeway", _, alias, "progress"] | [alias, "checkpoints"] | ["mm2-offsets", alias] => alias,
        _ => return None,
    };
    Some(alias)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicators_are_known_by_the_topics_they_keep() {
        for (topic, alias) in [
            ("causeway.dr.seoul.progress.internal", Some("seoul")),
            ("causeway.dr.seoul.offset-map.internal", None),
            ("causeway.dr.failover.internal", None),
            ("seoul.checkpoints.internal", Some("seoul")),
            ("mm2-offsets.seoul.internal", Some("seoul")),
            ("mm2-offset-syncs.seoul.internal", None),
            ("seoul.orders", None),
            (".internal", None),
        ] {
            assert_eq!(trace(topic), alias, "{topic}");
        }
    }
}
