//! The topics that a flow owns on the target.

use std::time::{Duration, Instant};

use tracing::info;

use crate::error::{Code, Error, Result};
use crate::kafka::admin::{Admin, NewTopic};
use crate::topology::{FlowId, FlowSpec};

/// How long a question to the target may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The number of tasks of a flow: the partitions of its progress topic. `None`: the flow was never created.
///
/// # Errors
/// The target cannot tell.
pub fn tasks(target: &Admin, id: &FlowId) -> Result<Option<u32>> {
    let names = [id.offset_map_topic(), id.progress_topic()];
    let described = target.describe_topics(&names.each_ref().map(String::as_str), TIMEOUT)?;
    let mut tasks = None;
    for name in &names {
        match described.get(name) {
            Some(Ok(topic)) => tasks = Some(topic.partitions as u32),
            Some(Err(e)) if e.code == Code::TargetTopicMissing => return Ok(None),
            Some(Err(e)) => return Err(e.clone()),
            None => return Ok(None),
        }
    }
    Ok(tasks)
}

/// Creates the progress and offset-map topics; returns the number of tasks.
///
/// # Errors
/// The target cannot be asked, or refuses.
pub fn create(target: &Admin, spec: &FlowSpec) -> Result<u32> {
    let id = &spec.id;
    let names = [id.progress_topic(), id.offset_map_topic()];
    let partitions = spec.tasks as i32;
    create_topics(target, spec, names.map(|name| (name, partitions)))?;
    // The new topics take a moment to reach every broker's metadata.
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(tasks) = tasks(target, id)? {
            info!(tasks, "flow created on the target");
            return Ok(tasks);
        }
        if deadline <= Instant::now() {
            let (one, other) = (id.progress_topic(), id.offset_map_topic());
            return Err(Error::new(
                Code::TargetUnexpected,
                format!("{one} and {other} do not appear"),
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Creates the topic of the audit trail where it does not exist.
///
/// # Errors
/// The target cannot be asked, or refuses.
pub fn ensure_audit(target: &Admin, spec: &FlowSpec) -> Result<()> {
    let name = spec.id.failover_topic();
    // Who may not create it may find it made.
    match target.describe_topics(&[&name], TIMEOUT)?.remove(&name) {
        Some(Ok(topic)) if topic.writable == Some(false) => Err(Error::new(
            Code::TargetStateNotAuthorized,
            format!("{name} may not be written"),
        )),
        Some(Ok(_)) => Ok(()),
        _ => create_topics(target, spec, [(name, 1)]),
    }
}

fn create_topics<const N: usize>(target: &Admin, spec: &FlowSpec, topics: [(String, i32); N]) -> Result<()> {
    let brokers = target.brokers(TIMEOUT)? as i32;
    let replication_factor = spec.config_sync.replication_factor.unwrap_or(3).min(brokers);
    let topics = topics.map(|(name, partitions)| NewTopic {
        name,
        partitions,
        replication_factor,
        // Keys are written again with every commit; only segments that are closed are cleaned.
        configs: [("cleanup.policy", "compact"), ("segment.bytes", "16777216")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    });
    for (name, created) in target.create_topics(&topics, TIMEOUT)? {
        created.map_err(|e| Error::new(e.code, format!("creating {name}: {}", e.detail)))?;
    }
    Ok(())
}
