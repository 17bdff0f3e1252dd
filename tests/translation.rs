//! Translated positions where the offset map itself has been through something: compaction of its topic, a source
//! that lost its front, a replay, thinning. And what becomes of groups that are deleted, or that cannot be written.
//! Every check reads both sides with the Java client.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use causeway::kafka::{ClusterAlias, TopicPartition};
use causeway::mm2::{self, Checkpoint, OffsetSync};
use serde_json::Value;

use crate::harness::commands::{Files, shared_clusters};
use crate::harness::daemon::{Daemon, DaemonOptions, clusters_yaml};
use crate::harness::flow::{SOON, daemon, daemon_between, partition, topology, wait_until_copied};
use crate::harness::flow::{replayed, wait_for_progress};
use crate::harness::groups::{COMMITTED, OFTEN, PARTITIONS, group, position, read, rest, write};
use crate::harness::load::Load;
use crate::harness::oracle::mm2 as java;
use crate::harness::oracle::{self, GroupCommit, NewRecord, OracleRecord};
use crate::harness::{Cluster, ClusterOptions, Pair, Random, pair, unique, wait_until};

const LONG: Duration = Duration::from_secs(180);

/// A topology that looks at the groups with this prefix once a second; `sync` are more settings of `offset_sync`.
fn of_groups(name: &str, topic: &str, prefix: &str, sync: &str) -> String {
    let often = OFTEN.replace(
        "offset_sync: { interval: 1s",
        &format!("offset_sync: {{ interval: 1s{sync}"),
    );
    let extra = format!("{often}  groups: {{ include: [\"{prefix}.*\"] }}\n");
    topology(name, &[topic], &extra)
}

fn map_topic(topology: &str) -> String {
    format!("causeway.{topology}.seoul.offset-map.internal")
}

fn is_written(status: &Value, name: &str) -> bool {
    let group = group(status, name);
    group["state"] == "written" && group["held"] == 0 && group["staleness_seconds"].is_f64()
}

fn wait_until_written<'a>(daemon: &Daemon, names: impl Iterator<Item = &'a String> + Clone) {
    daemon.wait_for("the groups are written", SOON, |status| {
        names.clone().all(|name| is_written(status, name))
    });
}

/// Groups of the source and where each stands: partition and offset.
type Placed = BTreeMap<String, (i32, i64)>;

/// Puts new groups at these places of the source.
fn place(
    source: &Cluster,
    topic: &str,
    prefix: &str,
    places: impl IntoIterator<Item = (i32, i64)>,
) -> Placed {
    let placed = places.into_iter().map(|(partition, offset)| {
        let name = unique(prefix);
        oracle::set_group_offset(&source.bootstrap(), &name, topic, partition, offset);
        (name, (partition, offset))
    });
    placed.collect()
}

/// Random places anywhere in a topic, some at its end.
fn anywhere(source: &Cluster, topic: &str, count: i32) -> Vec<(i32, i64)> {
    let mut random = Random::new();
    let ends = oracle::end_offsets(&source.bootstrap(), topic, COMMITTED);
    let place = |i: i32| {
        let partition = i % PARTITIONS;
        let end = ends[partition as usize];
        let offset = if i < 4 { end } else { random.below(end + 1) };
        (partition, offset)
    };
    (0..count).map(place).collect()
}

/// Each group reads on the target what it would have read on the source, from the very record on.
fn assert_exact(target: &Cluster, topic: &str, placed: &Placed, from: &[OracleRecord], to: &[OracleRecord]) {
    for (name, (partition, offset)) in placed {
        let there = position(target, name, topic, *partition);
        let there = there.unwrap_or_else(|| panic!("{name} at {offset} has no position on the target"));
        assert_eq!(
            rest(from, *partition, *offset),
            rest(to, *partition, there),
            "{name} at {offset} of {partition}, {there} on the target"
        );
    }
}

/// Waits until every record is copied. The markers behind them, where nothing follows, are passed later.
fn wait_for_records(daemon: &Daemon, source: &Cluster, topic: &str) {
    let records = read(source, topic);
    let last = |partition: i32| {
        records
            .iter()
            .rfind(|it| it.partition == partition)
            .map(|it| it.offset)
    };
    daemon.wait_for("all records are copied", SOON, |status| {
        (0..PARTITIONS).all(|number| {
            let copied = partition(status, topic, number).and_then(|it| it["next_source_offset"].as_i64());
            last(number).is_none_or(|last| Some(last) < copied)
        })
    });
}

/// Transactions in rounds that are copied one by one. Each is just enough to close a segment of the offset map, and
/// so little that segments are merged.
fn write_in_rounds(daemon: &Daemon, source: &Cluster, topic: &str, rounds: u32) {
    for _ in 0..rounds {
        write(source, topic, 48);
        wait_for_records(daemon, source, topic);
    }
}

