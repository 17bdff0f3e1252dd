//! Every administration call against real brokers, and its errors.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use causeway::error::{Code, Error, Side};
use causeway::kafka::admin::{Admin, ConfigOp, ConfigSource, NewTopic, OffsetSpec};
use causeway::kafka::client::{ClusterConnection, Secret};
use causeway::kafka::{ClusterAlias, TopicPartition};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::harness::flow::connection;
use crate::harness::kafka::{SASL_PASSWORD, SASL_USER};
use crate::harness::oracle;
use crate::harness::{ClusterOptions, often_fenced, pair, unique, wait_for, wait_until};

/// Generous: the machine may be busy.
const LONG: Duration = Duration::from_secs(30);

fn target() -> ClusterConnection {
    connection("target", &pair().target)
}

fn admin() -> Admin {
    Admin::new(&target(), "test", Side::Target).unwrap()
}

fn topic(name: &str, partitions: i32) -> NewTopic {
    NewTopic {
        name: name.into(),
        partitions,
        replication_factor: 1,
        configs: BTreeMap::new(),
    }
}

fn create(admin: &Admin, topic: NewTopic) {
    let name = topic.name.clone();
    assert_eq!(
        admin.create_topics(&[topic], LONG).unwrap(),
        [(name.clone(), Ok(()))].into()
    );
    wait_until("the topic is listed", LONG, || {
        admin.list_topics(LONG).unwrap().contains_key(&name)
    });
}

fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", target().bootstrap_servers);
    config
}

fn produce(topic: &str, timestamps: &[i64]) {
    let producer: BaseProducer = client().create().unwrap();
    for timestamp in timestamps {
        let record = BaseRecord::<str, str>::to(topic)
            .partition(0)
            .payload("x")
            .timestamp(*timestamp);
        producer.send(record).map_err(|(e, _)| e).unwrap();
    }
    producer.flush(LONG).unwrap();
}

#[test]
fn the_cluster_tells_its_id_and_its_live_brokers() {
    let admin = admin();
    assert_eq!(admin.cluster_id(), None, "nobody has been asked yet");
    assert_eq!(admin.brokers(LONG).unwrap(), 1);
    assert_eq!(admin.cluster_id(), Some(pair().target.cluster_id()));
}

#[test]
fn a_created_topic_has_the_partitions_and_settings_asked_for() {
    let admin = admin();
    let name = unique("created");
    let configs = [("retention.ms".to_owned(), "1000".to_owned())].into();
    create(
        &admin,
        NewTopic {
            configs,
            ..topic(&name, 3)
        },
    );

    assert_eq!(admin.list_topics(LONG).unwrap()[&name], 3);
    let description = admin
        .describe_topics(&[&name], LONG)
        .unwrap()
        .remove(&name)
        .unwrap()
        .unwrap();
    assert_eq!(description.partitions, 3);
    assert_eq!(description.replication_factor, 1);
    let witness = oracle::describe_topic(&pair().target.bootstrap(), &name);
    assert_eq!(description.id.to_string(), witness.topic_id);

    let configs = admin
        .describe_configs(&[&name], LONG)
        .unwrap()
        .remove(&name)
        .unwrap()
        .unwrap();
    assert_eq!(configs["retention.ms"].value.as_deref(), Some("1000"));
    assert_eq!(configs["retention.ms"].source, ConfigSource::DynamicTopic);
    assert_eq!(configs["cleanup.policy"].value.as_deref(), Some("delete"));
    assert_eq!(configs["cleanup.policy"].source, ConfigSource::Default);
    assert!(!configs["retention.ms"].read_only && !configs["retention.ms"].sensitive);
}

#[test]
fn creating_a_topic_that_exists_succeeds_and_changes_nothing() {
    let admin = admin();
    let name = unique("exists");
    create(&admin, topic(&name, 2));
    assert_eq!(
        admin.create_topics(&[topic(&name, 5)], LONG).unwrap()[&name],
        Ok(())
    );
    assert_eq!(admin.list_topics(LONG).unwrap()[&name], 2);
}

