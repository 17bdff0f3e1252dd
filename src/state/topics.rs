//! The topics that a flow owns on the target, in one table: created with what the target takes, looked at when the flow
//! starts and in every pass of config sync.
//!
//! Progress may not be lost or forgotten: a topic that deletes, or one that is smaller than the flow has tasks, is
//! mended or refused, never used. One that has grown goes on with the partitions that the flow began with, because
//! which task copies a partition follows from their number, and two daemons must not answer that differently.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::message::Message;
use tracing::{debug, info, warn};

use super::slot::Birth;
use crate::error::{Code, Error, Result, Side};
use crate::kafka::TopicId;
use crate::kafka::admin::{Admin, ConfigOp, NewTopic, TopicDescription};
use crate::kafka::client::ClusterConnection;
use crate::kafka::tail::{Stretch, read_to_end};
use crate::topology::{FlowId, FlowSpec};

/// How long a question to the target may take.
const TIMEOUT: Duration = Duration::from_secs(10);
const CLEANUP: &str = "cleanup.policy";

/// One topic of the table.
struct OwnTopic {
    name: String,
    partitions: i32,
    /// Wanted settings besides `cleanup.policy=compact`, which all need; the target may refuse them.
    settings: &'static [(&'static str, &'static str)],
}

/// Keys are written again with every commit; only segments that are closed are cleaned.
const SMALL_SEGMENTS: &[(&str, &str)] = &[("segment.bytes", "16777216")];

impl OwnTopic {
    fn progress(id: &FlowId, tasks: u32) -> Self {
        Self::new(id.progress_topic(), tasks)
    }

    fn offset_map(id: &FlowId, tasks: u32) -> Self {
        Self::new(id.offset_map_topic(), tasks)
    }

    fn audit(id: &FlowId) -> Self {
        Self::new(id.failover_topic(), 1)
    }

    fn new(name: String, partitions: u32) -> Self {
        Self {
            name,
            partitions: partitions as i32,
            settings: SMALL_SEGMENTS,
        }
    }
}

/// What a flow has on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Tasks of the flow: the partitions its progress topic was created with.
    pub tasks: u32,
    /// Kafka's id of the progress topic.
    pub progress_id: TopicId,
    /// Whether the offset map is there, too.
    has_map: bool,
}

type Described = BTreeMap<String, Result<TopicDescription>>;

/// What the flow has on the target. `None`: it was never created. Changes nothing.
///
/// # Errors
/// The target cannot tell, or what it has cannot serve the flow.
pub fn find(target: &Admin, connection: &ClusterConnection, id: &FlowId) -> Result<Option<Found>> {
    let (progress, map) = (id.progress_topic(), id.offset_map_topic());
    let mut described = describe(target, id)?;
    let (there, map_there) = (take(&mut described, &progress)?, take(&mut described, &map)?);
    let Some(there) = there else {
        return match map_there {
            None => Ok(None),
            // It is created after the progress topic.
            Some(_) => Err(lost(&progress)),
        };
    };
    let smallest = map_there
        .as_ref()
        .map_or(there.partitions, |map| map.partitions.min(there.partitions));
    let tasks = stored_tasks(connection, &progress)?.unwrap_or(smallest as u32);
    for (name, topic) in [(&progress, Some(&there)), (&map, map_there.as_ref())] {
        let Some(topic) = topic else { continue };
        large_enough(connection, name, topic, tasks)?;
        if (tasks as i32) < topic.partitions {
            let (has, first) = (topic.partitions, tasks);
            warn!(topic = %name, "it has grown to {has} partitions; the flow keeps its {tasks} tasks, partitions from {first} on are not used");
        }
    }
    Ok(Some(Found {
        tasks,
        progress_id: there.id,
        has_map: map_there.is_some(),
    }))
}

fn large_enough(
    connection: &ClusterConnection,
    name: &str,
    topic: &TopicDescription,
    tasks: u32,
) -> Result<()> {
    let (has, servers) = (topic.partitions, &connection.bootstrap_servers);
    if tasks as i32 <= has {
        return Ok(());
    }
    let detail = format!(
        "{name} has {has} partitions and the flow {tasks} tasks: kafka-topics.sh --bootstrap-server {servers} --alter --topic {name} --partitions {tasks}"
    );
    Err(Error::new(Code::OwnTopicUnfit, detail))
}

fn describe(target: &Admin, id: &FlowId) -> Result<Described> {
    let names = [id.progress_topic(), id.offset_map_topic()];
    target.describe_topics(&names.each_ref().map(String::as_str), TIMEOUT)
}

