//! Keeps the target's topics like the source's, and tells the tasks what they can copy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use super::lag::SourceEnds;
use super::supervision::Part;
use super::{Duty, Told};
use crate::context::{ADMIN_TIMEOUT, Accepts, FlowContext, Route, View, now_ms};
use crate::copy::assignment::{Assignment, FlowLead};
use crate::error::{Code, Error, Result};
use crate::kafka::TopicPartition;
use crate::kafka::admin::Admin;
use crate::metrics::ConfigSyncMetrics;
use crate::names::replication_policy::Exclusion;
use crate::state::topics::{self, Found};
use crate::status::ConfigSyncStatus;
use crate::topology::{FlowSpec, SyncMode};

use plan::MAX_MESSAGE_BYTES;

mod origins;
pub mod plan;
mod syncer;

pub use origins::Origins;
pub use plan::TopicView;
pub use syncer::{Applied, Pass, Reading, Syncer, apply, read};

/// The duty. Everybody reads; who leads the flow changes the target.
pub struct ConfigSync {
    own: Found,
    syncer: Syncer,
    /// Of source and target, once they were told.
    cluster_ids: Option<(String, String)>,
    /// Selected partitions that the target does not have, and since when.
    absent: BTreeMap<TopicPartition, Instant>,
    /// For what is said about topics that are deleted.
    ends: watch::Receiver<Told<SourceEnds>>,
    status: ConfigSyncStatus,
    read: Option<Instant>,
    replaced: Option<Error>,
    interval: Duration,
    metrics: ConfigSyncMetrics,
}

/// What a pass has found.
#[derive(Debug)]
pub struct Report {
    /// For the status.
    pub status: ConfigSyncStatus,
    /// When both sides were read last.
    pub read: Option<Instant>,
    /// Why no task may run: a cluster or an own topic is not the one that the flow started with.
    pub replaced: Option<Error>,
}

impl Duty for ConfigSync {
    type Report = Report;
    const PART: Part = Part::ConfigSync;

    fn interval(&self) -> Duration {
        self.interval
    }

    /// A task has met a topic that is not there.
    fn bell(flow: &FlowContext) -> Option<&Notify> {
        Some(&flow.look)
    }

    fn pass(&mut self, flow: &FlowContext, assignment: &Assignment) -> Result<Report> {
        self.interval = flow.spec.config_sync.interval;
        match self.look(flow, assignment.lead()) {
            Ok((pass, missed)) => {
                if let Some(error) = self.replaced.take() {
                    info!(was = %error, "the flow finds what it started with again");
                }
                self.read = Some(Instant::now());
                self.conclude(flow, assignment, &pass, missed);
            }
            Err(error) if stops_tasks(&error) => {
                self.metrics.errors(1);
                if self.replaced.as_ref() != Some(&error) {
                    error!(%error, advice = error.code.page().advice, "the flow stops");
                }
                self.replaced = Some(error);
            }
            Err(error) => {
                self.metrics.errors(1);
                return Err(error);
            }
        }
        Ok(Report {
            status: self.status.clone(),
            read: self.read,
            replaced: self.replaced.clone(),
        })
    }
}

impl ConfigSync {
    /// The duty of a flow with these topics of its own.
    pub fn new(flow: &FlowContext, own: Found, ends: watch::Receiver<Told<SourceEnds>>) -> Self {
        Self {
            own,
            syncer: Syncer::new(
                flow.source_admin.clone(),
                flow.target_admin.clone(),
                Origins::new(flow.source.clone()),
                flow.spec.clone(),
            ),
            cluster_ids: None,
            absent: BTreeMap::new(),
            ends,
            status: ConfigSyncStatus {
                mode: mode(&flow.spec),
                ..ConfigSyncStatus::default()
            },
            read: None,
            replaced: None,
            interval: flow.spec.config_sync.interval,
            metrics: ConfigSyncMetrics::new(&flow.spec.id),
        }
    }

    /// Reads both sides and, for who leads, changes the target.
    fn look(&mut self, flow: &FlowContext, lead: Option<FlowLead>) -> Result<(Pass, Missed)> {
        let id = &flow.spec.id;
        let checked = topics::check(&flow.target_admin, &flow.target, id, &self.own, lead.is_some());
        let ids = match &self.cluster_ids {
            Some(ids) => ids.clone(),
            None => {
                checked.clone()?;
                flow.source_admin.list_topics(ADMIN_TIMEOUT)?;
                let source = cluster_id(&flow.source_admin, Code::SourceUnexpected)?;
                let target = cluster_id(&flow.target_admin, Code::TargetUnexpected)?;
                flow.clusters.note(&source, &id.source)?;
                flow.clusters.note(&target, &id.target)?;
                (source, target)
            }
        };
        // Before anything is changed, and once more with what the pass has heard.
        same_clusters(flow, &ids)?;
        checked?;
        let pass = self.syncer.pass(lead)?;
        same_clusters(flow, &ids)?;
        let missed = match flow.view.load_full() {
            Some(before) => missed(&flow.source_admin, &before, &pass.reading)?,
            None => Missed::default(),
        };
        self.cluster_ids = Some(ids);
        Ok((pass, missed))
    }

