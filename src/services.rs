//! What the leader of a flow does besides copying: the pure decisions, and the passes that need no flow.

pub mod config_sync;
pub mod group_sync;
