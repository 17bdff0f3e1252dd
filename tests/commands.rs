//! The commands as an operator runs them: exit codes, what is said and where, and that looking changes nothing.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::commands::{Files, command, ran, shared_clusters};
use crate::harness::daemon::{Daemon, DaemonOptions, clusters_yaml};
use crate::harness::flow::{daemon, partitions, topology, wait_until_copied};
use crate::harness::load::{self, Load};
use crate::harness::oracle;
use crate::harness::{Cluster, Pair, free_port, pair, unique, wait_until};

const LONG: Duration = Duration::from_secs(60);

/// Two clusters at addresses where nobody listens, and one topology between them.
fn nobody() -> (String, String) {
    let nobody = || format!("127.0.0.1:{}", free_port());
    let config = clusters_yaml(&[("seoul", &nobody()), ("busan", &nobody())]);
    (config, topology("nobody", &["orders"], ""))
}

#[test]
fn validate_accepts_good_files_quickly_and_contacts_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a listener can be asked");
    let address = listener.local_addr().expect("it is bound").to_string();
    let config = clusters_yaml(&[
        ("seoul", &address),
        ("busan", &address.replace("127.0.0.1", "localhost")),
    ]);
    let files = Files::new(&config, &[&topology("good", &["orders.*"], "")]);
    let text = files.run(&["validate"]);
    assert_eq!(text.code, 0, "{}", text.all());
    assert!(text.took < Duration::from_secs(2), "{:?}", text.took);
    assert!(text.stdout.contains("seoul->busan") && text.stdout.contains("1 flow in 1 topology: ok"));
    assert_eq!(text.stderr, "");
    let json = files.run(&["validate", "--output", "json"]);
    assert_eq!((json.code, &json.json()["ok"]), (0, &Value::Bool(true)));
    assert_eq!(json.json()["flows"][0]["flow"], "seoul->busan");
    let nobody_came = listener.accept().is_err();
    assert!(nobody_came, "validate has contacted a cluster");
}

#[test]
fn every_mistake_of_every_file_is_told_at_once_with_its_place() {
    let (config, _) = nobody();
    let config = format!("{config}api:\n  listen: nowhere\n");
    let misspelt = topology("first", &["orders"], "  delivry: exactly_once\n  tasks: 0\n");
    let unknown = topology("second", &["\"orders(\""], "").replace("standby: busan", "standby: bussan");
    let files = Files::new(&config, &[&misspelt, &unknown]);
    for command in ["validate", "plan", "run"] {
        let told = files.run(&[command]);
        assert_eq!(told.code, 2, "{command}: {}", told.all());
        assert!(told.took < Duration::from_secs(2), "{command}: {:?}", told.took);
        assert_eq!(told.stdout, "", "{command}");
        for words in [
            "config.yaml:7:11",
            "topology-0.yaml:",
            "delivry",
            "delivery",
            "tasks",
            "topology-1.yaml:",
            "`bussan`",
            "did you mean `busan`?",
            "orders(",
            "no cluster was contacted",
        ] {
            assert!(told.stderr.contains(words), "{command}: {words}: {}", told.stderr);
        }
    }
}

#[test]
fn a_command_without_its_files_says_what_to_give() {
    for (arguments, hint) in [
        (vec!["run"], "CAUSEWAY_TOPOLOGY"),
        (vec!["plan", "--topology", "t.yaml"], "CAUSEWAY_CONFIG"),
        (vec!["status"], "CAUSEWAY_CONFIG"),
        (vec!["copy"], "--help"),
    ] {
        let mut command = command();
        command.args(&arguments);
        let told = ran(command);
        assert_eq!(told.code, 2, "{arguments:?}");
        assert!(told.stderr.contains(hint), "{arguments:?}: {}", told.stderr);
    }
}

