//! Consumer groups that have moved to the target: their positions there are their own, until an operator says
//! otherwise.
//!
//! Who has moved is kept in the topology's failover topic, because every daemon must know of it, and the next one. A
//! record without a value is the operator's word that a group follows its source group again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::message::Message;
use serde::{Deserialize, Serialize};

use super::audit::{self, Deed};
use super::topics;
use super::topics::ensure_mm2_topic;
use crate::error::{Code, Error, Result, Side};
use crate::kafka::admin::{Admin, OffsetSpec};
use crate::kafka::client::ClusterConnection;
use crate::kafka::control::ControlProducer;
use crate::kafka::groups::{Commit, Groups, Positions};
use crate::kafka::tail::{Stretch, partitions, read_to_end};
use crate::kafka::{NextOffset, Source, Target, TopicPartition};
use crate::mm2::{self, Checkpoint};
use crate::topology::{FlowId, FlowSpec};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a group is left alone: the value of its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// What was seen, for people.
    pub moved: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

/// The audit trail's keys have more in them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    group: String,
    flow: String,
}

/// Key and value of the record about a group.
pub fn record(flow: &FlowId, group: &str, moved: &Moved) -> (Vec<u8>, Vec<u8>) {
    let value = serde_json::to_vec(moved).expect("plain structs become JSON");
    (key(flow, group), value)
}

fn key(flow: &FlowId, group: &str) -> Vec<u8> {
    let key = Key {
        group: group.to_owned(),
        flow: flow.to_string(),
    };
    serde_json::to_vec(&key).expect("plain structs become JSON")
}

/// The groups of a flow that have moved, as its failover topic says.
#[derive(Debug, Default)]
pub struct MovedGroups {
    groups: BTreeMap<String, Moved>,
    /// The offset up to which the topic was read; `None`: not yet.
    read_to: Option<i64>,
}

impl MovedGroups {
    /// Why a group is left alone, if it is.
    pub fn get(&self, group: &str) -> Option<&Moved> {
        self.groups.get(group)
    }

    /// Whether the topic was never read.
    pub fn is_unread(&self) -> bool {
        self.read_to.is_none()
    }

    /// Notes that a group has moved. Whoever does so stores its record.
    pub fn insert(&mut self, group: &str, moved: Moved) {
        self.groups.insert(group.to_owned(), moved);
    }

    /// Takes in what is new on the topic. Returns the groups that are to follow their source groups again.
    ///
    /// # Errors
    /// The target cannot be asked, or the topic not be read.
    pub fn catch_up(
        &mut self,
        admin: &Admin,
        target: &ClusterConnection,
        flow: &FlowId,
    ) -> Result<BTreeSet<String>> {
        let topic = flow.failover_topic();
        let mut follow = BTreeSet::new();
        let end = match partitions(admin, &topic, TIMEOUT) {
            Ok(_) => admin.list_offset(
                &TopicPartition::new(topic.as_str(), 0),
                OffsetSpec::Latest,
                true,
                TIMEOUT,
            )?,
            // It is created by the first who has something to say.
            Err(error) if error.code == Code::TargetTopicMissing => 0,
            Err(error) => return Err(error.of_own_topic()),
        };
        // A topic that ends earlier than before was made anew.
        let from = self.read_to.filter(|read_to| *read_to <= end).unwrap_or(0);
        if from < end {
            let stretch = Stretch {
                topic: &topic,
                partitions: &[(0, (0 < from).then_some(from))],
                uncommitted: false,
            };
            read_to_end(target, Side::Target, &stretch, TIMEOUT, |message| {
                follow.extend(self.apply(flow, message.key(), message.payload()));
                Ok(true)
            })?;
        }
        self.read_to = Some(end);
        Ok(follow)
    }

    /// Returns the group that is to follow again.
    fn apply(&mut self, flow: &FlowId, key: Option<&[u8]>, value: Option<&[u8]>) -> Option<String> {
        // The topic has other records, too.
        let key: Key = serde_json::from_slice(key?).ok()?;
        if key.flow != flow.to_string() {
            return None;
        }
        match value {
            Some(value) => {
                self.groups.insert(key.group, serde_json::from_slice(value).ok()?);
                None
            }
            None => {
                self.groups.remove(&key.group);
                Some(key.group)
            }
        }
    }
}

