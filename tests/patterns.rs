//! Every pattern end to end, with the topologies of the repository: what each cluster holds in the end, and
//! that nothing goes round in circles.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::harness::commands::Files;
use crate::harness::daemon::{Daemon, DaemonOptions, clusters_yaml};
use crate::harness::flow::partitions;
use crate::harness::kafka::repository;
use crate::harness::oracle::{self, Isolation, NewRecord, OracleRecord};
use crate::harness::{Cluster, Pair, pair, unique, wait_until};

const LONG: Duration = Duration::from_secs(60);
/// Partitions of every topic here.
const PARTITIONS: i32 = 2;
/// Records of one round.
const ROUND: usize = 40;

/// The third cluster, beside the shared pair.
fn hub() -> &'static Cluster {
    static HUB: OnceLock<Cluster> = OnceLock::new();
    HUB.get_or_init(|| Cluster::start("hub"))
}

/// A topology of the repository under a name of its own, with other words in it where the clusters are shared.
fn example(file: &str, name: &str, changes: &[(&str, &str)]) -> String {
    let path = repository().join("topologies").join(file);
    let text = fs::read_to_string(&path).expect("the topology is in the repository");
    let old = text
        .lines()
        .find(|line| line.starts_with("name: "))
        .expect("a topology has a name");
    let mut text = text.replace(old, &format!("name: {name}"));
    for (from, to) in changes {
        assert!(text.contains(from), "{file} does not contain {from}");
        text = text.replace(from, to);
    }
    text
}

fn daemon(clusters: &[(&str, &Cluster)], topology: String) -> Daemon {
    let addresses: Vec<(&str, String)> = clusters.iter().map(|(a, c)| (*a, c.bootstrap())).collect();
    let addresses: Vec<(&str, &str)> = addresses.iter().map(|(a, b)| (*a, b.as_str())).collect();
    Daemon::start(DaemonOptions::new(clusters_yaml(&addresses), topology))
}

/// The keys of a round: who wrote it, which round, which record.
fn round(from: &str, round: usize) -> Vec<String> {
    (0..ROUND).map(|n| format!("{from} {round} {n:02}")).collect()
}

fn rounds(from: &str, count: usize) -> Vec<String> {
    (0..count).flat_map(|number| round(from, number)).collect()
}

fn produce(cluster: &Cluster, topic: &str, keys: &[String]) {
    let records: Vec<_> = keys
        .iter()
        .zip((0..PARTITIONS).cycle())
        .map(|(key, partition)| NewRecord::new(topic, partition, key, "value"))
        .collect();
    oracle::produce(&cluster.bootstrap(), &records, "none");
}

fn key(record: &OracleRecord) -> String {
    String::from_utf8(record.key.clone().expect("every record here has a key")).expect("and it is text")
}

/// Waits until a topic holds as many records as `keys`; then they must be those, each once.
fn assert_holds(cluster: &Cluster, topic: &str, mut keys: Vec<String>) {
    let dump = || oracle::dump(&cluster.bootstrap(), topic, Isolation::ReadCommitted);
    wait_until(&format!("{} records in {topic}", keys.len()), LONG, || {
        oracle::try_describe_topic(&cluster.bootstrap(), topic).is_ok() && keys.len() <= dump().len()
    });
    let mut held: Vec<String> = dump().iter().map(key).collect();
    held.sort();
    keys.sort();
    assert_eq!(held, keys, "records of {topic}");
}

/// One flow and a topic it reads.
struct Reads<'a> {
    flow: &'static str,
    source: &'a Cluster,
    topic: &'a str,
}

