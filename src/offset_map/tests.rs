//! Random histories of copying against the record-by-record truth.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn partition() -> TopicPartition {
    TopicPartition::new("orders", 3)
}

/// One thing that happens to a partition.
#[derive(Clone, Debug)]
enum Step {
    /// Records after holes on both sides: (source hole, target hole, records).
    Copy(i64, i64, u32),
    Commit,
    /// The task ends without a commit. In a transaction, what it wrote since is aborted; otherwise it stays
    /// and is written again.
    Crash {
        transactional: bool,
    },
    /// The source loses this many of its last offsets; others will stand there.
    Truncate(i64),
    /// The topic is created again: offsets begin at 0.
    Recreate,
    /// The target loses this many of its last offsets.
    TargetLoses(i64),
    Compact,
    Thin {
        old_percent: i64,
        log_start_percent: Option<i64>,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (prop_oneof![4 => Just(0i64), 1 => 1i64..5], prop_oneof![4 => Just(0i64), 1 => 1i64..5], 1u32..4)
            .prop_map(|(s, t, n)| Step::Copy(s, t, n)),
        8 => Just(Step::Commit),
        1 => any::<bool>().prop_map(|transactional| Step::Crash { transactional }),
        1 => (1i64..8).prop_map(Step::Truncate),
        1 => Just(Step::Recreate),
        1 => (1i64..8).prop_map(Step::TargetLoses),
        3 => Just(Step::Compact),
        1 => (0i64..90, prop::option::of(0i64..60))
            .prop_map(|(old_percent, log_start_percent)| Step::Thin { old_percent, log_start_percent }),
    ];
    prop::collection::vec(step, 1..60)
}

fn gap() -> impl Strategy<Value = i64> {
    prop_oneof![0i64..6, 0i64..1 << 30]
}

