//! Where the source ends, and from it the lag of what this daemon copies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use strum::VariantArray;
use tracing::debug;

use super::Duty;
use super::supervision::Part;
use crate::context::FlowContext;
use crate::copy::assignment::Assignment;
use crate::error::Result;
use crate::kafka::TopicPartition;
use crate::kafka::admin::OffsetSpec;
use crate::metrics::PartitionMetrics;
use crate::state::task_of;
use crate::status::{PartitionState, PartitionStatus, TaskStatus};

use clock::{LagClock, SourceEnd};

pub mod clock;

/// How often the ends are asked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long one question about them may take.
const ASKING: Duration = Duration::from_secs(3);
/// Ends older than this are unknown.
const FRESH: Duration = Duration::from_secs(5);

/// Of the partitions of this daemon, as each was heard last.
pub type SourceEnds = BTreeMap<TopicPartition, PartitionEnd>;

/// Where the source of one partition ends, and since when something waits there.
#[derive(Clone, Copy, Debug)]
pub struct PartitionEnd {
    /// As it was heard.
    pub end: SourceEnd,
    /// When the oldest record that was not copied then had first been seen to exist.
    pub waiting_since: Option<Instant>,
}

impl PartitionEnd {
    /// Puts end and lag into the status of the partition. Lag is unknown where the end has not been heard lately; what
    /// is known to wait goes on ageing.
    pub fn tell(&self, status: &mut PartitionStatus, now: Instant) {
        let end = &self.end;
        let fresh = now.saturating_duration_since(end.heard) <= FRESH;
        let since = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
        status.source_end_offset = Some(end.stable);
        status.source_high_watermark = end.high;
        if fresh {
            status.uncommitted_records = end.uncommitted();
            status.open_transaction_seconds = end.waits_since.map(since);
        }
        if let Some(next) = status.next_source_offset {
            status.lag_records = fresh.then(|| (end.stable - next).max(0) as u64);
            status.lag_seconds = match next < end.stable {
                true => self.waiting_since.map(since),
                false => fresh.then_some(0.0),
            };
        }
    }
}

/// Puts ends and lag into the status of tasks.
pub fn tell(ends: &SourceEnds, tasks: &mut [TaskStatus], now: Instant) {
    for it in tasks.iter_mut().flat_map(|task| &mut task.partitions) {
        if let Some(end) = ends.get(&TopicPartition::new(it.topic.as_str(), it.partition)) {
            end.tell(it, now);
        }
    }
}

/// The duty.
#[derive(Default)]
pub struct Lag {
    known: BTreeMap<TopicPartition, (SourceEnd, LagClock)>,
    gauges: BTreeMap<TopicPartition, PartitionMetrics>,
}

impl Duty for Lag {
    type Report = SourceEnds;
    const PART: Part = Part::Lag;

    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn pass(&mut self, flow: &FlowContext, assignment: &Assignment) -> Result<SourceEnds> {
        self.ask(flow, assignment);
        let now = Instant::now();
        let mut tasks = assignment.status(now);
        let ends = self.ends(&tasks);
        tell(&ends, &mut tasks, now);
        self.show(flow, &tasks);
        Ok(ends)
    }
}

impl Lag {
    /// Asks where the source ends. What is not heard this time stays, and ages.
    fn ask(&mut self, flow: &FlowContext, assignment: &Assignment) {
        let Some(view) = flow.view.load_full() else {
            return;
        };
        self.known.retain(|tp, _| view.partitions.contains_key(tp));
        let owned: BTreeSet<u32> = assignment.tasks.keys().copied().collect();
        let asked: Vec<_> = view
            .partitions
            .keys()
            .filter(|tp| owned.contains(&task_of(tp, view.tasks)))
            .map(|tp| (tp.clone(), OffsetSpec::Latest))
            .collect();
        if asked.is_empty() {
            return;
        }
        let ask = |committed| flow.source_admin.list_offsets(&asked, committed, ASKING);
        // The high watermark first: what arrives in between would pass for a transaction otherwise.
        let high = ask(false).unwrap_or_default();
        let stable = match ask(true) {
            Ok(stable) => stable,
            Err(error) => return debug!(%error, "the source's ends are not known"),
        };
        let now = Instant::now();
        for (tp, stable) in stable {
            let Ok(stable) = stable else { continue };
            let high = high.get(&tp).and_then(|high| high.as_ref().ok().copied());
            let (before, mut clock) = match self.known.remove(&tp) {
                Some((before, clock)) => (Some(before), clock),
                None => (None, LagClock::default()),
            };
            clock.observe(stable, now);
            let end = SourceEnd::next(before.as_ref(), stable, high, now);
            self.known.insert(tp, (end, clock));
        }
    }

    fn ends(&self, tasks: &[TaskStatus]) -> SourceEnds {
        let partitions = tasks.iter().flat_map(|task| &task.partitions);
        let told = partitions.filter_map(|it| {
            let tp = TopicPartition::new(it.topic.as_str(), it.partition);
            let (end, clock) = self.known.get(&tp)?;
            let end = PartitionEnd {
                end: *end,
                waiting_since: it.next_source_offset.and_then(|next| clock.waiting_since(next)),
            };
            Some((tp, end))
        });
        told.collect()
    }

    fn show(&mut self, flow: &FlowContext, tasks: &[TaskStatus]) {
        let partitions = || tasks.iter().flat_map(|task| &task.partitions);
        for state in PartitionState::VARIANTS.iter().copied() {
            let count = partitions().filter(|it| it.state == state).count();
            flow.metrics.partitions(state, count);
        }
        let mut gauges = std::mem::take(&mut self.gauges);
        for it in partitions() {
            let tp = TopicPartition::new(it.topic.as_str(), it.partition);
            let gauge = gauges
                .remove(&tp)
                .unwrap_or_else(|| PartitionMetrics::new(&flow.spec.id, &it.topic, it.partition));
            gauge.lag(it.lag_records, it.lag_seconds);
            gauge.uncommitted(it.uncommitted_records, it.open_transaction_seconds);
            self.gauges.insert(tp, gauge);
        }
        // A partition that went to another daemon is not ours to know.
        for gauge in gauges.values() {
            gauge.lag(None, None);
            gauge.uncommitted(None, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_ages_until_the_record_is_copied_and_is_never_zero_by_ignorance() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let told = PartitionEnd {
            end: SourceEnd::next(None, 20, Some(20), at(5)),
            waiting_since: Some(at(1)),
        };
        let lag = |next, seconds| {
            let mut status = PartitionStatus {
                next_source_offset: next,
                ..PartitionStatus::default()
            };
            told.tell(&mut status, at(seconds));
            (status.lag_records, status.lag_seconds)
        };
        assert_eq!(lag(Some(15), 9), (Some(5), Some(8.0)));
        assert_eq!(lag(Some(20), 9), (Some(0), Some(0.0)));
        // The end has not been heard for long: there may be more than is known.
        assert_eq!(lag(Some(20), 99), (None, None));
        assert_eq!(lag(Some(15), 99), (None, Some(98.0)));
        assert_eq!(lag(None, 9), (None, None));
    }
}
