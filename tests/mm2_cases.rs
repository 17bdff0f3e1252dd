//! MM2's own test cases of translation as a foreign suite: the unmodified `OffsetSyncStore` and our offset map are
//! told the same history, and asked for the same positions.
//!
//! MM2 knows a few records of a partition, its syncs, and answers one behind the last that it still has. The
//! offset map knows them all. So the two differ, but in one direction only: ours is never behind the record that
//! the group would read next, and never before MM2's answer, unless that one skips records.

use std::collections::BTreeMap;

use causeway::kafka::groups::Commit;
use causeway::kafka::{Offset, Source, Target, TopicPartition};
use causeway::mm2::{KeyValue, OffsetSync};
use causeway::offset_map::{MapWriter, PartitionMap, Segment, Translation, decode_key, encode_key};
use causeway::services::group_sync::decide::{self, Decision, Group, Placements, Translated};
use causeway::topology::MetadataSync;

use crate::harness::Random;
use crate::harness::oracle::mm2 as java;

const TOPIC: &str = "orders";

fn here() -> TopicPartition {
    TopicPartition::new(TOPIC, 2)
}

fn sync(up: i64, down: i64) -> KeyValue {
    let sync = OffsetSync {
        topic_partition: here(),
        upstream: Source(Offset(up)),
        downstream: Target(Offset(down)),
    };
    sync.encode().expect("a short name")
}

