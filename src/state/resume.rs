//! Where a partition begins: the stored progress held against what the source has now. Pure.

use serde::{Deserialize, Serialize};

use super::gaps::{Extent, Gap, Gaps, RESET};
use crate::error::{Code, Error};
use crate::kafka::consumer::ReadFrom;
use crate::kafka::{NextOffset, TopicId};
use crate::offset_map::MapWriter;
use crate::topology::{Delivery, OnGap};

/// Stored progress of one source partition: the value of a record of the progress topic, as JSON, so that an
/// operator can read it with kcat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredProgress {
    /// Everything before this source offset is on the target.
    pub next_source_offset: i64,
    /// Where the next record will go; unknown until the first one went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_target_offset: Option<i64>,
    /// Kafka's id of the source topic.
    pub topic_id: String,
    /// Kafka's id of the target topic; unknown in what older versions stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_topic_id: Option<String>,
    /// By which the source's leader tells whether its log is still the one that was copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_epoch: Option<LeaderEpoch>,
    /// The leader has said that it is not, and what to do about it is not decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<Truncation>,
    /// Where the present generation of the offset map began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<Generation>,
    /// Records written more than once by at-least-once delivery after crashes, since the flow was created.
    #[serde(default)]
    pub replayed_records: u64,
    /// What can no longer be copied.
    #[serde(flatten)]
    pub gaps: Gaps,
}

/// The leader epoch of the last record that was copied (KIP-320).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderEpoch {
    /// The epoch.
    pub epoch: i32,
    /// The offset behind that record. From there to the next source offset there are no records, only markers of
    /// transactions and what was removed, whose epoch may be another.
    pub offset: i64,
}

/// What the source's leader said of a position that was to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncation {
    /// Up to here its log is the one that was copied; `None`: it only said that it is, or was, shorter.
    pub same_until: Option<i64>,
}

impl StoredProgress {
    /// Of a partition of which nothing was copied yet.
    pub fn new(next_source_offset: i64, topic_id: &TopicId) -> Self {
        Self {
            next_source_offset,
            next_target_offset: None,
            topic_id: topic_id.to_string(),
            target_topic_id: None,
            leader_epoch: None,
            truncated: None,
            map: None,
            replayed_records: 0,
            gaps: Gaps::default(),
        }
    }

    /// Whether the source's leader can tell more about a log that is shorter than what was copied than its bounds
    /// do: where it ceases to be the same. It is asked by reading on.
    pub fn leader_can_tell(&self, bounds: &Bounds) -> bool {
        bounds.end < self.next_source_offset
            && self.topic_id == *bounds.topic_id.0
            && self.leader_epoch.is_some()
            && self.truncated.is_none()
    }
}

/// A stretch of copying during which positions only went forward: see [`SegmentKey::generation`].
///
/// [`SegmentKey::generation`]: crate::offset_map::SegmentKey::generation
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number, from 0.
    pub number: u32,
    /// The source offset at which it began.
    pub source: i64,
    /// The end of the target then.
    pub target: i64,
    /// Whether nothing that comes before was ever copied.
    pub origin: bool,
}

/// What to do where the target holds records that no stored progress explains: copied again, they would be there
/// twice.
pub const NO_PROGRESS: &str = "if an alias or the name of the topology was changed, change it back, and the flow goes on where it stood; if MirrorMaker 2 copied them, give `causeway import mm2-state` before `run`; if something else did, let start_from begin behind them before the first `run`; if they belong there, nothing needs to be done";

/// What both sides have now.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Kafka's id of the source topic.
    pub topic_id: TopicId,
    /// First offset that still exists on the source.
    pub log_start: i64,
    /// Offset behind the source's last record (high watermark).
    pub end: i64,
    /// Kafka's id of the target topic.
    pub target_topic_id: TopicId,
    /// Offset behind the target's last record.
    pub target_end: i64,
    /// Replicas of the target partition, and those of them that are in sync.
    pub replicas: usize,
    /// See [`Bounds::replicas`].
    pub in_sync: usize,
    /// Whether we may write the target topic; `None`: the target does not tell.
    pub writable: Option<bool>,
}

