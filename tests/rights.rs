//! The table of docs/access-rights.md, on brokers that enforce it: exactly those rights suffice, and one that is
//! missing is named with what it stops.

use std::cell::Cell;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::harness::daemon::{Daemon, DaemonOptions, sasl_clusters_yaml};
use crate::harness::flow::{SOON, assert_same, is_stopped_for, topology, wait_until_copied};
use crate::harness::groups::{group, position};
use crate::harness::oracle::{self, Isolation, NewRecord};
use crate::harness::{Cluster, ClusterOptions, Resource, wait_until};

const TOPICS: [&str; 2] = ["orders", "payments"];
const GROUPS: [&str; 3] = ["billing", "shipping", "short-lived"];
const FEATURES: &str = "  config_sync: { interval: 1s }\n  offset_sync: { interval: 1s, delete_groups: true }\n  \
                        heartbeats: { interval: 500ms, on_source: true }\n  groups: { include: [billing, shipping, short-lived] }\n";

/// The rows of the table: cluster, resource, operations.
fn table() -> Vec<(String, String, Vec<String>)> {
    let (_, section) = include_str!("../docs/access-rights.md")
        .split_once("## Copying")
        .expect("the page has a section on copying");
    let (_, rows) = section
        .split_once("|---|---|---|---|\n")
        .expect("it has a table of four columns");
    rows.lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let operations = cells[2].split(", ").map(str::to_owned).collect();
            (cells[0].to_owned(), cells[1].to_owned(), operations)
        })
        .collect()
}

/// What a row of the table is about here.
fn resources(resource: &str) -> Vec<Resource> {
    let copied = |heartbeats: &str| {
        let names = TOPICS.iter().copied().chain([heartbeats]);
        names.map(Resource::topic).collect()
    };
    let one = |name: &str| vec![Resource::topic(name)];
    match resource {
        "copied topics, `heartbeats` among them" => copied("heartbeats"),
        "copied topics, by their names there" => copied("seoul.heartbeats"),
        "topics `causeway.` (prefixed)" => vec![Resource::prefixed("Topic", "causeway.")],
        "groups `causeway.` (prefixed)" => vec![Resource::prefixed("Group", "causeway.")],
        "transactional ids `causeway.` (prefixed)" => {
            vec![Resource::prefixed("TransactionalId", "causeway.")]
        }
        "groups that are translated" => GROUPS.iter().map(|name| Resource::group(name)).collect(),
        "topic `heartbeats`" => one("heartbeats"),
        "topic `<source>.checkpoints.internal`" => one("seoul.checkpoints.internal"),
        "topic `mm2-offset-syncs.<source>.internal`" => one("mm2-offset-syncs.seoul.internal"),
        other => panic!("the test does not know what this row of the table is about: {other}"),
    }
}

/// A flow with every feature, between clusters where it may do what the table says.
struct Guarded {
    source: Cluster,
    target: Cluster,
    moves: Cell<i64>,
}

impl Guarded {
    fn new() -> Self {
        let start = |name: &str| {
            let cluster = ClusterOptions::new(&format!("rights-{name}")).acls().start();
            for (of, resource, operations) in table() {
                let operations: Vec<&str> = operations.iter().map(String::as_str).collect();
                for resource in resources(&resource) {
                    if of == name {
                        cluster.grant(&resource, &operations);
                    }
                }
            }
            cluster
        };
        let (source, target) = thread::scope(|scope| {
            let source = scope.spawn(|| start("source"));
            let target = start("target");
            (source.join().expect("the source cluster starts"), target)
        });
        for topic in TOPICS {
            source.create_topic(topic, 1, &[]);
        }
        let guarded = Self {
            source,
            target,
            moves: Cell::new(0),
        };
        guarded.move_on();
        guarded
    }

    /// Everything moves: a record, a setting, the groups.
    fn move_on(&self) {
        let moves = self.moves.replace(self.moves.get() + 1);
        let at = self.source.bootstrap();
        oracle::produce(
            &at,
            &TOPICS.map(|topic| NewRecord::new(topic, 0, "k", "v")),
            "none",
        );
        let retention = (86_400_000 + moves).to_string();
        self.source
            .alter_topic(TOPICS[0], &[("retention.ms", &retention)], &[]);
        for name in &GROUPS[..2] {
            oracle::set_group_offset(&at, name, TOPICS[0], 0, moves);
        }
    }

    fn start(&self) -> Daemon {
        let clusters = sasl_clusters_yaml(&[("seoul", &self.source), ("busan", &self.target)]);
        Daemon::start(DaemonOptions::new(
            clusters,
            topology("rights", &TOPICS, FEATURES),
        ))
    }

