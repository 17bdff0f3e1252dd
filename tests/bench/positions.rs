//! How soon the positions of consumer groups are on the target, and what very many of them cost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use causeway::error::Side;
use causeway::kafka::TopicPartition;
use causeway::kafka::groups::{Commit, GroupProcess, Groups, Positions};

use crate::figure::Figure;
use crate::harness::daemon::{Daemon, causeway};
use crate::harness::load::{self, Load};
use crate::harness::oracle::{self, Isolation};
use crate::harness::{wait_for, wait_until};
use crate::rig::{DELIVERIES, Rig, children, connection, cpu_time, proc_status};

const PATIENCE: Duration = Duration::from_secs(300);
const COMMITS: i32 = 20;
/// Between two commits: not a part of the interval, so that they come at all times of it.
const BETWEEN: Duration = Duration::from_millis(3_300);
const PER_SECOND: u32 = 300;
/// `offset_sync.interval`, as it is without a word about it.
const INTERVAL: f64 = 5.0;
const ROUNDS: i64 = 3;
/// Partitions of one topic.
const LARGEST: i32 = 1_000;
const WATCHED: Duration = Duration::from_secs(30);

/// `positions`
pub fn run() -> Vec<Figure> {
    let rig = Rig::start(|options| options.default_jit());
    let both = DELIVERIES.into_iter();
    both.flat_map(|delivery| delay(&rig, delivery)).collect()
}

/// `groups [GROUPS] [PARTITIONS]`: so many groups in 3 partitions, and one in so many partitions; 0 leaves one out.
pub fn run_many(numbers: &[u64]) -> Vec<Figure> {
    let groups = numbers.first().copied().unwrap_or(5_000);
    let partitions = numbers.get(1).copied().unwrap_or(10_000);
    let partitions = i32::try_from(partitions).expect("a partition count");
    let cases = [(groups, 3), (1, partitions)].into_iter();
    cases
        .filter(|(groups, partitions)| 0 < *groups && 0 < *partitions)
        .flat_map(|(groups, partitions)| many(groups, partitions))
        .collect()
}

/// From a commit on the source, of a group that has read everything, to the same position on the target, under load.
fn delay(rig: &Rig, delivery: &str) -> Vec<Figure> {
    let (source, target) = (rig.source.bootstrap(), rig.target.bootstrap());
    let topic = format!("bench-positions-{delivery}");
    let group = format!("bench-{delivery}");
    rig.source.create_topic(&topic, 1, &[]);
    let daemon = rig.daemon(&format!("bench-positions-{delivery}"), &topic, delivery, "");
    let load = Load::start(&source, &topic, 1, PER_SECOND, 100);
    rig.wait_until_copied(&daemon, &topic, PATIENCE);

    let end = || oracle::end_offsets(&source, &topic, Isolation::ReadCommitted)[0];
    let there = || {
        oracle::group_offsets(&target, &group)
            .first()
            .map_or(-1, |it| it.offset)
    };
    // What was there when: looked at all the time, held against the records at the end.
    let mut seen: Vec<(Instant, i64)> = vec![];
    let mut look = |until: Instant| {
        while Instant::now() < until {
            seen.push((Instant::now(), there()));
            thread::sleep(Duration::from_millis(20));
        }
    };
    let mut commits: Vec<(Instant, i64)> = vec![];
    for _ in 0..COMMITS {
        let position = end();
        oracle::set_group_offset(&source, &group, &topic, 0, position);
        commits.push((Instant::now(), position));
        look(Instant::now() + BETWEEN);
    }
    look(Instant::now() + Duration::from_secs(15));
    load.stop();
    rig.wait_until_copied(&daemon, &topic, PATIENCE);
    assert_eq!(daemon.terminate(PATIENCE), 0);

    let keys = |bootstrap: &str| -> Vec<(i64, Vec<u8>)> {
        let records = oracle::dump(bootstrap, &topic, Isolation::ReadCommitted);
        records
            .into_iter()
            .map(|it| (it.offset, it.key.expect("the load writes keys")))
            .collect()
    };
    let here: BTreeMap<i64, Vec<u8>> = keys(&source).into_iter().collect();
    let copies: BTreeMap<Vec<u8>, i64> = keys(&target).into_iter().map(|(at, key)| (key, at)).collect();
    let mut times: Vec<f64> = commits
        .iter()
        .map(|(at, position)| {
            let copy = copies[&here[position]];
            // The record itself, or the marker before it: a reader gets the same record at both.
            let before = copies
                .values()
                .filter(|it| **it < copy)
                .max()
                .map_or(0, |it| it + 1);
            let arrived = seen.iter().find(|(_, there)| before <= *there);
            (arrived.expect("it arrives").0 - *at).as_secs_f64()
        })
        .collect();
    let beyond = seen.iter().filter(|(when, there)| {
        let last = commits.iter().rfind(|(at, _)| at <= when);
        last.is_some_and(|(_, position)| copies[&here[position]] < *there)
    });
    let beyond = beyond.count() as f64;
    times.sort_by(f64::total_cmp);
    let name = format!("{delivery}: commit on the source to position on the target");
    vec![
        Figure::new(format!("{name}, p50 of {COMMITS}"), times[times.len() / 2], "s"),
        Figure::new(format!("{name}, worst"), times[times.len() - 1], "s").at_most(10.0),
        Figure::new(format!("{delivery}: positions beyond the commit"), beyond, "").at_most(0.0),
    ]
}

