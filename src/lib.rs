//! causeway copies Kafka data between clusters and proves what it did.
//!
//! Modules in reading order, lowest layer first; each names only modules above it.

pub mod error;
#[cfg(test)]
mod seeds;
pub mod status;
pub mod telemetry;
pub mod kafka;
pub mod names;
pub mod mm2;
pub mod offset_map;
pub mod config;
pub mod topology;
pub mod metrics;
pub mod state;
pub mod context;
pub mod copy;
pub mod services;
pub mod operations;
pub mod flow;
pub mod import;
pub mod supervisor;
pub mod api;
pub mod cli;
