//! The gap guard: what can no longer be copied is declared, in numbers that hold, and nothing else is.

use std::time::{Duration, Instant};

use causeway::mm2::Checkpoint;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};

use crate::harness::commands::{Files, shared_clusters};
use crate::harness::daemon::{Daemon, clusters_yaml};
use crate::harness::flow::{
    SOON, assert_same, daemon, daemon_between, is_stopped_for, partition, topology, wait_until_copied,
};
use crate::harness::groups;
use crate::harness::load::Load;
use crate::harness::oracle::{self, Isolation, NewRecord};
use crate::harness::{Cluster, Pair, load, pair, unique, wait_until};

const COMMITTED: Isolation = Isolation::ReadCommitted;

/// The audit trail.
fn trail(target: &Cluster, topology: &str) -> Vec<Value> {
    let trail = format!("causeway.{topology}.failover.internal");
    let records = oracle::dump(&target.bootstrap(), &trail, COMMITTED);
    let values = records.iter().filter_map(|it| it.value.as_deref());
    values
        .map(|value| serde_json::from_slice(value).expect("JSON"))
        .collect()
}

/// The gaps that the audit trail tells of one partition.
fn audited(target: &Cluster, topology: &str, topic: &str, number: i32) -> Vec<(i64, i64)> {
    let told = trail(target, topology)
        .into_iter()
        .flat_map(|value| value["gaps"].as_array().cloned().unwrap_or_default());
    told.filter(|gap| gap["topic"] == topic && gap["partition"] == number)
        .map(|gap| {
            let offset = |key: &str| gap[key].as_i64().expect("an offset");
            (offset("from"), offset("to"))
        })
        .collect()
}

/// Versions before the limit listed every gap with every commit, until no commit fitted any more.
#[test]
fn a_flow_that_stands_because_of_its_many_gaps_goes_on_and_the_audit_trail_has_all_of_them() {
    let Pair { source, target } = pair();
    let topic = unique("many-gaps");
    source.create_topic(&topic, 1, &[]);
    load::fill(&source.bootstrap(), &topic, 1, 100, 10, "none");
    let mut daemon = daemon(topology(&topic, &[&topic], "  tasks: 1\n  on_gap: continue\n"));
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0);

    let progress = format!("causeway.{topic}.seoul.progress.internal");
    let records = oracle::dump(&target.bootstrap(), &progress, COMMITTED);
    let key = json!({ "topic": topic, "partition": 0 }).to_string();
    let parsed = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).expect("JSON") };
    let ours = |key: &[u8]| parsed(key)["topic"] == *topic;
    let stored = records
        .iter()
        .rfind(|it| ours(it.key.as_deref().unwrap_or_default()));
    let mut stored = parsed(stored.and_then(|it| it.value.as_deref()).expect("it was copied"));
    let old: Vec<(i64, i64)> = (0..64_000)
        .map(|n| (-1_000_000 + 10 * n, -999_997 + 10 * n))
        .collect();
    let gap = |(from, to): &(i64, i64)| json!({ "from": from, "to": to, "reason": "source_out_of_range" });
    stored["gaps"] = old.iter().map(gap).collect();
    let large: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", target.bootstrap())
        .set("message.max.bytes", "10000000")
        .set("compression.type", "zstd")
        .create()
        .expect("these settings are right");
    let stored = stored.to_string();
    let record = BaseRecord::to(&progress).partition(0).key(&key).payload(&stored);
    large
        .send(record)
        .map_err(|(e, _)| e)
        .expect("the queue has room");
    large.flush(SOON).expect("the target takes it");

    load::fill(&source.bootstrap(), &topic, 1, 100, 10, "none");
    oracle::delete_records(&source.bootstrap(), &topic, 0, 150);
    daemon.restart();
    wait_until_copied(&daemon, source, &topic, SOON);
    daemon.wait_for("the newest are listed, the others are counted", SOON, |status| {
        partition(status, &topic, 0).is_some_and(|it| {
            let gaps = it["gaps"].as_array().map_or(&[][..], Vec::as_slice);
            gaps.len() == 17
                && gaps[0] == "63985 older gaps, 191955 offsets"
                && gaps[16] == "[100, 150) source_out_of_range"
        })
    });
    let all: Vec<_> = old.into_iter().chain([(100, 150)]).collect();
    assert!(
        audited(target, &topic, &topic, 0) == all,
        "every gap is in the audit trail once, in order"
    );
    let records = oracle::dump(&target.bootstrap(), &progress, COMMITTED);
    let newest = records
        .iter()
        .rfind(|it| ours(it.key.as_deref().unwrap_or_default()));
    let size = newest.and_then(|it| it.value.as_deref()).map_or(0, <[u8]>::len);
    assert!(size < 3_000, "what is stored is small again: {size} bytes");
}

