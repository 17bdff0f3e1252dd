//! `causeway offsets reset`: moves a stopped flow's own position, in the words of `kafka-consumer-groups`.

use std::collections::BTreeMap;

use clap::{ArgGroup, Args};
use jiff::{Span, SpanRelativeTo, Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::{Value, json};

use super::selection::Selection;
use crate::cli::answer::{Execution, ExitCode, Outcome, Output, OutputFormat, failed, json, print, usage};
use crate::cli::flows::{one, told};
use crate::cli::table::{count, table};
use crate::config::Config;
use crate::context::now_ms;
use crate::error::Error;
use crate::kafka::TopicPartition;
use crate::kafka::admin::OffsetSpec;
use crate::operations::group_positions::{CLIENT_ID, PATIENCE};
use crate::operations::stopped::{Ledgers, StoppedFlow};
use crate::state::audit::Change;
use crate::state::audit::{Deed, login};
use crate::state::resume::{Bounds, Moved, StoredProgress, begin, reset};
use crate::state::slot::Slot;
use crate::topology::{Delivery, FlowSpec, OnGap};

/// What to move, and where to.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true)))]
#[command(group(ArgGroup::new("where").required(true)))]
pub struct Reset {
    /// The flow, such as 'seoul->busan' (mind the quotes) [default: the only one]
    #[arg(long, value_name = "FLOW")]
    flow: Option<String>,

    #[command(flatten)]
    what: Selection,

    /// To the oldest record that the source has
    #[arg(long, group = "where")]
    to_earliest: bool,

    /// Behind the newest committed record
    #[arg(long, group = "where")]
    to_latest: bool,

    /// To this source offset
    #[arg(long, group = "where", value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,

    /// To the first record at or after this time; without a zone it is UTC
    #[arg(long, group = "where", value_name = "YYYY-MM-DDTHH:mm:SS.sss", value_parser = datetime)]
    to_datetime: Option<Timestamp>,

    /// To the first record that is not older than this
    #[arg(long, group = "where", value_name = "PnDTnHnMnS", value_parser = duration)]
    by_duration: Option<jiff::SignedDuration>,

    /// Forward, or with a minus backward, by so many source offsets
    #[arg(long, group = "where", value_name = "OFFSETS", allow_hyphen_values = true)]
    shift_by: Option<i64>,

    /// To where it is, or the nearest offset that the source has; declares what was lost, as on_gap: continue
    #[arg(long, group = "where")]
    to_current: bool,

    #[command(flatten)]
    execution: Execution,

    #[command(flatten)]
    output: Output,
}

/// Where a position goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// What the source answers.
    Asked(OffsetSpec),
    Offset(i64),
    ShiftBy(i64),
}

impl Where {
    /// The offset that is asked for, which the source need not have.
    fn offset(self, current: i64, answer: Option<i64>) -> i64 {
        match self {
            Self::Asked(_) => answer.unwrap_or(current),
            Self::Offset(offset) => offset,
            Self::ShiftBy(offsets) => current.saturating_add(offsets),
        }
    }
}

impl Reset {
    fn place(&self, now: Timestamp) -> Outcome<Where> {
        let at = |time: Timestamp| Where::Asked(OffsetSpec::Timestamp(time.as_millisecond().max(0)));
        let ago = |ago| {
            now.checked_sub(ago)
                .map_err(|_| usage("--by-duration goes back too far"))
        };
        Ok(match self {
            Self {
                to_earliest: true, ..
            } => Where::Asked(OffsetSpec::Earliest),
            Self { to_latest: true, .. } => Where::Asked(OffsetSpec::Latest),
            Self {
                to_offset: Some(offset),
                ..
            } => Where::Offset(*offset),
            Self {
                to_datetime: Some(time),
                ..
            } => at(*time),
            Self {
                by_duration: Some(length),
                ..
            } => at(ago(*length)?),
            Self {
                shift_by: Some(offsets),
                ..
            } => Where::ShiftBy(*offsets),
            _ => Where::ShiftBy(0),
        })
    }

