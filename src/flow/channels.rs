//! What the parts of a flow tell, for the status and for each other.

use std::sync::Arc;

use tokio::sync::watch;

use crate::context::FlowContext;
use crate::copy::assignment::Assignment;
use crate::error::Error;
use crate::services::lag::SourceEnds;
use crate::services::supervision::Parts;
use crate::services::{Told, config_sync};
use crate::status::{GroupSyncStatus, HeartbeatStatus};

/// What the parts of a flow tell, each in a channel of its own that it alone writes.
#[derive(Debug, Default)]
pub(super) struct Channels {
    pub(super) phase: watch::Sender<Phase>,
    pub(super) assignment: Arc<watch::Sender<Assignment>>,
    pub(super) config_sync: Arc<watch::Sender<Told<config_sync::Report>>>,
    pub(super) groups: Arc<watch::Sender<Told<Option<GroupSyncStatus>>>>,
    pub(super) heartbeats: Arc<watch::Sender<Told<Option<HeartbeatStatus>>>>,
    pub(super) ends: Arc<watch::Sender<Told<SourceEnds>>>,
    pub(super) parts: Parts,
}

/// How far a flow has come.
#[derive(Debug, Default)]
pub(super) struct Phase {
    /// There is one once the clients of both clusters could be made.
    pub(super) context: Option<Arc<FlowContext>>,
    /// Why the flow cannot start.
    pub(super) trouble: Option<Error>,
    /// Known once its own topics are there.
    pub(super) tasks_total: Option<u32>,
    pub(super) stopped: bool,
}

/// What is known of the flow itself.
pub(super) struct Stands {
    pub(super) draining: bool,
    /// Nobody looks after the parts any more.
    pub(super) abandoned: bool,
}