/// What happens in a case, and what is asked in between.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Copying begins at this source and target offset, or goes back to them.
    Begin(i64, i64),
    /// As [`Step::Begin`], where nothing that comes before was ever copied.
    Origin(i64, i64),
    /// So many records from this source offset on stand from this target offset on.
    Records(i64, i64, u32),
    /// MM2's source task writes a sync, for a record that was just copied.
    Sync(i64, i64),
    /// MM2's checkpoint task has read the syncs written so far; it makes use of all of them, or of the last.
    Loaded(History),
    /// A group's position, what MM2 makes of it, what we do, and why these differ.
    Ask(i64, Option<i64>, Ours, &'static str),
    /// As [`Step::Ask`], where MM2's answer lies behind the record that the group would read next.
    AskUnsafe(i64, Option<i64>, Ours, &'static str),
    /// All these positions, where only safety is compared.
    AskAll(i64, i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum History {
    All,
    /// MM2 before 3.7.1, and where it cannot read its checkpoints.
    LastSync,
}

/// Our answer in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ours {
    /// A record.
    Exact(i64),
    /// Behind all that is copied, which is where the group stands on the source.
    End(i64),
    /// Behind all that is copied; the group is further.
    Ahead(i64),
    TooOld,
    Unknown,
}

fn short(of: Translation) -> Ours {
    match of {
        Translation::Exact { target, run: Some(_) } => Ours::Exact(target),
        Translation::Exact { target, run: None } => Ours::End(target),
        Translation::Ahead { target, .. } => Ours::Ahead(target),
        Translation::TooOld { .. } => Ours::TooOld,
        Translation::Unknown => Ours::Unknown,
        Translation::Bound { .. } => panic!("nothing was thinned"),
    }
}

/// A history as both sides know it, and the truth.
struct World {
    map: PartitionMap,
    writer: Option<MapWriter>,
    generation: u32,
    /// Source offset → target offset of its last copy.
    truth: BTreeMap<i64, i64>,
    source_end: i64,
    target_end: i64,
    syncs: java::OffsetSyncs,
}

impl World {
    fn new() -> Self {
        Self {
            map: PartitionMap::new(here()),
            writer: None,
            generation: 0,
            truth: BTreeMap::new(),
            source_end: 0,
            target_end: 0,
            syncs: java::OffsetSyncs::default(),
        }
    }

    fn begin(&mut self, origin: bool, source: i64, target: i64) {
        self.commit();
        self.generation += u32::from(self.writer.is_some());
        self.truth
            .retain(|from, to| !origin && *from < source && *to < target);
        (self.source_end, self.target_end) = (source, target);
        self.writer = Some(MapWriter::new(self.generation, origin, source, target));
    }

    fn copy(&mut self, source: i64, target: i64, count: u32) {
        let writer = self.writer.as_mut().expect("copying has begun");
        writer.observe(source, target, count);
        for n in 0..i64::from(count) {
            self.truth.insert(source + n, target + n);
        }
        (self.source_end, self.target_end) = (source + i64::from(count), target + i64::from(count));
    }

    /// The task commits, and a reader of the topic takes in what it wrote.
    fn commit(&mut self) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        for segment in writer.segments(self.source_end) {
            let (key, value) = (encode_key(&segment.key(&here())), segment.encode());
            let key = decode_key(&key).expect("it can be read");
            let segment = Segment::decode(&key, &value).expect("it can be read");
            self.map.apply(&key, Some((segment, 0)));
        }
        writer.committed(self.source_end);
    }

    fn sync(&mut self, up: i64, down: i64) {
        assert!(
            self.truth.is_empty() || self.truth.get(&up) == Some(&down),
            "a sync of a record that was copied"
        );
        self.syncs.live.push(sync(up, down));
    }

    /// MM2's answers and ours; ours are held against the truth and against MM2's.
    fn ask(&mut self, positions: &[i64], mm2_skips: bool) -> Vec<(Option<i64>, Translation)> {
        self.commit();
        let theirs = self.syncs.translate(TOPIC, 2, positions);
        let both = positions.iter().zip(theirs);
        both.map(|(position, theirs)| {
            let ours = self.map.translate(*position);
            let next = self.truth.range(*position..).next().map(|(_, target)| *target);
            let truth = next.unwrap_or(self.target_end);
            // Where the partition is unknown to both, nothing was copied.
            let safe = ours.target().is_none_or(|target| target <= truth);
            assert!(safe, "{position}: {ours:?} skips what stands at {truth}");
            if let (Some(target), Some(next)) = (ours.target(), next) {
                assert_eq!(target, next, "{position}: {ours:?} is exact");
            }
            let given = theirs.filter(|theirs| 0 <= *theirs);
            let skips = given.is_some_and(|theirs| truth < theirs);
            assert_eq!(
                skips, mm2_skips,
                "{position}: MM2 says {theirs:?}, the record is at {truth}"
            );
            if !skips {
                assert!(
                    given <= ours.target(),
                    "{position}: MM2 says {theirs:?}, we {ours:?}"
                );
            }
            (theirs, ours)
        })
        .collect()
    }

    fn step(&mut self, case: &str, step: Step) {
        match step {
            Step::Begin(source, target) => self.begin(false, source, target),
            Step::Origin(source, target) => self.begin(true, source, target),
            Step::Records(source, target, count) => self.copy(source, target, count),
            Step::Sync(up, down) => self.sync(up, down),
            Step::Loaded(history) => {
                self.syncs.startup = std::mem::take(&mut self.syncs.live);
                self.syncs.must_read_to_end = history == History::LastSync;
            }
            Step::Ask(position, theirs, ours, why) | Step::AskUnsafe(position, theirs, ours, why) => {
                let answer = self.ask(&[position], matches!(step, Step::AskUnsafe(..)))[0];
                assert_eq!(
                    (answer.0, short(answer.1)),
                    (theirs, ours),
                    "{case}: {position}, MM2's answer and ours"
                );
                let same = answer.0 == answer.1.target();
                assert_eq!(
                    same,
                    why.is_empty(),
                    "{case}: {position}: a difference has a reason"
                );
            }
            Step::AskAll(from, to) => {
                self.ask(&(from..=to).collect::<Vec<_>>(), false);
            }
        }
    }
}

const SPARSE: &str = "MM2 has forgotten the sync of that record";
const BETWEEN: &str = "MM2 counts one behind a sync, we count all records";
const BEFORE: &str = "MM2 has no sync so old; nothing so old was ever copied, so the first copy is the next";
const GONE: &str = "what MM2 answers from is gone from the target: it lies behind its end";
const LAST_SYNC: &str = "MM2 makes no use of syncs before its start";

use History::{All, LastSync};
use Ours::{Ahead, End, Exact, TooOld, Unknown};
use Step::{Ask, AskAll, AskUnsafe, Begin, Loaded, Origin, Records, Sync};

/// By the name of MM2's test; the syncs and MM2's answers are those of the test, or of its real store.
const CASES: &[(&str, &[Step])] = &[
    (
        "OffsetSyncStoreTest.testOffsetTranslation",
        &[
            // Records, a hole on the target, records.
            Origin(100, 200),
            Records(100, 200, 50),
            Sync(100, 200),
            Ask(150, Some(201), End(250), BETWEEN),
            Records(150, 251, 2),
            Sync(150, 251),
            Ask(150, Some(251), Exact(251), ""),
            Ask(151, Some(252), Exact(252), ""),
            Ask(5, Some(-1), Exact(200), BEFORE),
            // The target was made anew; what was copied before is gone.
            Begin(200, 10),
            Records(200, 10, 1),
            Sync(200, 10),
            Ask(200, Some(10), Exact(10), ""),
            AskAll(201, 300),
            AskUnsafe(150, Some(251), TooOld, GONE),
            AskUnsafe(199, Some(252), TooOld, GONE),
            // The source was made anew.
            Origin(20, 20),
            Records(20, 20, 1),
            Sync(20, 20),
            Ask(20, Some(20), Exact(20), ""),
            Ask(19, Some(-1), Exact(20), BEFORE),
        ],
    ),
    (
        "OffsetSyncStoreTest.testNoTranslationIfStoreNotStarted",
        // Before: the reader of the offset map answers an error, and nobody translates.
        &[
            Origin(100, 200),
            Records(100, 200, 1),
            Sync(100, 200),
            Loaded(All),
            Ask(0, Some(-1), Exact(200), BEFORE),
            Ask(100, Some(200), Exact(200), ""),
            Ask(200, Some(201), Ahead(201), ""),
        ],
    ),
    (
        "OffsetSyncStoreTest.testNoTranslationIfNoOffsetSync",
        &[Ask(0, None, Unknown, "")],
    ),
    (
        "MirrorConnectorsIntegrationBaseTest.testReplicationWithEmptyPartition",
        &[
            // An empty partition whose copying has begun. MM2 gets there by its rule for offset 0 elsewhere.
            Origin(0, 0),
            Ask(
                0,
                None,
                End(0),
                "the map says from the start on where copying begins",
            ),
        ],
    ),
    (
        "MirrorSourceTaskTest.testOffsetSync, offset.lag.max=50",
        &[
            // Which records are due is in the test: here those that are have a sync.
            Origin(0, 100),
            Records(0, 100, 1),
            Sync(0, 100),
            AskAll(0, 1),
            Records(2, 102, 1),
            Sync(2, 102),
            AskAll(0, 3),
            Records(3, 152, 1),
            Ask(3, Some(103), Exact(152), BETWEEN),
            Records(4, 153, 1),
            Sync(4, 153),
            Records(5, 154, 1),
            Sync(5, 154),
            Records(6, 203, 1),
            Ask(6, Some(155), Exact(203), BETWEEN),
            Records(7, 204, 1),
            Sync(7, 204),
            AskAll(0, 9),
            // The source lost its end.
            Begin(2, 206),
            Records(2, 206, 1),
            Sync(2, 206),
            Records(3, 207, 1),
            AskAll(0, 5),
            // The target was made anew.
            Begin(4, 3),
            Records(4, 3, 1),
            Sync(4, 3),
            Records(5, 4, 1),
            Ask(4, Some(3), Exact(3), ""),
            Ask(5, Some(4), Exact(4), ""),
            AskUnsafe(2, Some(206), TooOld, GONE),
            AskUnsafe(3, Some(207), TooOld, GONE),
            Records(7, 6, 1),
            Sync(7, 6),
            Ask(7, Some(6), Exact(6), ""),
            Ask(8, Some(7), End(7), ""),
        ],
    ),
    (
        "MirrorSourceTaskTest.testZeroOffsetSync, offset.lag.max=0",
        &[
            Origin(0, 100),
            Records(0, 100, 1),
            Sync(0, 100),
            Ask(0, Some(100), Exact(100), ""),
            Records(2, 102, 1),
            Sync(2, 102),
            Ask(2, Some(102), Exact(102), ""),
            Ask(1, Some(101), Exact(102), BETWEEN),
            Records(3, 153, 1),
            Sync(3, 153),
            Records(4, 154, 1),
            Sync(4, 154),
            AskAll(0, 6),
        ],
    ),
    (
        "MirrorSourceTaskTest.testCommitRecordWithNullMetadata",
        &[
            // A record that a transformation dropped: a hole on the source, none on the target.
            Origin(0, 0),
            Records(0, 0, 3),
            Sync(0, 0),
            Records(4, 3, 1),
            Sync(4, 3),
            Ask(3, Some(1), Exact(3), BETWEEN),
            Ask(4, Some(3), Exact(3), ""),
        ],
    ),
    (
        "OffsetSyncWriterTest.testMaybeQueueOffsetSyncs, testPromoteDelayedOffsetSyncs",
        &[
            // The second record's sync waits for the next flush; then it is told.
            Origin(0, 100),
            Records(0, 100, 1),
            Sync(0, 100),
            Records(1, 101, 1),
            Ask(2, Some(101), End(102), BETWEEN),
            Sync(1, 101),
            Ask(2, Some(102), End(102), ""),
        ],
    ),
    (
        "MirrorCheckpointTaskTest.testCheckpoint",
        &[
            Origin(3, 4),
            Records(3, 4, 7),
            Sync(3, 4),
            Ask(10, Some(5), End(11), BETWEEN),
            Ask(3, Some(4), Exact(4), ""),
        ],
    ),
    (
        "MirrorCheckpointTaskTest.testNoCheckpointForTopicWithoutOffsetSyncs",
        &[Ask(10, None, Unknown, "")],
    ),
    (
        "MirrorConnectorsIntegrationBaseTest.testNoCheckpointsIfNoRecordsAreMirrored",
        &[
            Ask(1, None, Unknown, ""),
            Origin(0, 0),
            Records(0, 0, 1),
            Sync(0, 0),
            Ask(1, Some(1), End(1), ""),
        ],
    ),
    (
        "MirrorCheckpointTaskTest.testCheckpointRecordsMonotonicIfStoreRewinds",
        &[
            Origin(11, 4),
            Records(11, 4, 1),
            Sync(11, 4),
            Records(12, 5, 1),
            Sync(12, 5),
            Ask(13, Some(6), End(6), ""),
            Records(13, 6, 5),
            Sync(13, 6),
            Sync(14, 7),
            Sync(15, 8),
            Sync(16, 9),
            Sync(17, 10),
            // MM2's answer went back, and its filter has to hide that; ours stays.
            Ask(13, Some(5), Exact(6), SPARSE),
            Ask(12, Some(5), Exact(5), ""),
        ],
    ),
    (
        "MirrorCheckpointTaskTest.testCheckpointsTaskRestartUsesExistingCheckpoints, before the restart",
        &[
            Origin(100, 100),
            Records(100, 100, 201),
            Sync(100, 100),
            Sync(200, 200),
            Sync(300, 300),
            Loaded(All),
            Ask(250, Some(201), Exact(250), BETWEEN),
        ],
    ),
    (
        "MirrorCheckpointTaskTest.testCheckpointsTaskRestartUsesExistingCheckpoints, after it",
        &[
            Origin(100, 100),
            Records(100, 100, 376),
            Sync(175, 175),
            Sync(275, 275),
            Sync(375, 375),
            Sync(475, 475),
            Loaded(All),
            Ask(250, Some(176), Exact(250), BETWEEN),
            Ask(370, Some(176), Exact(370), SPARSE),
            Ask(400, Some(376), Exact(400), BETWEEN),
        ],
    ),
    (
        "MirrorConnectorsIntegrationBaseTest.testRestartReplication, without read access to the checkpoints",
        &[
            Origin(0, 0),
            Records(0, 0, 51),
            Sync(0, 0),
            Sync(50, 50),
            Loaded(LastSync),
            Ask(10, Some(-1), Exact(10), LAST_SYNC),
            Ask(50, Some(50), Exact(50), ""),
        ],
    ),
    (
        "MirrorConnectorsIntegrationBaseTest.testReplicateFromLatest",
        &[
            Origin(50, 0),
            Ask(10, None, End(0), BEFORE),
            Records(50, 0, 3),
            Sync(50, 0),
            Ask(10, Some(-1), Exact(0), BEFORE),
            Ask(52, Some(1), Exact(2), BETWEEN),
        ],
    ),
    (
        "MirrorConnectorsIntegrationTransactionsTest",
        &[
            // A transaction of each two records, its marker on either side.
            Origin(0, 0),
            Records(0, 0, 2),
            Sync(0, 0),
            Records(3, 3, 2),
            Sync(3, 3),
            Records(6, 6, 2),
            Sync(6, 6),
            Ask(2, Some(1), Exact(3), BETWEEN),
            Ask(5, Some(4), Exact(6), BETWEEN),
            Ask(8, Some(7), End(8), BETWEEN),
            AskAll(0, 9),
        ],
    ),
    (
        "KAFKA-12468: until 3.4.1 the gap behind a sync was added",
        &[
            // A compacted source: of offsets 0 to 99 three are left. Adding the gap would skip two of them.
            Origin(0, 0),
            Records(0, 0, 1),
            Sync(0, 0),
            Records(98, 1, 2),
            Ask(50, Some(1), Exact(1), ""),
            Ask(99, Some(1), Exact(2), BETWEEN),
            Ask(100, Some(1), End(3), BETWEEN),
        ],
    ),
];

#[test]
fn mm2s_cases_are_answered_no_less_safely_and_no_earlier() {
    for (case, steps) in CASES {
        let mut world = World::new();
        for step in *steps {
            world.step(case, *step);
        }
    }
}

/// A store's input and what it keeps of it, as MM2's tests and its real class have it.
struct Golden {
    name: &'static str,
    first: i64,
    last: i64,
    step: i64,
    /// Syncs up to this one were on the topic when the checkpoint task started.
    startup_to: Option<i64>,
    history: History,
    kept: &'static [i64],
}

const GOLDEN: &[Golden] = &[
    Golden {
        name: "each record has a sync",
        first: 0,
        last: 1000,
        step: 1,
        startup_to: None,
        history: All,
        kept: &[0, 512, 768, 896, 960, 976, 992, 996, 998, 999, 1000],
    },
    Golden {
        name: "each tenth record",
        first: 0,
        last: 10_000,
        step: 10,
        startup_to: None,
        history: All,
        kept: &[0, 3840, 7680, 8640, 9120, 9600, 9840, 9900, 9960, 9990, 10_000],
    },
    Golden {
        name: "each hundredth record",
        first: 0,
        last: 100_000,
        step: 100,
        startup_to: None,
        history: All,
        kept: &[
            0, 51_200, 76_800, 89_600, 96_000, 97_600, 99_200, 99_600, 99_800, 99_900, 100_000,
        ],
    },
    Golden {
        name: "OffsetSyncStoreTest.testPastOffsetTranslation",
        first: 0,
        last: 10_000,
        step: 10,
        startup_to: Some(1000),
        history: LastSync,
        kept: &[1000, 4840, 6760, 8680, 9160, 9640, 9880, 9940, 9970, 9990, 10_000],
    },
    Golden {
        name: "OffsetSyncStoreTest.testPastOffsetTranslationWithoutInitializationReadToEnd",
        first: 0,
        last: 10_000,
        step: 10,
        startup_to: Some(1000),
        history: All,
        kept: &[0, 3840, 7680, 8640, 9120, 9600, 9840, 9900, 9960, 9990, 10_000],
    },
];

/// The store has 64 places per partition and fills eleven of them; the map has every record in one run each.
#[test]
fn where_mm2s_store_keeps_eleven_syncs_every_record_is_found() {
    for golden in GOLDEN {
        let mut world = World::new();
        // The target has a hole behind each sync, so that no two syncs give the same answer.
        let target = |up: i64| up + up / golden.step * golden.step;
        world.begin(true, golden.first, target(golden.first));
        for up in (golden.first..=golden.last).step_by(golden.step as usize) {
            world.copy(up, target(up), golden.step as u32);
            world.sync(up, target(up));
            if golden.startup_to == Some(up) {
                world.step(golden.name, Loaded(golden.history));
            }
        }
        let ups: Vec<i64> = (golden.first..=golden.last)
            .step_by(golden.step as usize)
            .flat_map(|up| [up, up + golden.step / 2])
            .collect();
        let answers = world.ask(&ups, false);
        let mut kept: Vec<i64> = ups
            .iter()
            .zip(&answers)
            .filter(|(up, (theirs, _))| *theirs == Some(target(**up)) && **up % golden.step == 0)
            .map(|(up, _)| *up)
            .collect();
        kept.dedup();
        assert_eq!(kept, golden.kept, "{}: what MM2 keeps", golden.name);
        for (up, (_, ours)) in ups.iter().zip(answers) {
            assert!(matches!(short(ours), Exact(_)), "{}: {up}: {ours:?}", golden.name);
        }
    }
}

/// `OffsetSyncStoreTest.testConsistentlySpacedSyncs`, `testRandomlySpacedSyncs`, `testDroppedSyncsSpacing`: theirs
/// are about how many syncs the store gives up for a new one; what counts here is what becomes of the answers.
#[test]
fn however_syncs_are_spaced_no_answer_is_earlier_than_mm2s() {
    let mut random = Random::new();
    for case in 0..24 {
        let mut world = World::new();
        let begin = random.below(5000);
        world.begin(true, begin, begin + random.below(50));
        for _ in 0..150 {
            let (consistent, bits, lag) = (case % 3 == 0, 1 + case / 3, 20);
            let gap = match case % 3 {
                0 => 1 << (case / 3),
                1 => 1 + random.below(1 << bits),
                _ => lag,
            };
            // Of these offsets some have records; holes are at the end and on either side.
            let count = if consistent { gap } else { 1 + random.below(gap) };
            let (up, down) = (world.source_end, world.target_end + random.below(3));
            world.copy(up, down, count as u32);
            world.source_end = up + gap;
            let dropped = case % 3 == 2 && random.below(3) == 0;
            if !dropped {
                world.sync(up, down);
            }
        }
        let end = world.source_end;
        let positions: Vec<i64> = (0..400).map(|_| random.below(end + 10)).collect();
        let answers = world.ask(&positions, false);
        let better = answers
            .iter()
            .filter(|(theirs, ours)| *theirs < ours.target())
            .count();
        assert!(
            100 < better,
            "case {case}: MM2 finds as much as we, {better} of 400 apart"
        );
    }
}

/// 10,000,000 records, a group 1,000,000 behind, and MM2 with its default `offset.lag.max` of 100.
#[test]
fn a_group_far_behind_reads_nothing_again_where_mm2_reads_most_of_its_lag_again() {
    let mut world = World::new();
    let (records, lag) = (10_000_000, 1_000_000);
    world.begin(true, 0, 0);
    world
        .writer
        .as_mut()
        .expect("begun")
        .observe(0, 0, records as u32);
    (world.source_end, world.target_end) = (records, records);
    // A sync is due when more than offset.lag.max records came since the last.
    world.syncs.live = (0..records).step_by(101).map(|up| sync(up, up)).collect();
    world.commit();
    let position = records - lag;
    let theirs = world.syncs.translate(TOPIC, 2, &[position])[0].expect("a sync");
    let ours = world.map.translate(position).target().expect("a place");
    println!(
        "read again: MM2 {}, causeway {}",
        position - theirs,
        position - ours
    );
    assert_eq!(ours, position);
    assert_eq!(position - theirs, 726_079);
    assert!(
        world.map.stored_bytes() < 64,
        "{} bytes",
        world.map.stored_bytes()
    );
}

fn commit(offset: i64) -> Commit {
    Commit {
        offset,
        leader_epoch: None,
        metadata: "metadata".into(),
    }
}

fn group(source: i64, target: i64) -> Group {
    let translation = Translation::Exact { target, run: None };
    let source = commit(source);
    let metadata = source.metadata.clone();
    let translated = Translated {
        source,
        translation,
        metadata,
    };
    [(here(), translated)].into()
}

/// `MirrorCheckpointTaskTest.testSyncOffset` and `testSyncOffsetForTargetGroupWithNullOffsetAndMetadata`.
#[test]
fn a_group_without_members_that_is_behind_its_checkpoint_gets_it() {
    let written = |now: &Group, there: Option<i64>| {
        let there = there.map(|offset| (here(), commit(offset))).into_iter().collect();
        let decision = decide::decide(now, None, &there, |tp| Some(tp.clone()));
        let Decision::Follow { writes, .. } = decision else {
            panic!("{decision:?}");
        };
        writes.values().map(|it| (it.offset, it.metadata.clone())).next()
    };
    let metadata = || "metadata".to_owned();
    assert_eq!(written(&group(200, 101), Some(100)), Some((101, metadata())));
    assert_eq!(written(&group(100, 51), Some(50)), Some((51, metadata())));
    // A position that was reset to −1 is none: a look at the target does not have it.
    assert_eq!(written(&group(200, 101), None), Some((101, metadata())));
}

/// `MirrorCheckpointTaskTest.testNoCheckpointForTopicWithNullOffsetAndMetadata`,
/// `testCheckpointRecordsMonotonicIfStoreRewinds`.
#[test]
fn checkpoints_are_told_as_mm2_tells_them() {
    let (mut map, mut writer) = (PartitionMap::new(here()), MapWriter::new(0, true, 11, 4));
    writer.observe(11, 4, 7);
    for segment in writer.segments(18) {
        map.apply(&segment.key(&here()), Some((segment.clone(), 0)));
    }
    let maps = BTreeMap::from([(here(), map)]);
    let at = |offset: i64| {
        decide::translate(
            &[(here(), commit(offset))].into(),
            |tp| maps.get(tp),
            MetadataSync::Always,
            |_| true,
        )
    };
    let told = |now: &Group, before: Option<&Placements>| -> Vec<i64> {
        let told = decide::checkpoints(now, before);
        told.values().map(|it| it.target).collect()
    };
    let none: [i64; 0] = [];
    assert_eq!(told(&at(-1), None), none, "no position, no checkpoint");
    assert_eq!(told(&at(13), None), [6]);
    let before = decide::checkpoints(&at(13), None);
    // A store that went back is not told; a group that went back is.
    assert_eq!(told(&group(13, 5), Some(&before)), none);
    assert_eq!(told(&at(12), Some(&before)), [5]);
}

/// MM2's tests about translation that are not among the cases above: what stands in their place.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "OffsetSyncTest.testSerde, CheckpointTest.testSerde, HeartbeatTest.testSerde",
        "mm2_records::mm2_reads_and_writes_the_same_bytes",
    ),
    (
        "MirrorConnectorsIntegrationBaseTest.testReplication: failover of a group by its checkpoints",
        "positions::a_position_ahead_of_replication_is_held_at_its_end_and_mm2s_clients_find_the_checkpoints",
    ),
    (
        "MirrorConnectorsIntegrationBaseTest.testOneWayReplicationWithAutoOffsetSync, \
         testOneWayReplicationWithFrequentOffsetSyncs, IdentityReplicationIntegrationTest",
        "positions::a_hundred_groups_continue_at_the_very_record_after_kills_in_both_modes",
    ),
    (
        "MirrorConnectorsIntegrationBaseTest.testOffsetTranslationBehindReplicationFlow, testRestartReplication",
        "translation::checkpoints_go_forward_through_restarts_and_back_only_with_their_group",
    ),
    (
        "MirrorConnectorsIntegrationBaseTest.testOffsetSyncsTopicsOnTarget",
        "translation::mm2s_checkpoint_connector_works_on_the_syncs_of_a_running_flow",
    ),
    (
        "MirrorConnectorsIntegrationBaseTest.testReplicationWithEmptyPartition, on brokers",
        "translation::a_group_of_an_empty_partition_gets_a_position",
    ),
    (
        "MirrorConnectorsIntegrationBaseTest.testReplicateFromLatest, on brokers",
        "translation::a_group_before_the_start_of_a_flow_from_latest_continues_at_its_first_copy",
    ),
];