    /// As the audit trail names it.
    fn action(&self) -> String {
        let place = match self {
            Self {
                to_earliest: true, ..
            } => "--to-earliest".to_owned(),
            Self { to_latest: true, .. } => "--to-latest".to_owned(),
            Self {
                to_offset: Some(offset),
                ..
            } => format!("--to-offset {offset}"),
            Self {
                to_datetime: Some(time),
                ..
            } => format!("--to-datetime {time}"),
            Self {
                by_duration: Some(length),
                ..
            } => format!("--by-duration {length}"),
            Self {
                shift_by: Some(offsets),
                ..
            } => format!("--shift-by {offsets}"),
            _ => "--to-current".to_owned(),
        };
        format!("offsets reset {place}")
    }
}

/// As Kafka's tool reads it: without a zone it is UTC.
fn datetime(text: &str) -> Result<Timestamp, String> {
    let without = || {
        text.parse::<DateTime>()
            .and_then(|time| time.to_zoned(TimeZone::UTC))
    };
    text.parse()
        .or_else(|_| without().map(|time| time.timestamp()))
        .map_err(|_| "a time such as 2026-11-20T08:30:00.000".to_owned())
}

/// ISO 8601, where a day has 24 hours.
fn duration(text: &str) -> Result<jiff::SignedDuration, String> {
    text.parse::<Span>()
        .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
        .ok()
        .filter(|length| !length.is_negative())
        .ok_or_else(|| "a length of time such as P1DT2H30M".to_owned())
}

/// A partition and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Move {
    change: Change,
    /// Where copying would go on without the move, and what would be declared then.
    from: i64,
    asked: i64,
    log_start: i64,
    end: i64,
}

/// Decides about one partition. One of which nothing is stored begins at its log start.
fn plan(
    partition: &TopicPartition,
    stored: Option<&StoredProgress>,
    bounds: &Bounds,
    delivery: Delivery,
    place: Where,
    answer: Option<i64>,
) -> crate::error::Result<Move> {
    let begin = begin(stored, bounds, OnGap::Continue)?;
    let current = stored.map_or(begin.position, |stored| stored.next_source_offset);
    let asked = place.offset(current, answer);
    let to = asked.clamp(bounds.log_start, bounds.end.max(bounds.log_start));
    let known = match stored {
        Some(stored) => stored.clone(),
        None => begin.start(None, bounds, delivery).progress,
    };
    let Moved { progress, declared } = reset(&known, bounds, delivery, to)?;
    Ok(Move {
        change: Change {
            partition: partition.clone(),
            before: stored.cloned(),
            after: progress,
            declared,
        },
        from: begin.position,
        asked,
        log_start: bounds.log_start,
        end: bounds.end,
    })
}

impl Move {
    /// Whether anything is to be stored.
    fn changes(&self) -> bool {
        let (before, after) = (&self.change.before, &self.change.after);
        let moved = |before: &StoredProgress| {
            (before.next_source_offset, &before.topic_id) != (after.next_source_offset, &after.topic_id)
        };
        before
            .as_ref()
            .map_or(self.from != after.next_source_offset, moved)
            || !self.change.declared.is_empty()
    }

    fn effect(&self) -> String {
        let to = self.change.after.next_source_offset;
        let mut effects = vec![];
        if to < self.from {
            effects.push(format!(
                "{} copied again",
                count((self.from - to) as usize, "offset")
            ));
        }
        for gap in &self.change.declared {
            effects.push(format!("gap {gap}"));
        }
        if self.asked != to {
            effects.push(format!("{} was asked for", self.asked));
        }
        match effects.is_empty() {
            true => "stays".to_owned(),
            false => effects.join("; "),
        }
    }

    fn cells(&self) -> [String; 5] {
        let before = self.change.before.as_ref();
        [
            self.change.partition.to_string(),
            before.map_or("none".to_owned(), |before| before.next_source_offset.to_string()),
            self.change.after.next_source_offset.to_string(),
            format!("{} to {}", self.log_start, self.end),
            self.effect(),
        ]
    }

    fn json(&self) -> Value {
        let before = self.change.before.as_ref();
        json!({
            "topic": self.change.partition.topic.to_string(),
            "partition": self.change.partition.partition,
            "before": before.map(|before| before.next_source_offset),
            "after": self.change.after.next_source_offset,
            "asked": self.asked,
            "source_log_start": self.log_start,
            "source_end": self.end,
            "copied_again": (self.from - self.change.after.next_source_offset).max(0),
            "gaps": self.change.declared,
        })
    }
}

