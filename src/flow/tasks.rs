//! Between the group, which gives tasks out, and their threads: events become those of [`super::ownership`], its
//! actions become calls.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::membership::{Change, Membership};
use super::ownership::{Action, End, Event, Ownership};
use crate::context::{ADMIN_TIMEOUT, FlowContext};
use crate::copy::assignment::{Assignment, Holders};
use crate::copy::thread::{TaskEnd, TaskHandle};
use crate::error::{Code, Error, Result};
use crate::services::supervision::{blocking, panicked};
use crate::services::{Told, config_sync};
use crate::state::topics::Found;
use crate::status::STALE;

/// How often the group is asked who has the tasks while we have none, …
const ASK: Duration = Duration::from_secs(1);
/// … and once that is known.
const ASK_AGAIN: Duration = Duration::from_secs(5);

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
    let early = match alone(&context, &label).await {
        Ok(true) => (0..own.tasks).collect(),
        Ok(false) => BTreeSet::new(),
        Err(error) => {
            debug!(%error, "whether the group has other members is not known");
            BTreeSet::new()
        }
    };
    let (events, group) = mpsc::unbounded_channel();
    // A seat belongs to one progress topic: the group gives a static member that comes back what its seat had, for ever
    // nothing if that was assigned before the topic was there.
    let seat = format!("{instance}.{}", own.progress_id);
    let config = context.target.member(&label, &id.group(), &seat);
    let membership = Membership::join(&config, &id.progress_topic(), &label, move |change| {
        // The receiver is gone only while everything ends.
        let _ = events.send(change);
    })?;
    let running: Vec<(u32, TaskHandle)> = assignment.borrow().tasks.clone().into_iter().collect();
    let (ended, ends) = mpsc::unbounded_channel();
    let mut owner = Owner {
        ownership: Ownership::new(own.tasks, early, running.iter().map(|(task, _)| *task)),
        idle: Idle::default(),
        membership,
        assignment,
        drain,
        ended,
        label,
        context,
    };
    for (task, handle) in running {
        owner.report_end(task, handle);
    }
    let end = owner.run(group, ends, config_sync).await;
    // Leaving closes a consumer, which may wait for the target.
    let left = tokio::task::spawn_blocking(move || drop(owner.membership));
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
    ownership: Ownership,
    idle: Idle,
    membership: Membership,
    assignment: Arc<watch::Sender<Assignment>>,
    drain: CancellationToken,
    /// For whoever waits for the end of a task.
    ended: mpsc::UnboundedSender<(u32, End)>,
    label: String,
    context: Arc<FlowContext>,
}

/// What is known of who has the tasks while we have none.
#[derive(Default)]
struct Idle {
    /// Since when we have had no task without knowing that somebody else has them.
    since: Option<Instant>,
    /// The question, under way.
    asking: Option<JoinHandle<Result<Vec<String>>>>,
    ask_at: Option<Instant>,
}

impl Owner {
    async fn run(
        &mut self,
        mut group: mpsc::UnboundedReceiver<Change>,
        mut ends: mpsc::UnboundedReceiver<(u32, End)>,
        mut config_sync: watch::Receiver<Told<config_sync::Report>>,
    ) -> Result<()> {
        let drain = self.drain.clone();
        let mut draining = false;
        let mut event = Event::Replaced(is_replaced(&config_sync.borrow_and_update()));
        loop {
            if self.step(event) {
                return Ok(());
            }
            self.ask_if_idle(Instant::now());
            let wake = [self.ownership.wake(), self.idle.ask_at]
                .into_iter()
                .flatten()
                .min();
            event = tokio::select! {
                change = group.recv() => match change {
                    Some(Change::Gained(tasks)) => Event::Gained(tasks),
                    Some(Change::Revoked(tasks)) => Event::Revoked(tasks),
                    None => return Err(Error::new(Code::Panicked, "the thread of the group's membership has ended")),
                },
                Some((task, end)) = ends.recv() => self.heard(task, end),
                () = drain.cancelled(), if !draining => {
                    draining = true;
                    Event::Drain
                }
                Ok(()) = config_sync.changed() => Event::Replaced(is_replaced(&config_sync.borrow_and_update())),
                answer = answered(&mut self.idle.asking) => {
                    self.idle.asking = None;
                    self.heard_holders(answer, Instant::now())?;
                    Event::Tick
                }
                () = until(wake) => Event::Tick,
            };
        }
    }