/// All positions of so many groups in so many partitions move, again and again.
fn many(groups: u64, partitions: i32) -> Vec<Figure> {
    let name = format!("{groups} groups × {partitions} partitions");
    let rig = Rig::start(|options| options.default_jit());
    let daemon = rig.daemon("bench-groups", "bench-groups-.*", "at_least_once", "");
    // Kafka creates fewer than 10,000 partitions at once, and a busy broker takes its time for the first records.
    let topics: Vec<(String, i32)> = (0..partitions)
        .step_by(LARGEST as usize)
        .map(|first| {
            (
                format!("bench-groups-{first:05}"),
                LARGEST.min(partitions - first),
            )
        })
        .collect();
    for (topic, partitions) in &topics {
        rig.source.create_topic(topic, *partitions, &[]);
        let records = u64::try_from(*partitions).expect("a count") * (2 + ROUNDS as u64);
        load::fill(&rig.source.bootstrap(), topic, *partitions, records, 10, "none");
        rig.wait_until_copied(&daemon, topic, PATIENCE);
    }

    let process = Arc::new(GroupProcess::of_program(causeway()));
    let of = |alias, bootstrap: String, side| {
        Groups::new(Arc::clone(&process), connection(alias, &bootstrap), "bench", side)
    };
    // Both are written or read like a target here.
    let source = of("seoul", rig.source.bootstrap(), Side::Target);
    let target = of("busan", rig.target.bootstrap(), Side::Target);
    let names: Vec<String> = (0..groups).map(|n| format!("bench-{n:05}")).collect();
    let commit = |offset: i64| {
        let position = Commit {
            offset,
            leader_epoch: None,
            metadata: String::new(),
        };
        let each: BTreeMap<TopicPartition, Commit> = topics
            .iter()
            .flat_map(|(topic, partitions)| {
                (0..*partitions).map(move |it| TopicPartition::new(topic.as_str(), it))
            })
            .map(|tp| (tp, position.clone()))
            .collect();
        let all: Positions = names.iter().map(|it| (it.clone(), each.clone())).collect();
        let written = source.commit(&all, PATIENCE).expect("the process runs");
        for (group, outcome) in written {
            let outcome = outcome.unwrap_or_else(|e| panic!("{group}: {e}"));
            assert!(outcome.values().all(Result::is_ok), "{group}: {outcome:?}");
        }
    };
    let arrived = |offset: i64| {
        let there = target.committed(&names, PATIENCE).expect("the process runs");
        let right = |it: &BTreeMap<TopicPartition, Commit>| {
            it.len() == usize::try_from(partitions).expect("a count")
                && it.values().all(|it| it.offset == offset)
        };
        there.len() == names.len() && there.values().all(|it| it.as_ref().is_ok_and(right))
    };

    let started = Instant::now();
    commit(1);
    let commits_took = started.elapsed().as_secs_f64();
    wait_until("all positions are there", PATIENCE, || {
        wait_for_pass(&daemon);
        arrived(1)
    });
    let mut passes = vec![];
    let mut times = vec![];
    for round in 0..ROUNDS {
        // Behind a pass, so that the next one finds all of them changed.
        wait_for_pass(&daemon);
        commit(2 + round);
        let committed = Instant::now();
        loop {
            let (took, at) = wait_for_pass(&daemon);
            passes.push(took);
            if arrived(2 + round) {
                times.push((at - committed).as_secs_f64());
                break;
            }
            assert!(committed.elapsed() < PATIENCE, "round {round} does not arrive");
        }
    }
    let worst = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
    let changed = worst(&passes);
    let child = children(daemon.pid()).first().copied();
    let child = child.expect("the process for groups runs");
    let both = || [daemon.pid(), child].map(cpu_time);
    wait_for_pass(&daemon);
    let before = both();
    // Not a state to wait for: what is measured is what is spent in this time.
    thread::sleep(WATCHED);
    let after = both();
    let idle: Vec<f64> = (0..2).map(|_| wait_for_pass(&daemon).0).collect();
    let percent = |n: usize| 100.0 * (after[n] - before[n]).as_secs_f64() / WATCHED.as_secs_f64();
    let mebibytes = |pid, field| proc_status(pid, field) / 1024.0;
    vec![
        Figure::new(
            format!("{name}: writing all on the source took"),
            commits_took,
            "s",
        ),
        Figure::new(format!("{name}: pass, all positions moved, worst"), changed, "s").at_most(INTERVAL),
        Figure::new(format!("{name}: pass, nothing moved"), worst(&idle), "s").at_most(INTERVAL),
        Figure::new(
            format!("{name}: all committed to all on the target, worst of {ROUNDS}"),
            worst(&times),
            "s",
        )
        .at_most(2.0 * INTERVAL),
        Figure::new(
            format!("{name}: CPU of the daemon, nothing moves"),
            percent(0),
            "% of a core",
        ),
        Figure::new(
            format!("{name}: CPU of its process for groups"),
            percent(1),
            "% of a core",
        ),
        Figure::new(
            format!("{name}: RSS of the daemon"),
            mebibytes(daemon.pid(), "VmRSS:"),
            "MiB",
        ),
        Figure::new(
            format!("{name}: RSS of the daemon, peak"),
            mebibytes(daemon.pid(), "VmHWM:"),
            "MiB",
        ),
        Figure::new(
            format!("{name}: RSS of its process for groups, peak"),
            mebibytes(child, "VmHWM:"),
            "MiB",
        ),
    ]
}

/// Waits for the end of the next look at the groups; how long it took by the daemon's own metric, and when it ended.
fn wait_for_pass(daemon: &Daemon) -> (f64, Instant) {
    let before = passes(daemon);
    let mut after = before;
    wait_until("a look at the groups", PATIENCE, || {
        // The page is long where there are many groups or partitions.
        thread::sleep(Duration::from_millis(300));
        after = passes(daemon);
        before.0 < after.0
    });
    ((after.1 - before.1) / (after.0 - before.0), Instant::now())
}

/// How many there were, and their seconds.
fn passes(daemon: &Daemon) -> (f64, f64) {
    let (_, page) = wait_for("the metrics", PATIENCE, || daemon.get("/metrics"));
    let of = |suffix: &str| {
        let name = format!("causeway_group_sync_duration_seconds_{suffix}");
        let line = page.lines().find(|line| line.starts_with(&name));
        let value = line.and_then(|line| line.rsplit(' ').next());
        value.and_then(|it| it.parse().ok()).unwrap_or(0.0)
    };
    (of("count"), of("sum"))
}
