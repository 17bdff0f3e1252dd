//! `causeway offsets gaps`: what of a flow can no longer be copied, declared or waiting for a decision, and the
//! decision.

use std::collections::BTreeSet;

use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use super::selection::Selection;
use crate::cli::answer::verdict;
use crate::cli::answer::{Outcome, Output, OutputFormat, failed, json as as_text, print};
use crate::cli::flows::of_each;
use crate::cli::flows::{named, one, told};
use crate::cli::table::{count, table};
use crate::config::Config;
use crate::context::now_ms;
use crate::error::{Code, Error, Result};
use crate::kafka::TopicPartition;
use crate::operations::group_positions::CLIENT_ID;
use crate::operations::stopped::StoppedFlow;
use crate::state::audit::Change;
use crate::state::audit::{Deed, login};
use crate::state::gaps::Gaps as Declared;
use crate::state::resume::{Begin, Bounds, MapStart, StoredProgress, begin};
use crate::state::slot::Slot;
use crate::topology::{Delivery, FlowSpec, OnGap};

/// A daemon may take its task back before we have stored anything. So often a task is tried.
const TRIES: u32 = 5;

/// Of what to show gaps, and what to do about them.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what")))]
pub struct Gaps {
    /// Only this flow, such as 'seoul->busan' (mind the quotes) [default: every flow; of --accept, the only one]
    #[arg(long, value_name = "FLOW")]
    flow: Option<String>,

    #[command(flatten)]
    what: Selection,

    /// Go on at the gaps of these partitions that wait for a decision, and declare them
    #[arg(long, requires = "what")]
    accept: bool,

    /// Show what would change (the default)
    #[arg(long, requires = "accept", conflicts_with = "execute")]
    dry_run: bool,

    /// Change it
    #[arg(long, requires = "accept")]
    execute: bool,

    #[command(flatten)]
    output: Output,
}

/// A partition that stopped because going on would lose or repeat records.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Waiting {
    partition: TopicPartition,
    /// The next source offset that would be copied.
    at: i64,
    why: Error,
    /// `None`: the source's leader can tell more, and the flow asks it first when it runs.
    decision: Option<Decision>,
}

/// What going on does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decision {
    begin: Begin,
    change: Change,
}

impl Waiting {
    /// Decides whether a partition waits for the operator, by the rules by which tasks decide it.
    fn find(
        partition: &TopicPartition,
        stored: &StoredProgress,
        bounds: &Bounds,
        on_gap: OnGap,
        delivery: Delivery,
    ) -> Option<Self> {
        let why = begin(Some(stored), bounds, on_gap).err()?;
        let decision = match begin(Some(stored), bounds, OnGap::Continue) {
            Ok(begin) if !stored.leader_can_tell(bounds) => Some(Decision {
                change: Change {
                    partition: partition.clone(),
                    before: Some(stored.clone()),
                    after: begin.start(Some(stored), bounds, delivery).progress,
                    declared: Vec::from_iter(begin.gap.clone()),
                },
                begin,
            }),
            _ => None,
        };
        Some(Self {
            partition: partition.clone(),
            at: stored.next_source_offset,
            why,
            decision,
        })
    }

    /// What going on does, in words.
    fn effect(&self) -> String {
        let Some(Decision { begin, .. }) = &self.decision else {
            return "not yet: when the flow runs, it asks the source's leader first".to_owned();
        };
        let at = begin.position;
        match begin.map {
            MapStart::NewOrigin => format!("the new topic is copied from {at} on, behind what is there"),
            MapStart::Rewinds if at < self.at => {
                format!("what the source has from {at} on now is copied, behind what is there")
            }
            _ => format!("goes on at {at}"),
        }
    }

    fn cells(&self) -> [String; 5] {
        let gap = self.decision.iter().flat_map(|it| &it.change.declared).next();
        [
            self.partition.to_string(),
            self.at.to_string(),
            self.why.code.to_string(),
            gap.map_or("not known yet".to_owned(), ToString::to_string),
            self.effect(),
        ]
    }

