//! Every test that talks to real Kafka, in one binary so that the clusters are started once per run.

mod admin;
mod commands;
mod config_sync;
mod config_sync_plan;
mod convergence;
mod faults;
mod gaps;
mod groups;
mod harness;
mod harness_works;
mod import;
mod isolation;
mod liveness;
mod mm2_cases;
mod mm2_records;
mod offsets;
mod own_topics;
mod patterns;
mod positions;
mod replication;
mod resets;
mod rights;
mod security;
mod takeover;
mod tidy;
mod translation;
