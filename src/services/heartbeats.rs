//! The heartbeats of a flow A→B, written and watched by the owner of task 0, and the only records that causeway
//! ever writes to a source.
//!
//! ```text
//!        source A                          target B
//!  ┌▶ heartbeats (B,A) ──── flow ────▶ A.heartbeats ─┐      (B,A): only with heartbeats.on_source
//!  │                                                 ▼
//!  └──────────── what arrives: age, losses ◀─────────┘
//!                                      heartbeats (A,B)     MM2's clients ask for this one
//! ```
//!
//! In MM2, too, the heartbeats that a flow copies are those of the opposite direction, written by its herder.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, info, warn};

use super::Duty;
use super::supervision::Part;
use crate::context::{FlowContext, now_ms};
use crate::copy::assignment::{Assignment, FlowLead};
use crate::error::{Code, Error, Result, Side};
use crate::kafka::client::LogContext;
use crate::kafka::codes::code;
use crate::kafka::control::ControlProducer;
use crate::kafka::{ClusterAlias, TopicPartition};
use crate::metrics::HeartbeatMetrics;
use crate::mm2::Heartbeat;
use crate::names::replication_policy::HEARTBEATS_TOPIC;
use crate::state::topics::{ensure_mm2_topic, is_topic_missing};
use crate::status::HeartbeatStatus;

/// How often what has arrived is looked at, at least.
const LOOK: Duration = Duration::from_secs(1);
/// How long a question to a cluster may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Most heartbeats that are waited for: more than a day of them at the default interval.
const MOST_AWAITED: usize = 100_000;
/// How far before the end of the copies the watch begins, so that their age is known at once.
const TAIL: i64 = 100;

/// The duty: writes heartbeats and watches what arrives, while this daemon leads the flow.
pub struct Heartbeats {
    carrier: Option<Carrier>,
    interval: Duration,
    /// A long interval is cut into so many equal looks.
    looks: u32,
    /// Looks since the last beat.
    look: u32,
}

impl Heartbeats {
    /// The duty of a flow with heartbeats so far apart.
    pub fn new(interval: Duration) -> Self {
        let looks = interval.as_secs_f64().div_euclid(LOOK.as_secs_f64()).max(1.0) as u32;
        Self {
            carrier: None,
            interval: interval / looks,
            looks,
            look: 0,
        }
    }
}

impl Duty for Heartbeats {
    /// Nothing where another daemon leads the flow.
    type Report = Option<HeartbeatStatus>;
    const PART: Part = Part::Heartbeats;

    fn interval(&self) -> Duration {
        self.interval
    }

    fn pass(&mut self, flow: &FlowContext, assignment: &Assignment) -> Result<Self::Report> {
        let Some(lead) = assignment.lead() else {
            self.carrier = None;
            self.look = 0;
            return Ok(None);
        };
        let carrier = self.carrier.get_or_insert_with(|| Carrier::new(flow, lead));
        if self.look == 0 {
            carrier.beat(flow);
        }
        self.look = (self.look + 1) % self.looks;
        carrier.look(flow);
        Ok(Some(carrier.status()))
    }
}

/// Everything the owner of task 0 needs.
struct Carrier {
    target: Writer,
    source: Option<Writer>,
    reader: Option<Reader>,
    /// Begin at the end next time: the last reader met an offset that is not there.
    from_end: bool,
    /// Why what arrives is not seen.
    blind: Option<Error>,
    arrivals: Arrivals,
    last: i64,
    metrics: HeartbeatMetrics,
}

impl Carrier {
    fn new(context: &FlowContext, _: FlowLead) -> Self {
        let id = &context.spec.id;
        let on_source = context.spec.heartbeats.on_source;
        Self {
            target: Writer::new(Side::Target, &id.source, &id.target),
            source: on_source.then(|| Writer::new(Side::Source, &id.target, &id.source)),
            reader: None,
            from_end: false,
            blind: None,
            arrivals: Arrivals::default(),
            last: 0,
            metrics: HeartbeatMetrics::new(id),
        }
    }

    /// Writes one heartbeat to each cluster. Each has a timestamp of its own, also when the clock is set back.
    fn beat(&mut self, context: &FlowContext) {
        self.last = now_ms().max(self.last + 1);
        self.target.beat(context, self.last);
        if let Some(source) = &mut self.source
            && source.beat(context, self.last)
        {
            self.arrivals.sent(self.last);
        }
    }

