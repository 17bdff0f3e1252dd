//! A flow in the hands of a command: what is stored of it is read, planned upon and written. Nobody runs it
//! meanwhile, or the tasks in question are taken from whoever runs them: see [`StoppedFlow::fence`].

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Code, Error, Result, Side};
use crate::kafka::admin::Admin;
use crate::kafka::client::ClusterConnection;
use crate::kafka::{NextOffset, Source, TopicPartition};
use crate::services::config_sync;
use crate::state::audit::{self, Change, Deed};
use crate::state::gaps::Gap;
use crate::state::ledger::{Fence, Ledger, NotFenced, StateRecord, fence_patiently};
use crate::state::mm2_positions::Mm2Mirror;
use crate::state::resume::Bounds;
use crate::state::slot::{Slot, progress_record};
use crate::state::task_of;
use crate::state::{bounds, topics};
use crate::topology::{FlowSpec, StartFrom};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long the members of a group may take to be told.
const ASKING: Duration = Duration::from_secs(10);
/// A daemon that has ended leaves its seat in the group to itself for so long: the session timeout, and a bit.
const SEAT: Duration = Duration::from_secs(8);

/// See the [module](self).
pub struct StoppedFlow<'a> {
    /// What it is.
    pub spec: &'a FlowSpec,
    /// Where records come from.
    pub source_connection: &'a ClusterConnection,
    /// Where they go.
    pub target_connection: &'a ClusterConnection,
    /// Asks the source.
    pub source: Admin,
    /// Asks the target.
    pub target: Admin,
    /// Tasks of the flow: those it has or, before it is created, will have.
    pub tasks: u32,
    exists: bool,
}

/// Tasks that are ours, by number.
pub type Ledgers = BTreeMap<u32, Ledger>;

impl<'a> StoppedFlow<'a> {
    /// The flow as the target knows it.
    ///
    /// # Errors
    /// The target cannot be asked.
    pub fn find(
        spec: &'a FlowSpec,
        source: &'a ClusterConnection,
        target: &'a ClusterConnection,
        client_id: &str,
    ) -> Result<Self> {
        let target_admin = Admin::new(target, client_id, Side::Target)?;
        let found = topics::find(&target_admin, target, &spec.id)?;
        Ok(Self {
            spec,
            source_connection: source,
            target_connection: target,
            source: Admin::new(source, client_id, Side::Source)?,
            target: target_admin,
            exists: found.is_some(),
            tasks: found.map_or(spec.tasks, |found| found.tasks),
        })
    }

    /// Creates what the flow owns on the target, if it does not exist.
    ///
    /// # Errors
    /// The target cannot be asked, or refuses.
    pub fn create(&mut self) -> Result<()> {
        if !self.exists {
            let found = topics::prepare(&self.target, self.target_connection, self.spec, None)?;
            self.tasks = found.tasks;
            self.exists = true;
        }
        Ok(())
    }

    /// The members that the flow's group still has after the seat of a daemon that has just ended is free.
    ///
    /// # Errors
    /// The target cannot be asked.
    pub fn members(&self) -> Result<Vec<String>> {
        let deadline = Instant::now() + SEAT;
        loop {
            let members = self.target.group_members(&self.spec.id.group(), ASKING)?;
            if members.is_empty() || deadline < Instant::now() {
                return Ok(members);
            }
            thread::sleep(Duration::from_millis(250));
        }
    }

    /// What is stored, by task: nothing, of a flow that was never created. Changes nothing: of a flow that runs it is
    /// what was committed last.
    ///
    /// # Errors
    /// The target does not answer, or a record cannot be understood.
    pub fn look(&self) -> Result<Vec<Slot>> {
        let topic = self.spec.id.progress_topic();
        self.each(|task| Slot::read(self.target_connection, &topic, task, TIMEOUT))
    }

    /// What is stored, by task, when all of them were fenced.
    ///
    /// # Errors
    /// As [`StoppedFlow::look`], or not all that is stored can be seen.
    pub fn read(&self) -> Result<Vec<Slot>> {
        self.each(|task| self.slot(task))
    }

    fn each(&self, read: impl Fn(u32) -> Result<Slot> + Sync) -> Result<Vec<Slot>> {
        if !self.exists {
            return Ok((0..self.tasks).map(|_| Slot::default()).collect());
        }
        thread::scope(|scope| {
            let reads: Vec<_> = (0..self.tasks)
                .map(|task| {
                    scope.spawn({
                        let read = &read;
                        move || read(task)
                    })
                })
                .collect();
            reads.into_iter().map(joined).collect()
        })
    }

    /// What is stored of one task that was fenced, of a flow that was created.
    ///
    /// # Errors
    /// As [`StoppedFlow::read`].
    pub fn slot(&self, task: u32) -> Result<Slot> {
        self.read_fenced(task)?.whole()
    }

    fn read_fenced(&self, task: u32) -> Result<Slot> {
        let topic = self.spec.id.progress_topic();
        Slot::read_fenced(&self.target, self.target_connection, &topic, task, TIMEOUT)
    }