/// Where to begin, and what has to be declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// First source offset to copy.
    pub position: i64,
    /// What was lost before it.
    pub gap: Option<Gap>,
    /// How the offset map goes on.
    pub map: MapStart,
}

/// How the offset map of a partition goes on where copying begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapStart {
    /// Nothing that comes before was ever copied.
    Origin,
    /// What was copied before stays true.
    Continues,
    /// What was said of this source and target offset and of those behind is not true any more.
    Rewinds,
    /// As before, and the source's offsets count from the beginning again.
    NewOrigin,
}

impl MapStart {
    /// The generation that is written from here on, and the part of the map that begins here.
    pub fn begin(self, stored: Option<Generation>, source: i64, target: i64) -> (Generation, MapWriter) {
        let generation = match (stored, self) {
            (Some(generation), Self::Continues) => generation,
            (stored, start) => Generation {
                number: stored.map_or(0, |stored| {
                    stored.number + u32::from(matches!(start, Self::Rewinds | Self::NewOrigin))
                }),
                source,
                target,
                origin: matches!(start, Self::Origin | Self::NewOrigin),
            },
        };
        // Written again under its own key, the first segment says again what it said.
        let first = source == generation.source;
        let target = if first { generation.target } else { target };
        let writer = MapWriter::new(generation.number, first && generation.origin, source, target);
        (generation, writer)
    }
}

/// Decides where a partition begins.
///
/// A partition of which nothing is stored came after the flow was created, and begins at its log start.
///
/// # Errors
/// The partition must stop, because going on would lose or repeat records and `on_gap` is `halt`.
pub fn begin(stored: Option<&StoredProgress>, bounds: &Bounds, on_gap: OnGap) -> Result<Begin, Error> {
    let Some(stored) = stored else {
        return Ok(Begin {
            position: bounds.log_start,
            gap: None,
            map: MapStart::Origin,
        });
    };
    let position = stored.next_source_offset;
    let Some(loss) = Loss::find(stored, bounds) else {
        let map = match stored.next_target_offset {
            Some(_) => MapStart::Continues,
            None => MapStart::Origin,
        };
        return Ok(Begin {
            position,
            gap: None,
            map,
        });
    };
    match on_gap {
        OnGap::Halt => Err(Error::new(loss.code(), loss.detail(stored, bounds))),
        OnGap::Continue => Ok(loss.begin(position, bounds)),
    }
}

/// As [`begin`], of who reads on: where the source's leader can tell more than its bounds do, it is asked first.
///
/// # Errors
/// As [`begin`].
pub fn begin_reading(
    stored: Option<&StoredProgress>,
    bounds: &Bounds,
    on_gap: OnGap,
) -> Result<Begin, Error> {
    match stored {
        Some(stored) if stored.leader_can_tell(bounds) => Ok(Begin {
            position: stored.next_source_offset,
            gap: None,
            map: MapStart::Continues,
        }),
        _ => begin(stored, bounds, on_gap),
    }
}

impl Begin {
    /// Where reading begins, and the leader epoch by which the source's leader tells whether its log is still the one
    /// that was copied: behind the last record. From there to the position are only markers.
    pub fn read_from(&self, stored: Option<&StoredProgress>, bounds: &Bounds) -> ReadFrom {
        let epoch = stored
            .and_then(|stored| stored.leader_epoch)
            .filter(|_| self.gap.is_none());
        let offset = epoch.map_or(self.position, |it| {
            it.offset.max(bounds.log_start).min(self.position)
        });
        ReadFrom {
            offset: NextOffset(offset),
            leader_epoch: epoch.map(|it| it.epoch),
        }
    }
}

/// Why copying cannot go on as if nothing had happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The source topic was deleted and created again.
    Recreated,
    /// The source's log begins behind the position.
    OutOfRange,
    /// The source's log ends before the position, or did so: it lost the end of what was copied.
    Truncated,
    /// The source's log is another from this offset on.
    Diverged(i64),
    /// The target topic was deleted and created again.
    TargetRecreated,
    /// The target ends before what was copied.
    TargetLost,
}

