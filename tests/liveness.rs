//! What is dead, stuck or away is said and started again: threads the system refuses, members that hold nothing,
//! settings that cannot be used, a drain beside a cluster that does not answer.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use causeway::error::Side;
use causeway::kafka::admin::Admin;
use serde_json::Value;

use crate::harness::daemon::{Daemon, DaemonOptions, causeway, clusters_yaml};
use crate::harness::flow::connection;
use crate::harness::flow::{
    SOON, assert_same, assert_same_digest, daemon, is_stopped_for, partition, partitions, topology,
    wait_until_copied,
};
use crate::harness::load::{self, Load};
use crate::harness::oracle::{self, Isolation, NewRecord, Step};
use crate::harness::process::Scratch;
use crate::harness::{Cluster, Pair, pair, unique, wait_until};

fn flow(status: &Value) -> &Value {
    &status["flows"][0]
}

fn running_tasks(status: &Value) -> usize {
    let tasks = flow(status)["tasks"].as_array().into_iter().flatten();
    tasks.filter(|it| it["state"] == "running").count()
}

/// The value of a series, found by the beginning of its line.
fn metric(daemon: &Daemon, series: &str) -> Option<f64> {
    let (_, text) = daemon.get("/metrics")?;
    let line = text.lines().find(|line| line.starts_with(series))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// A `causeway` that the system can refuse threads: root is exempt from that limit, so it runs as nobody in particular.
fn causeway_without_privileges(directory: &Scratch) -> PathBuf {
    let wrapper = directory.path().join("causeway.sh");
    let script = format!(
        "#!/bin/sh\n[ \"$(id -u)\" = 0 ] || exec {binary} \"$@\"\nchmod 755 . && cp {binary} ./causeway && chmod 644 *.yaml && chmod 755 ./causeway\nexec setpriv --reuid 54321 --clear-groups ./causeway \"$@\"\n",
        binary = causeway().display()
    );
    fs::write(&wrapper, script).expect("the directory is ours");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    wrapper
}

/// Sets how many threads the daemon's user may have; `None`: as many as it may be allowed.
fn limit_threads(daemon: &Daemon, threads: Option<u32>) {
    // Who may change the limits of a process is its own user.
    let script = r#"
[ "$(id -u)" = 0 ] && exec setpriv --reuid 54321 --clear-groups sh -c "$0" "$0" "$@"
exec prlimit --pid "$1" "--nproc=${2:-$(prlimit --pid "$1" --nproc --noheadings --raw --output HARD)}:"
"#;
    let threads = threads.map_or(String::new(), |threads| threads.to_string());
    let mut set = Command::new("sh");
    set.args(["-c", script, script, &daemon.pid().to_string(), &threads]);
    assert!(set.status().expect("sh starts").success());
}

#[test]
fn tasks_that_the_system_refuses_a_thread_are_said_and_run_once_it_gives_them() {
    let Pair { source, target } = pair();
    let topic = unique("threads");
    source.create_topic(&topic, 4, &[]);
    load::fill(&source.bootstrap(), &topic, 4, 400, 100, "none");
    let clusters = clusters_yaml(&[("seoul", &source.bootstrap()), ("busan", &target.bootstrap())]);
    let directory = Scratch::new("unprivileged");
    let mut options = DaemonOptions::new(clusters, topology(&topic, &[&topic], ""));
    options.instance = Some("limited".into());
    options.binary = causeway_without_privileges(&directory);
    let limited = Daemon::start(options.clone());
    limited.wait_for("it has all tasks", SOON, |status| running_tasks(status) == 4);
    options.instance = Some("other".into());
    options.binary = causeway();
    let other = Daemon::start(options);
    limited.wait_for("the tasks are shared", SOON, |status| running_tasks(status) == 2);
    other.wait_for("the tasks are shared", SOON, |status| running_tasks(status) == 2);

    limit_threads(&limited, Some(1));
    other.kill9();
    limited.wait_for("it says what is the matter", SOON, |status| {
        flow(status)["state"] == "failed"
            && flow(status)["reason"]
                .as_str()
                .is_some_and(|why| why.contains("L501 no_thread"))
    });
    let (code, why) = limited.get("/ready").expect("it answers");
    assert_eq!(code, 503);
    assert!(why.contains("L501"), "{why}");
    let failures =
        format!("causeway_part_failures_total{{topology=\"{topic}\",flow=\"seoul->busan\",part=\"task\"}}");
    assert!(metric(&limited, &failures).is_some_and(|failures| 1.0 <= failures));
    assert_eq!(
        running_tasks(&limited.status().expect("it runs")),
        2,
        "the others go on"
    );

    limit_threads(&limited, None);
    limited.wait_for("all tasks run", SOON, |status| running_tasks(status) == 4);
    load::fill(&source.bootstrap(), &topic, 4, 400, 100, "none");
    wait_until_copied(&limited, source, &topic, SOON);
    wait_until("it is ready", SOON, || {
        limited.get("/ready").is_some_and(|(code, _)| code == 200)
    });
    assert_same(source, target, &topic, &topic);
}

#[test]
fn a_daemon_to_which_the_group_gives_nothing_does_not_stand_by() {
    let Pair { source, target } = pair();
    let topic = unique("given-nothing");
    source.create_topic(&topic, 1, &[]);
    load::fill(&source.bootstrap(), &topic, 1, 10, 100, "none");
    let daemon = daemon(topology(&topic, &[&topic], ""));
    wait_until_copied(&daemon, source, &topic, SOON);
    // It loses its seat, and when it comes back the group has nothing to give.
    daemon.process().signal("STOP");
    let admin = Admin::new(&connection("busan", target), "test", Side::Target).expect("a client");
    wait_until("the group has no member", SOON, || {
        let members = admin.group_members(&format!("causeway.{topic}.seoul->busan"), SOON);
        members.is_ok_and(|members| members.is_empty())
    });
    let progress = format!("causeway.{topic}.seoul.progress.internal");
    target.delete_topic(&progress);
    daemon.process().signal("CONT");
    daemon.wait_for("it has no task any more", SOON, |status| {
        running_tasks(status) == 0
    });
    // Whichever of the two is seen first: the group gives it nothing, or what it had stored is gone.
    daemon.wait_for("it says why", SOON, |status| {
        assert_ne!(flow(status)["state"], "standby", "{status}");
        let why = flow(status)["reason"].as_str();
        why.is_some_and(|why| why.contains("L502") || why.contains("T602"))
    });
    assert_eq!(daemon.get("/ready").map(|(code, _)| code), Some(503));
}

#[test]
fn a_flow_whose_settings_cannot_be_used_has_failed_and_the_others_run() {
    let Pair { source, target } = pair();
    let topic = unique("no-ca");
    source.create_topic(&topic, 1, &[]);
    load::fill(&source.bootstrap(), &topic, 1, 10, 100, "none");
    let files = Scratch::new("ca");
    let ca = files.path().join("ca.pem");
    fs::write(&ca, "no certificate").expect("the directory is ours");
    let clusters = clusters_yaml(&[("seoul", &source.bootstrap()), ("busan", &target.bootstrap())]);
    let config = format!(
        "{clusters}  jeju:\n    bootstrap_servers: {}\n    security:\n      protocol: ssl\n      ca_file: {}\n",
        target.bootstrap(),
        ca.display()
    );
    let mut options = DaemonOptions::new(config, topology(&topic, &[&topic], ""));
    let broken =
        topology(&format!("{topic}-broken"), &[&topic], "").replace("standby: busan", "standby: jeju");
    options.topology_yaml.insert(0, broken);
    let daemon = Daemon::start(options);
    wait_until_copied(&daemon, source, &topic, SOON);
    let status = daemon.status().expect("it runs");
    let state = |status: &Value, flow: &str| {
        let flows = status["flows"].as_array().into_iter().flatten();
        let mut found = flows.filter(|it| it["flow"] == flow);
        found
            .next()
            .map(|it| (it["state"].clone(), it["reason"].to_string()))
    };
    let (is, why) = state(&status, "seoul->jeju").expect("it is in the status");
    assert_eq!(is, "failed");
    assert!(why.contains("T102") && why.contains("ca_file"), "{why}");
    assert_eq!(daemon.get("/ready").map(|(code, _)| code), Some(503));
    // Tried again: a file with a certificate is taken; that nobody there speaks TLS is another matter.
    fs::write(&ca, CERTIFICATE).expect("the directory is ours");
    daemon.wait_for("the file is read", SOON, |status| {
        state(status, "seoul->jeju").is_some_and(|(is, _)| is == "starting")
    });
    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0);
}