/// A daemon under aliases of its own and MM2's names: the topics of offset syncs and checkpoints are named after
/// them.
fn under_aliases(seoul: &str, busan: &str, yaml: &str) -> Daemon {
    let Pair { source, target } = pair();
    let clusters = clusters_yaml(&[(seoul, &source.bootstrap()), (busan, &target.bootstrap())]);
    let yaml = yaml.replace("policy: identity", "policy: default");
    let yaml = yaml.replace("seoul", seoul).replace("busan", busan);
    Daemon::start(DaemonOptions::new(clusters, yaml))
}

#[test]
fn positions_are_exact_after_the_broker_has_compacted_the_map_and_the_daemon_has_started_again() {
    let Pair { source, target } = pair();
    let (name, topic, prefix) = (unique("compacted"), unique("compacted"), unique("compacted"));
    source.create_topic(&topic, PARTITIONS, &[]);
    let mut daemon = daemon(of_groups(&name, &topic, &prefix, ""));
    write_in_rounds(&daemon, source, &topic, 12);
    daemon.kill9();
    daemon.restart();
    write_in_rounds(&daemon, source, &topic, 12);
    // A start merges what is small, and deletes the parts.
    daemon.restart();
    let map = map_topic(&name);
    wait_until("segments are merged", SOON, || {
        read(target, &map).iter().any(|it| it.value.is_none())
    });
    let records = || oracle::digest(&target.bootstrap(), &map, COMMITTED).records;
    let all = records();
    target.alter_topic(
        &map,
        &[
            ("min.cleanable.dirty.ratio", "0.01"),
            ("max.compaction.lag.ms", "100"),
            ("segment.ms", "100"),
            ("delete.retention.ms", "0"),
        ],
        &[],
    );
    wait_until("the broker has removed most records of the map", LONG, || {
        // What is written last is not cleaned: something must come behind it.
        write(source, &topic, 2);
        wait_for_records(&daemon, source, &topic);
        records() < all / 2
    });
    println!("{all} records of the map, {} after compaction", records());
    daemon.kill9();
    let placed = place(source, &topic, &prefix, anywhere(source, &topic, 100));
    daemon.restart();
    wait_until_written(&daemon, placed.keys());
    assert_exact(
        target,
        &topic,
        &placed,
        &read(source, &topic),
        &read(target, &topic),
    );
}

#[test]
fn when_the_source_lost_its_front_groups_behind_it_are_exact_and_those_before_are_too_old() {
    let Pair { source, target } = pair();
    let (name, topic, prefix) = (unique("front"), unique("front"), unique("front"));
    source.create_topic(&topic, PARTITIONS, &[]);
    let yaml = of_groups(&name, &topic, &prefix, ", delete_groups: true");
    let files = Files::new(&shared_clusters(), &[&yaml]);
    let mut daemon = daemon(yaml);
    write_in_rounds(&daemon, source, &topic, 5);
    let before = read(source, &topic);
    let end = oracle::end_offsets(&source.bootstrap(), &topic, COMMITTED)[1];
    let start = end / 2;
    // They were there before, and stay where they continue: their records are still on the target.
    let early = place(
        source,
        &topic,
        &prefix,
        [0, start - 1, start, end].map(|at| (1, at)),
    );
    wait_until_written(&daemon, early.keys());
    oracle::delete_records(&source.bootstrap(), &topic, 1, start);
    daemon.restart();
    let translate = |offset: i64| {
        let offset = offset.to_string();
        let at = [
            "offsets",
            "translate",
            "--topic",
            &topic,
            "--partition",
            "1",
            "--offset",
            &offset,
        ];
        (
            files.run(&[&at[..], &["--output", "json"]].concat()).json(),
            files.run(&at),
        )
    };
    wait_until(
        "the map has forgotten what the source no longer has",
        SOON,
        || translate(0).0["exactness"] == "too_old",
    );
    let (json, text) = translate(0);
    let kept_from = json["kept_from"].as_i64().expect("where the map begins");
    assert_eq!(json["target_offset"], Value::Null);
    assert!(0 < kept_from && kept_from <= start, "{json}");
    assert!(text.stdout.contains("too old"), "{}", text.all());

    let below = place(source, &topic, &prefix, [0, kept_from - 1].map(|at| (1, at)));
    let at_or_above = [kept_from, start - 1, start, start + 1, (start + end) / 2, end];
    let above = place(source, &topic, &prefix, at_or_above.map(|at| (1, at)));
    wait_until_written(&daemon, above.keys());
    daemon.wait_for("those before are reported", SOON, |status| {
        below.keys().all(|name| {
            let group = group(status, name);
            // Not even once has the target had its position.
            group["untranslated"] == 1 && group["staleness_seconds"].is_null()
        })
    });
    let after = read(target, &topic);
    assert_exact(target, &topic, &above, &before, &after);
    assert_exact(target, &topic, &early, &before, &after);
    for name in below.keys() {
        assert_eq!(position(target, name, &topic, 1), None, "{name}");
    }

    // Nothing was written for them, so whoever makes such a group on the target owns it.
    let own = below.keys().next().expect("one");
    oracle::set_group_offset(&target.bootstrap(), own, &topic, 1, 1);
    oracle::delete_group(&source.bootstrap(), own);
    daemon.wait_for("it is forgotten", SOON, |status| group(status, own).is_null());
    assert_eq!(position(target, own, &topic, 1), Some(1));
}

