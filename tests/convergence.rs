//! A running flow follows the source: topics, partitions and settings arrive while it copies, and what it
//! cannot or must not repair is said.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use causeway::context::now_ms;
use serde_json::Value;

use crate::harness::daemon::{Daemon, DaemonOptions, clusters_yaml};
use crate::harness::flow::{assert_same, daemon, partitions, topology, wait_until_copied};
use crate::harness::load::{self, Load};
use crate::harness::oracle::{self, Isolation, NewRecord};
use crate::harness::{Cluster, Pair, pair, unique, wait_until};

const LONG: Duration = Duration::from_secs(60);
/// Two intervals of config sync are promised; half of that again for a machine that does other things.
const CONVERGED: Duration = Duration::from_secs(15);

/// Keeps tests short where the interval does not matter.
const SOON: &str = "  config_sync: { interval: 1s }\n";

fn flow(status: &Value) -> &Value {
    &status["flows"][0]
}

/// The lines of a list in the report of config sync.
fn lines(status: &Value, list: &str) -> Vec<String> {
    let lines = flow(status)["config_sync"][list].as_array();
    let text = |line: &Value| line.as_str().expect("a line of text").to_owned();
    lines.into_iter().flatten().map(text).collect()
}

fn excluded(status: &Value, topic: &str) -> Option<String> {
    Some(
        flow(status)["config_sync"]["excluded"][topic]
            .as_str()?
            .to_owned(),
    )
}

/// State and reason of the partitions of a topic.
fn states(status: &Value, topic: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    partitions(status)
        .filter(|it| it["topic"] == topic)
        .map(|it| (text(&it["state"]), text(&it["reason"])))
        .collect()
}

fn run(status: &Value, topic: &str, count: usize) -> bool {
    let states = states(status, topic);
    states.len() == count && states.iter().all(|(state, _)| state == "running")
}

fn exists(cluster: &Cluster, topic: &str) -> bool {
    oracle::try_describe_topic(&cluster.bootstrap(), topic).is_ok()
}

/// Sum of a counter over its labels, those of one topology.
fn counter(daemon: &Daemon, name: &str, topology: &str) -> f64 {
    let (_, text) = daemon.get("/metrics").expect("the daemon answers");
    let of_topology = format!(r#"topology="{topology}""#);
    text.lines()
        .filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(&of_topology))
        .map(|line| {
            let value = line.rsplit(' ').next().expect("a line has a value");
            value.parse::<f64>().expect("a number")
        })
        .sum()
}

#[test]
fn a_topic_that_is_created_grown_and_reconfigured_arrives_in_time_and_disturbs_no_other() {
    let Pair { source, target } = pair();
    let (name, prefix) = (unique("converging"), unique("conv"));
    let (busy, late) = (format!("{prefix}-busy"), format!("{prefix}-late"));
    source.create_topic(&busy, 2, &[]);
    let load = Load::start(&source.bootstrap(), &busy, 2, 200, 100);
    let daemon = daemon(topology(&name, &[&format!("{prefix}-.*")], ""));
    let undisturbed = |status: &Value| assert!(run(status, &busy, 2), "{busy} is disturbed: {status}");
    daemon.wait_for("the busy topic is copied", LONG, |status| run(status, &busy, 2));
    let copied = oracle::end_offsets(&target.bootstrap(), &busy, Isolation::ReadCommitted);

    let started = Instant::now();
    source.create_topic(&late, 2, &[("retention.ms", "7200000")]);
    load::fill(&source.bootstrap(), &late, 2, 100, 100, "none");
    daemon.wait_for("the new topic is copied", CONVERGED, |status| {
        undisturbed(status);
        run(status, &late, 2)
            && partitions(status).all(|it| it["topic"] != late || it["next_source_offset"] == 50)
    });
    eprintln!("created: {:?}", started.elapsed());

    let started = Instant::now();
    source.grow_topic(&late, 5);
    daemon.wait_for("the new partitions run", CONVERGED, |status| {
        undisturbed(status);
        run(status, &late, 5)
    });
    eprintln!("grown: {:?}", started.elapsed());
    assert_eq!(oracle::describe_topic(&target.bootstrap(), &late).partitions, 5);

    let started = Instant::now();
    source.alter_topic(&late, &[("max.message.bytes", "2000000")], &["retention.ms"]);
    wait_until("the settings are those of the source", CONVERGED, || {
        undisturbed(&daemon.status().expect("the daemon answers"));
        let configs = oracle::topic_configs(&target.bootstrap(), &late);
        configs == BTreeMap::from([("max.message.bytes".to_owned(), "2000000".to_owned())])
    });
    eprintln!("reconfigured: {:?}", started.elapsed());

    load::fill(&source.bootstrap(), &late, 5, 100, 100, "none");
    wait_until_copied(&daemon, source, &late, LONG);
    wait_until("all records of the new topic are committed", LONG, || {
        200 == oracle::dump(&target.bootstrap(), &late, Isolation::ReadCommitted).len()
    });
    assert_same(source, target, &late, &late);

    let written = load.stop();
    wait_until_copied(&daemon, source, &busy, LONG);
    wait_until("all records of the busy topic are committed", LONG, || {
        written == oracle::digest(&target.bootstrap(), &busy, Isolation::ReadCommitted).records
    });
    assert_eq!(assert_same(source, target, &busy, &busy) as u64, written);
    let ends = oracle::end_offsets(&target.bootstrap(), &busy, Isolation::ReadCommitted);
    assert!(ends.iter().sum::<i64>() > copied.iter().sum());
    assert_eq!(counter(&daemon, "causeway_task_restarts_total", &name), 0.0);
    assert_eq!(counter(&daemon, "causeway_aborts_total", &name), 0.0);
}

