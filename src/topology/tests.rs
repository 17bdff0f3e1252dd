use std::path::{Path, PathBuf};

use super::*;
use crate::config::{Config, Problem};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn example(config: &str, topology: &str) -> Result<(Config, Vec<Topology>), Vec<Problem>> {
    load(&repository(config), &[repository(topology)], &|_| None)
}

#[test]
fn every_example_loads() {
    for (config, topology, expected) in [
        (
            "config/local.yaml",
            "topologies/active-standby.yaml",
            &["korea-dr seoul->busan: identity names, exactly_once, 4 tasks, topics orders.*, payments"][..],
        ),
        (
            "config/local.yaml",
            "topologies/active-active.yaml",
            &[
                "korea-active busan->seoul: default names, exactly_once, 4 tasks, topics orders.*, payments",
                "korea-active seoul->busan: default names, exactly_once, 4 tasks, topics orders.*, payments",
            ],
        ),
        (
            "config/local.yaml",
            "topologies/active-active-same-names.yaml",
            &[
                "korea-same-names busan->seoul: identity names, exactly_once, 4 tasks, topics orders.*, payments",
                "korea-same-names seoul->busan: identity names, exactly_once, 4 tasks, topics orders.*, payments",
            ],
        ),
        (
            "config/hub.yaml",
            "topologies/hub-and-spoke-in.yaml",
            &[
                "collect busan->central: default names, exactly_once, 4 tasks, topics orders.*",
                "collect daegu->central: default names, exactly_once, 4 tasks, topics orders.*",
                "collect seoul->central: default names, exactly_once, 4 tasks, topics orders.*",
            ],
        ),
        (
            "config/hub.yaml",
            "topologies/hub-and-spoke-out.yaml",
            &[
                "distribute central->busan: identity names, exactly_once, 4 tasks, topics prices, catalogue.*",
                "distribute central->daegu: identity names, exactly_once, 4 tasks, topics prices, catalogue.*",
                "distribute central->seoul: identity names, exactly_once, 4 tasks, topics prices, catalogue.*",
            ],
        ),
        (
            "config/local.yaml",
            "topologies/custom.yaml",
            &[
                "exchange busan->seoul: identity names, at_least_once, 4 tasks, topics refunds.* except .*-test",
                "exchange seoul->busan: identity names, exactly_once, 4 tasks, topics orders.*",
            ],
        ),
    ] {
        match example(config, topology) {
            Ok((_, topologies)) => assert_eq!(topologies[0].announcement(), expected, "{topology}"),
            Err(problems) => panic!(
                "{}",
                problems.iter().map(|p| format!("{p}\n")).collect::<String>()
            ),
        }
    }
}

#[test]
fn a_flow_overrides_key_by_key_and_keeps_the_rest() {
    let (_, topologies) = example("config/local.yaml", "topologies/active-standby.yaml").unwrap();
    let flow = &topologies[0].flows[0];
    assert_eq!(
        flow.throttle,
        Throttle {
            bytes_per_second: Some(20 << 20),
            records_per_second: None
        }
    );
    assert_eq!(flow.config_sync.interval, Duration::from_secs(5));
    assert_eq!(flow.commit_interval, Duration::from_millis(500));
    assert_eq!(
        (flow.compression, flow.start_from),
        (Compression::Lz4, StartFrom::Earliest)
    );
}

const CLUSTERS: &str = "clusters: { seoul: { bootstrap_servers: 'a:1' }, busan: { bootstrap_servers: 'b:1' }, \
                        daegu: { bootstrap_servers: 'c:1' } }";

/// Loads topologies from texts, named `1.yaml`, `2.yaml`, … in what is shown.
fn topologies(config: &str, texts: &[&str]) -> Result<Vec<Topology>, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let config = file("config.yaml", config);
    let paths: Vec<PathBuf> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| file(&format!("{}.yaml", i + 1), text))
        .collect();
    load(&config, &paths, &|_| None)
        .map(|(_, topologies)| topologies)
        .map_err(|problems| {
            let shown: String = problems.iter().map(|p| format!("{p}\n")).collect();
            shown.replace(&format!("{}/", directory.path().display()), "")
        })
}

#[test]
fn every_mistake_in_a_topology_has_its_place_and_a_way_out() {
    let shown = crate::config::mistakes(include_str!("mistakes.txt"), |text, _| {
        let files: Vec<&str> = text.split("-----\n").collect();
        topologies(CLUSTERS, &files).expect_err(text)
    });
    expect_test::expect_file!["mistakes.txt"].assert_eq(&shown);
}

