//! Keeps the target's topics like the source's: read both sides → plan (pure) → apply the differences.
//!
//! Every call here blocks. Back-off and the interval belong to the caller.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::origins::Origins;
use super::plan::{self, Change, OwnedKeys, Plan, Rules, TopicView, plan};
use crate::context::ADMIN_TIMEOUT;
use crate::copy::assignment::FlowLead;
use crate::error::{Code, Error, Result};
use crate::kafka::admin::{Admin, ConfigOp, NewTopic};
use crate::names::replication_policy::{self, Exclusion, collisions};
use crate::topology::{FlowSpec, SyncMode};

/// What both sides look like.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The selected topics: name on the source → name on the target.
    pub topics: BTreeMap<String, String>,
    /// Topics of the source that are not copied, and why.
    pub excluded: BTreeMap<String, Exclusion>,
    /// Of the selected topics, by their names on the source, those that the target cannot have, and why.
    pub held: BTreeMap<String, Error>,
    /// Selected topics by their names on the source.
    pub source: plan::Views,
    /// Their counterparts by their names on the target; absent if they do not exist.
    pub target: plan::Views,
    /// Brokers alive on the target; only asked for where a topic is to be created.
    pub live_brokers: Option<usize>,
}

/// Reads both sides.
///
/// # Errors
/// When a cluster cannot be asked at all. Errors of single topics are inside the reading.
pub fn read(source: &Admin, target: &Admin, flow: &FlowSpec, origins: &mut Origins) -> Result<Reading> {
    let names = source.list_topics(ADMIN_TIMEOUT)?;
    let prefixes = origins.look(source, target, flow, names.keys().map(String::as_str))?;
    let (mut topics, excluded) = replication_policy::select(
        flow.naming(),
        &flow.topics,
        flow.heartbeat_topics,
        &prefixes,
        names.keys().map(String::as_str),
    );
    let source = views(source, topics.keys())?;
    // Deleted since they were listed.
    topics.retain(|name, _| source.contains_key(name));
    let there = views(target, topics.values())?;
    // The answer names every topic of the cluster.
    let creates = topics.values().any(|remote| !there.contains_key(remote));
    let live_brokers = creates.then(|| target.brokers(ADMIN_TIMEOUT)).transpose()?;
    Ok(Reading {
        held: held(target, &topics, &there)?,
        source,
        target: there,
        live_brokers,
        excluded,
        topics,
    })
}

/// The topics that Kafka would not create on the target, because it takes their names for those of others.
fn held(
    target: &Admin,
    topics: &BTreeMap<String, String>,
    there: &plan::Views,
) -> Result<BTreeMap<String, Error>> {
    let new = || topics.values().filter(|remote| !there.contains_key(*remote));
    if !new().any(|remote| remote.contains(['.', '_'])) {
        return Ok(BTreeMap::new());
    }
    let present = target.list_topics(ADMIN_TIMEOUT)?;
    let refused = collisions(new().map(String::as_str), present.keys().map(String::as_str));
    let held = |(topic, remote): (&String, &String)| {
        let first = refused.get(remote)?;
        let detail = format!("{remote} and {first} are one name to Kafka, and {first} came first");
        Some((topic.clone(), Error::new(Code::TargetNameCollides, detail)))
    };
    Ok(topics.iter().filter_map(held).collect())
}

/// Describes topics; those that do not exist are absent.
fn views<'a>(admin: &Admin, names: impl Iterator<Item = &'a String>) -> Result<plan::Views> {
    let names: Vec<&str> = names.map(String::as_str).collect();
    let mut configs = admin.describe_configs(&names, ADMIN_TIMEOUT)?;
    let mut views = plan::Views::new();
    for (name, topic) in admin.describe_topics(&names, ADMIN_TIMEOUT)? {
        // Settings that are not told must not pass for settings that are not made.
        let Some(configs) = configs.remove(&name) else {
            continue;
        };
        let view = topic.and_then(|topic| {
            Ok(TopicView {
                id: topic.id,
                partitions: topic.partitions,
                replication_factor: topic.replication_factor,
                configs: configs?,
            })
        });
        let missing = [Code::SourceTopicMissing, Code::TargetTopicMissing];
        if !matches!(&view, Err(error) if missing.contains(&error.code)) {
            views.insert(name, view);
        }
    }
    Ok(views)
}