/// Writes one record for each number, into partition 0, with the key `<word>-<number>`.
fn write(cluster: &Cluster, topic: &str, word: &str, numbers: std::ops::Range<u32>) {
    let record = |n| NewRecord::new(topic, 0, &format!("{word}-{n}"), "v");
    oracle::produce(
        &cluster.bootstrap(),
        &numbers.map(record).collect::<Vec<_>>(),
        "none",
    );
}

/// The keys that [`write`] writes.
fn written(word: &str, numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|n| format!("{word}-{n}")).collect()
}

/// Keys of a topic with one partition, in order.
fn keys(cluster: &Cluster, topic: &str) -> Vec<String> {
    let records = oracle::dump(&cluster.bootstrap(), topic, COMMITTED);
    let key = |it: oracle::OracleRecord| String::from_utf8(it.key.expect("a key")).expect("a text");
    records.into_iter().map(key).collect()
}

/// Deletes a topic and creates one of the same name at once.
fn make_anew(cluster: &Cluster, topic: &str) {
    cluster.delete_topic(topic);
    cluster.create_topic(topic, 1, &[]);
}

fn gaps(daemon: &Daemon, topic: &str) -> Value {
    let status = daemon.status().expect("it runs");
    partition(&status, topic, 0).map_or(Value::Null, |it| it["gaps"].clone())
}

/// A replica that was behind has become the leader, and has grown beyond what was copied before anybody looked.
#[test]
fn a_log_that_was_cut_and_outgrew_the_position_halts_whether_the_daemon_ran_or_not_and_its_gap_is_exact() {
    let Pair { target, .. } = pair();
    let source = Cluster::start("source-cut");
    let [ran, rested, healthy] = ["cut-running", "cut-resting", "cut-healthy"].map(unique);
    for topic in [&ran, &rested, &healthy] {
        source.create_topic(topic, 1, &[]);
    }
    let earlier = [&ran, &rested].map(|topic| {
        write(&source, topic, "old", 0..600);
        let log = source.copy_log(topic, 0);
        write(&source, topic, "old", 600..1000);
        log
    });
    let flow = |topic: &str, extra: &str| {
        daemon_between(
            &source,
            target,
            topology(topic, &[topic], &format!("  tasks: 1\n{extra}")),
        )
    };
    let running = daemon_between(&source, target, topology(&ran, &[&ran, &healthy], "  tasks: 1\n"));
    let mut resting = flow(&rested, "");
    wait_until_copied(&running, &source, &ran, SOON);
    wait_until_copied(&resting, &source, &rested, SOON);
    assert_eq!(resting.terminate(Duration::from_secs(20)), 0);
    running.process().signal("STOP");
    source.terminate();
    for (topic, log) in [&ran, &rested].into_iter().zip(&earlier) {
        source.cut_back(topic, 0, log);
    }
    source.restart();
    for topic in [&ran, &rested] {
        assert_eq!(
            oracle::end_offsets(&source.bootstrap(), topic, COMMITTED),
            [600],
            "it is cut"
        );
        write(&source, topic, "new", 0..2000);
    }
    write(&source, &healthy, "healthy", 0..10);
    running.process().signal("CONT");
    resting.restart();
    for (daemon, topic) in [(&running, &ran), (&resting, &rested)] {
        daemon.wait_for(&format!("{topic} is halted"), SOON, |status| {
            is_stopped_for(status, topic, 0, "halted", "S302 source_truncated")
                && is_stopped_for(status, topic, 0, "halted", "[600, 1000) source_diverged")
        });
        assert_eq!(
            keys(target, topic),
            written("old", 0..1000),
            "nothing is mixed in"
        );
    }
    wait_until_copied(&running, &source, &healthy, SOON);
    // What was found is remembered.
    resting.restart();
    resting.wait_for("it is halted again", SOON, |status| {
        is_stopped_for(status, &rested, 0, "halted", "[600, 1000) source_diverged")
    });
    drop((running, resting));
    for topic in [&ran, &rested] {
        let daemon = flow(topic, "  on_gap: continue\n");
        wait_until_copied(&daemon, &source, topic, SOON);
        assert_eq!(gaps(&daemon, topic), json!(["[600, 1000) source_diverged"]));
        let expected = [written("old", 0..1000), written("new", 0..2000)].concat();
        assert_eq!(
            keys(target, topic),
            expected,
            "what took the place of the lost records is copied once"
        );
    }
}

