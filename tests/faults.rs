//! What breaks in the real world: the daemon killed, stopped and doubled, either cluster away, the source's
//! records gone. Every test ends by comparing both sides with a reader that is not ours.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;

use crate::harness::commands::{Files, shared_clusters};
use crate::harness::daemon::{Daemon, DaemonOptions, clusters_yaml};
use crate::harness::flow::{
    SOON, assert_same, assert_same_digest, daemon, daemon_between, is_stopped_for, partition, partitions,
    topology, wait_until_copied,
};
use crate::harness::flow::{copied, replayed, wait_for_progress};
use crate::harness::load::{self, Load};
use crate::harness::oracle::{self, Isolation, NewRecord};
use crate::harness::{Cluster, Pair, Random, kafka_tool, pair, unique, wait_until};

const COMMITTED: Isolation = Isolation::ReadCommitted;
/// Kills per test.
const KILLS: u32 = 20;

/// How long a cluster stays away. `CAUSEWAY_OUTAGE_SECONDS=60` for a longer look.
fn outage() -> Duration {
    let seconds = std::env::var("CAUSEWAY_OUTAGE_SECONDS").ok();
    Duration::from_secs(seconds.map_or(8, |it| it.parse().expect("a number of seconds")))
}

fn flow_state(status: &Value) -> &str {
    status["flows"][0]["state"].as_str().unwrap_or_default()
}

/// Numbers of the keys `k-<n>` in one partition of the target, in order.
fn numbers(cluster: &Cluster, topic: &str, number: i32) -> Vec<u64> {
    let records = oracle::dump(&cluster.bootstrap(), topic, COMMITTED);
    let those = records.into_iter().filter(|it| it.partition == number);
    those
        .map(|it| {
            let key = String::from_utf8(it.key.expect("a key")).expect("a text");
            key[2..].parse().expect("k-<number>")
        })
        .collect()
}

/// Under load, kills the daemon over and over at moments after it has begun to copy.
fn kill_under_load(topic: &str, extra: &str) -> Daemon {
    let Pair { source, .. } = pair();
    source.create_topic(topic, 8, &[]);
    let load = Load::start(&source.bootstrap(), topic, 8, 1_500, 100);
    let mut daemon = daemon(topology(topic, &[topic], extra));
    let (mut position, mut random) = (0, Random::new());
    for _ in 0..KILLS {
        position = wait_for_progress(&daemon, position);
        thread::sleep(random.moment(Duration::from_millis(700)));
        daemon.restart();
    }
    load.stop();
    wait_until_copied(&daemon, source, topic, SOON);
    daemon
}

#[test]
fn exactly_once_holds_through_twenty_kills_under_load() {
    let Pair { source, target } = pair();
    let topic = unique("killed");
    let _daemon = kill_under_load(&topic, "");
    assert!(0 < assert_same_digest(source, target, &topic));
}

#[test]
fn at_least_once_loses_nothing_through_twenty_kills_and_counts_what_it_repeats() {
    let Pair { source, target } = pair();
    let topic = unique("replayed");
    let daemon = kill_under_load(&topic, "  delivery: at_least_once\n");
    let digest = |cluster: &Cluster| oracle::digest(&cluster.bootstrap(), &topic, COMMITTED);
    let (from, to) = (digest(source), digest(target));
    assert_eq!(to.distinct_keys, from.records, "nothing is lost");
    for number in 0..8 {
        let copied = numbers(target, &topic, number);
        for pair in copied.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            assert!(
                after == before + 8 || after <= before,
                "partition {number} skips from {before} to {after}"
            );
        }
    }
    let status = daemon.status().expect("it runs");
    assert_eq!(
        to.records - from.records,
        replayed(&status),
        "repeated against counted"
    );
}

#[test]
fn a_stop_in_good_order_repeats_nothing_in_either_mode() {
    let Pair { source, target } = pair();
    for mode in ["exactly_once", "at_least_once"] {
        let topic = unique("stopped");
        source.create_topic(&topic, 4, &[]);
        let load = Load::start(&source.bootstrap(), &topic, 4, 2_000, 100);
        let mut daemon = daemon(topology(&topic, &[&topic], &format!("  delivery: {mode}\n")));
        let mut position = 0;
        for _ in 0..3 {
            position = wait_for_progress(&daemon, position);
            // It would be 3 after drain_timeout, 10 s.
            assert_eq!(daemon.terminate(Duration::from_secs(20)), 0, "exit code");
            daemon.restart();
        }
        load.stop();
        wait_until_copied(&daemon, source, &topic, SOON);
        assert_same_digest(source, target, &topic);
        assert_eq!(replayed(&daemon.status().expect("it runs")), 0);
    }
}

