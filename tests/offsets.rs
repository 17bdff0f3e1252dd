//! `causeway offsets` against what the Java client reads on both sides.

use std::fs;

use serde_json::Value;

use crate::harness::commands::{Files, Ran, shared_clusters};
use crate::harness::flow::{SOON, daemon, topology, wait_until_copied};
use crate::harness::oracle::{self, GroupOffset, Isolation, NewRecord, OracleRecord, Step};
use crate::harness::process::Scratch;
use crate::harness::{Cluster, Pair, pair, unique, wait_until};

/// The first committed record of a partition at or behind an offset.
fn next_record(records: &[OracleRecord], partition: i32, offset: i64) -> Option<&OracleRecord> {
    records
        .iter()
        .find(|it| it.partition == partition && offset <= it.offset)
}

#[test]
fn a_group_continues_on_the_target_with_the_very_record_it_would_read_next_on_the_source() {
    let Pair { source, target } = pair();
    let (topic, other, groups) = (
        unique("a-topic-with-holes"),
        unique("elsewhere"),
        unique("reader"),
    );
    source.create_topic(&topic, 2, &[]);
    source.create_topic(&other, 1, &[]);
    let send = |partition: i32, key: &str| Step::Send(NewRecord::new(&topic, partition, key, "value"));
    let transactional = |end: Step, keys: &[&str]| -> Vec<Step> {
        let records = keys.iter().map(|key| send(0, key));
        std::iter::once(Step::Begin).chain(records).chain([end]).collect()
    };
    let steps: Vec<Step> = [
        transactional(Step::Abort, &["gone-1", "gone-2"]),
        transactional(Step::Commit, &["a", "b", "c"]),
        transactional(Step::Abort, &["gone-3"]),
        transactional(Step::Commit, &["d", "e"]),
    ]
    .concat();
    oracle::transaction(&source.bootstrap(), &unique("writer"), &steps);
    let plain = [
        NewRecord::new(&topic, 1, "f", "v"),
        NewRecord::new(&topic, 1, "g", "v"),
    ];
    oracle::produce(&source.bootstrap(), &plain, "none");

    let selected = format!("  groups: {{ include: [\"{groups}.*\"] }}\n");
    let flow = topology(&groups, &[&topic], &selected).replace("policy: identity", "policy: default");
    let files = Files::new(&shared_clusters(), &[&flow]);
    let remote = format!("seoul.{topic}");
    let daemon = daemon(flow);
    wait_until_copied(&daemon, source, &topic, SOON);

    // A group for every position of partition 0, the end and one behind it included.
    let end = oracle::end_offsets(&source.bootstrap(), &topic, Isolation::ReadCommitted)[0];
    let group = |offset: i64| format!("{groups}-{offset}");
    for offset in 0..=end + 1 {
        oracle::set_group_offset(&source.bootstrap(), &group(offset), &topic, 0, offset);
    }
    oracle::set_group_offset(&source.bootstrap(), &group(3), &topic, 1, 1);
    oracle::set_group_offset(&source.bootstrap(), &group(3), &other, 0, 0);
    oracle::set_group_offset(&target.bootstrap(), &group(3), &remote, 1, 2);

    let list = files.run(&["offsets", "list", "--output", "json"]);
    assert_eq!(list.code, 0, "{}", list.all());
    let list = list.json();
    let row = |group: &str, topic: &str, partition: i32| -> Value {
        let mut rows = list.as_array().expect("a list").iter();
        let row =
            rows.find(|it| it["group"] == group && it["topic"] == topic && it["partition"] == partition);
        row.unwrap_or_else(|| panic!("{group} in {topic}-{partition}: {list:#}"))
            .clone()
    };
    let from = oracle::dump(&source.bootstrap(), &topic, Isolation::ReadCommitted);
    let to = oracle::dump(&target.bootstrap(), &remote, Isolation::ReadCommitted);
    assert_eq!((from.len(), to.len()), (7, 7));
    let last = to.iter().filter(|it| it.partition == 0).map(|it| it.offset).max();
    for offset in 0..=end {
        let row = row(&group(offset), &topic, 0);
        assert_eq!(row["exactness"], "exact", "{row}");
        let there = row["target_offset"].as_i64().expect("a place");
        match next_record(&from, 0, offset) {
            Some(wanted) => {
                let found = next_record(&to, 0, there).expect("a record to read there");
                assert_eq!((found.offset, &found.key), (there, &wanted.key), "{row}");
            }
            None => assert!(last < Some(there), "{row}"),
        }
    }
    let ahead = row(&group(end + 1), &topic, 0);
    assert_eq!(
        (&ahead["exactness"], &ahead["copied_to"]),
        (&"ahead".into(), &end.into())
    );
    assert_eq!(row(&group(3), &topic, 0)["target_group_offset"], Value::Null);
    assert_eq!(row(&group(3), &topic, 1)["target_group_offset"], 2);
    assert_eq!(row(&group(3), &other, 0)["exactness"], "not_copied");

    // The same by offset and by group, with the run.
    let at = ["offsets", "translate", "--output", "json"];
    let one = [&at[..], &["--topic", &topic, "--partition", "0", "--offset", "4"]].concat();
    let one = files.run(&one).json();
    assert_eq!(one["target_offset"], row(&group(4), &topic, 0)["target_offset"]);
    let (run, first) = (&one["run"], next_record(&from, 0, 0).expect("a record"));
    assert_eq!(
        (&run["source"], &run["length"]),
        (&first.offset.into(), &3.into())
    );
    let both = files.run(&[&at[..], &["--group", &group(3)]].concat()).json();
    assert!(
        both.as_array()
            .expect("a list")
            .contains(&row(&group(3), &topic, 1)),
        "{both:#}"
    );
    let text = files.run(&["offsets", "translate", "--group", &group(3)]);
    assert!(text.stdout.contains(", 3 records"), "{}", text.all());

    // What has no place is left out and said.
    let export = files.run(&["offsets", "export", "--group", &group(3)]);
    assert_eq!(export.code, 0, "{}", export.all());
    let line = |partition: i32| {
        let there = &row(&group(3), &topic, partition)["target_offset"];
        format!("\"{remote}\",{partition},{there}\n")
    };
    assert!(24 < remote.len(), "{remote}");
    assert_eq!(export.stdout, line(0) + &line(1));
    assert!(
        export.stderr.contains(&format!("left out: {other}-0 at 0")),
        "{}",
        export.stderr
    );

    let nobody = files.run(&["offsets", "export", "--group", &unique("nobody")]);
    assert_eq!((nobody.code, nobody.stdout.as_str()), (1, ""), "{}", nobody.all());
    let elsewhere = files.run(&["offsets", "list", "--flow", "busan->seoul"]);
    assert_eq!(elsewhere.code, 2, "{}", elsewhere.all());
    assert!(elsewhere.stderr.contains("seoul->busan"), "{}", elsewhere.all());
}