/// `None`: there is no such topic.
fn take(described: &mut Described, name: &str) -> Result<Option<TopicDescription>> {
    match described.remove(name) {
        Some(Ok(topic)) => Ok(Some(topic)),
        Some(Err(e)) if e.code == Code::TargetTopicMissing => Ok(None),
        Some(Err(e)) => Err(e),
        None => {
            let detail = format!("nothing is said about {name}");
            Err(Error::new(Code::TargetUnexpected, detail))
        }
    }
}

fn lost(topic: &str) -> Error {
    let detail = format!("{topic} was deleted, and with it where the flow stands");
    Error::new(Code::OwnTopicLost, detail)
}

/// The number of tasks the flow was made with, as slot 0 says. `None`: a version that did not write it down.
fn stored_tasks(target: &ClusterConnection, progress: &str) -> Result<Option<u32>> {
    let mut tasks = None;
    let stretch = Stretch {
        topic: progress,
        partitions: &[(0, None)],
        uncommitted: false,
    };
    read_to_end(target, Side::Target, &stretch, TIMEOUT, |message| {
        tasks = Birth::of_record(message.key(), message.payload()).and_then(|birth| birth.tasks);
        // It is among the first.
        Ok(tasks.is_none())
    })?;
    Ok(tasks)
}

/// Creates what a flow owns and does not have yet (`before`: what [`find`] has found), and sees that it is compacted.
///
/// # Errors
/// The target cannot be asked, or refuses what cannot be done without.
pub fn prepare(
    target: &Admin,
    connection: &ClusterConnection,
    spec: &FlowSpec,
    before: Option<Found>,
) -> Result<Found> {
    let id = &spec.id;
    let tasks = before.as_ref().map_or(spec.tasks, |found| found.tasks);
    let found = match before {
        Some(found) if found.has_map => found,
        before => {
            if before.is_some() {
                warn!(topic = %id.offset_map_topic(), "it was deleted, and is created again: groups whose positions it explained read again from a bound before");
            }
            // One after the other: where the second is, the first has been.
            ensure(target, spec, &OwnTopic::progress(id, tasks))?;
            ensure(target, spec, &OwnTopic::offset_map(id, tasks))?;
            info!(tasks, "flow created on the target");
            appeared(target, id, tasks)?
        }
    };
    mend(target, connection, id, true)?;
    Ok(found)
}