#[test]
fn a_source_topic_made_anew_and_filled_within_a_second_is_neither_mixed_in_nor_copied_twice() {
    let Pair { source, target } = pair();
    let topics = |prefix: &str| -> Vec<String> { (0..6).map(|n| unique(&format!("{prefix}{n}"))).collect() };
    let (halting, continuing) = (topics("swap-halt"), topics("swap-continue"));
    let all: Vec<&str> = halting.iter().chain(&continuing).map(String::as_str).collect();
    for topic in &all {
        source.create_topic(topic, 1, &[]);
        write(source, topic, "old", 0..3);
    }
    let flow = topology(
        &unique("swap"),
        &all,
        "  tasks: 1\n  on_gap: { default: halt, continue: [\"swap-continue.*\"] }\n",
    );
    let files = Files::new(&shared_clusters(), &[&flow]);
    let daemon = daemon(flow);
    for topic in &all {
        wait_until_copied(&daemon, source, topic, SOON);
    }
    for topic in &all {
        make_anew(source, topic);
        write(source, topic, "new", 0..1000);
    }
    let made_anew = Instant::now();
    let gap = json!(["at least [3, 3) source_recreated"]);
    daemon.wait_for("the gaps are declared", SOON, |status| {
        let topics = &mut continuing.iter();
        topics.all(|topic| partition(status, topic, 0).is_some_and(|it| it["gaps"] == gap))
    });
    eprintln!(
        "the last topic was made anew {:?} before all gaps were declared",
        made_anew.elapsed()
    );
    for topic in &halting {
        daemon.wait_for(&format!("{topic} is halted"), SOON, |status| {
            is_stopped_for(status, topic, 0, "halted", "S303 source_recreated")
        });
        assert_eq!(
            keys(target, topic),
            written("old", 0..3),
            "nothing of the new topic is mixed in"
        );
    }
    for topic in &continuing {
        let expected = [written("old", 0..3), written("new", 0..1000)].concat();
        wait_until_copied(&daemon, source, topic, SOON);
        assert_eq!(keys(target, topic), expected, "{topic}");
    }
    // What goes on by itself when the flow runs waits for nobody.
    drop(daemon);
    make_anew(source, &continuing[0]);
    let listed = files.run(&["offsets", "gaps", "--output", "json"]).json();
    let waiting = listed[0]["waiting"].as_array().into_iter().flatten();
    let waiting: Vec<_> = waiting.filter_map(|it| it["topic"].as_str()).collect();
    assert_eq!(waiting, halting, "{listed}");
}

/// Nothing is written meanwhile, and whoever made it anew has filled it: only its id tells.
#[test]
fn a_target_topic_made_anew_is_noticed_whether_the_daemon_ran_or_not() {
    let Pair { source, target } = pair();
    for running in [true, false] {
        let topic = unique("target-anew");
        source.create_topic(&topic, 1, &[]);
        write(source, &topic, "old", 0..100);
        let mut daemon = daemon(topology(&topic, &[&topic], "  tasks: 1\n"));
        wait_until_copied(&daemon, source, &topic, SOON);
        if !running {
            assert_eq!(daemon.terminate(Duration::from_secs(20)), 0);
        }
        make_anew(target, &topic);
        write(target, &topic, "foreign", 0..200);
        if !running {
            daemon.restart();
        }
        daemon.wait_for("it is halted", SOON, |status| {
            is_stopped_for(status, &topic, 0, "halted", "T304 target_lost_records")
                && is_stopped_for(status, &topic, 0, "halted", "at most [0, 100) target_recreated")
        });
        write(source, &topic, "more", 0..10);
        daemon.restart();
        daemon.wait_for("it is halted again", SOON, |status| {
            is_stopped_for(status, &topic, 0, "halted", "T304")
        });
        assert_eq!(keys(target, &topic), written("foreign", 0..200));
        drop(daemon);
        let daemon =
            crate::harness::flow::daemon(topology(&topic, &[&topic], "  tasks: 1\n  on_gap: continue\n"));
        wait_until_copied(&daemon, source, &topic, SOON);
        assert_eq!(
            gaps(&daemon, &topic),
            json!(["at most [0, 100) target_recreated"])
        );
        let expected = [written("foreign", 0..200), written("more", 0..10)].concat();
        assert_eq!(keys(target, &topic), expected);
    }
}

