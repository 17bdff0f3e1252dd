//! Real Kafka for tests, the demo and the benchmark: clusters from Maven's jars, an independent Java client as
//! witness, the daemon as a process, and load. Nothing here outlives the process that uses it, kill -9 included.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "tests, demo and benchmark each include this module and use different parts of it"
)]

pub mod commands;
pub mod daemon;
pub mod flow;
pub mod groups;
pub mod kafka;
pub mod load;
pub mod mirror_maker;
pub mod oracle;
pub mod process;

use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use kafka::{Cluster, ClusterOptions, Resource, kafka_tool};

/// Two clusters shared by all tests of this process.
pub struct Pair {
    /// The one data is copied from.
    pub source: Cluster,
    /// The one data is copied to.
    pub target: Cluster,
}

/// The shared clusters, started by the first test that asks. Name topics with [`unique`], and start a
/// cluster of your own to kill or stop it.
pub fn pair() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| {
        thread::scope(|scope| {
            let source = scope.spawn(|| Cluster::start("source"));
            let target = Cluster::start("target");
            Pair {
                source: source.join().expect("the source cluster starts"),
                target,
            }
        })
    })
}

/// A cluster that names no broker for a second out of four: its only one is heard too rarely by its controller, and so
/// fenced until it is heard again.
pub fn often_fenced(name: &str) -> Cluster {
    ClusterOptions::new(name)
        .property("broker.session.timeout.ms", "3000")
        .property("broker.heartbeat.interval.ms", "4000")
        .start()
}

/// A name nobody else uses on the shared clusters.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Polls until `reached` says yes; panics with `what` after `timeout`.
pub fn wait_until(what: &str, timeout: Duration, mut reached: impl FnMut() -> bool) {
    wait_for(what, timeout, || reached().then_some(()));
}

/// Polls until `ask` has an answer; panics with `what` after `timeout`.
pub fn wait_for<T>(what: &str, timeout: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "waited {timeout:?} in vain for: {what}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// A port of 127.0.0.1 that is free now and stays so: below the range from which the kernel takes ports for
/// outgoing connections, so that a broker finds its own again after a restart.
pub fn free_port() -> u16 {
    loop {
        let port = 10_000 + u16::try_from(random() % 20_000).expect("below 20,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// What a test leaves to chance: xorshift64*. The seed stands in the test's output, and `CAUSEWAY_SEED` sets it, so
/// that a failure can be repeated.
pub struct Random(u64);

impl Random {
    /// From `CAUSEWAY_SEED`, or as no run before.
    pub fn new() -> Self {
        let chosen = std::env::var("CAUSEWAY_SEED").ok();
        let seed = chosen.map_or_else(random, |it| it.parse().expect("CAUSEWAY_SEED is a number"));
        eprintln!("CAUSEWAY_SEED={seed}");
        // From 0 nothing would follow but 0.
        Self(seed.max(1))
    }

    /// A number from 0 on, below this one.
    pub fn below(&mut self, below: i64) -> i64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as i64 % below
    }

    /// A moment no code can prepare for, at most that long.
    pub fn moment(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.below(1_000) as f64 / 1_000.0)
    }
}