#[test]
fn thirty_topics_created_at_once_all_arrive_with_their_partitions_and_records() {
    let Pair { source, target } = pair();
    let prefix = unique("many");
    let daemon = daemon(topology(&unique("many"), &[&format!("{prefix}-.*")], ""));
    daemon.wait_for("the flow runs", LONG, |status| flow(status)["state"] == "running");
    let topics: Vec<(String, i32)> = (0..30).map(|n| (format!("{prefix}-{n:02}"), 1 + n % 4)).collect();
    for (topic, partitions) in &topics {
        source.create_topic(topic, *partitions, &[]);
    }
    let records: Vec<NewRecord> = topics
        .iter()
        .flat_map(|(topic, partitions)| {
            (0..*partitions).map(move |it| NewRecord::new(topic, it, &format!("key {topic} {it}"), "value"))
        })
        .collect();
    oracle::produce(&source.bootstrap(), &records, "none");
    let started = Instant::now();
    daemon.wait_for("all partitions have arrived", CONVERGED, |status| {
        topics.iter().all(|(topic, count)| {
            let done =
                partitions(status).filter(|it| it["topic"] == **topic && it["next_source_offset"] == 1);
            done.count() == *count as usize
        })
    });
    eprintln!("30 topics: {:?}", started.elapsed());
    for (topic, count) in &topics {
        wait_until("its records are committed", LONG, || {
            let digest = oracle::digest(&target.bootstrap(), topic, Isolation::ReadCommitted);
            digest.records == *count as u64
        });
        assert_eq!(
            oracle::describe_topic(&target.bootstrap(), topic).partitions,
            *count
        );
        assert_same(source, target, topic, topic);
    }
}

#[test]
fn settings_changed_on_the_target_are_set_right_but_those_of_its_own_kind_stay() {
    let Pair { source, target } = pair();
    let topic = unique("drift");
    // What MirrorMaker 2 leaves alone belongs to a cluster, not to the data.
    let own = [
        ("min.insync.replicas", "1"),
        ("message.timestamp.type", "LogAppendTime"),
        ("unclean.leader.election.enable", "true"),
        ("leader.replication.throttled.replicas", "*"),
        ("follower.replication.throttled.replicas", "*"),
    ];
    let ours = [("retention.ms", "7200000"), ("segment.bytes", "10000000")];
    source.create_topic(&topic, 1, &[&own[..], &ours[..]].concat());
    let daemon = daemon(topology(&unique("drift"), &[&topic], SOON));
    daemon.wait_for("the topic is copied", LONG, |status| run(status, &topic, 1));
    let configs = || oracle::topic_configs(&target.bootstrap(), &topic);
    let text = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    };
    wait_until("the settings have arrived", LONG, || configs() == text(&ours));

    let other = [
        ("unclean.leader.election.enable", "false"),
        ("follower.replication.throttled.replicas", "0:1"),
    ];
    target.alter_topic(
        &topic,
        &[&other[..], &[("retention.ms", "60000")]].concat(),
        &["segment.bytes"],
    );
    wait_until("the drift is gone and the rest has stayed", LONG, || {
        configs() == text(&[&ours[..], &other[..]].concat())
    });
    daemon.wait_for("nothing is left to do", LONG, |status| {
        flow(status)["config_sync"]["pending_changes"] == 0 && lines(status, "errors").is_empty()
    });
}