    /// Takes in what clusters have answered and what has arrived.
    fn look(&mut self, context: &FlowContext) {
        self.target.take_answers();
        for (timestamp, written) in self.source.iter_mut().flat_map(Writer::take_answers) {
            match written {
                true => self.arrivals.acknowledged(timestamp),
                false => self.arrivals.refused(timestamp),
            }
        }
        self.read(context);
        let lost = std::mem::take(&mut self.arrivals.lost);
        if 0 < lost {
            warn!(
                lost,
                "heartbeats written to the source did not arrive, later ones did"
            );
            self.metrics.lost(lost);
            self.arrivals.lost_before += lost;
        }
        self.metrics.age(self.arrivals.age(now_ms()));
    }

    fn read(&mut self, context: &FlowContext) {
        let view = context.view.load();
        let route = view
            .as_ref()
            .and_then(|view| view.partitions.get(&TopicPartition::new(HEARTBEATS_TOPIC, 0)));
        let Some(remote) = route.map(|route| route.remote.as_str()) else {
            self.reader = None;
            return;
        };
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => {
                // What arrives unseen must not count as lost.
                self.arrivals.restart();
                let begin = match self.from_end {
                    true => Offset::End,
                    false => Offset::OffsetTail(TAIL),
                };
                match Reader::new(context, remote, begin) {
                    Ok(reader) => none.insert(reader),
                    Err(error) => return debug!(%error, "heartbeats cannot be watched"),
                }
            }
        };
        let id = &context.spec.id;
        let arrivals = &mut self.arrivals;
        let read = reader.take(|heartbeat| {
            let own = heartbeat.source == id.target.as_str() && heartbeat.target == id.source.as_str();
            arrivals.arrived(heartbeat.timestamp, own);
        });
        match read {
            Ok(true) => self.blind = None,
            Ok(false) => {}
            Err(error) => {
                debug!(%error, "the watch of the heartbeats begins again");
                if self.blind.as_ref().is_none_or(|known| known.code != error.code) {
                    warn!(%error, advice = error.code.page().advice, "heartbeats cannot be watched");
                }
                self.blind = Some(error);
                self.from_end = true;
                self.reader = None;
            }
        }
    }

    fn status(&self) -> HeartbeatStatus {
        let writers = [Some(&self.target), self.source.as_ref()];
        let trouble = writers.into_iter().flatten().map(|it| it.trouble.as_ref());
        let trouble = trouble.chain([self.blind.as_ref()]).flatten();
        HeartbeatStatus {
            age_seconds: self.arrivals.age(now_ms()),
            lost: self.arrivals.lost_before,
            errors: trouble.map(Error::with_advice).collect(),
        }
    }
}

/// Writes the heartbeats of one key to the cluster where that key belongs.
struct Writer {
    side: Side,
    source: ClusterAlias,
    target: ClusterAlias,
    /// There is one once its topic is there.
    producer: Option<ControlProducer>,
    trouble: Option<Error>,
}

impl Writer {
    fn new(side: Side, source: &ClusterAlias, target: &ClusterAlias) -> Self {
        Self {
            side,
            source: source.clone(),
            target: target.clone(),
            producer: None,
            trouble: None,
        }
    }

    /// Whether the heartbeat is on its way.
    fn beat(&mut self, context: &FlowContext, timestamp: i64) -> bool {
        let sent = self.try_beat(context, timestamp);
        let failed = sent.is_err();
        if let Err(error) = sent {
            self.note(Some(error));
        }
        !failed
    }

    fn try_beat(&mut self, context: &FlowContext, timestamp: i64) -> Result<()> {
        if self.producer.as_ref().is_some_and(ControlProducer::has_failed) {
            self.let_go();
        }
        let producer = match &mut self.producer {
            Some(producer) => producer,
            none => {
                let (admin, cluster) = match self.side {
                    Side::Source => (&context.source_admin, &context.source),
                    Side::Target => (&context.target_admin, &context.target),
                };
                ensure_mm2_topic(admin, HEARTBEATS_TOPIC, TIMEOUT)?;
                let label = format!("{} heartbeats", context.spec.id.group());
                none.insert(ControlProducer::new(cluster, &label, self.side)?)
            }
        };
        let heartbeat = Heartbeat {
            source: self.source.as_str().to_owned(),
            target: self.target.as_str().to_owned(),
            timestamp,
        };
        let (key, value) = heartbeat.encode().expect("aliases are short");
        producer.send(
            HEARTBEATS_TOPIC,
            0,
            &key,
            Some(&value),
            timestamp,
            timestamp.cast_unsigned(),
        )
    }

