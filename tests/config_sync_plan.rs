//! The plan of the config syncer against a model of the target. No broker.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use causeway::error::{Code, Error};
use causeway::kafka::TopicId;
use causeway::kafka::admin::{ConfigEntry, ConfigSource};
use causeway::services::config_sync::plan::{
    Change, EXCLUDED, OwnedKeys, Plan, Rules, TopicView, Views, plan,
};
use causeway::topology::{ConfigSyncSpec, SyncMode};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const USER_EXCLUDED: &str = "confluent.tier.enable";

fn spec(replication_factor: Option<i32>) -> ConfigSyncSpec {
    ConfigSyncSpec {
        interval: Duration::from_secs(5),
        mode: SyncMode::Apply,
        exclude: vec![r"confluent\..*".to_owned()],
        replication_factor,
    }
}

fn rules() -> Rules {
    Rules::new(&spec(None))
}

fn entry(value: &str, source: ConfigSource) -> ConfigEntry {
    ConfigEntry {
        value: Some(value.to_owned()),
        source,
        read_only: false,
        sensitive: false,
    }
}

/// A topic with these settings of its own.
fn topic(partitions: i32, own: &[(&str, &str)]) -> TopicView {
    TopicView {
        id: TopicId("AAAAAAAAAAAAAAAAAAAAAA".into()),
        partitions,
        replication_factor: 3,
        configs: own
            .iter()
            .map(|(key, value)| ((*key).to_owned(), entry(value, ConfigSource::DynamicTopic)))
            .collect(),
    }
}

/// Batches arrive as the flow compresses them: a limit that somebody raised for them is not taken back.
#[test]
fn a_larger_limit_of_the_targets_own_stays_and_one_of_ours_follows_the_source() {
    let topics = BTreeMap::from([("t".to_owned(), "t".to_owned())]);
    let limit = |value: Option<&str>| {
        let own: Vec<_> = value.iter().map(|value| ("max.message.bytes", *value)).collect();
        side(&[("t", topic(1, &own))])
    };
    let mut owned = OwnedKeys::default();
    let mut pass = |source: Option<&str>, target: Option<&str>| -> (Vec<String>, usize) {
        let (source, target) = (limit(source), limit(target));
        owned.observe(&rules(), &topics, &source, &target);
        let plan = plan(&rules(), &topics, &source, &target, 3, &owned);
        owned.record(&plan.changes);
        (
            plan.changes.iter().map(ToString::to_string).collect(),
            plan.warnings.len(),
        )
    };
    let set = |value: &str, was: &str| (vec![format!("set t max.message.bytes={value} (was {was})")], 0);
    // Somebody's: larger stays, smaller does not.
    assert_eq!(pass(Some("1000"), Some("2000")), (vec![], 1));
    assert_eq!(pass(None, Some("2000")), (vec![], 1));
    assert_eq!(pass(Some("1000"), Some("900")), set("1000", "900"));
    // Ours follows both ways.
    assert_eq!(pass(Some("1000"), Some("1000")), (vec![], 0));
    assert_eq!(pass(Some("800"), Some("1000")), set("800", "1000"));
    assert_eq!(pass(Some("800"), Some("800")), (vec![], 0));
    // Raised by somebody, it is theirs, also when the source's goes.
    assert_eq!(pass(Some("800"), Some("5000")), (vec![], 1));
    assert_eq!(pass(None, Some("5000")), (vec![], 1));
    assert_eq!(pass(Some("6000"), Some("5000")), set("6000", "5000"));
    let gone = (vec!["delete t max.message.bytes (source default)".to_owned()], 0);
    assert_eq!(pass(None, Some("6000")), gone);
}

fn side(topics: &[(&str, TopicView)]) -> Views {
    topics
        .iter()
        .map(|(name, view)| ((*name).to_owned(), Ok(view.clone())))
        .collect()
}

/// `orders` → `seoul.orders`, for all topics of the source.
fn names(source: &Views) -> BTreeMap<String, String> {
    source
        .keys()
        .map(|name| (name.clone(), format!("seoul.{name}")))
        .collect()
}

/// The plan for one topic, as it is printed.
fn printed(source: TopicView, target: Option<TopicView>, owned: &OwnedKeys) -> String {
    let source = side(&[("orders", source)]);
    let target = target.map_or_else(Views::new, |view| side(&[("seoul.orders", view)]));
    plan(&rules(), &names(&source), &source, &target, 3, owned).to_string()
}

