//! Which tasks run here: one loop between the group, which gives tasks out, and their threads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::membership::{Membership, Ownership};
use super::status::Holders;
use super::supervision::Restarts;
use super::{Shared, blocking};
use crate::context::{ADMIN_TIMEOUT, FlowContext, lock};
use crate::copy::thread::{TaskEnd, TaskHandle, task_status};
use crate::error::{Code, Error, Result};
use crate::state::topics::Found;
use crate::status::STALE;
use crate::status::TaskStatus;

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
    shared: Arc<Mutex<Shared>>,
    drain: CancellationToken,
    instance: String,
    own: Found,
) -> Result<()> {
    lock(&shared).joined = false;
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
        shared,
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
    let end = owner.run(ownership, &membership, &drain).await;
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
pub(super) async fn end_tasks(shared: &Mutex<Shared>) {
    loop {
        {
            let shared = lock(shared);
            shared.tasks.values().for_each(TaskHandle::drain);
            if shared.tasks.values().all(TaskHandle::is_finished) {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Owner {
    context: Arc<FlowContext>,
    shared: Arc<Mutex<Shared>>,
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
        drain: &CancellationToken,
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
            let draining = drain.is_cancelled();
            let now = Instant::now();
            self.drain_and_start(draining, now);
            self.hear_ended(now);
            self.release(membership);
            if draining && lock(&self.shared).tasks.is_empty() {
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
                lock(&self.shared).joined = true;
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
        let mut shared = lock(&self.shared);
        let draining = draining || shared.replaced.is_some();
        let owned = &self.owned;
        shared.absent.retain(|task, _| owned.contains(task));
        for (task, handle) in &shared.tasks {
            if draining || !owned.contains(task) {
                handle.drain();
            }
        }
        if draining {
            return;
        }
        for task in owned {
            let waits = shared.absent.get(task).is_some_and(|absent| now < absent.until);
            if waits || shared.tasks.contains_key(task) {
                continue;
            }
            let restarts = self.restarts.entry(*task).or_default();
            restarts.start(now);
            match TaskHandle::start(self.context.clone(), *task) {
                Ok(handle) => {
                    shared.absent.remove(task);
                    shared.tasks.insert(*task, handle);
                }
                Err(why) => {
                    let pause = restarts.fail(now);
                    error!(task, error = %why, advice = why.code.page().advice, retry_in = ?pause, "a task cannot start");
                    self.context.metrics.part_failed("task");
                    let until = now + pause;
                    shared.absent.insert(*task, Absent { why, until });
                }
            }
        }
    }

    fn hear_ended(&mut self, now: Instant) {
        let mut shared = lock(&self.shared);
        let done: Vec<u32> = shared
            .tasks
            .iter()
            .filter(|(_, handle)| handle.is_finished())
            .map(|(task, _)| *task)
            .collect();
        for task in done {
            let Some(handle) = shared.tasks.remove(&task) else {
                continue;
            };
            match handle.join() {
                Ok(TaskEnd::Drained) => {}
                // Before the join is complete the other owner is as good as we are; after it, the group
                // says that the task is ours, and starting again fences whoever is mistaken.
                Ok(TaskEnd::GivenUp(why)) if self.joined => {
                    let until = now + FENCED;
                    shared.absent.insert(task, Absent { why, until });
                }
                Ok(TaskEnd::GivenUp(_)) => {
                    self.owned.remove(&task);
                }
                Err(why) => {
                    let pause = self.restarts.entry(task).or_default().fail(now);
                    error!(task, error = %why, retry_in = ?pause, "a task panicked");
                    self.context.metrics.part_failed("task");
                    shared.panicked = true;
                    let until = now + pause;
                    shared.absent.insert(task, Absent { why, until });
                }
            }
        }
    }

    /// Hands back to the group what has ended.
    fn release(&mut self, membership: &Membership) {
        let shared = lock(&self.shared);
        let free: BTreeSet<u32> = self
            .releasing
            .iter()
            .copied()
            .filter(|task| !shared.tasks.contains_key(task))
            .collect();
        if !free.is_empty() {
            self.releasing.retain(|task| !free.contains(task));
            membership.release(free);
        }
    }

    /// While we have no task, somebody else must: a group that gives its tasks to nobody is joined again.
    async fn look_who_has_them(&mut self, now: Instant) -> Result<()> {
        if !self.joined || !self.owned.is_empty() || !lock(&self.shared).tasks.is_empty() {
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
                        lock(&self.shared).holders = Holders { names, heard };
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

/// A task that is ours and has no thread at the moment.
#[derive(Debug)]
pub(super) struct Absent {
    pub(super) why: Error,
    /// When it starts again.
    pub(super) until: Instant,
}

impl Absent {
    pub(super) fn status(&self, task: u32) -> TaskStatus {
        let state = match self.why.code {
            // Whoever fenced it may be right; the group decides within a moment.
            Code::TargetFenced => "backing_off",
            _ => "failed",
        };
        task_status(task, state, Some(&self.why))
    }
}
