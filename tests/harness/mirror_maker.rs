//! MirrorMaker 2 itself, in dedicated mode, from the jars of the brokers.

use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::time::Duration;

use super::kafka::mirror_maker_classpath;
use super::process::{Process, Scratch};

/// What to run.
#[derive(Clone, Debug)]
pub struct MirrorMakerOptions {
    /// `mm2.properties`, whole.
    pub properties: String,
    /// Most heap, in Java's words.
    pub memory: String,
    /// Runs it for a quick start instead of as in production (G1, full JIT).
    pub quick_start: bool,
}

/// What a cluster of one broker needs.
const SINGLE_BROKER: &[&str] = &[
    "replication.factor",
    "checkpoints.topic.replication.factor",
    "heartbeats.topic.replication.factor",
    "offset-syncs.topic.replication.factor",
    "offset.storage.replication.factor",
    "status.storage.replication.factor",
    "config.storage.replication.factor",
];

/// By default every class of every jar is looked at before anything else happens, twice.
const PLUGINS: &str = "plugin.discovery = service_load";

/// Settings with which MM2 does soon what it does every minute or ten by default.
const FAST: &[&str] = &[
    "refresh.topics.interval.seconds = 1",
    "refresh.groups.interval.seconds = 1",
    "emit.checkpoints.interval.seconds = 1",
    "sync.group.offsets.interval.seconds = 1",
    "sync.topic.configs.interval.seconds = 1",
    "consumer.poll.timeout.ms = 100",
    "offset.storage.partitions = 5",
    "status.storage.partitions = 1",
    PLUGINS,
];

/// The same of its workers, which only listen to settings of their cluster.
const FAST_WORKERS: &[&str] = &[
    PLUGINS,
    "offset.flush.interval.ms = 1000",
    "scheduled.rebalance.max.delay.ms = 0",
    "session.timeout.ms = 6000",
    "heartbeat.interval.ms = 1000",
];

impl MirrorMakerOptions {
    /// Clusters by alias and bootstrap servers, each of one broker, and the rest of the properties.
    pub fn new(clusters: &[(&str, &str)], settings: &str) -> Self {
        let aliases: Vec<_> = clusters.iter().map(|(alias, _)| *alias).collect();
        let mut properties = format!("clusters = {}\n", aliases.join(", "));
        for (alias, bootstrap) in clusters {
            let _ = writeln!(properties, "{alias}.bootstrap.servers = {bootstrap}");
        }
        for key in SINGLE_BROKER {
            let _ = writeln!(properties, "{key} = 1");
        }
        let _ = writeln!(properties, "{settings}");
        Self {
            properties,
            memory: "512m".to_owned(),
            quick_start: false,
        }
    }

    /// As [`MirrorMakerOptions::new`], for tests that wait for what MM2 does every minute or ten by default.
    /// Its offsets topic has 5 partitions, and positions are stored every second. The given properties win.
    pub fn fast(clusters: &[(&str, &str)], settings: &str) -> Self {
        let mut fast = FAST.join("\n");
        for (alias, _) in clusters {
            for line in FAST_WORKERS {
                let _ = write!(fast, "\n{alias}.{line}");
            }
        }
        Self {
            quick_start: true,
            // Of two lines with one key the last one counts.
            ..Self::new(clusters, &format!("{fast}\n{settings}"))
        }
    }
}

/// A running MirrorMaker 2. Killed when dropped or when this process ends.
pub struct MirrorMaker {
    command: Command,
    // Before the directory: a process is dropped before what it writes to.
    process: Process,
    directory: Scratch,
}

impl MirrorMaker {
    /// Writes the properties and starts it; does not wait for anything.
    pub fn start(options: MirrorMakerOptions) -> Self {
        let directory = Scratch::new("mm2");
        let settings = directory.path().join("mm2.properties");
        fs::write(&settings, &options.properties).expect("the directory is ours");
        let mut java = Command::new("java");
        if options.quick_start {
            java.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        } else {
            java.arg("-XX:+UseG1GC");
        }
        java.arg(format!("-Xmx{}", options.memory))
            .args(["-Xshare:auto", "-cp"])
            .arg(mirror_maker_classpath())
            .arg("org.apache.kafka.connect.mirror.MirrorMaker")
            .arg(settings)
            .current_dir(directory.path());
        Self {
            process: Process::start(&java, &directory.path().join("mm2.log")),
            command: java,
            directory,
        }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Kills it: positions of up to `offset.flush.interval.ms` are lost.
    pub fn kill9(&self) {
        self.process.kill9();
    }

    /// Asks it to stop in good order, which flushes its positions, and waits.
    pub fn terminate(&self, timeout: Duration) {
        self.process.signal("TERM");
        self.process.wait(timeout);
    }

    /// Starts it again with the same properties, after it has ended by itself or not.
    pub fn restart(&mut self) {
        self.process.kill9();
        self.process = Process::start(&self.command, &self.directory.path().join("mm2.log"));
    }

    /// The process: signals, memory, CPU time, log.
    pub fn process(&self) -> &Process {
        &self.process
    }
}