/// The topic as the broker keeps it, the readers, and the truth.
struct World {
    topic: BTreeMap<Vec<u8>, (Vec<u8>, i64)>,
    map: PartitionMap,
    writer: MapWriter,
    generation: u32,
    /// Last copy of each record: source → target.
    truth: BTreeMap<i64, i64>,
    /// The truth as of the last commit, and the ends then.
    committed: (BTreeMap<i64, i64>, i64, i64),
    source_end: i64,
    target_end: i64,
    clock: i64,
    log_start: i64,
    /// The first segment of the generation: both offsets, and whether nothing comes before.
    began: (i64, i64, bool),
    thinned: bool,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            topic: BTreeMap::new(),
            map: PartitionMap::new(partition()),
            writer: MapWriter::new(0, true, 7, 1000),
            generation: 0,
            truth: BTreeMap::new(),
            committed: (BTreeMap::new(), 7, 1000),
            source_end: 7,
            target_end: 1000,
            clock: 0,
            log_start: 0,
            began: (7, 1000, true),
            thinned: false,
        };
        world.commit();
        world
    }

    fn write(&mut self, key: &SegmentKey, value: Option<(&Segment, i64)>) {
        let bytes = encode_key(key);
        assert_eq!(decode_key(&bytes).as_ref(), Some(key));
        let read = value.map(|(segment, at)| {
            let read = Segment::decode(key, &segment.encode()).expect("what is written can be read");
            assert_eq!(&read, segment);
            (read, at)
        });
        self.map.apply(key, read);
        match value {
            Some((segment, at)) => self.topic.insert(bytes, (segment.encode(), at)),
            None => self.topic.remove(&bytes),
        };
    }

    fn commit(&mut self) {
        self.clock += 1;
        for segment in self.writer.segments(self.source_end) {
            self.write(&segment.key(&partition()), Some((&segment, self.clock)));
        }
        self.writer.committed(self.source_end);
        self.committed = (self.truth.clone(), self.source_end, self.target_end);
    }

    /// A task begins where the last one ended, or where a rewind leads to (`Some(origin)`).
    fn session(&mut self, rewind: Option<bool>) {
        if let Some(origin) = rewind {
            self.generation += 1;
            self.began = (self.source_end, self.target_end, origin);
        }
        self.writer = match self.began {
            (source, target, origin) if source == self.source_end => {
                MapWriter::new(self.generation, origin, source, target)
            }
            _ => MapWriter::new(self.generation, false, self.source_end, self.target_end),
        };
        self.commit();
    }

    fn edit(&mut self, edits: Vec<Edit>) {
        for edit in edits {
            match edit {
                Edit::Put(segment, at) => self.write(&segment.key(&partition()), Some((&segment, at))),
                Edit::Remove(key) => self.write(&key, None),
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Copy(source_hole, target_hole, count) => {
                self.source_end += source_hole;
                self.target_end += target_hole;
                self.writer.observe(self.source_end, self.target_end, count);
                for _ in 0..count {
                    self.truth.insert(self.source_end, self.target_end);
                    self.source_end += 1;
                    self.target_end += 1;
                }
            }
            Step::Commit => self.commit(),
            Step::Crash { transactional } => {
                let (truth, source_end, target_end) = self.committed.clone();
                self.truth = truth;
                self.source_end = source_end;
                // What was written stays: as aborted records, or as first copies of what is sent again.
                self.target_end = self.target_end.max(target_end) + i64::from(transactional);
                self.session(None);
            }
            Step::Truncate(n) => {
                self.commit();
                self.source_end = (self.source_end - n).max(self.log_start);
                let end = self.source_end;
                self.truth.retain(|source, _| *source < end);
                self.session(Some(false));
            }
            Step::Recreate => {
                self.commit();
                (self.source_end, self.log_start) = (0, 0);
                self.truth.clear();
                self.session(Some(true));
            }
            Step::TargetLoses(n) => {
                self.commit();
                self.target_end -= n;
                let end = self.target_end;
                self.truth.retain(|_, target| *target < end);
                self.session(Some(false));
            }
            Step::Compact => {
                let before = self.answers();
                self.edit(self.map.compact());
                for (position, (before, after)) in before.iter().zip(self.answers()).enumerate() {
                    assert_eq!(
                        before.target(),
                        after.target(),
                        "{position}: merging changes no answer"
                    );
                }
            }
            Step::Thin {
                old_percent,
                log_start_percent,
            } => {
                let before = self.answers();
                if let Some(percent) = log_start_percent {
                    self.log_start = self.log_start.max(self.source_end * percent / 100);
                }
                let rule = Thinning {
                    older_than_ms: self.clock * old_percent / 100,
                    log_start: log_start_percent.map(|_| self.log_start),
                };
                loop {
                    let edits = self.map.upkeep(rule);
                    if edits.is_empty() {
                        break;
                    }
                    self.edit(edits);
                }
                self.thinned = true;
                for (position, (before, after)) in before.iter().zip(self.answers()).enumerate() {
                    let raised = before.target().is_none_or(|before| after.target() > Some(before));
                    assert!(
                        after.target().is_none() || !raised,
                        "{position}: {before:?} became {after:?}"
                    );
                }
            }
        }
    }

    fn answers(&self) -> Vec<Translation> {
        (0..self.source_end + 3)
            .map(|position| self.map.translate(position))
            .collect()
    }

    fn check(&self) {
        let (truth, source_end, target_end) = &self.committed;
        let mut last = i64::MIN;
        for position in 0..source_end + 3 {
            let translation = self.map.translate(position);
            let next = truth.range(position..).map(|(_, target)| *target).min();
            if let Some(target) = translation.target() {
                assert!(
                    target <= next.unwrap_or(*target_end),
                    "{position} skips: {translation:?}, not {next:?}"
                );
                assert!(
                    target <= *target_end,
                    "{position} lies behind the end: {translation:?}"
                );
                assert!(
                    last <= target,
                    "{position}: {translation:?} goes back from {last}"
                );
                last = target;
            }
            match translation {
                Translation::Exact { target, .. } => {
                    // Whether at the end or at a record: nothing already read comes again.
                    let again = truth
                        .iter()
                        .filter(|(s, t)| **s < position && target <= **t)
                        .count();
                    assert_eq!(again, 0, "{position}: {translation:?} reads again");
                    if let Some(next) = next {
                        let between = truth.values().filter(|t| target <= **t && **t < next).count();
                        assert_eq!(between, 0, "{position}: {translation:?}, the record is at {next}");
                    }
                }
                Translation::Bound { target, reread } => {
                    assert!(
                        self.thinned || self.generation > 0,
                        "{position}: {translation:?} without thinning"
                    );
                    let again = truth
                        .iter()
                        .filter(|(s, t)| **s < position && target <= **t)
                        .count();
                    assert!(
                        again as u64 <= reread,
                        "{position}: {again} records again, {translation:?}"
                    );
                }
                Translation::Ahead { copied_to, .. } => {
                    assert_eq!(copied_to, *source_end);
                    assert!(*source_end < position);
                }
                Translation::TooOld { kept_from } => {
                    assert!(self.thinned || self.generation > 0, "{position}: {translation:?}");
                    assert!(position < kept_from);
                }
                Translation::Unknown => panic!("{position}: nothing is known"),
            }
        }
    }

    /// A reader that starts now, and reads the records in another order than they were written.
    fn reload(&self, reverse: bool) -> PartitionMap {
        let mut map = PartitionMap::new(partition());
        let mut records: Vec<_> = self.topic.iter().collect();
        if reverse {
            records.reverse();
        }
        for (key, (value, at)) in records {
            let key = decode_key(key).expect("what is written can be read");
            let segment = Segment::decode(&key, value).expect("what is written can be read");
            map.apply(&key, Some((segment, *at)));
        }
        map
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Never behind the truth, never past the end, never back, exact where the map is kept, within the
    /// stated bound where it is not; whatever was truncated, created again, replayed, merged or thinned.
    #[test]
    fn an_answer_never_skips_and_says_how_exact_it_is(steps in steps()) {
        let mut world = World::new();
        for (i, step) in steps.iter().enumerate() {
            world.step(step);
            if i % 10 == 9 || i + 1 == steps.len() {
                world.check();
            }
        }
    }

    /// What a restarted reader finds on the compacted topic gives the same answers.
    #[test]
    fn a_reader_that_starts_later_answers_the_same(steps in steps(), reverse in any::<bool>()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        let (live, reloaded) = (world.answers(), world.reload(reverse));
        for (position, answer) in live.into_iter().enumerate() {
            prop_assert_eq!(reloaded.translate(position as i64).target(), answer.target(), "{}", position);
        }
    }

    /// A record of the topic that is missing costs exactness, never a record.
    #[test]
    fn any_part_of_the_map_gives_safe_answers(steps in steps(), lost in prop::collection::vec(any::<bool>(), 64)) {
        let mut world = World::new();
        for step in steps.iter().filter(|s| !matches!(s, Step::Truncate(_) | Step::Recreate | Step::TargetLoses(_))) {
            world.step(step);
        }
        let keys: Vec<Vec<u8>> = world.topic.keys().cloned().collect();
        for (key, lost) in keys.iter().zip(lost.iter().cycle()) {
            if *lost {
                world.topic.remove(key);
            }
        }
        let map = world.reload(false);
        let (truth, ..) = &world.committed;
        for position in 0..world.source_end + 3 {
            if let Some(target) = map.translate(position).target() {
                let next = truth.range(position..).map(|(_, target)| *target).min();
                prop_assert!(next.is_none_or(|next| target <= next), "{} skips", position);
            }
        }
    }

    /// Gaps and lengths of all sizes, also those at which the format changes to more bytes.
    #[test]
    fn the_runs_of_a_segment_are_those_that_were_put_in(
        runs in prop::collection::vec((gap(), gap(), any::<bool>(), 1u64..=3000), 0..40),
    ) {
        let (mut source, mut target) = (5i64, 1 << 40);
        let runs: Vec<Run> = runs
            .into_iter()
            .map(|(source_gap, target_gap, back, length)| {
                let run = Run {
                    source: source + source_gap,
                    target: if back { target - target_gap } else { target + target_gap },
                    length,
                };
                (source, target) = (run.source_end(), run.target_end());
                run
            })
            .collect();
        let segment = Segment::new(2, (5, 1 << 40), source, false, &runs);
        prop_assert_eq!(segment.target_end, target);
        let read = Segment::decode(&segment.key(&partition()), &segment.encode()).expect("it was encoded");
        prop_assert_eq!(read.runs().collect::<Vec<_>>(), runs);
        prop_assert_eq!(read, segment);
    }

    #[test]
    fn decoding_arbitrary_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = decode_key(&bytes);
        let key = SegmentKey { partition: partition(), generation: 0, source: 5 };
        if let Some(segment) = Segment::decode(&key, &bytes) {
            let _ = segment.runs().count();
            let mut map = PartitionMap::new(partition());
            map.apply(&key, Some((segment, 0)));
            let _ = (map.translate(3), map.translate(i64::MAX - 1), map.compact());
        }
    }
}