#[test]
fn one_topic_that_cannot_be_created_does_not_hold_back_the_others() {
    let admin = admin();
    let (good, bad_setting, too_many_replicas, no_partitions) =
        (unique("good"), unique("bad"), unique("replicas"), unique("zero"));
    let mut unknown_setting = topic(&bad_setting, 1);
    unknown_setting
        .configs
        .insert("no.such.setting".into(), "1".into());
    let mut replicas = topic(&too_many_replicas, 1);
    replicas.replication_factor = 3;
    let topics = [
        unknown_setting,
        replicas,
        topic(&no_partitions, 0),
        topic("a name with spaces", 1),
        topic(&good, 1),
    ];
    let outcomes = admin.create_topics(&topics, LONG).unwrap();
    assert_eq!(outcomes.len(), 5);
    assert_eq!(outcomes[&good], Ok(()));
    for name in [
        &bad_setting,
        &too_many_replicas,
        &no_partitions,
        "a name with spaces",
    ] {
        let error = outcomes[name].as_ref().unwrap_err();
        assert_eq!(error.code, Code::TargetSettingRefused, "{error}");
        assert!(error.detail.contains(name), "{error}");
    }
}

#[test]
fn a_topic_grows_and_refuses_to_shrink() {
    let admin = admin();
    let name = unique("grows");
    create(&admin, topic(&name, 2));
    let grow = |total| {
        admin
            .grow_topics(&[(name.clone(), total)], LONG)
            .unwrap()
            .remove(&name)
            .unwrap()
    };
    assert_eq!(grow(4), Ok(()));
    wait_until("four partitions", LONG, || {
        admin.list_topics(LONG).unwrap()[&name] == 4
    });
    assert_eq!(grow(3).unwrap_err().code, Code::TargetSettingRefused);
    assert_eq!(grow(-1).unwrap_err().code, Code::TargetSettingRefused);
    let missing = unique("missing");
    let outcome = admin
        .grow_topics(&[(missing.clone(), 3)], LONG)
        .unwrap()
        .remove(&missing)
        .unwrap();
    assert_eq!(outcome.unwrap_err().code, Code::TargetTopicMissing);
}

#[test]
fn settings_are_changed_one_by_one_and_others_stay() {
    let admin = admin();
    let name = unique("altered");
    let configs = [
        ("retention.ms".to_owned(), "1000".to_owned()),
        ("segment.bytes".to_owned(), "2097152".to_owned()),
    ]
    .into();
    create(
        &admin,
        NewTopic {
            configs,
            ..topic(&name, 1)
        },
    );
    let ops = vec![
        ConfigOp::Set("max.message.bytes".into(), "5000".into()),
        ConfigOp::Delete("retention.ms".into()),
    ];
    assert_eq!(
        admin
            .incremental_alter_configs(&[(name.clone(), ops)].into(), LONG)
            .unwrap()[&name],
        Ok(())
    );
    let expected = [("max.message.bytes", "5000"), ("segment.bytes", "2097152")];
    let expected: BTreeMap<_, _> = expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    wait_until("the change is visible", LONG, || {
        oracle::topic_configs(&pair().target.bootstrap(), &name) == expected
    });
}

#[test]
fn an_invalid_value_fails_its_topic_only() {
    let admin = admin();
    let (good, bad) = (unique("good"), unique("bad"));
    create(&admin, topic(&good, 1));
    create(&admin, topic(&bad, 1));
    let changes = [
        (
            good.clone(),
            vec![ConfigOp::Set("retention.ms".into(), "1".into())],
        ),
        (
            bad.clone(),
            vec![ConfigOp::Set("retention.ms".into(), "soon".into())],
        ),
    ];
    let outcomes = admin.incremental_alter_configs(&changes.into(), LONG).unwrap();
    assert_eq!(outcomes[&good], Ok(()));
    let error = outcomes[&bad].as_ref().unwrap_err();
    assert_eq!(error.code, Code::TargetSettingRefused, "{error}");
    assert!(error.detail.contains("retention.ms"), "{error}");
}