#[test]
fn while_the_target_is_away_memory_stays_within_its_budget_and_nothing_is_lost_or_doubled() {
    let Pair { source, .. } = pair();
    let target = Cluster::start("target-away");
    let topic = unique("target-away");
    source.create_topic(&topic, 4, &[]);
    let clusters = clusters_yaml(&[("seoul", &source.bootstrap()), ("busan", &target.bootstrap())]);
    let daemon = Daemon::start(DaemonOptions::new(
        format!("memory: 16MiB\n{clusters}"),
        topology(&topic, &[&topic], ""),
    ));
    // Four to five times the budget piles up during an outage.
    let load = Load::start(&source.bootstrap(), &topic, 4, 2_500, 4_000);
    let mut position = wait_for_progress(&daemon, 0);
    for fault in ["frozen", "killed"] {
        wait_until_copied(&daemon, source, &topic, SOON);
        let before = daemon.rss_bytes();
        match fault {
            "frozen" => target.stop(),
            _ => target.kill9(),
        }
        let until = Instant::now() + outage();
        let mut most = 0;
        while Instant::now() < until {
            most = most.max(daemon.rss_bytes());
            thread::sleep(Duration::from_millis(100));
        }
        match fault {
            "frozen" => target.cont(),
            _ => target.restart(),
        }
        eprintln!(
            "target {fault}: {} KiB before, at most {} KiB",
            before >> 10,
            most >> 10
        );
        assert!(
            most < before + (48 << 20),
            "{fault}: {before} bytes before, {most} bytes"
        );
        position = wait_for_progress(&daemon, position);
    }
    load.stop();
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_same_digest(source, &target, &topic);
}

#[test]
fn while_the_source_is_away_lag_is_unknown_and_never_zero() {
    let Pair { target, .. } = pair();
    let source = Cluster::start("source-away");
    let topic = unique("source-away");
    source.create_topic(&topic, 2, &[]);
    load::fill(&source.bootstrap(), &topic, 2, 1_000, 100, "none");
    let daemon = daemon_between(&source, target, topology(&topic, &[&topic], ""));
    wait_until_copied(&daemon, &source, &topic, SOON);
    let lags = |status: &Value| -> Vec<Value> {
        let mut all: Vec<Value> = partitions(status).map(|it| it["lag_records"].clone()).collect();
        all.push(status["flows"][0]["lag_records"].clone());
        all
    };
    daemon.wait_for("lag is zero", SOON, |status| lags(status) == [0, 0, 0]);
    source.kill9();
    daemon.wait_for("lag is unknown", SOON, |status| {
        let lags = lags(status);
        lags.len() == 3 && lags.iter().all(Value::is_null)
    });
    let until = Instant::now() + outage();
    while Instant::now() < until {
        let status = daemon.status().expect("it runs while its source is away");
        assert!(lags(&status).iter().all(Value::is_null), "{status}");
        assert!(
            partitions(&status).all(|it| it["lag_seconds"].is_null()),
            "{status}"
        );
        thread::sleep(Duration::from_millis(200));
    }
    source.restart();
    load::fill(&source.bootstrap(), &topic, 2, 1_000, 100, "none");
    wait_until_copied(&daemon, &source, &topic, SOON);
    daemon.wait_for("lag is zero again", SOON, |status| lags(status) == [0, 0, 0]);
    let digest = |cluster: &Cluster| {
        let digest = oracle::digest(&cluster.bootstrap(), &topic, COMMITTED);
        digest
            .partitions
            .into_iter()
            .map(|it| it.sha256)
            .collect::<Vec<_>>()
    };
    assert_eq!(digest(&source), digest(target));
}

/// How often and how long all brokers of a side are frozen. `CAUSEWAY_FREEZES=10 CAUSEWAY_FREEZE_SECONDS=11` for a
/// longer look; the session of a broker is 3 s here.
fn freezes() -> (u32, Duration) {
    let number =
        |name: &str, default| std::env::var(name).map_or(default, |it| it.parse().expect("a whole number"));
    (
        number("CAUSEWAY_FREEZES", 1) as u32,
        Duration::from_secs(number("CAUSEWAY_FREEZE_SECONDS", 4)),
    )
}

