//! What is asked about a flow, or done to it by hand: to one that does not run, or to tasks that are taken from
//! whoever runs them.

pub mod group_positions;
pub mod stopped;
pub mod takeover;