/// What each of the four reasons to halt tells the operator to do, done at night: nobody stops the flow for it.
#[test]
fn each_gap_that_halts_a_partition_is_accepted_while_the_flow_runs_and_the_others_of_its_task_lose_nothing() {
    let Pair { target, .. } = pair();
    let source = Cluster::start("source-accept");
    let name = unique("accept");
    let [removed, cut, anew, there, healthy] =
        ["removed", "cut", "anew", "there", "healthy"].map(|word| unique(&format!("accept-{word}")));
    for topic in [&removed, &cut, &anew, &there, &healthy] {
        source.create_topic(topic, 1, &[]);
        write(&source, topic, "old", 0..600);
    }
    let log = source.copy_log(&cut, 0);
    write(&source, &cut, "old", 600..1000);
    let flow = topology(&name, &[&removed, &cut, &anew, &there, &healthy], "  tasks: 1\n");
    let clusters = clusters_yaml(&[("seoul", &source.bootstrap()), ("busan", &target.bootstrap())]);
    let files = Files::new(&clusters, &[&flow]);
    let gaps = |arguments: &[&str]| {
        let ran = files.run(&[&["offsets", "gaps", "--output", "json"], arguments].concat());
        assert_eq!(ran.code, 0, "{}", ran.all());
        ran.json()
    };
    let mut daemon = daemon_between(&source, target, flow);
    for topic in [&removed, &cut, &anew, &there, &healthy] {
        wait_until_copied(&daemon, &source, topic, SOON);
    }
    daemon.kill9();
    source.terminate();
    source.cut_back(&cut, 0, &log);
    source.restart();
    write(&source, &cut, "new", 0..2000);
    write(&source, &removed, "old", 600..1000);
    oracle::delete_records(&source.bootstrap(), &removed, 0, 900);
    make_anew(&source, &anew);
    write(&source, &anew, "new", 0..1000);
    make_anew(target, &there);
    write(&source, &there, "old", 600..1000);
    daemon.restart();

    let both =
        |first: std::ops::Range<u32>, word, second| [written("old", first), written(word, second)].concat();
    let cases = [
        (
            &removed,
            "S301",
            "[600, 900) source_out_of_range",
            both(0..600, "old", 900..1000),
        ),
        (
            &cut,
            "S302",
            "[600, 1000) source_diverged",
            both(0..1000, "new", 0..2000),
        ),
        (
            &anew,
            "S303",
            "at least [600, 600) source_recreated",
            both(0..600, "new", 0..1000),
        ),
        (
            &there,
            "T304",
            "at most [0, 600) target_recreated",
            written("old", 600..1000),
        ),
    ];
    for (topic, code, ..) in &cases {
        daemon.wait_for(&format!("{topic} is halted"), SOON, |status| {
            is_stopped_for(status, topic, 0, "halted", code)
                && is_stopped_for(
                    status,
                    topic,
                    0,
                    "halted",
                    "give `causeway offsets gaps --accept`",
                )
        });
    }
    let waiting = |listed: &Value| -> Vec<(String, String)> {
        let text = |it: &Value, key: &str| it[key].as_str().expect("a text").to_owned();
        let waiting = listed[0]["waiting"].as_array().expect("a list");
        let mut waiting: Vec<_> = waiting
            .iter()
            .map(|it| (text(it, "topic"), text(it, "code")))
            .collect();
        waiting.sort();
        waiting
    };
    let mut expected: Vec<_> = cases
        .iter()
        .map(|(topic, code, ..)| ((*topic).clone(), (*code).to_owned()))
        .collect();
    expected.sort();
    assert_eq!(waiting(&gaps(&[])), expected);
    let mut load = None;
    for (number, (topic, _, gap, expected)) in cases.iter().enumerate() {
        // First while nothing is copied, then while the task has work.
        if number == 2 {
            load = Some(Load::start(&source.bootstrap(), &healthy, 1, 500, 50));
        }
        let looked = gaps(&["--accept", "--topic", topic]);
        assert_eq!(looked["executed"], false, "{looked}");
        let started = Instant::now();
        let accepted = gaps(&["--accept", "--topic", topic, "--execute"]);
        let took = started.elapsed();
        assert_eq!(
            accepted["accepted"], looked["accepted"],
            "the look had changed something"
        );
        daemon.wait_for("the gap is declared", SOON, |status| {
            partition(status, topic, 0).is_some_and(|it| it["gaps"] == json!([gap]))
        });
        let declared = started.elapsed();
        wait_until_copied(&daemon, &source, topic, SOON);
        eprintln!(
            "{gap}: accepted after {took:?}, in status after {declared:?}, copied after {:?}",
            started.elapsed()
        );
        assert_eq!(keys(target, topic), *expected, "{topic}");
    }
    load.expect("it was started").stop();
    wait_until_copied(&daemon, &source, &healthy, SOON);
    assert_same(&source, target, &healthy, &healthy);
    assert_eq!(waiting(&gaps(&[])), [], "nothing waits any more");
    let declared = gaps(&[])[0]["declared"].as_array().map(Vec::len);
    assert_eq!(declared, Some(4));
    let trail = trail(target, &name);
    for (topic, ..) in &cases {
        assert_eq!(audited(target, &name, topic, 0).len(), 1, "{topic} in {trail:?}");
        assert!(
            trail.iter().any(|it| it["action"] == "offsets gaps --accept"
                && it["by"].as_str().is_some_and(|by| by.contains('@'))
                && it["positions"][0]["topic"] == **topic),
            "{trail:?}"
        );
    }
}