#[test]
fn an_unknown_topic_is_an_error_of_its_own() {
    let admin = admin();
    let (known, unknown) = (unique("known"), unique("unknown"));
    create(&admin, topic(&known, 1));
    let topics = admin.describe_topics(&[&known, &unknown], LONG).unwrap();
    assert!(topics[&known].is_ok());
    assert_eq!(
        topics[&unknown].as_ref().unwrap_err().code,
        Code::TargetTopicMissing
    );
    let configs = admin.describe_configs(&[&known, &unknown], LONG).unwrap();
    assert!(configs[&known].is_ok());
    assert_eq!(
        configs[&unknown].as_ref().unwrap_err().code,
        Code::TargetTopicMissing
    );
}

#[test]
fn more_topics_than_fit_one_request_are_described() {
    let admin = admin();
    let known = unique("known");
    create(&admin, topic(&known, 1));
    let mut names: Vec<String> = (0..1_100).map(|i| format!("{known}-{i}")).collect();
    names.insert(700, known.clone());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let topics = admin.describe_topics(&names, LONG).unwrap();
    let configs = admin.describe_configs(&names, LONG).unwrap();
    assert_eq!((topics.len(), configs.len()), (1_101, 1_101));
    assert!(topics[&known].is_ok() && configs[&known].is_ok());
}

#[test]
fn nothing_asked_is_nothing_answered() {
    let admin = admin();
    assert!(admin.describe_topics(&[], LONG).unwrap().is_empty());
    assert!(admin.describe_configs(&[], LONG).unwrap().is_empty());
    assert!(admin.create_topics(&[], LONG).unwrap().is_empty());
    assert!(admin.grow_topics(&[], LONG).unwrap().is_empty());
    assert!(
        admin
            .incremental_alter_configs(&BTreeMap::new(), LONG)
            .unwrap()
            .is_empty()
    );
    assert!(admin.list_offsets(&[], true, LONG).unwrap().is_empty());
}

#[test]
fn a_topic_created_again_has_another_id() {
    let admin = admin();
    let name = unique("again");
    let id = || {
        admin
            .describe_topics(&[&name], LONG)
            .unwrap()
            .remove(&name)
            .unwrap()
            .ok()
            .map(|t| t.id)
    };
    create(&admin, topic(&name, 1));
    let first = wait_for("the topic is there", LONG, id);
    pair().target.delete_topic(&name);
    wait_until("the topic is gone", LONG, || id().is_none());
    create(&admin, topic(&name, 1));
    assert_ne!(wait_for("the topic is there again", LONG, id), first);
}

#[test]
fn offsets_are_listed_by_end_start_and_time_for_all_partitions_at_once() {
    let admin = admin();
    let name = unique("offsets");
    create(&admin, topic(&name, 2));
    produce(&name, &[1_000, 2_000, 3_000]);
    let at = |partition, spec, committed| {
        let wanted = (TopicPartition::new(name.as_str(), partition), spec);
        let offsets = admin
            .list_offsets(std::slice::from_ref(&wanted), committed, LONG)
            .unwrap();
        offsets[&wanted.0].clone()
    };
    assert_eq!(at(0, OffsetSpec::Earliest, true), Ok(0));
    assert_eq!(at(0, OffsetSpec::Latest, true), Ok(3));
    assert_eq!(at(0, OffsetSpec::Latest, false), Ok(3));
    assert_eq!(at(0, OffsetSpec::Timestamp(1_500), true), Ok(1));
    assert_eq!(
        at(0, OffsetSpec::Timestamp(9_000), true),
        Ok(3),
        "none so late: the end"
    );
    assert_eq!(
        at(1, OffsetSpec::Timestamp(0), true),
        Ok(0),
        "an empty partition: its end"
    );

    let missing = unique("missing");
    let wanted = [
        (TopicPartition::new(name.as_str(), 0), OffsetSpec::Latest),
        (TopicPartition::new(name.as_str(), 1), OffsetSpec::Latest),
        (TopicPartition::new(name.as_str(), 7), OffsetSpec::Latest),
        (TopicPartition::new(missing.as_str(), 0), OffsetSpec::Latest),
    ];
    let offsets = admin.list_offsets(&wanted, true, LONG).unwrap();
    assert_eq!(offsets[&wanted[0].0], Ok(3));
    assert_eq!(offsets[&wanted[1].0], Ok(0));
    for (partition, _) in &wanted[2..] {
        let error = offsets[partition].as_ref().unwrap_err();
        assert_eq!(error.code, Code::TargetTopicMissing, "{error}");
    }
}

