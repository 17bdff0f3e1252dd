//! What an operator gets wrong first: passwords, addresses, files. The daemon says what is wrong and what to
//! do, keeps running where waiting may help, and shows no secret.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::daemon::{Daemon, DaemonOptions, clusters_yaml};
use crate::harness::flow::{SOON, assert_same, topology, wait_until_copied};
use crate::harness::kafka::{SASL_PASSWORD, SASL_USER};
use crate::harness::{Cluster, ClusterOptions, Pair, free_port, load, pair, unique, wait_until};

const WRONG_PASSWORD: &str = "wrong-password";

/// A cluster that asks for a password.
fn guarded() -> &'static Cluster {
    static GUARDED: OnceLock<Cluster> = OnceLock::new();
    GUARDED.get_or_init(|| ClusterOptions::new("guarded").sasl().start())
}

/// The lines of a cluster of the config file that log in with the password in `$PASSWORD`.
fn with_password(alias: &str) -> String {
    let cluster = clusters_yaml(&[(alias, &guarded().sasl_bootstrap())]);
    format!(
        "{cluster}    security: {{ protocol: sasl_plaintext, mechanism: PLAIN, username: {SASL_USER}, password: \"${{PASSWORD}}\" }}\n"
    )
}

fn plain(alias: &str, bootstrap: &str) -> String {
    clusters_yaml(&[(alias, bootstrap)])
}

fn start(source: &str, target: &str, password: &str, topology: String) -> Daemon {
    let target = target.replacen("clusters:\n", "", 1);
    let mut options = DaemonOptions::new(format!("{source}{target}"), topology);
    options.env.push(("PASSWORD".to_owned(), password.to_owned()));
    Daemon::start(options)
}

/// A server that speaks HTTP, at an address where Kafka should be.
fn http_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 1024]);
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    address
}

#[test]
fn with_the_right_password_records_are_copied_from_and_to_a_guarded_cluster() {
    let Pair { source, target } = pair();
    let topic = unique("guarded");
    guarded().create_topic(&topic, 2, &[]);
    load::fill(&guarded().bootstrap(), &topic, 2, 500, 50, "none");
    let from = with_password("seoul");
    let daemon = start(
        &from,
        &plain("busan", &target.bootstrap()),
        SASL_PASSWORD,
        topology(&topic, &[&topic], ""),
    );
    wait_until_copied(&daemon, guarded(), &topic, SOON);
    assert_eq!(assert_same(guarded(), target, &topic, &topic), 500);

    let topic = unique("guarded");
    source.create_topic(&topic, 2, &[]);
    load::fill(&source.bootstrap(), &topic, 2, 500, 50, "none");
    let to = with_password("busan");
    let daemon = start(
        &plain("seoul", &source.bootstrap()),
        &to,
        SASL_PASSWORD,
        topology(&topic, &[&topic], ""),
    );
    wait_until_copied(&daemon, source, &topic, SOON);
    assert_eq!(assert_same(source, guarded(), &topic, &topic), 500);
    assert!(!daemon.log().contains(SASL_PASSWORD));
}

#[test]
fn a_cluster_that_cannot_be_used_is_named_with_its_reason_while_the_daemon_keeps_trying() {
    let Pair { source, target } = pair();
    let (source, target) = (
        plain("seoul", &source.bootstrap()),
        plain("busan", &target.bootstrap()),
    );
    let closed = format!("127.0.0.1:{}", free_port());
    let http = http_server();
    let cases = [
        (
            source.clone(),
            with_password("busan"),
            "T102 target_authentication_failed",
        ),
        (
            with_password("seoul"),
            target.clone(),
            "S102 source_authentication_failed",
        ),
        (source.clone(), plain("busan", &closed), "T101 target_unreachable"),
        (plain("seoul", &closed), target.clone(), "S101 source_unreachable"),
        (source, plain("busan", &http), "T101 target_unreachable"),
        (plain("seoul", &http), target, "S101 source_unreachable"),
    ];
    let daemons: Vec<_> = cases
        .iter()
        .map(|(source, target, _)| {
            let name = unique("unusable");
            start(source, target, WRONG_PASSWORD, topology(&name, &[&name], ""))
        })
        .collect();
    for (daemon, (.., expected)) in daemons.iter().zip(&cases) {
        daemon.wait_for(expected, SOON, |status| {
            let flow = &status["flows"][0];
            let reason = flow["reason"].as_str().unwrap_or_default();
            ["starting", "degraded"].contains(&flow["state"].as_str().unwrap_or_default())
                && reason.contains(expected)
                // The advice follows the observation.
                && reason.contains("; check ")
        });
        let (code, ready) = daemon.get("/ready").expect("it runs");
        assert_eq!(code, 503, "{ready}");
        assert!(ready.contains(expected), "{ready}");
        wait_until("the log says so", SOON, || {
            let log = daemon.log();
            log.lines()
                .any(|line| line.contains(expected) && line.contains("advice="))
        });
    }
    // Memory does not grow with the attempts.
    let rss = |daemon: &Daemon| daemon.rss_bytes();
    let before: Vec<u64> = daemons.iter().map(rss).collect();
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        assert!(daemons.iter().all(|daemon| daemon.process().is_running()));
        thread::sleep(Duration::from_millis(100));
    }
    for (daemon, before) in daemons.iter().zip(before) {
        assert!(
            daemon.rss_bytes() < before + (16 << 20),
            "{before} bytes, then {}",
            daemon.rss_bytes()
        );
        let (_, status) = daemon.get("/status").expect("it runs");
        let (_, metrics) = daemon.get("/metrics").expect("it runs");
        for (place, text) in [("log", daemon.log()), ("status", status), ("metrics", metrics)] {
            assert!(!text.contains(WRONG_PASSWORD), "the password is in the {place}");
        }
        assert_eq!(daemon.terminate(Duration::from_secs(20)), 0);
    }
}

#[test]
fn mistakes_in_files_are_all_told_with_their_places_before_anything_is_touched() {
    let config = "clusters:\n  seoul:\n    bootstrap_servers: 127.0.0.1:1\n    bootstrap: twice\n  busan:\n    bootstrap_servers: 127.0.0.1:1\n";
    let yaml = topology("mistakes", &["orders"], "  delivery: perhaps\n");
    let started = Instant::now();
    let daemon = Daemon::start(DaemonOptions::new(config, yaml));
    assert_eq!(daemon.process().wait(Duration::from_secs(10)), 2, "exit code");
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    let log = daemon.log();
    for place in ["config.yaml:4:", "topology-0.yaml:8:"] {
        assert!(log.contains(place), "{place} in:\n{log}");
    }
}
