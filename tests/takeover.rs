//! A flow goes on where a real MirrorMaker 2 left off, and back. Every check reads with the Java client.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::harness::commands::{Files, Ran};
use crate::harness::daemon::{Daemon, DaemonOptions, clusters_yaml};
use crate::harness::flow::{partition, topology, wait_until_copied};
use crate::harness::load::{self, Load};
use crate::harness::mirror_maker::{MirrorMaker, MirrorMakerOptions};
use crate::harness::oracle::{self, Isolation, OracleRecord, Step};
use crate::harness::{Cluster, Pair, Random, pair, unique, wait_until};

const PARTITIONS: i32 = 3;
const LONG: Duration = Duration::from_secs(120);
const SECOND: u32 = 600;
const TASKS: u32 = 4;

/// MM2 and causeway on the same flow, under aliases of their own.
struct Flow {
    source: &'static Cluster,
    target: &'static Cluster,
    seoul: String,
    busan: String,
    topic: String,
    remote: String,
}

impl Flow {
    fn new() -> Self {
        let Pair { source, target } = pair();
        let (seoul, topic) = (unique("seoul"), unique("taken"));
        source.create_topic(&topic, PARTITIONS, &[]);
        Self {
            source,
            target,
            busan: unique("busan"),
            remote: format!("{seoul}.{topic}"),
            seoul,
            topic,
        }
    }

    /// Positions are stored every few seconds, so that a kill leaves records that MM2 does not know of.
    fn mirror_maker(&self, more: &str) -> MirrorMaker {
        let (seoul, busan, topic) = (&self.seoul, &self.busan, &self.topic);
        let settings = format!(
            "{seoul}->{busan}.enabled = true\n{busan}->{seoul}.enabled = false\n\
             {seoul}->{busan}.topics = {topic}\nemit.heartbeats.enabled = false\n\
             sync.topic.acls.enabled = false\noffset.lag.max = 50\n\
             {seoul}.consumer.auto.offset.reset = earliest\n\
             {busan}.offset.flush.interval.ms = 4000\n{more}"
        );
        let clusters = [
            (seoul.as_str(), self.source.bootstrap()),
            (busan.as_str(), self.target.bootstrap()),
        ];
        let clusters = clusters
            .each_ref()
            .map(|(alias, servers)| (*alias, servers.as_str()));
        MirrorMaker::start(MirrorMakerOptions::fast(&clusters, &settings))
    }

    fn clusters(&self) -> String {
        let bootstrap = [self.source.bootstrap(), self.target.bootstrap()];
        clusters_yaml(&[(&self.seoul, &bootstrap[0]), (&self.busan, &bootstrap[1])])
    }

    fn topology(&self, extra: &str) -> String {
        topology(
            &self.seoul,
            &[&self.topic],
            &format!("  offset_sync: {{ interval: 1s }}\n{extra}"),
        )
        .replace(
            "seoul\nstandby: busan",
            &format!("{}\nstandby: {}", self.seoul, self.busan),
        )
        .replace("policy: identity", "policy: default")
    }

    fn daemon(&self, topology: &str) -> Daemon {
        Daemon::start(DaemonOptions::new(self.clusters(), topology))
    }

    /// Waits until MM2 has stored a position of every partition.
    fn wait_for_positions(&self) {
        let topic = format!("mm2-offsets.{}.internal", self.seoul);
        wait_until("MirrorMaker 2 has stored positions", LONG, || {
            let exists = oracle::topics(&self.target.bootstrap()).contains(&topic);
            let keys: BTreeSet<Vec<u8>> = match exists {
                false => BTreeSet::new(),
                true => oracle::dump(&self.target.bootstrap(), &topic, Isolation::ReadCommitted)
                    .into_iter()
                    .filter_map(|it| it.key)
                    .filter(|key| key.starts_with(b"[\"MirrorSourceConnector\""))
                    // Heartbeats of other tests have positions as well.
                    .filter(|key| String::from_utf8_lossy(key).contains(&self.topic))
                    .collect(),
            };
            keys.len() == PARTITIONS as usize
        });
    }