/// Copies `runs` runs with a hole of one offset between them, committed every `per_commit` runs, and merges
/// now and then, as the owner of task 0 does.
fn transactions(runs: i64, per_commit: i64) -> World {
    let mut world = World::new();
    for i in 0..runs {
        world.source_end += 1;
        world.writer.observe(world.source_end, world.target_end, 1);
        world.source_end += 1;
        world.target_end += 1;
        if i % per_commit == 0 {
            world.clock += 1;
            for segment in world.writer.segments(world.source_end) {
                world.write(&segment.key(&partition()), Some((&segment, world.clock)));
            }
            world.writer.committed(world.source_end);
        }
        if i % 5000 == 0 {
            world.edit(world.map.compact());
        }
    }
    world.edit(world.map.compact());
    world
}

#[test]
fn a_transaction_costs_less_than_four_bytes_however_many_records_it_has() {
    for records in [1, 7, 8, 1_000, 100_000] {
        let mut world = World::new();
        for i in 0..3_000 {
            // The marker of the transaction before.
            world.target_end += 1;
            world.writer.observe(world.source_end, world.target_end, records);
            world.source_end += i64::from(records);
            world.target_end += i64::from(records);
            world.commit();
            if i % 300 == 0 {
                world.edit(world.map.compact());
            }
        }
        world.edit(world.map.compact());
        let stored = world.map.stored_bytes() as f64 / 3_000.0;
        assert!(stored < 4.0, "{records}: {stored} bytes");
    }
}