#[test]
fn behind_a_replay_groups_continue_at_the_last_copy_of_their_record() {
    let Pair { source, target } = pair();
    let (name, topic, prefix) = (unique("again"), unique("again"), unique("again"));
    source.create_topic(&topic, 1, &[]);
    let yaml =
        of_groups(&name, &topic, &prefix, "").replace("  groups:", "  delivery: at_least_once\n  groups:");
    let mut daemon = daemon(yaml);
    let load = Load::start(&source.bootstrap(), &topic, 1, 400, 50);
    let mut before = 0;
    wait_until("a kill made records come twice", LONG, || {
        before = wait_for_progress(&daemon, before);
        // Positions are stored once a second.
        thread::sleep(Duration::from_millis(700));
        daemon.restart();
        daemon.wait_for("it runs again", SOON, |status| {
            status["flows"][0]["tasks"].as_array().is_some_and(|tasks| {
                tasks
                    .iter()
                    .any(|task| task["partitions"][0]["state"] == "running")
            })
        });
        daemon.status().is_some_and(|status| 0 < replayed(&status))
    });
    wait_for_progress(&daemon, before + 100);
    load.stop();
    wait_until_copied(&daemon, source, &topic, SOON);
    let (from, to) = (read(source, &topic), read(target, &topic));
    // Where a key stands on the source, and where its copies do.
    let at = |record: &OracleRecord| record.key.clone().expect("a key");
    let sources: BTreeMap<Vec<u8>, i64> = from.iter().map(|it| (at(it), it.offset)).collect();
    let copies: BTreeMap<i64, Vec<i64>> = to.iter().fold(BTreeMap::new(), |mut copies, record| {
        copies
            .entry(sources[&at(record)])
            .or_insert_with(Vec::new)
            .push(record.offset);
        copies
    });
    let end = oracle::end_offsets(&source.bootstrap(), &topic, COMMITTED)[0];
    let status = daemon.status().expect("it runs");
    assert_eq!(
        to.len() as u64,
        end as u64 + replayed(&status),
        "repeated against counted"
    );
    // First and last offset of each replay; on a busy machine there may be several.
    let copied: Vec<i64> = to.iter().map(|it| sources[&at(it)]).collect();
    let back = copied.windows(2).filter(|pair| pair[1] <= pair[0]);
    let replays: Vec<(i64, i64)> = back.map(|pair| (pair[1], pair[0])).collect();
    println!("of {end} records came twice: {replays:?}");
    let last_replay = replays.last().expect("records came twice").0;
    let around = |(first, last): &(i64, i64)| {
        let middle = (first + last) / 2;
        [first / 2, first - 1, *first, first + 1, middle, *last, last + 1]
    };
    let places = replays.iter().flat_map(around).chain([0, end - 1, end]);
    let placed = place(source, &topic, &prefix, places.map(|at| (0, at.clamp(0, end))));
    wait_until_written(&daemon, placed.keys());
    for (name, (_, offset)) in &placed {
        let there = position(target, name, &topic, 0).expect("a position");
        let next = copies.range(*offset..).next();
        let wanted = next.map_or(to[to.len() - 1].offset + 1, |(_, copies)| {
            *copies.last().expect("copied")
        });
        assert_eq!(there, wanted, "{name} at {offset}");
        // In the last replayed range and behind it nothing comes twice; before it all comes, what was replayed twice.
        let (wanted, found) = (rest(&from, 0, *offset), rest(&to, 0, there));
        match last_replay <= *offset {
            true => assert_eq!(wanted, found, "{name} at {offset}"),
            false => {
                let mut seen = BTreeSet::new();
                let once: Vec<_> = found.into_iter().filter(|it| seen.insert(it.clone())).collect();
                assert_eq!(wanted, once, "{name} at {offset}");
            }
        }
    }
}

