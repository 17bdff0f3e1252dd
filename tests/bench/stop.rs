//! A stop in good order under load: how long it takes, and that nothing is copied twice after it.

use std::time::{Duration, Instant};

use crate::figure::Figure;
use crate::harness::load::Load;
use crate::harness::oracle::{self, Isolation};
use crate::harness::wait_until;
use crate::rig::{DELIVERIES, Ends, Rig};

const PARTITIONS: i32 = 8;
const PER_SECOND: u32 = 20_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures in both delivery modes.
pub fn run() -> Vec<Figure> {
    let rig = Rig::start(|options| options);
    let both = DELIVERIES.into_iter();
    both.flat_map(|delivery| measure(&rig, delivery)).collect()
}

fn measure(rig: &Rig, delivery: &str) -> Vec<Figure> {
    let topic = format!("bench-stop-{delivery}");
    rig.source.create_topic(&topic, PARTITIONS, &[]);
    let mut daemon = rig.daemon(&format!("bench-stop-{delivery}"), &topic, delivery, "");
    let load = Load::start(&rig.source.bootstrap(), &topic, PARTITIONS, PER_SECOND, 100);
    let ends = Ends::new(&rig.target.bootstrap(), &topic, PARTITIONS);
    let mut worst = Duration::ZERO;
    let mut code = 0;
    for _ in 0..3 {
        let before = ends.sum();
        wait_until("the daemon copies", PATIENCE, || {
            ends.sum() > before + i64::from(2 * PER_SECOND)
        });
        let asked = Instant::now();
        code = code.max(daemon.terminate(PATIENCE));
        worst = worst.max(asked.elapsed());
        daemon.restart();
    }
    let written = load.stop();
    rig.wait_until_copied(&daemon, &topic, PATIENCE);
    let copy = oracle::digest(&rig.target.bootstrap(), &topic, Isolation::ReadCommitted);
    let figure = |name: &str, value, unit| Figure::new(format!("{delivery}: {name}"), value, unit);
    vec![
        figure(
            "SIGTERM at 20,000 records/s to exit, worst of 3",
            worst.as_secs_f64(),
            "s",
        )
        .at_most(10.0),
        figure("exit code, worst of 3", f64::from(code), "").at_most(0.0),
        figure(
            "records copied twice",
            (copy.records - copy.distinct_keys) as f64,
            "",
        )
        .at_most(0.0),
        figure("records missing", written as f64 - copy.distinct_keys as f64, "").at_most(0.0),
    ]
}
