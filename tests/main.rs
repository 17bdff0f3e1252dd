//! Every test that talks to real Kafka, in one binary so that the clusters are started once per run.

mod harness;
mod harness_works;
mod faults;
mod replication;
mod security;
