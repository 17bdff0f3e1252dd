//! The MM2 that copied a flow before: whether it runs, and our positions where it finds them.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::message::Message;
use serde_json::Value;

use super::ledger::{StateRecord, StateTopic};
use super::stopped::members;
use crate::error::{Code, Error, Result, Side};
use crate::kafka::admin::Admin;
use crate::kafka::client::ClusterConnection;
use crate::kafka::reader::{Stretch, read_to_end};
use crate::kafka::{NextOffset, Offset, Source, TopicPartition};
use crate::mm2::connect_offsets::{Position, PositionKey, partition};
use crate::topology::FlowSpec;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Writes the positions of a flow as MM2 would, in the transactions that copy the records.
#[derive(Clone, Debug)]
pub struct Mm2Mirror {
    connector: String,
    cluster: String,
    partitions: i32,
}

impl Mm2Mirror {
    /// The mirror of a flow.
    ///
    /// # Errors
    /// The target does not have MM2's offsets topic, or cannot tell.
    pub fn find(target: &Admin, spec: &FlowSpec) -> Result<Self> {
        Ok(Self {
            connector: spec.mirror_maker.connector.clone(),
            cluster: spec.id.source.to_string(),
            partitions: partitions(target, &spec.mirror_maker.offsets_topic)?,
        })
    }

    /// The record that makes MM2 go on at `next`; none while nothing was copied.
    pub fn record(&self, source: &TopicPartition, next: Source<NextOffset>) -> Option<StateRecord> {
        let last = Offset(next.0.0.checked_sub(1).filter(|last| 0 <= *last)?);
        let key = PositionKey {
            connector: self.connector.clone(),
            cluster: self.cluster.clone(),
            topic_partition: source.clone(),
        }
        .encode();
        Some(StateRecord {
            topic: StateTopic::Mm2Positions(partition(&key, self.partitions)),
            value: Position::Last(Source(last)).encode()?,
            key,
        })
    }
}

/// The partition count of a topic of the target.
///
/// # Errors
/// There is no such topic, or the target cannot tell.
pub fn partitions(target: &Admin, topic: &str) -> Result<i32> {
    match target.describe_topics(&[topic], TIMEOUT)?.remove(topic) {
        Some(Ok(topic)) => Ok(topic.partitions),
        Some(Err(error)) => Err(Error::new(error.code, format!("{topic}: {}", error.detail))),
        None => Err(Error::new(
            Code::TargetUnexpected,
            format!("nothing is said about {topic}"),
        )),
    }
}

/// Whether MM2 runs on the flow, and what shows it. A worker that ended without leaving keeps its seat in the group
/// for a while; `seat` is how long that is waited for.
///
/// Workers that run are no proof: on a Connect cluster they outlive the connector. A connector that is stopped
/// (KIP-875), or that the workers do not have, copies nothing.
///
/// # Errors
/// The target cannot be asked.
pub fn running(
    target_admin: &Admin,
    target: &ClusterConnection,
    spec: &FlowSpec,
    seat: Duration,
) -> Result<Option<String>> {
    let mm2 = &spec.mirror_maker;
    let states = || states(target_admin, target, &mm2.status_topic);
    let deadline = std::time::Instant::now() + seat;
    loop {
        let workers = members(target_admin, &mm2.connect_group, Duration::ZERO)?;
        if workers.is_empty() || is_stopped(&states()?, &mm2.connector) {
            return Ok(None);
        }
        if deadline <= std::time::Instant::now() {
            let (group, connector) = (&mm2.connect_group, &mm2.connector);
            return Ok(Some(format!(
                "Connect group {group} has {} member(s), and connector {connector} is not stopped",
                workers.len()
            )));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The states that Connect has stored, by key; empty when there is no such topic.
fn states(admin: &Admin, target: &ClusterConnection, topic: &str) -> Result<BTreeMap<String, String>> {
    let count = match partitions(admin, topic) {
        Ok(count) => count,
        Err(error) if error.code == Code::TargetTopicMissing => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let all: Vec<_> = (0..count).map(|partition| (partition, None)).collect();
    let stretch = Stretch {
        topic,
        partitions: &all,
        uncommitted: false,
    };
    let mut states = BTreeMap::new();
    read_to_end(target, Side::Target, &stretch, TIMEOUT, |message| {
        let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
        let value: Option<Value> = message
            .payload()
            .and_then(|value| serde_json::from_slice(value).ok());
        match value.as_ref().and_then(|value| value["state"].as_str()) {
            Some(state) => states.insert(key, state.to_owned()),
            None => states.remove(&key),
        };
        Ok(true)
    })?;
    Ok(states)
}

/// Whether a connector of live workers copies nothing. Workers that have stored no state at all may just be starting.
fn is_stopped(states: &BTreeMap<String, String>, connector: &str) -> bool {
    let task = format!("status-task-{connector}-");
    let tasks = states.iter().filter(|(key, _)| {
        let number = key.strip_prefix(&task);
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    });
    match states.get(&format!("status-connector-{connector}")) {
        Some(state) => state == "STOPPED" && tasks.clone().all(|(_, state)| state == "DESTROYED"),
        None => !states.is_empty() && tasks.count() == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_connector_that_is_stopped_or_absent_copies_nothing() {
        let states = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
            let own = |(key, state): &(&str, &str)| ((*key).to_owned(), (*state).to_owned());
            list.iter().map(own).collect()
        };
        for (list, expected) in [
            (&[][..], false),
            (&[("status-connector-m", "STOPPED")], true),
            (&[("status-connector-m", "RUNNING")], false),
            (&[("status-connector-m", "PAUSED")], false),
            (&[("status-connector-m", "UNASSIGNED")], false),
            (
                &[("status-connector-m", "STOPPED"), ("status-task-m-0", "RUNNING")],
                false,
            ),
            (
                &[
                    ("status-connector-m", "STOPPED"),
                    ("status-task-m-x-0", "RUNNING"),
                ],
                true,
            ),
            (&[("status-connector-other", "RUNNING")], true),
        ] {
            assert_eq!(is_stopped(&states(list), "m"), expected, "{list:?}");
        }
    }

    #[test]
    fn a_position_is_written_as_mm2_finds_it() {
        let mirror = Mm2Mirror {
            connector: "MirrorSourceConnector".to_owned(),
            cluster: "primary".to_owned(),
            partitions: 25,
        };
        let at = |next| mirror.record(&TopicPartition::new("orders", 3), Source(NextOffset(next)));
        assert_eq!(at(0), None);
        let record = at(8).expect("something was copied");
        assert_eq!(record.topic, StateTopic::Mm2Positions(4));
        assert_eq!(record.value, br#"{"offset":7}"#);
    }
}