#[test]
fn plan_shows_every_change_and_every_topic_left_out_and_changes_nothing() {
    let Pair { source, target } = pair();
    let prefix = unique("planned");
    let (new, known, internal) = (
        format!("{prefix}-new"),
        format!("{prefix}-known"),
        format!("{prefix}.internal"),
    );
    let skipped = format!("{prefix}-skip");
    source.create_topic(&new, 3, &[("retention.ms", "7200000")]);
    source.create_topic(&known, 2, &[("segment.bytes", "10000000")]);
    for topic in [&internal, &skipped] {
        source.create_topic(topic, 1, &[]);
    }
    target.create_topic(&known, 1, &[]);
    let ours = |cluster: &Cluster| -> Vec<String> {
        let all = oracle::topics(&cluster.bootstrap());
        all.into_iter().filter(|it| it.contains(&prefix)).collect()
    };
    // A new topic takes a moment to be listed.
    wait_until("all topics are listed", LONG, || {
        ours(source).len() == 4 && ours(target).len() == 1
    });
    let before = (ours(source), ours(target));
    let name = unique("planned");
    let text = topology(&name, &[&format!("{prefix}.*")], "");
    let text = text.replace(".*] }", &format!(".*], exclude: [{skipped}] }}"));
    let files = Files::new(&shared_clusters(), &[&text]);

    let table = files.run(&["plan"]);
    assert_eq!(table.code, 0, "{}", table.all());
    for words in [
        format!("{name} seoul->busan: 2 topics selected, 3 changes"),
        format!("create {new} partitions=3 replication_factor=1 retention.ms=7200000"),
        format!("grow {known} 1 -> 2"),
        format!("set {known} segment.bytes=10000000"),
        format!("leave out {internal}: it is an internal topic"),
        format!("leave out {skipped}: exclude pattern `{skipped}` matches it"),
    ] {
        assert!(table.stdout.contains(&words), "{words}: {}", table.stdout);
    }
    let json = files.run(&["plan", "--output", "json"]);
    assert_eq!(json.code, 0, "{}", json.all());
    let plan = &json.json()[0];
    assert_eq!(plan["flow"], "seoul->busan");
    let changes = plan["plan"]["changes"].as_array().expect("a list of changes");
    assert_eq!(changes.len(), 3, "{plan}");
    assert!(plan["excluded"][&skipped].is_string(), "{plan}");

    assert_eq!((ours(source), ours(target)), before);
    assert_eq!(oracle::describe_topic(&target.bootstrap(), &known).partitions, 1);
    assert!(oracle::topic_configs(&target.bootstrap(), &known).is_empty());
    let state = format!("causeway.{name}.");
    let topics = oracle::topics(&target.bootstrap());
    assert!(!topics.iter().any(|it| it.starts_with(&state)), "{topics:?}");
}

#[test]
fn plan_names_the_cluster_that_does_not_answer() {
    let (config, text) = nobody();
    let told = Files::new(&config, &[&text]).run(&["plan"]);
    assert_eq!(told.code, 1, "{}", told.all());
    assert!(told.took < Duration::from_secs(15), "{:?}", told.took);
    for words in ["nobody seoul->busan", "S101 source_unreachable", "hint:"] {
        assert!(told.stderr.contains(words), "{words}: {}", told.stderr);
    }
}

