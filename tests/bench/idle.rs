//! What a daemon costs that has nothing to do.

use std::thread;
use std::time::{Duration, Instant};

use crate::figure::Figure;
use crate::harness::load;
use crate::rig::{Rig, cpu_time, partitions, proc_status};

const TOPICS: usize = 20;
const PARTITIONS: i32 = 50;
const WATCHED: Duration = Duration::from_secs(30);

/// 20 topics of 50 partitions, everything copied.
pub fn run() -> Vec<Figure> {
    let rig = Rig::start(|options| options);
    for n in 0..TOPICS {
        let topic = format!("bench-idle-{n}");
        rig.source.create_topic(&topic, PARTITIONS, &[]);
        load::fill(&rig.source.bootstrap(), &topic, PARTITIONS, 500, 100, "none");
    }
    let started = Instant::now();
    let daemon = rig.daemon("bench-idle", "bench-idle-.*", "exactly_once", "");
    daemon.wait_for("every partition is copied", Duration::from_secs(180), |status| {
        let copied = partitions(status).filter(|it| it["next_source_offset"].as_i64() >= Some(10));
        copied.count() == TOPICS * usize::try_from(PARTITIONS).expect("a count")
    });
    let copied = started.elapsed().as_secs_f64();
    // Not a state to wait for: what is measured is what is spent in this time.
    let settle = Duration::from_secs(10);
    thread::sleep(settle);
    let before = cpu_time(daemon.pid());
    thread::sleep(WATCHED);
    let spent = cpu_time(daemon.pid()) - before;
    vec![
        Figure::new("first start with 1,000 partitions, until copied", copied, "s"),
        Figure::new(
            "CPU",
            100.0 * spent.as_secs_f64() / WATCHED.as_secs_f64(),
            "% of a core",
        ),
        Figure::new("RSS", proc_status(daemon.pid(), "VmRSS:") / 1024.0, "MiB"),
        Figure::new("threads", proc_status(daemon.pid(), "Threads:"), ""),
    ]
}