/// What Kafka does with a change.
fn apply(target: &mut Views, change: &Change) {
    let view = |target: &mut Views, topic: &str| -> TopicView { target[topic].clone().unwrap() };
    let mut changed;
    match change {
        Change::CreateTopic {
            topic: name,
            partitions,
            replication_factor,
            configs,
        } => {
            assert!(!target.contains_key(name), "{name} exists");
            changed = topic(*partitions, &[]);
            changed.replication_factor = *replication_factor;
            changed.configs = configs
                .iter()
                .map(|(key, value)| (key.clone(), entry(value, ConfigSource::DynamicTopic)))
                .collect();
        }
        Change::GrowPartitions { topic, from, to } => {
            changed = view(target, topic);
            assert!(changed.partitions == *from && from < to, "{change}");
            changed.partitions = *to;
        }
        Change::SetConfig {
            topic, key, value, ..
        } => {
            changed = view(target, topic);
            changed
                .configs
                .insert(key.clone(), entry(value, ConfigSource::DynamicTopic));
        }
        Change::DeleteConfig { topic, key } => {
            changed = view(target, topic);
            changed
                .configs
                .insert(key.clone(), entry("default", ConfigSource::Default));
        }
    }
    target.insert(change.topic().to_owned(), Ok(changed));
}

#[test]
fn a_missing_topic_is_created_with_the_partitions_and_settings_of_the_source() {
    let mut source = topic(12, &[("cleanup.policy", "compact"), ("retention.ms", "1000")]);
    let broker_default = entry("86400000", ConfigSource::DynamicBroker);
    source.configs.insert("segment.ms".into(), broker_default);
    assert_eq!(
        printed(source, None, &OwnedKeys::default()),
        "create seoul.orders partitions=12 replication_factor=3 cleanup.policy=compact retention.ms=1000\n"
    );
}

#[test]
fn the_replication_factor_is_capped_by_live_brokers_and_says_so() {
    let source = side(&[("orders", topic(1, &[]))]);
    let created = |spec: &ConfigSyncSpec, brokers| {
        let plan = plan(
            &Rules::new(spec),
            &names(&source),
            &source,
            &Views::new(),
            brokers,
            &OwnedKeys::default(),
        );
        (plan.changes[0].to_string(), plan.warnings.len())
    };
    let create = |factor| format!("create seoul.orders partitions=1 replication_factor={factor}");
    assert_eq!(created(&spec(None), 5), (create(3), 0), "the source's");
    assert_eq!(created(&spec(None), 2), (create(2), 1), "capped");
    assert_eq!(created(&spec(Some(1)), 5), (create(1), 0), "as configured");
    assert_eq!(
        created(&spec(Some(5)), 4),
        (create(4), 1),
        "as configured, capped"
    );
}

#[test]
fn partitions_grow_and_are_never_taken_away() {
    let owned = OwnedKeys::default();
    assert_eq!(
        printed(topic(8, &[]), Some(topic(4, &[])), &owned),
        "grow seoul.orders 4 -> 8\n"
    );
    assert_eq!(
        printed(topic(4, &[]), Some(topic(8, &[])), &owned),
        "warning: seoul.orders: the target has 8 partitions and the source 4; partitions are never removed\n"
    );
}

#[test]
fn only_differing_settings_are_set_and_the_line_says_what_was_before() {
    let source = topic(1, &[("retention.ms", "1000"), ("cleanup.policy", "compact")]);
    let mut target = topic(1, &[("cleanup.policy", "compact")]);
    let default = entry("604800000", ConfigSource::Default);
    target.configs.insert("retention.ms".into(), default);
    assert_eq!(
        printed(source, Some(target), &OwnedKeys::default()),
        "set seoul.orders retention.ms=1000 (was 604800000)\n"
    );
}

#[test]
fn a_setting_of_the_targets_own_is_reported_and_kept() {
    assert_eq!(
        printed(
            topic(1, &[]),
            Some(topic(1, &[("retention.ms", "5")])),
            &OwnedKeys::default()
        ),
        "warning: seoul.orders: drift: the target has retention.ms=5 of its own\n"
    );
}

#[test]
fn a_setting_seen_equal_on_both_sides_is_removed_with_the_source() {
    let source = side(&[("orders", topic(1, &[("retention.ms", "5")]))]);
    let target = side(&[("seoul.orders", topic(1, &[("retention.ms", "5")]))]);
    let mut owned = OwnedKeys::default();
    owned.observe(&rules(), &names(&source), &source, &target);
    assert_eq!(
        printed(topic(1, &[]), Some(topic(1, &[("retention.ms", "5")])), &owned),
        "delete seoul.orders retention.ms (source default)\n"
    );
}

