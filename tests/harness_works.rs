//! The harness itself: what every other test trusts.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::harness::kafka::{SASL_PASSWORD, SASL_USER};
use crate::harness::load::{self, Load};
use crate::harness::oracle::{self, Isolation, NewRecord, Step, TransactionalLoad};
use crate::harness::process::{Process, Scratch};
use crate::harness::{ClusterOptions, Resource, pair, unique, wait_until};

const SOON: Duration = Duration::from_secs(30);
const COMMITTED: Isolation = Isolation::ReadCommitted;
const UNCOMMITTED: Isolation = Isolation::ReadUncommitted;

/// A topic on the shared source cluster: its bootstrap servers and name.
fn topic(partitions: i32) -> (String, String) {
    let topic = unique("harness");
    pair().source.create_topic(&topic, partitions, &[]);
    (pair().source.bootstrap(), topic)
}

fn keys(bootstrap: &str, topic: &str, isolation: Isolation) -> Vec<String> {
    let text = |key: Option<Vec<u8>>| String::from_utf8(key.expect("a key")).expect("a text");
    oracle::dump(bootstrap, topic, isolation)
        .into_iter()
        .map(|record| text(record.key))
        .collect()
}

#[test]
fn the_shared_clusters_are_two() {
    let pair = pair();
    assert_ne!(pair.source.cluster_id(), pair.target.cluster_id());
}

#[test]
fn who_logs_in_to_a_cluster_with_rights_may_do_what_it_is_granted_until_it_is_denied() {
    let cluster = ClusterOptions::new("acls").acls().start();
    cluster.create_topic("orders", 1, &[]);
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.sasl_bootstrap())
        .set("security.protocol", "sasl_plaintext")
        .set("sasl.mechanism", "PLAIN")
        .set("sasl.username", SASL_USER)
        .set("sasl.password", SASL_PASSWORD)
        .create()
        .expect("a client");
    // Who may not describe a topic is not told that it is there.
    let sees = || {
        let metadata = client.fetch_metadata(Some("orders"), SOON).expect("it answers");
        metadata.topics()[0].error().is_none()
    };
    assert!(!sees());
    for resource in [Resource::topic("orders"), Resource::prefixed("Topic", "ord")] {
        cluster.grant(&resource, &["Describe", "DescribeConfigs"]);
        wait_until("it is granted", SOON, sees);
        cluster.deny(&resource, &["Describe"]);
        wait_until("it is denied", SOON, || !sees());
        cluster.revoke(&resource, &["Describe", "DescribeConfigs"]);
    }
    assert!(!sees());
}

#[test]
fn a_killed_cluster_comes_back_with_its_data_and_a_load_on_it_loses_and_repeats_nothing() {
    let cluster = ClusterOptions::new("killed").start();
    cluster.create_topic("orders", 3, &[]);
    let load = Load::start(&cluster.bootstrap(), "orders", 3, 2_000, 100);
    wait_until("a first part of the load", SOON, || load.acknowledged() > 1_000);
    cluster.kill9();
    assert!(oracle::try_cluster_id(&cluster.bootstrap(), Duration::from_secs(1)).is_err());
    let before = load.acknowledged();
    cluster.restart();
    wait_until("more of the load", SOON, || load.acknowledged() > before + 1_000);
    let written = load.stop();
    let digest = oracle::digest(&cluster.bootstrap(), "orders", COMMITTED);
    assert_eq!((digest.records, digest.distinct_keys), (written, written));

    cluster.terminate();
    cluster.restart();
    assert_eq!(oracle::digest(&cluster.bootstrap(), "orders", COMMITTED), digest);
}

#[test]
fn a_stopped_cluster_does_not_answer_until_it_goes_on() {
    let cluster = ClusterOptions::new("stopped").default_broker_settings().start();
    let ask = || oracle::try_cluster_id(&cluster.bootstrap(), Duration::from_secs(1));
    assert_eq!(ask(), Ok(cluster.cluster_id()));
    cluster.stop();
    assert!(ask().is_err());
    cluster.cont();
    wait_until("an answer", SOON, || ask().is_ok());
}

#[test]
fn the_sasl_listener_lets_in_the_right_password_only() {
    let cluster = ClusterOptions::new("sasl").sasl().start();
    let log_in = |password| {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", cluster.sasl_bootstrap())
            .set("security.protocol", "sasl_plaintext")
            .set("sasl.mechanism", "PLAIN")
            .set("sasl.username", SASL_USER)
            .set("sasl.password", password)
            .create()
            .unwrap();
        client.fetch_metadata(None, Duration::from_secs(3)).is_ok()
    };
    assert!(log_in(SASL_PASSWORD));
    assert!(!log_in("wrong-password"));
}

