//! Two clusters, a daemon between them, and what the kernel says about processes.

use std::fs;
use std::thread;
use std::time::Duration;

use causeway::kafka::ClusterAlias;
use causeway::kafka::client::{ClusterConnection, Properties};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::harness::daemon::{Daemon, DaemonOptions, clusters_yaml};
use crate::harness::oracle::{self, Isolation};
use crate::harness::{Cluster, ClusterOptions};

/// Both, as a topology spells them.
pub const DELIVERIES: [&str; 2] = ["exactly_once", "at_least_once"];

/// A source and a target.
pub struct Rig {
    /// Copied from.
    pub source: Cluster,
    /// Copied to.
    pub target: Cluster,
}

impl Rig {
    /// Starts both, each with the options that `options` adds.
    pub fn start(options: fn(ClusterOptions) -> ClusterOptions) -> Self {
        thread::scope(|scope| {
            let source = scope.spawn(|| options(ClusterOptions::new("source")).start());
            let target = options(ClusterOptions::new("target")).start();
            Self {
                source: source.join().expect("the source cluster starts"),
                target,
            }
        })
    }

    /// Starts a daemon that copies the topics matching `include` under their own names; `extra` are more
    /// lines of `replication:`, each ended.
    pub fn daemon(&self, topology: &str, include: &str, delivery: &str, extra: &str) -> Daemon {
        let clusters = clusters_yaml(&[
            ("seoul", &self.source.bootstrap()),
            ("busan", &self.target.bootstrap()),
        ]);
        let name = topology.replace('_', "-");
        let topology = format!(
            "name: {name}\npattern: active-standby\nactive: seoul\nstandby: busan\nreplication:\n  \
             topics: {{ include: [\"{include}\"] }}\n  replication_policy: identity\n  delivery: {delivery}\n{extra}"
        );
        Daemon::start(DaemonOptions::new(clusters, topology))
    }

    /// Waits until the daemon says that `topic` is copied up to where the source ends now.
    pub fn wait_until_copied(&self, daemon: &Daemon, topic: &str, timeout: Duration) {
        let ends = oracle::end_offsets(&self.source.bootstrap(), topic, Isolation::ReadCommitted);
        daemon.wait_for(&format!("{topic} is copied"), timeout, |status| {
            ends.iter().enumerate().all(|(number, end)| {
                partitions(status).any(|it| {
                    it["topic"] == topic
                        && it["partition"] == number
                        && it["next_source_offset"].as_i64().is_some_and(|next| *end <= next)
                })
            })
        });
    }
}

/// How causeway's own code reaches a cluster without security.
pub fn connection(alias: &str, bootstrap: &str) -> ClusterConnection {
    ClusterConnection {
        alias: ClusterAlias::new(alias),
        bootstrap_servers: bootstrap.to_owned(),
        security: Properties::new(),
        client: Properties::new(),
        consumer: Properties::new(),
        producer: Properties::new(),
    }
}

/// Every partition in a status, over all flows and tasks.
pub fn partitions(status: &Value) -> impl Iterator<Item = &Value> {
    fn list(value: &Value) -> impl Iterator<Item = &Value> {
        value.as_array().into_iter().flatten()
    }
    list(&status["flows"])
        .flat_map(|flow| list(&flow["tasks"]))
        .flat_map(|task| list(&task["partitions"]))
}

/// Looks at how far a topic has grown, with one request a time.
pub struct Ends {
    consumer: BaseConsumer,
    partitions: TopicPartitionList,
}

impl Ends {
    /// Of partitions 0 to `partitions` of a topic that may not exist yet; everything written counts.
    pub fn new(bootstrap: &str, topic: &str, partitions: i32) -> Self {
        let consumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("isolation.level", "read_uncommitted")
            .set("topic.metadata.refresh.fast.interval.ms", "50")
            .create()
            .expect("these settings are right");
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::End)
                .expect("an end is an offset");
        }
        Self {
            consumer,
            partitions: list,
        }
    }

    /// Sum of the end offsets; 0 for a topic that does not exist.
    pub fn sum(&self) -> i64 {
        let answer = self
            .consumer
            .offsets_for_times(self.partitions.clone(), Duration::from_millis(500));
        answer.map_or(0, |list| {
            let offsets = list.elements().into_iter().filter_map(|it| it.offset().to_raw());
            offsets.map(|offset| offset.max(0)).sum()
        })
    }
}

/// A line of `/proc/<pid>/status`: `VmHWM:` and `VmRSS:` in KiB, `Threads:`.
pub fn proc_status(pid: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).expect("a number")
}

/// The processes that a process has started and that run.
pub fn children(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("Linux").flatten();
    let all = processes.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
    all.filter(|child| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // After the name: state, parent.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        parent == Some(&pid.to_string())
    })
    .collect()
}

/// CPU time of a process so far, all threads, user and system.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let after_name = stat.rsplit_once(')').expect("a name in parentheses").1;
    ticks(after_name.split_whitespace().skip(11).take(2))
}

/// CPU time that the whole machine has spent on anything, stolen time included.
pub fn machine_cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/stat").expect("Linux");
    let line = stat.lines().next().expect("a first line");
    // cpu user nice system idle iowait irq softirq steal
    let fields: Vec<_> = line.split_whitespace().collect();
    ticks([1, 2, 3, 6, 7, 8].map(|field| fields[field]).into_iter())
}

/// Linux shows 100 ticks a second to user space.
fn ticks<'a>(fields: impl Iterator<Item = &'a str>) -> Duration {
    let sum: u64 = fields.map(|it| it.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(sum * 10)
}