    /// Does what an event leads to. `true`: nothing is left to do.
    fn step(&mut self, event: Event) -> bool {
        let mut left = false;
        for action in self.ownership.on(Instant::now(), event) {
            match action {
                Action::Start(task) => self.start(task),
                Action::Drain(task) => {
                    if let Some(handle) = self.assignment.borrow().tasks.get(&task) {
                        handle.drain();
                    }
                }
                Action::Release(tasks) => self.membership.release(tasks),
                Action::Leave => left = true,
            }
        }
        let (joined, absent) = (self.ownership.joined(), self.ownership.absent());
        self.assignment.send_if_modified(|it| {
            let stood = it.joined == joined && it.absent == *absent;
            if !stood {
                it.joined = joined;
                it.absent.clone_from(absent);
            }
            !stood
        });
        left
    }

    fn start(&mut self, task: u32) {
        match TaskHandle::start(self.context.clone(), task, &self.drain) {
            Ok(handle) => {
                let started = handle.clone();
                self.assignment
                    .send_modify(|it| _ = it.tasks.insert(task, started));
                self.report_end(task, handle);
            }
            Err(why) => {
                error!(task, error = %why, advice = why.code.page().advice, "a task cannot start");
                self.context.metrics.part_failed("task");
                // Received by the loop that this is called from.
                let _ = self.ended.send((task, End::Failed(why)));
            }
        }
    }

    /// Tells the loop when a task has ended.
    fn report_end(&self, task: u32, handle: TaskHandle) {
        let ended = self.ended.clone();
        tokio::spawn(async move {
            handle.ended().await;
            let end = match handle.end() {
                Some(Ok(TaskEnd::Drained)) | None => End::Drained,
                Some(Ok(TaskEnd::GivenUp(why))) => End::GivenUp(why.clone()),
                Some(Err(why)) => End::Failed(why.clone()),
            };
            // Nobody receives it once everything ends.
            let _ = ended.send((task, end));
        });
    }

    fn heard(&mut self, task: u32, end: End) -> Event {
        let panicked = matches!(&end, End::Failed(why) if why.code == Code::Panicked);
        if let End::Failed(why) = &end
            && panicked
        {
            error!(task, error = %why, "a task panicked");
            self.context.metrics.part_failed("task");
        }
        self.assignment.send_modify(|it| {
            it.tasks.remove(&task);
            it.panicked |= panicked;
        });
        Event::Ended(task, end)
    }

    /// While we have no task, somebody else must: the group's members are asked who.
    fn ask_if_idle(&mut self, now: Instant) {
        if !self.ownership.is_idle() {
            self.idle = Idle::default();
            return;
        }
        self.idle.since.get_or_insert(now);
        if self.idle.asking.is_some() || self.idle.ask_at.is_some_and(|at| now < at) {
            return;
        }
        self.idle.ask_at = Some(now + ASK);
        let (context, own) = (self.context.clone(), self.label.clone());
        self.idle.asking = Some(tokio::spawn(blocking(move || {
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

    /// # Errors
    /// The group has given its tasks to nobody for long: it is joined again.
    fn heard_holders(&mut self, answer: Result<Vec<String>>, now: Instant) -> Result<()> {
        let idle = self
            .idle
            .since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        match answer {
            Ok(names) if !names.is_empty() => {
                self.idle.since = Some(now);
                self.idle.ask_at = Some(now + ASK_AGAIN);
                let heard = Some(now);
                self.assignment
                    .send_modify(|it| it.holders = Holders { names, heard });
            }
            // While a group hands its tasks out anew, its members hold none.
            Ok(_) if STALE <= idle => {
                let group = self.context.spec.id.group();
                let what = format!("no member of group {group} holds a task");
                return Err(Error::new(Code::TasksUnassigned, what));
            }
            Ok(_) => {}
            Err(error) => debug!(%error, "who has the tasks is not known"),
        }
        Ok(())
    }
}

fn is_replaced(told: &Told<config_sync::Report>) -> bool {
    let report = told.report.as_ref();
    report.is_some_and(|(report, _)| report.replaced.is_some())
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep(at.saturating_duration_since(Instant::now())).await,
        None => std::future::pending().await,
    }
}

async fn answered(asking: &mut Option<JoinHandle<Result<Vec<String>>>>) -> Result<Vec<String>> {
    match asking {
        Some(asking) => asking.await.unwrap_or_else(|error| Err(panicked(error))),
        None => std::future::pending().await,
    }
}