    /// The heartbeats that were answered, and whether they were written.
    fn take_answers(&mut self) -> Vec<(i64, bool)> {
        let answers = self.producer.as_ref().map(ControlProducer::answers);
        let mut taken = vec![];
        for (number, answer) in answers.unwrap_or_default() {
            taken.push((number.cast_signed(), answer.is_ok()));
            let answer = answer.map_err(|(_, error)| error);
            // Deleted: made again by the next beat.
            if answer.as_ref().is_err_and(is_topic_missing) {
                self.let_go();
            }
            self.note(answer.err());
        }
        taken
    }

    /// Says once what has become of the writing.
    fn note(&mut self, trouble: Option<Error>) {
        let trouble = trouble.map(Error::of_own_topic);
        match (&self.trouble, &trouble) {
            (before, Some(error)) if before.as_ref().is_none_or(|it| it.code != error.code) => {
                warn!(%error, advice = error.code.page().advice, "heartbeats cannot be written");
            }
            (Some(_), None) => info!("heartbeats are written again"),
            _ => {}
        }
        self.trouble = trouble;
    }

    fn let_go(&mut self) {
        // Closing a client may take most of a second.
        if let Some(producer) = self.producer.take() {
            std::thread::spawn(move || drop(producer));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Reads the copies of the source's heartbeats, committed ones only.
struct Reader {
    consumer: Option<BaseConsumer<LogContext>>,
}

impl Reader {
    fn new(context: &FlowContext, topic: &str, begin: Offset) -> std::result::Result<Self, KafkaError> {
        let label = format!("{} heartbeats", context.spec.id.group());
        let log = LogContext { label: label.clone() };
        let consumer: BaseConsumer<LogContext> =
            context.target.state_reader(&label).create_with_context(log)?;
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset(topic, 0, begin)?;
        consumer.assign(&partitions)?;
        Ok(Self {
            consumer: Some(consumer),
        })
    }

    /// Hands over what is there; whether the target let us look. An error means that this reader will see no more.
    fn take(&self, mut each: impl FnMut(Heartbeat)) -> Result<bool> {
        let mut heard = false;
        while let Some(polled) = self.consumer.as_ref().and_then(|it| it.poll(Duration::ZERO)) {
            match polled {
                Ok(message) => {
                    heard = true;
                    let heartbeat = message
                        .key()
                        .zip(message.payload())
                        .and_then(|(key, value)| Heartbeat::decode(key, value));
                    heartbeat.into_iter().for_each(&mut each);
                }
                Err(KafkaError::PartitionEOF(_)) => heard = true,
                Err(error) => {
                    let code = error
                        .rdkafka_error_code()
                        .map_or(Code::TargetUnexpected, |why| code(Side::Target, why));
                    // The client goes on by itself when the cluster comes back.
                    if ![Code::TargetUnreachable, Code::TargetUnavailable].contains(&code) {
                        let detail = format!("reading the copies of {HEARTBEATS_TOPIC}: {error}");
                        return Err(Error::new(code, detail).of_own_topic());
                    }
                }
            }
        }
        Ok(heard)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let consumer = self.consumer.take();
        std::thread::spawn(move || drop(consumer));
    }
}

/// Which heartbeats have arrived, and which will not any more. Times are milliseconds since 1970.
#[derive(Debug, Default)]
struct Arrivals {
    /// Ours that have not arrived, by timestamp. A partition keeps their order, so none arrives after a later one.
    awaited: BTreeMap<i64, Awaited>,
    /// Whether one of ours has arrived: what was written before it may have been written before the flow began.
    following: bool,
    newest: Option<i64>,
    /// Lost since they were last counted.
    lost: u64,
    lost_before: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Sent,
    Acknowledged,
    /// A later one has arrived, but the source has not said whether it has this one.
    Overtaken,
}

impl Arrivals {
    /// A heartbeat goes to the source; timestamps go up.
    fn sent(&mut self, timestamp: i64) {
        self.awaited.insert(timestamp, Awaited::Sent);
        if MOST_AWAITED < self.awaited.len() {
            self.awaited.pop_first();
        }
    }

    /// The source has it.
    fn acknowledged(&mut self, timestamp: i64) {
        match self.awaited.get_mut(&timestamp) {
            Some(Awaited::Overtaken) => {
                self.awaited.remove(&timestamp);
                self.lost += 1;
            }
            Some(awaited) => *awaited = Awaited::Acknowledged,
            // It has arrived before the source's answer did.
            None => {}
        }
    }

    /// The source does not have it, as far as is known.
    fn refused(&mut self, timestamp: i64) {
        self.awaited.remove(&timestamp);
    }

    /// A heartbeat is on the target; `own` if it bears our key, which another daemon's does as well.
    fn arrived(&mut self, timestamp: i64, own: bool) {
        self.newest = self.newest.max(Some(timestamp));
        if !own || self.awaited.remove(&timestamp).is_none() {
            return;
        }
        let later = self.awaited.split_off(&timestamp);
        let overtaken = std::mem::replace(&mut self.awaited, later);
        if std::mem::replace(&mut self.following, true) {
            for (timestamp, awaited) in overtaken {
                match awaited {
                    Awaited::Acknowledged => self.lost += 1,
                    Awaited::Sent | Awaited::Overtaken => {
                        self.awaited.insert(timestamp, Awaited::Overtaken);
                    }
                }
            }
        }
    }

    /// What arrives is not seen from the beginning any more.
    fn restart(&mut self) {
        self.awaited.clear();
        self.following = false;
    }

    /// Age of the newest in seconds, by the clock of its writer; unknown while there is none.
    fn age(&self, now: i64) -> Option<f64> {
        self.newest
            .map(|newest| now.saturating_sub(newest).max(0) as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_heartbeat_that_a_later_one_overtakes_is_lost_once() {
        let mut it = Arrivals::default();
        (1..=5).for_each(|at| it.sent(at));
        (1..=4).for_each(|at| it.acknowledged(at));
        it.arrived(1, true);
        it.arrived(4, true);
        assert_eq!(it.lost, 2);
        it.arrived(2, true);
        it.arrived(4, true);
        it.arrived(5, true);
        assert_eq!((it.lost, it.age(1005)), (2, Some(1.0)));
    }

    #[test]
    fn what_was_written_before_the_first_arrival_is_not_lost() {
        let mut it = Arrivals::default();
        (1..=3).for_each(|at| it.sent(at));
        (1..=3).for_each(|at| it.acknowledged(at));
        it.arrived(3, true);
        assert_eq!(it.lost, 0);
    }

    #[test]
    fn heartbeats_of_others_have_an_age_only() {
        let mut it = Arrivals::default();
        assert_eq!(it.age(7), None);
        it.sent(1);
        it.acknowledged(1);
        it.arrived(5_000, false);
        assert_eq!((it.lost, it.age(5_500), it.age(4_000)), (0, Some(0.5), Some(0.0)));
    }

    proptest! {
        /// Each heartbeat is acknowledged, refused or neither, arrives or not, and the source's answer comes before
        /// its arrival or at the end. Lost are exactly those that were acknowledged, did not arrive, and stand
        /// between the first and the last that did.
        #[test]
        fn losses_are_exact_whatever_the_order_of_the_answers(
            fates in prop::collection::vec((0..3, any::<bool>(), any::<bool>()), 1..40),
        ) {
            let mut it = Arrivals::default();
            let times: Vec<i64> = (1..=fates.len() as i64).collect();
            let answer = |it: &mut Arrivals, at: i64, answer: i32| match answer {
                0 => it.acknowledged(at),
                1 => it.refused(at),
                _ => {}
            };
            times.iter().for_each(|at| it.sent(*at));
            for (at, (said, _, _)) in times.iter().zip(&fates).filter(|(_, fate)| fate.2) {
                answer(&mut it, *at, *said);
            }
            // What was refused does not arrive.
            let arrives = |(said, arrives, _): &(i32, bool, bool)| *arrives && *said != 1;
            for (at, _) in times.iter().zip(&fates).filter(|(_, fate)| arrives(fate)) {
                it.arrived(*at, true);
            }
            for (at, (said, _, _)) in times.iter().zip(&fates).filter(|(_, fate)| !fate.2) {
                answer(&mut it, *at, *said);
            }
            let first = fates.iter().position(arrives).unwrap_or(fates.len());
            let last = fates.iter().rposition(arrives).unwrap_or(0);
            let lost = fates.iter().enumerate().filter(|(i, fate)| first < *i && *i < last && fate.0 == 0 && !arrives(fate));
            prop_assert_eq!(it.lost, lost.count() as u64);
        }
    }
}
