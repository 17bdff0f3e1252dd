//! The status of a flow, put together from what its parts have told; and, pure, what state that is.

use std::time::Instant;

use super::channels::{Channels, Stands};
use crate::error::Error;
use crate::services::{config_sync, lag};
use crate::status::{
    ConfigSyncStatus, FlowState, FlowStatus, HeartbeatStatus, PartState, PartStatus, PartitionState,
    TaskState, TaskStatus,
};
use crate::topology::{Delivery, FlowSpec};

/// Puts the status of a flow together.
pub(super) fn of(spec: &FlowSpec, told: &Channels, stands: &Stands, now: Instant) -> FlowStatus {
    let (phase, assignment) = (told.phase.borrow(), told.assignment.borrow());
    let (sync_told, groups, heartbeats) = (
        told.config_sync.borrow(),
        told.groups.borrow(),
        told.heartbeats.borrow(),
    );
    let mut tasks = assignment.status(now);
    if let Some((ends, _)) = &told.ends.borrow().report {
        lag::tell(ends, &mut tasks, now);
    }
    let has_view = phase
        .context
        .as_ref()
        .is_some_and(|context| context.view.load().is_some());
    let sync = sync_told.report.as_ref().map(|(report, _)| report);
    let sync_status = match (sync, &sync_told.trouble) {
        (None, None) => None,
        (report, trouble) => Some(ConfigSyncStatus {
            seconds_since_last_pass: report.and_then(|it| it.read).map(|at| seconds(at, now)),
            errors: match (trouble, report) {
                (Some(error), _) => vec![error.with_advice()],
                (None, report) => report.map_or(vec![], |it| it.status.errors.clone()),
            },
            mode: config_sync::mode(spec),
            ..report.map(|it| it.status.clone()).unwrap_or_default()
        }),
    };
    let replaced = sync.and_then(|report| report.replaced.as_ref());
    let groups = groups.report.as_ref().and_then(|(report, _)| report.clone());
    let parts = told.parts.status(now);
    let (state, reason) = state(&Facts {
        stopped: phase.stopped,
        draining: stands.draining,
        abandoned: stands.abandoned,
        connected: phase.context.is_some(),
        trouble: replaced.or(phase.trouble.as_ref()),
        parts: &parts,
        tasks: &tasks,
        joined: assignment.joined,
        holders: assignment.holders.now(now),
        has_view,
        sync_trouble: sync_told.trouble.as_ref(),
        sync_error: sync_status
            .as_ref()
            .and_then(|status| status.errors.first().map(String::as_str)),
        group_error: groups
            .as_ref()
            .and_then(|groups| groups.errors.first().map(String::as_str)),
    });
    // A task that starts has not said yet which partitions it has: their sum would be 0, which is not the lag.
    let starting = tasks
        .iter()
        .any(|task| matches!(task.state, TaskState::Starting | TaskState::Failed));
    let known = !tasks.is_empty() && !starting && has_view;
    let lag = Sums::of(&tasks);
    FlowStatus {
        topology: spec.id.topology.clone(),
        flow: spec.id.to_string(),
        delivery: match spec.delivery {
            Delivery::ExactlyOnce => "exactly_once".into(),
            Delivery::AtLeastOnce => "at_least_once".into(),
        },
        state,
        reason,
        tasks_total: phase.tasks_total,
        lag_records: lag.records.filter(|_| known),
        lag_seconds: lag.seconds.filter(|_| known),
        uncommitted_records: lag.uncommitted.filter(|_| known),
        open_transaction_seconds: lag.open,
        config_sync: sync_status,
        groups,
        heartbeats: heartbeats.report.as_ref().and_then(|(report, at)| {
            let status = report.as_ref()?;
            Some(HeartbeatStatus {
                age_seconds: status.age_seconds.map(|age| age + seconds(*at, now)),
                ..status.clone()
            })
        }),
        parts,
        tasks,
    }
}

fn seconds(since: Instant, now: Instant) -> f64 {
    now.saturating_duration_since(since).as_secs_f64()
}

/// The lag of a whole flow: unknown where that of any partition is.
struct Sums {
    records: Option<u64>,
    seconds: Option<f64>,
    uncommitted: Option<u64>,
    /// The oldest open transaction; nothing where none is known.
    open: Option<f64>,
}

