//! `causeway offsets` against what the Java client reads on both sides.

use serde_json::Value;

use crate::commands::{Files, shared_clusters};
use crate::harness::oracle::{self, Isolation, NewRecord, OracleRecord, Step};
use crate::harness::{Pair, pair, unique};
use crate::replication::{SOON, daemon, topology, wait_until_copied};

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