/// What became of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The changes that are done. A topic that had to be created without its settings shows none here; those
    /// that were set afterwards follow one by one.
    pub changed: Vec<Change>,
    /// What failed, one line each.
    pub errors: Vec<String>,
    /// By name on the target, the topics that could not be created or grown.
    pub refused: BTreeMap<String, Error>,
}

impl Applied {
    fn note(&mut self, change: Change, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.changed.push(change),
            Err(error) => {
                self.errors.push(plan::error_line(&change, &error));
                if let Change::CreateTopic { topic, .. } | Change::GrowPartitions { topic, .. } = change {
                    self.refused.insert(topic, error);
                }
            }
        }
    }
}

/// Applies a plan to the target as far as possible: a topic or setting that is refused holds back no other.
/// When the cluster goes away in between, the rest is left for the next pass.
pub fn apply(admin: &Admin, plan: &Plan) -> Applied {
    let mut applied = Applied::default();
    let mut steps = || -> Result<()> {
        let mut settings = create(admin, plan, &mut applied)?;
        grow(admin, plan, &mut applied)?;
        settings.extend(plan.changes.iter().cloned());
        alter(&settings, &mut applied, |batch| {
            admin.incremental_alter_configs(batch, ADMIN_TIMEOUT)
        })
    };
    if let Err(error) = steps() {
        applied.errors.push(plan::error_line("config sync", &error));
    }
    applied
}

/// Creates the missing topics. One that is refused with its settings is created without them, and they are
/// returned, to be set one by one.
fn create(admin: &Admin, plan: &Plan, applied: &mut Applied) -> Result<Vec<Change>> {
    let wanted: Vec<NewTopic> = plan.changes.iter().filter_map(new_topic).collect();
    let mut outcomes = admin.create_topics(&wanted, ADMIN_TIMEOUT)?;
    let mut refused = Vec::new();
    for topic in wanted {
        match take(&mut outcomes, &topic.name) {
            Err(error) if error.code == Code::TargetSettingRefused && !topic.configs.is_empty() => {
                refused.push(topic);
            }
            outcome => applied.note(creation(topic), outcome),
        }
    }
    let mut settings = Vec::new();
    let mut bare = Vec::new();
    for mut topic in refused {
        let configs = std::mem::take(&mut topic.configs);
        settings.extend(configs.into_iter().map(|(key, value)| Change::SetConfig {
            topic: topic.name.clone(),
            key,
            value,
            was: None,
        }));
        bare.push(topic);
    }
    let mut outcomes = admin.create_topics(&bare, ADMIN_TIMEOUT)?;
    for topic in bare {
        let outcome = take(&mut outcomes, &topic.name);
        if outcome.is_err() {
            settings.retain(|change| change.topic() != topic.name);
        }
        applied.note(creation(topic), outcome);
    }
    Ok(settings)
}

fn new_topic(change: &Change) -> Option<NewTopic> {
    match change {
        Change::CreateTopic {
            topic,
            partitions,
            replication_factor,
            configs,
        } => Some(NewTopic {
            name: topic.clone(),
            partitions: *partitions,
            replication_factor: *replication_factor,
            configs: configs.clone(),
        }),
        _ => None,
    }
}

fn creation(topic: NewTopic) -> Change {
    Change::CreateTopic {
        topic: topic.name,
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        configs: topic.configs,
    }
}

fn grow(admin: &Admin, plan: &Plan, applied: &mut Applied) -> Result<()> {
    let growth = |change: &Change| match change {
        Change::GrowPartitions { topic, to, .. } => Some((topic.clone(), *to)),
        _ => None,
    };
    let wanted: Vec<_> = plan.changes.iter().filter_map(growth).collect();
    let mut outcomes = admin.grow_topics(&wanted, ADMIN_TIMEOUT)?;
    for change in plan.changes.iter().filter(|change| growth(change).is_some()) {
        applied.note(change.clone(), take(&mut outcomes, change.topic()));
    }
    Ok(())
}