    fn json(&self) -> Value {
        let page = self.why.code.page();
        json!({
            "topic": self.partition.topic.to_string(),
            "partition": self.partition.partition,
            "next_source_offset": self.at,
            "code": page.id,
            "name": page.name,
            "detail": self.why.detail,
            "gap": self.decision.iter().flat_map(|it| &it.change.declared).next(),
            "goes_on_at": self.decision.as_ref().map(|it| it.begin.position),
            "effect": self.effect(),
        })
    }
}

/// What was found of a flow.
#[derive(Debug, Default)]
struct Found {
    waiting: Vec<Waiting>,
    /// Gaps of partitions that have some.
    declared: Vec<(TopicPartition, Declared)>,
    /// Why partitions could not be held against both sides.
    errors: Vec<Error>,
    /// The partitions that were meant, with their topics on the target.
    meant: Vec<(TopicPartition, String)>,
}

impl Found {
    fn text(&self, spec: &FlowSpec) -> String {
        let mut text = format!(
            "{} {}: {} waiting for a decision, {} with declared gaps\n",
            spec.id.topology,
            spec.id,
            count(self.waiting.len(), "partition"),
            count(self.declared.len(), "partition"),
        );
        if !self.waiting.is_empty() {
            text += &waiting_table(&self.waiting);
        }
        let rows: Vec<_> = self
            .declared
            .iter()
            .flat_map(|(partition, gaps)| gaps.lines().into_iter().map(|line| [partition.to_string(), line]))
            .collect();
        if !rows.is_empty() {
            text += &table(2, ["PARTITION", "DECLARED GAP"], &rows);
        }
        text
    }

    fn json(&self, spec: &FlowSpec) -> Value {
        let declared = self.declared.iter().map(|(partition, gaps)| {
            json!({
                "topic": partition.topic.to_string(),
                "partition": partition.partition,
                "older": gaps.older(),
                "gaps": gaps.newest(),
            })
        });
        json!({
            "topology": spec.id.topology,
            "flow": spec.id.to_string(),
            "waiting": self.waiting.iter().map(Waiting::json).collect::<Vec<_>>(),
            "declared": declared.collect::<Vec<_>>(),
        })
    }
}

fn waiting_table(waiting: &[Waiting]) -> String {
    let header = ["PARTITION", "STANDS AT", "WAITS BECAUSE OF", "GAP", "GOING ON"];
    table(2, header, &waiting.iter().map(Waiting::cells).collect::<Vec<_>>())
}

/// Shows gaps and, with `--accept --execute`, goes on at those that wait.
///
/// # Errors
/// A cluster cannot be asked, or something could not be accepted; the rest is printed all the same.
pub fn run(config: &Config, flows: &[FlowSpec], arguments: &Gaps) -> Outcome<()> {
    match arguments.accept {
        true => accept(config, flows, arguments),
        false => list(config, flows, arguments),
    }
}

fn list(config: &Config, flows: &[FlowSpec], arguments: &Gaps) -> Outcome<()> {
    let mut flows = named(flows, arguments.flow.as_deref())?;
    // Of several flows those that copy what is named are meant.
    if 1 < flows.len() {
        flows.retain(|flow| arguments.what.fits(flow));
    }
    let looks = of_each(&flows, |spec, _| look(&find(config, spec)?, &arguments.what));
    let (mut complete, mut text, mut values) = (true, String::new(), vec![]);
    for (spec, look) in flows.iter().zip(looks) {
        let found = look.map_err(|error| told(spec, error)).and_then(|found| found);
        let Ok(found) = found else {
            complete = false;
            continue;
        };
        for error in &found.errors {
            told(spec, error.clone());
            complete = false;
        }
        text += &found.text(spec);
        values.push(found.json(spec));
    }
    print(&match arguments.output.format {
        OutputFormat::Table => text,
        OutputFormat::Json => as_text(&Value::Array(values)),
    })?;
    verdict(complete)
}

fn find<'a>(config: &'a Config, spec: &'a FlowSpec) -> Result<StoppedFlow<'a>> {
    let (source, target) = (
        &config.clusters[&spec.id.source],
        &config.clusters[&spec.id.target],
    );
    StoppedFlow::find(spec, source, target, CLIENT_ID)
}

