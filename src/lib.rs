//! causeway copies Kafka data between clusters and proves what it did.
//!
//! Modules in reading order; each names only modules above it.

pub mod api;
pub mod cli;
pub mod config;
pub mod config_sync;
pub mod error;
pub mod flow;
pub mod kafka;
pub mod metrics;
pub mod replication_policy;
pub mod status;
pub mod supervisor;
pub mod telemetry;
pub mod topology;
