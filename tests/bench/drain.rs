//! Copying a backlog: how fast, and what it costs the copier alone, optionally beside MirrorMaker 2 tuned
//! for throughput. All data is there before a copier starts.

use std::time::{Duration, Instant};

use crate::figure::Figure;
use crate::harness::mirror_maker::{MirrorMaker, MirrorMakerOptions};
use crate::harness::oracle::{self, Digest, Isolation};
use crate::harness::{load, wait_until};
use crate::rig::{DELIVERIES, Ends, Rig, cpu_time, machine_cpu_time, proc_status};

const TOPIC: &str = "bench-drain";
const PARTITIONS: i32 = 8;
const PATIENCE: Duration = Duration::from_secs(900);

/// `drain [RECORDS] [BYTES] [--mm2]`
pub fn run(numbers: &[u64], mm2: bool) -> Vec<Figure> {
    let records = numbers.first().copied().unwrap_or(10_000_000);
    let bytes = numbers.get(1).copied().unwrap_or(100);
    let rig = Rig::start(|options| options.default_jit());
    rig.source.create_topic(TOPIC, PARTITIONS, &[]);
    let value_bytes = usize::try_from(bytes).expect("a size");
    load::fill(
        &rig.source.bootstrap(),
        TOPIC,
        PARTITIONS,
        records,
        value_bytes,
        "none",
    );
    let digest = oracle::digest(&rig.source.bootstrap(), TOPIC, Isolation::ReadCommitted);
    let job = Job { rig, records, digest };

    let mut figures = vec![];
    let mut per_second = vec![];
    for delivery in DELIVERIES {
        let extra = "  tasks: 4\n  compression: none\n";
        let daemon = job
            .rig
            .daemon(&format!("bench-{delivery}"), TOPIC, delivery, extra);
        let copied = || {
            daemon.status().is_some_and(|status| {
                let next = crate::rig::partitions(&status).filter_map(|it| it["next_source_offset"].as_u64());
                next.sum::<u64>() == job.records
            })
        };
        per_second.push(job.measure(delivery, TOPIC, daemon.pid(), copied, &mut figures));
        let code = daemon.terminate(Duration::from_secs(30));
        figures.push(Figure::new(format!("{delivery}: exit code"), code.into(), "").at_most(0.0));
    }
    if mm2 {
        let copier = MirrorMaker::start(MirrorMakerOptions {
            memory: "2g".to_owned(),
            ..MirrorMakerOptions::new(
                &[
                    ("seoul", &job.rig.source.bootstrap()),
                    ("busan", &job.rig.target.bootstrap()),
                ],
                &format!("{MM2_SETTINGS}\nseoul->busan.topics = {TOPIC}"),
            )
        });
        let remote = format!("seoul.{TOPIC}");
        let ends = Ends::new(&job.rig.target.bootstrap(), &remote, PARTITIONS);
        let all = i64::try_from(records).expect("a count of records");
        let copied = || ends.sum() == all;
        let mm2 = job.measure("MM2 tuned", &remote, copier.pid(), copied, &mut figures);
        for (delivery, causeway) in DELIVERIES.iter().zip(per_second) {
            let name = format!("{delivery}: records per CPU second, times MM2's");
            figures.push(Figure::new(name, causeway / mm2, "x"));
        }
    }
    figures
}

struct Job {
    rig: Rig,
    records: u64,
    digest: Digest,
}

struct Sample {
    at: Instant,
    cpu: Duration,
    brokers: Duration,
    machine: Duration,
    end: i64,
}