#[test]
fn a_transaction_of_one_record_costs_two_bytes_on_the_topic() {
    for per_commit in [1, 7, 5000] {
        let world = transactions(100_000, per_commit);
        let stored: usize = world
            .topic
            .iter()
            .map(|(key, (value, _))| key.len() + value.len())
            .sum();
        assert!(stored as f64 / 100_000.0 < 2.5, "{per_commit}: {stored} bytes");
        assert!(
            world.map.stored_bytes().abs_diff(stored) < stored / 50 + 10,
            "the estimate"
        );
    }
}

#[test]
fn without_holes_a_partition_takes_one_short_record_after_any_number_of_restarts() {
    let mut world = World::new();
    for i in 0..300 {
        world.step(&Step::Copy(0, 0, 300));
        world.step(&Step::Commit);
        if i % 10 == 0 {
            world.session(None);
        }
        world.edit(world.map.compact());
    }
    assert!(world.topic.len() <= 16 + 1, "{} records", world.topic.len());
    let largest = world
        .topic
        .iter()
        .map(|(key, (value, _))| key.len() + value.len())
        .max();
    assert!(largest < Some(64), "{largest:?} bytes");
}

/// No version writes such a place any more, but a topic may still hold one.
#[test]
fn a_record_that_would_stand_before_the_beginning_of_the_target_is_no_answer() {
    let unknown = Run {
        source: 0,
        target: -1001,
        length: 2,
    };
    let known = Run {
        source: 2,
        target: 7,
        length: 1,
    };
    let segment = Segment::new(0, (0, 0), 3, true, &[unknown, known]);
    let mut map = PartitionMap::new(partition());
    map.apply(&segment.key(&partition()), Some((segment, 0)));
    let answers = [0, 1, 2].map(|position| map.translate(position));
    assert!(
        matches!(
            answers,
            [
                Translation::Unknown,
                Translation::Unknown,
                Translation::Exact { target: 7, .. }
            ]
        ),
        "{answers:?}"
    );
}

#[test]
fn thinning_by_size_keeps_the_newest() {
    let world = transactions(20_000, 100);
    let maps = [world.map];
    let before = thin_before(maps.iter(), maps[0].stored_bytes() / 2, 0);
    let rule = Thinning {
        older_than_ms: before,
        log_start: None,
    };
    let thinned: usize = maps[0].thin(rule).len();
    let all = maps[0].segments().count();
    assert!(all / 3 < thinned && thinned < all * 3 / 4, "{thinned} of {all}");
    assert_eq!(thin_before(maps.iter(), usize::MAX, 0), 0);
}