    fn wait_until_well(&self, daemon: &Daemon) {
        daemon.wait_for("all is well", SOON, |status| {
            self.move_on();
            let flow = &status["flows"][0];
            let none = |errors: &Value| errors.as_array().is_some_and(Vec::is_empty);
            flow["state"] == "running"
                && none(&flow["config_sync"]["errors"])
                && none(&flow["groups"]["errors"])
                && none(&flow["heartbeats"]["errors"])
                && flow["heartbeats"]["age_seconds"]
                    .as_f64()
                    .is_some_and(|age| age < 5.0)
                && GROUPS[..2]
                    .iter()
                    .all(|name| group(status, name)["state"] == "written")
        });
        assert_eq!(daemon.get("/ready").map(|(code, _)| code), Some(200));
        wait_until_copied(daemon, &self.source, TOPICS[0], SOON);
        assert_same(&self.source, &self.target, TOPICS[0], TOPICS[0]);
        for name in &GROUPS[..2] {
            let here = position(&self.source, name, TOPICS[0], 0);
            wait_until("the group has followed", SOON, || {
                // In exactly-once mode there are markers between.
                position(&self.target, name, TOPICS[0], 0) >= here
            });
        }
        let wanted = (86_400_000 + self.moves.get() - 1).to_string();
        wait_until("the setting has arrived", SOON, || {
            oracle::topic_configs(&self.target.bootstrap(), TOPICS[0]).get("retention.ms") == Some(&wanted)
        });
        for topic in ["seoul.checkpoints.internal", "mm2-offset-syncs.seoul.internal"] {
            wait_until(topic, SOON, || {
                !oracle::dump(&self.target.bootstrap(), topic, Isolation::ReadCommitted).is_empty()
            });
        }
    }

    fn cluster(&self, name: &str) -> &Cluster {
        match name {
            "source" => &self.source,
            _ => &self.target,
        }
    }

    /// Without these rights (cluster, resource, operation), the status and the log say these things; with them, all is
    /// well again.
    fn assert_named(
        &self,
        daemon: &mut Daemon,
        restart: bool,
        without: &[(&str, Resource, &str)],
        says: &[&str],
    ) {
        let mut before = daemon.log().len();
        for (cluster, resource, operation) in without {
            self.cluster(cluster).deny(resource, &[operation]);
        }
        if restart {
            before = daemon.log().len();
            daemon.restart();
        }
        for says in says {
            daemon.wait_for(says, SOON, |status| {
                self.move_on();
                status.to_string().contains(says)
            });
            wait_until(&format!("the log says: {says}"), SOON, || {
                daemon.log()[before..].contains(says)
            });
        }
        for (cluster, resource, operation) in without {
            self.cluster(cluster).revoke(resource, &[operation]);
            // What was granted by the same words.
            for (of, text, operations) in table() {
                if of == *cluster
                    && operations.iter().any(|it| it == operation)
                    && resources(&text).contains(resource)
                {
                    self.cluster(cluster).grant(resource, &[operation]);
                }
            }
        }
        self.wait_until_well(daemon);
    }
}

