//! What a session stores: the progress of its partitions, their offset map, and what was found of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::{ABORT_TIMEOUT, Assigned, Session};
use crate::context::now_ms;
use crate::copy::engine::COMMIT_TIMEOUT;
use crate::error::{Code, Error, Result};
use crate::kafka::TopicPartition;
use crate::state::gaps::Gap;
use crate::state::ledger::StateRecord;
use crate::state::resume::LeaderEpoch;
use crate::state::slot::{progress_record, segment_record};
use crate::state::{audit, bounds, topics};
use crate::topology::Delivery;

impl Session<'_> {
    /// Has gaps told to the audit trail by the commit that stores them. Who may not write there copies all the
    /// same: what is stored has the newest gaps and the sum of all.
    pub(super) fn declare(&mut self, gaps: Vec<(TopicPartition, Gap)>) {
        if gaps.is_empty() {
            return;
        }
        match topics::ensure_audit(&self.task.flow.target_admin, &self.task.flow.spec) {
            Ok(()) => self.declared.extend(gaps),
            Err(error) => warn!(%error, gaps = gaps.len(), "the audit trail is not told of declared gaps"),
        }
    }

    /// Whether what is to be committed was read of the topics that were taken in. librdkafka reads by topic id, and
    /// goes on at its position when the id changes; it hears of another id by an answer about metadata only. So where
    /// none has come since the ids were last looked at, nothing needs to be asked.
    ///
    /// # Errors
    /// A topic was made anew.
    pub(super) fn confirm(&mut self) -> Result<()> {
        let answers = self.engine.metadata_answers();
        let mut known = BTreeMap::new();
        for partition in self.state.dirty() {
            let tp = &self.partitions[partition.0].tp;
            if self.confirmed.get(&tp.topic) != Some(&answers)
                && let Some(progress) = self.slot.progress.get(tp)
            {
                known.insert(&*tp.topic, progress.topic_id.as_str());
            }
        }
        if known.is_empty() {
            return Ok(());
        }
        match bounds::made_anew(&self.task.flow.source_admin, &known) {
            Ok(anew) => match anew.first() {
                None => {
                    let topics: Vec<Arc<str>> = known.into_keys().map(Arc::from).collect();
                    self.confirmed
                        .extend(topics.into_iter().map(|topic| (topic, answers)));
                    Ok(())
                }
                Some((topic, id)) => {
                    let detail = format!("{topic} has id {id} now; what was read since is not committed");
                    Err(Error::new(Code::SourceRecreated, detail))
                }
            },
            // When the source dies, the last that it gave counts more than this question.
            Err(error) => {
                debug!(%error, "whether topics were made anew is not known");
                Ok(())
            }
        }
    }

    pub(super) fn commit(&mut self) -> Result<()> {
        self.confirm()?;
        let started = Instant::now();
        let moved = self.state.has_moved();
        let (mut records, mut mirrored): (Vec<StateRecord>, Vec<StateRecord>) = (vec![], vec![]);
        // Together with the progress that lists them, or lists them no longer.
        let of_gaps: BTreeSet<_> = self
            .declared
            .iter()
            .map(|(tp, _)| tp)
            .chain(&self.unstored)
            .collect();
        let of_gaps = of_gaps
            .into_iter()
            .filter_map(|tp| Some((tp, self.slot.progress.get(tp)?)));
        records.extend(of_gaps.map(|(tp, progress)| progress_record(tp, progress)));
        let flow = &self.task.flow.spec.id;
        records.extend(audit::gap_records(flow, self.task.task, now_ms(), &self.declared));
        if self.unborn_changed {
            records.push(self.birth());
        }
        let mut committed = vec![];
        for pending in self.state.pending() {
            let Assigned { tp, read, .. } = &self.partitions[pending.partition.0];
            let Some(progress) = self.slot.progress.get(tp) else {
                continue;
            };
            let mut progress = progress.clone();
            let next = pending.next_source.0.0;
            progress.next_source_offset = next;
            // What was read beyond may be of a later epoch: what lies before has none that is greater.
            progress.leader_epoch = read.map(|it| LeaderEpoch {
                offset: it.offset.min(next),
                ..it
            });
            progress.next_target_offset = Some(pending.next_target);
            records.push(progress_record(tp, &progress));
            committed.push((tp.clone(), progress));
            if let Some(mirror) = &self.mirror {
                mirrored.extend(mirror.record(tp, pending.next_source));
            }
            records.extend(pending.segments.iter().map(|segment| segment_record(tp, segment)));
        }
        self.engine.commit(&records, self.open, COMMIT_TIMEOUT)?;
        self.open = false;
        self.declared.clear();
        self.unborn_changed = false;
        self.unstored.clear();
        self.slot.progress.extend(committed);
        if !mirrored.is_empty() {
            // Not with the records: an MM2 that does not work exactly once reads what is not committed, too, and
            // would leave out what an aborted transaction had said.
            self.engine.commit(&mirrored, false, COMMIT_TIMEOUT)?;
        }
        // Where copying begins can be stored although nothing can be copied.
        if moved {
            self.task.failures = 0;
        }
        self.task.metrics.commit(started.elapsed());
        Ok(())
    }

    /// The session ends by an error: keep what is certain, free readers of the target from waiting.
    pub(super) fn settle(&mut self) {
        let settled = match self.task.flow.spec.delivery {
            Delivery::ExactlyOnce if self.open => {
                self.task.metrics.abort();
                self.task.left_open = true;
                self.engine.abort(ABORT_TIMEOUT)
            }
            Delivery::ExactlyOnce => Ok(()),
            Delivery::AtLeastOnce => {
                self.engine.poll(false, Duration::ZERO, &mut self.heard);
                self.commit()
            }
        };
        if let Err(error) = settled {
            debug!(%error, "the target aborts by itself when the task starts again");
        }
    }
}
