//! The watch loop of a flow: where the source ends, and from it lag, gauges and the flow's status.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::debug;

use super::lag::SourceEnd;
use super::status::{self, Facts};
use super::supervision::{Busy, Part};
use super::{Shared, blocking};
use crate::context::{FlowContext, lock};
use crate::error::Result;
use crate::kafka::TopicPartition;
use crate::kafka::admin::OffsetSpec;
use crate::metrics::{PARTITION_STATES, PartitionMetrics};
use crate::state::task_of;
use crate::status::{FlowStatus, HeartbeatStatus};
use crate::topology::{Delivery, FlowSpec};

/// How often source ends are asked for and the status is put together.
const WATCH: Duration = Duration::from_secs(1);
/// How long one question about the ends may take.
const ASKING: Duration = Duration::from_secs(3);
/// Source ends older than this are unknown.
const ENDS_FRESH: Duration = Duration::from_secs(5);

/// Asks for the source's ends and keeps lag and gauges up to date.
pub(super) async fn run(context: Arc<FlowContext>, shared: Arc<Mutex<Shared>>) -> Result<()> {
    let mut tick = tokio::time::interval(WATCH);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let _busy = Busy::at(&shared, Part::Watch);
        let Some(view) = context.view.load_full() else {
            continue;
        };
        let owned: BTreeSet<u32> = lock(&shared).tasks.keys().copied().collect();
        let asked: Vec<_> = view
            .partitions
            .keys()
            .filter(|tp| owned.contains(&task_of(tp, view.tasks)))
            .map(|tp| (tp.clone(), OffsetSpec::Latest))
            .collect();
        if !asked.is_empty() {
            let context = context.clone();
            let call = move || {
                let ask = |committed| context.source_admin.list_offsets(&asked, committed, ASKING);
                // The high watermark first: what arrives in between would pass for a transaction otherwise.
                let high = ask(false);
                Ok((high.unwrap_or_default(), ask(true)?))
            };
            match blocking(call).await {
                Ok((high, stable)) => {
                    let now = Instant::now();
                    let mut shared = lock(&shared);
                    let Shared {
                        ends: known, clocks, ..
                    } = &mut *shared;
                    // What is not heard this time stays, and ages.
                    known.retain(|tp, _| view.partitions.contains_key(tp));
                    clocks.retain(|tp, _| view.partitions.contains_key(tp));
                    for (tp, stable) in stable {
                        if let Ok(stable) = stable {
                            clocks.entry(tp.clone()).or_default().observe(stable, now);
                            let high = high.get(&tp).and_then(|high| high.as_ref().ok().copied());
                            let end = SourceEnd::next(known.get(&tp), stable, high, now);
                            known.insert(tp, end);
                        }
                    }
                }
                Err(error) => debug!(%error, "the source's ends are not known"),
            }
        }
        let now = Instant::now();
        let status = status(&context.spec, &lock(&shared), false, now);
        let partitions = || status.tasks.iter().flat_map(|task| &task.partitions);
        for state in PARTITION_STATES {
            context
                .metrics
                .partitions(state, partitions().filter(|it| it.state == state).count());
        }
        let mut shared = lock(&shared);
        let mut gauges = std::mem::take(&mut shared.gauges);
        for it in partitions() {
            let tp = TopicPartition::new(it.topic.as_str(), it.partition);
            let gauge = gauges
                .remove(&tp)
                .unwrap_or_else(|| PartitionMetrics::new(&context.spec.id, &it.topic, it.partition));
            gauge.lag(it.lag_records, it.lag_seconds);
            gauge.uncommitted(it.uncommitted_records, it.open_transaction_seconds);
            shared.gauges.insert(tp, gauge);
        }
        // A partition that went to another daemon is not ours to know.
        for gauge in gauges.values() {
            gauge.lag(None, None);
            gauge.uncommitted(None, None);
        }
    }
}

