//! The config syncer between two real clusters; the Java client is the witness.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use causeway::copy::assignment::FlowLead;
use causeway::error::Side;
use causeway::kafka::ClusterAlias;
use causeway::kafka::admin::Admin;
use causeway::names::replication_policy::{HeartbeatTopics, ReplicationPolicy, Selection};
use causeway::services::config_sync::plan::{Change, Plan};
use causeway::services::config_sync::{self, Origins, Pass, Syncer};
use causeway::topology::{
    Compression, ConfigSyncSpec, Delivery, FlowId, FlowSpec, GapPolicy, HeartbeatSpec, MetadataSync,
    MirrorMakerSpec, OffsetSyncSpec, OnGap, Provenance, StartFrom, SyncMode, Throttle,
};
use regex::Regex;

use crate::harness::flow::connection;
use crate::harness::{oracle, pair, unique, wait_until};

const LONG: Duration = Duration::from_secs(30);

/// A flow that copies the topics starting with `prefix` under their remote names.
fn flow(prefix: &str, mode: SyncMode) -> FlowSpec {
    let pattern = format!("{prefix}-.*");
    FlowSpec {
        id: FlowId {
            topology: "test".into(),
            source: ClusterAlias::new("source"),
            target: ClusterAlias::new("target"),
        },
        aliases: Arc::new(["source", "target"].map(ClusterAlias::new).into()),
        topics: Selection {
            include: vec![(pattern.clone(), Regex::new(&format!("^(?:{pattern})$")).unwrap())],
            exclude: Vec::new(),
        },
        replication_policy: ReplicationPolicy::Default,
        provenance: Provenance::None,
        delivery: Delivery::ExactlyOnce,
        start_from: StartFrom::Earliest,
        on_gap: GapPolicy {
            default: OnGap::Halt,
            others: vec![],
        },
        tasks: 1,
        compression: Compression::Lz4,
        commit_interval: Duration::from_millis(500),
        throttle: Throttle::default(),
        config_sync: ConfigSyncSpec {
            interval: Duration::from_secs(5),
            mode,
            exclude: Vec::new(),
            replication_factor: None,
        },
        groups: Selection {
            include: Vec::new(),
            exclude: Vec::new(),
        },
        offset_sync: OffsetSyncSpec {
            interval: Duration::from_secs(5),
            write_groups: true,
            delete_groups: false,
            metadata: MetadataSync::Exact,
            checkpoints: true,
            offset_syncs: true,
            map_retention: Duration::from_secs(86_400),
            map_bytes: 1 << 20,
        },
        heartbeats: HeartbeatSpec {
            enabled: true,
            interval: Duration::from_secs(1),
            on_source: false,
        },
        heartbeat_topics: HeartbeatTopics::ByFilter,
        mirror_maker: MirrorMakerSpec::dedicated(&ClusterAlias::new("source")),
    }
}

fn target_admin() -> Admin {
    Admin::new(&connection("target", &pair().target), "test", Side::Target).unwrap()
}

fn syncer(prefix: &str, mode: SyncMode) -> Syncer {
    let source = Admin::new(&connection("source", &pair().source), "test", Side::Source).unwrap();
    let origins = Origins::new(connection("source", &pair().source));
    Syncer::new(
        Arc::new(source),
        Arc::new(target_admin()),
        origins,
        flow(prefix, mode),
    )
}

/// Creates on the source and waits until the listing shows it.
fn create(syncer: &mut Syncer, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
    pair().source.create_topic(topic, partitions, configs);
    wait_until("the source lists the topic", LONG, || {
        syncer.pass(None).unwrap().reading.topics.contains_key(topic)
    });
}

/// Passes until one finds nothing to do.
fn converge(syncer: &mut Syncer) {
    wait_until("an empty plan", LONG, || {
        let pass = syncer.pass(Some(FlowLead::assumed())).unwrap();
        assert_eq!(errors(&pass), Vec::<String>::new());
        pass.plan.changes.is_empty()
    });
}