impl Loss {
    fn find(stored: &StoredProgress, bounds: &Bounds) -> Option<Self> {
        let position = stored.next_source_offset;
        let copied = stored.next_target_offset.filter(|known| 0 < *known);
        let target_id = stored.target_topic_id.as_ref();
        if stored.topic_id != *bounds.topic_id.0 {
            Some(Self::Recreated)
        } else if position < bounds.log_start {
            Some(Self::OutOfRange)
        } else if let Some(Truncation { same_until }) = stored.truncated {
            let until =
                |offset: i64| Self::Diverged(offset.min(bounds.end).clamp(bounds.log_start, position));
            Some(same_until.map_or(Self::Truncated, until))
        } else if bounds.end < position {
            Some(Self::Truncated)
        } else if copied.is_some() && target_id.is_some_and(|id| *id != *bounds.target_topic_id.0) {
            Some(Self::TargetRecreated)
        } else if copied.is_some_and(|known| bounds.target_end < known) {
            Some(Self::TargetLost)
        } else {
            None
        }
    }

    fn code(self) -> Code {
        match self {
            Self::Recreated => Code::SourceRecreated,
            Self::OutOfRange => Code::SourceOutOfRange,
            Self::Truncated | Self::Diverged(_) => Code::SourceTruncated,
            Self::TargetRecreated | Self::TargetLost => Code::TargetLostRecords,
        }
    }

    /// The reason of its gap.
    fn word(self) -> &'static str {
        match self {
            Self::Diverged(_) => "source_diverged",
            Self::TargetRecreated => "target_recreated",
            other => other.code().page().name,
        }
    }

    fn gap(self, position: i64, bounds: &Bounds) -> Gap {
        let (from, to, extent) = match self {
            // How much the old topic had beyond the position, nobody can tell any more.
            Self::Recreated => (position, position, Extent::AtLeast),
            Self::OutOfRange => (position, bounds.log_start, Extent::Exact),
            Self::Diverged(offset) => (offset, position, Extent::Exact),
            // Which of the records before the position are gone is not known.
            Self::Truncated | Self::TargetRecreated | Self::TargetLost => {
                (bounds.log_start.min(position), position, Extent::AtMost)
            }
        };
        Gap {
            from,
            to,
            reason: self.word().to_owned(),
            extent,
        }
    }

    /// Going on all the same.
    fn begin(self, position: i64, bounds: &Bounds) -> Begin {
        let (go_on_at, map) = match self {
            Self::Recreated => (bounds.log_start, MapStart::NewOrigin),
            Self::OutOfRange => (bounds.log_start, MapStart::Continues),
            Self::Truncated => (position.min(bounds.end), MapStart::Rewinds),
            Self::Diverged(offset) => (offset, MapStart::Rewinds),
            Self::TargetRecreated | Self::TargetLost => (position, MapStart::Rewinds),
        };
        Begin {
            position: go_on_at,
            gap: Some(self.gap(position, bounds)),
            map,
        }
    }

    fn detail(self, stored: &StoredProgress, bounds: &Bounds) -> String {
        let position = stored.next_source_offset;
        let seen = match self {
            Self::Recreated => format!(
                "the topic had id {} when {position} records were copied, now it has {}",
                stored.topic_id, bounds.topic_id
            ),
            Self::OutOfRange => format!(
                "the next offset to copy is {position}, the source begins at {}: {} offsets are lost",
                bounds.log_start,
                bounds.log_start - position
            ),
            Self::Truncated => format!(
                "the next offset to copy is {position}, the source ends at {} or did so before",
                bounds.end.min(position)
            ),
            Self::Diverged(offset) => format!(
                "the next offset to copy is {position}, but from {offset} on the source has lost what was copied: {} \
                 offsets; it ends at {} now",
                position - offset,
                bounds.end
            ),
            Self::TargetRecreated => format!(
                "the target topic had id {} when {position} was reached, now it has {}",
                stored.target_topic_id.as_deref().unwrap_or_default(),
                bounds.target_topic_id
            ),
            Self::TargetLost => format!(
                "{} records had been written when {position} were copied, now the target ends at {}",
                stored.next_target_offset.unwrap_or_default(),
                bounds.target_end
            ),
        };
        format!("{seen}; the gap would be {}", self.gap(position, bounds))
    }
}

