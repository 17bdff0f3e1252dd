//! A consumer group that moves to the target continues at the very record where it stopped. Every check reads
//! both sides with the Java client.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::commands::{Files, shared_clusters};
use crate::harness::daemon::Daemon;
use crate::harness::flow::{SOON, daemon, topology, wait_until_copied};
use crate::harness::groups::{COMMITTED, OFTEN, PARTITIONS, group, position, read, rest, write};
use crate::harness::oracle::mm2::MirrorClient;
use crate::harness::oracle::{self};
use crate::harness::{Cluster, Random, pair, unique, wait_until};

#[test]
fn a_hundred_groups_continue_at_the_very_record_after_kills_in_both_modes() {
    let mut random = Random::new();
    for delivery in ["exactly_once", "at_least_once"] {
        let (source, target) = (&pair().source, &pair().target);
        let topic = unique("positions");
        source.create_topic(&topic, PARTITIONS, &[]);
        let mut daemon = daemon(topology(
            &unique("t"),
            &[&topic],
            &format!("{OFTEN}  delivery: {delivery}\n"),
        ));
        let prefix = unique("g");
        let mut positions: BTreeMap<String, (i32, i64)> = BTreeMap::new();
        for round in 0..4 {
            write(source, &topic, 60);
            let ends = oracle::end_offsets(&source.bootstrap(), &topic, COMMITTED);
            for i in 0..25 {
                let partition = i % PARTITIONS;
                let end = ends[partition as usize];
                // At the end, on holes, behind: anywhere that a group may stand.
                let offset = if i < 4 { end } else { random.below(end + 1) };
                let name = format!("{prefix}-{round}-{i}");
                oracle::set_group_offset(&source.bootstrap(), &name, &topic, partition, offset);
                positions.insert(name, (partition, offset));
            }
            daemon.kill9();
            daemon.restart();
        }
        write(source, &topic, 10);
        let before = read(source, &topic);
        wait_until_copied(&daemon, source, &topic, SOON);
        // What the source deletes after it was copied is still there for a group that stands before it.
        oracle::delete_records(&source.bootstrap(), &topic, 0, 20);
        daemon.wait_for("all groups are written and none is held", SOON, |status| {
            positions.keys().all(|name| {
                let group = group(status, name);
                group["state"] == "written"
                    && group["held"] == 0
                    && group["staleness_seconds"].as_f64() < Some(5.0)
            })
        });
        let after = read(target, &topic);
        for (name, (partition, offset)) in &positions {
            let there = position(target, name, &topic, *partition);
            let there = there.unwrap_or_else(|| panic!("{name} has no position on the target"));
            let (wanted, found) = (
                rest(&before, *partition, *offset),
                rest(&after, *partition, there),
            );
            if delivery == "exactly_once" {
                assert_eq!(
                    wanted, found,
                    "{name} at {offset} of {partition}, {there} on the target"
                );
            } else {
                // Records written twice are read twice; the first to come is the right one, and none is missing.
                assert_eq!(wanted.first(), found.first(), "{name} at {offset} of {partition}");
                assert!(
                    wanted.iter().all(|record| found.contains(record)),
                    "{name} misses records"
                );
            }
        }
        assert_eq!(
            oracle::group_offsets(&target.bootstrap(), &format!("{prefix}-never")),
            vec![]
        );
        assert_eq!(daemon.terminate(SOON), 0);
    }
}

/// Where the record at or behind a source offset stands on the target.
fn copied(source: &Cluster, target: &Cluster, topic: &str, offset: i64) -> i64 {
    let from = read(source, topic)
        .into_iter()
        .find(|it| it.partition == 0 && offset <= it.offset);
    let key = from.expect("a record").key;
    let to = read(target, topic)
        .into_iter()
        .find(|it| it.partition == 0 && it.key == key);
    to.expect("it is copied").offset
}