/// What a reader of a partition gets from an offset on.
fn rest(cluster: &Cluster, topic: &str, partition: i32, from: i64) -> Vec<Option<Vec<u8>>> {
    let records = oracle::dump(&cluster.bootstrap(), topic, Isolation::ReadCommitted);
    let of = records
        .into_iter()
        .filter(|it| it.partition == partition && from <= it.offset);
    of.map(|it| it.key).collect()
}

/// Lines in any order: Kafka's tool goes through hash maps.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    lines
}

/// Group, source partition and verdict of each comparison.
fn verdicts(diff: &Ran) -> Vec<(String, i64, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let verdict = |it: &Value| {
        let partition = it["partition"].as_i64().expect("a number");
        (text(&it["group"]), partition, text(&it["verdict"]))
    };
    let compared = diff.json();
    compared.as_array().expect("a list").iter().map(verdict).collect()
}

#[test]
fn kafkas_own_tool_writes_what_is_exported_and_the_groups_go_on_with_the_same_records() {
    let Pair { source, target } = pair();
    let (topic, prefix) = (unique("exported"), unique("export"));
    source.create_topic(&topic, 2, &[]);
    oracle::transactional_load(&source.bootstrap(), &topic, 2, 40, 3, 4, 20);
    let settings =
        format!("  groups: {{ include: [\"{prefix}.*\"] }}\n  offset_sync: {{ write_groups: false }}\n");
    let flow = topology(&prefix, &[&topic], &settings).replace("policy: identity", "policy: default");
    let files = Files::new(&shared_clusters(), &[&flow]);
    let remote = format!("seoul.{topic}");
    let daemon = daemon(flow);
    wait_until_copied(&daemon, source, &topic, SOON);

    let plain = format!("{prefix}-a");
    let quoted = format!("{prefix}-\"b\", 한글");
    let long = format!("{prefix}-c-which-is-longer-than-24");
    let ends = oracle::end_offsets(&source.bootstrap(), &topic, Isolation::ReadCommitted);
    let stand = |group: &str, partition: i32, offset: i64| {
        oracle::set_group_offset(&source.bootstrap(), group, &topic, partition, offset);
    };
    for (group, first, second) in [
        (&plain, 7, 2),
        (&quoted, 0, ends[1]),
        (&long, ends[0] / 2, ends[1] / 2),
    ] {
        stand(group, 0, first);
        stand(group, 1, second);
    }
    let all = [&plain, &quoted, &long];
    let there = |group: &str| oracle::group_offsets(&target.bootstrap(), group);
    let nothing_is_there = || all.iter().for_each(|group| assert_eq!(there(group), []));
    let diff = |groups: &[&str]| {
        let mut arguments = vec!["offsets", "diff", "--output", "json"];
        for group in groups {
            arguments.extend(["--group", group]);
        }
        files.run(&arguments)
    };
    let said = |group: &str, first: &str, second: &str| {
        let row = |partition, verdict: &str| (group.to_owned(), partition, verdict.to_owned());
        vec![row(0, first), row(1, second)]
    };

    let one = files.run(&["offsets", "export", "--group", &plain]);
    assert_eq!(one.code, 0, "{}", one.all());
    let several = files.run(&["offsets", "export", "--group", &quoted, "--group", &long]);
    assert_eq!(several.code, 0, "{}", several.all());
    let every = files.run(&["offsets", "export", "--all-groups"]);
    assert_eq!(every.code, 0, "{}", every.all());
    let with_group = one.stdout.lines().map(|line| format!("{plain},{line}"));
    let mut expected: Vec<_> = with_group
        .chain(several.stdout.lines().map(str::to_owned))
        .collect();
    expected.sort();
    assert_eq!(sorted(&every.stdout), expected);
    let before = diff(&[&plain]);
    assert_eq!(before.code, 4, "{}", before.all());
    assert_eq!(verdicts(&before), said(&plain, "missing", "missing"));
    nothing_is_there();

    let scratch = Scratch::new("exported");
    let file = |name: &str, text: &str| {
        let path = scratch.path().join(name);
        fs::write(&path, text).expect("the directory is ours");
        path.to_str().expect("text").to_owned()
    };
    let (one_file, several_file) = (file("one", &one.stdout), file("several", &several.stdout));
    let from_one = ["--reset-offsets", "--from-file", &one_file, "--group", &plain];
    let dry = target.consumer_groups(&[&from_one[..], &["--dry-run"]].concat());
    assert!(dry.contains(&remote), "{dry}");
    nothing_is_there();
    target.consumer_groups(&[&from_one[..], &["--execute"]].concat());
    let both = ["--group", &quoted, "--group", &long];
    let from_several = ["--reset-offsets", "--from-file", &several_file, "--execute"];
    target.consumer_groups(&[&from_several[..], &both].concat());

    let translated = files.run(&["offsets", "list", "--output", "json"]).json();
    for group in all {
        let positions: Vec<GroupOffset> = there(group);
        assert_eq!(positions.len(), 2, "{group}");
        for at in positions {
            assert_eq!(at.topic, remote);
            let mut rows = translated.as_array().expect("a list").iter();
            let row = rows.find(|it| it["group"] == *group && it["partition"] == at.partition);
            let row = row.unwrap_or_else(|| panic!("{group} in {translated:#}"));
            assert_eq!(row["target_offset"], at.offset, "{row}");
            let stood = row["source_offset"].as_i64().expect("a position");
            assert_eq!(
                rest(source, &topic, at.partition, stood),
                rest(target, &remote, at.partition, at.offset),
                "{row}"
            );
        }
    }

    // The other way round: what the tool prints for these positions is what we print.
    let current = ["--reset-offsets", "--to-current", "--all-topics", "--export"];
    let tools = target.consumer_groups(&[&current[..], &["--group", &plain]].concat());
    assert_eq!(sorted(&tools), sorted(&one.stdout));
    let tools = target.consumer_groups(&[&current[..], &both].concat());
    assert_eq!(sorted(&tools), sorted(&several.stdout));

    // Where nobody writes, a position stays as it is and is judged at once.
    let after = diff(&[]);
    assert_eq!(after.code, 0, "{}", after.all());
    let equal = all.iter().flat_map(|group| said(group, "equal", "equal"));
    let mut equal: Vec<_> = equal.collect();
    equal.sort();
    assert_eq!(verdicts(&after), equal);
    stand(&plain, 0, ends[0]);
    stand(&long, 1, 0);
    oracle::set_group_offset(&target.bootstrap(), &format!("{prefix}-local"), &remote, 0, 1);
    stand(&quoted, 1, ends[1] + 100);
    let moved = diff(&[&plain, &long]);
    assert_eq!(moved.code, 4, "{}", moved.all());
    let expected = [said(&plain, "behind", "equal"), said(&long, "equal", "ahead")].concat();
    assert_eq!(verdicts(&moved), expected);
    let text = files.run(&["offsets", "diff"]);
    assert_eq!(text.code, 4, "{}", text.all());
    assert!(
        text.stdout.contains(": 7 positions, 2 differ\n"),
        "{}",
        text.all()
    );
    // Those that are no reason for alarm.
    let local = format!("{prefix}-local");
    let fine = diff(&[&quoted, &local]);
    assert_eq!(fine.code, 0, "{}", fine.all());
    let mut expected = said(&quoted, "equal", "held");
    expected.push((local, 0, "only_on_target".to_owned()));
    assert_eq!(verdicts(&fine), expected);
    oracle::join_group(&target.bootstrap(), &long, &remote, "classic");
    let active = diff(&[&long]);
    assert_eq!(active.code, 0, "{}", active.all());
    assert_eq!(verdicts(&active), said(&long, "active", "active"));
    oracle::leave_group(&target.bootstrap(), &long);
    let nobody = diff(&[&format!("{prefix}-nobody")]);
    assert_eq!(
        (nobody.code, nobody.stdout.as_str()),
        (1, "[]\n"),
        "{}",
        nobody.all()
    );
}