#[test]
fn a_gap_is_accepted_while_an_at_least_once_flow_runs_and_nothing_is_lost() {
    let Pair { source, target } = pair();
    let name = unique("accept-alo");
    let [removed, healthy] = ["removed", "healthy"].map(|word| unique(&format!("accept-alo-{word}")));
    for topic in [&removed, &healthy] {
        source.create_topic(topic, 1, &[]);
        write(source, topic, "old", 0..100);
    }
    let flow = topology(
        &name,
        &[&removed, &healthy],
        "  tasks: 1\n  delivery: at_least_once\n",
    );
    let files = Files::new(&shared_clusters(), &[&flow]);
    let mut daemon = daemon(flow);
    for topic in [&removed, &healthy] {
        wait_until_copied(&daemon, source, topic, SOON);
    }
    daemon.kill9();
    write(source, &removed, "old", 100..200);
    oracle::delete_records(&source.bootstrap(), &removed, 0, 150);
    daemon.restart();
    daemon.wait_for("it is halted", SOON, |status| {
        is_stopped_for(status, &removed, 0, "halted", "S301")
    });
    let load = Load::start(&source.bootstrap(), &healthy, 1, 500, 50);
    let accepted = files.run(&["offsets", "gaps", "--accept", "--topic", &removed, "--execute"]);
    assert_eq!(accepted.code, 0, "{}", accepted.all());
    assert!(
        accepted.stdout.contains("[100, 150) source_out_of_range"),
        "{}",
        accepted.all()
    );
    wait_until_copied(&daemon, source, &removed, SOON);
    load.stop();
    wait_until_copied(&daemon, source, &healthy, SOON);
    assert_eq!(
        keys(target, &removed),
        [written("old", 0..100), written("old", 150..200)].concat()
    );
    // A task that was fenced repeats what it had sent since its last commit, in order.
    let (from, to) = (keys(source, &healthy), keys(target, &healthy));
    let mut seen = std::collections::BTreeSet::new();
    let first: Vec<_> = to
        .iter()
        .filter(|key| seen.insert(key.as_str()))
        .cloned()
        .collect();
    assert!(first == from, "{} and {} records", from.len(), to.len());
}

/// What of a group in one partition is neither written nor told, and why, by the status.
fn wait_until_untranslated(daemon: &Daemon, name: &str, why: &str) {
    daemon.wait_for("its position is not translated", SOON, |status| {
        let group = groups::group(status, name);
        group["untranslated"] == 1 && group["reason"].to_string().contains(why)
    });
}