#[test]
fn a_thinned_map_answers_with_a_stated_bound_that_neither_skips_nor_rises() {
    let Pair { source, target } = pair();
    let (name, topic, prefix) = (unique("thinned"), unique("thinned"), unique("thinned"));
    source.create_topic(&topic, PARTITIONS, &[]);
    // Short, and long enough for a busy machine to look before.
    let yaml = of_groups(&name, &topic, &prefix, ", map_retention: 90s");
    let files = Files::new(&shared_clusters(), &[&yaml]);
    let daemon = daemon(yaml);
    write_in_rounds(&daemon, source, &topic, 4);
    let placed = place(source, &topic, &prefix, anywhere(source, &topic, 24));
    wait_until_written(&daemon, placed.keys());
    let list = || -> BTreeMap<String, Value> {
        let list = files.run(&["offsets", "list", "--output", "json"]);
        assert_eq!(list.code, 0, "{}", list.all());
        let list = list.json();
        let rows = list.as_array().expect("a list").iter();
        rows.map(|row| (row["group"].as_str().expect("a name").to_owned(), row.clone()))
            .collect()
    };
    let exact = list();
    assert!(
        placed.keys().all(|name| exact[name]["exactness"] == "exact"),
        "{exact:?}"
    );
    // Segment by segment, as each grows old.
    daemon.wait_for("the map is thinned", LONG, |status| {
        let bounded = |name: &&String| group(status, name)["bounded"] == 1;
        4 < placed.keys().filter(bounded).count()
    });
    let thinned = list();
    let (from, to) = (read(source, &topic), read(target, &topic));
    let mut bounded = 0;
    for (name, (partition, offset)) in &placed {
        let (before, after) = (&exact[name], &thinned[name]);
        let (truth, there) = (before["target_offset"].as_i64(), after["target_offset"].as_i64());
        let (truth, there) = (truth.expect("a place"), there.expect("a place"));
        assert!(there <= truth, "{before} rises: {after}");
        let (wanted, found) = (rest(&from, *partition, *offset), rest(&to, *partition, there));
        assert!(found.ends_with(&wanted), "{after} skips");
        let again = (found.len() - wanted.len()) as u64;
        match after["exactness"].as_str() {
            Some("bound") => {
                bounded += 1;
                let reread = after["reread"].as_u64().expect("it is stated");
                assert!(again <= reread, "{again} records again: {after}");
            }
            other => assert_eq!((other, again), (Some("exact"), 0), "{after}"),
        }
    }
    assert!(4 < bounded, "{thinned:?}");
    // What was written while the map was exact stays.
    assert_exact(target, &topic, &placed, &from, &to);

    let (old, (partition, offset)) = placed
        .iter()
        .find(|(name, _)| thinned[*name]["exactness"] == "bound")
        .expect("there are some");
    let late = place(source, &topic, &prefix, [(*partition, *offset)]);
    wait_until_written(&daemon, late.keys());
    let late = late.keys().next().expect("it was placed");
    let there = position(target, late, &topic, *partition);
    assert_eq!(
        there,
        thinned[old]["target_offset"].as_i64(),
        "its bound is written"
    );
    assert_eq!(group(&daemon.status().expect("it runs"), late)["bounded"], 1);
    let text = files.run(&["offsets", "translate", "--group", late]);
    assert!(text.stdout.contains("read again"), "{}", text.all());
}