    /// Gives up what a killed daemon has left open, as the broker does after a minute: until then no reader sees what
    /// is written behind it.
    fn end_transactions(&self) {
        let (seoul, busan) = (&self.seoul, &self.busan);
        for task in 0..TASKS {
            let id = format!("causeway.{seoul}.{seoul}->{busan}.{task}");
            oracle::transaction(&self.target.bootstrap(), &id, &[Step::Close]);
        }
    }

    fn records(&self, of: &Cluster, topic: &str) -> Vec<Vec<Vec<u8>>> {
        let all: Vec<OracleRecord> = oracle::dump(&of.bootstrap(), topic, Isolation::ReadCommitted);
        let keys = |number| {
            let of = all.iter().filter(|it| it.partition == number);
            of.map(|it| it.key.clone().expect("every record has a key"))
                .collect()
        };
        (0..PARTITIONS).map(keys).collect()
    }

    /// The target holds every record of the source in order, and nothing twice but what `before` held twice.
    fn assert_nothing_lost_or_repeated(&self, what: &str, before: &[Vec<Vec<u8>>]) {
        let (from, to) = (
            self.records(self.source, &self.topic),
            self.records(self.target, &self.remote),
        );
        for number in 0..PARTITIONS as usize {
            let (from, to, before) = (&from[number], &to[number], &before[number]);
            let distinct: BTreeSet<_> = before.iter().collect();
            let repeated = before.len() - distinct.len();
            assert_eq!(
                to.len(),
                from.len() + repeated,
                "{what}: records of partition {number}"
            );
            let mut seen = BTreeSet::new();
            let first: Vec<_> = to.iter().filter(|key| seen.insert(*key)).collect();
            assert!(first.into_iter().eq(from), "{what}: order of partition {number}");
        }
    }

    fn copied_by_mirror_maker(&self) -> bool {
        let there = self.target.bootstrap();
        oracle::topics(&there).contains(&self.remote)
            && oracle::end_offsets(&there, &self.remote, Isolation::ReadCommitted) != [0; PARTITIONS as usize]
    }

    fn wait_for_target_records(&self) {
        let count = |cluster: &Cluster, topic: &str| {
            oracle::digest(&cluster.bootstrap(), topic, Isolation::ReadCommitted).records
        };
        let all = count(self.source, &self.topic);
        wait_until("MirrorMaker 2 has copied everything", LONG, || {
            all <= count(self.target, &self.remote)
        });
    }
}

fn take_over(files: &Files) -> Ran {
    files.run(&["import", "mm2-state", "--execute", "--output", "json"])
}

/// What it says of the flow's own topic.
fn positions(ran: &Ran, topic: &str) -> Vec<Value> {
    let json = ran.json();
    let all = json["positions"].as_array().expect("a list").iter();
    all.filter(|it| it["topic"] == topic).cloned().collect()
}

