//! Random histories of one task against a model of both clusters. A seed is a whole test case:
//! `CAUSEWAY_SEED=4711 cargo test simulation`.
//!
//! The model keeps what survives a crash (source log, target log with aborted marks, stored progress) apart
//! from what does not (the task, what is in flight).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::*;
use crate::error::Code;
use crate::kafka::TopicPartition;
use crate::offset_map::{MapWriter, PartitionMap, Segment, Translation};
use crate::seeds::{Random, seeds};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// In the open transaction.
    Open,
    Committed,
    Aborted,
}

#[derive(Default)]
struct SourcePartition {
    /// Offsets of records; what is missing between them are markers and removed records.
    log: Vec<i64>,
    /// How many of them have been written yet.
    written: usize,
}

impl SourcePartition {
    /// Where a reader that has read everything stands: sometimes behind markers, up to the next record.
    fn end(&self, behind_markers: bool) -> i64 {
        match (self.log.get(self.written), self.written.checked_sub(1)) {
            (Some(next), _) if behind_markers => *next,
            (_, Some(last)) => self.log[last] + 1,
            (next, None) => next.copied().unwrap_or(0).min(1),
        }
    }
}

/// What is lost in a crash.
struct Client {
    task: Task,
    hand: VecDeque<(usize, i64)>,
    /// Sent, not answered: (partition, source offset, target offset), answered in order per partition.
    sent: Vec<(usize, i64, i64)>,
    position: Vec<usize>,
    ended: Vec<bool>,
    reading: Vec<bool>,
    open: bool,
    /// The partition on trial, and whether its records were seen to wait.
    trial: Option<(usize, bool)>,
}

/// A target partition that does not take records from a source offset on, and what is heard of it.
#[derive(Clone, Copy)]
struct Bad {
    partition: usize,
    from: i64,
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    /// The broker says why.
    Refuses,
    /// The whole transaction fails, and nobody says why.
    Unexplained,
    /// No answer ever comes.
    Silent,
}

struct World {
    rng: Random,
    delivery: Delivery,
    now: Instant,
    source: Vec<SourcePartition>,
    /// Per partition: source offset and fate at each target offset; `None` is a marker.
    target: Vec<Vec<Option<(i64, Fate)>>>,
    stored: Vec<i64>,
    map: Vec<PartitionMap>,
    client: Client,
    /// Outlives the client: when each may be tried again.
    held: Vec<Option<Instant>>,
    bad: Option<Bad>,
    /// Sessions in a row that ended without an explanation.
    unexplained: u32,
    finished: bool,
    restarts: u32,
    /// A partition was held: at least once, what it had answered out of turn is sent again.
    repeats: bool,
}

fn limits() -> Limits {
    Limits {
        in_flight_bytes: 8,
        commit_interval: Duration::from_millis(500),
    }
}

