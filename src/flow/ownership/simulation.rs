//! Two daemons and a group that moves tasks between them, under seeds: sessions expire, tasks end as they like, panic
//! and fence each other, the flow stops and goes on.

use super::*;
use crate::error::Code;
use crate::seeds::{Random, seeds};

const TASKS: u32 = 4;
/// An expired session is noticed within so many steps.
const NOTICE: u64 = 20;
/// The longest back-off and everything before it.
const BOUND: Duration = Duration::from_secs(35);

/// One daemon, and what the world knows of it.
struct Daemon {
    ownership: Ownership,
    /// Its task threads, and whether each was asked to drain.
    threads: BTreeMap<u32, bool>,
    /// What the group believes it has.
    given: BTreeSet<u32>,
    /// The group waits until these are handed back.
    revoked: BTreeSet<u32>,
    /// Its session has expired, which it has not noticed: what it still believes to have.
    ghosts: BTreeSet<u32>,
    expired: bool,
    replaced: bool,
    draining: bool,
    left: bool,
    /// Since when a task of ours has had no thread although it may run.
    missing: BTreeMap<u32, Instant>,
}

impl Daemon {
    fn new(early: bool) -> Self {
        let early = if early {
            (0..TASKS).collect()
        } else {
            BTreeSet::new()
        };
        Self {
            ownership: Ownership::new(TASKS, early, []),
            threads: BTreeMap::new(),
            given: BTreeSet::new(),
            revoked: BTreeSet::new(),
            ghosts: BTreeSet::new(),
            expired: false,
            replaced: false,
            draining: false,
            left: false,
            missing: BTreeMap::new(),
        }
    }

    /// Gives it an event, does what it wants, and holds it to what it may want.
    fn on(&mut self, now: Instant, event: Event) {
        let was_joined = self.ownership.joined();
        for action in self.ownership.on(now, event) {
            match action {
                Action::Start(task) => {
                    assert!(
                        !self.draining && !self.replaced,
                        "it starts a task that may not run"
                    );
                    assert!(
                        self.threads.insert(task, false).is_none(),
                        "it starts a task twice"
                    );
                    let knows = !was_joined || self.given.contains(&task) || self.ghosts.contains(&task);
                    assert!(knows, "it starts a task that the group has not given it");
                }
                Action::Drain(task) => {
                    let asked = self.threads.get_mut(&task).expect("it drains what runs");
                    assert!(!std::mem::replace(asked, true), "it asks twice");
                }
                Action::Release(tasks) => {
                    for task in &tasks {
                        assert!(!self.threads.contains_key(task), "it hands back a task that runs");
                        assert!(self.revoked.remove(task), "it hands back what nobody wants");
                        self.given.remove(task);
                    }
                }
                Action::Leave => {
                    assert!(
                        self.draining && self.threads.is_empty(),
                        "it leaves while tasks run"
                    );
                    self.left = true;
                }
            }
        }
    }

    /// Every task of ours has a thread within the bound.
    fn check(&mut self, now: Instant) {
        let may_run = !self.draining && !self.replaced && !self.expired && self.ownership.joined();
        let lacks = |task: &u32| may_run && !self.threads.contains_key(task) && !self.revoked.contains(task);
        let lacking: BTreeSet<u32> = self.given.iter().copied().filter(|task| lacks(task)).collect();
        self.missing.retain(|task, _| lacking.contains(task));
        for task in lacking {
            let since = *self.missing.entry(task).or_insert(now);
            assert!(now < since + BOUND, "task {task} is ours and does not start");
        }
        // What is not ours is on its way out.
        for (task, asked) in &self.threads {
            let ours = !self.ownership.joined() || self.ownership.owned.contains(task);
            assert!(ours || *asked, "task {task} is not ours and runs on");
        }
    }
}