/// Shows what a reset does and, with `--execute`, does it.
///
/// # Errors
/// The flow runs, a partition cannot be moved, or a cluster cannot be asked: nothing is changed then.
pub fn run(config: &Config, flows: &[FlowSpec], arguments: &Reset) -> Outcome<()> {
    let spec = one(flows, arguments.flow.as_deref(), "all that", |flow| {
        arguments.what.fits(flow)
    })?;
    let told = |error: Error| told(spec, error);
    let place = arguments.place(Timestamp::now())?;
    let (source, target) = (
        &config.clusters[&spec.id.source],
        &config.clusters[&spec.id.target],
    );
    let flow = StoppedFlow::find(spec, source, target, CLIENT_ID).map_err(told)?;
    let refused = |members: &[String]| format!("{} runs: {}", spec.id, members.join(", "));
    let members = match arguments.execution.execute {
        true => flow.members().map_err(told)?,
        false => flow
            .target
            .group_members(&spec.id.group(), PATIENCE)
            .map_err(told)?,
    };
    if arguments.execution.execute && !members.is_empty() {
        let advice = "stop its daemons first; what they would do next depends on what is moved";
        return Err(failed(format_args!("{}\n  hint: {advice}", refused(&members))));
    }
    let mut ledgers = match arguments.execution.execute {
        true => flow.fence(0..flow.tasks).map_err(told)?,
        false => Ledgers::new(),
    };
    let slots = match arguments.execution.execute {
        true => flow.read(),
        false => flow.look(),
    };
    let slots = slots.map_err(told)?;
    if slots.iter().all(|slot| !slot.born) {
        return Err(never_ran(spec));
    }
    let moves = moves(&flow, spec, arguments, place, &slots)?;
    let changes: Vec<Change> = moves
        .iter()
        .filter(|it| it.changes())
        .map(|it| it.change.clone())
        .collect();
    if !arguments.execution.execute {
        if !members.is_empty() {
            eprintln!("note: {}; --execute will be refused", refused(&members));
        }
        return show(spec, arguments, &members, &moves);
    }
    let (action, by) = (arguments.action(), login(&config.instance));
    let at_ms = now_ms();
    let deed = Deed {
        action: &action,
        by: &by,
        at_ms,
    };
    let untold = |(task, slot): (u32, &Slot)| (task, flow.untold(task, slot, &changes, at_ms));
    let untold = (0..).zip(&slots).map(untold).collect();
    let (done, outcome) = flow.store(&mut ledgers, &changes, &untold, &deed);
    if let Err(error) = outcome {
        let stored = changes
            .iter()
            .filter(|it| done.contains(&flow.task_of(&it.partition)));
        let names: Vec<_> = stored.map(|it| it.partition.to_string()).collect();
        told(error);
        return Err(failed(match names.is_empty() {
            true => "nothing was moved".to_owned(),
            false => format!("only these were moved: {}", names.join(", ")),
        }));
    }
    show(spec, arguments, &members, &moves)
}

fn show(spec: &FlowSpec, arguments: &Reset, members: &[String], moves: &[Move]) -> Outcome<()> {
    let written = arguments.execution.execute;
    let moved = count(moves.iter().filter(|it| it.changes()).count(), "partition");
    print(&match arguments.output.format {
        OutputFormat::Table => {
            let rows: Vec<_> = moves.iter().map(Move::cells).collect();
            let header = ["PARTITION", "NOW AT", "BECOMES", "SOURCE HAS", "EFFECT"];
            let summary = match written {
                true => format!("{moved} moved"),
                false => format!("{moved} would move; nothing was written, give --execute"),
            };
            let table = table(2, header, &rows);
            format!("{} {}: {summary}\n{table}", spec.id.topology, spec.id)
        }
        OutputFormat::Json => json(&json!({
            "topology": spec.id.topology,
            "flow": spec.id.to_string(),
            "executed": written,
            "running": members,
            "positions": moves.iter().map(Move::json).collect::<Vec<_>>(),
        })),
    })
}