#[test]
fn what_does_nothing_is_said_and_stops_nothing() {
    let text = r#"
name: n
pattern: hub-and-spoke
hub: seoul
spokes: [busan, daegu]
replication:
  topics: { include: ["__connect", "__heartbeat[.]shop", "billing[.]internal", orders, payments], exclude: ["pay.*"] }
  groups: { include: [connect-billing] }
"#;
    let loaded = topologies(CLUSTERS, &[text]).unwrap();
    let notes = loaded[0].notes.iter().map(ToString::to_string);
    let notes: Vec<String> = notes
        .map(|note| note[note.find("1.yaml").unwrap()..].to_owned())
        .collect();
    assert_eq!(
        notes,
        [
            "1.yaml:7:23: `__connect` selects nothing: only internal topics match, which are never copied",
            "1.yaml:7:36: `__heartbeat[.]shop` selects nothing: only internal topics match, which are never copied",
            "1.yaml:7:58: `billing[.]internal` selects nothing: only internal topics match, which are never copied",
            "1.yaml:7:88: `payments` selects nothing: `exclude` keeps out all that matches",
            "1.yaml:8:13: `groups` selects nothing, so no positions are translated: `exclude` keeps out all that matches\n  hint: unless it is written, exclude is console-consumer-.*, connect-.*, __.*",
        ]
    );
    // Topics that end in heartbeats are topics.
    let text = "
name: n
pattern: active-standby
active: seoul
standby: busan
replication: { topics: { include: [device-heartbeats, 'iot[.]heartbeats'] }, replication_policy: identity }
";
    let loaded = topologies(CLUSTERS, &[text]).unwrap();
    assert_eq!(loaded[0].notes, []);
    let flow = &loaded[0].flows[0];
    assert_eq!(
        flow.naming().format_remote_topic("iot.heartbeats"),
        "iot.heartbeats"
    );
    // Groups may be called what topics may not.
    let text = text.replace(
        "replication_policy",
        "groups: { include: ['my app/1', 'é+'] }, replication_policy",
    );
    assert_eq!(topologies(CLUSTERS, &[&text]).unwrap()[0].notes, []);
}

#[test]
fn problems_of_all_files_are_shown_together_and_sorted() {
    let found = topologies(
        "clusters: { seoul: {} }",
        &["name: X\n", "pattern: ring\nnmae: x\n"],
    )
    .unwrap_err();
    assert_eq!(
        found,
        "\
1.yaml:1:1: `pattern` is missing
  hint: The shape that expands to flows. active-standby: one flow. active-active: every cluster to every other. \
hub-and-spoke: spokes to the hub, the hub to spokes, or both. custom: the flows listed under flows.
1.yaml:1:7: `name` must be made of lower-case letters, digits and `-`; it becomes part of topic names, not `X`
2.yaml:1:1: `name` is missing
  hint: Name of the topology, unique among all files. It is part of the names of causeway's own topics: a new name is a new start.
2.yaml:1:10: `pattern` must be one of active-standby, active-active, hub-and-spoke, custom, not `ring`
2.yaml:2:1: unknown key `nmae`
  hint: did you mean `name`?
config.yaml:1:13: `bootstrap_servers` is missing
  hint: host:port of some brokers, separated by commas.
"
    );
}

#[test]
fn files_that_cannot_be_read_are_problems_too() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let topologies = [
        directory.path().join("1-missing"),
        file("2-latin", b"name: \xe9"),
        file("3-large", &vec![b'#'; (4 << 20) + 1]),
        directory.path().to_owned(),
    ];
    let problems = load(&repository("config/local.yaml"), &topologies, &|_| None).unwrap_err();
    let messages: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "cannot read the file: Is a directory (os error 21)",
            "cannot read the file: No such file or directory (os error 2)",
            "the file is not UTF-8",
            "the file is larger than 4MiB",
        ]
    );
}

#[test]
fn what_is_written_reaches_the_flow() {
    let text = "
name: n
pattern: custom
flows:
  seoul->busan:
    topics: { include: ['a|b'], exclude: [b] }
    replication_policy: identity
    provenance: header
    delivery: at_least_once
    start_from: 1970-01-01T00:00:01.5Z
    on_gap: continue
    tasks: 7
    compression: none
    commit_interval: 1m
    throttle: { bytes_per_second: 1KiB, records_per_second: 9 }
    config_sync: { interval: 1h, mode: report, exclude: ['retention[.].*'], replication_factor: 2 }
";
    assert!(
        topologies(CLUSTERS, &[text])
            .unwrap_err()
            .contains("`commit_interval` must be a duration from 50ms to 30s")
    );
    let loaded = topologies(CLUSTERS, &[&text.replace("1m", "30s")]).unwrap();
    let flow = &loaded[0].flows[0];
    assert!(flow.topics.matches("a") && !flow.topics.matches("b") && !flow.topics.matches("ab"));
    assert_eq!(flow.replication_policy, ReplicationPolicy::Identity);
    assert_eq!(
        (flow.provenance, flow.delivery),
        (Provenance::Header, Delivery::AtLeastOnce)
    );
    assert_eq!(
        (flow.start_from, flow.on_gap.of("any")),
        (StartFrom::Timestamp(1500), OnGap::Continue)
    );
    assert_eq!((flow.tasks, flow.compression), (7, Compression::None));
    assert_eq!(flow.commit_interval, Duration::from_secs(30));
    assert_eq!(
        flow.throttle,
        Throttle {
            bytes_per_second: Some(1024),
            records_per_second: Some(9)
        }
    );
    assert_eq!(
        flow.config_sync,
        ConfigSyncSpec {
            interval: Duration::from_secs(3600),
            mode: SyncMode::Report,
            exclude: vec!["retention[.].*".into()],
            replication_factor: Some(2),
        }
    );
}