    /// Says what a pass has found, and tells the tasks what they can copy now.
    fn conclude(&mut self, flow: &FlowContext, assignment: &Assignment, pass: &Pass, missed: Missed) {
        self.metrics.pass();
        self.report(&flow.spec, pass);
        for topic in &missed.deleted {
            match self.uncopied(assignment, topic) {
                Some(0) => info!(topic, "{DELETED}"),
                uncopied => warn!(topic, ?uncopied, "{DELETED}"),
            }
        }
        let ids = self
            .cluster_ids
            .as_ref()
            .expect("a pass that came to something has found them");
        let mut view = view(pass, missed.hidden, self.own.tasks, ids);
        self.hold_absent(&flow.spec, &mut view);
        if flow.view.load().as_ref().is_none_or(|old| **old != view) {
            info!(
                partitions = view.partitions.len(),
                "partitions that can be copied"
            );
            flow.view.store(Some(Arc::new(view)));
        }
        // What was just created can be copied at once.
        if pass
            .applied
            .as_ref()
            .is_some_and(|applied| !applied.changed.is_empty())
        {
            self.interval = Duration::from_millis(100);
        }
    }

    /// Partitions that the target does not get although two passes could have made them, are held.
    fn hold_absent(&mut self, spec: &FlowSpec, view: &mut View) {
        let is_absent = |tp: &&TopicPartition| !view.partitions.contains_key(*tp);
        // What was deleted at the source meanwhile is not missed.
        self.absent
            .retain(|tp, _| view.selected.contains_key(tp) && is_absent(&tp));
        for tp in view.selected.keys().filter(is_absent) {
            self.absent.entry(tp.clone()).or_insert_with(Instant::now);
        }
        let late = 2 * spec.config_sync.interval;
        for (tp, since) in &self.absent {
            if late < since.elapsed() || spec.config_sync.mode == SyncMode::Report {
                let error = Error::new(Code::TargetTopicMissing, "the target does not have the partition");
                view.held.entry(tp.clone()).or_insert(error);
            }
        }
    }

    /// How many records a topic was last seen to have behind what is copied by this daemon.
    fn uncopied(&self, assignment: &Assignment, topic: &str) -> Option<i64> {
        let told = self.ends.borrow();
        let (ends, _) = told.report.as_ref()?;
        let tasks = assignment.status(Instant::now());
        let partitions = tasks.iter().flat_map(|task| &task.partitions);
        let of_topic: Vec<_> = partitions.filter(|it| it.topic == topic).collect();
        (!of_topic.is_empty()).then_some(())?;
        let behind = of_topic.iter().map(|it| {
            let end = ends.get(&TopicPartition::new(topic, it.partition))?;
            Some((end.end.stable - it.next_source_offset?).max(0))
        });
        behind.sum()
    }

    /// Puts a pass into metrics, status and log.
    fn report(&mut self, spec: &FlowSpec, pass: &Pass) {
        let (changed, failed) = pass
            .applied
            .as_ref()
            .map_or((&[][..], &[][..]), |applied| (&applied.changed, &applied.errors));
        let errors: Vec<String> = pass.plan.errors.iter().chain(failed).cloned().collect();
        let pending = pass.plan.changes.len().saturating_sub(changed.len()) as u64;
        self.metrics.changes(changed.len() as u64);
        self.metrics.errors(errors.len() as u64);
        self.metrics.pending(pending);
        if errors.is_empty() {
            self.metrics.last_success(now_ms() as f64 / 1000.0);
        }
        for change in changed {
            info!(%change, "config sync");
        }
        let known = &self.status.errors;
        for error in errors.iter().filter(|error| !known.contains(error)) {
            warn!(error, "config sync");
        }
        let left = match spec.config_sync.mode {
            SyncMode::Apply => &[][..],
            SyncMode::Report => &pass.plan.changes[..],
        };
        let left = left
            .iter()
            .map(|change| format!("mode report leaves to you: {change}"));
        self.status = ConfigSyncStatus {
            mode: mode(spec),
            seconds_since_last_pass: None,
            pending_changes: pending,
            errors,
            warnings: pass.plan.warnings.iter().cloned().chain(left).collect(),
            // Of a large cluster, most topics are none of this flow's business.
            excluded: pass
                .reading
                .excluded
                .iter()
                .filter(|(_, why)| **why != Exclusion::NotSelected)
                .map(|(topic, why)| (topic.clone(), why.to_string()))
                .collect(),
        };
    }
}

const DELETED: &str = "the source topic was deleted; its copy on the target stays, and its progress is kept";

/// Topics that were copied and that the source lists no more.
#[derive(Default)]
struct Missed {
    deleted: Vec<String>,
    /// Still there, as far as can be told.
    hidden: BTreeMap<String, Error>,
}