#[test]
fn in_report_mode_differences_are_named_and_nothing_is_written() {
    let Pair { source, target } = pair();
    let prefix = unique("report");
    let (same, missing) = (format!("{prefix}-same"), format!("{prefix}-missing"));
    source.create_topic(&same, 2, &[("retention.ms", "7200000")]);
    source.create_topic(&missing, 1, &[]);
    target.create_topic(&same, 1, &[("retention.ms", "60000")]);
    for topic in [&same, &missing] {
        oracle::produce(
            &source.bootstrap(),
            &[NewRecord::new(topic, 0, "key", "value")],
            "none",
        );
    }
    let daemon = daemon(topology(
        &unique("report"),
        &[&format!("{prefix}-.*")],
        "  config_sync: { interval: 1s, mode: report }\n",
    ));
    wait_until("what can be copied is copied", LONG, || {
        1 == oracle::dump(&target.bootstrap(), &same, Isolation::ReadCommitted).len()
    });
    daemon.wait_for("every difference is named", LONG, |status| {
        let told = |words: [&str; 2]| {
            lines(status, "warnings")
                .iter()
                .any(|line| words.iter().all(|word| line.contains(word)))
        };
        flow(status)["config_sync"]["mode"] == "report"
            && flow(status)["config_sync"]["pending_changes"] == 3
            && told(["create", &missing])
            && told(["grow", &same])
            && told(["retention.ms=7200000", &same])
    });
    let passes = || counter_of_any_topology(&daemon, "causeway_config_sync_passes_total");
    let seen = passes();
    wait_until("two more passes", LONG, || seen + 2.0 <= passes());
    let status = daemon.status().expect("the daemon answers");
    // The partition and the topic that nobody makes are not passed over in silence.
    let mut shown = states(&status, &same);
    shown.extend(states(&status, &missing));
    shown.sort();
    let told = |(state, reason): &(String, String)| state == "paused" && reason.contains("T104");
    assert_eq!(shown.iter().filter(|it| told(it)).count(), 2, "{status}");
    assert!(shown.len() == 3 && shown[2].0 == "running", "{status}");
    assert!(!exists(target, &missing));
    assert_eq!(oracle::describe_topic(&target.bootstrap(), &same).partitions, 1);
    let configs = oracle::topic_configs(&target.bootstrap(), &same);
    assert_eq!(configs.get("retention.ms").map(String::as_str), Some("60000"));
    // As the advice has it.
    target.create_topic(&missing, 1, &[]);
    target.grow_topic(&same, 2);
    daemon.wait_for("what was created by hand is copied", LONG, |status| {
        run(status, &missing, 1) && run(status, &same, 2)
    });
    wait_until("its record is committed", LONG, || {
        1 == oracle::dump(&target.bootstrap(), &missing, Isolation::ReadCommitted).len()
    });
}