#[test]
fn a_flow_goes_on_where_a_killed_mirror_maker_left_off_and_mirror_maker_where_the_flow_does() {
    let flow = Flow::new();
    let load = Load::start(&flow.source.bootstrap(), &flow.topic, PARTITIONS, SECOND, 100);
    let mut mm2 = flow.mirror_maker("");
    let text = flow.topology(&format!(
        "  tasks: {TASKS}\n  mirror_maker: {{ mirror_positions: true }}\n"
    ));
    let files = Files::new(&flow.clusters(), &[&text]);
    wait_until("MirrorMaker 2 copies", LONG, || flow.copied_by_mirror_maker());
    // It waits for the seat of a worker that might be dead.
    let running = thread::scope(|scope| {
        let running = scope.spawn(|| take_over(&files));
        flow.wait_for_positions();
        running.join().expect("it does not panic")
    });
    assert_eq!(running.code, 1, "{}", running.all());
    assert!(running.stderr.contains("L202"), "{}", running.all());

    thread::sleep(Random::new().moment(Duration::from_millis(3_500)));
    mm2.kill9();
    let before = flow.records(flow.target, &flow.remote);
    let taken = take_over(&files);
    assert_eq!(taken.code, 0, "{}", taken.all());
    let taken = positions(&taken, &flow.topic);
    assert_eq!(taken.len(), PARTITIONS as usize);
    assert!(taken.iter().all(|it| it["not_provable"].is_null()), "{taken:#?}");
    let left_out: u64 = taken.iter().filter_map(|it| it["left_out"].as_u64()).sum();
    eprintln!("left out: {left_out} records that MirrorMaker 2 had not stored");

    let mut daemon = flow.daemon(&text);
    wait_until_copied(&daemon, flow.source, &flow.topic, LONG);
    let written = load.stop();
    assert!(0 < written);
    wait_until_copied(&daemon, flow.source, &flow.topic, LONG);
    flow.assert_nothing_lost_or_repeated("taken over", &before);

    // Groups find their places in what MM2 had copied, too: never behind it, exactly in what was compared.
    let (from, to) = (
        flow.records(flow.source, &flow.topic),
        flow.records(flow.target, &flow.remote),
    );
    let translate = |number: usize, offset: i64| {
        let (partition, text) = (number.to_string(), offset.to_string());
        let asked = files.run(&[
            "offsets",
            "translate",
            "--topic",
            &flow.topic,
            "--partition",
            &partition,
            "--offset",
            &text,
            "--output",
            "json",
        ]);
        asked.json()
    };
    let check = |it: &Value| {
        let number = it["partition"].as_i64().expect("a number") as usize;
        let last = it["last_copied_by_mm2"].as_i64().expect("a number");
        let next = it["next_source_offset"].as_i64().expect("a number");
        for (offset, exact) in [
            (last + 1, true),
            (next, true),
            (next + 5, true),
            (last - 70, false),
        ] {
            let answer = translate(number, offset);
            let target = answer["target_offset"]
                .as_u64()
                .unwrap_or_else(|| panic!("{answer}")) as usize;
            let (wanted, got) = (&from[number][offset as usize..], &to[number][target..]);
            assert!(
                got.ends_with(wanted),
                "{answer}: {} and {}",
                wanted.len(),
                got.len()
            );
            assert!(!exact || got.len() == wanted.len(), "{answer}");
            assert!(
                got.len() - wanted.len() <= 60,
                "{answer}: more than a sync is read again"
            );
        }
    };
    thread::scope(|scope| {
        for it in &taken {
            scope.spawn(|| check(it));
        }
    });

    // A crash, and MM2 goes on: what it finds may be old, so records come again, but none is left out.
    let load = Load::start(&flow.source.bootstrap(), &flow.topic, PARTITIONS, SECOND, 100);
    let end = oracle::end_offsets(&flow.source.bootstrap(), &flow.topic, Isolation::ReadCommitted)[0];
    daemon.wait_for("it copies under load", LONG, |status| {
        partition(status, &flow.topic, 0)
            .is_some_and(|it| it["next_source_offset"].as_i64() > Some(end + 200))
    });
    daemon.kill9();
    load.stop();
    mm2.restart();
    flow.end_transactions();
    wait_until("MirrorMaker 2 has caught up", LONG, || {
        let (from, to) = (
            flow.records(flow.source, &flow.topic),
            flow.records(flow.target, &flow.remote),
        );
        from.iter()
            .zip(&to)
            .all(|(from, to)| from.last() == to.last() && from.len() <= to.len())
    });
    mm2.terminate(LONG);
    let (from, to) = (
        flow.records(flow.source, &flow.topic),
        flow.records(flow.target, &flow.remote),
    );
    for number in 0..PARTITIONS as usize {
        let mut there = to[number].iter();
        assert!(
            from[number].iter().all(|key| there.any(|it| it == key)),
            "partition {number} lacks records"
        );
        eprintln!(
            "after a crash repeated in partition {number}: {}",
            to[number].len() - from[number].len()
        );
    }
    let taken = take_over(&files);
    assert_eq!(taken.code, 0, "{}", taken.all());
    daemon.restart();
    wait_until_copied(&daemon, flow.source, &flow.topic, LONG);

    // Back to MM2, which finds its own position where the flow has stopped.
    assert_eq!(daemon.terminate(LONG), 0);
    load::fill(
        &flow.source.bootstrap(),
        &flow.topic,
        PARTITIONS,
        3_000,
        100,
        "none",
    );
    let before = flow.records(flow.target, &flow.remote);
    mm2.restart();
    flow.wait_for_positions();
    wait_for_all(&flow, &before, 3_000);

    // A flow whose positions MM2 shares does not start beside it.
    daemon.restart();
    daemon.wait_for("the flow waits", LONG, |status| {
        status["flows"][0].to_string().contains("L202")
    });
    assert_eq!(daemon.terminate(LONG), 0);

    // And forth again: MM2 stops in good order, and the flow goes on behind what it has copied.
    mm2.terminate(LONG);
    let before = flow.records(flow.target, &flow.remote);
    load::fill(
        &flow.source.bootstrap(),
        &flow.topic,
        PARTITIONS,
        300,
        100,
        "none",
    );
    let again = take_over(&files);
    assert_eq!(again.code, 0, "{}", again.all());
    daemon.restart();
    wait_until_copied(&daemon, flow.source, &flow.topic, LONG);
    let after = flow.records(flow.target, &flow.remote);
    for number in 0..PARTITIONS as usize {
        assert_eq!(
            after[number].len(),
            before[number].len() + 100,
            "partition {number}"
        );
    }
    assert_eq!(daemon.terminate(LONG), 0);
}