/// Puts the status of a flow together. Lag is unknown where the source's end has not been heard lately.
pub(super) fn status(spec: &FlowSpec, shared: &Shared, abandoned: bool, now: Instant) -> FlowStatus {
    let running = shared.tasks.values().map(|handle| handle.status(now));
    let absent = shared.absent.iter().map(|(task, absent)| absent.status(*task));
    let mut tasks: Vec<_> = running.chain(absent).collect();
    tasks.sort_by_key(|task| task.task);
    let (mut records, mut seconds) = (Some(0u64), Some(0f64));
    let (mut uncommitted, mut open) = (Some(0u64), None::<f64>);
    for it in tasks.iter_mut().flat_map(|task| &mut task.partitions) {
        let tp = TopicPartition::new(it.topic.as_str(), it.partition);
        let known = shared.ends.get(&tp);
        let fresh = known.is_some_and(|end| now.saturating_duration_since(end.heard) <= ENDS_FRESH);
        if let Some(end) = known {
            it.source_end_offset = Some(end.stable);
            it.source_high_watermark = end.high;
            if fresh {
                it.uncommitted_records = end.uncommitted();
                it.open_transaction_seconds = end
                    .waits_since
                    .map(|since| now.saturating_duration_since(since).as_secs_f64());
            }
            if let Some(next) = it.next_source_offset {
                it.lag_records = fresh.then(|| (end.stable - next).max(0) as u64);
                it.lag_seconds = shared
                    .clocks
                    .get(&tp)
                    .and_then(|clock| clock.age(next, now, fresh));
            }
        }
        uncommitted = uncommitted
            .zip(it.uncommitted_records)
            .map(|(sum, count)| sum + count);
        open = [open, it.open_transaction_seconds]
            .into_iter()
            .flatten()
            .reduce(f64::max);
        records = records.zip(it.lag_records).map(|(sum, lag)| sum + lag);
        seconds = seconds.zip(it.lag_seconds).map(|(longest, lag)| longest.max(lag));
    }
    // A task that starts has not said yet which partitions it has: their sum would be 0, which is not the lag.
    let starting = tasks
        .iter()
        .any(|task| matches!(task.state.as_str(), "starting" | "failed"));
    let has_view = shared
        .context
        .as_ref()
        .is_some_and(|context| context.view.load().is_some());
    let known = !tasks.is_empty() && !starting && has_view;
    let parts: Vec<_> = shared
        .parts
        .iter()
        .map(|(part, health)| health.status(*part, now))
        .collect();
    let (state, reason) = status::state(&Facts {
        stopped: shared.stopped,
        draining: shared.draining,
        abandoned,
        connected: shared.context.is_some(),
        trouble: shared.replaced.as_ref().or(shared.trouble.as_ref()),
        parts: &parts,
        tasks: &tasks,
        joined: shared.joined,
        holders: shared.holders.now(now),
        has_view,
        sync_trouble: shared.sync_trouble.as_ref(),
        sync_error: shared
            .sync
            .as_ref()
            .and_then(|report| report.status.errors.first().map(String::as_str)),
        group_error: shared
            .groups
            .as_ref()
            .and_then(|groups| groups.errors.first().map(String::as_str)),
    });
    FlowStatus {
        topology: spec.id.topology.clone(),
        flow: spec.id.to_string(),
        delivery: match spec.delivery {
            Delivery::ExactlyOnce => "exactly_once".into(),
            Delivery::AtLeastOnce => "at_least_once".into(),
        },
        state: state.into(),
        reason,
        tasks_total: shared.tasks_total,
        lag_records: records.filter(|_| known),
        lag_seconds: seconds.filter(|_| known),
        uncommitted_records: uncommitted.filter(|_| known),
        open_transaction_seconds: open,
        config_sync: shared.sync.as_ref().map(|report| {
            let mut status = report.status.clone();
            let since = report
                .at
                .map(|at| now.saturating_duration_since(at).as_secs_f64());
            status.seconds_since_last_pass = since;
            status
        }),
        groups: shared.groups.clone(),
        heartbeats: shared.heartbeats.as_ref().map(|(status, at)| {
            let since = now.saturating_duration_since(*at).as_secs_f64();
            HeartbeatStatus {
                age_seconds: status.age_seconds.map(|age| age + since),
                ..status.clone()
            }
        }),
        parts,
        tasks,
    }
}
