//! Keys that no part of the translation has asked for, judged by their names.

use crate::import::input::{Cluster, Flow, Id, Sheet, is_security};
use crate::import::verdicts::Class;

/// Why settings of Connect's workers are gone.
pub const WORKER_GONE: &str =
    "about Kafka Connect's workers; causeway has none and keeps its state on the target by itself";

/// Keys that several connectors of a flow must give alike; the source connector's count.
const SHARED: &[&str] = &[
    "topics",
    "topics.exclude",
    "topics.blacklist",
    "topic.filter.class",
    "replication.policy.class",
    "replication.policy.separator",
    "replication.policy.internal.topic.separator.enabled",
    "offset-syncs.topic.location",
    "emit.offset-syncs.enabled",
];

/// Says of keys that several connectors give alike that they are the same.
pub fn shared(flow: &Flow, sheet: &mut Sheet) {
    for other in flow.connectors().skip(1) {
        for key in SHARED {
            if let (Some(first), Some(id)) = (flow.records.get(*key), other.get(*key)) {
                sheet.same(*first, *id);
            }
        }
    }
}

/// What no flow has asked of a cluster.
pub fn of_cluster(cluster: &Cluster, sheet: &mut Sheet) {
    for (key, id) in &cluster.worker {
        if sheet.is_settled(*id) {
        } else if key == "exactly.once.source.support" {
            sheet.gone(*id, "no flow writes to this cluster");
        } else if is_converter(key) {
            converter(*id, sheet);
        } else if worker_key(key) {
            sheet.gone(*id, WORKER_GONE);
        } else if leftover(key).is_some() || CONNECTOR.contains(&key.as_str()) {
            sheet.gone(*id, "MirrorMaker 2 does not read it at a cluster; it belongs to the top level or to `source->target.`");
        }
    }
    for (keys, text) in [
        (&cluster.consumer, "no flow reads from this cluster"),
        (&cluster.producer, "no flow writes to this cluster"),
        (
            &cluster.admin,
            "causeway's own administration needs no tuning; `client:` is for every client of a cluster",
        ),
    ] {
        for id in keys.values() {
            if !sheet.is_settled(*id) {
                sheet.gone(*id, text);
            }
        }
    }
}

fn is_converter(key: &str) -> bool {
    let kinds = ["key.converter", "value.converter", "header.converter"];
    kinds.iter().any(|it| key.ends_with(it))
}

fn converter(id: Id, sheet: &mut Sheet) {
    match sheet.value(id).trim().ends_with("ByteArrayConverter") {
        true => sheet.carried(id, "keys, values and headers are copied as bytes"),
        false => {
            let text = "keys, values and headers are copied as bytes, never converted";
            sheet.decide(id, Class::NoEquivalent, text);
        }
    }
}

/// What the flow's connectors say besides.
pub fn of_flow(flow: &Flow, sheet: &mut Sheet) {
    for (number, keys) in flow.connectors().enumerate() {
        for (key, id) in keys {
            if !sheet.is_settled(*id) {
                of_connector(key, *id, 0 < number, sheet);
            }
        }
    }
}

/// `beside`: of another connector than the source connector.
fn of_connector(key: &str, id: Id, beside: bool, sheet: &mut Sheet) {
    if beside && SHARED.contains(&key) {
        let text = "the source connector of the flow does not say so, and it counts";
        sheet.gone(id, text);
    } else if beside && key == "tasks.max" {
        sheet.gone(id, "one task of the flow does this work");
    } else if is_converter(key) {
        converter(id, sheet);
    } else if let Some((default, text)) = plug_in(key) {
        let is_default = sheet.value(id).trim().rsplit('.').next() == Some(default);
        match is_default {
            true => sheet.carried(id, "MirrorMaker 2's own class; causeway does what it does"),
            false => sheet.decide(id, Class::NoEquivalent, text),
        }
    } else if let Some(text) = leftover(key) {
        let decide = CHANGES_RECORDS.iter().any(|it| key.starts_with(it));
        sheet.mark(id, Class::NoEquivalent, decide, text.to_owned());
    } else if worker_key(key) {
        sheet.gone(id, WORKER_GONE);
    } else if CONNECTOR.contains(&key) {
        let text = "this connector of MirrorMaker 2 does not read it, or another spelling of it counts";
        sheet.gone(id, text);
    }
}

/// Classes that MM2 lets users replace: the default one, and what a replacement means.
fn plug_in(key: &str) -> Option<(&'static str, &'static str)> {
    Some(match key {
        "topic.filter.class" => (
            "DefaultTopicFilter",
            "Java code cannot run in causeway: other topics would be copied; say it in `topics`",
        ),
        "group.filter.class" => (
            "DefaultGroupFilter",
            "Java code cannot run in causeway: other groups would be translated; say it in `groups`",
        ),
        "config.property.filter.class" => (
            "DefaultConfigPropertyFilter",
            "Java code cannot run in causeway: other settings would be copied; say it in config_sync.exclude",
        ),
        "forwarding.admin.class" => (
            "ForwardingAdmin",
            "Java code cannot run in causeway, which creates topics on the target itself; with config_sync.mode: report it only shows what is missing",
        ),
        _ => return None,
    })
}