#[test]
fn the_oracle_keeps_null_apart_from_empty_and_the_order_of_headers() {
    let (bootstrap, topic) = topic(2);
    let header = |key: &str, value: Option<&str>| (key.to_owned(), value.map(|value| value.into()));
    let full = NewRecord {
        timestamp: Some(0),
        headers: vec![
            header("b", Some("2")),
            header("a", None),
            header("b", Some("")),
            header("키", Some("1")),
        ],
        ..NewRecord::new(&topic, 1, "key", "value")
    };
    let empty = NewRecord {
        key: Some(Vec::new()),
        value: Some(Vec::new()),
        ..NewRecord::new(&topic, 1, "", "")
    };
    let null = NewRecord {
        key: None,
        value: None,
        ..empty.clone()
    };
    let binary = NewRecord {
        value: Some(vec![0, 0xff, 0x80]),
        ..NewRecord::new(&topic, 0, "binary", "")
    };
    let written = [full, empty, null, binary];
    assert_eq!(oracle::produce(&bootstrap, &written, "lz4"), [0, 1, 2, 0]);

    let read = oracle::dump(&bootstrap, &topic, COMMITTED);
    let places: Vec<_> = read
        .iter()
        .map(|record| (record.partition, record.offset))
        .collect();
    assert_eq!(places, [(0, 0), (1, 0), (1, 1), (1, 2)]);
    for (record, expected) in read
        .iter()
        .zip([&written[3], &written[0], &written[1], &written[2]])
    {
        assert_eq!((&record.key, &record.value), (&expected.key, &expected.value));
        let headers: Vec<_> = expected
            .headers
            .iter()
            .map(|(key, value)| (key.clone().into_bytes(), value.clone()))
            .collect();
        assert_eq!(record.headers, headers);
        assert_eq!(record.timestamp_type, "CreateTime");
    }
    assert_eq!(read[1].timestamp, 0);
}

#[test]
fn aborted_and_open_transactions_show_under_read_uncommitted_only() {
    let (bootstrap, topic) = topic(1);
    let send = |key: &str| Step::Send(NewRecord::new(&topic, 0, key, "value"));
    let id = unique("transactional-id");
    let steps = [
        Step::Begin,
        send("committed"),
        Step::Commit,
        Step::Begin,
        send("aborted"),
        Step::Abort,
        Step::Begin,
        send("open"),
    ];
    // A marker takes an offset as well.
    assert_eq!(oracle::transaction(&bootstrap, &id, &steps), [0, 2, 4]);
    assert_eq!(keys(&bootstrap, &topic, COMMITTED), ["committed"]);
    assert_eq!(
        keys(&bootstrap, &topic, UNCOMMITTED),
        ["committed", "aborted", "open"]
    );
    assert_eq!(oracle::end_offsets(&bootstrap, &topic, COMMITTED), [4]);
    assert_eq!(oracle::end_offsets(&bootstrap, &topic, UNCOMMITTED), [5]);

    oracle::transaction(&bootstrap, &id, &[Step::Commit]);
    assert_eq!(keys(&bootstrap, &topic, COMMITTED), ["committed", "open"]);
    assert_eq!(oracle::end_offsets(&bootstrap, &topic, COMMITTED), [6]);
}

#[test]
fn a_transactional_load_aborts_what_it_was_asked_to() {
    let (bootstrap, topic) = topic(2);
    let load = oracle::transactional_load(&bootstrap, &topic, 2, 10, 20, 5, 10);
    let expected = TransactionalLoad {
        committed: 160,
        aborted: 40,
    };
    assert_eq!(load, expected);
    let digest = oracle::digest(&bootstrap, &topic, COMMITTED);
    assert_eq!((digest.records, digest.distinct_keys), (160, 160));
    assert_eq!(oracle::digest(&bootstrap, &topic, UNCOMMITTED).records, 200);
}

#[test]
fn a_digest_tells_order_and_repetition() {
    let write = |keys: &[&str]| {
        let (bootstrap, topic) = topic(1);
        let record = |key: &&str| NewRecord {
            timestamp: Some(1_000),
            ..NewRecord::new(&topic, 0, key, "value")
        };
        let records: Vec<_> = keys.iter().map(record).collect();
        oracle::produce(&bootstrap, &records, "none");
        oracle::digest(&bootstrap, &topic, COMMITTED)
    };
    let original = write(&["a", "b", "c"]);
    assert_eq!(original, write(&["a", "b", "c"]));
    assert_eq!((original.records, original.distinct_keys), (3, 3));
    assert_ne!(
        original.partitions[0].sha256,
        write(&["a", "c", "b"]).partitions[0].sha256
    );
    let repeated = write(&["a", "b", "b"]);
    assert_eq!((repeated.records, repeated.distinct_keys), (3, 2));
}

#[test]
fn a_large_fill_arrives_whole_over_all_partitions() {
    let (bootstrap, topic) = topic(4);
    load::fill(&bootstrap, &topic, 4, 200_000, 100, "lz4");
    let digest = oracle::digest(&bootstrap, &topic, COMMITTED);
    assert_eq!(
        (digest.records, digest.distinct_keys, digest.without_key),
        (200_000, 200_000, 0)
    );
    assert!(
        digest
            .partitions
            .iter()
            .all(|partition| partition.records == 50_000)
    );
}