/// What is stored where copying begins.
#[derive(Clone, Debug)]
pub struct Started {
    /// To be stored before the first record goes: whatever stands behind it on the target after a crash can
    /// then be told to be a repetition.
    pub progress: StoredProgress,
    /// The part of the offset map that begins here.
    pub map: MapWriter,
    /// Records that are copied again, all of them before the target's end.
    pub replayed: u64,
}

impl Begin {
    /// Adopts the partition: what was stored of it, brought up to where copying begins.
    pub fn start(&self, stored: Option<&StoredProgress>, bounds: &Bounds, delivery: Delivery) -> Started {
        let new = || StoredProgress::new(self.position, &bounds.topic_id);
        let mut progress = stored.cloned().unwrap_or_else(new);
        if let Some(gap) = &self.gap {
            progress.gaps.declare(gap.clone());
            progress.topic_id = bounds.topic_id.to_string();
            progress.truncated = None;
            // It belongs to the last record before the position.
            if self.position != progress.next_source_offset || self.map == MapStart::NewOrigin {
                progress.leader_epoch = None;
            }
        }
        progress.target_topic_id = Some(bounds.target_topic_id.to_string());
        // Without transactions, whatever stands behind the position that was stored came from records that
        // are sent again now.
        let replayed = match (delivery, progress.next_target_offset) {
            (Delivery::AtLeastOnce, Some(known)) => (bounds.target_end - known).max(0) as u64,
            _ => 0,
        };
        progress.replayed_records += replayed;
        progress.next_source_offset = self.position;
        progress.next_target_offset = Some(bounds.target_end);
        let (generation, map) = self.map.begin(progress.map, self.position, bounds.target_end);
        progress.map = Some(generation);
        Started {
            progress,
            map,
            replayed,
        }
    }
}

/// What a reset stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// To be stored.
    pub progress: StoredProgress,
    /// The gaps that were declared on the way.
    pub declared: Vec<Gap>,
}