#[test]
fn mm2s_checkpoint_connector_works_on_the_syncs_of_a_running_flow() {
    let Pair { source, target } = pair();
    let (here, there) = (source.bootstrap(), target.bootstrap());
    let (seoul, busan) = (unique("cc-seoul"), unique("cc-busan"));
    let (topic, prefix) = (unique("cc-orders"), unique("cc-group"));
    source.create_topic(&topic, PARTITIONS, &[]);
    let yaml = of_groups(
        &unique("cc"),
        &topic,
        &prefix,
        ", checkpoints: false, write_groups: false",
    );
    let daemon = under_aliases(&seoul, &busan, &yaml);
    let syncs = mm2::offset_syncs_topic(&ClusterAlias::new(&seoul));
    let newest = |partition: i32| {
        let records = match oracle::try_describe_topic(&there, &syncs) {
            Ok(_) => read(target, &syncs),
            Err(_) => vec![],
        };
        let syncs = records
            .iter()
            .filter_map(|it| OffsetSync::decode(it.key.as_deref()?, it.value.as_deref()?));
        // Heartbeats of other tests have syncs as well.
        let own = TopicPartition::new(topic.as_str(), partition);
        let of = syncs.filter(|it| it.topic_partition == own);
        of.map(|it| it.upstream.0.0).next_back()
    };
    for _ in 0..5 {
        write(source, &topic, 20);
        wait_for_records(&daemon, source, &topic);
        let from = read(source, &topic);
        for partition in 0..PARTITIONS {
            let last = from
                .iter()
                .rfind(|it| it.partition == partition)
                .map(|it| it.offset);
            wait_until("the newest record has a sync", SOON, || newest(partition) == last);
        }
    }
    let places = anywhere(source, &topic, 24);
    let placed = place(source, &topic, &prefix, places);
    let groups = format!("{prefix}.*");
    let properties = java::checkpoint_properties(
        (&seoul, &here),
        (&busan, &there),
        &[
            ("offset-syncs.topic.location", "target"),
            ("topics", &topic),
            ("groups", &groups),
        ],
    );
    let emitted = java::checkpoint_task(&properties, LONG);
    let remote = format!("{seoul}.{topic}");
    let (from, to) = (read(source, &topic), read(target, &remote));
    let mut told: BTreeMap<String, i64> = BTreeMap::new();
    for it in &emitted {
        let checkpoint = Checkpoint::decode(&it.record.0, &it.record.1).expect("a checkpoint");
        let (partition, offset) = placed[&checkpoint.group];
        assert_eq!(*checkpoint.topic_partition.topic, *remote);
        assert_eq!(
            (checkpoint.topic_partition.partition, checkpoint.upstream.0.0),
            (partition, offset)
        );
        let downstream = checkpoint.downstream.0.0;
        let (wanted, found) = (rest(&from, partition, offset), rest(&to, partition, downstream));
        assert!(found.ends_with(&wanted), "{checkpoint:?} skips");
        told.insert(checkpoint.group, (found.len() - wanted.len()) as i64);
    }
    println!(
        "records read again by the checkpoints of MM2: {:?}",
        told.values()
    );
    let ends = oracle::end_offsets(&here, &topic, COMMITTED);
    let caught_up = placed
        .iter()
        .filter(|(_, (partition, offset))| *offset == ends[*partition as usize]);
    let caught_up: Vec<&String> = caught_up.map(|(name, _)| name).collect();
    assert!(4 <= caught_up.len());
    for name in caught_up {
        assert_eq!(told.get(name), Some(&0), "{name} has read everything");
    }
    assert!(
        4 + 8 < told.len(),
        "groups that lag have checkpoints as well: {told:?}"
    );
}

/// MM2's `testOffsetTranslationBehindReplicationFlow` and `testRestartReplication`.
#[test]
fn checkpoints_go_forward_through_restarts_and_back_only_with_their_group() {
    let Pair { source, target } = pair();
    let (seoul, busan) = (unique("cp-seoul"), unique("cp-busan"));
    let (topic, prefix) = (unique("cp-orders"), unique("cp-group"));
    source.create_topic(&topic, PARTITIONS, &[]);
    write(source, &topic, 40);
    let mut daemon = under_aliases(&seoul, &busan, &of_groups(&unique("cp"), &topic, &prefix, ""));
    wait_for_records(&daemon, source, &topic);
    let checkpoints = mm2::checkpoints_topic(&ClusterAlias::new(&seoul));
    let name = unique(&prefix);
    let told = || -> Vec<(i64, i64)> {
        if oracle::try_describe_topic(&target.bootstrap(), &checkpoints).is_err() {
            return vec![];
        }
        let records = read(target, &checkpoints);
        let all = records
            .iter()
            .filter_map(|it| Checkpoint::decode(it.key.as_deref()?, it.value.as_deref()?));
        all.filter(|it| it.group == name && it.topic_partition.partition == 0)
            .map(|it| (it.upstream.0.0, it.downstream.0.0))
            .collect()
    };
    let end = || oracle::end_offsets(&source.bootstrap(), &topic, COMMITTED)[0];
    // On 90 %, then further after a restart, then back to 10 %, then after another restart.
    let mut asked = vec![];
    for round in 0..4 {
        let offset = match round {
            2 => end() / 10,
            3 => end() / 2,
            _ => end() * 9 / 10,
        };
        oracle::set_group_offset(&source.bootstrap(), &name, &topic, 0, offset);
        wait_until("its checkpoint", SOON, || {
            told().last().is_some_and(|(up, _)| *up == offset)
        });
        asked.push(offset);
        if round % 2 == 0 {
            daemon.restart();
            write(source, &topic, 10);
            wait_for_records(&daemon, source, &topic);
        }
    }
    let told = told();
    assert!(asked[0] < asked[1] && asked[2] < asked[3], "{asked:?}");
    for pair in told.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        assert_eq!(before.0 <= after.0, before.1 <= after.1, "{told:?}");
    }
    let (from, to) = (read(source, &topic), read(target, &format!("{seoul}.{topic}")));
    for (up, down) in &told {
        assert_eq!(rest(&from, 0, *up), rest(&to, 0, *down), "{told:?}");
    }
}

