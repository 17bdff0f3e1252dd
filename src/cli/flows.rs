//! Which flow a command means, and what went wrong with it.

use std::sync::Arc;
use std::thread;

use super::answer::{ExitCode, Outcome, failed, usage};
use crate::error::{Code, Error, Result};
use crate::kafka::groups::GroupProcess;
use crate::topology::FlowSpec;

/// Says what went wrong with a flow.
pub fn told(flow: &FlowSpec, error: Error) -> ExitCode {
    failed(format_args!(
        "{} {}: {error}\n  hint: {}",
        flow.id.topology,
        flow.id,
        error.code.page().advice
    ))
}

/// The flows of this name; all without one.
pub fn named<'a>(flows: &'a [FlowSpec], name: Option<&str>) -> Outcome<Vec<&'a FlowSpec>> {
    let fits: Vec<_> = flows
        .iter()
        .filter(|flow| name.is_none_or(|name| flow.id.to_string() == name))
        .collect();
    match (name, fits.is_empty()) {
        (Some(name), true) => Err(usage(format_args!(
            "no flow {name}; there is {}",
            names(flows.iter())
        ))),
        _ => Ok(fits),
    }
}

/// The one flow that is meant: of several of this name, the only one that `selects` what is asked for.
pub fn one<'a>(
    flows: &'a [FlowSpec],
    name: Option<&str>,
    what: &str,
    selects: impl Fn(&FlowSpec) -> bool,
) -> Outcome<&'a FlowSpec> {
    let all = named(flows, name)?;
    if let [only] = all[..] {
        return Ok(only);
    }
    let fits: Vec<_> = all.iter().copied().filter(|flow| selects(flow)).collect();
    match fits[..] {
        [only] => Ok(only),
        [] => Err(usage(format_args!(
            "no flow selects {what}: give --flow, one of {}",
            names(all.into_iter())
        ))),
        _ => Err(usage(format_args!(
            "several flows select {what}: give --flow, or one --topology: {}",
            names(fits.into_iter())
        ))),
    }
}

/// `korea-dr seoul->busan, korea-dr busan->seoul`
fn names<'a>(flows: impl Iterator<Item = &'a FlowSpec>) -> String {
    let names: Vec<_> = flows
        .map(|flow| format!("{} {}", flow.id.topology, flow.id))
        .collect();
    names.join(", ")
}

/// The one flow that is meant by these groups.
pub fn of_groups<'a>(flows: &'a [FlowSpec], name: Option<&str>, groups: &[String]) -> Outcome<&'a FlowSpec> {
    let selects = |flow: &FlowSpec| groups.iter().all(|group| flow.groups.matches(group));
    let noun = if groups.len() == 1 { "group" } else { "groups" };
    one(flows, name, &format!("{noun} {}", groups.join(", ")), selects)
}

/// Asks about several flows at once: a cluster that does not answer costs its timeout only once.
pub fn of_each<T: Send>(
    flows: &[&FlowSpec],
    ask: impl Fn(&FlowSpec, &Arc<GroupProcess>) -> Result<T> + Sync,
) -> Vec<Result<T>> {
    let process = Arc::new(GroupProcess::new());
    thread::scope(|scope| {
        let asked: Vec<_> = flows
            .iter()
            .map(|flow| scope.spawn(|| ask(flow, &process)))
            .collect();
        let panicked = |_| Err(Error::new(Code::Panicked, "causeway offsets"));
        asked
            .into_iter()
            .map(|asked| asked.join().unwrap_or_else(panicked))
            .collect()
    })
}