fn span(p: usize, first: i64, count: u32) -> Span {
    Span {
        partition: PartitionId(p),
        first,
        count,
        bytes: count.into(),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Random(seed);
        let delivery = if rng.chance(60) {
            Delivery::ExactlyOnce
        } else {
            Delivery::AtLeastOnce
        };
        let partitions = 1 + rng.below(3) as usize;
        let source = (0..partitions)
            .map(|_| {
                let (mut log, mut at) = (vec![], rng.below(3) as i64);
                for _ in 0..rng.below(40) {
                    log.push(at);
                    at += if rng.chance(25) {
                        1 + rng.below(3) as i64
                    } else {
                        1
                    };
                }
                let written = rng.below(log.len() as u64 + 1) as usize;
                SourcePartition { log, written }
            })
            .collect();
        let now = Instant::now();
        let mut world = Self {
            rng,
            delivery,
            now,
            source,
            target: vec![vec![]; partitions],
            stored: vec![0; partitions],
            map: vec![PartitionMap::new(TopicPartition::new("t", 0)); partitions],
            client: Client::new(delivery, partitions, false, now),
            held: vec![None; partitions],
            bad: None,
            unexplained: 0,
            finished: false,
            restarts: 0,
            repeats: false,
        };
        if 1 < partitions && world.rng.chance(40) {
            let partition = world.rng.below(partitions as u64) as usize;
            let how = match (world.rng.below(3), delivery) {
                (0, _) => How::Refuses,
                (1, Delivery::ExactlyOnce) => How::Unexplained,
                _ => How::Silent,
            };
            world.bad = Some(Bad {
                partition,
                from: world.rng.below(20) as i64,
                how,
            });
        }
        world.start();
        world
    }

    fn is_refused(&self, p: usize, offset: i64) -> Option<How> {
        let bad = self.bad.filter(|bad| bad.partition == p && bad.from <= offset)?;
        Some(bad.how)
    }

    /// A new session: whatever was in a transaction is aborted, everything begins at stored progress.
    fn start(&mut self) {
        self.end_transaction(Fate::Aborted);
        let suspicious = 2 <= self.unexplained;
        self.client = Client::new(self.delivery, self.source.len(), suspicious, self.now);
        for p in 0..self.source.len() {
            if self.held[p].is_some() {
                self.client.reading[p] = false;
                continue;
            }
            let start = self.stored[p];
            self.client.position[p] = self.source[p].log.partition_point(|o| *o < start);
            let persist = self.map[p].segments().next().is_none() || self.rng.chance(50);
            self.step(Event::Assigned {
                partition: PartitionId(p),
                start: Source(NextOffset(start)),
                next_target: self.target[p].len() as i64,
                map: self.new_map(p),
                persist,
                on_trial: false,
            });
        }
    }

    fn new_map(&self, p: usize) -> MapWriter {
        MapWriter::new(
            0,
            self.stored[p] == 0,
            self.stored[p],
            self.target[p].len() as i64,
        )
    }

    fn end_transaction(&mut self, fate: Fate) {
        for log in &mut self.target {
            let mut touched = false;
            for entry in log.iter_mut().flatten().filter(|(_, fate)| *fate == Fate::Open) {
                entry.1 = fate;
                touched = true;
            }
            if touched {
                log.push(None);
            }
        }
    }

    fn step(&mut self, event: Event) {
        let mut actions = vec![];
        self.client.task.on_event(event, self.now, &mut actions);
        for action in actions {
            match action {
                Action::Begin => {
                    assert!(!self.client.open, "one transaction at a time");
                    self.client.open = true;
                }
                Action::Enqueue(n) => {
                    assert!(!self.finished, "nothing is sent after the end");
                    assert!(
                        self.client.open || self.delivery == Delivery::AtLeastOnce,
                        "sent outside a transaction"
                    );
                    for _ in 0..n {
                        let (p, offset) = self.client.hand.pop_front().expect("what is sent is in hand");
                        let fate = match self.delivery {
                            Delivery::ExactlyOnce => Fate::Open,
                            Delivery::AtLeastOnce => Fate::Committed,
                        };
                        let fate = match self.is_refused(p, offset) {
                            Some(_) => Fate::Aborted,
                            None => fate,
                        };
                        // The target has it as soon as it is sent; whether we hear of it is another matter.
                        self.client.sent.push((p, offset, self.target[p].len() as i64));
                        self.target[p].push(Some((offset, fate)));
                    }
                }
                Action::Discard(n) => {
                    self.client.hand.drain(..n as usize);
                }
                Action::Commit => self.commit(),
                Action::Abort => self.abort(),
                Action::Unassign(p) => self.client.reading[p.0] = false,
                Action::Hold(p, ..) => {
                    self.repeats = true;
                    self.held[p.0] = Some(self.now + Duration::from_millis(self.rng.below(2_000)));
                    if self.client.trial.is_some_and(|(trial, _)| trial == p.0) {
                        self.client.trial = None;
                    }
                }
                Action::Join(p) => {
                    assert_eq!(self.client.trial.take().map(|(trial, _)| trial), Some(p.0));
                    self.held[p.0] = None;
                }
                Action::Restart(error) => {
                    self.restarts += 1;
                    self.unexplained = match error.code.rank() {
                        Rank::Partition => self.unexplained,
                        _ => self.unexplained + 1,
                    };
                    if self.delivery == Delivery::AtLeastOnce {
                        self.store();
                    }
                    return self.start();
                }
                Action::Finished => self.finished = true,
            }
        }
    }

    fn commit(&mut self) {
        if self.delivery == Delivery::ExactlyOnce {
            assert!(self.client.sent.is_empty(), "committed with records in flight");
        }
        if self.rng.chance(5) {
            self.restarts += 1;
            if self.rng.chance(50) {
                // The commit fails, and the transaction is given up in good order.
                let failed = Error::new(Code::TargetTransactionFailed, "simulated");
                return self.step(Event::CommitFailed(failed));
            }
            // It fails with an end: aborted, and everything starts again.
            return self.start();
        }
        if self.client.task.has_moved() {
            self.unexplained = 0;
        }
        self.store();
        self.end_transaction(Fate::Committed);
        self.client.open = false;
        if self.rng.chance(3) {
            // It succeeded, but the answer was lost.
            self.restarts += 1;
            return self.start();
        }
        self.step(Event::Committed);
    }

    /// The open transaction is given up; what is still in flight is answered by it.
    fn abort(&mut self) {
        assert!(self.client.open, "there is something to give up");
        self.end_transaction(Fate::Aborted);
        self.client.open = false;
        for (p, first, _) in std::mem::take(&mut self.client.sent) {
            let code = match self.is_refused(p, first) {
                Some(How::Refuses) => Code::TargetRecordTooLarge,
                _ => Code::TargetTransactionFailed,
            };
            self.fail(p, first, code);
        }
        let certain = self.rng.chance(90);
        let error = (!certain).then(|| Error::new(Code::TargetUnreachable, "simulated"));
        self.step(Event::Aborted(error));
    }

    fn fail(&mut self, p: usize, first: i64, code: Code) {
        self.step(Event::DeliveryFailed {
            span: span(p, first, 1),
            error: Error::new(code, "simulated"),
        });
    }

    fn store(&mut self) {
        for pending in self.client.task.pending() {
            let p = pending.partition.0;
            let next = pending.next_source.0.0;
            assert!(self.stored[p] <= next, "stored progress goes forward");
            for offset in self.source[p].log.iter().filter(|o| **o < next) {
                let there = self.target[p]
                    .iter()
                    .flatten()
                    .any(|(o, fate)| o == offset && *fate != Fate::Aborted);
                assert!(there, "stored past record {offset}, which is not on the target");
            }
            self.stored[p] = next;
            for segment in pending.segments {
                let key = segment.key(&TopicPartition::new("t", 0));
                let read = Segment::decode(&key, &segment.encode()).expect("what is written can be read");
                self.map[p].apply(&key, Some((read, 0)));
            }
        }
    }

    /// One thing happens.
    fn tick(&mut self, calm: bool) {
        let p = self.rng.below(self.source.len() as u64) as usize;
        // As a shell may that has asked before it looked at the trial.
        let wanted = self.client.task.wants_records();
        self.look_at_trial();
        match self.rng.below(13) {
            // A stop drops what the client has fetched, but a batch may be in our hands already.
            0..=3
                if wanted
                    && self.client.trial.is_none_or(|(trial, _)| trial != p)
                    && (self.client.reading[p] || self.rng.chance(3)) =>
            {
                self.take(p);
            }
            4..=7 if !self.client.sent.is_empty() => self.answer(calm),
            12 => {
                self.now += Duration::from_millis(self.rng.below(300));
                self.step(Event::Tick);
            }
            8 if self.source[p].written < self.source[p].log.len() => {
                self.source[p].written += 1;
                self.client.ended[p] = false;
            }
            9 if !calm && self.restarts < 5 && self.rng.chance(2) => {
                // kill -9
                self.restarts += 1;
                self.start();
            }
            10 if !calm && self.rng.chance(2) && self.client.reading[p] => {
                let code = [Code::SourceTopicMissing, Code::SourceUnreachable][self.rng.below(2) as usize];
                self.step(Event::SourceFailed(PartitionId(p), Error::new(code, "simulated")));
            }
            11 if !self.client.reading[p]
                && self.client.task.is_settled(PartitionId(p))
                && self.held[p].is_none_or(|at| at <= self.now) =>
            {
                let on_trial = self.held[p].is_some() && self.rng.chance(70);
                if on_trial && !self.client.task.may_try() {
                    return;
                }
                self.client.trial = if on_trial {
                    Some((p, false))
                } else {
                    self.client.trial
                };
                if !on_trial {
                    self.held[p] = None;
                }
                self.client.reading[p] = true;
                self.client.ended[p] = false;
                let start = self.stored[p];
                self.client.position[p] = self.source[p].log.partition_point(|o| *o < start);
                let (partition, start) = (PartitionId(p), Source(NextOffset(start)));
                self.step(Event::Assigned {
                    partition,
                    start,
                    next_target: self.target[p].len() as i64,
                    map: self.new_map(p),
                    persist: false,
                    on_trial,
                });
                // As after every start: what is not stored yet is stored before the first record.
                self.step(Event::Tick);
            }
            _ => {}
        }
    }

    /// The partition on trial is read apart from the others.
    fn look_at_trial(&mut self) {
        let Some((p, seen)) = self.client.trial else {
            return;
        };
        if !seen && self.client.task.awaits_trial() {
            self.client.trial = Some((p, true));
            self.step(Event::TrialReady);
        }
        if self.client.trial.is_some() && self.client.task.wants_trial() {
            self.take(p);
        }
    }

    fn take(&mut self, p: usize) {
        let log = &self.source[p].log[..self.source[p].written];
        let at = self.client.position[p];
        let Some(first) = log.get(at).copied() else {
            if !self.client.ended[p] && self.client.reading[p] {
                self.client.ended[p] = true;
                let position = self.source[p].end(self.rng.chance(50));
                self.step(Event::End {
                    partition: PartitionId(p),
                    position,
                });
            }
            return;
        };
        let longest = 1 + self.rng.below(4) as usize;
        let run = (0..longest)
            .take_while(|i| log.get(at + i) == Some(&(first + *i as i64)))
            .count();
        self.client.hand.extend((0..run as i64).map(|i| (p, first + i)));
        self.client.position[p] += run;
        self.client.ended[p] = false;
        let span = span(p, first, run as u32);
        // A batch may end behind its last record, where markers or removed records follow.
        let next = match self.source[p].log.get(at + run) {
            Some(next) if self.rng.chance(30) => *next,
            _ => span.end(),
        };
        self.step(Event::Took { span, next });
        assert!(self.client.hand.is_empty(), "what was taken is sent or dropped");
        // One batch that begins below the limit ends above it, and one of the partition on trial may have come between.
        assert!(self.client.task.in_flight_bytes() < 8 + 2 * 4, "the bound holds");
    }

    fn answer(&mut self, calm: bool) {
        // Partitions answer in any order, each partition in its own.
        let pick = self.rng.below(self.client.sent.len() as u64) as usize;
        let p = self.client.sent[pick].0;
        let index = self
            .client
            .sent
            .iter()
            .position(|it| it.0 == p)
            .expect("it was picked");
        let refused = self.is_refused(p, self.client.sent[index].1);
        if refused == Some(How::Silent) {
            return;
        }
        let (_, first, target) = self.client.sent.remove(index);
        match refused {
            Some(How::Refuses) => {
                // What follows from it is sometimes heard first.
                if self.delivery == Delivery::ExactlyOnce
                    && self.rng.chance(50)
                    && !self.client.sent.is_empty()
                {
                    let (other, offset, at) = self.client.sent.remove(0);
                    self.target[other][at as usize] = Some((offset, Fate::Aborted));
                    self.fail(other, offset, Code::TargetTransactionFailed);
                }
                return self.fail(p, first, Code::TargetRecordTooLarge);
            }
            Some(_) => return self.fail(p, first, Code::TargetTransactionFailed),
            None => {}
        }
        if !calm && self.rng.chance(1) {
            let code = [Code::TargetRecordTooLarge, Code::TargetUnreachable][self.rng.below(2) as usize];
            // A record that was refused is not on the target.
            if let Some(Some(entry)) = self.target[p].get_mut(target as usize) {
                entry.1 = Fate::Aborted;
            }
            return self.fail(p, first, code);
        }
        if self.rng.chance(10) && self.delivery == Delivery::ExactlyOnce {
            self.target[p][target as usize] = Some((first, Fate::Open));
        }
        self.step(Event::Delivered {
            span: span(p, first, 1),
            target: Some(target),
        });
    }

    fn check(&self, seed: u64) {
        for (p, source) in self.source.iter().enumerate() {
            let seen: Vec<(i64, i64)> = self.target[p]
                .iter()
                .enumerate()
                .filter_map(|(at, entry)| match entry {
                    Some((offset, Fate::Committed)) => Some((*offset, at as i64)),
                    _ => None,
                })
                .collect();
            for offset in &source.log {
                let copies = seen.iter().filter(|(o, _)| o == offset).count();
                assert!(0 < copies, "seed {seed}: record {offset} of {p} was lost");
                let once = self.restarts == 0 && !self.repeats;
                if self.delivery == Delivery::ExactlyOnce || once {
                    assert_eq!(copies, 1, "seed {seed}: record {offset} of {p}");
                }
            }
            if self.delivery == Delivery::ExactlyOnce {
                let order: Vec<i64> = seen.iter().map(|(offset, _)| *offset).collect();
                assert_eq!(order, source.log, "seed {seed}: order of partition {p}");
            }
            // For every position the map names the very offset at which a committed reader finds the next
            // record: the last copy of it, where there are several.
            for position in 0..=self.stored[p] {
                let translation = self.map[p].translate(position);
                let next = source.log.iter().find(|offset| position <= **offset);
                let last_copy = next.map(|next| seen.iter().rfind(|(offset, _)| offset == next));
                match last_copy {
                    Some(copy) => assert_eq!(
                        translation.target(),
                        copy.map(|(_, at)| *at),
                        "seed {seed}: {position} of {p}"
                    ),
                    None => assert!(
                        seen.iter().all(|(_, at)| Some(*at) < translation.target()),
                        "seed {seed}: the end of {p}"
                    ),
                }
                assert!(
                    matches!(translation, Translation::Exact { .. }),
                    "seed {seed}: {translation:?}"
                );
            }
            assert!(
                source.log.last().is_none_or(|last| *last < self.stored[p]),
                "seed {seed}: not stored"
            );
        }
    }
}