fn errors(pass: &Pass) -> Vec<String> {
    let applied = pass.applied.iter().flat_map(|applied| &applied.errors);
    pass.plan.errors.iter().chain(applied).cloned().collect()
}

fn remote(topic: &str) -> String {
    format!("source.{topic}")
}

fn target_configs(topic: &str) -> BTreeMap<String, String> {
    oracle::topic_configs(&pair().target.bootstrap(), topic)
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn thirty_topics_are_created_in_one_pass_and_the_next_has_nothing_to_do() {
    let prefix = unique("thirty");
    let mut syncer = syncer(&prefix, SyncMode::Apply);
    let topics: Vec<String> = (0..30).map(|i| format!("{prefix}-{i}")).collect();
    for (i, topic) in (1..).zip(&topics) {
        let retention = (i * 1_000).to_string();
        let configs = [
            ("cleanup.policy", "compact,delete"),
            ("retention.ms", retention.as_str()),
        ];
        pair().source.create_topic(topic, i % 5 + 1, &configs);
    }
    wait_until("the source lists all", LONG, || {
        syncer.pass(None).unwrap().reading.source.len() == 30
    });

    let pass = syncer.pass(Some(FlowLead::assumed())).unwrap();
    assert_eq!(errors(&pass), Vec::<String>::new());
    assert_eq!(pass.applied.unwrap().changed, pass.plan.changes);
    assert_eq!(pass.plan.changes.len(), 30);
    wait_until("the target lists all", LONG, || {
        syncer.pass(None).unwrap().reading.target.len() == 30
    });
    let second = syncer.pass(Some(FlowLead::assumed())).unwrap();
    assert_eq!(second.plan, Plan::default());

    for (i, topic) in (1..).zip(&topics) {
        let description = oracle::describe_topic(&pair().target.bootstrap(), &remote(topic));
        assert_eq!(description.partitions, i % 5 + 1);
        let retention = (i * 1_000).to_string();
        let expected = texts(&[("cleanup.policy", "compact,delete"), ("retention.ms", &retention)]);
        assert_eq!(target_configs(&remote(topic)), expected);
    }
}

#[test]
fn a_topic_that_grows_grows_on_the_target() {
    let prefix = unique("growing");
    let topic = format!("{prefix}-t");
    let mut syncer = syncer(&prefix, SyncMode::Apply);
    create(&mut syncer, &topic, 2, &[]);
    converge(&mut syncer);
    pair().source.grow_topic(&topic, 6);
    wait_until("the target has six partitions", LONG, || {
        assert_eq!(
            errors(&syncer.pass(Some(FlowLead::assumed())).unwrap()),
            Vec::<String>::new()
        );
        oracle::describe_topic(&pair().target.bootstrap(), &remote(&topic)).partitions == 6
    });
}

#[test]
fn a_target_with_more_partitions_is_only_reported() {
    let prefix = unique("larger");
    let topic = format!("{prefix}-t");
    let mut syncer = syncer(&prefix, SyncMode::Apply);
    create(&mut syncer, &topic, 2, &[]);
    pair().target.create_topic(&remote(&topic), 3, &[]);
    wait_until("the difference is reported", LONG, || {
        let pass = syncer.pass(Some(FlowLead::assumed())).unwrap();
        pass.plan.changes.is_empty() && pass.plan.warnings.len() == 1
    });
    let partitions = oracle::describe_topic(&pair().target.bootstrap(), &remote(&topic)).partitions;
    assert_eq!(partitions, 3);
}

#[test]
fn settings_changed_and_removed_on_the_source_follow() {
    let prefix = unique("settings");
    let topic = format!("{prefix}-t");
    let mut syncer = syncer(&prefix, SyncMode::Apply);
    let before = [
        ("retention.ms", "1000"),
        ("segment.ms", "5000"),
        ("min.insync.replicas", "1"),
    ];
    create(&mut syncer, &topic, 1, &before);
    converge(&mut syncer);
    assert_eq!(
        target_configs(&remote(&topic)),
        texts(&[("retention.ms", "1000"), ("segment.ms", "5000")]),
        "min.insync.replicas belongs to the cluster"
    );
    let after = [("retention.ms", "2000"), ("max.message.bytes", "4096")];
    pair().source.alter_topic(&topic, &after, &["segment.ms"]);
    wait_until("the target follows", LONG, || {
        assert_eq!(
            errors(&syncer.pass(Some(FlowLead::assumed())).unwrap()),
            Vec::<String>::new()
        );
        target_configs(&remote(&topic)) == texts(&after)
    });
    converge(&mut syncer);
}

#[test]
fn a_restarted_syncer_still_removes_what_it_had_set() {
    let prefix = unique("restarted");
    let topic = format!("{prefix}-t");
    let mut first = syncer(&prefix, SyncMode::Apply);
    create(&mut first, &topic, 1, &[("retention.ms", "1000")]);
    converge(&mut first);
    drop(first);
    let mut second = syncer(&prefix, SyncMode::Apply);
    converge(&mut second);
    pair().source.alter_topic(&topic, &[], &["retention.ms"]);
    wait_until("the target follows", LONG, || {
        assert_eq!(
            errors(&second.pass(Some(FlowLead::assumed())).unwrap()),
            Vec::<String>::new()
        );
        target_configs(&remote(&topic)).is_empty()
    });
}

#[test]
fn a_setting_removed_right_after_it_was_copied_is_removed_too() {
    let prefix = unique("short-lived");
    let topic = format!("{prefix}-t");
    let mut syncer = syncer(&prefix, SyncMode::Apply);
    create(&mut syncer, &topic, 1, &[("retention.ms", "1000")]);
    // No pass sees both sides equal: the second one finds the setting gone from the source.
    syncer.pass(Some(FlowLead::assumed())).unwrap();
    pair().source.alter_topic(&topic, &[], &["retention.ms"]);
    wait_until("the target follows", LONG, || {
        assert_eq!(
            errors(&syncer.pass(Some(FlowLead::assumed())).unwrap()),
            Vec::<String>::new()
        );
        target_configs(&remote(&topic)).is_empty()
    });
}

#[test]
fn drift_is_repaired_where_the_source_has_a_say_and_reported_elsewhere() {
    let prefix = unique("drift");
    let topic = format!("{prefix}-t");
    let mut syncer = syncer(&prefix, SyncMode::Apply);
    create(&mut syncer, &topic, 1, &[("retention.ms", "1000")]);
    converge(&mut syncer);
    let by_hand = [("retention.ms", "7"), ("segment.ms", "5000")];
    pair().target.alter_topic(&remote(&topic), &by_hand, &[]);
    let expected = texts(&[("retention.ms", "1000"), ("segment.ms", "5000")]);
    let mut last = None;
    wait_until("the drift is repaired", LONG, || {
        last = Some(syncer.pass(Some(FlowLead::assumed())).unwrap());
        target_configs(&remote(&topic)) == expected
    });
    let lines = last.unwrap().plan.warnings;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("segment.ms=5000 of its own"), "{lines:?}");
}

