//! A target that stops answering with gigabytes still to copy: what the daemon holds meanwhile.

use std::thread;
use std::time::Duration;

use crate::figure::Figure;
use crate::harness::oracle::{self, Isolation};
use crate::harness::{load, wait_until};
use crate::rig::{DELIVERIES, Ends, Rig, proc_status};

const PARTITIONS: i32 = 8;
const RECORDS: u64 = 2_000_000;
const VALUE_BYTES: usize = 1024;
const STALL: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(180);
/// The default of `memory:` in a config file, MiB.
const BUDGET: f64 = 256.0;

/// Measures in both delivery modes.
pub fn run() -> Vec<Figure> {
    let rig = Rig::start(|options| options.default_jit());
    let topic = "bench-stall";
    rig.source.create_topic(topic, PARTITIONS, &[]);
    load::fill(
        &rig.source.bootstrap(),
        topic,
        PARTITIONS,
        RECORDS,
        VALUE_BYTES,
        "none",
    );
    let both = DELIVERIES.into_iter();
    both.flat_map(|delivery| measure(&rig, topic, delivery)).collect()
}

fn measure(rig: &Rig, topic: &str, delivery: &str) -> Vec<Figure> {
    let extra = "  compression: none\n";
    let daemon = rig.daemon(&format!("bench-stall-{delivery}"), topic, delivery, extra);
    let ends = Ends::new(&rig.target.bootstrap(), topic, PARTITIONS);
    wait_until("copying has begun", PATIENCE, || ends.sum() > 50_000);
    rig.target.stop();
    // Not a state to wait for: what is measured is what is held after this time.
    thread::sleep(STALL);
    let stalled = proc_status(daemon.pid(), "VmHWM:") / 1024.0;
    rig.target.cont();
    rig.wait_until_copied(&daemon, topic, PATIENCE);
    let whole = proc_status(daemon.pid(), "VmHWM:") / 1024.0;
    let copy = oracle::digest(&rig.target.bootstrap(), topic, Isolation::ReadCommitted);
    daemon.terminate(PATIENCE);
    rig.target.delete_topic(topic);
    let figure = |name: &str, value, unit| Figure::new(format!("{delivery}: {name}"), value, unit);
    vec![
        figure("peak RSS in a stall of 30 s (budget 256 MiB)", stalled, "MiB").at_most(BUDGET),
        figure("peak RSS until all is copied", whole, "MiB").at_most(BUDGET),
        figure(
            "records copied twice",
            (copy.records - copy.distinct_keys) as f64,
            "",
        ),
        figure("records missing", RECORDS as f64 - copy.distinct_keys as f64, "").at_most(0.0),
    ]
}
