//! Positions of groups in words, tables and CSV.

use std::borrow::Cow;

use crate::cli::flows::told;
use crate::cli::table::{count, table};
use crate::offset_map::Translation;
use crate::operations::group_positions::{Look, Now, Place, Row};
use crate::topology::FlowSpec;

impl Place {
    /// What people get.
    pub fn how(&self) -> String {
        match self.translation {
            Some(Translation::Exact { .. }) => "exact".to_owned(),
            Some(Translation::Bound { reread, .. }) => {
                format!("at most {} read again", count(reread as usize, "offset"))
            }
            Some(Translation::Ahead { copied_to, .. }) => {
                format!("held at the replicated end, source offset {copied_to}")
            }
            Some(Translation::TooOld { kept_from }) => {
                format!("too old: the map begins at source offset {kept_from}")
            }
            Some(Translation::Unknown) => "unknown: the map does not know the partition".to_owned(),
            None => "the flow does not copy the topic".to_owned(),
        }
    }

    /// What an operator must know about an exported position, or about one that is left out.
    pub fn remark(&self) -> Option<String> {
        let at = format!("{} at {}", self.source, self.position);
        match (self.translation, self.target()) {
            (Some(Translation::Exact { .. }), _) => None,
            (_, Some(_)) => Some(format!("note: {at}: {}", self.how())),
            (_, None) => Some(format!("left out: {at}: {}", self.how())),
        }
    }

    /// `topic,partition,offset` as `kafka-consumer-groups --export` writes it (`CsvUtils` of Kafka's tools).
    pub fn csv(&self) -> Option<String> {
        let (topic, partition) = (csv_text(&self.remote), self.source.partition);
        self.target()
            .map(|target| format!("{topic},{partition},{target}\n"))
    }

    fn cells(&self) -> [String; 5] {
        let target = self.target();
        [
            self.source.to_string(),
            self.position.to_string(),
            match self.translation {
                Some(_) => format!("{}-{}", self.remote, self.source.partition),
                None => "none".to_owned(),
            },
            target.map_or("none".into(), |it| it.to_string()),
            self.how(),
        ]
    }

    /// `100 → 40, 3 records`
    fn run_cell(&self) -> String {
        self.run().map_or("none".into(), |run| {
            let records = count(run.length as usize, "record");
            format!("{} → {}, {records}", run.source, run.target)
        })
    }
}

impl Now {
    /// For people.
    pub fn cell(self) -> String {
        match self {
            Self::At(offset) => offset.to_string(),
            Self::None => "none".to_owned(),
            Self::Unknown => "unknown".to_owned(),
        }
    }
}

impl Row {
    /// `group,topic,partition,offset`, which that tool writes and reads for several groups.
    pub fn csv(&self) -> Option<String> {
        let group = csv_text(&self.group);
        self.place.csv().map(|place| format!("{group},{place}"))
    }
}

/// A text as Jackson's CSV writes it: quoted when it is longer than 24 UTF-16 units, or has a character up to the
/// comma, as no topic has.
fn csv_text(text: &str) -> Cow<'_, str> {
    let plain = text.encode_utf16().count() <= 24 && text.chars().all(|c| ',' < c);
    match plain {
        true => text.into(),
        false => format!("\"{}\"", text.replace('"', "\"\"")).into(),
    }
}

pub fn block(flow: &FlowSpec, table: &str, rows: usize) -> String {
    let positions = count(rows, "position");
    format!("{} {}: {positions}\n{table}", flow.id.topology, flow.id)
}

pub fn positions(rows: &[Row]) -> String {
    let header = [
        "GROUP",
        "PARTITION",
        "POSITION",
        "ON TARGET",
        "CONTINUES AT",
        "HOW",
        "GROUP IS AT",
    ];
    let cells = rows.iter().map(|row| {
        let [partition, position, remote, target, how] = row.place.cells();
        let group = row.group.clone();
        [group, partition, position, remote, target, how, row.now.cell()]
    });
    match rows.is_empty() {
        true => String::new(),
        false => table(2, header, &cells.collect::<Vec<_>>()),
    }
}

pub fn group_runs(rows: &[Row]) -> String {
    let header = [
        "PARTITION",
        "POSITION",
        "ON TARGET",
        "CONTINUES AT",
        "HOW",
        "GROUP IS AT",
        "RUN",
    ];
    let cells = rows.iter().map(|row| {
        let [partition, position, remote, target, how] = row.place.cells();
        let (now, run) = (row.now.cell(), row.place.run_cell());
        [partition, position, remote, target, how, now, run]
    });
    table(2, header, &cells.collect::<Vec<_>>())
}

pub fn offset_run(place: &Place) -> String {
    let header = ["PARTITION", "POSITION", "ON TARGET", "CONTINUES AT", "HOW", "RUN"];
    let [partition, position, remote, target, how] = place.cells();
    table(
        2,
        header,
        &[[partition, position, remote, target, how, place.run_cell()]],
    )
}

/// Says which positions have no place because their map is about other topics.
pub fn note_outdated(look: &Look) {
    for (partition, why) in &look.outdated {
        eprintln!("note: {partition}: {why}");
    }
}