#[test]
fn a_daemon_outlives_either_cluster_losing_all_its_brokers_before_and_while_it_starts() {
    let (source, target) = (Cluster::start("frozen-source"), Cluster::start("frozen-target"));
    let topic = unique("frozen");
    source.create_topic(&topic, 2, &[]);
    load::fill(&source.bootstrap(), &topic, 2, 100, 10, "none");
    let ((rounds, frozen), mut random) = (freezes(), Random::new());
    let mut daemon = daemon_between(&source, &target, topology(&topic, &[&topic], ""));
    for _ in 0..rounds {
        for cluster in [&source, &target] {
            wait_until_copied(&daemon, &source, &topic, SOON);
            // It runs, it is started while nobody answers, and it goes on when the brokers come back fenced.
            cluster.stop();
            thread::sleep(frozen / 2);
            daemon.restart();
            thread::sleep(frozen / 2 + random.moment(Duration::from_secs(1)));
            cluster.cont();
            load::fill(&source.bootstrap(), &topic, 2, 100, 10, "none");
        }
    }
    wait_until_copied(&daemon, &source, &topic, SOON);
    let records = 100 * (1 + 2 * rounds as usize);
    assert_eq!(assert_same(&source, &target, &topic, &topic), records);
}

#[test]
fn records_deleted_before_they_were_copied_halt_their_partition_until_the_gap_is_accepted() {
    let Pair { source, target } = pair();
    let topic = unique("gap");
    source.create_topic(&topic, 3, &[]);
    load::fill(&source.bootstrap(), &topic, 3, 300, 10, "none");
    let mut first = daemon(topology(&topic, &[&topic], ""));
    wait_until_copied(&first, source, &topic, SOON);
    assert_eq!(first.terminate(Duration::from_secs(20)), 0);
    load::fill(&source.bootstrap(), &topic, 3, 300, 10, "none");
    oracle::delete_records(&source.bootstrap(), &topic, 1, 150);
    first.restart();
    first.wait_for("partition 1 is halted, the others go on", SOON, |status| {
        is_stopped_for(status, &topic, 1, "halted", "S301 source_out_of_range")
            && [0, 2].iter().all(|number| {
                partition(status, &topic, *number).is_some_and(|it| it["next_source_offset"] == 200)
            })
    });
    assert_eq!(flow_state(&first.status().expect("it runs")), "degraded");
    let count = |number| numbers(target, &topic, number).len();
    assert_eq!(
        (count(0), count(1), count(2)),
        (200, 100, 200),
        "nothing is skipped over"
    );
    assert_eq!(first.terminate(Duration::from_secs(20)), 0);

    let mut second = daemon(topology(&topic, &[&topic], "  on_gap: continue\n"));
    let declared = |status: &Value| {
        partition(status, &topic, 1).is_some_and(|it| {
            it["gaps"]
                .as_array()
                .is_some_and(|gaps| gaps.len() == 1 && gaps[0] == "[100, 150) source_out_of_range")
        })
    };
    second.wait_for("the gap is declared", SOON, declared);
    wait_until_copied(&second, source, &topic, SOON);
    let (from, to) = (numbers(source, &topic, 1), numbers(target, &topic, 1));
    assert_eq!(
        from,
        to[100..],
        "what is left of the source follows what was copied before"
    );
    // Declared once and for all.
    second.restart();
    second.wait_for("the gap is remembered", SOON, declared);
}