fn simulate(seed: u64) {
    let mut random = Random(seed);
    let mut now = Instant::now();
    let mut daemons = [Daemon::new(true), Daemon::new(random.below(2) == 0)];
    for _ in 0..400 {
        now += Duration::from_millis(random.below(900));
        let (one, other) = (random.below(2) as usize, random.below(2) as usize);
        // The group: a member that has nothing more to hand back is given what nobody has, in a join of its own.
        match random.below(12) {
            0..3 if !daemons[one].left && !daemons[one].expired && daemons[one].revoked.is_empty() => {
                let taken: BTreeSet<u32> = daemons.iter().flat_map(|it| it.given.clone()).collect();
                let free = (0..TASKS).filter(|task| !taken.contains(task));
                let gets: BTreeSet<u32> = free.filter(|_| random.below(3) != 0).collect();
                daemons[one].given.extend(&gets);
                daemons[one].on(now, Event::Gained(gets));
            }
            3 if !daemons[one].expired && daemons[one].ownership.joined() => {
                let given = daemons[one].given.difference(&daemons[one].revoked).copied();
                let moves: BTreeSet<u32> = given.filter(|_| random.below(2) == 0).collect();
                daemons[one].revoked.extend(&moves);
                daemons[one].on(now, Event::Revoked(moves));
            }
            // Its session expires: the group takes everything without asking.
            4 if random.below(4) == 0 && !daemons[one].left && !daemons[one].expired => {
                daemons[one].expired = true;
                daemons[one].ghosts = std::mem::take(&mut daemons[one].given);
            }
            5 => {
                let ends: Vec<u32> = daemons[one]
                    .threads
                    .keys()
                    .copied()
                    .filter(|_| random.below(3) == 0)
                    .collect();
                for task in ends {
                    let asked = daemons[one].threads.remove(&task) == Some(true);
                    let end = match random.below(4) {
                        _ if asked => End::Drained,
                        0 => End::Failed(Error::new(Code::Panicked, "a bug")),
                        _ => End::GivenUp(Error::new(Code::TargetFenced, "another")),
                    };
                    daemons[one].on(now, Event::Ended(task, end));
                }
            }
            6 if random.below(6) == 0 => {
                let replaced = !daemons[one].replaced;
                daemons[one].replaced = replaced;
                daemons[one].on(now, Event::Replaced(replaced));
            }
            7 if random.below(40) == 0 && !daemons[one].draining => {
                daemons[one].draining = true;
                daemons[one].on(now, Event::Drain);
            }
            _ => {}
        }
        // Who is shut out learns of it, gives up what it had, and joins again.
        if daemons[other].expired && random.below(NOTICE) == 0 {
            let had = std::mem::take(&mut daemons[other].ghosts);
            daemons[other].revoked.extend(&had);
            daemons[other].on(now, Event::Revoked(had));
            daemons[other].expired = false;
        }
        for daemon in &mut daemons {
            // Threads that were asked to end do so in the end.
            let asked: Vec<u32> = daemon.threads.iter().filter(|it| *it.1).map(|it| *it.0).collect();
            for task in asked {
                if random.below(4) == 0 {
                    daemon.threads.remove(&task);
                    daemon.on(now, Event::Ended(task, End::Drained));
                }
            }
            if daemon.ownership.wake().is_some_and(|wake| wake <= now) {
                daemon.on(now, Event::Tick);
            }
            daemon.check(now);
        }
        let both = daemons[0].given.intersection(&daemons[1].given).next();
        assert_eq!(both, None, "the group of this simulation gives a task twice");
    }
    // In the end everything drains and leaves.
    for daemon in &mut daemons {
        daemon.draining = true;
        daemon.on(now, Event::Drain);
        for task in daemon.threads.keys().copied().collect::<Vec<_>>() {
            assert_eq!(
                daemon.threads.remove(&task),
                Some(true),
                "task {task} was not asked to end"
            );
            daemon.on(now, Event::Ended(task, End::Drained));
        }
        assert!(daemon.left, "nothing runs, and it does not leave");
    }
}

#[test]
fn two_daemons_share_tasks_through_whatever_happens() {
    for seed in seeds(1_000) {
        let ran = std::panic::catch_unwind(|| simulate(seed));
        assert!(ran.is_ok(), "CAUSEWAY_SEED={seed}");
    }
}
