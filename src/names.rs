//! What names mean: of topics on both sides, and which cluster a record comes from.

pub mod replication_policy;