/// New topics take a moment to reach every broker's metadata.
fn appeared(target: &Admin, id: &FlowId, tasks: u32) -> Result<Found> {
    let (progress, map) = (id.progress_topic(), id.offset_map_topic());
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let mut described = describe(target, id)?;
        if let (Some(there), Some(_)) = (take(&mut described, &progress)?, take(&mut described, &map)?) {
            return Ok(Found {
                tasks,
                progress_id: there.id,
                has_map: true,
            });
        }
        if deadline <= Instant::now() {
            let detail = format!("{progress} and {map} do not appear");
            return Err(Error::new(Code::TargetUnexpected, detail));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Creates the topic of the audit trail where it does not exist.
///
/// # Errors
/// The target cannot be asked, or refuses.
pub fn ensure_audit(target: &Admin, spec: &FlowSpec) -> Result<()> {
    ensure(target, spec, &OwnTopic::audit(&spec.id))
}

/// Creates a topic unless it is there: who may not create it need not where somebody else has.
fn ensure(target: &Admin, spec: &FlowSpec, topic: &OwnTopic) -> Result<()> {
    let name = &topic.name;
    match take(&mut target.describe_topics(&[name], TIMEOUT)?, name)? {
        Some(there) if there.writable == Some(false) => {
            let detail = format!("{name} may not be written");
            return Err(Error::new(Code::TargetStateNotAuthorized, detail));
        }
        Some(_) => return Ok(()),
        None => {}
    }
    let brokers = target.brokers(TIMEOUT)? as i32;
    let replication_factor = spec.config_sync.replication_factor.unwrap_or(3).min(brokers);
    let compact = (CLEANUP, "compact");
    // A target that refuses a setting may take the topic without it.
    let mut attempts: Vec<Vec<(&str, &str)>> = vec![vec![compact], vec![]];
    if !topic.settings.is_empty() {
        attempts.insert(0, topic.settings.iter().copied().chain([compact]).collect());
    }
    let mut refused = None;
    for settings in attempts {
        let configs = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let new = NewTopic {
            name: name.clone(),
            partitions: topic.partitions,
            replication_factor,
            configs: configs.collect(),
        };
        let outcome = target.create_topics(&[new], TIMEOUT)?.remove(name);
        match outcome {
            Some(Ok(())) => {
                if let Some(error) = refused {
                    warn!(%error, topic = %name, kept = ?settings, "created without what the target refuses");
                }
                return Ok(());
            }
            Some(Err(error)) if error.code == Code::TargetSettingRefused && !settings.is_empty() => {
                // The first reason is about the most settings.
                refused.get_or_insert(error);
            }
            Some(Err(e)) => return Err(Error::new(e.code, format!("creating {name}: {}", e.detail))),
            None => {
                let detail = format!("creating {name}: the answer does not mention it");
                return Err(Error::new(Code::TargetUnexpected, detail));
            }
        }
    }
    unreachable!("the last attempt is made without settings and returns")
}

/// Whether the flow's own topics still are what it started with; what deletes is set to compact where `may_mend`.
///
/// # Errors
/// A topic is gone, is another one, is too small, or deletes and may not be changed; or the target cannot be asked.
pub fn check(
    target: &Admin,
    connection: &ClusterConnection,
    id: &FlowId,
    started: &Found,
    may_mend: bool,
) -> Result<()> {
    let (progress, map) = (id.progress_topic(), id.offset_map_topic());
    let mut described = describe(target, id)?;
    match (take(&mut described, &progress)?, take(&mut described, &map)?) {
        (Some(there), Some(map_there)) if there.id == started.progress_id => {
            large_enough(connection, &map, &map_there, started.tasks)?;
        }
        (Some(_), None) => return Err(lost(&map)),
        _ => return Err(lost(&progress)),
    }
    mend(target, connection, id, may_mend)
}

/// Sets `cleanup.policy` of own topics to compact.
fn mend(target: &Admin, connection: &ClusterConnection, id: &FlowId, may: bool) -> Result<()> {
    let names = [id.progress_topic(), id.offset_map_topic()];
    for (name, settings) in target.describe_configs(&names.each_ref().map(String::as_str), TIMEOUT)? {
        let settings = match settings {
            Ok(settings) => settings,
            Err(error) => {
                debug!(%error, topic = %name, "whether it is compacted is not known");
                continue;
            }
        };
        let policy = settings.get(CLEANUP).and_then(|it| it.value.as_deref());
        let Some(policy) = policy.filter(|it| *it != "compact") else {
            continue;
        };
        let set = vec![ConfigOp::Set(CLEANUP.to_owned(), "compact".to_owned())];
        let outcome = match may {
            true => target
                .incremental_alter_configs(&[(name.clone(), set)].into(), TIMEOUT)?
                .remove(&name)
                .unwrap_or(Ok(())),
            false => return Ok(()),
        };
        match outcome {
            Ok(()) => {
                warn!(topic = %name, was = policy, "cleanup.policy set to compact: progress would have been deleted with time")
            }
            Err(error) => {
                let servers = &connection.bootstrap_servers;
                let detail = format!(
                    "{name} has cleanup.policy={policy}, so progress is deleted with time, and it cannot be changed ({}): kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics --entity-name {name} --add-config cleanup.policy=compact",
                    error.detail
                );
                return Err(Error::new(Code::OwnTopicUnfit, detail));
            }
        }
    }
    Ok(())
}

/// MM2's default for its internal topics.
const MM2_REPLICATION_FACTOR: i32 = 3;

/// Whether a cluster has said that it does not have a topic.
pub fn is_topic_missing(error: &Error) -> bool {
    [Code::SourceTopicMissing, Code::TargetTopicMissing].contains(&error.code)
}

/// Creates a topic of MM2's where it does not exist, as MM2 does: one partition, compacted.
///
/// # Errors
/// The cluster cannot be asked, or refuses.
pub fn ensure_mm2_topic(admin: &Admin, name: &str, timeout: Duration) -> Result<()> {
    let described = admin.describe_topics(&[name], timeout)?;
    match described.get(name) {
        Some(Ok(_)) => return Ok(()),
        Some(Err(error)) if !is_topic_missing(error) => {
            return Err(Error::new(error.code, format!("{name}: {}", error.detail)));
        }
        _ => {}
    }
    let brokers = i32::try_from(admin.brokers(timeout)?).unwrap_or(i32::MAX);
    let topic = NewTopic {
        name: name.to_owned(),
        partitions: 1,
        replication_factor: MM2_REPLICATION_FACTOR.min(brokers),
        configs: [("cleanup.policy".to_owned(), "compact".to_owned())].into(),
    };
    for created in admin.create_topics(&[topic], timeout)?.into_values() {
        created.map_err(|error| Error::new(error.code, format!("creating {name}: {}", error.detail)))?;
    }
    Ok(())
}
