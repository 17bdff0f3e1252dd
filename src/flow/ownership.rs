//! Which tasks run here: one loop between the group, which gives tasks out, and their threads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::membership::{Membership, Ownership};
use crate::context::{ADMIN_TIMEOUT, FlowContext};
use crate::copy::assignment::{Absent, Assignment, Holders};
use crate::copy::thread::{TaskEnd, TaskHandle};
use crate::error::{Code, Error, Result};
use crate::services::supervision::{Restarts, blocking};
use crate::services::{Told, config_sync};
use crate::state::topics::Found;
use crate::status::STALE;

/// How often the group is asked who has the tasks while we have none, …
const ASK: Duration = Duration::from_secs(1);
/// … and once that is known.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Pause after a task of ours was fenced although the group says that it is ours.
const FENCED: Duration = Duration::from_secs(1);

/// Runs the tasks that the group gives us, until drained. Tasks that run already go on.
///
/// # Errors
/// The membership ended, or gives tasks to nobody.
pub(super) async fn run(
    context: Arc<FlowContext>,
    assignment: Arc<watch::Sender<Assignment>>,
    config_sync: watch::Receiver<Told<config_sync::Report>>,
    drain: CancellationToken,
    instance: String,
    own: Found,
) -> Result<()> {
    assignment.send_modify(|it| it.joined = false);
    let id = &context.spec.id;
    let label = format!("{} {id} {instance}", id.topology);
    let owned = match alone(&context, &label).await {
        Ok(true) => (0..own.tasks).collect(),
        Ok(false) => BTreeSet::new(),
        Err(error) => {
            debug!(%error, "whether the group has other members is not known");
            BTreeSet::new()
        }
    };
    let (events, ownership) = mpsc::unbounded_channel();
    // A seat belongs to one progress topic: the group gives a static member that comes back what its seat had, for ever
    // nothing if that was assigned before the topic was there.
    let seat = format!("{instance}.{}", own.progress_id);
    let config = context.target.member(&label, &id.group(), &seat);
    let membership = Membership::join(&config, &id.progress_topic(), &label, move |event| {
        // The receiver is gone only while everything ends.
        let _ = events.send(event);
    })?;
    let mut owner = Owner {
        context,
        assignment,
        config_sync,
        drain,
        label,
        tasks: own.tasks,
        owned,
        joined: false,
        releasing: BTreeSet::new(),
        restarts: BTreeMap::new(),
        asking: None,
        ask_at: None,
        idle_since: None,
    };
    let end = owner.run(ownership, &membership).await;
    // Leaving closes a consumer, which may wait for the target.
    let left = tokio::task::spawn_blocking(move || drop(membership));
    if tokio::time::timeout(Duration::from_secs(2), left).await.is_err() {
        debug!("the group will notice by its session timeout that we left");
    }
    end
}

/// Whether the group has no members but our own former life. An early start is safe then because tasks fence each
/// other. It saves the broker's initial rebalance delay, which applies to a group without members, and after a crash
/// of ours the time that joining takes: a seat that bears our own name is our former life's.
async fn alone(context: &Arc<FlowContext>, label: &str) -> Result<bool> {
    let (context, own) = (context.clone(), label.to_owned());
    blocking(move || {
        let members = context
            .target_admin
            .group_members(&context.spec.id.group(), ADMIN_TIMEOUT)?;
        Ok(members.iter().all(|member| *member == own))
    })
    .await
}

/// Asks every task to finish what it has begun, and waits for all of them.
pub(super) async fn end_tasks(assignment: &watch::Sender<Assignment>) {
    let tasks: Vec<TaskHandle> = assignment.borrow().tasks.values().cloned().collect();
    tasks.iter().for_each(TaskHandle::drain);
    for task in tasks {
        task.ended().await;
    }
}

struct Owner {
    context: Arc<FlowContext>,
    assignment: Arc<watch::Sender<Assignment>>,
    config_sync: watch::Receiver<Told<config_sync::Report>>,
    drain: CancellationToken,
    label: String,
    /// Of the flow, however many partitions its progress topic may have got.
    tasks: u32,
    owned: BTreeSet<u32>,
    joined: bool,
    releasing: BTreeSet<u32>,
    restarts: BTreeMap<u32, Restarts>,
    /// The question who else has the tasks, under way.
    asking: Option<JoinHandle<Result<Vec<String>>>>,
    ask_at: Option<Instant>,
    /// Since when we have had no task without knowing that somebody else has them.
    idle_since: Option<Instant>,
}