fn look(flow: &StoppedFlow<'_>, what: &Selection) -> Result<Outcome<Found>> {
    let mut meant = flow.selected()?;
    if let Err(exit) = what.narrow(flow.spec, &mut meant) {
        return Ok(Err(exit));
    }
    let slots = flow.look()?;
    let mut found = Found {
        meant,
        ..Found::default()
    };
    for (task, slot) in (0..).zip(&slots) {
        let (waiting, errors) = examine(flow, task, slot, &found.meant)?;
        found.waiting.extend(waiting);
        found.errors.extend(errors);
        // Also of what is not copied any more.
        let declared = slot
            .progress
            .iter()
            .filter(|(partition, progress)| what.selects(partition) && 0 < progress.gaps.total().count);
        found
            .declared
            .extend(declared.map(|(partition, progress)| (partition.clone(), progress.gaps.clone())));
    }
    found.waiting.sort_by(|a, b| a.partition.cmp(&b.partition));
    found.declared.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Ok(found))
}

/// Holds what is stored of a task against both sides: what waits, and what could not be told.
fn examine(
    flow: &StoppedFlow<'_>,
    task: u32,
    slot: &Slot,
    copied: &[(TopicPartition, String)],
) -> Result<(Vec<Waiting>, Vec<Error>)> {
    let ours =
        |partition: &TopicPartition| flow.task_of(partition) == task && slot.progress.contains_key(partition);
    let wanted: Vec<_> = copied.iter().filter(|(tp, _)| ours(tp)).cloned().collect();
    let (mut waiting, mut errors) = (vec![], vec![]);
    if wanted.is_empty() {
        return Ok((waiting, errors));
    }
    let FlowSpec { on_gap, delivery, .. } = &flow.spec;
    for (partition, bounds) in flow.bounds(&wanted)? {
        match bounds {
            Ok(bounds) => waiting.extend(Waiting::find(
                &partition,
                &slot.progress[&partition],
                &bounds,
                on_gap.of(&partition.topic),
                *delivery,
            )),
            Err(error) => errors.push(Error::new(error.code, format!("{partition}: {}", error.detail))),
        }
    }
    Ok((waiting, errors))
}

fn accept(config: &Config, flows: &[FlowSpec], arguments: &Gaps) -> Outcome<()> {
    let fits = |flow: &FlowSpec| arguments.what.fits(flow);
    let spec = one(flows, arguments.flow.as_deref(), "all that", fits)?;
    let told = |error: Error| told(spec, error);
    let flow = find(config, spec).map_err(told)?;
    let found = look(&flow, &arguments.what).map_err(told)??;
    let (mut complete, mut errors, mut meant) = (true, found.errors, found.meant);
    let (mut accepted, undecided): (Vec<_>, Vec<_>) =
        found.waiting.into_iter().partition(|it| it.decision.is_some());
    if arguments.execute {
        let by = login(&config.instance);
        let shown = std::mem::take(&mut accepted);
        meant.retain(|(partition, _)| shown.iter().any(|it| it.partition == *partition));
        let tasks: BTreeSet<_> = meant.iter().map(|(tp, _)| flow.task_of(tp)).collect();
        for task in tasks {
            match accept_in(&flow, task, &meant, &by) {
                Ok((changed, more)) => {
                    accepted.extend(changed);
                    errors.extend(more);
                }
                Err(error) => errors.push(error),
            }
        }
    }
    for error in errors {
        told(error);
        complete = false;
    }
    for it in &undecided {
        failed(format_args!("{} is left as it is, {}", it.partition, it.effect()));
        complete = false;
    }
    let number = count(accepted.len(), "partition");
    let summary = match arguments.execute {
        true => format!("{number} accepted"),
        false => format!("{number} would go on; nothing was written, give --execute"),
    };
    print(&match arguments.output.format {
        OutputFormat::Table => {
            let rows = match accepted.is_empty() {
                true => String::new(),
                false => waiting_table(&accepted),
            };
            format!("{} {}: {summary}\n{rows}", spec.id.topology, spec.id)
        }
        OutputFormat::Json => as_text(&json!({
            "topology": spec.id.topology,
            "flow": spec.id.to_string(),
            "executed": arguments.execute,
            "accepted": accepted.iter().map(Waiting::json).collect::<Vec<_>>(),
        })),
    })?;
    verdict(complete)
}