#[test]
fn a_setting_removed_from_the_target_is_no_longer_ours() {
    let source = side(&[("orders", topic(1, &[("retention.ms", "5")]))]);
    let equal = side(&[("seoul.orders", topic(1, &[("retention.ms", "5")]))]);
    let without = side(&[("orders", topic(1, &[]))]);
    let removed = side(&[("seoul.orders", topic(1, &[]))]);
    let mut owned = OwnedKeys::default();
    owned.observe(&rules(), &names(&source), &source, &equal);
    owned.observe(&rules(), &names(&source), &without, &removed);
    let line = printed(topic(1, &[]), Some(topic(1, &[("retention.ms", "7")])), &owned);
    assert!(line.starts_with("warning: "), "{line}");
}

#[test]
fn a_set_that_no_pass_has_seen_is_ours_all_the_same() {
    let mut owned = OwnedKeys::default();
    owned.record(&[Change::SetConfig {
        topic: "seoul.orders".into(),
        key: "retention.ms".into(),
        value: "5".into(),
        was: None,
    }]);
    let line = printed(topic(1, &[]), Some(topic(1, &[("retention.ms", "5")])), &owned);
    assert!(line.starts_with("delete "), "{line}");
}

#[test]
fn a_topic_that_cannot_be_read_stops_no_other_and_says_what_to_do() {
    let mut source = side(&[("good", topic(1, &[])), ("there", topic(1, &[]))]);
    source.insert(
        "secret".into(),
        Err(Error::new(Code::SourceNotAuthorized, "denied")),
    );
    let mut target = Views::new();
    target.insert(
        "seoul.there".into(),
        Err(Error::new(Code::TargetNotAuthorized, "denied")),
    );
    let plan = plan(
        &rules(),
        &names(&source),
        &source,
        &target,
        3,
        &OwnedKeys::default(),
    );
    assert_eq!(plan.changes.len(), 1);
    assert_eq!(plan.changes[0].topic(), "seoul.good");
    assert_eq!(plan.errors.len(), 2);
    assert!(plan.errors[0].starts_with("secret: S201 "), "{}", plan.errors[0]);
    assert!(
        plan.errors[1].starts_with("seoul.there: T201 "),
        "{}",
        plan.errors[1]
    );
    for (line, code) in plan
        .errors
        .iter()
        .zip([Code::SourceNotAuthorized, Code::TargetNotAuthorized])
    {
        assert!(line.ends_with(code.page().advice), "{line}");
    }
}

fn arb_entry() -> impl Strategy<Value = ConfigEntry> {
    use ConfigSource::*;
    let source = prop_oneof![
        4 => Just(DynamicTopic),
        1 => select(vec![DynamicBroker, StaticBroker, Default, Unknown]),
    ];
    (
        prop::option::weighted(0.9, "[a-c]"),
        source,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(value, source, read_only, sensitive)| ConfigEntry {
            value,
            source,
            read_only,
            sensitive,
        })
}

fn arb_topic() -> impl Strategy<Value = TopicView> {
    let keys = vec![
        "cleanup.policy",
        "retention.ms",
        "segment.ms",
        "max.message.bytes",
        EXCLUDED[3],
        EXCLUDED[4],
        USER_EXCLUDED,
    ];
    (
        1..5,
        1..4,
        prop::collection::btree_map(select(keys), arb_entry(), 0..7),
    )
        .prop_map(|(partitions, replication_factor, configs)| TopicView {
            id: TopicId("AAAAAAAAAAAAAAAAAAAAAA".into()),
            partitions,
            replication_factor,
            configs: configs.into_iter().map(|(key, e)| (key.to_owned(), e)).collect(),
        })
}

/// Any source, and a target that has some of its topics in any state.
fn arb_sides() -> impl Strategy<Value = (Views, Views)> {
    prop::collection::btree_map("[a-e]", (arb_topic(), prop::option::of(arb_topic())), 0..5).prop_map(
        |topics| {
            let mut sides = (Views::new(), Views::new());
            for (name, (source, target)) in topics {
                if let Some(target) = target {
                    sides.1.insert(format!("seoul.{name}"), Ok(target));
                }
                sides.0.insert(name, Ok(source));
            }
            sides
        },
    )
}

/// The settings that must arrive, said once more and differently than the plan does.
fn must_arrive(key: &str, entry: &ConfigEntry) -> bool {
    entry.source == ConfigSource::DynamicTopic
        && !entry.sensitive
        && !entry.read_only
        && entry.value.is_some()
        && key != USER_EXCLUDED
        && !key.starts_with("message.timestamp")
        && key != "min.insync.replicas"
}