impl Sums {
    fn of(tasks: &[TaskStatus]) -> Self {
        let partitions = || tasks.iter().flat_map(|task| &task.partitions);
        Self {
            records: partitions().map(|it| it.lag_records).sum(),
            seconds: partitions()
                .map(|it| it.lag_seconds)
                .try_fold(0.0, |longest: f64, lag| Some(longest.max(lag?))),
            uncommitted: partitions().map(|it| it.uncommitted_records).sum(),
            open: partitions()
                .filter_map(|it| it.open_transaction_seconds)
                .reduce(f64::max),
        }
    }
}

/// Everything that decides.
pub(super) struct Facts<'a> {
    /// Everything has ended after a drain.
    pub(super) stopped: bool,
    pub(super) draining: bool,
    /// Nobody looks after the parts any more.
    pub(super) abandoned: bool,
    /// The clients of both clusters could be made.
    pub(super) connected: bool,
    /// Why the flow cannot start.
    pub(super) trouble: Option<&'a Error>,
    pub(super) parts: &'a [PartStatus],
    pub(super) tasks: &'a [TaskStatus],
    pub(super) joined: bool,
    /// Other members of the group that hold tasks.
    pub(super) holders: &'a [String],
    /// It is known what can be copied.
    pub(super) has_view: bool,
    /// Why the last pass of config sync failed as a whole.
    pub(super) sync_trouble: Option<&'a Error>,
    /// The first thing that failed in it.
    pub(super) sync_error: Option<&'a str>,
    /// The first thing that failed in the last look at groups.
    pub(super) group_error: Option<&'a str>,
}

