//! `causeway offsets reset`: what is copied after it, read with the Java client.

use serde_json::Value;

use crate::harness::commands::{Files, shared_clusters};
use crate::harness::flow::{SOON, daemon, partition, topology, wait_until_copied};
use crate::harness::groups::{COMMITTED, read, rest, write};
use crate::harness::load::Load;
use crate::harness::oracle;
use crate::harness::{Pair, pair, unique};

#[test]
fn a_flow_that_was_moved_copies_from_there_and_positions_stay_exact() {
    let Pair { source, target } = pair();
    for delivery in ["exactly_once", "at_least_once"] {
        let (topic, name) = (unique("moved"), unique("moved"));
        source.create_topic(&topic, 2, &[]);
        write(source, &topic, 40);
        let flow = topology(
            &name,
            &[&topic],
            &format!("  delivery: {delivery}\n  offset_sync: {{ interval: 1s }}\n"),
        );
        let files = Files::new(&shared_clusters(), &[&flow]);
        let reset = |arguments: &[&str]| files.run(&[&["offsets", "reset"], arguments].concat());

        let never = reset(&["--all-topics", "--to-earliest"]);
        assert_eq!(
            (never.code, never.stderr.contains("never run")),
            (1, true),
            "{}",
            never.all()
        );

        let mut daemon = daemon(flow);
        wait_until_copied(&daemon, source, &topic, SOON);
        let runs = reset(&["--all-topics", "--to-earliest", "--execute"]);
        assert_eq!(runs.code, 1, "{}", runs.all());
        assert!(runs.stderr.contains("stop its daemons first"), "{}", runs.all());
        assert_eq!(daemon.terminate(SOON), 0);

        // Back, and only in one partition. The first look changes nothing.
        let (from, to) = (read(source, &topic), read(target, &topic));
        let moved = format!("{topic}:0");
        let back = ["--topic", &moved, "--to-offset", "20", "--output", "json"];
        let looked = reset(&back).json();
        assert_eq!(looked["executed"], false);
        let executed = reset(&[&back[..], &["--execute"]].concat());
        assert_eq!(executed.code, 0, "{}", executed.all());
        let executed = executed.json();
        assert_eq!(
            executed["positions"], looked["positions"],
            "the look had changed something"
        );
        let position = &executed["positions"][0];
        assert_eq!(
            (&position["after"], &position["gaps"]),
            (&20.into(), &Value::Array(vec![]))
        );
        assert!(
            0 < position["copied_again"].as_i64().expect("a number"),
            "{position}"
        );

        daemon.restart();
        write(source, &topic, 10);
        wait_until_copied(&daemon, source, &topic, SOON);
        let (more, again) = (read(source, &topic), read(target, &topic));
        for number in 0..2 {
            let (was, is) = (rest(&to, number, 0), rest(&again, number, 0));
            let new_from = match number {
                0 => 20,
                _ => from
                    .iter()
                    .filter(|it| it.partition == 1)
                    .map(|it| it.offset + 1)
                    .max()
                    .unwrap_or(0),
            };
            let expected = [was, rest(&more, number, new_from)].concat();
            assert!(
                expected == is,
                "{delivery} partition {number}: {} and {}",
                expected.len(),
                is.len()
            );
        }
        // A group may stand anywhere, also before and in what was copied twice.
        let group = unique("group");
        let end = oracle::end_offsets(&source.bootstrap(), &topic, COMMITTED)[0];
        for offset in [0, 7, 19, 20, 21, 33, end - 3, end] {
            let group = format!("{group}-{offset}");
            oracle::set_group_offset(&source.bootstrap(), &group, &topic, 0, offset);
            daemon.wait_for(&format!("{group} is written"), SOON, |status| {
                status["flows"][0]["groups"]["groups"][&group]["state"] == "written"
            });
            let there = oracle::group_offsets(&target.bootstrap(), &group)[0].offset;
            let (wanted, got) = (rest(&more, 0, offset), rest(&again, 0, there));
            // Before the place that it was moved to, the first copy is right, and what is copied twice comes twice.
            let got = match offset < 20 {
                true => got[..wanted.len().min(rest(&from, 0, offset).len())].to_vec(),
                false => got,
            };
            let wanted = wanted[..got.len()].to_vec();
            assert!(
                wanted == got && (offset < 20 || got.len() == rest(&more, 0, offset).len()),
                "{delivery} {offset}"
            );
        }
        assert_eq!(daemon.terminate(SOON), 0);

        // Forward: what is left out is declared.
        write(source, &topic, 10);
        let forward = reset(&["--all-topics", "--to-latest", "--execute"]);
        assert_eq!(forward.code, 0, "{}", forward.all());
        assert!(forward.stdout.contains("offsets_reset"), "{}", forward.all());
        daemon.restart();
        wait_until_copied(&daemon, source, &topic, SOON);
        daemon.wait_for("the gap is shown", SOON, |status| {
            partition(status, &topic, 0).is_some_and(|it| it["gaps"].to_string().contains("offsets_reset"))
        });
        assert_eq!(
            read(target, &topic).len(),
            again.len(),
            "what was left out came nevertheless"
        );
        assert_eq!(daemon.terminate(SOON), 0);

        let audited = read(target, &format!("causeway.{name}.failover.internal"));
        let actions: Vec<Value> = audited
            .iter()
            .filter_map(|it| serde_json::from_slice(it.value.as_deref()?).ok())
            .collect();
        assert!(
            actions
                .iter()
                .any(|it| it["action"] == "offsets reset --to-offset 20"
                    && it["positions"][0]["after"]["next_source_offset"] == 20),
            "{actions:?}"
        );
        assert!(
            actions
                .iter()
                .any(|it| it["action"] == "offsets reset --to-latest"),
            "{actions:?}"
        );
    }
}