#[test]
fn records_deleted_under_a_running_flow_halt_it_where_it_stands() {
    let Pair { source, target } = pair();
    let topic = unique("overtaken");
    source.create_topic(&topic, 1, &[]);
    load::fill(&source.bootstrap(), &topic, 1, 6_000, 10_000, "none");
    let clusters = clusters_yaml(&[("seoul", &source.bootstrap()), ("busan", &target.bootstrap())]);
    let start = |extra: &str| {
        let yaml = topology(&topic, &[&topic], &format!("  tasks: 1\n{extra}"));
        Daemon::start(DaemonOptions::new(format!("memory: 16MiB\n{clusters}"), yaml))
    };
    let daemon = start("  throttle: { records_per_second: 300 }\n");
    wait_for_progress(&daemon, 0);
    oracle::delete_records(&source.bootstrap(), &topic, 0, 5_900);
    daemon.wait_for("the partition is halted", SOON, |status| {
        is_stopped_for(status, &topic, 0, "halted", "S301")
    });
    let stands = partition(&daemon.status().expect("it runs"), &topic, 0)
        .and_then(|it| it["next_source_offset"].as_u64())
        .expect("its position is known");
    assert!(stands < 5_900);
    assert_eq!(numbers(target, &topic, 0), Vec::from_iter(0..stands));
    daemon.kill9();
    let daemon = start("  on_gap: continue\n");
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(
        numbers(target, &topic, 0),
        Vec::from_iter((0..stands).chain(5_900..6_000))
    );
    let status = daemon.status().expect("it runs");
    let gaps = partition(&status, &topic, 0).map(|it| it["gaps"].clone());
    assert_eq!(
        gaps,
        Some(Value::from(vec![format!("[{stands}, 5900) source_out_of_range")]))
    );
}

#[test]
fn a_topic_made_anew_on_the_source_halts_whether_the_daemon_ran_or_not() {
    let Pair { source, target } = pair();
    for running in [false, true] {
        let (topic, other) = (unique("anew"), unique("anew-other"));
        for topic in [&topic, &other] {
            source.create_topic(topic, 2, &[]);
            load::fill(&source.bootstrap(), topic, 2, 200, 10, "none");
        }
        let extra = "  config_sync: { interval: 1s }\n";
        let mut daemon = daemon(topology(&topic, &[&topic, &other], extra));
        wait_until_copied(&daemon, source, &topic, SOON);
        if !running {
            assert_eq!(daemon.terminate(Duration::from_secs(20)), 0);
        }
        let id = oracle::describe_topic(&source.bootstrap(), &topic).topic_id;
        source.delete_topic(&topic);
        let there = || oracle::try_describe_topic(&source.bootstrap(), &topic);
        wait_until("the topic is gone", SOON, || there().is_err());
        source.create_topic(&topic, 2, &[]);
        wait_until("the topic is there again", SOON, || {
            there().is_ok_and(|it| it.topic_id != id)
        });
        load::fill(&source.bootstrap(), &topic, 2, 500, 10, "none");
        if !running {
            daemon.restart();
        }
        daemon.wait_for("both partitions are halted", SOON, |status| {
            (0..2).all(|number| is_stopped_for(status, &topic, number, "halted", "S303 source_recreated"))
        });
        load::fill(&source.bootstrap(), &other, 2, 200, 10, "none");
        wait_until_copied(&daemon, source, &other, SOON);
        for number in 0..2 {
            let expected: Vec<u64> = (0..100).map(|n| 2 * n + number as u64).collect();
            assert_eq!(
                numbers(target, &topic, number),
                expected,
                "nothing of the new topic is mixed in"
            );
        }
    }
}

fn instance(name: &str, topology: &str) -> Daemon {
    let Pair { source, target } = pair();
    let clusters = clusters_yaml(&[("seoul", &source.bootstrap()), ("busan", &target.bootstrap())]);
    let mut options = DaemonOptions::new(clusters, topology);
    options.instance = Some(name.to_owned());
    Daemon::start(options)
}

/// The tasks that run in a daemon.
fn tasks(status: &Value) -> BTreeSet<u64> {
    let tasks = status["flows"][0]["tasks"].as_array().into_iter().flatten();
    let running = tasks.filter(|it| it["state"] == "running");
    running.filter_map(|it| it["task"].as_u64()).collect()
}