type Alterations = BTreeMap<String, Vec<ConfigOp>>;
type Outcomes = BTreeMap<String, Result<()>>;

/// Changes settings, all of a topic at once. Kafka takes all changes of a topic or none, so where one is
/// refused they are repeated one by one: in rounds that hold one change of every such topic, so that the
/// number of requests depends on the settings of a topic and not on the number of topics.
fn alter(
    changes: &[Change],
    applied: &mut Applied,
    mut send: impl FnMut(&Alterations) -> Result<Outcomes>,
) -> Result<()> {
    let mut topics: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
    for change in changes.iter().filter(|change| operation(change).is_some()) {
        topics.entry(change.topic()).or_default().push(change);
    }
    let mut outcomes = send(&alterations(
        topics.iter().map(|(topic, all)| (*topic, all.as_slice())),
    ))?;
    topics.retain(|topic, all| match take(&mut outcomes, topic) {
        Err(error) if error.code == Code::TargetSettingRefused && 1 < all.len() => true,
        outcome => {
            for change in all {
                applied.note((*change).clone(), outcome.clone());
            }
            false
        }
    });
    let rounds = topics.values().map(Vec::len).max().unwrap_or(0);
    for round in 0..rounds {
        let batch: BTreeMap<&str, &Change> = topics
            .iter()
            .filter_map(|(topic, all)| Some((*topic, *all.get(round)?)))
            .collect();
        let single = batch
            .iter()
            .map(|(topic, change)| (*topic, std::slice::from_ref(change)));
        let mut outcomes = send(&alterations(single))?;
        for (topic, change) in batch {
            applied.note(change.clone(), take(&mut outcomes, topic));
        }
    }
    Ok(())
}

fn alterations<'a>(topics: impl Iterator<Item = (&'a str, &'a [&'a Change])>) -> Alterations {
    topics
        .map(|(topic, changes)| {
            let operations = changes.iter().filter_map(|change| operation(change)).collect();
            (topic.to_owned(), operations)
        })
        .collect()
}

fn operation(change: &Change) -> Option<ConfigOp> {
    match change {
        Change::SetConfig { key, value, .. } => Some(ConfigOp::Set(key.clone(), value.clone())),
        Change::DeleteConfig { key, .. } => Some(ConfigOp::Delete(key.clone())),
        Change::CreateTopic { .. } | Change::GrowPartitions { .. } => None,
    }
}

fn take(outcomes: &mut Outcomes, topic: &str) -> Result<()> {
    outcomes.remove(topic).unwrap_or_else(|| {
        let detail = format!("the answer does not mention {topic}");
        Err(Error::new(Code::TargetUnexpected, detail))
    })
}

/// The config syncer of one flow.
#[derive(Debug)]
pub struct Syncer {
    source: Arc<Admin>,
    target: Arc<Admin>,
    flow: FlowSpec,
    origins: Origins,
    rules: Rules,
    owned: OwnedKeys,
}

/// One pass of the syncer.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Both sides before anything was changed.
    pub reading: Reading,
    /// What was wanted.
    pub plan: Plan,
    /// What was done; `None` in a pass that only looks.
    pub applied: Option<Applied>,
}

impl Syncer {
    /// A syncer for `flow`.
    pub fn new(source: Arc<Admin>, target: Arc<Admin>, origins: Origins, flow: FlowSpec) -> Self {
        Self {
            origins,
            rules: Rules::new(&flow.config_sync),
            source,
            target,
            flow,
            owned: OwnedKeys::default(),
        }
    }

