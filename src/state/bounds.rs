//! Asks both clusters what the rules of [`super::resume`] need to know.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::resume::Bounds;
use crate::error::{Code, Error, Result};
use crate::kafka::admin::{Admin, OffsetSpec};
use crate::kafka::{TopicId, TopicPartition};

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What both sides have of source partitions, each with its topic on the target.
///
/// # Errors
/// A cluster cannot be asked at all. Errors of single partitions are theirs.
pub fn ask(
    source: &Admin,
    target: &Admin,
    wanted: &[(TopicPartition, String)],
) -> Result<BTreeMap<TopicPartition, Result<Bounds>>> {
    let ask = |spec: OffsetSpec| {
        let asked: Vec<_> = wanted.iter().map(|(tp, _)| (tp.clone(), spec)).collect();
        source.list_offsets(&asked, false, TIMEOUT)
    };
    let (starts, ends) = (ask(OffsetSpec::Earliest)?, ask(OffsetSpec::Latest)?);
    // What the caller knows may be older than a topic made anew, whose offsets would look like a truncated log.
    // Asked last, so that old offsets may meet a new id but never the other way round.
    let topics: BTreeSet<&str> = wanted.iter().map(|(tp, _)| &*tp.topic).collect();
    let topics: Vec<&str> = topics.into_iter().collect();
    let described = source.describe_topics(&topics, TIMEOUT)?;
    let remote = |tp: &TopicPartition, remote: &str| TopicPartition::new(remote, tp.partition);
    let remotes: Vec<_> = wanted
        .iter()
        .map(|(tp, name)| (remote(tp, name), OffsetSpec::Latest))
        .collect();
    let target_ends = target.list_offsets(&remotes, false, TIMEOUT)?;
    let names: BTreeSet<&str> = wanted.iter().map(|(_, name)| name.as_str()).collect();
    let targets = target.describe_topics(&names.into_iter().collect::<Vec<_>>(), TIMEOUT)?;
    let bounds = |tp: &TopicPartition, name: &str| {
        let there = match targets.get(name) {
            Some(topic) => topic.as_ref().map_err(Error::clone)?,
            None => return Err(Error::new(Code::TargetTopicMissing, "no answer about the topic")),
        };
        let topic_id = match described.get(&*tp.topic) {
            Some(topic) => topic.as_ref().map_err(Error::clone)?.id.clone(),
            None => return Err(Error::new(Code::SourceTopicMissing, "no answer about the topic")),
        };
        Ok(Bounds {
            topic_id,
            log_start: offset(&starts, tp)?,
            end: offset(&ends, tp)?,
            target_topic_id: there.id.clone(),
            target_end: offset(&target_ends, &remote(tp, name))?,
            replicas: there.replication_factor as usize,
            in_sync: there.in_sync.get(tp.partition as usize).copied().unwrap_or(0),
            writable: there.writable,
        })
    };
    Ok(wanted
        .iter()
        .map(|(tp, name)| (tp.clone(), bounds(tp, name)))
        .collect())
}

/// How many offsets of topics on the target hold, or may hold, records. Of what cannot be told, there is no answer.
///
/// # Errors
/// The target cannot be asked at all.
pub fn occupied(target: &Admin, wanted: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ask = |spec: OffsetSpec| {
        let asked: Vec<_> = wanted.iter().map(|tp| (tp.clone(), spec)).collect();
        target.list_offsets(&asked, false, TIMEOUT)
    };
    let (starts, ends) = (ask(OffsetSpec::Earliest)?, ask(OffsetSpec::Latest)?);
    let held = |tp: &TopicPartition| Some(offset(&ends, tp).ok()? - offset(&starts, tp).ok()?);
    Ok(wanted
        .iter()
        .filter_map(|tp| Some((tp.clone(), held(tp).filter(|held| 0 < *held)?)))
        .collect())
}

/// Of topics that are known by an id those that have another now. One that is missing, or of which the cluster cannot
/// tell, is not among them.
///
/// # Errors
/// The cluster cannot be asked at all.
pub fn made_anew(admin: &Admin, known: &BTreeMap<&str, &str>) -> Result<Vec<(String, TopicId)>> {
    let names: Vec<&str> = known.keys().copied().collect();
    let described = admin.describe_topics(&names, TIMEOUT)?;
    let ids = described
        .into_iter()
        .filter_map(|(name, topic)| Some((name, topic.ok()?.id)));
    Ok(ids
        .filter(|(name, id)| known.get(name.as_str()).is_some_and(|known| **known != *id.0))
        .collect())
}

/// The answer about one partition.
///
/// # Errors
/// It is an error, or missing.
pub fn offset(offsets: &BTreeMap<TopicPartition, Result<i64>>, tp: &TopicPartition) -> Result<i64> {
    match offsets.get(tp) {
        Some(answer) => answer.clone(),
        None => Err(Error::new(
            Code::SourceUnexpected,
            format!("no answer about the offsets of {tp}"),
        )),
    }
}
