//! The sync loop of a flow: a pass of the config syncer every interval, and from it the view that tells the
//! tasks what can be copied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::supervision::{Busy, Part, panicked};
use super::{Shared, SyncReport, watch};
use crate::context::{ADMIN_TIMEOUT, Accepts, FlowContext, Route, View, lock, now_ms};
use crate::error::{Code, Error, Result};
use crate::kafka::TopicPartition;
use crate::kafka::admin::Admin;
use crate::metrics::ConfigSyncMetrics;
use crate::names::replication_policy::Exclusion;
use crate::services::config_sync::plan::MAX_MESSAGE_BYTES;
use crate::services::config_sync::{Origins, Pass, Reading, Syncer, TopicView};
use crate::state::topics::{self, Found};
use crate::status::{ConfigSyncStatus, FlowStatus};
use crate::topology::{FlowSpec, SyncMode};

/// Longest pause between passes of the config syncer after errors.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Keeps the target's topics like the source's, and the tasks' view up to date.
pub(super) async fn run(
    context: Arc<FlowContext>,
    shared: Arc<Mutex<Shared>>,
    drain: CancellationToken,
    own: Found,
) -> Result<()> {
    let spec = &context.spec;
    let metrics = ConfigSyncMetrics::new(&spec.id);

    let mut cluster_ids: Option<(String, String)> = None;
    let mut syncer = Syncer::new(
        context.source_admin.clone(),
        context.target_admin.clone(),
        Origins::new(context.source.clone()),
        spec.clone(),
    );
    let mut failures = 0u32;
    let mut absent: BTreeMap<TopicPartition, Instant> = BTreeMap::new();
    loop {
        // Whoever owns task 0 changes the target; everybody reads.
        let apply = lock(&shared).tasks.contains_key(&0);
        let call = {
            let (context, own, ids) = (context.clone(), own.clone(), cluster_ids.clone());
            let before = context.view.load_full();
            move || {
                let pass: Result<_> = (|| {
                    let (target, id) = (&context.target, &context.spec.id);
                    let checked = topics::check(&context.target_admin, target, id, &own, apply);
                    let ids = match ids {
                        Some(ids) => ids,
                        None => {
                            checked.clone()?;
                            context.source_admin.list_topics(ADMIN_TIMEOUT)?;
                            let source = cluster_id(&context.source_admin, Code::SourceUnexpected)?;
                            let target = cluster_id(&context.target_admin, Code::TargetUnexpected)?;
                            context.clusters.note(&source, &id.source)?;
                            context.clusters.note(&target, &id.target)?;
                            (source, target)
                        }
                    };
                    // Before anything is changed, and once more with what the pass has heard.
                    same_clusters(&context, &ids)?;
                    checked?;
                    let pass = syncer.pass(apply)?;
                    same_clusters(&context, &ids)?;
                    let missed = match &before {
                        Some(before) => missed(&context.source_admin, before, &pass.reading)?,
                        None => Missed::default(),
                    };
                    Ok((ids, pass, missed))
                })();
                (syncer, pass)
            }
        };
        let busy = Busy::at(&shared, Part::ConfigSync);
        let (returned, result) = tokio::task::spawn_blocking(call).await.map_err(panicked)?;
        drop(busy);
        syncer = returned;
        let mut pause = spec.config_sync.interval;
        match result {
            Ok((ids, pass, missed)) => {
                failures = 0;
                metrics.pass();
                if let Some(error) = lock(&shared).replaced.take() {
                    info!(was = %error, "the flow finds what it started with again");
                }
                report_pass(&shared, &metrics, spec, &pass);
                let mut view = view(&pass, missed.hidden, own.tasks, &ids);
                let is_absent = |tp: &&TopicPartition| !view.partitions.contains_key(*tp);
                // What was deleted at the source meanwhile is not missed.
                absent.retain(|tp, _| view.selected.contains_key(tp) && is_absent(&tp));
                for tp in view.selected.keys().filter(is_absent) {
                    absent.entry(tp.clone()).or_insert_with(Instant::now);
                }
                // Two passes are promised; who owns task 0 needs one.
                let late = 2 * spec.config_sync.interval;
                for (tp, since) in &absent {
                    if late < since.elapsed() || spec.config_sync.mode == SyncMode::Report {
                        let error =
                            Error::new(Code::TargetTopicMissing, "the target does not have the partition");
                        view.held.entry(tp.clone()).or_insert(error);
                    }
                }
                cluster_ids = Some(ids);
                for topic in missed.deleted {
                    match uncopied(
                        &watch::status(spec, &lock(&shared), false, Instant::now()),
                        &topic,
                    ) {
                        Some(0) => info!(topic, "{DELETED}"),
                        uncopied => warn!(topic, ?uncopied, "{DELETED}"),
                    }
                }
                let grown = context.view.load().as_ref().is_none_or(|old| **old != view);
                if grown {
                    info!(
                        partitions = view.partitions.len(),
                        "partitions that can be copied"
                    );
                    context.view.store(Some(Arc::new(view)));
                }
                // What was just created can be copied at once.
                if pass.applied.is_some_and(|applied| !applied.changed.is_empty()) {
                    pause = Duration::from_millis(100);
                }
            }
            Err(error) if stops_tasks(&error) => {
                metrics.errors(1);
                let mut shared = lock(&shared);
                if shared.replaced.as_ref() != Some(&error) {
                    error!(%error, advice = error.code.page().advice, "the flow stops");
                }
                shared.replaced = Some(error);
            }
            Err(error) => {
                failures += 1;
                pause = (pause * 2u32.saturating_pow(failures.min(4) - 1)).min(LONGEST_PAUSE.max(pause));
                warn!(%error, advice = error.code.page().advice, retry_in = ?pause, "config sync failed");
                metrics.errors(1);
                let mut shared = lock(&shared);
                let report = shared.sync.get_or_insert_with(|| SyncReport {
                    at: None,
                    status: ConfigSyncStatus {
                        mode: mode(spec),
                        ..ConfigSyncStatus::default()
                    },
                });
                report.status.errors = vec![format!("{error}; {}", error.code.page().advice)];
                shared.sync_trouble = Some(error);
            }
        }
        // The first passes may come before task 0 does: do not make the first record wait for the interval.
        if !apply && !lock(&shared).joined && failures == 0 {
            pause = Duration::from_millis(100);
        }
        tokio::select! {
            () = drain.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
            () = context.look.notified() => {}
        }
    }
}