#[test]
fn two_daemons_share_the_tasks_and_a_frozen_one_can_never_write_again_what_the_other_took_over() {
    let Pair { source, target } = pair();
    let topic = unique("shared");
    source.create_topic(&topic, 8, &[]);
    let load = Load::start(&source.bootstrap(), &topic, 8, 1_500, 100);
    let yaml = topology(&topic, &[&topic], "");
    let first = instance("first", &yaml);
    let all = BTreeSet::from([0, 1, 2, 3]);
    first.wait_for("the first daemon has all tasks", SOON, |status| {
        tasks(status) == all
    });
    let second = instance("second", &yaml);
    second.wait_for("the second daemon has its share", SOON, |status| {
        tasks(status).len() == 2
    });
    first.wait_for("the first daemon has the rest", SOON, |status| {
        tasks(status).len() == 2
    });
    wait_for_progress(&second, 0);

    first.process().signal("STOP");
    second.wait_for("the second daemon takes over", SOON, |status| {
        tasks(status) == all
    });
    wait_for_progress(&second, copied(&second.status().expect("it runs")));
    first.process().signal("CONT");
    // Whatever it still had in hand is fenced; then it gets a share again.
    first.wait_for("the first daemon is back", SOON, |status| {
        tasks(status).len() == 2
    });
    second.wait_for("the second daemon hands over", SOON, |status| {
        tasks(status).len() == 2
    });

    second.kill9();
    let killed = Instant::now();
    first.wait_for("the first daemon takes over", SOON, |status| tasks(status) == all);
    // The session ends after 6 s; the rest is a busy machine.
    assert!(
        killed.elapsed() < Duration::from_secs(20),
        "{:?}",
        killed.elapsed()
    );
    load.stop();
    wait_until_copied(&first, source, &topic, SOON);
    assert_same_digest(source, target, &topic);
}

#[test]
fn a_daemon_without_tasks_stands_by_and_is_ready() {
    let Pair { source, target } = pair();
    let topic = unique("standby");
    source.create_topic(&topic, 2, &[]);
    let load = Load::start(&source.bootstrap(), &topic, 2, 500, 100);
    let yaml = topology(&topic, &[&topic], "  tasks: 1\n");
    let daemons = ["one", "other"].map(|name| instance(name, &yaml));
    // Which of them the group prefers is its own business.
    let (mut owner, mut standby) = (0, 1);
    wait_until("one runs and the other stands by", SOON, || {
        let states = daemons.each_ref().map(|daemon| daemon.status());
        let [Some(one), Some(other)] = &states else {
            return false;
        };
        (owner, standby) = if tasks(one).is_empty() { (1, 0) } else { (0, 1) };
        let states = [one, other];
        tasks(states[owner]).len() == 1 && flow_state(states[standby]) == "standby"
    });
    let (owner, standby) = (&daemons[owner], &daemons[standby]);
    assert_eq!(standby.get("/ready").map(|(code, _)| code), Some(200));
    wait_for_progress(owner, 0);
    owner.kill9();
    standby.wait_for("it takes over", SOON, |status| tasks(status).len() == 1);
    load.stop();
    wait_until_copied(standby, source, &topic, SOON);
    assert_same_digest(source, target, &topic);
}