impl Job {
    /// Watches process `pid` copy until `copied`, checks the copy, and removes it. Records per CPU second.
    fn measure(
        &self,
        who: &str,
        remote: &str,
        pid: u32,
        copied: impl Fn() -> bool,
        figures: &mut Vec<Figure>,
    ) -> f64 {
        let target = self.rig.target.bootstrap();
        let ends = Ends::new(&target, remote, PARTITIONS);
        let sample = || Sample {
            end: ends.sum(),
            at: Instant::now(),
            cpu: cpu_time(pid),
            brokers: cpu_time(self.rig.source.pid()) + cpu_time(self.rig.target.pid()),
            machine: machine_cpu_time(),
        };
        let mut samples: Vec<Sample> = vec![];
        let mut looked = Instant::now();
        wait_until("everything is copied", PATIENCE, || {
            samples.push(sample());
            let due = looked.elapsed() > Duration::from_millis(500);
            if due {
                looked = Instant::now();
            }
            due && copied()
        });
        samples.push(sample());
        // From the first records on the target until the target stopped growing.
        let full = samples.last().expect("it was just put there").end;
        let first = samples
            .iter()
            .find(|it| it.end > 0)
            .expect("something was copied");
        let last = samples.iter().find(|it| it.end == full).expect("the last one is");
        let records = self.records as f64 * (last.end - first.end) as f64 / full as f64;
        let seconds = (last.at - first.at).as_secs_f64();
        let cpu = (last.cpu - first.cpu).as_secs_f64();
        let machine = (last.machine - first.machine).as_secs_f64();
        let brokers = (last.brokers - first.brokers).as_secs_f64();
        let whole = samples.last().map_or(0.0, |it| it.cpu.as_secs_f64());
        let peak = proc_status(pid, "VmHWM:") / 1024.0;
        let same = self.same(&oracle::digest(&target, remote, Isolation::ReadCommitted));

        let mut figure =
            |name: &str, value, unit| figures.push(Figure::new(format!("{who}: {name}"), value, unit));
        figure("records per second", records / seconds, "1/s");
        figure("CPU per record", cpu / records * 1e6, "µs");
        figure(
            "CPU per record, whole process",
            whole / self.records as f64 * 1e6,
            "µs",
        );
        figure("CPU of the copier", cpu / seconds, "cores");
        figure("CPU of both brokers", brokers / seconds, "cores");
        figure(
            "CPU of everything else",
            (machine - brokers - cpu) / seconds,
            "cores",
        );
        figure("peak RSS", peak, "MiB");
        let unequal = f64::from(u8::from(!same));
        figures.push(Figure::new(format!("{who}: copies that differ"), unequal, "").at_most(0.0));

        self.rig.target.delete_topic(remote);
        records / cpu
    }

    /// Whether a copy holds the same records in the same order.
    fn same(&self, copy: &Digest) -> bool {
        let of = |digest: &Digest| -> Vec<_> {
            let partitions = digest.partitions.iter();
            partitions.map(|it| (it.records, it.sha256.clone())).collect()
        };
        self.digest.records == self.records && of(&self.digest) == of(copy)
    }
}

/// MM2 for throughput: only data is copied, in large polls, fetches and batches. One choice, not the best of a sweep.
pub const MM2_SETTINGS: &str = "\
seoul->busan.enabled = true
busan->seoul.enabled = false
seoul->busan.emit.heartbeats.enabled = false
busan->seoul.emit.heartbeats.enabled = false
seoul->busan.emit.checkpoints.enabled = false
seoul->busan.sync.group.offsets.enabled = false
seoul->busan.sync.topic.configs.enabled = false
seoul->busan.sync.topic.acls.enabled = false
tasks.max = 4
seoul.consumer.isolation.level = read_committed
seoul.consumer.auto.offset.reset = earliest
seoul.consumer.max.poll.records = 5000
seoul.consumer.fetch.max.bytes = 52428800
seoul.consumer.max.partition.fetch.bytes = 8388608
busan.producer.acks = all
busan.producer.enable.idempotence = true
busan.producer.max.in.flight.requests.per.connection = 5
busan.producer.batch.size = 524288
busan.producer.linger.ms = 20
busan.producer.buffer.memory = 134217728
busan.producer.compression.type = none
busan.offset.flush.interval.ms = 5000
busan.scheduled.rebalance.max.delay.ms = 0";