/// Waits until each partition has got its share of `count` new records, which is all it gets.
fn wait_for_all(flow: &Flow, before: &[Vec<Vec<u8>>], count: usize) {
    flow.wait_for_target_records();
    let after = flow.records(flow.target, &flow.remote);
    for (number, (before, after)) in before.iter().zip(&after).enumerate() {
        assert_eq!(
            after.len(),
            before.len() + count / PARTITIONS as usize,
            "partition {number}"
        );
    }
}

#[test]
fn a_killed_mirror_maker_that_worked_exactly_once_is_fenced_and_taken_over() {
    let flow = Flow::new();
    let load = Load::start(&flow.source.bootstrap(), &flow.topic, PARTITIONS, SECOND, 100);
    let more = format!(
        // Transactions are open nearly all the time, so that the kill leaves one.
        "{0}.exactly.once.source.support = enabled\n{1}.consumer.isolation.level = read_committed\n\
         {1}->{0}.transaction.boundary = interval\n{1}->{0}.transaction.boundary.interval.ms = 3000",
        flow.busan, flow.seoul
    );
    let mm2 = flow.mirror_maker(&more);
    let text = flow.topology("");
    let files = Files::new(&flow.clusters(), &[&text]);
    flow.wait_for_positions();
    thread::sleep(Random::new().moment(Duration::from_millis(3_500)));
    mm2.kill9();
    let taken = take_over(&files);
    assert_eq!(taken.code, 0, "{}", taken.all());
    // It is fenced: nobody has to wait until what it left open times out.
    assert!(taken.took < Duration::from_secs(45), "{:?}", taken.took);
    let before = flow.records(flow.target, &flow.remote);
    let daemon = flow.daemon(&text);
    load.stop();
    wait_until_copied(&daemon, flow.source, &flow.topic, LONG);
    flow.assert_nothing_lost_or_repeated("exactly once", &before);
    assert_eq!(daemon.terminate(LONG), 0);
}