#[test]
fn the_listed_rights_suffice_and_each_that_is_missing_is_named_with_what_it_stops() {
    let guarded = Guarded::new();
    let Guarded { source, target, .. } = &guarded;
    let mut daemon = guarded.start();
    guarded.wait_until_well(&daemon);
    source.grow_topic(TOPICS[1], 2);
    wait_until("the topic has grown", SOON, || {
        oracle::describe_topic(&target.bootstrap(), TOPICS[1]).partitions == 2
    });
    oracle::set_group_offset(&source.bootstrap(), GROUPS[2], TOPICS[0], 0, 1);
    wait_until("the group arrives", SOON, || {
        position(target, GROUPS[2], TOPICS[0], 0).is_some()
    });
    oracle::delete_group(&source.bootstrap(), GROUPS[2]);
    wait_until("the group goes", SOON, || {
        position(target, GROUPS[2], TOPICS[0], 0).is_none()
    });
    let refusals = |daemon: &Daemon| -> Vec<String> {
        let log = daemon.log();
        let refused = log
            .lines()
            .filter(|line| line.contains("S20") || line.contains("T20"));
        refused.map(str::to_owned).collect()
    };
    assert_eq!(refusals(&daemon), Vec::<String>::new());

    // Whoever makes topics beforehand need not grant this.
    for (cluster, resource, _) in table() {
        for resource in resources(&resource) {
            guarded.cluster(&cluster).revoke(&resource, &["Create", "Alter"]);
        }
    }
    daemon.restart();
    guarded.wait_until_well(&daemon);
    assert_eq!(refusals(&daemon), Vec::<String>::new());

    let topic = Resource::topic;
    let (checkpoints, syncs) = (
        topic("seoul.checkpoints.internal"),
        topic("mm2-offset-syncs.seoul.internal"),
    );
    let map = topic("causeway.rights.seoul.offset-map.internal");
    guarded.assert_named(
        &mut daemon,
        false,
        &[
            ("target", checkpoints.clone(), "Write"),
            ("target", syncs.clone(), "Write"),
            ("target", topic("heartbeats"), "Write"),
            ("source", topic("heartbeats"), "Write"),
            ("target", topic(TOPICS[0]), "AlterConfigs"),
            ("source", Resource::group("billing"), "Describe"),
        ],
        &[
            "checkpoints: T202 target_state_not_authorized: writing to seoul.checkpoints.internal",
            "offset syncs: T202 target_state_not_authorized: writing to mm2-offset-syncs.seoul.internal",
            "T202 target_state_not_authorized: writing to heartbeats",
            "S201 source_not_authorized: writing to heartbeats",
            "T201 target_not_authorized",
            "group positions: 1 not written, first billing: S202",
        ],
    );
    guarded.assert_named(
        &mut daemon,
        true,
        &[
            ("target", checkpoints.clone(), "Read"),
            ("target", topic("seoul.heartbeats"), "Read"),
            ("target", Resource::group("billing"), "Read"),
        ],
        &[
            "checkpoints: T202 target_state_not_authorized: reading seoul.checkpoints.internal",
            "T202 target_state_not_authorized: reading the copies of heartbeats",
            "group positions: 1 not written, first billing: T203",
        ],
    );
    guarded.assert_named(
        &mut daemon,
        true,
        &[
            ("target", map, "Read"),
            ("target", topic(TOPICS[0]), "DescribeConfigs"),
        ],
        &[
            "offset map: T202 target_state_not_authorized: reading causeway.rights.seoul.offset-map.internal",
            "T201 target_not_authorized",
        ],
    );
    guarded.assert_named(
        &mut daemon,
        false,
        &[("target", topic(TOPICS[0]), "Read")],
        &["group positions: 2 not written, first billing: T203"],
    );
    // Apart from the one before: what config sync cannot see has no positions either.
    guarded.assert_named(
        &mut daemon,
        false,
        &[("source", topic(TOPICS[0]), "DescribeConfigs")],
        &["S201 source_not_authorized"],
    );
    guarded.assert_named(
        &mut daemon,
        false,
        &[("target", Resource::group("billing"), "Describe")],
        &["group positions: 1 not written, first billing: T203"],
    );
    // Of the data's own path one right; what it stops is the partition.
    source.deny(&topic(TOPICS[1]), &["Read"]);
    daemon.wait_for("the partition is paused", SOON, |status| {
        guarded.move_on();
        is_stopped_for(status, TOPICS[1], 0, "paused", "S201")
    });
    source.revoke(&topic(TOPICS[1]), &["Read"]);
    source.grant(&topic(TOPICS[1]), &["Read"]);
    guarded.wait_until_well(&daemon);

    // What is to be created, grown and deleted.
    assert_eq!(daemon.terminate(Duration::from_secs(30)), 0);
    for name in ["seoul.checkpoints.internal", "mm2-offset-syncs.seoul.internal"] {
        target.delete_topic(name);
    }
    daemon.restart();
    for says in [
        "checkpoints: T202 target_state_not_authorized: creating seoul.checkpoints.internal",
        "offset syncs: T202 target_state_not_authorized: creating mm2-offset-syncs.seoul.internal",
    ] {
        daemon.wait_for(says, SOON, |status| {
            guarded.move_on();
            status.to_string().contains(says)
        });
        assert!(daemon.log().contains(says));
    }
    for resource in [&checkpoints, &syncs] {
        target.grant(resource, &["Create"]);
    }
    guarded.wait_until_well(&daemon);
    source.grow_topic(TOPICS[0], 2);
    daemon.wait_for("growth is not allowed", SOON, |status| {
        status["flows"][0]["config_sync"]["errors"]
            .to_string()
            .contains("T201")
    });
    target.grant(&topic(TOPICS[0]), &["Alter"]);
    guarded.wait_until_well(&daemon);
    oracle::set_group_offset(&source.bootstrap(), GROUPS[2], TOPICS[0], 0, 1);
    wait_until("the group arrives", SOON, || {
        position(target, GROUPS[2], TOPICS[0], 0).is_some()
    });
    target.deny(&Resource::group(GROUPS[2]), &["Delete"]);
    oracle::delete_group(&source.bootstrap(), GROUPS[2]);
    daemon.wait_for("deletion is not allowed", SOON, |status| {
        status
            .to_string()
            .contains("delete_groups: short-lived is gone from the source: T203")
    });
}