#[test]
fn the_oracle_administers_topics_and_groups() {
    let cluster = &pair().target;
    let bootstrap = cluster.bootstrap();
    let topic = unique("administered");
    cluster.create_topic(&topic, 2, &[("retention.ms", "86400000")]);
    let created = oracle::describe_topic(&bootstrap, &topic);
    assert_eq!((created.partitions, created.replication_factor), (2, 1));
    assert!(oracle::topics(&bootstrap).contains(&topic));

    cluster.grow_topic(&topic, 3);
    wait_until("the third partition", SOON, || {
        oracle::describe_topic(&bootstrap, &topic).partitions == 3
    });
    cluster.alter_topic(&topic, &[("max.message.bytes", "2000000")], &["retention.ms"]);
    wait_until("the new settings", SOON, || {
        oracle::topic_configs(&bootstrap, &topic)
            == [("max.message.bytes".to_owned(), "2000000".to_owned())].into()
    });

    oracle::produce(
        &bootstrap,
        &[
            NewRecord::new(&topic, 1, "a", ""),
            NewRecord::new(&topic, 1, "b", ""),
        ],
        "none",
    );
    oracle::delete_records(&bootstrap, &topic, 1, 1);
    assert_eq!(oracle::start_offsets(&bootstrap, &topic), [0, 1, 0]);
    assert_eq!(keys(&bootstrap, &topic, COMMITTED), ["b"]);

    let group = unique("group");
    assert_eq!(oracle::group_offsets(&bootstrap, &group), []);
    oracle::set_group_offset(&bootstrap, &group, &topic, 1, 2);
    let positions = oracle::group_offsets(&bootstrap, &group);
    assert_eq!(
        (positions.len(), positions[0].partition, positions[0].offset),
        (1, 1, 2)
    );

    cluster.delete_topic(&topic);
    wait_until("the topic to go", SOON, || {
        oracle::try_describe_topic(&bootstrap, &topic).is_err()
    });
}

#[test]
fn a_process_tells_how_it_ended_and_what_it_said() {
    let scratch = Scratch::new("process");
    let shell = |script: &str, log: &str| {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .env("GREETING", "hello  there")
            .current_dir(scratch.path());
        Process::start(&command, &scratch.path().join(log))
    };
    let ended = shell(r#"echo "$GREETING"; pwd >&2; exit 7"#, "ended");
    assert_eq!(ended.wait(SOON), 7);
    assert_eq!(
        ended.log(),
        format!("hello  there\n{}\n", scratch.path().display())
    );
    assert!(!ended.is_running());

    let asked = shell(
        "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done",
        "asked",
    );
    wait_until("the trap", SOON, || asked.log() == "ready\n");
    assert!(asked.rss_bytes() > 0);
    asked.signal("STOP");
    asked.signal("CONT");
    asked.signal("TERM");
    assert_eq!(asked.wait(SOON), 3);

    let dropped = shell("exec sleep 1000", "dropped");
    let pid = dropped.pid();
    assert!(is_alive(pid));
    drop(dropped);
    assert!(!is_alive(pid));

    let path = scratch.path().to_owned();
    drop(scratch);
    assert!(!path.exists());
}

fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Set in the process that the next test kills.
const VICTIM: &str = "CAUSEWAY_TEST_VICTIM";

#[test]
fn nothing_outlives_a_test_process_that_is_killed() {
    let mut victim = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "harness_works::victim", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let guarded = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("guarded: ").map(str::to_owned))
        .unwrap();
    let [running, stopped, path] = guarded.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{guarded}");
    };
    let (running, stopped) = (running.parse().unwrap(), stopped.parse().unwrap());
    assert!(is_alive(running) && is_alive(stopped) && Path::new(path).exists());
    // SIGKILL
    victim.kill().unwrap();
    victim.wait().unwrap();
    wait_until("the processes to die", SOON, || {
        !is_alive(running) && !is_alive(stopped)
    });
    wait_until("the directory to go", SOON, || !Path::new(path).exists());
}

#[test]
#[ignore = "the victim of the test above, not a test"]
fn victim() {
    if env::var_os(VICTIM).is_none() {
        return;
    }
    let scratch = Scratch::new("victim");
    fs::write(scratch.path().join("file"), "content").unwrap();
    let sleep = || {
        let mut command = Command::new("sleep");
        Process::start(command.arg("1000"), &scratch.path().join("log"))
    };
    let (running, stopped) = (sleep(), sleep());
    stopped.signal("STOP");
    println!(
        "\nguarded: {} {} {}",
        running.pid(),
        stopped.pid(),
        scratch.path().display()
    );
    loop {
        thread::park();
    }
}