#[test]
fn a_group_of_an_empty_partition_gets_a_position() {
    let Pair { source, target } = pair();
    let (name, topic, prefix) = (unique("empty"), unique("empty"), unique("empty"));
    source.create_topic(&topic, 2, &[]);
    let records = [NewRecord::new(&topic, 1, "k", "v")];
    oracle::produce(&source.bootstrap(), &records, "none");
    let placed = place(source, &topic, &prefix, [(0, 0)]);
    let daemon = daemon(of_groups(&name, &topic, &prefix, ""));
    wait_for_records(&daemon, source, &topic);
    let name = placed.keys().next().expect("one");
    wait_until("a position", SOON, || {
        position(target, name, &topic, 0) == Some(0)
    });
}

#[test]
fn a_group_before_the_start_of_a_flow_from_latest_continues_at_its_first_copy() {
    let Pair { source, target } = pair();
    let (name, topic, prefix) = (unique("latest"), unique("latest"), unique("latest"));
    source.create_topic(&topic, PARTITIONS, &[]);
    write(source, &topic, 10);
    let placed = place(source, &topic, &prefix, [(0, 3)]);
    let yaml = of_groups(&name, &topic, &prefix, "").replace("  groups:", "  start_from: latest\n  groups:");
    let daemon = daemon(yaml);
    wait_until_copied(&daemon, source, &topic, SOON);
    let begin = oracle::end_offsets(&source.bootstrap(), &topic, COMMITTED)[0];
    write(source, &topic, 10);
    wait_for_records(&daemon, source, &topic);
    wait_until_written(&daemon, placed.keys());
    let name = placed.keys().next().expect("one");
    let there = position(target, name, &topic, 0).expect("a position");
    let (from, to) = (read(source, &topic), read(target, &topic));
    assert_eq!(rest(&from, 0, begin), rest(&to, 0, there));
    let first = to.iter().find(|it| it.partition == 0).map(|it| it.offset);
    assert_eq!(Some(there), first);
}

/// As when they expire there: a group that is idle on the source for longer than the target keeps positions.
#[test]
fn a_position_that_the_target_loses_is_written_again() {
    let Pair { source, target } = pair();
    let (name, topic, prefix) = (unique("expired"), unique("expired"), unique("expired"));
    source.create_topic(&topic, PARTITIONS, &[]);
    write(source, &topic, 20);
    let placed = place(source, &topic, &prefix, [(0, 10), (0, 20)]);
    for name in placed.keys() {
        oracle::set_group_offset(&source.bootstrap(), name, &topic, 1, 10);
    }
    let daemon = daemon(of_groups(&name, &topic, &prefix, ""));
    wait_until_written(&daemon, placed.keys());
    let there = |name: &str| oracle::group_offsets(&target.bootstrap(), name);
    let names: Vec<&String> = placed.keys().collect();
    let before: Vec<_> = names.iter().map(|name| there(name)).collect();
    oracle::delete_group(&target.bootstrap(), names[0]);
    oracle::delete_group_offset(&target.bootstrap(), names[1], &topic, 1);
    // A group that is gone is noticed at once, a position when it is looked at again.
    for ((name, before), limit) in names.iter().zip(before).zip([SOON / 2, LONG]) {
        assert_eq!(before.len(), 2);
        wait_until("it is there again", limit, || there(name) == before);
    }
}

#[test]
fn a_flow_that_writes_no_groups_says_how_each_is_translated() {
    let Pair { source, target } = pair();
    let (name, topic, prefix) = (unique("unwritten"), unique("unwritten"), unique("unwritten"));
    source.create_topic(&topic, PARTITIONS, &[]);
    write(source, &topic, 10);
    let end = oracle::end_offsets(&source.bootstrap(), &topic, COMMITTED)[0];
    let placed = place(source, &topic, &prefix, [(0, end + 100)]);
    let daemon = daemon(of_groups(&name, &topic, &prefix, ", write_groups: false"));
    wait_for_records(&daemon, source, &topic);
    let name = placed.keys().next().expect("one");
    daemon.wait_for("it is translated", SOON, |status| {
        let group = group(status, name);
        group["state"] == "translated" && group["partitions"] == 1 && group["held"] == 1
    });
    let status = daemon.status().expect("it runs");
    assert!(
        group(&status, name)["staleness_seconds"].is_null(),
        "nothing is written: {status}"
    );
    assert_eq!(position(target, name, &topic, 0), None);
}

