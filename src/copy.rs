//! The data plane: one task, from the source's records to the target's.

pub mod assignment;
pub mod engine;
pub mod health;
pub mod in_flight;
mod seat;
mod session;
pub mod span;
pub mod task;
pub mod thread;