#[test]
fn a_group_follows_its_source_group_forward_and_back_until_it_has_had_members_on_the_target() {
    let (source, target) = (&pair().source, &pair().target);
    let topic = unique("positions");
    source.create_topic(&topic, PARTITIONS, &[]);
    write(source, &topic, 40);
    let name = unique("g");
    let at = |offset: i64| oracle::set_group_offset(&source.bootstrap(), &name, &topic, 0, offset);
    let there = || position(target, &name, &topic, 0);
    let becomes = |what: &str, wanted: i64| wait_until(what, SOON, || there() == Some(wanted));
    let first_from = |offset: i64| copied(source, target, &topic, offset);
    at(10);
    let mut daemon = daemon(topology(&unique("t"), &[&topic], OFTEN));
    wait_until_copied(&daemon, source, &topic, SOON);
    becomes("the position arrives", first_from(10));
    at(20);
    becomes("it goes on", first_from(20));
    at(5);
    becomes("the reset arrives", first_from(5));
    // While it has members there, it is left alone.
    oracle::join_group(&target.bootstrap(), &name, &topic, "classic");
    let own = there();
    at(30);
    let state = |daemon: &Daemon, wanted: &str| {
        daemon.wait_for(&format!("it is {wanted}"), SOON, |status| {
            group(status, &name)["state"] == wanted
        });
    };
    state(&daemon, "active");
    assert_eq!(there(), own);
    // And afterwards, forward and back, also in the next life of the daemon.
    oracle::leave_group(&target.bootstrap(), &name);
    state(&daemon, "moved");
    for offset in [35, 3] {
        at(offset);
        daemon.restart();
        state(&daemon, "moved");
        assert_eq!(there(), own);
    }
    assert_eq!(
        daemon.log().matches("group positions").count(),
        0,
        "no warnings about it"
    );
}

/// Found in the field: a group had read on on the target and left, then its old self was reset on the source.
#[test]
fn a_group_that_was_read_on_on_the_target_is_not_taken_back_until_an_operator_says_so() {
    let (source, target) = (&pair().source, &pair().target);
    for restarted in [false, true] {
        let (topic, name, id) = (unique("moved"), unique("moved"), unique("moved"));
        source.create_topic(&topic, PARTITIONS, &[]);
        write(source, &topic, 40);
        let end = oracle::end_offsets(&source.bootstrap(), &topic, COMMITTED)[0];
        let at = |offset: i64| oracle::set_group_offset(&source.bootstrap(), &name, &topic, 0, offset);
        let there = || position(target, &name, &topic, 0);
        let first_from = |offset: i64| copied(source, target, &topic, offset);
        let flow = topology(
            &id,
            &[&topic],
            &format!("  groups: {{ include: [{name}] }}\n{OFTEN}"),
        );
        let files = Files::new(&shared_clusters(), &[&flow]);
        let sync = |more: &[&str]| {
            let sync = ["offsets", "sync", "--group", &name, "--output", "json"];
            files.run(&[&sync[..], more].concat())
        };
        at(20);
        let mut daemon = daemon(flow);
        wait_until_copied(&daemon, source, &topic, SOON);
        wait_until("it is written", SOON, || there() == Some(first_from(20)));
        if restarted {
            assert_eq!(daemon.terminate(SOON), 0);
        }
        let own = first_from(end / 2);
        oracle::set_group_offset(&target.bootstrap(), &name, &topic, 0, own);
        at(5);
        if restarted {
            daemon.restart();
        }
        let moved = |daemon: &Daemon| {
            daemon.wait_for("it has moved", SOON, |status| {
                let group = group(status, &name);
                group["state"] == "moved" && group["reason"].to_string().contains("was read on there")
            });
        };
        moved(&daemon);
        assert_eq!(there(), Some(own), "it was taken back");
        // Its source group goes on behind where it stands, and past that.
        for offset in [end / 4, end - 1] {
            at(offset);
            daemon.restart();
            moved(&daemon);
            assert_eq!(there(), Some(own), "it was moved");
        }
        at(5);
        let looked = sync(&[]);
        assert_eq!(looked.code, 0, "{}", looked.all());
        let row = &looked.json()["positions"][0];
        assert_eq!(
            (&row["target_group_offset"], &row["target_offset"]),
            (&own.into(), &first_from(5).into())
        );
        assert_eq!(there(), Some(own), "only shown");
        oracle::join_group(&target.bootstrap(), &name, &topic, "classic");
        let refused = sync(&["--execute"]);
        assert_eq!(refused.code, 1, "{}", refused.all());
        assert!(
            refused.stderr.contains("has members on busan"),
            "{}",
            refused.all()
        );
        oracle::leave_group(&target.bootstrap(), &name);
        let own = there();
        let executed = sync(&["--execute"]);
        assert_eq!(executed.code, 0, "{}", executed.all());
        assert_eq!(there(), Some(first_from(5)), "from {own:?}: {}", executed.all());
        // It is followed again, forward and back.
        for offset in [30, 10] {
            at(offset);
            wait_until("it follows again", SOON, || there() == Some(first_from(offset)));
        }
        daemon.restart();
        at(3);
        wait_until("after a restart, too", SOON, || there() == Some(first_from(3)));
        let audited = read(target, &format!("causeway.{id}.failover.internal"));
        let audited = audited
            .iter()
            .filter_map(|it| serde_json::from_slice::<Value>(it.value.as_deref()?).ok());
        let deeds: Vec<Value> = audited.filter(|it| it["action"] == "offsets sync").collect();
        assert_eq!(deeds.len(), 1, "{deeds:?}");
        assert_eq!(
            (&deeds[0]["group"], &deeds[0]["positions"][0]["after"]),
            (&name.as_str().into(), &first_from(5).into())
        );
    }
}