/// Keys of MM2 that the translation reads; here they are of a connector that does not.
const CONNECTOR: &[&str] = &[
    "emit.checkpoints.enabled",
    "emit.checkpoints.interval.seconds",
    "emit.heartbeats.enabled",
    "emit.heartbeats.interval.seconds",
    "emit.offset-syncs.enabled",
    "groups",
    "groups.blacklist",
    "groups.exclude",
    "config.properties.blacklist",
    "config.properties.exclude",
    "heartbeats.replication.enabled",
    "offset-syncs.topic.location",
    "refresh.groups.enabled",
    "refresh.groups.interval.seconds",
    "refresh.topics.enabled",
    "refresh.topics.interval.seconds",
    "replication.factor",
    "replication.policy.class",
    "replication.policy.separator",
    "sync.group.offsets.enabled",
    "sync.group.offsets.interval.seconds",
    "sync.topic.acls.enabled",
    "sync.topic.configs.enabled",
    "sync.topic.configs.interval.seconds",
    "tasks.max",
    "topics",
    "topics.blacklist",
    "topics.exclude",
    "use.defaults.from",
];

/// Why there is no equivalent of a key.
fn leftover(key: &str) -> Option<&'static str> {
    let starts = |beginnings: &[&str]| beginnings.iter().any(|it| key.starts_with(it));
    Some(match key {
        "sync.topic.acls.interval.seconds" => "causeway copies no ACLs yet",
        "offset.lag.max" => "positions are translated exactly, by a map of every offset; nothing is spaced",
        "offset-syncs.topic.replication.factor"
        | "checkpoints.topic.replication.factor"
        | "heartbeats.topic.replication.factor" => {
            "causeway chooses the replication factor of the topics it creates for itself"
        }
        "consumer.poll.timeout.ms" | "admin.timeout.ms" => "causeway has no such wait",
        "use.incremental.alter.configs" => "settings are always changed one by one",
        "add.source.alias.to.metrics"
        | "metric.names.formats"
        | "metric.reporters"
        | "auto.include.jmx.reporter" => {
            "causeway has Prometheus metrics of its own, see causeway reference metrics"
        }
        "emit.heartbeats" | "emit.checkpoints" => {
            "MirrorMaker 2 does not know this key; the real one ends in `.enabled`"
        }
        _ if is_security(key) => "MirrorMaker 2 connects with what is said of each cluster; write it there",
        "bootstrap.servers" => "each cluster has its own addresses",
        "name" | "connector.class" | "clusters" => "a name inside Kafka Connect",
        "exactly.once.support" | "transaction.boundary" | "transaction.boundary.interval.ms" => {
            "a transaction closes when causeway has caught up, or after commit_interval"
        }
        _ if starts(CHANGES_RECORDS) => "records are copied as they are: causeway changes and filters none",
        _ if starts(&["errors."]) => {
            "causeway drops no record: a partition that cannot go on stops and says why"
        }
        _ if starts(&["topic.creation."]) => "config sync creates topics as the source has them",
        _ if starts(&[
            "producer.override.",
            "source.consumer.",
            "source.cluster.",
            "target.cluster.",
        ]) =>
        {
            "say it at the cluster, or in the source connector"
        }
        _ if starts(&["producer.", "target.producer.", "source.producer."]) => {
            "MirrorMaker 2 uses it for offset syncs only; records are written with `producer.override.` or the worker's producer"
        }
        _ if starts(&[
            "admin.",
            "source.admin.",
            "target.admin.",
            "target.consumer.",
            "consumer.",
        ]) =>
        {
            "causeway's own clients for administration and state need no tuning; `client:` is for every client of a cluster"
        }
        _ if starts(&["config.providers"]) => "causeway takes secrets from the environment and from files",
        _ if starts(&["replication.policy."]) => "an option of a class of Java",
        _ => return None,
    })
}

/// Keys by which records arrive as others than they were, or not at all.
const CHANGES_RECORDS: &[&str] = &["transforms", "predicates"];

fn worker_key(key: &str) -> bool {
    [
        "offset.",
        "offsets.",
        "config.storage.",
        "config.action.",
        "config.providers",
        "status.storage.",
        "group.id",
        "client.id",
        "listeners",
        "rest.",
        "admin.listeners",
        "plugin.",
        "task.",
        "worker.",
        "scheduled.rebalance.",
        "session.timeout",
        "heartbeat.interval",
        "rebalance.timeout",
        "connect.protocol",
        "connector.client.config.override.policy",
        "inter.worker.",
        "topic.tracking.",
        "topic.creation.",
        "exactly.once.source.support",
        "key.converter",
        "value.converter",
        "header.converter",
        "metrics.",
        "dedicated.mode.",
    ]
    .iter()
    .any(|it| key.starts_with(it))
}
