//! How the partitions of one task are: which of them wait, why, since when, and when each is tried again. Pure, and
//! longer-lived than the sessions of the task.
//!
//! ```text
//!             failed                        passed its trial, or is well again
//!  healthy ──────────▶ held (code, offset, since, next try) ──────────────────▶ healthy
//!                       ▲                 │ due, or what held it has changed
//!                       ╰──── failed ── tried again: alone where a record or the client gave no other clue
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::error::{Code, Error, Rank, Remedy};
use crate::kafka::TopicPartition;

/// First pause before a held partition is tried again; it doubles with each failed trial.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between trials: each may cost the neighbours a moment.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Longest pause where asking the clusters is enough to know.
const LONGEST_ASKING: Duration = Duration::from_secs(5);

/// What a cluster cannot serve for so short a time, in an election or just after the topic was made, is no illness.
const BRIEF: Duration = Duration::from_secs(5);

/// How it was found out that a partition cannot be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// By asking the clusters: asking again costs nobody anything.
    Asked,
    /// By trying.
    Tried,
}

/// A partition that takes no part at the moment.
#[derive(Clone, Debug)]
pub struct Held {
    /// Why.
    pub error: Error,
    /// The source offset at which it stands, where that is known.
    pub offset: Option<i64>,
    /// When it began to wait.
    pub since: Instant,
    /// Trials that failed.
    attempts: u32,
    /// `None`: until the operator decides.
    next_try: Option<Instant>,
    found: Found,
    /// What the target topic took when it failed.
    accepts: String,
    told: bool,
}

impl Held {
    /// The cluster could not serve it when it was asked, and has not been asked for long: that may pass by itself.
    pub fn is_brief(&self, now: Instant) -> bool {
        let unavailable = [Code::SourceUnavailable, Code::TargetUnavailable].contains(&self.error.code);
        self.found == Found::Asked && unavailable && now.saturating_duration_since(self.since) < BRIEF
    }
}

/// The partitions of one task that wait. What is not listed is healthy.
#[derive(Debug, Default)]
pub struct Health {
    held: BTreeMap<TopicPartition, Held>,
}

impl Health {
    /// Keeps a partition out until it may be tried again. Returns whether this is news: it was healthy, or was
    /// held for another reason.
    pub fn hold(
        &mut self,
        tp: &TopicPartition,
        error: Error,
        offset: Option<i64>,
        found: Found,
        accepts: &str,
        now: Instant,
    ) -> bool {
        let before = self.held.get(tp);
        let same = before.is_some_and(|held| held.error.code == error.code);
        let attempts = before.map_or(0, |held| held.attempts) + 1;
        let longest = match found {
            Found::Asked => LONGEST_ASKING,
            Found::Tried => LONGEST_PAUSE,
        };
        let next_try = match error.code.page().remedy {
            Remedy::HaltPartition => None,
            _ => Some(now + pause(attempts, longest)),
        };
        let mut held = Held {
            offset: offset.or(before.filter(|_| same).and_then(|held| held.offset)),
            since: before.map_or(now, |held| held.since),
            error,
            attempts,
            next_try,
            found,
            accepts: accepts.to_owned(),
            told: before.is_some_and(|held| same && held.told),
        };
        let news = !held.told && !held.is_brief(now);
        held.told |= news;
        self.held.insert(tp.clone(), held);
        news
    }

    /// Why and since when a partition waits.
    pub fn held(&self, tp: &TopicPartition) -> Option<&Held> {
        self.held.get(tp)
    }

    /// All that wait.
    pub fn all(&self) -> impl Iterator<Item = (&TopicPartition, &Held)> {
        self.held.iter()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether a partition may be read: it is healthy, or it is time to try it again.
    pub fn may_be_tried(&self, tp: &TopicPartition, now: Instant) -> bool {
        self.held
            .get(tp)
            .is_none_or(|held| held.next_try.is_some_and(|at| at <= now))
    }

    /// Whether a partition is tried without the others, because it could take them along when it fails: the target
    /// had refused its record, nobody could say what was to blame, or it has failed more than once.
    pub fn is_tried_alone(&self, tp: &TopicPartition) -> bool {
        self.held.get(tp).is_some_and(|held| {
            let refused = matches!(
                held.error.code,
                Code::TargetRecordTooLarge | Code::TargetRecordRejected | Code::TargetUnexpected
            );
            let unexplained = held.error.code.rank() == Rank::Consequence;
            held.found == Found::Tried && (refused || unexplained || 1 < held.attempts)
        })
    }

    /// A partition is to be tried as soon as possible: how it stands is for the rules of the start to decide.
    pub fn try_now(&mut self, tp: &TopicPartition, now: Instant) {
        if let Some(held) = self.held.get_mut(tp) {
            held.next_try = Some(now);
        }
    }

    /// Stored progress was read anew: what waited for the operator may have been decided about.
    pub fn decide_again(&mut self, now: Instant) {
        for held in self.held.values_mut() {
            held.next_try.get_or_insert(now);
        }
    }

    /// Tells what target topics take now: what waits for another answer is tried at once when it changes.
    pub fn accepts<'a>(&mut self, now: Instant, accepts: impl Fn(&TopicPartition) -> Option<&'a str>) {
        for (tp, held) in &mut self.held {
            let Some(accepted) = accepts(tp).filter(|accepted| *accepted != held.accepts) else {
                continue;
            };
            held.accepts = accepted.to_owned();
            if let Some(at) = &mut held.next_try {
                *at = now;
            }
        }
    }