#[test]
fn with_read_committed_the_end_is_before_an_open_transaction() {
    let admin = admin();
    let name = unique("open-transaction");
    create(&admin, topic(&name, 1));
    let producer: BaseProducer = client().set("transactional.id", &name).create().unwrap();
    producer.init_transactions(LONG).unwrap();
    producer.begin_transaction().unwrap();
    producer
        .send(BaseRecord::<str, str>::to(&name).payload("x"))
        .map_err(|(e, _)| e)
        .unwrap();
    producer.flush(LONG).unwrap();
    let partition = TopicPartition::new(name.as_str(), 0);
    let end = |committed| {
        let wanted = [(partition.clone(), OffsetSpec::Latest)];
        admin.list_offsets(&wanted, committed, LONG).unwrap()[&partition].clone()
    };
    assert_eq!(end(true), Ok(0));
    assert_eq!(end(false), Ok(1));
    producer.abort_transaction(LONG).unwrap();
}

#[test]
fn a_group_has_as_many_members_as_joined() {
    let admin = admin();
    let (group, name) = (unique("group"), unique("subscribed"));
    assert_eq!(
        admin.group_members(&group, LONG).unwrap().len(),
        0,
        "no such group"
    );
    create(&admin, topic(&name, 1));
    let consumer: BaseConsumer = client().set("group.id", &group).create().unwrap();
    consumer.subscribe(&[&name]).unwrap();
    wait_until("the member has joined", LONG, || {
        let _ = consumer.poll(Duration::from_millis(50));
        admin.group_members(&group, LONG).unwrap().len() == 1
    });
    drop(consumer);
    wait_until("the member has left", LONG, || {
        admin.group_members(&group, LONG).unwrap().is_empty()
    });
}

#[test]
fn a_cluster_that_does_not_answer_is_reported_within_the_timeout() {
    // Bound but never accepting in Kafka's protocol, and closed: two kinds of silence.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let silent = [
        (mute.local_addr().unwrap(), Side::Source, Code::SourceUnreachable),
        (closed, Side::Target, Code::TargetUnreachable),
    ];
    for (address, side, code) in silent {
        let mut connection = target();
        connection.alias = ClusterAlias::new("nowhere");
        connection.bootstrap_servers = address.to_string();
        let admin = Admin::new(&connection, "test", side).unwrap();
        let timeout = Duration::from_millis(300);
        let started = Instant::now();
        let partition = TopicPartition::new("t", 0);
        let errors = [
            admin.list_topics(timeout).unwrap_err(),
            admin.brokers(timeout).unwrap_err(),
            admin.describe_topics(&["t"], timeout).unwrap_err(),
            admin.describe_configs(&["t"], timeout).unwrap_err(),
            admin.create_topics(&[topic("t", 1)], timeout).unwrap_err(),
            admin
                .list_offsets(&[(partition, OffsetSpec::Latest)], true, timeout)
                .unwrap_err(),
            admin.group_members("g", timeout).unwrap_err(),
        ];
        let bound = 7 * (timeout + Duration::from_secs(3));
        assert!(started.elapsed() < bound, "{:?}", started.elapsed());
        for error in errors {
            assert_eq!(error.code, code, "{error}");
            assert!(error.detail.contains("nowhere"), "{error}");
        }
    }
}

