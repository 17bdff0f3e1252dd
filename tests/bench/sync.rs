//! From a change on the source to the same on the target: a setting, partitions, a topic.

use std::thread;
use std::time::{Duration, Instant};

use crate::figure::Figure;
use crate::harness::{oracle, wait_until};
use crate::rig::Rig;

const REPETITIONS: i32 = 6;
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes all three changes at once, several times, each time just after the last ones have arrived: the
/// longest way to the next pass of the syncer.
pub fn run() -> Vec<Figure> {
    let rig = Rig::start(|options| options);
    rig.source.create_topic("bench-sync", 1, &[]);
    let daemon = rig.daemon("bench-sync", "bench-sync.*", "exactly_once", "");
    rig.wait_until_copied(&daemon, "bench-sync", PATIENCE);
    let target = rig.target.bootstrap();
    let (mut setting, mut grown, mut created) = (vec![], vec![], vec![]);
    for n in 1..=REPETITIONS {
        let retention = format!("{}", 86_400_000 + n);
        let topic = format!("bench-sync-{n}");
        let started = Instant::now();
        rig.source
            .alter_topic("bench-sync", &[("retention.ms", &retention)], &[]);
        rig.source.grow_topic("bench-sync", 1 + n);
        rig.source.create_topic(&topic, 3, &[]);
        let since = |what: &str, reached: &dyn Fn() -> bool| {
            wait_until(what, PATIENCE, reached);
            started.elapsed().as_secs_f64()
        };
        thread::scope(|scope| {
            let settings = || oracle::topic_configs(&target, "bench-sync");
            let a = scope.spawn(move || {
                since("the setting", &|| {
                    settings().get("retention.ms") == Some(&retention)
                })
            });
            let partitions =
                |topic: &str| oracle::try_describe_topic(&target, topic).map_or(0, |it| it.partitions);
            let b = scope.spawn(move || since("the partitions", &|| partitions("bench-sync") == 1 + n));
            let c = scope.spawn(move || since("the topic", &|| partitions(&topic) == 3));
            for (thread, times) in [(a, &mut setting), (b, &mut grown), (c, &mut created)] {
                times.push(thread.join().expect("it arrives"));
            }
        });
    }
    let figure = |name: &str, times: &[f64]| {
        let worst = times.iter().copied().fold(0.0, f64::max);
        Figure::new(format!("{name}, worst of {}", times.len()), worst, "s").at_most(10.0)
    };
    vec![
        figure("a changed setting", &setting),
        figure("grown partitions", &grown),
        figure("a new topic", &created),
    ]
}