#[test]
fn records_that_fit_only_as_the_source_had_compressed_them_are_copied_once_the_limit_is_raised() {
    let Pair { source, target } = pair();
    let topic = unique("dense");
    source.create_topic(&topic, 1, &[("max.message.bytes", "20000")]);
    // Digits of a random number: gzip takes half of their bits away, lz4 none.
    let mut state = 1_u64;
    let mut digit = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from_digit((state >> 60) as u32, 16).expect("a digit")
    };
    let records: Vec<NewRecord> = (0..7)
        .map(|n| {
            let value: String = (0..30_000).map(|_| digit()).collect();
            NewRecord::new(&topic, 0, &format!("key {n}"), &value)
        })
        .collect();
    oracle::produce(&source.bootstrap(), &records, "gzip");
    let daemon = daemon(topology(&unique("dense"), &[&topic], SOON));
    daemon.wait_for("the partition waits and says for what", LONG, |status| {
        let states = states(status, &topic);
        let told = |(_, reason): &(String, String)| reason.contains("T301");
        !states.is_empty() && states.iter().all(told)
    });
    target.alter_topic(&topic, &[("max.message.bytes", "40000")], &[]);
    wait_until_copied(&daemon, source, &topic, LONG);
    wait_until("all records are committed", LONG, || {
        7 == oracle::dump(&target.bootstrap(), &topic, Isolation::ReadCommitted).len()
    });
    assert_same(source, target, &topic, &topic);
    daemon.wait_for("the larger limit is kept and said", LONG, |status| {
        let told = |line: &String| line.contains("kept") && line.contains("max.message.bytes=40000");
        lines(status, "warnings").iter().any(told) && flow(status)["config_sync"]["pending_changes"] == 0
    });
    // The other way that the advice names needs no larger limit.
    let stronger = unique("denser");
    let extra = format!("{SOON}  replication_policy: default\n  compression: gzip\n");
    let text = topology(&stronger, &[&topic], &extra).replace("  replication_policy: identity\n", "");
    let daemon = self::daemon(text);
    let remote = format!("seoul.{topic}");
    wait_until_copied(&daemon, source, &topic, LONG);
    wait_until("all records are committed", LONG, || {
        7 == oracle::dump(&target.bootstrap(), &remote, Isolation::ReadCommitted).len()
    });
    let configs = oracle::topic_configs(&target.bootstrap(), &remote);
    assert_eq!(
        configs.get("max.message.bytes").map(String::as_str),
        Some("20000")
    );
}

fn counter_of_any_topology(daemon: &Daemon, name: &str) -> f64 {
    let status = daemon.status().expect("the daemon answers");
    let topology = flow(&status)["topology"].as_str().expect("a topology has a name");
    counter(daemon, name, topology)
}

#[test]
fn a_source_topic_that_is_deleted_is_said_and_stops_no_other() {
    let Pair { source, target } = pair();
    let prefix = unique("deleted");
    let (gone, stays) = (format!("{prefix}-gone"), format!("{prefix}-stays"));
    for topic in [&gone, &stays] {
        source.create_topic(topic, 1, &[]);
        load::fill(&source.bootstrap(), topic, 1, 100, 100, "none");
    }
    let name = unique("deleted");
    let daemon = daemon(topology(&name, &[&format!("{prefix}-.*")], SOON));
    for topic in [&gone, &stays] {
        wait_until_copied(&daemon, source, topic, LONG);
    }
    source.delete_topic(&gone);
    daemon.wait_for("the deleted topic has left the status", LONG, |status| {
        states(status, &gone).is_empty() && run(status, &stays, 1)
    });
    wait_until("the log has said so", LONG, || {
        let log = daemon.log();
        log.lines()
            .any(|line| line.contains("deleted") && line.contains(&gone))
    });
    load::fill(&source.bootstrap(), &stays, 1, 100, 100, "none");
    wait_until_copied(&daemon, source, &stays, LONG);
    assert_eq!(
        flow(&daemon.status().expect("the daemon answers"))["state"],
        "running"
    );
    let kept = oracle::dump(&target.bootstrap(), &gone, Isolation::ReadCommitted);
    assert_eq!(kept.len(), 100, "the target keeps its copy");
    assert_eq!(counter(&daemon, "causeway_task_restarts_total", &name), 0.0);
}

#[test]
fn a_target_topic_with_more_partitions_is_reported_and_copied_all_the_same() {
    let Pair { source, target } = pair();
    let topic = unique("wider");
    source.create_topic(&topic, 1, &[]);
    target.create_topic(&topic, 3, &[]);
    load::fill(&source.bootstrap(), &topic, 1, 50, 100, "none");
    let daemon = daemon(topology(&unique("wider"), &[&topic], SOON));
    wait_until_copied(&daemon, source, &topic, LONG);
    daemon.wait_for("a warning says so", LONG, |status| {
        let told = |line: &String| line.contains(&topic) && line.contains("never removed");
        lines(status, "warnings").iter().any(told) && run(status, &topic, 1)
    });
    wait_until("the records are committed", LONG, || {
        50 == oracle::dump(&target.bootstrap(), &topic, Isolation::ReadCommitted).len()
    });
    assert_same(source, target, &topic, &topic);
}