/// The state of a flow as in [`crate::status::FlowStatus::state`], and why it is not `running`.
pub(super) fn state(facts: &Facts<'_>) -> (FlowState, Option<String>) {
    let Facts { parts, tasks, .. } = facts;
    if facts.stopped {
        return (FlowState::Stopped, facts.trouble.map(ToString::to_string));
    }
    if facts.draining {
        return (FlowState::Draining, None);
    }
    if facts.abandoned {
        let bug = "nothing looks after the flow any more: a bug, please report the log; restart the daemon";
        return (FlowState::Failed, Some(bug.to_owned()));
    }
    if let Some(error) = facts.trouble {
        let state = if facts.connected {
            FlowState::Starting
        } else {
            FlowState::Failed
        };
        return (state, Some(error.with_advice()));
    }
    let why = |reason: &Option<String>| reason.clone().unwrap_or_default();
    if let Some(part) = parts.iter().find(|part| part.state == PartState::Failed) {
        return (
            FlowState::Failed,
            Some(format!("{}: {}", part.part, why(&part.reason))),
        );
    }
    if let Some(task) = tasks.iter().find(|task| task.state == TaskState::Failed) {
        return (
            FlowState::Failed,
            Some(format!("task {}: {}", task.task, why(&task.reason))),
        );
    }
    if let Some(task) = tasks.iter().find(|task| task.state == TaskState::BackingOff) {
        return (FlowState::Degraded, task.reason.clone());
    }
    if tasks.is_empty() && facts.joined {
        return match facts.holders {
            [] => (
                FlowState::Starting,
                Some("the group has not given out its tasks yet".to_owned()),
            ),
            holders => (
                FlowState::Standby,
                Some(format!("another daemon owns the tasks: {}", holders.join(", "))),
            ),
        };
    }
    if tasks.is_empty() || !facts.has_view || tasks.iter().any(|task| task.state == TaskState::Starting) {
        return (FlowState::Starting, facts.sync_error.map(str::to_owned));
    }
    if let Some(error) = facts.sync_trouble {
        return (FlowState::Degraded, Some(error.with_advice()));
    }
    let partitions = tasks.iter().flat_map(|task| &task.partitions);
    // One that starts has just been seen, or goes with its topic: no illness.
    let held = partitions.filter(|it| matches!(it.state, PartitionState::Paused | PartitionState::Halted));
    match (held.count(), facts.group_error) {
        (0, None) => (FlowState::Running, None),
        // Records arrive, but who fails over now begins at old positions.
        (0, Some(error)) => (FlowState::Degraded, Some(error.to_owned())),
        (held, _) => (
            FlowState::Degraded,
            Some(format!("{held} partitions are not running")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn task(state: TaskState) -> TaskStatus {
        TaskStatus {
            task: 2,
            state,
            reason: Some("why".into()),
            seconds_since_published: Some(0.1),
            waiting_for: None,
            in_flight_bytes: 0,
            partitions: vec![],
        }
    }

    fn part(state: PartState) -> PartStatus {
        PartStatus {
            part: "ownership".into(),
            state,
            reason: Some("L901 panicked".into()),
            seconds_busy: None,
            failures: 1,
        }
    }

    fn well<'a>(tasks: &'a [TaskStatus], parts: &'a [PartStatus]) -> Facts<'a> {
        Facts {
            stopped: false,
            draining: false,
            abandoned: false,
            connected: true,
            trouble: None,
            parts,
            tasks,
            joined: true,
            holders: &[],
            has_view: true,
            sync_trouble: None,
            sync_error: None,
            group_error: None,
        }
    }

    #[test]
    fn a_flow_runs_only_while_every_part_and_task_of_it_does() {
        let (tasks, parts) = ([task(TaskState::Running)], [part(PartState::Running)]);
        assert_eq!(state(&well(&tasks, &parts)), (FlowState::Running, None));
        let failed = [part(PartState::Running), part(PartState::Failed)];
        let (is, why) = state(&well(&tasks, &failed));
        assert_eq!(
            (is, why.as_deref()),
            (FlowState::Failed, Some("ownership: L901 panicked"))
        );
        let dead = [task(TaskState::Running), task(TaskState::Failed)];
        let (is, why) = state(&well(&dead, &parts));
        assert_eq!((is, why.as_deref()), (FlowState::Failed, Some("task 2: why")));
        assert_eq!(
            state(&well(&[task(TaskState::BackingOff)], &parts)).0,
            FlowState::Degraded
        );
        let abandoned = Facts {
            abandoned: true,
            ..well(&tasks, &parts)
        };
        assert_eq!(state(&abandoned).0, FlowState::Failed);
        // What is asked to end says so first.
        let draining = Facts {
            draining: true,
            ..abandoned
        };
        assert_eq!(state(&draining).0, FlowState::Draining);
    }

    #[test]
    fn a_first_pass_of_config_sync_that_fails_is_told_with_its_mode() {
        let path = |name: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let topology = path("topologies/active-standby.yaml");
        let (_, topologies) = crate::topology::load(&path("config/local.yaml"), &[topology], &|_| None)
            .expect("an example without mistakes");
        let spec = &topologies[0].flows[0];
        let (told, stands) = (
            Channels::default(),
            Stands {
                draining: false,
                abandoned: false,
            },
        );
        assert!(of(spec, &told, &stands, Instant::now()).config_sync.is_none());
        let error = Error::new(Code::SourceUnreachable, "nobody is there");
        told.config_sync.send_modify(|told| told.trouble = Some(error));
        let status = of(spec, &told, &stands, Instant::now())
            .config_sync
            .expect("it has tried");
        assert_eq!((status.mode.as_str(), status.errors.len()), ("apply", 1));
        assert_eq!(status.seconds_since_last_pass, None);
    }

    #[test]
    fn a_flow_stands_by_only_while_another_member_holds_the_tasks() {
        let others = ["korea-dr seoul->busan dr-2".to_owned()];
        let mut facts = well(&[], &[]);
        assert_eq!(
            state(&facts).0,
            FlowState::Starting,
            "nobody is known to hold them"
        );
        facts.holders = &others;
        assert_eq!(state(&facts).0, FlowState::Standby);
    }

    #[test]
    fn settings_that_no_client_can_be_made_of_are_a_failure_and_a_cluster_away_is_a_start() {
        let error = Error::new(Code::SourceAuthentication, "no such file");
        let mut facts = well(&[], &[]);
        facts.trouble = Some(&error);
        assert_eq!(state(&facts).0, FlowState::Starting);
        facts.connected = false;
        let (is, why) = state(&facts);
        assert_eq!(is, FlowState::Failed);
        assert!(why.is_some_and(|why| why.starts_with("S102") && why.contains("ca_file")));
    }
}