#[test]
fn in_mode_report_nothing_is_written() {
    let prefix = unique("report");
    let (there, missing) = (format!("{prefix}-there"), format!("{prefix}-missing"));
    let mut syncer = syncer(&prefix, SyncMode::Report);
    pair().target.create_topic(&remote(&there), 1, &[]);
    create(&mut syncer, &there, 2, &[("retention.ms", "1000")]);
    create(&mut syncer, &missing, 1, &[]);
    let lines = [
        format!("create source.{missing} partitions=1 replication_factor=1\n"),
        format!("grow source.{there} 1 -> 2\n"),
        format!("set source.{there} retention.ms=1000 (was -1)\n"),
    ];
    for _ in 0..2 {
        let pass = syncer.pass(Some(FlowLead::assumed())).unwrap();
        assert_eq!(pass.plan.to_string(), lines.concat());
        assert_eq!(pass.applied, None);
    }
    let bootstrap = pair().target.bootstrap();
    assert!(oracle::try_describe_topic(&bootstrap, &remote(&missing)).is_err());
    assert_eq!(oracle::describe_topic(&bootstrap, &remote(&there)).partitions, 1);
    assert_eq!(target_configs(&remote(&there)), BTreeMap::new());
}

#[test]
fn one_setting_the_target_refuses_holds_back_no_other() {
    let (old, new) = (unique("refusing-old"), unique("refusing-new"));
    pair().target.create_topic(&old, 1, &[]);
    let set = |key: &str, value: &str| Change::SetConfig {
        topic: old.clone(),
        key: key.into(),
        value: value.into(),
        was: None,
    };
    let plan = Plan {
        changes: vec![
            Change::CreateTopic {
                topic: new.clone(),
                partitions: 2,
                replication_factor: 1,
                configs: texts(&[
                    ("retention.ms", "1000"),
                    ("vendor.tier", "cold"),
                    ("segment.ms", "5000"),
                ]),
            },
            set("retention.ms", "1000"),
            set("segment.ms", "soon"),
            set("vendor.tier", "cold"),
            set("max.message.bytes", "4096"),
        ],
        ..Plan::default()
    };
    let applied = config_sync::apply(&target_admin(), &plan);
    assert_eq!(applied.errors.len(), 3, "{applied:#?}");
    for (line, start) in applied.errors.iter().zip([
        format!("set {new} vendor.tier=cold"),
        format!("set {old} segment.ms=soon"),
        format!("set {old} vendor.tier=cold"),
    ]) {
        let all = &applied.errors;
        assert!(all.iter().any(|l| l.starts_with(&start)), "{start} in {all:#?}");
        assert!(
            line.contains("T303") && line.contains("config_sync.exclude"),
            "{line}"
        );
    }
    assert_eq!(applied.changed.len(), 5, "{applied:#?}");
    wait_until("the others arrive", LONG, || {
        target_configs(&new) == texts(&[("retention.ms", "1000"), ("segment.ms", "5000")])
            && target_configs(&old) == texts(&[("retention.ms", "1000"), ("max.message.bytes", "4096")])
    });
    let partitions = oracle::describe_topic(&pair().target.bootstrap(), &new).partitions;
    assert_eq!(partitions, 2);
}