    /// Fences every former owner of these tasks: what is read of them afterwards is ours to change. A daemon that
    /// runs one finds that out by its next commit, gives the task up and takes it again a second later; then a commit
    /// of ours that comes too late is refused.
    ///
    /// # Errors
    /// The target does not answer, or refuses.
    pub fn fence(&self, tasks: impl IntoIterator<Item = u32>) -> Result<Ledgers> {
        let fence = |task| {
            let fenced = |fence| {
                let mut ledger = Ledger::new(self.spec, fence, self.target_connection, None)?;
                let deadline = Instant::now() + TIMEOUT;
                let end = fence_patiently(|timeout| ledger.fence(timeout), |_| Instant::now() < deadline);
                match end {
                    Ok(()) => Ok(ledger),
                    Err(NotFenced::Waiting(error) | NotFenced::HeldUp(error) | NotFenced::Refused(error)) => {
                        Err(error)
                    }
                }
            };
            let ledger = fenced(Fence::Own(task))?;
            if self.exists && self.read_fenced(task)?.spare_may_write() {
                fenced(Fence::Spare(task))?;
            }
            Ok((task, ledger))
        };
        // One after another: a producer belongs to the thread that made it.
        tasks.into_iter().map(fence).collect()
    }

    /// The source partitions that the flow copies, with their topics on the target.
    ///
    /// # Errors
    /// A cluster cannot be asked.
    pub fn selected(&self) -> Result<Vec<(TopicPartition, String)>> {
        let mut origins = config_sync::Origins::new(self.source_connection.clone());
        let reading = config_sync::read(&self.source, &self.target, self.spec, &mut origins)?;
        let mut selected = vec![];
        for (topic, remote) in &reading.topics {
            let there = reading.source.get(topic).and_then(|view| view.as_ref().ok());
            for partition in 0..there.map_or(0, |view| view.partitions) {
                selected.push((TopicPartition::new(topic.as_str(), partition), remote.clone()));
            }
        }
        Ok(selected)
    }

    /// What both sides have of partitions.
    ///
    /// # Errors
    /// A cluster cannot be asked at all. Errors of single partitions are theirs.
    pub fn bounds(
        &self,
        wanted: &[(TopicPartition, String)],
    ) -> Result<BTreeMap<TopicPartition, Result<Bounds>>> {
        bounds::ask(&self.source, &self.target, wanted)
    }

    /// Of partitions with their topics on the target, those that hold records there although nothing is stored about
    /// them, and that would be copied from their beginning behind those. A flow that has never run may be told by
    /// `start_from` to leave out what is there.
    ///
    /// # Errors
    /// The target cannot be asked at all.
    pub fn unexplained(
        &self,
        stored: &[Slot],
        wanted: &[(TopicPartition, String)],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let new = stored.iter().all(|slot| !slot.born);
        let explained = |tp: &TopicPartition| {
            new && self.spec.start_from != StartFrom::Earliest
                || stored.iter().any(|slot| slot.progress.contains_key(tp))
        };
        let there =
            |(tp, remote): &(TopicPartition, String)| TopicPartition::new(remote.as_str(), tp.partition);
        let asked: Vec<_> = wanted.iter().filter(|(tp, _)| !explained(tp)).collect();
        let remotes: Vec<_> = asked.iter().map(|it| there(it)).collect();
        let occupied = bounds::occupied(&self.target, &remotes)?;
        Ok(asked
            .into_iter()
            .filter_map(|it| Some((it.0.clone(), *occupied.get(&there(it))?)))
            .collect())
    }

    /// The task of a partition.
    pub fn task_of(&self, partition: &TopicPartition) -> u32 {
        task_of(partition, self.tasks)
    }

    /// What the audit trail is to be told of changed partitions besides: their gaps of which it was never told.
    pub fn untold(&self, task: u32, slot: &Slot, changes: &[Change], at_ms: i64) -> Vec<StateRecord> {
        let changed = |it: &&(TopicPartition, Gap)| changes.iter().any(|change| change.partition == it.0);
        let gaps: Vec<_> = slot.untold.iter().filter(changed).cloned().collect();
        audit::gap_records(&self.spec.id, task, at_ms, &gaps)
    }

    /// Stores changes, the tasks that are ours one after another, each in one transaction with its line of the audit
    /// trail and with `more` records of the task; then, where MM2 is to find them, as MM2's positions. Returns the
    /// tasks whose changes are stored, and what stopped the others.
    pub fn store(
        &self,
        ledgers: &mut Ledgers,
        changes: &[Change],
        more: &BTreeMap<u32, Vec<StateRecord>>,
        deed: &Deed<'_>,
    ) -> (Vec<u32>, Result<()>) {
        let mut done = vec![];
        let steps = || -> Result<()> {
            topics::ensure_audit(&self.target, self.spec)?;
            let mirror = match self.spec.mirror_maker.mirror_positions {
                true => Some(Mm2Mirror::find(&self.target, self.spec)?),
                false => None,
            };
            for (&task, ledger) in ledgers {
                let ours = || changes.iter().filter(|it| self.task_of(&it.partition) == task);
                let more = more.get(&task).map_or(&[][..], Vec::as_slice);
                if ours().next().is_none() && more.is_empty() {
                    continue;
                }
                let mut records: Vec<_> = ours()
                    .map(|it| progress_record(&it.partition, &it.after))
                    .collect();
                records.extend_from_slice(more);
                records.push(audit::record(&self.spec.id, task, deed, ours()));
                ledger.commit(&records, false, TIMEOUT)?;
                done.push(task);
                let next = |it: &Change| Source(NextOffset(it.after.next_source_offset));
                let mirrored: Vec<_> = mirror
                    .iter()
                    .flat_map(|mirror| ours().filter_map(|it| mirror.record(&it.partition, next(it))))
                    .collect();
                if !mirrored.is_empty() {
                    ledger.commit(&mirrored, false, TIMEOUT)?;
                }
            }
            Ok(())
        };
        let outcome = steps();
        (done, outcome)
    }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    let panicked = |_| Err(Error::new(Code::Panicked, "reading stored progress"));
    thread.join().unwrap_or_else(panicked)
}