/// Source offsets of the checkpoints of a group.
fn told(target: &Cluster, name: &str) -> Vec<i64> {
    let records = oracle::dump(&target.bootstrap(), "seoul.checkpoints.internal", COMMITTED);
    let checkpoints = records
        .iter()
        .filter_map(|it| Checkpoint::decode(it.key.as_deref()?, it.value.as_deref()?));
    checkpoints
        .filter(|it| it.group == name)
        .map(|it| it.upstream.0.0)
        .collect()
}

#[test]
fn a_group_that_starts_over_in_a_source_topic_made_anew_is_not_taken_back_on_the_target() {
    let Pair { source, target } = pair();
    let topic = unique("anew-group");
    source.create_topic(&topic, 1, &[]);
    write(source, &topic, "old", 0..100);
    let at = |offset| oracle::set_group_offset(&source.bootstrap(), &topic, &topic, 0, offset);
    let there = || groups::position(target, &topic, &topic, 0);
    at(50);
    let settings = format!("  tasks: 1\n  on_gap: halt\n{}", groups::OFTEN);
    let mut daemon = daemon(topology(&topic, &[&topic], &settings));
    wait_until_copied(&daemon, source, &topic, SOON);
    wait_until("its position is written", SOON, || there().is_some());
    let before = there();
    make_anew(source, &topic);
    write(source, &topic, "new", 0..20);
    at(5);
    let made_anew = "source topic was made anew";
    wait_until_untranslated(&daemon, &topic, made_anew);
    daemon.wait_for("it is halted", SOON, |status| {
        is_stopped_for(status, &topic, 0, "halted", "S303 source_recreated")
    });
    daemon.restart();
    wait_until_untranslated(&daemon, &topic, made_anew);
    assert_eq!(there(), before, "it was taken back");
    assert_eq!(told(target, &topic), [50]);
    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0);

    // Once the new topic is copied, it continues there.
    let going_on = settings.replace("halt", "continue");
    let daemon = crate::harness::flow::daemon(topology(&topic, &[&topic], &going_on));
    wait_until_copied(&daemon, source, &topic, SOON);
    wait_until("it follows", SOON, || before < there());
    let from = there().expect("a position");
    let records = oracle::dump(&target.bootstrap(), &topic, COMMITTED);
    let next = records.into_iter().find(|it| from <= it.offset);
    let key = next.and_then(|it| it.key).expect("a record");
    assert_eq!(String::from_utf8_lossy(&key), "new-5");
}

#[test]
fn no_position_is_written_past_the_end_of_a_target_topic_made_anew() {
    let Pair { source, target } = pair();
    let (topic, other) = (unique("target-group"), unique("target-witness"));
    for topic in [&topic, &other] {
        source.create_topic(topic, 1, &[]);
        write(source, topic, "old", 0..100);
    }
    let at = |topic: &str, offset| oracle::set_group_offset(&source.bootstrap(), topic, topic, 0, offset);
    let there = |topic: &str| groups::position(target, topic, topic, 0);
    at(&topic, 50);
    let settings = format!("  tasks: 1\n{}", groups::OFTEN);
    let mut daemon = daemon(topology(&topic, &[&topic, &other], &settings));
    wait_until_copied(&daemon, source, &topic, SOON);
    wait_until_copied(&daemon, source, &other, SOON);
    wait_until("its position is written", SOON, || there(&topic).is_some());
    make_anew(target, &topic);
    write(target, &topic, "foreign", 0..13);
    let made_anew = "target topic was made anew";
    for (offset, restarted) in [(60, false), (70, true)] {
        at(&topic, offset);
        if restarted {
            daemon.restart();
        }
        wait_until_untranslated(&daemon, &topic, made_anew);
        // Whoever sees this group sees the move as well.
        at(&other, offset);
        wait_until("the move was seen", SOON, || {
            there(&other).is_some_and(|there| offset <= there)
        });
        assert_eq!(there(&topic), None, "the topic ends at 13");
        assert_eq!(told(target, &topic), [50]);
    }
    daemon.wait_for("it is halted", SOON, |status| {
        is_stopped_for(status, &topic, 0, "halted", "T304 target_lost_records")
    });
}
