//! What is done to a flow by hand: to one that does not run, or to tasks that are taken from whoever runs them.

pub mod stopped;
pub mod takeover;