/// And those that speak of nothing that causeway has.
const NOT_OURS: &[(&str, &str)] = &[
    (
        "OffsetSyncWriterTest.testFirePendingOffsetSyncs, MirrorSourceTaskTest.testSendSyncEvent",
        "runs are part of the transaction of their records: none is pending, delayed or lost",
    ),
    (
        "OffsetSyncStoreTest: the invariants of slots 0 and 63",
        "the map has no slots",
    ),
    (
        "CheckpointStoreTest.*, MirrorCheckpointTaskTest.testCheckpointStoreInitialized, \
         testCheckpointsTaskRestartUsesExistingCheckpoints: checkpoints read at the start",
        "answers do not depend on former ones: the map answers the same after a restart. The checkpoints are read \
         at the start too, see positions::a_group_that_was_reset_while_no_daemon_ran_is_followed_and_one_that_moved_on_the_target_is_not_taken_back",
    ),
    (
        "MirrorCheckpointTaskTest.testDownstreamTopicRenaming: target2.topic3 → topic3",
        "no sync is ever written for such a topic, in MM2 neither (since KAFKA-12635)",
    ),
    (
        "MirrorConnectorsIntegrationBaseTest.testReplicationWithoutOffsetSyncWillNotCreateOffsetSyncsTopic",
        "the offset map is no option; offset_sync.offset_syncs only informs others",
    ),
];

#[test]
fn what_stands_in_the_place_of_mm2s_tests_exists() {
    let files = [
        ("mm2_records", include_str!("mm2_records.rs")),
        ("positions", include_str!("positions.rs")),
        ("translation", include_str!("translation.rs")),
    ];
    for (theirs, ours) in ELSEWHERE {
        let (file, test) = ours.split_once("::").expect("file::test");
        let text = files.iter().find(|(name, _)| *name == file).expect("a file").1;
        assert!(text.contains(&format!("fn {test}()")), "{theirs}: {ours}");
    }
    assert!(
        NOT_OURS
            .iter()
            .all(|(theirs, why)| !theirs.is_empty() && !why.is_empty())
    );
}