impl Owner {
    async fn run(
        &mut self,
        mut ownership: mpsc::UnboundedReceiver<Ownership>,
        membership: &Membership,
    ) -> Result<()> {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = ownership.recv() => match event {
                    Some(event) => self.hear(event),
                    None => return Err(Error::new(Code::Panicked, "the thread of the group's membership has ended")),
                },
                _ = tick.tick() => {}
            }
            let draining = self.drain.is_cancelled();
            let now = Instant::now();
            self.drain_and_start(draining, now);
            self.hear_ended(now);
            self.release(membership);
            if draining && self.assignment.borrow().tasks.is_empty() {
                return Ok(());
            }
            self.look_who_has_them(now).await?;
        }
    }

    fn hear(&mut self, event: Ownership) {
        match event {
            Ownership::Gained(tasks) => {
                if !self.joined {
                    self.owned.clear();
                }
                self.joined = true;
                self.assignment.send_modify(|it| it.joined = true);
                let tasks = tasks.into_iter().filter(|task| *task < self.tasks);
                self.owned.extend(tasks);
            }
            Ownership::Revoked(tasks) => {
                self.owned.retain(|task| !tasks.contains(task));
                self.releasing.extend(tasks);
            }
        }
    }

    fn drain_and_start(&mut self, draining: bool, now: Instant) {
        let is_replaced = |told: &Told<config_sync::Report>| {
            told.report
                .as_ref()
                .is_some_and(|(report, _)| report.replaced.is_some())
        };
        let draining = draining || is_replaced(&self.config_sync.borrow());
        let owned = &self.owned;
        self.assignment.send_if_modified(|it| {
            let before = it.absent.len();
            it.absent.retain(|task, _| owned.contains(task));
            it.absent.len() != before
        });
        let due: Vec<u32> = {
            let now_assigned = self.assignment.borrow();
            for (task, handle) in &now_assigned.tasks {
                if draining || !owned.contains(task) {
                    handle.drain();
                }
            }
            let waits = |task: &u32| now_assigned.absent.get(task).is_some_and(|it| now < it.until);
            let is_due = |task: &&u32| !waits(task) && !now_assigned.tasks.contains_key(*task);
            owned.iter().filter(is_due).copied().collect()
        };
        if draining {
            return;
        }
        for task in due {
            let restarts = self.restarts.entry(task).or_default();
            restarts.start(now);
            match TaskHandle::start(self.context.clone(), task, &self.drain) {
                Ok(handle) => self.assignment.send_modify(|it| {
                    it.absent.remove(&task);
                    it.tasks.insert(task, handle);
                }),
                Err(why) => {
                    let pause = restarts.fail(now);
                    error!(task, error = %why, advice = why.code.page().advice, retry_in = ?pause, "a task cannot start");
                    self.context.metrics.part_failed("task");
                    let until = now + pause;
                    self.assignment
                        .send_modify(|it| _ = it.absent.insert(task, Absent { why, until }));
                }
            }
        }
    }

    fn hear_ended(&mut self, now: Instant) {
        let ended: Vec<(u32, Result<TaskEnd>)> = {
            let assigned = self.assignment.borrow();
            let ends = assigned.tasks.iter();
            ends.filter_map(|(task, handle)| Some((*task, handle.end()?.clone())))
                .collect()
        };
        for (task, end) in ended {
            let absent = match end {
                Ok(TaskEnd::Drained) => None,
                // Before the join is complete the other owner is as good as we are; after it, the group
                // says that the task is ours, and starting again fences whoever is mistaken.
                Ok(TaskEnd::GivenUp(why)) if self.assignment.borrow().joined => Some((why, FENCED)),
                Ok(TaskEnd::GivenUp(_)) => {
                    self.owned.remove(&task);
                    None
                }
                Err(why) => {
                    let pause = self.restarts.entry(task).or_default().fail(now);
                    error!(task, error = %why, retry_in = ?pause, "a task panicked");
                    self.context.metrics.part_failed("task");
                    Some((why, pause))
                }
            };
            self.assignment.send_modify(|it| {
                it.tasks.remove(&task);
                if let Some((why, pause)) = absent {
                    it.panicked |= why.code == Code::Panicked;
                    let until = now + pause;
                    it.absent.insert(task, Absent { why, until });
                }
            });
        }
    }

    /// Hands back to the group what has ended.
    fn release(&mut self, membership: &Membership) {
        let free: BTreeSet<u32> = {
            let assigned = self.assignment.borrow();
            let ended = self
                .releasing
                .iter()
                .filter(|task| !assigned.tasks.contains_key(task));
            ended.copied().collect()
        };
        if !free.is_empty() {
            self.releasing.retain(|task| !free.contains(task));
            membership.release(free);
        }
    }

    /// While we have no task, somebody else must: a group that gives its tasks to nobody is joined again.
    async fn look_who_has_them(&mut self, now: Instant) -> Result<()> {
        if !self.joined || !self.owned.is_empty() || !self.assignment.borrow().tasks.is_empty() {
            (self.idle_since, self.ask_at) = (None, None);
            return Ok(());
        }
        let since = *self.idle_since.get_or_insert(now);
        match &mut self.asking {
            Some(asking) if asking.is_finished() => {
                let answer = asking.await;
                self.asking = None;
                match answer {
                    Ok(Ok(names)) if !names.is_empty() => {
                        self.idle_since = Some(now);
                        self.ask_at = Some(now + ASK_AGAIN);
                        let heard = Some(now);
                        self.assignment
                            .send_modify(|it| it.holders = Holders { names, heard });
                    }
                    // While a group hands its tasks out anew, its members hold none.
                    Ok(Ok(_)) if STALE <= now.saturating_duration_since(since) => {
                        let group = self.context.spec.id.group();
                        let what = format!("no member of group {group} holds a task");
                        return Err(Error::new(Code::TasksUnassigned, what));
                    }
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => debug!(%error, "who has the tasks is not known"),
                    Err(error) => debug!(%error, "who has the tasks is not known"),
                }
            }
            Some(_) => {}
            None if self.ask_at.is_none_or(|at| at <= now) => {
                self.ask_at = Some(now + ASK);
                let (context, own) = (self.context.clone(), self.label.clone());
                self.asking = Some(tokio::spawn(blocking(move || {
                    let id = &context.spec.id;
                    let (group, tasks) = (id.group(), id.progress_topic());
                    let members = context
                        .target_admin
                        .group_holdings(&group, &tasks, ADMIN_TIMEOUT)?;
                    let others = members
                        .into_iter()
                        .filter(|(member, held)| *member != own && 0 < *held);
                    Ok(others.map(|(member, _)| member).collect())
                })));
            }
            None => {}
        }
        Ok(())
    }
}