#[test]
fn a_partition_that_stopped_over_a_gap_goes_on_after_to_current() {
    let Pair { source, target } = pair();
    let (topic, name) = (unique("halted"), unique("halted"));
    source.create_topic(&topic, 2, &[]);
    write(source, &topic, 20);
    let flow = topology(&name, &[&topic], "");
    let files = Files::new(&shared_clusters(), &[&flow]);
    let mut daemon = daemon(flow);
    wait_until_copied(&daemon, source, &topic, SOON);
    daemon.kill9();
    let copied = read(target, &topic);
    write(source, &topic, 20);
    let end = oracle::end_offsets(&source.bootstrap(), &topic, COMMITTED)[0];
    oracle::delete_records(&source.bootstrap(), &topic, 0, end - 5);
    daemon.restart();
    daemon.wait_for("the partition stops", SOON, |status| {
        partition(status, &topic, 0).is_some_and(|it| it["state"] == "halted")
    });
    daemon.kill9();
    let reset = files.run(&["offsets", "reset", "--topic", &topic, "--to-current", "--execute"]);
    assert_eq!(reset.code, 0, "{}", reset.all());
    assert!(reset.stdout.contains("source_out_of_range"), "{}", reset.all());
    daemon.restart();
    wait_until_copied(&daemon, source, &topic, SOON);
    let expected = [rest(&copied, 0, 0), rest(&read(source, &topic), 0, end - 5)].concat();
    assert!(expected == rest(&read(target, &topic), 0, 0), "partition 0");
    assert!(
        rest(&read(source, &topic), 1, 0) == rest(&read(target, &topic), 1, 0),
        "partition 1"
    );
}

/// A daemon that hangs has lost its seat but not its clients: what it does when it wakes must not count.
#[test]
fn a_frozen_daemon_that_wakes_after_a_reset_is_fenced_and_goes_on_from_there() {
    let Pair { source, target } = pair();
    let (topic, name) = (unique("frozen"), unique("frozen"));
    source.create_topic(&topic, 1, &[]);
    let flow = topology(&name, &[&topic], "");
    let files = Files::new(&shared_clusters(), &[&flow]);
    let daemon = daemon(flow);
    let load = Load::start(&source.bootstrap(), &topic, 1, 500, 50);
    daemon.wait_for("records are copied", SOON, |status| {
        partition(status, &topic, 0).is_some_and(|it| it["next_source_offset"].as_i64() > Some(1_000))
    });
    daemon.process().signal("STOP");
    let reset = [
        "offsets",
        "reset",
        "--topic",
        &topic,
        "--to-offset",
        "10",
        "--execute",
        "--output",
        "json",
    ];
    let reset = files.run(&reset);
    assert_eq!(reset.code, 0, "{}", reset.all());
    let before = reset.json()["positions"][0]["before"]
        .as_i64()
        .expect("it was copied before");
    daemon.process().signal("CONT");
    load.stop();
    daemon.wait_for("it goes on from the new position", SOON, |status| {
        let end = oracle::end_offsets(&source.bootstrap(), &topic, COMMITTED)[0];
        // What it said before it was frozen is more than what was stored, and less than the end.
        partition(status, &topic, 0).is_some_and(|it| it["next_source_offset"].as_i64() == Some(end))
    });
    let (from, to) = (read(source, &topic), read(target, &topic));
    let until: Vec<_> = rest(&from, 0, 0).into_iter().take(before as usize).collect();
    assert!(
        [until, rest(&from, 0, 10)].concat() == rest(&to, 0, 0),
        "from {before}"
    );
}