#[test]
fn internal_topics_and_names_that_cannot_be_are_left_out_with_a_reason() {
    let Pair { source, target } = pair();
    let prefix = unique("left-out");
    let internal = [
        format!("{prefix}.checkpoints.internal"),
        format!("mm2-offset-syncs.{prefix}.internal"),
        format!("causeway.{prefix}.seoul.progress.internal"),
        format!("connect-{prefix}-internal"),
        format!("__{prefix}"),
    ];
    // With its prefix `seoul.` one character more than Kafka takes.
    let long = format!("{prefix}-{}", "x".repeat(250 - 6 - prefix.len() - 1));
    let (plain, dotted) = (format!("{prefix}-plain"), format!("{prefix}-a.b"));
    for topic in internal.iter().chain([&long, &plain, &dotted]) {
        source.create_topic(topic, 1, &[]);
    }
    // Kafka takes `.` and `_` for the same: it refuses `seoul.….a.b` beside this one.
    let in_its_way = format!("seoul.{prefix}-a_b");
    target.create_topic(&in_its_way, 1, &[]);
    // Makes sure that Kafka's own topic is there.
    oracle::set_group_offset(&source.bootstrap(), &prefix, &plain, 0, 0);
    load::fill(&source.bootstrap(), &plain, 1, 10, 100, "none");
    let topology = topology(
        &unique("left-out"),
        &[
            &format!("\".*{prefix}.*\""),
            "__consumer_offsets",
            "__transaction_state",
        ],
        SOON,
    );
    let daemon = daemon(topology.replace("replication_policy: identity", "replication_policy: default"));
    daemon.wait_for("every topic that is left out has its reason", LONG, |status| {
        let told = |topic: &str, reason: &str| excluded(status, topic).is_some_and(|it| it.contains(reason));
        internal.iter().all(|topic| told(topic, "internal topic"))
            && told("__consumer_offsets", "internal topic")
            && told(&long, "would have 250 characters")
    });
    daemon.wait_for(
        "the name that is taken is an error of its topic only",
        LONG,
        |status| {
            let told = |line: &String| line.contains(&format!("seoul.{dotted}")) && line.contains("T305");
            lines(status, "errors").iter().any(told) && run(status, &plain, 1)
        },
    );
    wait_until("the plain topic is copied", LONG, || {
        let copy = format!("seoul.{plain}");
        exists(target, &copy)
            && 10 == oracle::dump(&target.bootstrap(), &copy, Isolation::ReadCommitted).len()
    });
    for topic in internal.iter().chain([&long, &dotted]) {
        assert!(!exists(target, &format!("seoul.{topic}")), "{topic}");
    }
    assert!(!exists(target, "seoul.__consumer_offsets"));
}

#[test]
fn a_second_daemon_shares_the_work_and_no_record_is_lost_or_copied_twice() {
    let Pair { source, target } = pair();
    let topic = unique("shared");
    source.create_topic(&topic, 4, &[]);
    let load = Load::start(&source.bootstrap(), &topic, 4, 400, 100);
    let text = topology(&unique("shared"), &[&topic], SOON);
    let clusters = clusters_yaml(&[("seoul", &source.bootstrap()), ("busan", &target.bootstrap())]);
    let start = |instance: &str| {
        let mut options = DaemonOptions::new(clusters.clone(), text.clone());
        options.instance = Some(instance.to_owned());
        Daemon::start(options)
    };
    let owned = |daemon: &Daemon| -> Vec<u64> {
        let status = daemon.status();
        let tasks = status
            .as_ref()
            .and_then(|it| flow(it)["tasks"].as_array().cloned());
        tasks
            .into_iter()
            .flatten()
            .filter(|task| task["state"] == "running")
            .map(|task| task["task"].as_u64().expect("a task has a number"))
            .collect()
    };
    let first = start("first");
    first.wait_for("the first daemon copies", LONG, |status| run(status, &topic, 4));
    let second = start("second");
    wait_until("both daemons share the four tasks", LONG, || {
        let (a, b) = (owned(&first), owned(&second));
        let mut all = [a.clone(), b.clone()].concat();
        all.sort_unstable();
        !a.is_empty() && !b.is_empty() && all == [0, 1, 2, 3]
    });
    assert_eq!(second.terminate(LONG), 0);
    wait_until("the first daemon has all tasks again", LONG, || {
        let mut all = owned(&first);
        all.sort_unstable();
        all == [0, 1, 2, 3]
    });
    let written = load.stop();
    wait_until_copied(&first, source, &topic, LONG);
    wait_until("all records are committed", LONG, || {
        written <= oracle::digest(&target.bootstrap(), &topic, Isolation::ReadCommitted).records
    });
    assert_eq!(assert_same(source, target, &topic, &topic) as u64, written);
    let status = first.status().expect("the daemon answers");
    assert!(run(&status, &topic, 4), "{status}");
}