/// A target whose own read-only or sensitive entries cannot be in the way.
fn writable(mut target: Views) -> Views {
    for view in target.values_mut().flatten() {
        for entry in view.configs.values_mut() {
            (entry.read_only, entry.sensitive) = (false, false);
            entry.value.get_or_insert_with(|| "a".to_owned());
        }
    }
    target
}

/// One pass over the model: observe, plan, apply what `succeeds` lets through.
fn pass(
    source: &Views,
    target: &mut Views,
    owned: &mut OwnedKeys,
    mut succeeds: impl FnMut() -> bool,
) -> Plan {
    owned.observe(&rules(), &names(source), source, target);
    let plan = plan(&rules(), &names(source), source, target, 3, owned);
    for change in plan.changes.iter().filter(|_| succeeds()) {
        apply(target, change);
        owned.record(std::slice::from_ref(change));
    }
    plan
}

fn follows(source: &Views, target: &Views) -> std::result::Result<(), TestCaseError> {
    for (name, view) in source {
        let view = view.as_ref().unwrap();
        let remote = target[&format!("seoul.{name}")].as_ref().unwrap();
        prop_assert!(remote.partitions >= view.partitions);
        for (key, entry) in view.configs.iter().filter(|(key, e)| must_arrive(key, e)) {
            prop_assert_eq!(&remote.configs[key].value, &entry.value);
            prop_assert_eq!(remote.configs[key].source, ConfigSource::DynamicTopic);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_applied_plan_makes_the_target_follow_and_the_next_plan_is_empty((source, target) in arb_sides()) {
        let (mut target, mut owned) = (writable(target), OwnedKeys::default());
        pass(&source, &mut target, &mut owned, || true);
        follows(&source, &target)?;
        let second = pass(&source, &mut target, &mut owned, || true);
        prop_assert_eq!(second.changes, vec![]);
    }

    #[test]
    fn whatever_fails_in_one_pass_is_done_by_the_next(
        (source, target) in arb_sides(),
        luck in prop::collection::vec(any::<bool>(), 40),
    ) {
        let (mut target, mut owned) = (writable(target), OwnedKeys::default());
        let mut luck = luck.into_iter().cycle();
        pass(&source, &mut target, &mut owned, || luck.next().unwrap());
        pass(&source, &mut target, &mut owned, || true);
        follows(&source, &target)?;
        let third = pass(&source, &mut target, &mut owned, || true);
        prop_assert_eq!(third.changes, vec![]);
    }

    #[test]
    fn excluded_settings_are_neither_changed_nor_reported((source, target) in arb_sides()) {
        let plan = plan(&rules(), &names(&source), &source, &target, 3, &OwnedKeys::default());
        let text = plan.to_string();
        for key in [EXCLUDED[3], EXCLUDED[4], USER_EXCLUDED] {
            prop_assert!(!text.contains(key), "{}", text);
        }
    }

    #[test]
    fn the_order_of_the_changes_does_not_matter(
        ((source, target), order) in arb_sides().prop_flat_map(|(source, target)| {
            let target = writable(target);
            let plan = plan(&rules(), &names(&source), &source, &target, 3, &OwnedKeys::default());
            let len = plan.changes.len();
            let shuffled = subsequence(plan.changes, len).prop_shuffle();
            (Just((source, target)), shuffled)
        })
    ) {
        let (mut planned, mut shuffled) = (target.clone(), target.clone());
        pass(&source, &mut planned, &mut OwnedKeys::default(), || true);
        for change in &order {
            apply(&mut shuffled, change);
        }
        prop_assert_eq!(shuffled, planned);
    }

    #[test]
    fn nothing_of_the_targets_own_is_ever_deleted((source, target) in arb_sides()) {
        let plan = plan(&rules(), &names(&source), &source, &target, 3, &OwnedKeys::default());
        for change in &plan.changes {
            prop_assert!(!matches!(change, Change::DeleteConfig { .. }), "{}", change);
        }
    }

    #[test]
    fn what_the_source_gives_up_the_target_gives_up((source, target) in arb_sides()) {
        let (mut target, mut owned) = (writable(target), OwnedKeys::default());
        pass(&source, &mut target, &mut owned, || true);
        let mut bare = source.clone();
        for view in bare.values_mut().flatten() {
            view.configs.clear();
        }
        pass(&bare, &mut target, &mut owned, || true);
        for (name, view) in &source {
            let remote = target[&format!("seoul.{name}")].as_ref().unwrap();
            for (key, _) in view.as_ref().unwrap().configs.iter().filter(|(key, e)| must_arrive(key, e)) {
                prop_assert_eq!(remote.configs[key].source, ConfigSource::Default);
            }
        }
        let third = pass(&bare, &mut target, &mut owned, || true);
        prop_assert_eq!(third.changes, vec![]);
    }
}
