//! What a session says of its partitions.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Session;
use crate::copy::health::Held;
use crate::error::{Code, Remedy};
use crate::kafka::TopicPartition;
use crate::state::resume::NO_PROGRESS;
use crate::state::task_of;
use crate::status::{PartitionState, PartitionStatus};

/// An error of the source that the client retries is shown when a partition has given nothing for so long.
const STALLED: Duration = Duration::from_secs(5);

impl Session<'_> {
    pub(super) fn publish(&mut self, now: Instant) {
        self.published = Some(now);
        let mut partitions: Vec<PartitionStatus> = vec![];
        let present = self
            .view
            .partitions
            .keys()
            .filter(|tp| task_of(tp, self.view.tasks) == self.task.task);
        let absent = self.view.held.keys();
        let absent = absent.filter(|tp| task_of(tp, self.view.tasks) == self.task.task);
        // What was stopped and has left the view since, as with its topic, must not just vanish.
        let running = self.partitions.iter().filter(|it| it.active).map(|it| &it.tp);
        let held = self.task.health.all().map(|(tp, _)| tp);
        let all: BTreeSet<&TopicPartition> = present.chain(absent).chain(running).chain(held).collect();
        for tp in all {
            let stored = self.slot.progress.get(tp);
            let id = self.ids.get(tp).filter(|id| self.partitions[id.0].active);
            let held = self.task.health.held(tp);
            let absent = self.view.held.get(tp);
            let stalled = id
                .and_then(|id| self.partitions[id.0].complaint.as_ref())
                .filter(|(_, since)| STALLED <= now.saturating_duration_since(*since));
            let trouble = absent.or(stalled.map(|(error, _)| error));
            partitions.push(PartitionStatus {
                topic: tp.topic.to_string(),
                partition: tp.partition,
                state: match (held, id) {
                    (Some(held), _) if held.error.code == Code::SourceTopicMissing || held.is_brief(now) => {
                        PartitionState::Starting
                    }
                    (Some(held), _) if held.error.code.page().remedy == Remedy::HaltPartition => {
                        PartitionState::Halted
                    }
                    (Some(_), _) => PartitionState::Paused,
                    (None, _) if trouble.is_some() => PartitionState::Paused,
                    (None, Some(_)) => PartitionState::Running,
                    (None, None) => PartitionState::Starting,
                },
                reason: match (held, trouble) {
                    (Some(held), _) => Some(reason(held, now)),
                    (None, Some(error)) => Some(error.with_advice()),
                    (None, None) => None,
                },
                next_source_offset: match id {
                    Some(id) => self.state.stored_position(*id).map(|next| next.0.0),
                    None => stored.map(|stored| stored.next_source_offset),
                },
                next_target_offset: id
                    .and_then(|id| self.state.next_target(*id))
                    .or(stored.and_then(|stored| stored.next_target_offset)),
                source_end_offset: None,
                source_high_watermark: None,
                lag_records: None,
                lag_seconds: None,
                notice: self.task.unexplained.get(tp).map(|offsets| {
                    format!("the target held {offsets} offsets that no progress explains; {NO_PROGRESS}")
                }),
                uncommitted_records: None,
                open_transaction_seconds: None,
                replayed_records: stored.map_or(0, |stored| stored.replayed_records),
                gaps: stored.map_or(vec![], |stored| stored.gaps.lines()),
            });
        }
        let mut published = self.task.published.lock();
        published.at = now;
        let status = &mut published.status;
        status.waiting_for = match (self.task.account.wait().is_some(), self.state.is_full()) {
            (true, _) => Some("throttled".into()),
            (false, true) => Some("buffer_full".into()),
            (false, false) => None,
        };
        status.in_flight_bytes = self.state.in_flight_bytes();
        status.partitions = partitions;
    }
}

/// Why a partition waits, where, and for how long it has.
fn reason(held: &Held, now: Instant) -> String {
    let offset = held
        .offset
        .map_or(String::new(), |offset| format!(" (at source offset {offset})"));
    let since = now.saturating_duration_since(held.since).as_secs();
    format!(
        "{}{offset}; {}; held for {since} s",
        held.error,
        held.error.code.page().advice
    )
}