/// Behind the transaction's first record nobody can read what was committed: what can be read looks like all there is.
/// Opens a transaction that writes into the progress of task 0, and leaves it at that.
fn leave_open(target: &Cluster, transactional_id: &str, topology: &str) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", target.bootstrap())
        .set("transactional.id", transactional_id)
        .set("transaction.timeout.ms", "600000")
        .create()
        .expect("these settings are right");
    producer.init_transactions(SOON).expect("the target lets it");
    producer.begin_transaction().expect("it may begin");
    let progress = format!("causeway.{topology}.seoul.progress.internal");
    let record = BaseRecord::to(&progress)
        .partition(0)
        .key(r#"{"spare":0}"#)
        .payload(r#"{"in_use":true}"#);
    producer
        .send(record)
        .map_err(|(e, _)| e)
        .expect("the queue has room");
    producer.flush(SOON).expect("the target takes it");
    producer
}

#[test]
fn a_spare_transactional_id_whose_first_commit_did_not_end_holds_up_neither_a_start_nor_a_command() {
    let Pair { source, target } = pair();
    let topic = unique("spare");
    source.create_topic(&topic, 1, &[]);
    let fill = || load::fill(&source.bootstrap(), &topic, 1, 100, 10, "none");
    fill();
    let flow = topology(&topic, &[&topic], "  tasks: 1\n");
    let files = Files::new(&shared_clusters(), &[&flow]);
    let mut daemon = daemon(flow);
    wait_until_copied(&daemon, source, &topic, SOON);
    daemon.kill9();
    let spare = format!("causeway.{topic}.seoul->busan.0.spare");
    let _open = leave_open(target, &spare, &topic);
    daemon.restart();
    fill();
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(assert_same(source, target, &topic, &topic), 200);
    daemon.kill9();
    let _open = leave_open(target, &spare, &topic);
    let reset = files.run(&["offsets", "reset", "--all-topics", "--to-earliest", "--execute"]);
    assert_eq!(reset.code, 0, "{}", reset.all());
    daemon.restart();
    wait_until_copied(&daemon, source, &topic, SOON);
    let copied = oracle::dump(&target.bootstrap(), &topic, COMMITTED).len();
    assert_eq!(copied, 400, "all of it a second time");
}

#[test]
fn progress_behind_a_strangers_open_transaction_is_not_taken_for_all_there_is_until_the_advice_has_ended_it()
{
    let Pair { source, target } = pair();
    let topic = unique("hidden");
    source.create_topic(&topic, 1, &[]);
    let fill = || load::fill(&source.bootstrap(), &topic, 1, 100, 10, "none");
    fill();
    let mut daemon = daemon(topology(&topic, &[&topic], "  tasks: 1\n"));
    wait_until_copied(&daemon, source, &topic, SOON);
    let _stranger = leave_open(target, &unique("stranger"), &topic);
    fill();
    wait_until_copied(&daemon, source, &topic, SOON);
    daemon.kill9();
    daemon.restart();
    let mut said = String::new();
    daemon.wait_for("it says that progress is hidden", SOON, |status| {
        let reason = status["flows"][0]["tasks"][0]["reason"]
            .as_str()
            .unwrap_or_default();
        reason.clone_into(&mut said);
        said.contains("L302 progress_hidden")
    });
    let end = oracle::end_offsets(&target.bootstrap(), &topic, Isolation::ReadUncommitted);
    let at = said.find("kafka-transactions.sh").expect("the command is named");
    let command = said[at..].split(';').next().unwrap_or_default();
    let words: Vec<&str> = command.split(' ').collect();
    kafka_tool(words[0], &words[1..]);
    fill();
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(
        assert_same(source, target, &topic, &topic),
        300,
        "before the advice {end:?}"
    );
}

#[test]
fn a_new_flow_that_begins_at_the_end_copies_while_a_partition_has_no_leader_and_begins_there_when_it_has_one()
{
    let target = &pair().target;
    let source = Cluster::start("unborn");
    let mut second = source.second_broker();
    let topic = unique("unborn");
    // One on each broker.
    source.create_topic(&topic, 2, &[]);
    load::fill(&source.bootstrap(), &topic, 2, 100, 10, "none");
    second.terminate();
    let mut daemon = daemon_between(
        &source,
        target,
        topology(&topic, &[&topic], "  tasks: 1\n  start_from: latest\n"),
    );
    let is = |status: &Value, number: i32, state: &str| {
        partition(status, &topic, number).is_some_and(|it| it["state"] == state)
    };
    let mut alive = 0;
    daemon.wait_for("one is copied, the other waits", SOON, |status| {
        alive = i32::from(is(status, 1, "running"));
        is(status, alive, "running") && is(status, 1 - alive, "paused")
    });
    let write = |number: i32, word: &str| {
        let record = |n| NewRecord::new(&topic, number, &format!("{word}-{n}"), "v");
        oracle::produce(
            &source.bootstrap(),
            &(0..10).map(record).collect::<Vec<_>>(),
            "none",
        );
    };
    let arrived = || -> Vec<String> {
        let records = oracle::dump(&target.bootstrap(), &topic, COMMITTED);
        let keys = records.into_iter().map(|it| it.key.unwrap_or_default());
        keys.map(|key| String::from_utf8_lossy(&key).into_owned())
            .collect()
    };
    write(alive, "alive");
    wait_until("the one is copied", SOON, || arrived().len() == 10);
    // What was wanted of the other outlives the daemon.
    daemon.kill9();
    daemon.restart();
    daemon.wait_for("the other waits again", SOON, |status| {
        is(status, 1 - alive, "paused")
    });
    second.start();
    daemon.wait_for("it begins", SOON, |status| is(status, 1 - alive, "running"));
    write(1 - alive, "back");
    wait_until_copied(&daemon, &source, &topic, SOON);
    let expected: Vec<String> = ["alive", "back"]
        .iter()
        .flat_map(|word| (0..10).map(move |n| format!("{word}-{n}")))
        .collect();
    let mut arrived = arrived();
    arrived.sort();
    assert_eq!(arrived, expected, "nothing of before, and everything since");
}