/// A position that a group is given on the target at an operator's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// What the group has committed on the source.
    pub source_offset: i64,
    /// The partition of the target.
    pub remote: TopicPartition,
    /// Where the group stands there now.
    pub before: Option<i64>,
    /// Where it will stand.
    pub commit: Commit,
}

/// Writes positions of a group to the target, forward and back, and has the flow follow its source group again from
/// there.
///
/// # Errors
/// The group has members on the target, the target refuses, or it cannot be asked. What was written stays; the group is
/// left alone as before.
pub fn follow_again(
    spec: &FlowSpec,
    target: &ClusterConnection,
    groups: &Groups,
    group: &str,
    given: &[Given],
    deed: &Deed<'_>,
) -> Result<()> {
    let admin = Admin::new(target, &spec.id.group(), Side::Target)?;
    let producer = ControlProducer::new(target, &spec.id.group(), Side::Target)?;
    // Told first: a position that is ahead of what the checkpoints tell counts as somebody else's.
    if spec.offset_sync.checkpoints {
        let topic = mm2::checkpoints_topic(&spec.id.source);
        ensure_mm2_topic(&admin, &topic, TIMEOUT).map_err(Error::of_own_topic)?;
        for it in given {
            let checkpoint = Checkpoint {
                group: group.to_owned(),
                topic_partition: it.remote.clone(),
                upstream: Source(NextOffset(it.source_offset)),
                downstream: Target(NextOffset(it.commit.offset)),
                metadata: it.commit.metadata.clone(),
            };
            if let Some((key, value)) = checkpoint.encode() {
                producer.send(&topic, 0, &key, Some(&value), deed.at_ms, 0)?;
            }
        }
        hear(&producer)?;
    }
    let wanted = given.iter().map(|it| (it.remote.clone(), it.commit.clone()));
    let wanted: Positions = [(group.to_owned(), wanted.collect())].into();
    for (group, outcome) in groups.commit(&wanted, TIMEOUT)? {
        for (partition, written) in outcome? {
            written.map_err(|error| {
                let detail = format!("{group} in {partition}: {}", error.detail);
                Error::new(error.code, detail)
            })?;
        }
    }
    topics::ensure_audit(&admin, spec)?;
    let topic = spec.id.failover_topic();
    let audited = given.iter().map(|it| (&it.remote, it.before, it.commit.offset));
    let audited = audit::group_record(&spec.id, group, deed, audited);
    producer.send(&topic, 0, &audited.key, Some(&audited.value), deed.at_ms, 0)?;
    producer.send(&topic, 0, &key(&spec.id, group), None, deed.at_ms, 0)?;
    hear(&producer)
}

/// Waits for what the target says to every record.
fn hear(producer: &ControlProducer) -> Result<()> {
    producer.flush(TIMEOUT);
    for (_, answer) in producer.answers() {
        answer.map_err(|(_, error)| error.of_own_topic())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::ClusterAlias;

    fn flow(source: &str) -> FlowId {
        FlowId {
            topology: "korea".into(),
            source: ClusterAlias::new(source),
            target: ClusterAlias::new("busan"),
        }
    }

    #[test]
    fn the_last_word_about_a_group_counts_and_other_records_are_none() {
        let moved = Moved {
            moved: "it has had members on the target".into(),
            at_ms: 5,
        };
        let seoul = flow("seoul");
        let (name, value) = record(&seoul, "billing", &moved);
        assert_eq!(
            String::from_utf8_lossy(&name),
            r#"{"group":"billing","flow":"seoul->busan"}"#
        );
        let mut groups = MovedGroups::default();
        assert_eq!(groups.apply(&seoul, Some(&name), Some(&value)), None);
        assert_eq!(groups.get("billing"), Some(&moved));
        let audit = br#"{"audit":1,"flow":"seoul->busan","group":"billing"}"#;
        assert_eq!(groups.apply(&seoul, Some(audit), Some(b"{}")), None);
        assert_eq!(groups.apply(&flow("daegu"), Some(&name), None), None);
        assert_eq!(groups.get("billing"), Some(&moved));
        assert_eq!(
            groups.apply(&seoul, Some(&name), None).as_deref(),
            Some("billing")
        );
        assert_eq!(groups.get("billing"), None);
    }
}
