//! What an at-least-once MM2 had copied beyond the position it stored. Pure.
//!
//! MM2 stores positions once a minute, behind the records. After a crash its last records stand on the target
//! without being known:
//!
//! ```text
//! source    …  N   N+1  N+2  N+3  N+4 …        stored: N
//! target    …  N'  N+1' N+2' ▏                 proven: N+1 and N+2 were copied; go on at N+3
//!          or  N'  N+1' N+2' N+1' ▏            it had crashed before, with N stored: the same
//! ```
//!
//! A proof is that the contents of the target from one place to its end are those of the source behind `N`. Each
//! life of MM2 copies the source in order and begins at or before the record behind the position that is stored, so
//! from the copy of `N` on the target can be cut into stretches that each begin with `N+1`. Where contents repeat,
//! the shortest overlap that fits is taken: leaving out too little repeats records, too much would lose them.

/// A record, as far as its copy equals it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its offset.
    pub offset: i64,
    /// A digest of key, value, headers and timestamp.
    pub content: u128,
}

/// A record and its copy, by their offsets.
pub type Copied = (i64, i64);

/// Places tried where contents repeat.
const CANDIDATES: usize = 100;

/// The copies of the records behind `last`, when the target shows them: both sides begin with one record and its
/// copy (an offset sync says so), and `target` reaches to the end. The records are those of the source in order.
pub fn aligned(source: &[Seen], target: &[Seen], last: i64) -> Option<Vec<Copied>> {
    let all_equal = target.len() <= source.len()
        && source
            .iter()
            .zip(target)
            .all(|(one, other)| one.content == other.content);
    let reached = source.get(target.len().checked_sub(1)?)?.offset;
    (all_equal && last <= reached).then(|| {
        pairs(source, target)
            .filter(|(source, _)| last < *source)
            .collect()
    })
}

/// The copies of the records behind `last`, when the end of the target shows them. `source` begins with `last`, which
/// was copied; `target` reaches to the end.
pub fn anchored(source: &[Seen], target: &[Seen], last: i64) -> Option<Vec<Copied>> {
    let (anchor, behind) = source.split_first().filter(|(anchor, _)| anchor.offset == last)?;
    let candidates = (0..target.len())
        .rev()
        .filter(|at| target[*at].content == anchor.content);
    candidates
        .take(CANDIDATES)
        .find_map(|at| longest_stretch(behind, &target[at + 1..]))
}

/// Cuts `target` into stretches that each equal the beginning of `source`, and pairs the longest one.
fn longest_stretch(source: &[Seen], target: &[Seen]) -> Option<Vec<Copied>> {
    let (mut longest, mut start) = (0..0, 0);
    for at in 0..=target.len() {
        let next = source.get(at - start);
        let goes_on = at < target.len() && next.is_some_and(|next| next.content == target[at].content);
        if goes_on {
            continue;
        }
        if longest.len() < at - start {
            longest = start..at;
        }
        start = at;
        if at < target.len() && source.first()?.content != target[at].content {
            return None;
        }
    }
    Some(pairs(source, &target[longest]).collect())
}

fn pairs(source: &[Seen], target: &[Seen]) -> impl Iterator<Item = Copied> {
    let pair = |(source, target): (&Seen, &Seen)| (source.offset, target.offset);
    source.iter().zip(target).map(pair)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A source of these contents, with holes, and the target after lives of MM2: each begins behind the stored
    /// position and copies so many records, of which so many are stored at its end.
    fn lives(contents: &[(u8, u8)], lives: &[(usize, usize)]) -> (Vec<Seen>, Vec<Seen>, usize) {
        let mut offset = 0;
        let source: Vec<Seen> = contents
            .iter()
            .map(|(hole, content)| {
                offset += 1 + i64::from(*hole);
                Seen {
                    offset,
                    content: u128::from(*content),
                }
            })
            .collect();
        let (mut target, mut stored) = (vec![], 0);
        for (copied, of_them) in lives {
            let to = (stored + copied).min(source.len());
            for record in &source[stored..to] {
                target.push(Seen {
                    offset: target.len() as i64 * 2,
                    ..*record
                });
            }
            stored += (*of_them).min(to - stored);
        }
        (source, target, stored)
    }

    fn subsequence(of: &[u128], all: &[u128]) -> bool {
        let mut all = all.iter();
        of.iter().all(|it| all.any(|other| it == other))
    }

    proptest! {
        /// Going on behind what is proven, the target holds everything in order; where no two records are equal,
        /// nothing is copied once more that MM2 had copied.
        #[test]
        fn nothing_is_lost_and_what_is_distinct_is_not_repeated(
            contents in prop::collection::vec((0u8..3, 0u8..4), 1..40),
            crashes in prop::collection::vec((0usize..12, 0usize..8), 1..6),
            distinct in any::<bool>(),
            window in 0usize..40,
        ) {
            let contents: Vec<(u8, u8)> = match distinct {
                true => contents.iter().enumerate().map(|(i, (hole, _))| (*hole, i as u8)).collect(),
                false => contents,
            };
            let (source, target, stored) = lives(&contents, &crashes);
            prop_assume!(0 < stored);
            let last = source[stored - 1].offset;
            let tail = &target[target.len().saturating_sub(window)..];
            let proven = anchored(&source[stored - 1..], tail, last);
            let next = stored + proven.as_ref().map_or(0, Vec::len);
            let content = |records: &[Seen]| records.iter().map(|it| it.content).collect::<Vec<_>>();
            let after = [content(&target), content(&source[next..])].concat();
            prop_assert!(subsequence(&content(&source), &after), "{proven:?}");
            if distinct && window == 40 {
                let copied = (0..source.len()).rev().find(|i| target.iter().any(|it| it.content == source[*i].content));
                prop_assert_eq!(next, copied.map_or(0, |i| i + 1).max(stored));
            }
            for (source_offset, target_offset) in proven.into_iter().flatten() {
                let of = |records: &[Seen], offset| records.iter().find(|it| it.offset == offset).map(|it| it.content);
                prop_assert_eq!(of(&source, source_offset), of(&target, target_offset));
                prop_assert!(last < source_offset);
            }
        }

        /// A pair that is known to belong together proves the rest even where all records are equal.
        #[test]
        fn a_sync_proves_what_repeats(records in 1usize..30, known in 0usize..30, stored in 0usize..30) {
            let contents = vec![(1u8, 7u8); 40];
            let (source, target, _) = lives(&contents, &[(records, 0)]);
            let (known, stored) = (known.min(records - 1), stored.min(records - 1));
            prop_assume!(known <= stored);
            let last = source[stored].offset;
            let proven = aligned(&source[known..], &target[known..], last).expect("it is proven");
            prop_assert_eq!(proven.len(), records - stored - 1);
        }
    }

    #[test]
    fn a_target_that_something_else_wrote_to_proves_nothing() {
        let (source, mut target, _) = lives(&[(0, 1), (0, 2), (0, 3), (0, 4)], &[(3, 1)]);
        assert_eq!(anchored(&source, &target, 1).map(|it| it.len()), Some(2));
        target.push(Seen {
            offset: 9,
            content: 99,
        });
        assert_eq!(anchored(&source, &target, 1), None);
        assert_eq!(aligned(&source, &target, 1), None);
        assert_eq!(
            anchored(&source[1..], &target, 1),
            None,
            "the stored record is gone"
        );
    }
}
