//! What an operator has changed about a flow, and what could not be copied: records of the audit trail, written in
//! the transaction that makes the change or stores the gap.

use serde::Serialize;

use super::gaps::Gap;
use super::ledger::{StateRecord, StateTopic};
use super::resume::StoredProgress;
use crate::kafka::TopicPartition;
use crate::topology::FlowId;

/// Who did what, and when.
#[derive(Clone, Debug)]
pub struct Deed<'a> {
    /// The command, such as `offsets reset --to-earliest`.
    pub action: &'a str,
    /// Login name and host.
    pub by: &'a str,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

/// Who is logged in, and where: for the audit trail.
pub fn login(host: &str) -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok());
    format!("{}@{host}", name.as_deref().unwrap_or("unknown"))
}

/// A position that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Of which source partition.
    pub partition: TopicPartition,
    /// What is stored now.
    pub before: Option<StoredProgress>,
    /// What is to be stored.
    pub after: StoredProgress,
    /// The gaps in it that are new, and that the audit trail is told of.
    pub declared: Vec<Gap>,
}

/// Written once and never again: the key is the deed's own.
#[derive(Serialize)]
struct Key<'a> {
    audit: i64,
    flow: &'a str,
    task: u32,
    /// Of several records that one deed takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<usize>,
}

#[derive(Serialize)]
struct Value<'a> {
    action: &'a str,
    by: &'a str,
    at_ms: i64,
    positions: Vec<Position<'a>>,
    /// As those that a task declares.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<GapOf<'a>>,
}

#[derive(Serialize)]
struct Position<'a> {
    topic: &'a str,
    partition: i32,
    before: Option<&'a StoredProgress>,
    after: &'a StoredProgress,
}

/// The record about positions of one task, with the gaps that were declared on the way; `JSON`, so that an operator can
/// read it with kcat.
pub fn record<'a>(
    flow: &FlowId,
    task: u32,
    deed: &Deed<'_>,
    changes: impl Iterator<Item = &'a Change>,
) -> StateRecord {
    let key = Key {
        audit: deed.at_ms,
        flow: &flow.to_string(),
        task,
        part: None,
    };
    let (mut positions, mut gaps) = (vec![], vec![]);
    for change in changes {
        let TopicPartition { topic, partition } = &change.partition;
        positions.push(Position {
            topic,
            partition: *partition,
            before: change.before.as_ref(),
            after: &change.after,
        });
        gaps.extend(change.declared.iter().map(|gap| GapOf {
            topic,
            partition: *partition,
            gap,
        }));
    }
    let value = Value {
        action: deed.action,
        by: deed.by,
        at_ms: deed.at_ms,
        positions,
        gaps,
    };
    state_record(&key, &value)
}

#[derive(Serialize)]
struct GroupKey<'a> {
    audit: i64,
    flow: &'a str,
    group: &'a str,
}

#[derive(Serialize)]
struct GroupValue<'a> {
    action: &'a str,
    by: &'a str,
    at_ms: i64,
    group: &'a str,
    positions: Vec<GroupPosition<'a>>,
}

#[derive(Serialize)]
struct GroupPosition<'a> {
    topic: &'a str,
    partition: i32,
    before: Option<i64>,
    after: i64,
}

/// The record about positions of a consumer group on the target: each partition with the offsets before and after.
pub fn group_record<'a>(
    flow: &FlowId,
    group: &str,
    deed: &Deed<'_>,
    positions: impl Iterator<Item = (&'a TopicPartition, Option<i64>, i64)>,
) -> StateRecord {
    let key = GroupKey {
        audit: deed.at_ms,
        flow: &flow.to_string(),
        group,
    };
    let value = GroupValue {
        action: deed.action,
        by: deed.by,
        at_ms: deed.at_ms,
        group,
        positions: positions
            .map(|(tp, before, after)| GroupPosition {
                topic: &tp.topic,
                partition: tp.partition,
                before,
                after,
            })
            .collect(),
    };
    state_record(&key, &value)
}

/// Gaps per record: one takes some 150 bytes, and a topic may have a small limit.
const GAPS: usize = 500;

#[derive(Serialize)]
struct GapsValue<'a> {
    action: &'a str,
    by: &'a str,
    at_ms: i64,
    gaps: Vec<GapOf<'a>>,
}

#[derive(Serialize)]
struct GapOf<'a> {
    topic: &'a str,
    partition: i32,
    #[serde(flatten)]
    gap: &'a Gap,
}

/// The records about gaps that a task has declared.
pub fn gap_records(flow: &FlowId, task: u32, at_ms: i64, gaps: &[(TopicPartition, Gap)]) -> Vec<StateRecord> {
    let part = |(part, gaps): (usize, &[(TopicPartition, Gap)])| {
        let key = Key {
            audit: at_ms,
            flow: &flow.to_string(),
            task,
            part: Some(part),
        };
        let value = GapsValue {
            action: "gap declared",
            by: "causeway",
            at_ms,
            gaps: gaps
                .iter()
                .map(|(tp, gap)| GapOf {
                    topic: &tp.topic,
                    partition: tp.partition,
                    gap,
                })
                .collect(),
        };
        state_record(&key, &value)
    };
    gaps.chunks(GAPS).enumerate().map(part).collect()
}

fn state_record(key: &impl Serialize, value: &impl Serialize) -> StateRecord {
    StateRecord {
        topic: StateTopic::Audit,
        key: serde_json::to_vec(key).expect("plain structs become JSON"),
        value: serde_json::to_vec(value).expect("plain structs become JSON"),
    }
}