/// Moves the position of a partition that is not being copied to source offset `to`, which the source has.
///
/// Whatever happened to both sides since is declared first, as `on_gap: continue` would. Then, forward, what is
/// left out becomes a gap; backward, a new generation of the offset map begins, because what follows is copied
/// again behind what is there.
///
/// # Errors
/// None that `on_gap: continue` would not have.
pub fn reset(stored: &StoredProgress, bounds: &Bounds, delivery: Delivery, to: i64) -> Result<Moved, Error> {
    let begin = begin(Some(stored), bounds, OnGap::Continue)?;
    let mut progress = begin.start(Some(stored), bounds, delivery).progress;
    let (from, generation) = (begin.position, progress.map.get_or_insert_default());
    let mut declared = Vec::from_iter(begin.gap);
    progress.next_source_offset = to;
    if from != to {
        progress.leader_epoch = None;
    }
    if from < to {
        let gap = Gap {
            from,
            to,
            reason: RESET.to_owned(),
            extent: Extent::Exact,
        };
        progress.gaps.declare(gap.clone());
        declared.push(gap);
        // Nothing of this generation was copied yet, so it begins where copying does.
        if generation.source == from {
            generation.source = to;
        }
    } else if to < from {
        *generation = Generation {
            number: generation.number + 1,
            source: to,
            target: bounds.target_end,
            origin: generation.origin && to <= generation.source,
        };
    }
    Ok(Moved { progress, declared })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(next: i64, id: &str) -> StoredProgress {
        StoredProgress::new(next, &TopicId(id.into()))
    }

    fn bounds(log_start: i64, end: i64) -> Bounds {
        Bounds {
            topic_id: TopicId("one".into()),
            log_start,
            end,
            target_topic_id: TopicId("there".into()),
            target_end: 50,
            replicas: 1,
            in_sync: 1,
            writable: None,
        }
    }

    proptest! {
        /// No cell of (position, log start, end, topic id) loses or repeats a record without a gap or a halt.
        #[test]
        fn nothing_is_skipped_or_repeated_silently(
            next in 0i64..20, start in 0i64..20, length in 0i64..20, same in any::<bool>(), halt in any::<bool>(),
            target in prop::option::of(45i64..55),
        ) {
            let mut it = stored(next, if same { "one" } else { "other" });
            it.next_target_offset = target;
            let kept = target.is_none_or(|known| known <= 50);
            let on_gap = if halt { OnGap::Halt } else { OnGap::Continue };
            let end = start + length;
            match begin(Some(&it), &bounds(start, end), on_gap) {
                Ok(Begin { position, gap: None, .. }) => {
                    prop_assert!(same && kept && position == next && start <= next && next <= end);
                }
                Ok(Begin { position, gap: Some(gap), .. }) => {
                    prop_assert!(!halt && start <= position && position <= end);
                    prop_assert!(gap.from <= gap.to);
                }
                Err(error) => prop_assert!(halt && (!same || !kept || next < start || end < next), "{}", error),
            }
        }
    }

    #[test]
    fn a_partition_that_came_later_begins_at_its_log_start() {
        assert_eq!(begin(None, &bounds(5, 9), OnGap::Halt).unwrap().position, 5);
    }

    proptest! {
        /// Wherever it is moved to, copying begins there without a further declaration, and what was left out
        /// is declared.
        #[test]
        fn a_flow_begins_where_its_position_was_moved_to(
            next in 0i64..20, start in 0i64..20, length in 0i64..20, same in any::<bool>(), to in 0i64..20,
            known in prop::option::of(45i64..55), number in 0u32..3, origin in any::<bool>(), began in 0i64..20,
        ) {
            let mut it = stored(next, if same { "one" } else { "other" });
            it.next_target_offset = known;
            it.map = known.map(|_| Generation { number, source: began.min(next), target: 40, origin });
            let bounds = bounds(start, start + length);
            let to = to.clamp(start, start + length);
            let Moved { progress: moved, declared: said } =
                reset(&it, &bounds, Delivery::ExactlyOnce, to).unwrap();
            let again = begin(Some(&moved), &bounds, OnGap::Halt).unwrap();
            prop_assert_eq!((again.position, again.gap.clone(), again.map), (to, None, MapStart::Continues));
            let unmoved = begin(Some(&it), &bounds, OnGap::Continue).unwrap();
            let left_out = (unmoved.position < to).then(|| Gap {
                from: unmoved.position, to, reason: RESET.to_owned(), extent: Extent::Exact,
            });
            let declared: Vec<Gap> = unmoved.gap.clone().into_iter().chain(left_out).collect();
            prop_assert_eq!(&said, &declared);
            prop_assert_eq!(moved.gaps.newest(), &declared);
            // Going back, nothing that the map says of what is copied again may stay.
            let started = again.start(Some(&moved), &bounds, Delivery::ExactlyOnce);
            let generation = started.progress.map.unwrap();
            if to < unmoved.position {
                prop_assert!(it.map.map_or(0, |map| map.number) < generation.number);
                prop_assert_eq!((generation.source, generation.target), (to, 50));
            }
            prop_assert!(generation.source <= to);
            prop_assert_eq!(started.progress, moved);
        }
    }

    #[test]
    fn each_loss_has_its_name() {
        let code = |it: &StoredProgress| begin(Some(it), &bounds(5, 9), OnGap::Halt).unwrap_err().code;
        assert_eq!(code(&stored(4, "one")), Code::SourceOutOfRange);
        assert_eq!(code(&stored(10, "one")), Code::SourceTruncated);
        assert_eq!(code(&stored(7, "other")), Code::SourceRecreated);
        let ahead = StoredProgress {
            next_target_offset: Some(51),
            ..stored(7, "one")
        };
        assert_eq!(code(&ahead), Code::TargetLostRecords);
    }
}
