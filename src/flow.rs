//! One replication flow.

pub mod engine;
pub mod offset_map;
pub mod progress;
pub mod start;
pub mod task;
