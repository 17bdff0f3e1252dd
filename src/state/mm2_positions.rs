//! The MM2 that copied a flow before: whether it runs, and our positions where it finds them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::message::Message;
use serde_json::Value;

use super::ledger::{StateRecord, StateTopic};
use crate::error::{Result, Side};
use crate::kafka::admin::Admin;
use crate::kafka::client::ClusterConnection;
use crate::kafka::tail::{absent_is_empty, partitions, read_topic};
use crate::kafka::{NextOffset, Offset, Source, TopicPartition};
use crate::mm2::connect_offsets::{Position, PositionKey, partition};
use crate::names::replication_policy::HEARTBEATS_TOPIC;
use crate::topology::FlowSpec;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Writes the positions of a flow as MM2 would, once they are committed.
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
            cluster: spec.mirror_maker.source_alias.clone(),
            partitions: partitions(target, &spec.mirror_maker.offsets_topic, TIMEOUT)?,
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

/// Whether MM2 runs on the flow, and what shows it. A worker that ended without leaving keeps its seat in the group
/// for a while; `seat` is how long that is waited for.
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
    let deadline = Instant::now() + seat;
    loop {
        let workers = target_admin.group_members(&mm2.connect_group, TIMEOUT)?.len();
        if workers == 0 {
            return Ok(None);
        }
        let states = latest(target_admin, target, &mm2.status_topic)?;
        let configs = latest(target_admin, target, &mm2.configs_topic)?;
        let Some(what) = copies(&states, &configs, spec) else {
            return Ok(None);
        };
        if deadline <= Instant::now() {
            let group = &mm2.connect_group;
            return Ok(Some(format!(
                "Connect group {group} has {workers} member(s): {what}"
            )));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The newest record of every key of a topic of Connect's; none when there is no such topic.
fn latest(admin: &Admin, target: &ClusterConnection, topic: &str) -> Result<BTreeMap<String, Value>> {
    let mut latest = BTreeMap::new();
    let read = read_topic(admin, target, Side::Target, topic, TIMEOUT, |message| {
        let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
        let value = message
            .payload()
            .and_then(|value| serde_json::from_slice(value).ok());
        match value {
            Some(Value::Null) | None => latest.remove(&key),
            Some(value) => latest.insert(key, value),
        };
    });
    absent_is_empty(read)?;
    Ok(latest)
}

/// What shows that the connector of live workers writes what the flow writes; `None`: it does not.
///
/// Workers that run are no proof: on a Connect cluster they outlive a connector that is stopped (KIP-875), and MM2 may
/// copy other topics, or the same ones under other names. Workers that have stored nothing yet may just be starting.
fn copies<'a>(
    states: &'a BTreeMap<String, Value>,
    configs: &'a BTreeMap<String, Value>,
    spec: &FlowSpec,
) -> Option<String> {
    let connector = &spec.mirror_maker.connector;
    if states.is_empty() || configs.is_empty() {
        return Some("they have not said yet what they do".to_owned());
    }
    let numbered = |all: &'a BTreeMap<String, Value>, kind: &str| -> Vec<(u64, &'a Value)> {
        let prefix = format!("{kind}-{connector}-");
        let number = |key: &String| key.strip_prefix(&prefix)?.parse().ok();
        all.iter()
            .filter_map(|(key, value)| Some((number(key)?, value)))
            .collect()
    };
    let state = states.get(&format!("status-connector-{connector}"));
    let ended = numbered(states, "status-task")
        .iter()
        .all(|(_, it)| it["state"] == "DESTROYED");
    match state.and_then(|state| state["state"].as_str()) {
        Some("STOPPED") | None if ended => return None,
        _ => {}
    }
    let count = configs
        .get(&format!("commit-{connector}"))
        .and_then(|commit| commit["tasks"].as_u64());
    let Some(count) = count else {
        return Some(format!("connector {connector} is starting"));
    };
    for (_, task) in numbered(configs, "task")
        .into_iter()
        .filter(|(number, _)| *number < count)
    {
        let property = |name: &str| task["properties"][name].as_str();
        let assigned = property("task.assigned.partitions").unwrap_or_default();
        for partition in assigned.split(',') {
            let Some((topic, _)) = partition.rsplit_once('-') else {
                continue;
            };
            let separator = property("replication.policy.separator").unwrap_or(".");
            let renamed = || Some(format!("{}{separator}{topic}", spec.mirror_maker.source_alias));
            let class = property("replication.policy.class").and_then(|class| class.rsplit('.').next());
            let theirs = match class {
                None | Some("DefaultReplicationPolicy") => renamed(),
                // It renames every name that ends so, not only those of heartbeats.
                Some("IdentityReplicationPolicy") if topic.ends_with(HEARTBEATS_TOPIC) => renamed(),
                Some("IdentityReplicationPolicy") => Some(topic.to_owned()),
                Some(_) => None,
            };
            let ours = spec.naming().format_remote_topic(topic);
            // What another policy names nobody here can tell.
            if spec.topics.matches(topic) && theirs.is_none_or(|theirs| theirs == ours) {
                return Some(format!("connector {connector} copies {partition} to {ours}"));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    /// The first flow of the example, which keeps names and copies `orders.*` and `payments`.
    fn flow() -> FlowSpec {
        let path = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let topology = path("topologies/active-standby.yaml");
        let (_, topologies) = crate::topology::load(&path("config/local.yaml"), &[topology], &|_| None)
            .expect("an example without mistakes");
        topologies[0].flows[0].clone()
    }

    #[test]
    fn a_mirror_maker_that_is_stopped_or_copies_something_else_is_not_in_the_way() {
        let flow = flow();
        let values = |list: Vec<(String, Value)>| -> BTreeMap<String, Value> { list.into_iter().collect() };
        let states = |list: &[(&str, &str)]| {
            let own = |(key, state): &(&str, &str)| ((*key).to_owned(), json!({ "state": state }));
            values(list.iter().map(own).collect())
        };
        let configs = |assigned: &str, policy: &str, tasks: u64| {
            let properties = json!({
                "task.assigned.partitions": assigned,
                "replication.policy.class": format!("org.apache.kafka.connect.mirror.{policy}"),
            });
            values(vec![
                ("connector-m".to_owned(), json!({ "properties": {} })),
                ("task-m-0".to_owned(), json!({ "properties": properties })),
                ("commit-m".to_owned(), json!({ "tasks": tasks })),
            ])
        };
        let mut flow = flow;
        flow.mirror_maker.connector = "m".to_owned();
        let (same, other) = ("IdentityReplicationPolicy", "DefaultReplicationPolicy");
        let on = [("status-connector-m", "RUNNING"), ("status-task-m-0", "RUNNING")];
        let ours = configs("shipments-0,orders-eu-1", same, 1);
        let stopped = |list: &[(&str, &str)]| copies(&states(list), &ours, &flow).is_none();
        assert!(!stopped(&[]), "starting");
        assert!(!stopped(&on));
        assert!(!stopped(&[("status-connector-m", "PAUSED"), on[1]]));
        assert!(!stopped(&[("status-connector-m", "UNASSIGNED"), on[1]]));
        assert!(!stopped(&[("status-connector-m", "STOPPED"), on[1]]));
        assert!(!stopped(&[
            ("status-connector-m", "FAILED"),
            ("status-task-m-0", "DESTROYED")
        ]));
        assert!(stopped(&[
            ("status-connector-m", "STOPPED"),
            ("status-task-m-0", "DESTROYED")
        ]));
        assert!(stopped(&[
            ("status-connector-m", "STOPPED"),
            ("status-task-m-x-0", "RUNNING")
        ]));
        assert!(stopped(&[("status-connector-other", "RUNNING")]));
        let copies = |configs: &BTreeMap<String, Value>| copies(&states(&on), configs, &flow);
        assert_eq!(
            copies(&ours).as_deref(),
            Some("connector m copies orders-eu-1 to orders-eu")
        );
        assert_eq!(copies(&configs("shipments-0", same, 1)), None, "other topics");
        assert_eq!(copies(&configs("orders-eu-1", other, 1)), None, "other names");
        assert_eq!(
            copies(&configs("orders-eu-1", same, 0)),
            None,
            "a task that is gone"
        );
        assert!(
            copies(&configs("orders-eu-1", "Mine", 1)).is_some(),
            "names that nobody can tell"
        );
        assert!(copies(&BTreeMap::new()).is_some(), "starting");
        let mut flow = flow.clone();
        flow.mirror_maker.source_alias = String::new();
        let mut nameless = configs("orders-eu-1", other, 1);
        nameless.get_mut("task-m-0").expect("just made")["properties"]["replication.policy.separator"] =
            json!("");
        let found = super::copies(&states(&on), &nameless, &flow);
        assert!(found.is_some(), "names stay by an empty alias and separator");
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