const DELETED: &str = "the source topic was deleted; its copy on the target stays, and its progress is kept";

/// How many records a topic was last seen to have behind what is copied by this daemon.
fn uncopied(flow: &FlowStatus, topic: &str) -> Option<i64> {
    let partitions = flow.tasks.iter().flat_map(|task| &task.partitions);
    let of_topic: Vec<_> = partitions.filter(|it| it.topic == topic).collect();
    let behind = of_topic
        .iter()
        .map(|it| Some((it.source_end_offset? - it.next_source_offset?).max(0)));
    (!of_topic.is_empty()).then_some(())?;
    behind.sum()
}

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

fn mode(spec: &FlowSpec) -> String {
    match spec.config_sync.mode {
        SyncMode::Apply => "apply".into(),
        SyncMode::Report => "report".into(),
    }
}

/// Puts a pass into metrics, status and log.
fn report_pass(shared: &Mutex<Shared>, metrics: &ConfigSyncMetrics, spec: &FlowSpec, pass: &Pass) {
    let (changed, failed) = pass
        .applied
        .as_ref()
        .map_or((&[][..], &[][..]), |applied| (&applied.changed, &applied.errors));
    let errors: Vec<String> = pass.plan.errors.iter().chain(failed).cloned().collect();
    let pending = pass.plan.changes.len().saturating_sub(changed.len()) as u64;
    metrics.changes(changed.len() as u64);
    metrics.errors(errors.len() as u64);
    metrics.pending(pending);
    if errors.is_empty() {
        metrics.last_success(now_ms() as f64 / 1000.0);
    }
    for change in changed {
        info!(%change, "config sync");
    }
    let mut shared = lock(shared);
    let known = shared
        .sync
        .as_ref()
        .map(|report| report.status.errors.clone())
        .unwrap_or_default();
    for error in errors.iter().filter(|error| !known.contains(error)) {
        warn!(error, "config sync");
    }
    shared.sync_trouble = None;
    let left = match spec.config_sync.mode {
        SyncMode::Apply => &[][..],
        SyncMode::Report => &pass.plan.changes[..],
    };
    let left = left
        .iter()
        .map(|change| format!("mode report leaves to you: {change}"));
    shared.sync = Some(SyncReport {
        at: Some(Instant::now()),
        status: ConfigSyncStatus {
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
        },
    });
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