/// The rows, and whether everything could be asked; says what could not.
pub fn told_rows(flow: &FlowSpec, look: Look) -> (Vec<Row>, bool) {
    note_outdated(&look);
    let complete = look.errors.is_empty();
    for error in look.errors {
        told(flow, error);
    }
    (look.rows, complete)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cli::offsets::tests::{commit, copied};
    use crate::kafka::TopicPartition;
    use crate::kafka::groups::Commit;
    use crate::operations::group_positions::rows_of_group;

    fn rows(now: Option<&BTreeMap<TopicPartition, Commit>>) -> Vec<Row> {
        let (flow, maps) = copied();
        let at = |(topic, partition, offset): (&str, i32, i64)| {
            (TopicPartition::new(topic, partition), commit(offset))
        };
        let positions = [("orders", 0, 103), ("orders", 1, 5), ("private", 0, 7)];
        rows_of_group(&flow, &maps, "shop", positions.map(at).into(), now)
    }

    #[test]
    fn the_table_says_where_a_group_continues_and_how_exactly() {
        let now = [(TopicPartition::new("seoul.orders", 0), commit(41))].into();
        let expected = "
  GROUP  PARTITION  POSITION  ON TARGET       CONTINUES AT  HOW                                          GROUP IS AT
  shop   orders-0   103       seoul.orders-0  44        exact                                        41
  shop   orders-1   5         seoul.orders-1  none      unknown: the map does not know the partition  none
  shop   private-0  7         none            none      the flow does not copy the topic             none
";
        let words = |text: &str| -> Vec<Vec<String>> {
            let lines = text.lines().filter(|line| !line.is_empty());
            lines
                .map(|line| line.split_whitespace().map(str::to_owned).collect())
                .collect()
        };
        assert_eq!(words(&positions(&rows(Some(&now)))), words(expected));
        assert!(group_runs(&rows(Some(&now))).contains("41           104 → 44, 2 records"));
    }

    #[test]
    fn what_the_target_does_not_tell_is_neither_a_position_nor_none() {
        assert!(rows(None).iter().all(|row| row.now.cell() == "unknown"));
        let (flow, _) = copied();
        assert_eq!(rows(None)[0].json(&flow)["target_group_offset"], "unknown");
    }

    #[test]
    fn every_answer_of_the_map_has_its_words() {
        let (flow, maps) = copied();
        let words = |position| {
            let place = Place::of(&flow, &maps, TopicPartition::new("orders", 0), position);
            (place.target(), place.exactness(), place.how(), place.is_missed())
        };
        let held = "held at the replicated end, source offset 107".to_owned();
        let old = "too old: the map begins at source offset 100".to_owned();
        assert_eq!(words(101), (Some(41), "exact", "exact".to_owned(), false));
        assert_eq!(words(120), (Some(46), "ahead", held, false));
        assert_eq!(words(99), (None, "too_old", old, true));
        let mut place = Place::of(&flow, &maps, TopicPartition::new("orders", 0), 101);
        place.translation = Some(Translation::Bound {
            target: 40,
            reread: 2,
        });
        assert_eq!(place.how(), "at most 2 offsets read again");
        assert_eq!(place.json(&flow)["reread"], 2);
    }

    #[test]
    fn texts_are_quoted_as_jackson_does() {
        for (text, csv) in [
            ("a-group.of_24_characters", "a-group.of_24_characters"),
            ("a-group.of_25.characters_", "\"a-group.of_25.characters_\""),
            ("two words", "\"two words\""),
            ("a\"b", "\"a\"\"b\""),
            ("한국", "한국"),
            // Twelve characters beyond the 16 bits of Java's are 24.
            ("😀😀😀😀😀😀😀😀😀😀😀😀", "😀😀😀😀😀😀😀😀😀😀😀😀"),
            ("😀😀😀😀😀😀😀😀😀😀😀😀x", "\"😀😀😀😀😀😀😀😀😀😀😀😀x\""),
        ] {
            assert_eq!(csv_text(text), csv);
        }
        let rows = rows(None);
        assert_eq!(rows[0].csv().as_deref(), Some("shop,seoul.orders,0,44\n"));
    }

    #[test]
    fn an_export_has_the_positions_with_a_place_and_remarks_the_others() {
        let lines: Vec<_> = rows(None).iter().map(|row| row.place.csv()).collect();
        assert_eq!(lines, [Some("seoul.orders,0,44\n".to_owned()), None, None]);
        let remarks: Vec<_> = rows(None).iter().map(|row| row.place.remark()).collect();
        assert_eq!(
            remarks,
            [
                None,
                Some("left out: orders-1 at 5: unknown: the map does not know the partition".to_owned()),
                Some("left out: private-0 at 7: the flow does not copy the topic".to_owned()),
            ]
        );
        let missed: Vec<_> = rows(None).iter().map(|row| row.place.is_missed()).collect();
        assert_eq!(
            missed,
            [false, true, false],
            "what is not copied on purpose is not missed"
        );
    }
}