#[test]
fn one_flow_between_two_clusters_carries_the_heartbeats() {
    use HeartbeatTopics::{Always, ByFilter, Elsewhere};
    let file = |name: &str, heartbeats: &str| {
        format!(
            "name: {name}\npattern: active-active\nclusters: [seoul, busan]\nreplication:\n  topics: {{ include: [{name}] }}\n{heartbeats}"
        )
    };
    let carriers = |files: &[&str]| -> Vec<_> {
        let files: Vec<String> = files
            .iter()
            .zip(["a", "b", "c"])
            .map(|(heartbeats, name)| file(name, heartbeats))
            .collect();
        let texts: Vec<&str> = files.iter().map(String::as_str).collect();
        let loaded = topologies(CLUSTERS, &texts).unwrap();
        let flows = loaded.iter().flat_map(|it| &it.flows);
        flows
            .filter(|it| it.id.source.as_str() == "seoul")
            .map(|it| (it.heartbeats.enabled, it.heartbeat_topics))
            .collect()
    };
    let off = "  heartbeats: { enabled: false }";
    let on_source = "  heartbeats: { on_source: true }";
    assert_eq!(carriers(&[""]), [(true, Always)]);
    assert_eq!(carriers(&[off, off]), [(false, ByFilter); 2]);
    assert_eq!(carriers(&["", ""]), [(true, Always), (false, Elsewhere)]);
    assert_eq!(
        carriers(&[off, "", on_source]),
        [(false, Elsewhere), (false, Elsewhere), (true, Always)]
    );
}

fn on_gap(written: &str) -> std::result::Result<GapPolicy, String> {
    let text = format!(
        "name: n\npattern: active-standby\nactive: seoul\nstandby: busan\nreplication:\n  topics: {{ include: ['.*'] }}\n  on_gap: {written}\n"
    );
    topologies(CLUSTERS, &[&text]).map(|loaded| loaded[0].flows[0].on_gap.clone())
}

#[test]
fn what_a_gap_does_may_differ_by_topic() {
    let does = |written, topic| on_gap(written).unwrap().of(topic);
    for (written, orders, clicks) in [
        ("continue", OnGap::Continue, OnGap::Continue),
        ("{}", OnGap::Halt, OnGap::Halt),
        ("{ continue: ['clicks-.*'] }", OnGap::Halt, OnGap::Continue),
        (
            "{ default: halt, continue: ['clicks-.*'] }",
            OnGap::Halt,
            OnGap::Continue,
        ),
        (
            "{ default: continue, halt: [orders] }",
            OnGap::Halt,
            OnGap::Continue,
        ),
    ] {
        assert_eq!(
            (does(written, "orders"), does(written, "clicks-eu")),
            (orders, clicks),
            "{written}"
        );
    }
    // Whole names, as everywhere.
    assert_eq!(does("{ continue: ['clicks-.*'] }", "my-clicks-eu"), OnGap::Halt);
}

#[test]
fn every_mistake_in_on_gap_is_told_where_it_stands() {
    for (written, at, what) in [
        (
            "ignore",
            ":7:11",
            "`on_gap` must be one of halt, continue, or keys and values, not `ignore`",
        ),
        (
            "[halt]",
            ":7:11",
            "`on_gap` must be one of halt, continue, or keys and values, not a list",
        ),
        (
            "{ default: ignore }",
            ":7:22",
            "`default` must be one of halt, continue",
        ),
        ("{ contine: [a] }", ":7:13", "unknown key `contine`"),
        ("{ continue: a }", ":7:23", "`continue` must be a list"),
        ("{ continue: ['('] }", ":7:24", "an item of `continue`"),
        (
            "{ default: continue, continue: [a] }",
            ":7:32",
            "`continue` lists exceptions from `default: continue`",
        ),
        (
            "{ halt: [a] }",
            ":7:13",
            "`halt` lists exceptions from `default: halt`",
        ),
    ] {
        let told = on_gap(written).unwrap_err();
        assert!(told.contains(at) && told.contains(what), "{written}: {told}");
    }
}
