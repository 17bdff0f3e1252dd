//! From the start of the process to the first record that a committed reader of the target sees, on brokers
//! with default settings.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::figure::Figure;
use crate::harness::daemon::Daemon;
use crate::harness::oracle::{self, NewRecord};
use crate::reader::{Reader, wait_for_topic};
use crate::rig::{DELIVERIES, Rig};

const TOPIC: &str = "bench-start";
const PARTITIONS: i32 = 4;
const REPETITIONS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than the session of a group member: the group is empty again.
const SESSION_OVER: Duration = Duration::from_secs(9);

/// Measures in both delivery modes, each on clusters that have never seen a daemon.
pub fn run() -> Vec<Figure> {
    DELIVERIES.into_iter().flat_map(measure).collect()
}

fn measure(delivery: &str) -> Vec<Figure> {
    let rig = Rig::start(|options| options.default_broker_settings());
    rig.source.create_topic(TOPIC, PARTITIONS, &[]);
    let mut written = 0;
    let mut write = || {
        written += 1;
        let value = format!("record {written}");
        oracle::produce(
            &rig.source.bootstrap(),
            &[NewRecord::new(TOPIC, 0, "k", &value)],
            "none",
        );
        value
    };

    let value = write();
    let started = Instant::now();
    let mut daemon = rig.daemon("bench-start", TOPIC, delivery, "");
    wait_for_topic(&rig.target.bootstrap(), TOPIC, PATIENCE);
    let reader = Reader::new(&rig.target.bootstrap(), TOPIC, PARTITIONS, "read_committed");
    let first = reader.wait_for(&value, PATIENCE) - started;

    let code = Cell::new(0);
    let mut restart = |end: &dyn Fn(&Daemon)| {
        end(&daemon);
        let value = write();
        let started = Instant::now();
        daemon.restart();
        (reader.wait_for(&value, PATIENCE) - started).as_secs_f64()
    };
    let second =
        (0..REPETITIONS).map(|_| restart(&|daemon| code.set(code.get().max(daemon.terminate(PATIENCE)))));
    let second = second.fold(0.0, f64::max);
    let empty = restart(&|daemon| {
        code.set(code.get().max(daemon.terminate(PATIENCE)));
        // Not a state to wait for: that time has passed is what is measured here.
        std::thread::sleep(SESSION_OVER);
    });
    let killed = (0..REPETITIONS).map(|_| restart(&|daemon| daemon.kill9()));
    let killed = killed.fold(0.0, f64::max);
    let code = f64::from(code.get());

    let figure = |name: &str, seconds| Figure::new(format!("{delivery}: {name}"), seconds, "s");
    vec![
        figure("first start ever", first.as_secs_f64()).at_most(5.0),
        figure("start after SIGTERM, worst of 3", second).at_most(2.0),
        figure("start 9 s after SIGTERM", empty).at_most(2.0),
        figure("start after kill -9, worst of 3", killed).at_most(2.0),
        Figure::new(format!("{delivery}: exit code after SIGTERM, worst"), code, "").at_most(0.0),
    ]
}