#[test]
fn a_drain_waits_for_no_cluster_once_the_tasks_have_drained() {
    let Pair { target, .. } = pair();
    let source = Cluster::start("frozen-source");
    let topic = unique("frozen-source");
    source.create_topic(&topic, 2, &[]);
    load::fill(&source.bootstrap(), &topic, 2, 100, 100, "none");
    let clusters = clusters_yaml(&[("seoul", &source.bootstrap()), ("busan", &target.bootstrap())]);
    let extra = "  config_sync: { interval: 1s }\n  offset_sync: { interval: 1s }\n";
    let mut daemon = Daemon::start(DaemonOptions::new(
        format!("drain_timeout: 5s\n{clusters}"),
        topology(&topic, &[&topic], extra),
    ));
    for _ in 0..2 {
        wait_until_copied(&daemon, &source, &topic, SOON);
        source.stop();
        // Now its questions are on their way.
        daemon.wait_for("the source does not answer", SOON, |status| {
            partitions(status).all(|it| it["lag_records"].is_null())
        });
        let asked = Instant::now();
        let code = daemon.terminate(Duration::from_secs(20));
        let took = asked.elapsed();
        source.cont();
        wait_until("the source answers", SOON, || {
            oracle::try_describe_topic(&source.bootstrap(), &topic).is_ok()
        });
        assert_eq!(code, 0, "exit code after {took:?}\n{}", daemon.log());
        assert!(took < Duration::from_millis(4_500), "{took:?}");
        daemon.restart();
    }
}