#[test]
fn topics_left_out_say_why() {
    let prefix = unique("left-out");
    let (copied, internal) = (format!("{prefix}-t"), format!("{prefix}-t.internal"));
    let mut syncer = syncer(&prefix, SyncMode::Apply);
    pair().source.create_topic(&internal, 1, &[]);
    create(&mut syncer, &copied, 1, &[]);
    let reading = syncer.pass(None).unwrap().reading;
    assert_eq!(reading.topics, [(copied.clone(), remote(&copied))].into());
    assert!(
        reading.excluded[&internal].to_string().contains("internal"),
        "{:?}",
        reading.excluded
    );
}

#[test]
fn a_topic_deleted_on_the_source_stays_on_the_target() {
    let prefix = unique("deleted");
    let topic = format!("{prefix}-t");
    let mut syncer = syncer(&prefix, SyncMode::Apply);
    create(&mut syncer, &topic, 1, &[]);
    converge(&mut syncer);
    pair().source.delete_topic(&topic);
    wait_until("the topic is no longer selected", LONG, || {
        let pass = syncer.pass(Some(FlowLead::assumed())).unwrap();
        assert_eq!(pass.plan, Plan::default());
        pass.reading.topics.is_empty()
    });
    oracle::describe_topic(&pair().target.bootstrap(), &remote(&topic));
}