#[test]
fn a_wrong_password_is_told_apart_from_a_cluster_that_is_away_and_is_not_shown() {
    let cluster = ClusterOptions::new("sasl").sasl().start();
    let admin = |bootstrap_servers: String, password: &str| {
        let mut connection = target();
        connection.bootstrap_servers = bootstrap_servers;
        for (key, value) in [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", SASL_USER),
            ("sasl.password", password),
        ] {
            connection.security.insert(key.into(), Secret::new(value));
        }
        Admin::new(&connection, "test", Side::Target).unwrap()
    };
    let right = admin(cluster.sasl_bootstrap(), SASL_PASSWORD);
    assert_eq!(right.brokers(LONG).unwrap(), 1);
    for refused in [
        admin(cluster.sasl_bootstrap(), "hunter2"),
        // A listener that does not know of passwords.
        admin(cluster.bootstrap(), "hunter2"),
    ] {
        for error in [
            refused.brokers(Duration::from_secs(2)).unwrap_err(),
            refused.list_topics(Duration::from_secs(2)).unwrap_err(),
        ] {
            assert_eq!(error.code, Code::TargetAuthentication, "{error}");
            assert!(!error.detail.contains("hunter2"), "{error}");
        }
    }
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_a_connection_complains_about_is_logged_with_its_cluster() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || writer.clone())
        .finish();
    // With a single subscriber, tracing asks that of the thread that comes first to a place that logs, and never again:
    // other tests log there, too, and have none.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let mut connection = target();
    connection.alias = ClusterAlias::new("nowhere");
    connection.bootstrap_servers = "127.0.0.1:1".into();
    let logged = || {
        let log = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        let line =
            |l: &str| l.contains("librdkafka:") && l.contains("cluster=nowhere") && l.contains("127.0.0.1:1");
        log.lines().any(line)
    };
    tracing::subscriber::with_default(subscriber, || {
        let admin = Admin::new(&connection, "test", Side::Target).unwrap();
        wait_until("the refused connection is logged", LONG, || {
            admin.brokers(Duration::from_millis(500)).unwrap_err();
            logged()
        });
    });
}

#[test]
fn a_property_librdkafka_does_not_know_is_refused_without_showing_its_value() {
    let mut connection = target();
    connection
        .security
        .insert("sasl.mechanisme".into(), Secret::new("hunter2"));
    let error = Admin::new(&connection, "test", Side::Target).unwrap_err();
    assert_eq!(error.code, Code::TargetAuthentication);
    assert!(
        error.detail.contains("sasl.mechanisme") && !error.detail.contains("hunter2"),
        "{error}"
    );
}

#[test]
fn a_cluster_that_names_no_broker_for_a_moment_is_unavailable_and_ends_no_process() {
    let cluster = often_fenced("fenced");
    let admin = Admin::new(&connection("fenced", &cluster), "test", Side::Target).unwrap();
    let timeout = Duration::from_millis(300);
    let partition = [(TopicPartition::new("t", 0), OffsetSpec::Latest)];
    // Every call of this kind meets such a moment.
    type Call<'a> = Box<dyn Fn() -> Option<Error> + 'a>;
    let mut calls: Vec<(&str, Call)> = vec![
        ("count brokers", Box::new(|| admin.brokers(timeout).err())),
        ("list topics", Box::new(|| admin.list_topics(timeout).err())),
        (
            "describe topics",
            Box::new(|| admin.describe_topics(&["t"], timeout).err()),
        ),
        (
            "describe configs",
            Box::new(|| admin.describe_configs(&["t"], timeout).err()),
        ),
        (
            "describe group",
            Box::new(|| admin.group_members("g", timeout).err()),
        ),
    ];
    let deadline = Instant::now() + LONG;
    while !calls.is_empty() && Instant::now() < deadline {
        calls.retain(|(what, call)| match call() {
            Some(error) => {
                assert!(
                    [Code::TargetUnavailable, Code::TargetUnreachable].contains(&error.code),
                    "{what}: {error}"
                );
                false
            }
            None => true,
        });
        let _ = (
            admin.list_groups(timeout),
            admin.list_offsets(&partition, true, timeout),
        );
    }
    let left: Vec<&str> = calls.iter().map(|(what, _)| *what).collect();
    assert_eq!(left, [""; 0], "these have never met a cluster without brokers");
    wait_until("the cluster answers again", LONG, || {
        admin.brokers(timeout) == Ok(1)
    });
}