#[test]
fn what_cannot_be_asked_is_no_verdict() {
    let group = unique("unasked");
    pair().source.create_topic(&group, 1, &[]);
    oracle::set_group_offset(&pair().source.bootstrap(), &group, &group, 0, 0);
    let selected = format!("  groups: {{ include: [{group}] }}\n");
    let never_run = topology(&group, &[&group], &selected);
    let diff = Files::new(&shared_clusters(), &[&never_run]).run(&["offsets", "diff"]);
    assert_eq!((diff.code, diff.stdout.as_str()), (1, ""), "{}", diff.all());
    assert!(diff.stderr.contains("offset-map.internal"), "{}", diff.all());
    assert!(diff.stderr.contains("hint: "), "{}", diff.all());
}

#[test]
fn a_position_that_the_daemon_has_not_written_yet_has_time_to_arrive() {
    let Pair { source, target } = pair();
    let (topic, group) = (unique("late"), unique("late"));
    // The second partition stays empty; consumers commit its beginning all the same.
    source.create_topic(&topic, 2, &[]);
    oracle::transactional_load(&source.bootstrap(), &topic, 1, 40, 3, 0, 20);
    let settings = format!("  groups: {{ include: [{group}] }}\n  offset_sync: {{ interval: 2s }}\n");
    let flow = topology(&group, &[&topic], &settings);
    let files = Files::new(&shared_clusters(), &[&flow]);
    let daemon = daemon(flow);
    wait_until_copied(&daemon, source, &topic, SOON);
    let there = || oracle::group_offsets(&target.bootstrap(), &group);
    oracle::set_group_offset(&source.bootstrap(), &group, &topic, 0, 5);
    oracle::set_group_offset(&source.bootstrap(), &group, &topic, 1, 0);
    wait_until("both positions are written", SOON, || there().len() == 2);
    // A pass has just ended.
    oracle::set_group_offset(&source.bootstrap(), &group, &topic, 0, 50);
    let diff = ["offsets", "diff", "--output", "json"];
    let arrived = files.run(&diff);
    assert_eq!(arrived.code, 0, "{}", arrived.all());
    let row = &arrived.json()[0];
    assert_eq!(row["target_group_offset"], there()[0].offset, "{row}");
    assert_eq!(row["source_offset"], 50, "{row}");
    assert_eq!(verdicts(&arrived)[1].2, "equal", "{}", arrived.all());
    // Nobody writes any more.
    assert_eq!(daemon.terminate(SOON), 0);
    oracle::set_group_offset(&source.bootstrap(), &group, &topic, 0, 70);
    let late = files.run(&diff);
    assert_eq!(late.code, 4, "{}", late.all());
    assert_eq!(verdicts(&late)[0].2, "behind");
}