/// Goes on at what waits in one task, which is ours for a moment: a daemon that runs it is fenced, and finds what we
/// have stored when it takes the task again. If it does so before we have stored anything, our transaction is refused,
/// and both begin anew. Returns what was accepted, and what could not be told.
fn accept_in(
    flow: &StoppedFlow<'_>,
    task: u32,
    wanted: &[(TopicPartition, String)],
    by: &str,
) -> Result<(Vec<Waiting>, Vec<Error>)> {
    let attempt = || {
        let mut ledgers = flow.fence([task])?;
        let slot = flow.slot(task)?;
        let (mut waiting, errors) = examine(flow, task, &slot, wanted)?;
        waiting.retain(|it| it.decision.is_some());
        let changes: Vec<Change> = waiting
            .iter()
            .filter_map(|it| Some(it.decision.as_ref()?.change.clone()))
            .collect();
        let at_ms = now_ms();
        let deed = Deed {
            action: "offsets gaps --accept",
            by,
            at_ms,
        };
        let untold = [(task, flow.untold(task, &slot, &changes, at_ms))].into();
        flow.store(&mut ledgers, &changes, &untold, &deed)
            .1
            .map(|()| (waiting, errors))
    };
    let mut outcome = attempt();
    for _ in 1..TRIES {
        match &outcome {
            Err(error) if error.code == Code::TargetFenced => outcome = attempt(),
            _ => break,
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bounds, stored};
    use super::*;
    use crate::state::gaps::Extent;
    use crate::state::gaps::Gap;
    use crate::state::resume::{LeaderEpoch, Truncation};

    fn found(stored: &StoredProgress) -> Option<Waiting> {
        let partition = TopicPartition::new("orders", 0);
        Waiting::find(&partition, stored, &bounds(), OnGap::Halt, Delivery::ExactlyOnce)
    }

    #[test]
    fn what_waits_is_shown_with_its_gap_and_with_what_going_on_does() {
        assert_eq!(found(&stored(50)), None, "it has lost nothing");
        let shown = |it: &StoredProgress| {
            let waiting = found(it).expect("it waits");
            let [_, at, why, gap, effect] = waiting.cells();
            [at, why, gap, effect]
        };
        assert_eq!(
            shown(&stored(5)),
            [
                "5",
                "S301 source_out_of_range",
                "[5, 10) source_out_of_range",
                "goes on at 10"
            ]
        );
        let diverged = StoredProgress {
            truncated: Some(Truncation { same_until: Some(30) }),
            ..stored(50)
        };
        assert_eq!(
            shown(&diverged),
            [
                "50",
                "S302 source_truncated",
                "[30, 50) source_diverged",
                "what the source has from 30 on now is copied, behind what is there"
            ]
        );
        let anew = StoredProgress {
            topic_id: "old".into(),
            ..stored(50)
        };
        assert_eq!(
            shown(&anew),
            [
                "50",
                "S303 source_recreated",
                "at least [50, 50) source_recreated",
                "the new topic is copied from 10 on, behind what is there"
            ]
        );
        let ahead = StoredProgress {
            next_target_offset: Some(41),
            ..stored(50)
        };
        assert_eq!(
            shown(&ahead),
            [
                "50",
                "T304 target_lost_records",
                "at most [10, 50) target_lost_records",
                "goes on at 50"
            ]
        );
    }

    #[test]
    fn what_is_accepted_no_longer_waits() {
        let waiting = found(&stored(5)).expect("it waits");
        let Decision { change, .. } = waiting.decision.expect("nothing else is to be asked");
        let gap = Gap {
            from: 5,
            to: 10,
            reason: "source_out_of_range".to_owned(),
            extent: Extent::Exact,
        };
        assert_eq!(change.declared, [gap]);
        assert_eq!(change.after.gaps.newest(), change.declared);
        assert_eq!(found(&change.after), None);
    }

    /// Where its log ceases to be the one that was copied only the leader knows: accepted now, the new records before
    /// its end would be left out.
    #[test]
    fn a_shorter_log_is_not_accepted_before_its_leader_was_asked() {
        let longer = StoredProgress {
            leader_epoch: Some(LeaderEpoch {
                epoch: 1,
                offset: 120,
            }),
            ..stored(120)
        };
        let waiting = found(&longer).expect("it waits");
        assert_eq!(waiting.decision, None);
        assert!(waiting.effect().contains("asks the source's leader first"));
    }
}