    /// Reads, plans and, for who leads the flow and unless that is in mode `report`, applies.
    ///
    /// # Errors
    /// When a cluster cannot be asked at all. Errors of single topics are in the pass.
    pub fn pass(&mut self, lead: Option<FlowLead>) -> Result<Pass> {
        let reading = read(&self.source, &self.target, &self.flow, &mut self.origins)?;
        let Reading {
            topics,
            held,
            source,
            target,
            live_brokers,
            ..
        } = &reading;
        self.owned.observe(&self.rules, topics, source, target);
        let live_brokers = live_brokers.unwrap_or_default();
        let mut possible = topics.clone();
        possible.retain(|topic, _| !held.contains_key(topic));
        let mut plan = plan(&self.rules, &possible, source, target, live_brokers, &self.owned);
        plan.errors
            .extend(held.iter().map(|(topic, error)| plan::error_line(topic, error)));
        let applied = (lead.is_some() && self.flow.config_sync.mode == SyncMode::Apply)
            .then(|| self::apply(&self.target, &plan));
        if let Some(applied) = &applied {
            self.owned.record(&applied.changed);
        }
        Ok(Pass {
            reading,
            plan,
            applied,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(topic: &str, key: &str) -> Change {
        Change::SetConfig {
            topic: topic.into(),
            key: key.into(),
            value: "1".into(),
            was: None,
        }
    }

    /// A cluster that refuses, as Kafka does, all changes of a topic if one is of the key `bad`.
    fn refuse_bad(batch: &Alterations) -> Outcomes {
        let outcome = |ops: &Vec<ConfigOp>| {
            if ops.contains(&ConfigOp::Set("bad".into(), "1".into())) {
                Err(Error::new(Code::TargetSettingRefused, "bad"))
            } else {
                Ok(())
            }
        };
        batch
            .iter()
            .map(|(topic, ops)| (topic.clone(), outcome(ops)))
            .collect()
    }

    #[test]
    fn the_number_of_requests_does_not_grow_with_the_number_of_refused_topics() {
        let topics: Vec<String> = (0..1_000).map(|i| format!("t{i}")).collect();
        let keys = ["a", "bad", "c"];
        let changes: Vec<Change> = topics
            .iter()
            .flat_map(|topic| keys.map(|key| set(topic, key)))
            .collect();
        let (mut applied, mut requests) = (Applied::default(), 0);
        alter(&changes, &mut applied, |batch| {
            requests += 1;
            Ok(refuse_bad(batch))
        })
        .unwrap();
        assert_eq!(requests, 1 + keys.len());
        assert_eq!((applied.changed.len(), applied.errors.len()), (2_000, 1_000));
    }

    #[test]
    fn a_topic_we_may_not_alter_is_asked_about_once() {
        let changes = [set("t", "a"), set("t", "b")];
        let (mut applied, mut requests) = (Applied::default(), 0);
        alter(&changes, &mut applied, |_| {
            requests += 1;
            let denied = Error::new(Code::TargetNotAuthorized, "denied");
            Ok([("t".to_owned(), Err(denied))].into())
        })
        .unwrap();
        assert_eq!(requests, 1);
        assert!(applied.changed.is_empty() && applied.errors.len() == 2);
    }

    #[test]
    fn what_was_done_before_the_cluster_went_away_is_known() {
        let changes = [set("good", "a"), set("mixed", "a"), set("mixed", "bad")];
        let (mut applied, mut requests) = (Applied::default(), 0);
        let outcome = alter(&changes, &mut applied, |batch| {
            requests += 1;
            match requests {
                1 => Ok(refuse_bad(batch)),
                _ => Err(Error::new(Code::TargetUnreachable, "away")),
            }
        });
        assert_eq!(outcome.unwrap_err().code, Code::TargetUnreachable);
        assert_eq!(applied.changed, [set("good", "a")]);
        assert_eq!(applied.errors, Vec::<String>::new());
    }

    #[test]
    fn a_topic_the_answer_leaves_out_is_an_error() {
        let mut applied = Applied::default();
        alter(&[set("t", "a")], &mut applied, |_| Ok(Outcomes::new())).unwrap();
        assert_eq!((applied.changed.len(), applied.errors.len()), (0, 1));
    }
}