#[test]
fn records_lost_with_a_deleted_target_topic_are_never_passed_over_in_silence() {
    let Pair { source, target } = pair();
    let topic = unique("target-gone");
    source.create_topic(&topic, 1, &[]);
    load::fill(&source.bootstrap(), &topic, 1, 100, 100, "none");
    let daemon = daemon(topology(&unique("target-gone"), &[&topic], SOON));
    wait_until_copied(&daemon, source, &topic, LONG);
    wait_until("the records are committed", LONG, || {
        100 == oracle::dump(&target.bootstrap(), &topic, Isolation::ReadCommitted).len()
    });
    target.delete_topic(&topic);
    daemon.wait_for("the partition is halted and says what is lost", LONG, |status| {
        let states = states(status, &topic);
        states
            .iter()
            .any(|(state, reason)| state == "halted" && reason.contains("T304 target_lost_records"))
    });
    load::fill(&source.bootstrap(), &topic, 1, 10, 100, "none");
    let halted = daemon.status().expect("the daemon answers");
    assert_eq!(flow(&halted)["state"], "degraded", "{halted}");
    let after: Vec<_> = partitions(&halted)
        .filter(|it| it["topic"] == *topic)
        .map(|it| it["next_source_offset"].clone())
        .collect();
    assert_eq!(after, [100], "nothing is copied behind the hole");
}

#[test]
fn records_that_the_target_refuses_are_copied_once_its_topics_take_what_the_source_takes() {
    let Pair { source, target } = pair();
    let prefix = unique("refused");
    let (keyed, early) = (format!("{prefix}-keyed"), format!("{prefix}-early"));
    for (topic, setting) in [
        (&keyed, ("cleanup.policy", "compact")),
        (&early, ("message.timestamp.after.max.ms", "1000")),
    ] {
        source.create_topic(topic, 1, &[]);
        target.create_topic(topic, 1, &[setting]);
    }
    let without_key = NewRecord {
        key: None,
        ..NewRecord::new(&keyed, 0, "", "without a key")
    };
    let ahead = NewRecord {
        timestamp: Some(now_ms() + 1_800_000),
        ..NewRecord::new(&early, 0, "key", "half an hour too early")
    };
    for (topic, record) in [(&keyed, without_key), (&early, ahead)] {
        let plain = |value: &str| NewRecord::new(topic, 0, "key", value);
        oracle::produce(
            &source.bootstrap(),
            &[plain("before"), record, plain("after")],
            "none",
        );
    }
    let daemon = daemon(topology(&unique("refused"), &[&format!("{prefix}-.*")], SOON));
    daemon.wait_for("both partitions wait and say for what", LONG, |status| {
        [&keyed, &early].iter().all(|topic| {
            let states = states(status, topic);
            states.len() == 1 && states[0].0 == "paused" && states[0].1.contains("T302")
        })
    });
    target.alter_topic(&keyed, &[], &["cleanup.policy"]);
    target.alter_topic(&early, &[], &["message.timestamp.after.max.ms"]);
    for topic in [&keyed, &early] {
        wait_until_copied(&daemon, source, topic, LONG);
        wait_until("all records are committed", LONG, || {
            3 == oracle::dump(&target.bootstrap(), topic, Isolation::ReadCommitted).len()
        });
        assert_same(source, target, topic, topic);
    }
}