#[test]
fn a_group_deleted_on_the_source_is_deleted_only_where_it_is_asked_for_and_causeway_made_it() {
    let Pair { source, target } = pair();
    let (name, topic, prefix) = (unique("deleted"), unique("deleted"), unique("deleted"));
    source.create_topic(&topic, PARTITIONS, &[]);
    write(source, &topic, 20);
    let names = ["ours", "theirs", "used", "asleep", "kept"].map(|it| unique(&format!("{prefix}-{it}")));
    let [ours, theirs, used, asleep, kept] = &names;
    for name in &names {
        oracle::set_group_offset(&source.bootstrap(), name, &topic, 0, 10);
    }
    // One was on the target before, at no position of the flow's.
    let elsewhere = unique("elsewhere");
    target.create_topic(&elsewhere, 1, &[]);
    oracle::produce(
        &target.bootstrap(),
        &[NewRecord::new(&elsewhere, 0, "k", "v")],
        "none",
    );
    oracle::set_group_offset(&target.bootstrap(), theirs, &elsewhere, 0, 0);
    let flow = |wanted: &str, yaml: &str| of_groups(wanted, &topic, &prefix, yaml);
    let mut first = daemon(flow(&name, ", delete_groups: true"));
    wait_until_written(&first, names.iter());
    let there = |name: &str| oracle::group_offsets(&target.bootstrap(), name);
    // Two have been used on the target since, and one of them still is.
    for name in [used, asleep] {
        oracle::join_group(&target.bootstrap(), name, &topic, "classic");
    }
    first.wait_for("they are left alone", SOON, |status| {
        [used, asleep]
            .iter()
            .all(|name| group(status, name)["state"] == "active")
    });
    oracle::leave_group(&target.bootstrap(), asleep);
    first.wait_for("it has no members again", SOON, |status| {
        group(status, asleep)["state"] == "moved"
    });
    for name in [ours, theirs, used, asleep] {
        oracle::delete_group(&source.bootstrap(), name);
    }
    wait_until("what causeway made is deleted", SOON, || there(ours).is_empty());
    first.wait_for("all are forgotten", SOON, |status| {
        [ours, theirs, used, asleep]
            .iter()
            .all(|name| group(status, name).is_null())
    });
    assert_eq!(there(theirs).len(), 2, "it was there before");
    assert_eq!(there(used).len(), 2, "it has members");
    assert_eq!(there(asleep).len(), 2, "it has been used there");
    assert_eq!(there(kept).len(), 1, "its source group is alive");
    let log = first.log();
    let said = |what: &str, name: &str| log.lines().any(|line| line.contains(what) && line.contains(name));
    assert!(said("gone from the source, deleted on the target", ours), "{log}");
    for name in [theirs, used, asleep] {
        assert!(said("gone from the source; its positions stay", name), "{log}");
    }
    oracle::leave_group(&target.bootstrap(), used);
    assert_eq!(first.terminate(SOON), 0);

    // Without being asked for, nothing is deleted.
    let second = daemon(flow(&name, ""));
    let late = place(source, &topic, &prefix, [(0, 10)]);
    wait_until_written(&second, late.keys());
    let late = late.keys().next().expect("one");
    oracle::delete_group(&source.bootstrap(), late);
    second.wait_for("it is forgotten", SOON, |status| group(status, late).is_null());
    assert_eq!(there(late).len(), 1);
    assert_eq!(second.terminate(SOON), 0);
    first.restart();
    first.wait_for("the rest is there", SOON, |status| is_written(status, kept));
    assert_eq!(there(late).len(), 1, "another run made it");
}

/// Consumers that finish records out of order keep there which they have, counted from the offset.
#[test]
fn metadata_goes_along_only_where_the_offset_is_the_same_or_the_user_says_so() {
    let Pair { source, target } = pair();
    let (even, holes) = (unique("metadata-even"), unique("metadata-holes"));
    for topic in [&even, &holes] {
        source.create_topic(topic, PARTITIONS, &[]);
    }
    let records: Vec<_> = (0..20)
        .map(|n| NewRecord::new(&even, 0, &n.to_string(), "v"))
        .collect();
    oracle::produce(&source.bootstrap(), &records, "none");
    write(source, &holes, 20);
    let prefix = unique("metadata");
    let (same, denser) = (
        unique(&format!("{prefix}-same")),
        unique(&format!("{prefix}-denser")),
    );
    for (name, topic) in [(&same, &even), (&denser, &holes)] {
        let commit = GroupCommit {
            topic: topic.clone(),
            partition: 0,
            offset: 12,
            metadata: "bitmap".to_owned(),
            leader_epoch: None,
        };
        oracle::assign_and_commit(&source.bootstrap(), name, &commit);
    }
    for (rule, expected) in [
        ("exact", ["bitmap", ""]),
        ("always", ["bitmap"; 2]),
        ("never", [""; 2]),
    ] {
        let (seoul, busan) = (unique("meta-seoul"), unique("meta-busan"));
        let settings = format!(", metadata: {rule}");
        let topics = format!("{even}, {holes}");
        // Without the markers of transactions on the target, the offsets of one topic stay the same.
        let flow =
            of_groups(&unique("metadata"), &topics, &prefix, &settings) + "  delivery: at_least_once\n";
        let daemon = under_aliases(&seoul, &busan, &flow);
        wait_for_records(&daemon, source, &even);
        wait_for_records(&daemon, source, &holes);
        let names = [&same, &denser];
        daemon.wait_for("both are written, and it is said", SOON, |status| {
            names.iter().zip(expected).all(|(name, metadata)| {
                is_written(status, name)
                    && group(status, name)["metadata_withheld"] == i64::from(metadata.is_empty())
            })
        });
        let told = read(target, &mm2::checkpoints_topic(&ClusterAlias::new(&seoul)));
        for (name, metadata) in names.iter().zip(expected) {
            let there = oracle::group_commits(&target.bootstrap(), name);
            assert_eq!(
                (there.len(), there[0].metadata.as_str()),
                (1, metadata),
                "{rule} {name}"
            );
            let checkpoint = told
                .iter()
                .filter_map(|it| Checkpoint::decode(it.key.as_deref()?, it.value.as_deref()?))
                .rfind(|it| it.group == **name);
            assert_eq!(
                checkpoint.expect("it is told").metadata,
                metadata,
                "{rule} {name}"
            );
        }
        assert_eq!(daemon.terminate(SOON), 0);
        for name in names {
            oracle::delete_group(&target.bootstrap(), name);
        }
    }
}

