//! Which tasks of a flow this daemon has, how each is, who else has the others, and who leads the flow.

use std::collections::BTreeMap;
use std::time::Instant;

use super::seat::task_status;
use super::thread::TaskHandle;
use crate::error::{Code, Error};
use crate::status::{STALE, TaskState, TaskStatus};

/// What ownership has found out, for whoever asks; everybody else only reads it.
#[derive(Clone, Debug, Default)]
pub struct Assignment {
    /// The tasks that run here.
    pub tasks: BTreeMap<u32, TaskHandle>,
    /// Tasks that are ours and have no thread at the moment.
    pub absent: BTreeMap<u32, Absent>,
    /// The group has told which tasks are ours.
    pub joined: bool,
    /// Who has the tasks while we have none.
    pub holders: Holders,
    /// A task panicked at any time.
    pub panicked: bool,
}

impl Assignment {
    /// The right to lead the flow: whoever runs task 0 has it.
    pub fn lead(&self) -> Option<FlowLead> {
        self.tasks.contains_key(&0).then_some(FlowLead(()))
    }

    /// What all tasks say about themselves, in their order.
    pub fn status(&self, now: Instant) -> Vec<TaskStatus> {
        let running = self.tasks.values().map(|handle| handle.status(now));
        let absent = self.absent.iter().map(|(task, absent)| absent.status(*task));
        let mut tasks: Vec<_> = running.chain(absent).collect();
        tasks.sort_by_key(|task| task.task);
        tasks
    }
}

/// The right to change what a flow has one of: the target's topics and groups, checkpoints, heartbeats, the upkeep of
/// the offset map. Of several daemons one has it, so what needs it asks for this and cannot be called without.
#[derive(Clone, Copy, Debug)]
pub struct FlowLead(());

impl FlowLead {
    /// For those who have made sure otherwise that nobody leads the flow: tests and measurements.
    pub fn assumed() -> Self {
        Self(())
    }
}

/// A task that is ours and has no thread at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Why it has none.
    pub why: Error,
    /// When it starts again.
    pub until: Instant,
}

impl Absent {
    fn status(&self, task: u32) -> TaskStatus {
        let state = match self.why.code {
            // Whoever fenced it may be right; the group decides within a moment.
            Code::TargetFenced => TaskState::BackingOff,
            _ => TaskState::Failed,
        };
        task_status(task, state, Some(&self.why))
    }
}

/// Who else has the tasks, as the group's members last said.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    /// Members of the group that hold tasks.
    pub names: Vec<String>,
    /// When they said so.
    pub heard: Option<Instant>,
}

impl Holders {
    /// The names, as long as they can be believed.
    pub fn now(&self, now: Instant) -> &[String] {
        match self.heard {
            Some(heard) if now.saturating_duration_since(heard) <= STALE => &self.names,
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_holds_the_tasks_is_not_believed_for_ever() {
        let others = ["korea-dr seoul->busan dr-2".to_owned()];
        let now = Instant::now();
        let mut holders = Holders::default();
        assert!(holders.now(now).is_empty());
        holders.names = others.to_vec();
        holders.heard = Some(now);
        assert_eq!(holders.now(now + STALE), others);
        assert!(
            holders.now(now + STALE + Duration::from_secs(1)).is_empty(),
            "not believed for ever"
        );
    }
}