#[test]
fn topics_that_come_and_go_at_the_source_are_events_and_the_flow_stays_ready() {
    let Pair { source, target } = pair();
    let name = unique("fleeting");
    let stable = format!("{name}-stable");
    source.create_topic(&stable, 2, &[]);
    let load = Load::start(&source.bootstrap(), &stable, 2, 200, 100);
    let extra = "  config_sync: { interval: 1s }\n";
    let daemon = daemon(topology(&name, &[&format!("\"{name}-.*\"")], extra));
    wait_until_copied(&daemon, source, &stable, SOON);
    let ready = || {
        let (code, why) = daemon.get("/ready").expect("it answers");
        assert_eq!(code, 200, "{why}");
    };
    wait_until("it is ready", SOON, || {
        daemon.get("/ready").is_some_and(|(code, _)| code == 200)
    });
    let fleeting: Vec<String> = (0..8).map(|number| format!("{name}-{number}")).collect();
    for (number, topic) in fleeting.iter().enumerate() {
        source.create_topic(topic, 2, &[]);
        load::fill(&source.bootstrap(), topic, 2, 50, 100, "none");
        ready();
        // Of every other topic some records are still on their way when it goes.
        if number % 2 == 0 {
            wait_until_copied(&daemon, source, topic, SOON);
        }
        source.delete_topic(topic);
        let until = Instant::now() + Duration::from_millis(500);
        while Instant::now() < until {
            ready();
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    daemon.wait_for("they have left the status", SOON, |status| {
        ready();
        partitions(status).all(|it| it["topic"] == stable)
    });
    load.stop();
    wait_until_copied(&daemon, source, &stable, SOON);
    assert_same_digest(source, target, &stable);
    let log = daemon.log();
    assert!(!log.contains("ERROR"), "{log}");
    for topic in fleeting.iter().step_by(2) {
        let told = log
            .lines()
            .filter(|line| line.contains("was deleted") && line.contains(&format!("{topic}\"")));
        assert_eq!(told.count(), 1, "{topic} is said once\n{log}");
        let copy = oracle::end_offsets(&target.bootstrap(), topic, Isolation::ReadCommitted);
        assert!(copy.iter().sum::<i64>() >= 50, "the copy stays: {copy:?}");
    }
    // One that comes back is another topic.
    source.create_topic(&fleeting[0], 2, &[]);
    load::fill(&source.bootstrap(), &fleeting[0], 2, 10, 100, "none");
    daemon.wait_for("it is noticed by its id", SOON, |status| {
        is_stopped_for(status, &fleeting[0], 0, "halted", "S303 source_recreated")
    });
}

#[test]
fn records_behind_an_open_transaction_are_named_beside_a_lag_of_zero() {
    let Pair { source, target } = pair();
    let topic = unique("open");
    source.create_topic(&topic, 1, &[]);
    load::fill(&source.bootstrap(), &topic, 1, 20, 100, "none");
    let daemon = daemon(topology(&topic, &[&topic], ""));
    wait_until_copied(&daemon, source, &topic, SOON);
    let end = oracle::end_offsets(&source.bootstrap(), &topic, Isolation::ReadCommitted)[0];
    let record = |number| NewRecord::new(&topic, 0, &format!("open-{number}"), "v");
    let mut steps = vec![Step::Begin];
    steps.extend((0..5).map(|number| Step::Send(record(number))));
    oracle::transaction(&source.bootstrap(), &topic, &steps);
    let behind: Vec<_> = (5..105).map(record).collect();
    oracle::produce(&source.bootstrap(), &behind, "none");
    daemon.wait_for("what waits is named", SOON, |status| {
        let flow = flow(status);
        partition(status, &topic, 0).is_some_and(|it| {
            it["lag_records"] == 0
                && it["source_end_offset"] == end
                && it["source_high_watermark"] == end + 105
                && it["uncommitted_records"] == 105
                && it["open_transaction_seconds"]
                    .as_f64()
                    .is_some_and(|open| 2.0 <= open)
        }) && flow["uncommitted_records"] == 105
            && flow["open_transaction_seconds"].is_number()
    });
    let series = format!(
        "causeway_uncommitted_records{{topology=\"{topic}\",flow=\"seoul->busan\",topic=\"{topic}\",partition=\"0\"}}"
    );
    wait_until("the metric says so", SOON, || {
        metric(&daemon, &series) == Some(105.0)
    });
    oracle::transaction(&source.bootstrap(), &topic, &[Step::Commit]);
    wait_until_copied(&daemon, source, &topic, SOON);
    daemon.wait_for("nothing waits any more", SOON, |status| {
        partition(status, &topic, 0)
            .is_some_and(|it| it["uncommitted_records"] == 0 && it["open_transaction_seconds"].is_null())
    });
    assert_same(source, target, &topic, &topic);
}

/// Some certificate; nobody has to trust it.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBejCCAR+gAwIBAgIUJnaNjT2/rnEausIr/MO6DoYBIMEwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGbm9ib2R5MCAXDTI2MTEyNTE0MjIzOFoYDzIxMjYxMTAxMTQy
MjM4WjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAQ7BhyypJj7Bc/g020ENUJ3i6g2zn8pSMj7OTHBf4N8Rbl8UsO0gi8SD9yPkjNO
e96LNHT2jxL6bmemJ+r/YRsSo1MwUTAdBgNVHQ4EFgQUglXsWhTVu8sD/q1jKQKf
6Wj2WmYwHwYDVR0jBBgwFoAUglXsWhTVu8sD/q1jKQKf6Wj2WmYwDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEA5LX759ZWuUuE9KOLEvjF1n8+UX+F
k3N9x89sGZWXywsCIQD53A5KWh37bK6vGnbTy4Llp2mGBFr/8E2rm1HEg7+sIQ==
-----END CERTIFICATE-----
";