#[test]
fn status_shows_a_running_daemon_to_people_and_programs() {
    let Pair { source, .. } = pair();
    let (name, topic) = (unique("shown"), unique("shown"));
    source.create_topic(&topic, 2, &[]);
    load::fill(&source.bootstrap(), &topic, 2, 100, 100, "none");
    let daemon = daemon(topology(&name, &[&topic], ""));
    wait_until_copied(&daemon, source, &topic, LONG);
    daemon.wait_for("the lag is known", LONG, |status| {
        status["flows"][0]["lag_records"] == 0 && status["flows"][0]["state"] == "running"
    });
    let status = |more: &[&str]| {
        let mut command = command();
        command.args(["status", "--address", daemon.api()]).args(more);
        ran(command)
    };
    let table = status(&["--partitions"]);
    assert_eq!((table.code, table.stderr.as_str()), (0, ""));
    for words in [
        format!("{name} seoul->busan: running (exactly_once)"),
        "0 records".to_owned(),
        "4 of 4 here".to_owned(),
        format!("{topic}-0"),
        format!("{topic}-1"),
    ] {
        assert!(table.stdout.contains(&words), "{words}: {}", table.stdout);
    }
    assert!(!status(&[]).stdout.contains(&format!("{topic}-0")));
    let json = status(&["--output", "json"]);
    assert_eq!(json.code, 0);
    assert_eq!(json.json()["flows"][0]["topology"], *name);
    assert_eq!(partitions(&json.json()).count(), 2);

    for (path, expected) in [("/live", 200), ("/ready", 200), ("/nothing", 404)] {
        assert_eq!(
            daemon.get(path).expect("the daemon answers").0,
            expected,
            "{path}"
        );
    }
    let (code, metrics) = daemon.get("/metrics").expect("the daemon answers");
    assert_eq!(code, 200);
    let copied: f64 = metrics
        .lines()
        .filter(|line| line.starts_with("causeway_records_replicated_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert_eq!(copied, 100.0, "{metrics}");
    assert_eq!(daemon.terminate(LONG), 0, "{}", daemon.log());
    let gone = status(&[]);
    assert_eq!((gone.code, gone.stdout.as_str()), (1, ""));
    assert!(gone.stderr.contains(daemon.api()) && gone.stderr.contains("is it running?"));
}

#[test]
fn while_a_cluster_is_away_the_daemon_lives_is_not_ready_and_calls_unknown_unknown() {
    let (config, text) = nobody();
    let daemon = Daemon::start(DaemonOptions::new(config, text));
    daemon.wait_for("the flow says why it does not start", LONG, |status| {
        let reason = status["flows"][0]["reason"].as_str();
        reason.is_some_and(|it| it.contains("T101 target_unreachable"))
    });
    assert_eq!(daemon.get("/live").expect("the daemon answers").0, 200);
    let (code, body) = daemon.get("/ready").expect("the daemon answers");
    assert_eq!(code, 503);
    assert!(body.contains("nobody seoul->busan is starting: T101"), "{body}");
    let mut status = command();
    status.args(["status", "--address", daemon.api()]);
    let table = ran(status);
    assert_eq!(table.code, 0, "{}", table.all());
    for words in [
        "lag          unknown",
        "config sync  unknown",
        "0 of unknown here",
    ] {
        assert!(table.stdout.contains(words), "{words}: {}", table.stdout);
    }
    let flow = &daemon.status().expect("the daemon answers")["flows"][0];
    assert!(
        flow["lag_records"].is_null() && flow["lag_seconds"].is_null(),
        "{flow}"
    );
    assert_eq!(daemon.terminate(LONG), 0, "{}", daemon.log());
}

#[test]
fn the_reference_names_every_key_and_the_schemas_are_json() {
    let reference = |arguments: &[&str]| {
        let mut command = command();
        command.arg("reference").args(arguments);
        let told = ran(command);
        assert_eq!((told.code, told.stderr.as_str()), (0, ""), "{arguments:?}");
        told
    };
    let text = reference(&[]).stdout;
    for key in [
        "bootstrap_servers",
        "drain_timeout",
        "replication_policy",
        "on_gap",
    ] {
        assert!(text.contains(key), "{key}");
    }
    for schema in ["config", "topology"] {
        let schema = reference(&["--schema", schema]).json();
        assert!(schema["properties"].is_object(), "{schema}");
    }
}

#[test]
fn a_second_daemon_at_the_same_address_is_refused_before_it_touches_anything() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let (config, text) = nobody();
    let files = Files::new(&format!("{config}api:\n  listen: {address}\n"), &[&text]);
    let told = files.run(&["run"]);
    assert_eq!(told.code, 1, "{}", told.all());
    assert!(told.took < Duration::from_secs(5), "{:?}", told.took);
    assert!(
        told.stderr.contains(&address) && told.stderr.contains("api.listen"),
        "{}",
        told.stderr
    );
    assert!(!told.stderr.contains("flow seoul->busan"), "{}", told.stderr);
}

#[test]
fn a_drain_that_cannot_finish_ends_at_its_deadline_and_names_who_is_late() {
    let target = Cluster::start("stalled");
    let source = &pair().source;
    let (name, topic) = (unique("late"), unique("late"));
    source.create_topic(&topic, 4, &[]);
    let load = Load::start(&source.bootstrap(), &topic, 4, 500, 100);
    let clusters = clusters_yaml(&[("seoul", &source.bootstrap()), ("busan", &target.bootstrap())]);
    let daemon = Daemon::start(DaemonOptions::new(
        format!("{clusters}drain_timeout: 2s\n"),
        topology(&name, &[&topic], ""),
    ));
    daemon.wait_for("the topic is copied and the daemon ready", LONG, |status| {
        let moved = |it: &Value| it["next_source_offset"].as_i64().is_some_and(|next| 0 < next);
        partitions(status).filter(|it| moved(it)).count() == 4 && status["flows"][0]["state"] == "running"
    });
    assert_eq!(daemon.get("/ready").expect("the daemon answers").0, 200);
    target.stop();
    daemon.wait_for("records wait for the target", LONG, |status| {
        let tasks = status["flows"][0]["tasks"].as_array();
        let waits = |task: &Value| task["in_flight_bytes"].as_i64().is_some_and(|bytes| 0 < bytes);
        tasks.is_some_and(|tasks| tasks.iter().all(waits))
    });
    let started = Instant::now();
    daemon.process().signal("TERM");
    wait_until("a draining daemon is not ready", LONG, || {
        daemon
            .get("/ready")
            .is_some_and(|(code, body)| code == 503 && body.contains("draining"))
    });
    assert_eq!(daemon.get("/live").map(|(code, _)| code), Some(200));
    assert_eq!(daemon.process().wait(LONG), 3, "{}", daemon.log());
    let took = started.elapsed();
    assert!(
        Duration::from_secs(2) <= took && took < Duration::from_secs(8),
        "{took:?}"
    );
    let log = daemon.log();
    assert!(
        log.contains("not drained in time") && log.contains(&format!("{name} seoul->busan task ")),
        "{log}"
    );
    target.cont();
    load.stop();
}

#[test]
fn no_secret_is_in_the_log_the_status_the_metrics_or_an_error() {
    const SECRET: &str = "s3cr3t-Pa55";
    let nobody = format!("127.0.0.1:{}", free_port());
    let security = "    security:\n      protocol: sasl_plaintext\n      mechanism: PLAIN\n      username: causeway\n      password: ${SEOUL_PASSWORD}\n";
    let config = format!(
        "clusters:\n  seoul:\n    bootstrap_servers: {nobody}\n{security}  busan:\n    bootstrap_servers: {nobody}\n{security}"
    );
    let mut options = DaemonOptions::new(&config, topology("secret", &["orders"], ""));
    options.env = vec![("SEOUL_PASSWORD".into(), SECRET.into())];
    options.args = vec!["--log".into(), "trace".into()];
    let daemon = Daemon::start(options);
    daemon.wait_for("the flow has tried to connect", LONG, |status| {
        status["flows"][0]["reason"].is_string()
    });
    for path in ["/status", "/metrics", "/ready"] {
        let (_, body) = daemon.get(path).expect("the daemon answers");
        assert!(!body.contains(SECRET), "{path}: {body}");
    }
    assert_eq!(daemon.terminate(LONG), 0);
    let log = daemon.log();
    assert!(log.contains("causeway starts") && !log.contains(SECRET), "{log}");

    // A mistake beside the secret must not quote it.
    let files = Files::new(
        &config.replace("${SEOUL_PASSWORD}", &format!("[{SECRET}]")),
        &[&topology("secret", &["orders"], "")],
    );
    let told = files.run(&["validate"]);
    assert_eq!(told.code, 2);
    assert!(
        told.stderr.contains("password") && !told.all().contains(SECRET),
        "{}",
        told.stderr
    );
}