    /// Partitions that are healthy again wait no longer; whatever else `is_well` refuses stays.
    pub fn recovered(&mut self, is_well: impl Fn(&TopicPartition) -> bool) -> Vec<TopicPartition> {
        let well: Vec<_> = self.held.keys().filter(|tp| is_well(tp)).cloned().collect();
        for tp in &well {
            self.held.remove(tp);
        }
        well
    }

    /// A partition is of no concern any more.
    pub fn forget(&mut self, tp: &TopicPartition) {
        self.held.remove(tp);
    }
}

fn pause(attempts: u32, longest: Duration) -> Duration {
    (FIRST_PAUSE * 2u32.saturating_pow(attempts.min(16) - 1)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(health: &mut Health, code: Code, found: Found, now: Instant) -> bool {
        let tp = TopicPartition::new("t", 0);
        health.hold(&tp, Error::new(code, "x"), Some(7), found, "max=1", now)
    }

    #[test]
    fn what_a_cluster_cannot_serve_for_a_moment_is_told_only_when_it_lasts() {
        let (start, tp) = (Instant::now(), TopicPartition::new("t", 0));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut health = Health::default();
        for second in [0, 1, 3] {
            assert!(!hold(
                &mut health,
                Code::TargetUnavailable,
                Found::Asked,
                at(second)
            ));
            assert!(health.held(&tp).is_some_and(|held| held.is_brief(at(second))));
        }
        assert!(!health.held(&tp).is_some_and(|held| held.is_brief(at(6))));
        assert!(
            hold(&mut health, Code::TargetUnavailable, Found::Asked, at(6)),
            "it lasts"
        );
        assert!(
            !hold(&mut health, Code::TargetUnavailable, Found::Asked, at(11)),
            "it was told"
        );
        // What is found by trying, and what does not pass, is told at once.
        for (code, found) in [
            (Code::TargetUnavailable, Found::Tried),
            (Code::TargetNotAuthorized, Found::Asked),
        ] {
            assert!(hold(&mut Health::default(), code, found, at(0)), "{code:?}");
        }
    }

    #[test]
    fn a_held_partition_is_tried_ever_more_rarely_and_at_once_when_the_target_takes_something_else() {
        let (mut health, mut now) = (Health::default(), Instant::now());
        let tp = TopicPartition::new("t", 0);
        let mut pauses = vec![];
        for _ in 0..12 {
            hold(&mut health, Code::TargetRecordTooLarge, Found::Tried, now);
            let due = health.held(&tp).unwrap().next_try.unwrap();
            assert!(!health.may_be_tried(&tp, now) && health.may_be_tried(&tp, due));
            pauses.push(due - now);
            now = due;
        }
        assert!(pauses.windows(2).all(|two| two[0] <= two[1]), "{pauses:?}");
        assert_eq!((pauses[0], pauses[11]), (FIRST_PAUSE, LONGEST_PAUSE));
        hold(&mut health, Code::TargetRecordTooLarge, Found::Tried, now);
        health.accepts(now, |_| Some("max=1"));
        assert!(!health.may_be_tried(&tp, now));
        health.accepts(now, |_| Some("max=2"));
        assert!(health.may_be_tried(&tp, now));
    }

    #[test]
    fn what_only_the_operator_can_decide_waits_for_him() {
        let (mut health, now) = (Health::default(), Instant::now());
        let tp = TopicPartition::new("t", 0);
        hold(&mut health, Code::SourceTruncated, Found::Asked, now);
        health.accepts(now, |_| Some("max=2"));
        assert!(!health.may_be_tried(&tp, now + Duration::from_secs(1_000_000)));
        health.try_now(&tp, now);
        assert!(health.may_be_tried(&tp, now));
    }

    #[test]
    fn a_hold_is_news_once_and_keeps_its_beginning_and_its_place() {
        let (mut health, now) = (Health::default(), Instant::now());
        let tp = TopicPartition::new("t", 0);
        assert!(hold(&mut health, Code::TargetRecordTooLarge, Found::Tried, now));
        let later = now + Duration::from_secs(9);
        let error = Error::new(Code::TargetRecordTooLarge, "again");
        assert!(!health.hold(&tp, error, None, Found::Tried, "", later));
        let held = health.held(&tp).unwrap();
        assert_eq!((held.since, held.offset), (now, Some(7)));
        assert!(hold(&mut health, Code::TargetNotAuthorized, Found::Asked, later));
        assert_eq!(health.recovered(|_| true), [tp]);
        assert!(health.is_empty());
    }

    #[test]
    fn who_could_take_others_along_is_tried_alone() {
        let now = Instant::now();
        let alone = |code, found, times| {
            let mut health = Health::default();
            for _ in 0..times {
                hold(&mut health, code, found, now);
            }
            health.is_tried_alone(&TopicPartition::new("t", 0))
        };
        assert!(alone(Code::TargetRecordRejected, Found::Tried, 1));
        assert!(alone(Code::TargetTransactionFailed, Found::Tried, 1));
        assert!(!alone(Code::TargetTopicMissing, Found::Tried, 1));
        assert!(alone(Code::TargetTopicMissing, Found::Tried, 2));
        assert!(!alone(Code::TargetNotAuthorized, Found::Asked, 5));
    }
}