impl Client {
    fn new(delivery: Delivery, partitions: usize, suspicious: bool, now: Instant) -> Self {
        Self {
            trial: None,
            task: Task::new(delivery, limits(), suspicious, now),
            hand: VecDeque::new(),
            sent: vec![],
            position: vec![0; partitions],
            ended: vec![false; partitions],
            reading: vec![true; partitions],
            open: false,
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    let calm = world.rng.chance(20);
    let mut ticks = 0;
    let copied = |world: &World, but: Option<usize>| {
        let partitions = world.source.iter().zip(&world.stored).enumerate();
        partitions
            .filter(|(p, _)| Some(*p) != but)
            .all(|(_, (source, stored))| source.log.last().is_none_or(|last| last < stored))
    };
    // One bad partition stops nothing else …
    if let Some(bad) = world.bad {
        while !copied(&world, Some(bad.partition)) {
            world.tick(calm);
            ticks += 1;
            assert!(
                ticks < 200_000,
                "seed {seed}: {:?} stops the others: {:?}",
                bad.how,
                world.client.task
            );
        }
        assert!(
            world.restarts < 60,
            "seed {seed}: {:?} costs the others {} sessions",
            bad.how,
            world.restarts
        );
        // … and goes on when it takes records again.
        world.bad = None;
        let lost: Vec<_> = std::mem::take(&mut world.client.sent);
        for (p, offset, at) in lost {
            // What was never answered is answered now.
            let there = world.target[p][at as usize].is_some_and(|(_, fate)| fate != Fate::Aborted);
            if there {
                world.client.sent.push((p, offset, at));
            } else {
                world.fail(p, offset, Code::TargetTransactionFailed);
            }
        }
        world.step(Event::Tick);
    }
    while !copied(&world, None) {
        world.tick(calm);
        ticks += 1;
        assert!(ticks < 400_000, "seed {seed}: does not get anywhere");
    }
    // A drain ends by itself and has nothing to repeat.
    while !world.finished {
        ticks += 1;
        assert!(ticks < 600_000, "seed {seed}: the drain does not end");
        if world.client.task.draining {
            world.tick(true);
        } else {
            world.step(Event::Drain);
        }
    }
    world.check(seed);
}

#[test]
fn no_history_loses_repeats_or_reorders_a_record() {
    seeds(3_000).for_each(run);
}
