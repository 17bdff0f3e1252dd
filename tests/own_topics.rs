//! What a flow keeps on the target and which clusters it runs between: what others do to them is mended, or said and
//! waited for, and nothing is lost, doubled or begun anew without a word.

use std::time::Duration;

use serde_json::Value;

use crate::harness::daemon::{Daemon, DaemonOptions, clusters_yaml};
use crate::harness::flow::{SOON, assert_same, daemon, daemon_between, topology, wait_until_copied};
use crate::harness::flow::{daemon_with_password, guarded};
use crate::harness::oracle::{self, Isolation};
use crate::harness::{Cluster, ClusterOptions, Pair, Resource, kafka_tool, load, pair, unique, wait_until};

/// What a flow says of itself when no task may run.
fn is_stopped_by(status: &Value, code: &str) -> bool {
    let flow = &status["flows"][0];
    flow["tasks"].as_array().is_some_and(Vec::is_empty)
        && flow["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains(code))
}

fn is_ready(daemon: &Daemon) -> bool {
    daemon.get("/ready").is_some_and(|(code, _)| code == 200)
}

/// Why a flow of one topology stands, when its reason ends with a command.
fn command(daemon: &Daemon) -> String {
    let mut command = None;
    daemon.wait_for("it names a command", SOON, |status| {
        let reason = status["flows"][0]["reason"].as_str().unwrap_or_default();
        let at = reason.find("kafka-").filter(|_| reason.contains("T601"));
        command = at.map(|at| reason[at..].split(';').next().unwrap_or_default().to_owned());
        command.is_some()
    });
    command.expect("waited for")
}

/// Runs a command as it was printed, by somebody who may.
fn run(command: &str, cluster: &Cluster) {
    let mut words = command.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let at = words
        .iter()
        .position(|word| word == "--bootstrap-server")
        .expect("it says where");
    words[at + 1] = cluster.bootstrap();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    kafka_tool(words[0], &words[1..]);
}

fn records(cluster: &Cluster, topic: &str) -> usize {
    oracle::dump(&cluster.bootstrap(), topic, Isolation::ReadCommitted).len()
}

fn fill(cluster: &Cluster, topic: &str) {
    load::fill(&cluster.bootstrap(), topic, 8, 400, 10, "none");
}

fn own(topic: &str, what: &str) -> String {
    format!("causeway.{topic}.seoul.{what}.internal")
}

#[test]
fn another_cluster_at_the_targets_address_stops_the_flow_and_is_filled_after_a_restart() {
    let Pair { source, .. } = pair();
    let target = Cluster::start("replaced-target");
    let topic = unique("replaced-target");
    source.create_topic(&topic, 8, &[]);
    fill(source, &topic);
    let mut daemon = daemon_between(source, &target, topology(&topic, &[&topic], ""));
    wait_until_copied(&daemon, source, &topic, SOON);
    target.replace();
    daemon.wait_for("it says so", SOON, |status| {
        is_stopped_by(status, "T110 target_replaced")
    });
    assert_eq!(daemon.get("/ready").map(|(code, _)| code), Some(503));
    // What its advice says.
    daemon.restart();
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(assert_same(source, &target, &topic, &topic), 400);
}

#[test]
fn another_cluster_at_the_sources_address_stops_the_flow_and_is_copied_under_another_name() {
    let Pair { target, .. } = pair();
    let source = Cluster::start("replaced-source");
    let topic = unique("replaced-source");
    source.create_topic(&topic, 8, &[]);
    fill(&source, &topic);
    let mut daemon = daemon_between(&source, target, topology(&topic, &[&topic], ""));
    wait_until_copied(&daemon, &source, &topic, SOON);
    source.replace();
    source.create_topic(&topic, 8, &[]);
    fill(&source, &topic);
    daemon.wait_for("it says so", SOON, |status| {
        is_stopped_by(status, "S110 source_replaced")
    });
    daemon.restart();
    daemon.wait_for("it knows after a restart", SOON, |status| {
        let tasks = status["flows"][0]["tasks"].as_array();
        tasks.is_some_and(|tasks| {
            !tasks.is_empty()
                && tasks.iter().all(|task| {
                    task["reason"]
                        .as_str()
                        .is_some_and(|it| it.contains("S110 source_replaced"))
                })
        })
    });
    assert_eq!(records(target, &topic), 400, "nothing of the new cluster");
    daemon.kill9();
    // What its advice says.
    let renamed = daemon_between(&source, target, topology(&unique("renamed"), &[&topic], ""));
    wait_until_copied(&renamed, &source, &topic, SOON);
    assert_eq!(records(target, &topic), 800);
}

#[test]
fn an_own_topic_that_deletes_is_set_to_compact_while_the_flow_runs_and_when_it_starts() {
    let Pair { source, target } = pair();
    let topic = unique("deletes");
    source.create_topic(&topic, 8, &[]);
    fill(source, &topic);
    let names = [own(&topic, "progress"), own(&topic, "offset-map")];
    let delete = [("cleanup.policy", "delete"), ("retention.ms", "1000")];
    for name in &names {
        target.create_topic(name, 4, &delete);
        wait_until("it is there", SOON, || {
            oracle::try_describe_topic(&target.bootstrap(), name).is_ok()
        });
    }
    let compact =
        |name: &String| oracle::topic_configs(&target.bootstrap(), name)["cleanup.policy"] == "compact";
    let daemon = daemon(topology(&topic, &[&topic], ""));
    wait_until("both are compacted", SOON, || names.iter().all(compact));
    wait_until_copied(&daemon, source, &topic, SOON);
    target.alter_topic(&names[0], &delete, &[]);
    wait_until("it is compacted again", SOON, || compact(&names[0]));
    assert!(daemon.log().contains("cleanup.policy set to compact"));
    assert_eq!(assert_same(source, target, &topic, &topic), 400);
}

#[test]
fn a_target_that_takes_few_settings_gets_the_own_topics_and_the_users_without_the_others() {
    let Pair { source, .. } = pair();
    let target = ClusterOptions::new("strict").strict().start();
    let topic = unique("strict");
    let settings = [
        ("segment.bytes", "16777216"),
        ("max.compaction.lag.ms", "86400000"),
        ("retention.ms", "-1"),
    ];
    source.create_topic(&topic, 8, &settings);
    fill(source, &topic);
    let daemon = daemon_between(source, &target, topology(&topic, &[&topic], ""));
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(assert_same(source, &target, &topic, &topic), 400);
    for name in [own(&topic, "progress"), own(&topic, "offset-map")] {
        let configs = oracle::topic_configs(&target.bootstrap(), &name);
        assert_eq!(
            configs,
            [("cleanup.policy".to_owned(), "compact".to_owned())].into(),
            "{name}"
        );
    }
    assert!(daemon.log().contains("created without what the target refuses"));
    wait_until("the setting it takes", SOON, || {
        let configs = oracle::topic_configs(&target.bootstrap(), &topic);
        configs == [("retention.ms".to_owned(), "-1".to_owned())].into()
    });
    let refused = |status: &Value| {
        let errors = status["flows"][0]["config_sync"]["errors"].as_array();
        errors.is_some_and(|errors| errors.iter().any(|it| it.to_string().contains("T303")))
    };
    daemon.wait_for("what it refuses is said", SOON, refused);
    drop(daemon);
    // What the advice says.
    let exclude = "  config_sync: { interval: 1s, exclude: [segment.bytes, max.compaction.lag.ms] }\n";
    let daemon = daemon_between(source, &target, topology(&topic, &[&topic], exclude));
    daemon.wait_for("nothing is refused", SOON, |status| {
        let sync = &status["flows"][0]["config_sync"];
        sync["errors"].as_array().is_some_and(Vec::is_empty) && is_ready(&daemon)
    });
}

#[test]
fn own_topics_that_grow_lose_and_double_nothing_while_an_old_and_a_new_daemon_run() {
    let Pair { source, target } = pair();
    let topic = unique("grown");
    source.create_topic(&topic, 8, &[]);
    fill(source, &topic);
    let start = |instance: &str| {
        let clusters = clusters_yaml(&[("seoul", &source.bootstrap()), ("busan", &target.bootstrap())]);
        let mut options = DaemonOptions::new(clusters, topology(&topic, &[&topic], ""));
        options.instance = Some(instance.to_owned());
        Daemon::start(options)
    };
    let old = start("old");
    wait_until_copied(&old, source, &topic, SOON);
    for (number, what) in ["progress", "offset-map"].into_iter().enumerate() {
        target.grow_topic(&own(&topic, what), 8);
        let new = start(&format!("new-{number}"));
        new.wait_for("it knows the flow's tasks", SOON, |status| {
            status["flows"][0]["tasks_total"] == 4
        });
        fill(source, &topic);
        wait_until("both together have copied all", SOON, || {
            records(target, &topic) >= 400 * (number + 2)
        });
        assert_eq!(assert_same(source, target, &topic, &topic), 400 * (number + 2));
        assert_eq!(new.terminate(Duration::from_secs(20)), 0);
    }
    assert!(old.status().is_some());
    let mut last = start("new-2");
    old.kill9();
    fill(source, &topic);
    wait_until_copied(&last, source, &topic, SOON);
    last.restart();
    wait_until_copied(&last, source, &topic, SOON);
    assert_eq!(assert_same(source, target, &topic, &topic), 1600);
}

#[test]
fn progress_that_is_deleted_under_a_running_flow_is_said_and_nothing_is_copied_again_unasked() {
    let Pair { source, target } = pair();
    let topic = unique("forgotten");
    source.create_topic(&topic, 8, &[]);
    fill(source, &topic);
    let mut daemon = daemon(topology(&topic, &[&topic], ""));
    wait_until_copied(&daemon, source, &topic, SOON);
    target.delete_topic(&own(&topic, "progress"));
    let lost = |status: &Value| is_stopped_by(status, "T602 own_topic_lost");
    daemon.wait_for("it says so", SOON, lost);
    daemon.restart();
    daemon.wait_for("it says so after a restart", SOON, lost);
    assert_eq!(records(target, &topic), 400);
    // What its advice says.
    target.delete_topic(&own(&topic, "offset-map"));
    daemon.restart();
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(records(target, &topic), 800);
    // Or, where nothing is to come again.
    for what in ["progress", "offset-map"] {
        target.delete_topic(&own(&topic, what));
    }
    daemon.wait_for("it says so again", SOON, lost);
    assert_eq!(daemon.terminate(SOON), 0);
    let daemon = crate::harness::flow::daemon(topology(&topic, &[&topic], "  start_from: latest\n"));
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(records(target, &topic), 800);
    fill(source, &topic);
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(records(target, &topic), 1200);
}

#[test]
fn an_own_topic_that_became_smaller_names_the_command_that_mends_it() {
    let Pair { source, target } = pair();
    for running in [false, true] {
        let topic = unique("shrunk");
        source.create_topic(&topic, 8, &[]);
        fill(source, &topic);
        let mut daemon = daemon(topology(&topic, &[&topic], ""));
        wait_until_copied(&daemon, source, &topic, SOON);
        if running {
            // It must not see that it was away in between.
            daemon.process().signal("STOP");
        } else {
            assert_eq!(daemon.terminate(SOON), 0);
        }
        let map = own(&topic, "offset-map");
        target.delete_topic(&map);
        target.create_topic(&map, 2, &[("cleanup.policy", "compact")]);
        wait_until("it is smaller", SOON, || {
            oracle::try_describe_topic(&target.bootstrap(), &map).is_ok_and(|it| it.partitions == 2)
        });
        fill(source, &topic);
        if running {
            daemon.process().signal("CONT");
        } else {
            daemon.restart();
        }
        run(&command(&daemon), target);
        wait_until_copied(&daemon, source, &topic, SOON);
        assert_eq!(assert_same(source, target, &topic, &topic), 800);
    }
}

#[test]
fn an_own_topic_that_deletes_and_may_not_be_changed_names_the_command_that_mends_it() {
    let Pair { source, .. } = pair();
    let target = guarded("unchangeable");
    let topic = unique("unchangeable");
    target.grant(&Resource::topic(&topic), &["Write"]);
    source.create_topic(&topic, 8, &[]);
    fill(source, &topic);
    let progress = own(&topic, "progress");
    target.create_topic(&progress, 4, &[("cleanup.policy", "delete")]);
    let daemon = daemon_with_password(source, &target, topology(&topic, &[&topic], ""));
    let command = command(&daemon);
    assert_eq!(records(&target, &progress), 0, "nothing is stored there");
    run(&command, &target);
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(assert_same(source, &target, &topic, &topic), 400);
}