/// Waits until every flow has read all there is, on all clusters at once. What a flow could still write would
/// have to be read first, so nothing moves any more.
fn wait_until_settled(daemon: &Daemon, reads: &[Reads<'_>]) {
    let ends = || -> Vec<Vec<i64>> {
        let isolation = Isolation::ReadUncommitted;
        reads
            .iter()
            .map(|it| oracle::end_offsets(&it.source.bootstrap(), it.topic, isolation))
            .collect()
    };
    let deadline = Instant::now() + LONG;
    loop {
        let seen = ends();
        daemon.wait_for(&format!("all is read up to {seen:?}"), LONG, |status| {
            reads.iter().zip(&seen).all(|(it, ends)| {
                let flows = status["flows"].as_array().expect("a list of flows");
                let flow = flows
                    .iter()
                    .find(|flow| flow["flow"] == it.flow)
                    .unwrap_or_else(|| panic!("no flow {} in {status}", it.flow));
                let status = serde_json::json!({ "flows": [flow] });
                ends.iter().enumerate().all(|(partition, end)| {
                    partitions(&status).any(|at| {
                        at["topic"] == it.topic
                            && at["partition"] == partition
                            && at["next_source_offset"].as_i64().is_some_and(|next| *end <= next)
                    })
                })
            })
        });
        if ends() == seen {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "the flows keep writing: a loop, from {seen:?} to {:?}",
            ends()
        );
    }
}

/// The topics of a cluster whose names contain `part`.
fn topics_with(cluster: &Cluster, part: &str) -> Vec<String> {
    oracle::topics(&cluster.bootstrap())
        .into_iter()
        .filter(|topic| topic.ends_with(part))
        .collect()
}

fn sorted(topics: &[String]) -> Vec<String> {
    let mut topics = topics.to_vec();
    topics.sort();
    topics
}

#[test]
fn active_standby_keeps_names_and_brings_every_round_across() {
    let Pair { source, target } = pair();
    let topic = unique("standby-orders");
    source.create_topic(&topic, PARTITIONS, &[]);
    let topology = example(
        "active-standby.yaml",
        &unique("pattern"),
        &[(r#"["orders.*", payments]"#, &format!("[{topic}]"))],
    );
    let _daemon = daemon(&[("seoul", source), ("busan", target)], topology);
    for number in 0..2 {
        produce(source, &topic, &round("seoul", number));
        assert_holds(target, &topic, rounds("seoul", number + 1));
    }
    assert_eq!(topics_with(target, &topic), [topic.as_str()]);
    assert_holds(source, &topic, rounds("seoul", 2));
}

#[test]
fn topics_of_users_that_end_in_heartbeats_are_copied_when_selected_and_under_their_own_names() {
    let Pair { source, target } = pair();
    let app = unique("app");
    let [selected, dotted, unselected] =
        ["-heartbeats", ".selected.heartbeats", ".heartbeats"].map(|end| format!("{app}{end}"));
    for topic in [&selected, &dotted, &unselected] {
        source.create_topic(topic, PARTITIONS, &[]);
        produce(source, topic, &round("seoul", 0));
    }
    let topology = example(
        "active-standby.yaml",
        &unique("pattern"),
        &[(
            r#"["orders.*", payments]"#,
            &format!("['{app}-heartbeats', '{app}\\.selected\\.heartbeats']"),
        )],
    );
    let _daemon = daemon(&[("seoul", source), ("busan", target)], topology);
    for topic in [&selected, &dotted] {
        assert_holds(target, topic, rounds("seoul", 1));
    }
    // One pass creates all that is missing.
    let there = oracle::topics(&target.bootstrap());
    let there: Vec<_> = there.iter().filter(|topic| topic.contains(&app)).collect();
    assert_eq!(there, [&selected, &dotted]);
}

#[test]
fn active_active_with_prefixes_copies_both_ways_and_never_back() {
    let Pair { source, target } = pair();
    let topic = unique("both-ways");
    for cluster in [source, target] {
        cluster.create_topic(&topic, PARTITIONS, &[]);
    }
    // The filter names the remote topics as well: only their names keep them from coming back.
    let topology = example(
        "active-active.yaml",
        &unique("pattern"),
        &[
            (r#"["orders.*", payments]"#, &format!(r#"[".*{topic}"]"#)),
            (
                "replication:\n",
                "replication:\n  config_sync: { interval: 1s }\n",
            ),
        ],
    );
    let daemon = daemon(&[("seoul", source), ("busan", target)], topology);
    let (from_seoul, from_busan) = (format!("seoul.{topic}"), format!("busan.{topic}"));
    for number in 0..3 {
        produce(source, &topic, &round("seoul", number));
        produce(target, &topic, &round("busan", number));
        assert_holds(target, &from_seoul, rounds("seoul", number + 1));
        assert_holds(source, &from_busan, rounds("busan", number + 1));
    }
    // Every flow has looked at both sides again since the remote topics were made.
    let passes = |status: &serde_json::Value| {
        let flows = status["flows"].as_array().expect("a list of flows");
        flows.iter().all(|flow| {
            let excluded = flow["config_sync"]["excluded"].as_object();
            excluded.is_some_and(|it| it.contains_key(&from_seoul) || it.contains_key(&from_busan))
        })
    };
    daemon.wait_for(
        "both flows have seen and left out the remote topics",
        LONG,
        passes,
    );
    assert_eq!(
        topics_with(source, &topic),
        sorted(&[topic.clone(), from_busan.clone()])
    );
    assert_eq!(
        topics_with(target, &topic),
        sorted(&[topic.clone(), from_seoul.clone()])
    );
    assert_holds(source, &topic, rounds("seoul", 3));
    assert_holds(target, &topic, rounds("busan", 3));
    assert_holds(target, &from_seoul, rounds("seoul", 3));
    assert_holds(source, &from_busan, rounds("busan", 3));
}

#[test]
fn active_active_under_the_same_names_has_every_record_once_on_each_side() {
    let Pair { source, target } = pair();
    let topic = unique("same-names");
    for cluster in [source, target] {
        cluster.create_topic(&topic, PARTITIONS, &[]);
    }
    let topology = example(
        "active-active-same-names.yaml",
        &unique("pattern"),
        &[(r#"["orders.*", payments]"#, &format!("[{topic}]"))],
    );
    let daemon = daemon(&[("seoul", source), ("busan", target)], topology);
    let reads = [
        Reads {
            flow: "seoul->busan",
            source,
            topic: &topic,
        },
        Reads {
            flow: "busan->seoul",
            source: target,
            topic: &topic,
        },
    ];
    for number in 0..3 {
        produce(source, &topic, &round("seoul", number));
        produce(target, &topic, &round("busan", number));
        for cluster in [source, target] {
            let all = [rounds("seoul", number + 1), rounds("busan", number + 1)];
            assert_holds(cluster, &topic, all.concat());
        }
    }
    wait_until_settled(&daemon, &reads);
    for (cluster, here) in [(source, "seoul"), (target, "busan")] {
        assert_holds(cluster, &topic, [rounds("seoul", 3), rounds("busan", 3)].concat());
        for record in oracle::dump(&cluster.bootstrap(), &topic, Isolation::ReadCommitted) {
            let from = key(&record);
            let origins: Vec<_> = record
                .headers
                .iter()
                .filter(|(name, _)| name == b"causeway.origin")
                .map(|(_, value)| value.as_deref().map(String::from_utf8_lossy))
                .collect();
            if from.starts_with(here) {
                assert!(record.headers.is_empty(), "{from} was made here: {record:?}");
            } else {
                let other = if here == "seoul" { target } else { source };
                assert_eq!(origins, [Some(other.cluster_id().into())], "{from} on {here}");
            }
        }
    }
}

#[test]
fn a_hub_collects_what_its_spokes_produce() {
    let Pair { source, target } = pair();
    let topic = unique("collected");
    for cluster in [source, target] {
        cluster.create_topic(&topic, PARTITIONS, &[]);
    }
    let topology = example(
        "hub-and-spoke-in.yaml",
        &unique("pattern"),
        &[
            (r#"["orders.*"]"#, &format!(r#"[".*{topic}"]"#)),
            ("[seoul, busan, daegu]", "[seoul, busan]"),
        ],
    );
    let _daemon = daemon(
        &[("central", hub()), ("seoul", source), ("busan", target)],
        topology,
    );
    for number in 0..2 {
        produce(source, &topic, &round("seoul", number));
        produce(target, &topic, &round("busan", number));
        for spoke in ["seoul", "busan"] {
            assert_holds(hub(), &format!("{spoke}.{topic}"), rounds(spoke, number + 1));
        }
    }
    assert_eq!(
        topics_with(hub(), &topic),
        sorted(&[format!("busan.{topic}"), format!("seoul.{topic}")])
    );
    for (spoke, cluster) in [("seoul", source), ("busan", target)] {
        assert_eq!(topics_with(cluster, &topic), [topic.as_str()]);
        assert_holds(cluster, &topic, rounds(spoke, 2));
    }
}

#[test]
fn a_hub_hands_its_topics_to_every_spoke_under_the_same_names() {
    let Pair { source, target } = pair();
    let topic = unique("prices");
    hub().create_topic(&topic, PARTITIONS, &[]);
    let topology = example(
        "hub-and-spoke-out.yaml",
        &unique("pattern"),
        &[
            (r#"["prices", "catalogue.*"]"#, &format!("[{topic}]")),
            ("[seoul, busan, daegu]", "[seoul, busan]"),
        ],
    );
    let _daemon = daemon(
        &[("central", hub()), ("seoul", source), ("busan", target)],
        topology,
    );
    for number in 0..2 {
        produce(hub(), &topic, &round("central", number));
        for spoke in [source, target] {
            assert_holds(spoke, &topic, rounds("central", number + 1));
        }
    }
    for cluster in [hub(), source, target] {
        assert_eq!(topics_with(cluster, &topic), [topic.as_str()]);
    }
}

#[test]
fn through_a_hub_both_ways_spokes_see_each_other_and_nobody_sees_its_own_records_again() {
    let Pair { source, target } = pair();
    let topic = unique("exchanged");
    for cluster in [hub(), source, target] {
        cluster.create_topic(&topic, PARTITIONS, &[]);
    }
    let topology = example(
        "hub-and-spoke-in.yaml",
        &unique("pattern"),
        &[
            (r#"["orders.*"]"#, &format!(r#"[".*{topic}"]"#)),
            ("[seoul, busan, daegu]", "[seoul, busan]"),
            ("direction: in", "direction: both"),
            (
                "replication:\n",
                "replication:\n  config_sync: { interval: 1s }\n",
            ),
        ],
    );
    let _daemon = daemon(
        &[("central", hub()), ("seoul", source), ("busan", target)],
        topology,
    );
    for number in 0..2 {
        let sides = [("central", hub()), ("seoul", source), ("busan", target)];
        for (alias, cluster) in sides {
            produce(cluster, &topic, &round(alias, number));
        }
        for (spoke, cluster, other) in [("seoul", source, "busan"), ("busan", target, "seoul")] {
            assert_holds(hub(), &format!("{spoke}.{topic}"), rounds(spoke, number + 1));
            assert_holds(
                cluster,
                &format!("central.{topic}"),
                rounds("central", number + 1),
            );
            let from_other = format!("central.{other}.{topic}");
            assert_holds(cluster, &from_other, rounds(other, number + 1));
        }
    }
    let held = |names: [&str; 3]| sorted(&names.map(|prefix| format!("{prefix}{topic}")));
    assert_eq!(topics_with(hub(), &topic), held(["", "busan.", "seoul."]));
    assert_eq!(
        topics_with(source, &topic),
        held(["", "central.", "central.busan."])
    );
    assert_eq!(
        topics_with(target, &topic),
        held(["", "central.", "central.seoul."])
    );
}

#[test]
fn a_custom_topology_gives_each_flow_its_own_settings() {
    let Pair { source, target } = pair();
    let (orders, refunds) = (unique("custom-orders"), unique("custom-refunds"));
    let test = format!("{refunds}-test");
    source.create_topic(&orders, PARTITIONS, &[]);
    for topic in [&refunds, &test] {
        target.create_topic(topic, PARTITIONS, &[]);
    }
    // The flow back starts in 2026; these were written in 2025 and one second too early.
    let at = |timestamp: i64, key: &str| NewRecord {
        timestamp: Some(timestamp),
        ..NewRecord::new(&refunds, 0, key, "value")
    };
    let start = 1_769_860_800_000;
    let old = [
        at(start - 30_000_000_000, "old"),
        at(start - 1_000, "just too old"),
    ];
    oracle::produce(&target.bootstrap(), &old, "none");
    oracle::produce(&target.bootstrap(), &[at(start, "just in time")], "none");
    produce(target, &refunds, &round("busan", 0));
    produce(target, &test, &round("busan", 0));
    produce(source, &orders, &round("seoul", 0));
    let topology = example(
        "custom.yaml",
        &unique("pattern"),
        &[("orders.*", &orders), ("refunds.*", &format!("{refunds}.*"))],
    );
    let daemon = daemon(&[("seoul", source), ("busan", target)], topology);
    assert_holds(target, &orders, rounds("seoul", 1));
    let wanted = [vec!["just in time".to_owned()], rounds("busan", 1)].concat();
    assert_holds(source, &refunds, wanted);
    daemon.wait_for("the excluded topic is named with its pattern", LONG, |status| {
        status["flows"].as_array().into_iter().flatten().any(|flow| {
            flow["flow"] == "busan->seoul"
                && flow["delivery"] == "at_least_once"
                && flow["config_sync"]["excluded"][&test]
                    .as_str()
                    .is_some_and(|reason| reason.contains(".*-test"))
        })
    });
    assert_eq!(topics_with(source, &test), Vec::<String>::new());
    assert_eq!(topics_with(target, &orders), [orders.as_str()]);
}

/// KAFKA-9914: each site runs a daemon of its own that copies from the other one.
#[test]
fn two_sites_that_copy_from_each_other_never_copy_back_whatever_they_call_each_other() {
    let Pair { source, target } = pair();
    for [(there, here), (there_again, here_again)] in [
        [("source", "target"), ("source", "target")],
        [("east", "local"), ("remote", "home")],
    ] {
        let topic = unique("sites");
        for cluster in [source, target] {
            cluster.create_topic(&topic, PARTITIONS, &[]);
        }
        let site = |from: (&str, &Cluster), to: (&str, &Cluster)| {
            let topology = format!(
                "name: {topic}\npattern: active-standby\nactive: {}\nstandby: {}\nreplication:\n  topics: {{ include: ['(.*[.])?{topic}'] }}\n  config_sync: {{ interval: 1s }}\n",
                from.0, to.0
            );
            daemon(&[from, to], topology)
        };
        let daemons = [
            site((there, target), (here, source)),
            site((there_again, source), (here_again, target)),
        ];
        let copies = [
            (source, format!("{there}.{topic}")),
            (target, format!("{there_again}.{topic}")),
        ];
        for number in 0..2 {
            produce(source, &topic, &round("first", number));
            produce(target, &topic, &round("second", number));
            for ((cluster, copy), from) in copies.iter().zip(["second", "first"]) {
                assert_holds(cluster, copy, rounds(from, number + 1));
            }
            // Each daemon reads the cluster that the other one writes.
            for (daemon, (_, copy)) in daemons.iter().zip(copies.iter().rev()) {
                daemon.wait_for("the copy is left out with its reason", LONG, |status| {
                    status["flows"][0]["config_sync"]["excluded"][copy.as_str()]
                        .as_str()
                        .is_some_and(|reason| reason.contains("come from the target"))
                });
            }
        }
        for (cluster, copy) in &copies {
            let expected = [topic.as_str(), copy.as_str()];
            assert_eq!(topics_with(cluster, &topic), sorted(&expected.map(str::to_owned)));
        }
    }
}

#[test]
fn a_name_that_kafka_takes_for_another_ones_is_held_and_copied_once_its_advice_is_followed() {
    let Pair { source, target } = pair();
    let pay = unique("pay");
    let (first, second) = (format!("{pay}.ments"), format!("{pay}_ments"));
    let clusters = [("plant", source), ("shop", target), ("hub", hub())];
    let flow = |from: &str, include: &str, exclude: &str, policy: &str| {
        format!(
            "  {from}->hub: {{ topics: {{ include: ['{include}.*'], exclude: [{exclude}] }}, replication_policy: {policy} }}\n"
        )
    };
    let topology = |name: &str, flows: &[String]| {
        format!(
            "name: {pay}{name}\npattern: custom\nreplication: {{ config_sync: {{ interval: 1s }} }}\nflows:\n{}",
            flows.concat()
        )
    };
    source.create_topic(&first, PARTITIONS, &[]);
    produce(source, &first, &round("plant", 0));
    let from_plant = flow("plant", &format!("{pay}[.]m"), "", "identity");
    let both = topology(
        "",
        &[
            from_plant.clone(),
            flow("shop", &format!("{pay}_m"), "", "identity"),
        ],
    );
    let running = daemon(&clusters, both.clone());
    assert_holds(hub(), &first, rounds("plant", 1));
    target.create_topic(&second, PARTITIONS, &[]);
    produce(target, &second, &round("shop", 0));
    running.wait_for("the second one is held, with its reason", LONG, |status| {
        partitions(status).any(|it| {
            let reason = it["reason"].as_str().unwrap_or_default();
            it["topic"] == *second
                && it["state"] == "paused"
                && reason.contains("T305")
                && reason.contains(&first)
        })
    });
    let ready = running.get("/ready").expect("the daemon answers");
    assert_eq!(ready.0, 503, "{}", ready.1);
    let config = clusters.map(|(alias, cluster)| (alias, cluster.bootstrap()));
    let config = clusters_yaml(
        &config
            .each_ref()
            .map(|(alias, address)| (*alias, address.as_str())),
    );
    let plan = Files::new(&config, &[&both]).run(&["plan"]);
    assert_eq!(plan.code, 1, "{}", plan.all());
    assert!(
        plan.stdout.contains("T305") && plan.stdout.contains(&second),
        "{}",
        plan.all()
    );
    produce(source, &first, &round("plant", 1));
    assert_holds(hub(), &first, rounds("plant", 2));
    drop(running);

    // As the advice has it: excluded here, and copied by a topology of its own under the other policy.
    let without = flow("shop", &format!("{pay}_m"), &second, "identity").replace("_m.*", "_(m.*|x)");
    let apart = topology("-apart", &[flow("shop", &second, "", "default")]);
    let mut options = DaemonOptions::new(config.clone(), topology("", &[from_plant, without]));
    options.topology_yaml.push(apart);
    let running = Daemon::start(options);
    assert_holds(hub(), &format!("shop.{second}"), rounds("shop", 1));
    running.wait_for("everything runs", LONG, |status| {
        let flows = status["flows"].as_array().expect("a list of flows");
        flows.iter().all(|flow| flow["state"] == "running")
    });
    assert_holds(hub(), &first, rounds("plant", 2));
}

#[test]
fn records_that_no_progress_explains_are_told_before_they_are_copied_again_and_the_old_alias_explains_them() {
    let Pair { source, target } = pair();
    let topic = unique("renamed");
    source.create_topic(&topic, PARTITIONS, &[]);
    produce(source, &topic, &round("seoul", 0));
    let text = |alias: &str| {
        format!(
            "name: {topic}\npattern: active-standby\nactive: {alias}\nstandby: busan\nreplication:\n  topics: {{ include: [{topic}] }}\n  replication_policy: identity\n"
        )
    };
    let plan = |alias: &str| {
        let config = clusters_yaml(&[(alias, &source.bootstrap()), ("busan", &target.bootstrap())]);
        let plan = Files::new(&config, &[&text(alias)]).run(&["plan", "--output", "json"]);
        assert_eq!(plan.code, 0, "{}", plan.all());
        plan.json()[0]["unexplained"].clone()
    };
    // Of this topic: others write heartbeats here.
    assert!(plan("seoul")[&topic].is_null(), "the target has no such topic");
    let old = daemon(&[("seoul", source), ("busan", target)], text("seoul"));
    assert_holds(target, &topic, rounds("seoul", 1));
    assert_eq!(old.terminate(LONG), 0);
    assert!(plan("seoul")[&topic].is_null(), "stored progress explains all");

    let told = plan("incheon");
    let offsets = &told[&topic]["offsets"];
    assert_eq!(told[&topic]["target"], topic.as_str(), "{told}");
    for partition in 0..PARTITIONS {
        let held = offsets[partition.to_string()].as_u64().unwrap_or_default();
        // Records, and what ended their transactions.
        assert!((ROUND / 2) as u64 <= held, "{told}");
    }
    let renamed = daemon(&[("incheon", source), ("busan", target)], text("incheon"));
    renamed.wait_for("status tells it, with the ways to go on", LONG, |status| {
        let ours = partitions(status).filter(|it| it["topic"] == topic.as_str());
        let notices = ours.filter_map(|it| it["notice"].as_str());
        notices.filter(|it| it.contains("change it back")).count() == PARTITIONS as usize
    });
    let log = renamed.log();
    let warning = log.find("the target holds records that no progress explains");
    assert!(warning.is_some(), "{log}");
    let twice = [rounds("seoul", 1), rounds("seoul", 1)].concat();
    assert_holds(target, &topic, twice.clone());
    assert_eq!(renamed.terminate(LONG), 0);

    // As the advice has it: the flow goes on where it stood, and nothing is said.
    let old = daemon(&[("seoul", source), ("busan", target)], text("seoul"));
    produce(source, &topic, &round("seoul", 1));
    assert_holds(target, &topic, [twice, round("seoul", 1)].concat());
    let status = old.status().expect("the daemon answers");
    let ours = |it: &&serde_json::Value| it["topic"] == topic.as_str();
    assert!(
        partitions(&status).filter(ours).all(|it| it["notice"].is_null()),
        "{status}"
    );
    assert_eq!(old.terminate(LONG), 0);

    // Or the flow begins behind what is there.
    let text = text("gimpo").replace("replication:\n", "replication:\n  start_from: latest\n");
    let config = clusters_yaml(&[("gimpo", &source.bootstrap()), ("busan", &target.bootstrap())]);
    let plan = Files::new(&config, &[&text]).run(&["plan", "--output", "json"]);
    assert!(plan.json()[0]["unexplained"][&topic].is_null());
    let latest = daemon(&[("gimpo", source), ("busan", target)], text);
    latest.wait_for("it stands at the end", LONG, |status| {
        let at = |it: &&serde_json::Value| {
            it["topic"] == topic.as_str()
                && it["state"] == "running"
                && it["next_source_offset"].as_i64() > Some(0)
        };
        partitions(status).filter(at).count() == PARTITIONS as usize
    });
    produce(source, &topic, &round("seoul", 2));
    assert_holds(target, &topic, [rounds("seoul", 3), rounds("seoul", 1)].concat());
    let status = latest.status().expect("the daemon answers");
    let ours = |it: &&serde_json::Value| it["topic"] == topic.as_str();
    assert!(
        partitions(&status).filter(ours).all(|it| it["notice"].is_null()),
        "{status}"
    );
}
