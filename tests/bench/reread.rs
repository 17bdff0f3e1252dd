//! How many records a lagging group reads again when it moves to the target: the case in which MirrorMaker 2
//! repeats most, a group far behind in a long partition.
//!
//! The group is known from the start and commits once everything is copied, because MirrorMaker 2 translates
//! nothing for a group that it meets later. What it reads first on the target is looked up there: keys are
//! numbered, so that says how far it went back, or what it skipped.

use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::drain::MM2_SETTINGS;
use crate::figure::Figure;
use crate::harness::mirror_maker::{MirrorMaker, MirrorMakerOptions};
use crate::harness::{load, oracle, wait_for, wait_until};
use crate::rig::{DELIVERIES, Ends, Rig};

const TOPIC: &str = "bench-reread";
const PATIENCE: Duration = Duration::from_secs(900);
/// What a position does not change in any more: ten times MirrorMaker 2's interval here, twice ours.
const SETTLED: Duration = Duration::from_secs(10);

/// `reread [RECORDS] [LAG] [--mm2]`
pub fn run(numbers: &[u64], mm2: bool) -> Vec<Figure> {
    let records = numbers.first().copied().unwrap_or(10_000_000);
    let lag = numbers.get(1).copied().unwrap_or(1_000_000);
    let rig = Rig::start(|options| options.default_jit());
    rig.source.create_topic(TOPIC, 1, &[]);
    load::fill(&rig.source.bootstrap(), TOPIC, 1, records, 10, "none");
    let case = Case {
        rig,
        records,
        position: i64::try_from(records - lag).expect("an offset"),
    };
    let mut figures = vec![];
    if mm2 {
        case.mm2(&mut figures);
    }
    for delivery in DELIVERIES {
        case.causeway(delivery, &mut figures);
    }
    figures
}

struct Case {
    rig: Rig,
    records: u64,
    /// Of the group on the source.
    position: i64,
}

impl Case {
    fn mm2(&self, figures: &mut Vec<Figure>) {
        let group = "reread-mm2";
        self.commit(group, 1);
        let settings = format!(
            "{MM2_SETTINGS}\nseoul->busan.topics = {TOPIC}\nseoul->busan.groups = {group}\n\
             seoul->busan.emit.checkpoints.enabled = true\nseoul->busan.sync.group.offsets.enabled = true\n\
             seoul->busan.offset.lag.max = 100\n"
        );
        let _copier = MirrorMaker::start(MirrorMakerOptions {
            memory: "2g".to_owned(),
            quick_start: false,
            ..MirrorMakerOptions::fast(
                &[
                    ("seoul", &self.rig.source.bootstrap()),
                    ("busan", &self.rig.target.bootstrap()),
                ],
                &settings,
            )
        });
        let remote = format!("seoul.{TOPIC}");
        let ends = Ends::new(&self.rig.target.bootstrap(), &remote, 1);
        let all = i64::try_from(self.records).expect("a count of records");
        wait_until("everything is copied", PATIENCE, || all <= ends.sum());
        figures.push(Figure::new(
            "MM2: records written more than once",
            (ends.sum() - all) as f64,
            "",
        ));
        self.measure("MM2, offset.lag.max=100", group, &remote, figures);
        self.rig.target.delete_topic(&remote);
    }

    fn causeway(&self, delivery: &str, figures: &mut Vec<Figure>) {
        let group = format!("reread-{delivery}");
        self.commit(&group, 1);
        let extra = format!("  groups: {{ include: [\"{group}\"] }}\n  compression: none\n");
        let daemon = self
            .rig
            .daemon(&format!("reread-{delivery}"), TOPIC, delivery, &extra);
        self.rig.wait_until_copied(&daemon, TOPIC, PATIENCE);
        self.measure(delivery, &group, TOPIC, figures);
        assert_eq!(daemon.terminate(Duration::from_secs(30)), 0);
        self.rig.target.delete_topic(TOPIC);
    }

    fn commit(&self, group: &str, offset: i64) {
        oracle::set_group_offset(&self.rig.source.bootstrap(), group, TOPIC, 0, offset);
    }

    /// The group commits, and what it got on the target is looked at when it has stopped changing.
    fn measure(&self, who: &str, group: &str, remote: &str, figures: &mut Vec<Figure>) {
        let target = self.rig.target.bootstrap();
        let there = || {
            let positions = oracle::group_offsets(&target, group);
            positions.iter().find(|it| it.topic == remote).map(|it| it.offset)
        };
        self.commit(group, self.position);
        let mut last = (there(), Instant::now());
        let position = wait_for("a position that stays", PATIENCE, || {
            let now = there();
            if now != last.0 {
                last = (now, Instant::now());
            }
            // The first commit has come through long ago.
            now.filter(|it| 2 < *it && SETTLED <= last.1.elapsed())
        });
        let first = first_from(&target, remote, position);
        let figure = |what: &str, value: i64| Figure::new(format!("{who}: {what}"), value.max(0) as f64, "");
        let bounded = |figure: Figure| match remote == TOPIC {
            true => figure.at_most(0.0),
            false => figure,
        };
        figures.push(bounded(figure("records read again", self.position - first)));
        figures.push(bounded(figure("records skipped", first - self.position)));
    }
}

/// The number in the key of the first record at or behind an offset.
fn first_from(bootstrap: &str, topic: &str, offset: i64) -> i64 {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        // Never joined: librdkafka wants a name to assign partitions.
        .set("group.id", "bench-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()
        .expect("these settings are right");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset))
        .expect("it is an offset");
    consumer.assign(&list).expect("it is assigned once");
    wait_for("a record behind the position", Duration::from_secs(60), || {
        let message = consumer.poll(Duration::from_millis(500))?.ok()?;
        let key = std::str::from_utf8(message.key()?).ok()?;
        key.strip_prefix("k-")?.parse().ok()
    })
}