fn never_ran(spec: &FlowSpec) -> ExitCode {
    failed(format_args!(
        "{} has never run, so it has no position\n  hint: start_from in the topology decides where it begins",
        spec.id
    ))
}

/// One for every selected partition, or the reasons why not, which are printed.
fn moves(
    flow: &StoppedFlow<'_>,
    spec: &FlowSpec,
    arguments: &Reset,
    place: Where,
    slots: &[Slot],
) -> Outcome<Vec<Move>> {
    let told = |error: Error| told(spec, error);
    let mut wanted = flow.selected().map_err(told)?;
    arguments.what.narrow(spec, &mut wanted)?;
    let bounds = flow.bounds(&wanted).map_err(told)?;
    let asked = match place {
        Where::Asked(spec) => {
            let asked: Vec<_> = wanted
                .iter()
                .map(|(partition, _)| (partition.clone(), spec))
                .collect();
            flow.source.list_offsets(&asked, true, PATIENCE).map_err(told)?
        }
        _ => BTreeMap::new(),
    };
    let mut moves = vec![];
    let mut complete = true;
    for (partition, bounds) in bounds {
        let stored = slots[flow.task_of(&partition) as usize].progress.get(&partition);
        let decided = bounds.and_then(|bounds| {
            let answer = asked.get(&partition).cloned().transpose()?;
            plan(&partition, stored, &bounds, spec.delivery, place, answer)
        });
        match decided {
            Ok(decided) => moves.push(decided),
            Err(error) => {
                told(Error::new(error.code, format!("{partition}: {}", error.detail)));
                complete = false;
            }
        }
    }
    match complete {
        true => Ok(moves),
        false => Err(failed("nothing was moved")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bounds, stored};
    use super::*;
    use crate::state::gaps::{Extent, Gap};

    fn planned(next: i64, place: Where, answer: Option<i64>) -> Move {
        let partition = TopicPartition::new("orders", 0);
        plan(
            &partition,
            Some(&stored(next)),
            &bounds(),
            Delivery::ExactlyOnce,
            place,
            answer,
        )
        .expect("the source has it")
    }

    #[test]
    fn the_plan_says_what_is_copied_again_and_what_is_left_out() {
        let shown = |it: Move| (it.change.after.next_source_offset, it.effect());
        let at = |it| shown(planned(50, it, Some(10)));
        assert_eq!(
            at(Where::Asked(OffsetSpec::Earliest)),
            (10, "40 offsets copied again".to_owned())
        );
        assert_eq!(
            at(Where::Offset(60)),
            (60, "gap [50, 60) offsets_reset".to_owned())
        );
        assert_eq!(at(Where::ShiftBy(0)), (50, "stays".to_owned()));
        assert_eq!(
            at(Where::ShiftBy(-60)),
            (10, "40 offsets copied again; -10 was asked for".to_owned())
        );
        assert_eq!(
            at(Where::Offset(500)),
            (100, "gap [50, 100) offsets_reset; 500 was asked for".to_owned())
        );
        assert!(!planned(50, Where::ShiftBy(0), None).changes());
    }

    #[test]
    fn to_current_declares_what_the_source_lost() {
        let it = planned(5, Where::ShiftBy(0), None);
        let gap = Gap {
            from: 5,
            to: 10,
            reason: "source_out_of_range".to_owned(),
            extent: Extent::Exact,
        };
        assert_eq!(it.change.declared, [gap]);
        assert!(it.changes());
        assert_eq!(it.change.after.next_source_offset, 10);
    }

    #[test]
    fn times_and_lengths_are_read_as_kafkas_tool_reads_them() {
        let ms = |text| datetime(text).map(|time| time.as_millisecond());
        assert_eq!(ms("1970-01-01T00:00:01.500"), Ok(1_500));
        assert_eq!(ms("1970-01-01T01:00:01.500+01:00"), Ok(1_500));
        assert!(ms("yesterday").is_err());
        let seconds = |text| duration(text).map(|length| length.as_secs());
        assert_eq!(seconds("P1DT1H1M1S"), Ok(90_061));
        assert!(seconds("-PT5S").is_err());
        assert!(seconds("5").is_err());
    }
}
