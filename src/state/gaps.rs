//! Declared gaps: source offsets that can no longer be copied, and what stored progress keeps of them. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Gaps that stored progress lists one by one. It is written with every commit, so it must not grow for ever; all
/// that were ever declared are in the audit trail.
pub const LISTED: usize = 16;

/// Reason of a gap that an operator made by moving the position forward.
pub const RESET: &str = "offsets_reset";

/// A range of source offsets that can no longer be copied: declared, never silent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// First missing offset.
    pub from: i64,
    /// First offset after it.
    pub to: i64,
    /// Name of the [`Code`] that found it, or [`RESET`].
    ///
    /// [`Code`]: crate::error::Code
    pub reason: String,
    /// How the range stands to what is missing.
    #[serde(default, skip_serializing_if = "Extent::is_exact")]
    pub extent: Extent,
}

/// How the range of a [`Gap`] stands to what is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// Nothing else is missing, and all of it.
    #[default]
    Exact,
    /// Nothing else is missing, but perhaps not all of it.
    AtMost,
    /// What follows the range may be missing too.
    AtLeast,
}

impl Extent {
    fn is_exact(&self) -> bool {
        *self == Self::Exact
    }
}

impl Gap {
    /// Offsets in the range.
    pub fn offsets(&self) -> u64 {
        (self.to - self.from).max(0) as u64
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extent = match self.extent {
            Extent::Exact => "",
            Extent::AtMost => "at most ",
            Extent::AtLeast => "at least ",
        };
        write!(f, "{extent}[{}, {}) {}", self.from, self.to, self.reason)
    }
}

/// The gaps of one source partition, as stored with its progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gaps {
    /// The newest, oldest first.
    #[serde(default, rename = "gaps", skip_serializing_if = "Vec::is_empty")]
    newest: Vec<Gap>,
    /// Those before.
    #[serde(default, rename = "older_gaps", skip_serializing_if = "Sum::is_empty")]
    older: Sum,
    /// Every one of them was told to the audit trail. Versions that listed all told it of none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    audited: bool,
}

/// Gaps that are not listed one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// Source offsets in them.
    pub offsets: u64,
}

impl Sum {
    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, gap: &Gap) {
        self.count += 1;
        self.offsets += gap.offsets();
    }
}

impl Gaps {
    /// Adds a gap, of which the audit trail is to be told. One that goes on where the last one ended, for the same
    /// reason, makes it longer.
    pub fn declare(&mut self, gap: Gap) {
        match self.newest.last_mut() {
            Some(last) if (last.to, &last.reason, last.extent) == (gap.from, &gap.reason, gap.extent) => {
                last.to = gap.to;
            }
            _ => self.newest.push(gap),
        }
        self.audited = true;
        self.shorten();
    }

    /// Brings a list as versions before the limit stored it to its length. Returns what the audit trail is to be
    /// told.
    pub fn untold(&mut self) -> Vec<Gap> {
        if self.audited || self.newest.is_empty() {
            return vec![];
        }
        let all = self.newest.clone();
        self.audited = true;
        self.shorten();
        all
    }

    fn shorten(&mut self) {
        let surplus = self.newest.len().saturating_sub(LISTED);
        for gap in self.newest.drain(..surplus) {
            self.older.add(&gap);
        }
    }

    /// The newest, oldest first.
    pub fn newest(&self) -> &[Gap] {
        &self.newest
    }

    /// Those before.
    pub fn older(&self) -> Sum {
        self.older
    }

    /// All that were ever declared.
    pub fn total(&self) -> Sum {
        let mut sum = self.older;
        self.newest.iter().for_each(|gap| sum.add(gap));
        sum
    }

    /// One line for each of the newest, after one for all that are older.
    pub fn lines(&self) -> Vec<String> {
        let Sum { count, offsets } = self.older;
        let older = (0 < count).then(|| format!("{count} older gaps, {offsets} offsets"));
        older
            .into_iter()
            .chain(self.newest.iter().map(ToString::to_string))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gap(from: i64, to: i64) -> Gap {
        Gap {
            from,
            to,
            reason: "source_out_of_range".into(),
            extent: Extent::Exact,
        }
    }

    proptest! {
        /// However many are declared, what is stored stays small and no offset is forgotten.
        #[test]
        fn any_number_of_gaps_is_stored_in_little_space(lengths in prop::collection::vec((0i64..9, 1i64..9), 0..200)) {
            let (mut gaps, mut at, mut lost) = (Gaps::default(), 0, 0);
            for (copied, length) in lengths {
                at += copied;
                gaps.declare(gap(at, at + length));
                at += length;
                lost += length as u64;
            }
            prop_assert_eq!(gaps.total().offsets, lost);
            prop_assert!(gaps.newest().windows(2).all(|pair| pair[0].to < pair[1].from));
            prop_assert_eq!(gaps.newest().last().map_or(at, |gap| gap.to), at);
            let stored = serde_json::to_string(&gaps).unwrap();
            prop_assert!(stored.len() < 2_000, "{} bytes", stored.len());
            prop_assert_eq!(serde_json::from_str::<Gaps>(&stored).unwrap(), gaps);
        }
    }

    #[test]
    fn what_differs_in_its_reason_or_its_certainty_is_not_merged() {
        let mut gaps = Gaps::default();
        let unsure = Gap {
            extent: Extent::AtMost,
            ..gap(2, 3)
        };
        let by_hand = Gap {
            reason: RESET.into(),
            ..gap(3, 4)
        };
        for gap in [gap(0, 1), gap(1, 2), unsure, by_hand] {
            gaps.declare(gap);
        }
        assert_eq!(
            gaps.lines(),
            [
                "[0, 2) source_out_of_range",
                "at most [2, 3) source_out_of_range",
                "[3, 4) offsets_reset"
            ]
        );
    }
}