#[test]
fn a_position_ahead_of_replication_is_held_at_its_end_and_mm2s_clients_find_the_checkpoints() {
    let (source, target) = (&pair().source, &pair().target);
    let topic = unique("positions");
    source.create_topic(&topic, PARTITIONS, &[]);
    write(source, &topic, 20);
    let (ahead, behind) = (unique("ahead"), unique("behind"));
    let end = oracle::end_offsets(&source.bootstrap(), &topic, COMMITTED)[0];
    oracle::set_group_offset(&source.bootstrap(), &ahead, &topic, 0, end + 1000);
    oracle::set_group_offset(&source.bootstrap(), &behind, &topic, 1, 7);
    let daemon = daemon(topology(&unique("t"), &[&topic], OFTEN));
    wait_until_copied(&daemon, source, &topic, SOON);
    daemon.wait_for("both are written", SOON, |status| {
        group(status, &ahead)["held"] == 1
            && [&ahead, &behind]
                .iter()
                .all(|name| group(status, name)["staleness_seconds"].is_f64())
    });
    let last = read(target, &topic)
        .into_iter()
        .rfind(|it| it.partition == 0)
        .expect("records");
    wait_until("held at the end", SOON, || {
        position(target, &ahead, &topic, 0) == Some(last.offset + 1)
    });
    let client = MirrorClient::identity(&target.bootstrap(), "seoul");
    let mut translated = vec![];
    wait_until("the checkpoint", SOON, || {
        translated = client.translate_offsets("seoul", &behind);
        !translated.is_empty()
    });
    assert_eq!(translated.len(), 1);
    assert_eq!(Some(translated[0].offset), position(target, &behind, &topic, 1));
    let (from, to) = (read(source, &topic), read(target, &topic));
    assert_eq!(rest(&from, 1, 7), rest(&to, 1, translated[0].offset));
}

#[test]
fn a_group_that_was_reset_while_no_daemon_ran_is_followed_and_one_that_moved_on_the_target_is_not_taken_back()
{
    let (source, target) = (&pair().source, &pair().target);
    let (topic, reset, moved) = (unique("unseen"), unique("reset"), unique("moved"));
    source.create_topic(&topic, 1, &[]);
    oracle::transactional_load(&source.bootstrap(), &topic, 1, 40, 3, 4, 20);
    let mut daemon = daemon(topology(&unique("t"), &[&topic], OFTEN));
    wait_until_copied(&daemon, source, &topic, SOON);
    let end = oracle::end_offsets(&source.bootstrap(), &topic, COMMITTED)[0];
    for name in [&reset, &moved] {
        oracle::set_group_offset(&source.bootstrap(), name, &topic, 0, end / 2);
        daemon.wait_for("it is written", SOON, |status| {
            group(status, name)["state"] == "written"
        });
    }
    let before = position(target, &reset, &topic, 0).expect("it was written");
    assert_eq!(daemon.terminate(SOON), 0);

    oracle::set_group_offset(&source.bootstrap(), &reset, &topic, 0, end / 4);
    let there = oracle::end_offsets(&target.bootstrap(), &topic, COMMITTED)[0];
    oracle::set_group_offset(&target.bootstrap(), &moved, &topic, 0, there);
    daemon.restart();
    wait_until("the reset is followed", SOON, || {
        position(target, &reset, &topic, 0).is_some_and(|now| now < before)
    });
    let now = position(target, &reset, &topic, 0).expect("it was written");
    let (from, to) = (read(source, &topic), read(target, &topic));
    assert_eq!(rest(&from, 0, end / 4), rest(&to, 0, now));
    daemon.wait_for("both were looked at", SOON, |status| {
        group(status, &moved)["state"] == "moved"
    });
    assert_eq!(
        position(target, &moved, &topic, 0),
        Some(there),
        "it was taken back"
    );
}