/// A cluster leaves out of its list what we may not describe. Only a topic that it says it does not have, when asked by
/// name, was deleted.
fn missed(source: &Admin, before: &View, now: &Reading) -> Result<Missed> {
    let known = before.selected.keys().map(|tp| &*tp.topic);
    let known: BTreeSet<&str> = known.chain(before.hidden.keys().map(String::as_str)).collect();
    let names: Vec<&str> = known
        .into_iter()
        .filter(|topic| !now.topics.contains_key(*topic) && !now.excluded.contains_key(*topic))
        .collect();
    let mut missed = Missed::default();
    if names.is_empty() {
        return Ok(missed);
    }
    for (topic, described) in source.describe_topics(&names, ADMIN_TIMEOUT)? {
        match described {
            Err(error) if error.code == Code::SourceTopicMissing => missed.deleted.push(topic),
            Err(error) => _ = missed.hidden.insert(topic, error),
            Ok(_) => {
                let error = Error::new(Code::SourceUnavailable, "the source does not list the topic");
                missed.hidden.insert(topic, error);
            }
        }
    }
    Ok(missed)
}

/// Which cluster answers.
fn cluster_id(admin: &Admin, unknown: Code) -> Result<String> {
    let id = admin.cluster_id();
    id.ok_or_else(|| Error::new(unknown, "the cluster does not tell its id"))
}

/// Whether the clusters that answered last are those that the flow started with.
fn same_clusters(context: &FlowContext, (source, target): &(String, String)) -> Result<()> {
    for (admin, known, code) in [
        (&context.source_admin, source, Code::SourceReplaced),
        (&context.target_admin, target, Code::TargetReplaced),
    ] {
        if let Some(id) = admin.cluster_id().filter(|id| id != known) {
            let detail = format!("the flow started with cluster {known}, and {id} answers at its address");
            return Err(Error::new(code, detail));
        }
    }
    Ok(())
}

/// Whether tasks may not go on: what they would copy, or where to, is not what they started with.
fn stops_tasks(error: &Error) -> bool {
    let replaced = [Code::SourceReplaced, Code::TargetReplaced, Code::OwnTopicLost];
    replaced.contains(&error.code)
}

/// The mode of config sync, as the status has it.
pub fn mode(spec: &FlowSpec) -> String {
    match spec.config_sync.mode {
        SyncMode::Apply => "apply".into(),
        SyncMode::Report => "report".into(),
    }
}

/// The partitions that are selected and present on both sides, and those that the target does not get.
/// `hidden`: topics that were copied and that the source does not list.
pub(super) fn view(
    pass: &Pass,
    mut hidden: BTreeMap<String, Error>,
    tasks: u32,
    (source_id, target_id): &(String, String),
) -> View {
    let reading = &pass.reading;
    let (mut partitions, mut selected, mut held) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (source, remote) in &reading.topics {
        let here = match reading.source.get(source) {
            Some(Ok(here)) => here,
            Some(Err(error)) => {
                hidden.insert(source.clone(), error.clone());
                continue;
            }
            None => continue,
        };
        let there = reading.target.get(remote).and_then(|view| view.as_ref().ok());
        let accepts = there.map(accepts).unwrap_or_default();
        let refused = pass.applied.as_ref().and_then(|it| it.refused.get(remote));
        let unreadable = reading.target.get(remote).and_then(|view| view.as_ref().err());
        let trouble = reading.held.get(source).or(unreadable).or(refused);
        let topic: Arc<str> = source.as_str().into();
        for partition in 0..here.partitions {
            let tp = TopicPartition {
                topic: topic.clone(),
                partition,
            };
            selected.insert(tp.clone(), here.id.clone());
            if let Some(there) = there.filter(|there| partition < there.partitions) {
                let route = Route {
                    remote: remote.clone(),
                    topic_id: here.id.clone(),
                    target_topic_id: there.id.clone(),
                    accepts: accepts.clone(),
                };
                partitions.insert(tp, route);
            } else if let Some(trouble) = trouble {
                held.insert(tp, trouble.clone());
            }
        }
    }
    View {
        partitions,
        selected,
        held,
        hidden,
        tasks,
        source_cluster_id: source_id.clone(),
        target_cluster_id: target_id.clone(),
    }
}

/// What a target topic takes, by its settings.
fn accepts(topic: &TopicView) -> Accepts {
    let value = |key: &str| topic.configs.get(key)?.value.as_deref();
    let deciding = |key: &&String| {
        key.starts_with("message.")
            || [MAX_MESSAGE_BYTES, "min.insync.replicas", "cleanup.policy"].contains(&key.as_str())
    };
    let settings: Vec<String> = topic
        .configs
        .keys()
        .filter(deciding)
        .map(|key| format!("{key}={}", value(key).unwrap_or_default()))
        .collect();
    Accepts {
        settings: settings.join("\n").into(),
        batch_bytes: value(MAX_MESSAGE_BYTES).and_then(|value| value.parse().ok()),
        min_in_sync: value("min.insync.replicas").and_then(|value| value.parse().ok()),
    }
}
