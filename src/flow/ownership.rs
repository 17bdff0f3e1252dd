//! Which tasks run here: what the group gives and takes, and how tasks end, go in; what is to be done comes out. Pure.
//!
//! ```text
//!            Gained ──▶ Start ──▶ runs ──Ended──▶ absent, for a while ──▶ Start
//!  group ──▶                       │
//!            Revoked ──▶ Drain ────┴──Ended──▶ Release ──▶ the group gives it to another daemon
//! ```
//! A task is handed back only once it has ended. That two daemons run one all the same, for a moment, happens (an early
//! start, a session that has expired) and is safe: each fences whoever had it before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::copy::assignment::Absent;
use crate::error::Error;
use crate::services::supervision::Restarts;

/// Pause after a task of ours was fenced although the group says that it is ours.
const FENCED: Duration = Duration::from_secs(1);

/// What has happened.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// These tasks are ours, besides those that are already. Told once per join, even when empty.
    Gained(BTreeSet<u32>),
    /// These tasks go to somebody else once they are released.
    Revoked(BTreeSet<u32>),
    /// A task that was to start has ended, or could not start.
    Ended(u32, End),
    /// Whether what the tasks would copy, or where to, is not what the flow started with.
    Replaced(bool),
    /// The flow ends.
    Drain,
    /// Time has passed.
    Tick,
}

/// How a task has ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// As it was asked to.
    Drained,
    /// Somebody else has fenced it.
    GivenUp(Error),
    /// It panicked, or got no thread.
    Failed(Error),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Start the task.
    Start(u32),
    /// Ask it to finish what it has taken, and to end.
    Drain(u32),
    /// Hand these back to the group.
    Release(BTreeSet<u32>),
    /// Nothing runs any more, and nothing will: leave the group.
    Leave,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Ownership {
    /// Of the flow, however many partitions its progress topic may have got.
    tasks: u32,
    owned: BTreeSet<u32>,
    /// The group has told what is ours.
    joined: bool,
    /// The tasks that have not ended, and whether each was asked to.
    running: BTreeMap<u32, bool>,
    releasing: BTreeSet<u32>,
    absent: BTreeMap<u32, Absent>,
    restarts: BTreeMap<u32, Restarts>,
    replaced: bool,
    draining: bool,
}

impl Ownership {
    /// Of a flow of so many tasks, of which `early` may start before the group tells, and `running` do already.
    pub(super) fn new(tasks: u32, early: BTreeSet<u32>, running: impl IntoIterator<Item = u32>) -> Self {
        Self {
            tasks,
            owned: early,
            joined: false,
            running: running.into_iter().map(|task| (task, false)).collect(),
            releasing: BTreeSet::new(),
            absent: BTreeMap::new(),
            restarts: BTreeMap::new(),
            replaced: false,
            draining: false,
        }
    }

    /// The group has told what is ours.
    pub(super) fn joined(&self) -> bool {
        self.joined
    }

    /// Tasks that are ours and do not run at the moment.
    pub(super) fn absent(&self) -> &BTreeMap<u32, Absent> {
        &self.absent
    }

    /// The group has told, and gave us nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.joined && self.owned.is_empty() && self.running.is_empty()
    }

    /// When the next [`Event::Tick`] is due.
    pub(super) fn wake(&self) -> Option<Instant> {
        match self.rests() {
            true => None,
            false => self.absent.values().map(|it| it.until).min(),
        }
    }

    /// No task may run.
    fn rests(&self) -> bool {
        self.draining || self.replaced
    }

    /// Takes in what has happened now.
    pub(super) fn on(&mut self, now: Instant, event: Event) -> Vec<Action> {
        match event {
            Event::Gained(tasks) => {
                if !self.joined {
                    // What was started early and is not ours drains.
                    self.owned.clear();
                }
                self.joined = true;
                self.owned
                    .extend(tasks.into_iter().filter(|task| *task < self.tasks));
            }
            Event::Revoked(tasks) => {
                self.owned.retain(|task| !tasks.contains(task));
                self.releasing.extend(tasks);
            }
            Event::Ended(task, end) => self.ended(now, task, end),
            Event::Replaced(replaced) => self.replaced = replaced,
            Event::Drain => self.draining = true,
            Event::Tick => {}
        }
        self.act(now)
    }

    fn ended(&mut self, now: Instant, task: u32, end: End) {
        self.running.remove(&task);
        let (why, pause) = match end {
            End::Drained => return,
            // After the join the group says that the task is ours, and starting again fences whoever is mistaken.
            End::GivenUp(why) if self.joined => (why, FENCED),
            // Before it the other owner is as good as we are.
            End::GivenUp(_) => {
                self.owned.remove(&task);
                return;
            }
            End::Failed(why) => (why, self.restarts.entry(task).or_default().fail(now)),
        };
        let until = now + pause;
        self.absent.insert(task, Absent { why, until });
    }

    fn act(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = vec![];
        let rests = self.rests();
        self.absent.retain(|task, _| self.owned.contains(task));
        for (task, asked) in &mut self.running {
            if !*asked && (rests || !self.owned.contains(task)) {
                *asked = true;
                actions.push(Action::Drain(*task));
            }
        }
        for task in self.owned.iter().filter(|_| !rests) {
            let waits = self.absent.get(task).is_some_and(|absent| now < absent.until);
            if waits || self.running.contains_key(task) {
                continue;
            }
            self.absent.remove(task);
            self.restarts.entry(*task).or_default().start(now);
            self.running.insert(*task, false);
            actions.push(Action::Start(*task));
        }
        let running = &self.running;
        let free: BTreeSet<u32> = self
            .releasing
            .iter()
            .copied()
            .filter(|task| !running.contains_key(task))
            .collect();
        if !free.is_empty() {
            self.releasing.retain(|task| !free.contains(task));
            actions.push(Action::Release(free));
        }
        if self.draining && self.running.is_empty() {
            actions.push(Action::Leave);
        }
        actions
    }
}

#[cfg(test)]
mod simulation;