#[test]
fn a_group_that_cannot_be_written_and_a_target_that_is_away_hold_up_no_other_group() {
    let source = &pair().source;
    let target = ClusterOptions::new("refuses")
        .property("offset.metadata.max.bytes", "10")
        .start();
    let (name, topic, prefix) = (unique("partly"), unique("partly"), unique("partly"));
    source.create_topic(&topic, PARTITIONS, &[]);
    write(source, &topic, 20);
    let [refused, active, missing] =
        ["refused", "active", "missing"].map(|it| unique(&format!("{prefix}-{it}")));
    let commit = |name: &str, metadata: &str| {
        let commit = GroupCommit {
            topic: topic.clone(),
            partition: 0,
            offset: 10,
            metadata: metadata.to_owned(),
            leader_epoch: None,
        };
        oracle::assign_and_commit(&source.bootstrap(), name, &commit);
    };
    commit(&refused, "longer than ten bytes");
    commit(&missing, "short");
    let flow = of_groups(&name, &topic, &prefix, ", metadata: always");
    let daemon = daemon_between(source, &target, flow);
    wait_for_records(&daemon, source, &topic);
    oracle::join_group(&target.bootstrap(), &active, &topic, "classic");
    oracle::set_group_offset(&source.bootstrap(), &active, &topic, 0, 10);
    let mut placed = place(source, &topic, &prefix, anywhere(source, &topic, 8));
    let others = |daemon: &Daemon, placed: &Placed| {
        daemon.wait_for("each is what it is", SOON, |status| {
            let failed = group(status, &refused);
            failed["state"] == "failed"
                && failed["staleness_seconds"].is_null()
                && failed["reason"].as_str().is_some_and(|it| it.contains(&topic))
                && group(status, &active)["state"] == "active"
                && is_written(status, &missing)
                && placed.keys().all(|name| is_written(status, name))
        });
    };
    others(&daemon, &placed);
    assert_eq!(position(&target, &refused, &topic, 0), None);
    let there = oracle::group_commits(&target.bootstrap(), &missing);
    assert_eq!((there.len(), there[0].metadata.as_str()), (1, "short"));
    assert_exact(
        &target,
        &topic,
        &placed,
        &read(source, &topic),
        &read(&target, &topic),
    );

    let own = position(&target, &active, &topic, 0);
    oracle::leave_group(&target.bootstrap(), &active);
    target.kill9();
    daemon.wait_for("it is said", SOON, |status| {
        let errors = status["flows"][0]["groups"]["errors"].as_array();
        errors.is_some_and(|it| !it.is_empty())
    });
    placed.extend(place(source, &topic, &prefix, anywhere(source, &topic, 8)));
    // A reset that cannot be written at first is not forgotten.
    let (reset, place) = placed.iter_mut().max_by_key(|(_, place)| place.1).expect("some");
    place.1 = 5;
    oracle::set_group_offset(&source.bootstrap(), reset, &topic, place.0, 5);
    target.restart();
    daemon.wait_for("all but two are written", SOON, |status| {
        group(status, &active)["state"] == "moved" && placed.keys().all(|name| is_written(status, name))
    });
    assert_eq!(position(&target, &active, &topic, 0), own);
    assert_exact(
        &target,
        &topic,
        &placed,
        &read(source, &topic),
        &read(&target, &topic),
    );
}
