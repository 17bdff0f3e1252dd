//! Which flow a command means, and what went wrong with it.

use super::{ExitCode, Outcome, failed, usage};
use crate::error::Error;
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
