//! Positions of consumer groups, read, written and deleted by a process of its own.
//!
//! librdkafka 2.12 can abort the process in every call that looks for a group's coordinator when a connection
//! drops at the wrong moment (issue 4605). The data plane must not die of that. So these calls run in a child:
//! this program once more, with the hidden command `group-process`. It is started by the first call, started
//! again when it has died, and ends by itself when its stdin does, and so with its parent, however that ends.
//!
//! On its stdin and stdout are lines: a number, a space, JSON. An answer has the number of its request; answers
//! come in the order they are ready, so that a slow cluster holds up nobody else. How to reach a cluster, secrets
//! included, is part of each request and in no argument and no environment variable.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::client::ClusterConnection;
use crate::error::{Result, Side};

#[allow(unsafe_code)]
mod native;
mod process;
mod server;
mod wire;

pub use process::GroupProcess;
pub use server::serve;
pub use wire::{Commit, Deleted, Positions, Read, Written};

use process::ended;
use wire::{ByGroup, ByTopic, Call, Cluster, Request, by_topic, from_wire};

/// Groups of one cluster. Every call blocks, is bounded by its timeout and some seconds, and may be made from
/// several threads at once.
#[derive(Clone, Debug)]
pub struct Groups {
    process: Arc<GroupProcess>,
    cluster: Cluster,
}

impl Groups {
    /// Contacts nobody yet. `side` decides whether errors are `S` or `T` codes: a cluster whose groups are
    /// written or deleted is a target.
    pub fn new(process: Arc<GroupProcess>, cluster: ClusterConnection, client_id: &str, side: Side) -> Self {
        let config = cluster.group_admin(client_id);
        // The map hides secrets, `get` does not.
        let property = |key: &&str| Some(((*key).to_owned(), config.get(key)?.to_owned()));
        Self {
            process,
            cluster: Cluster {
                alias: cluster.alias.as_str().to_owned(),
                side,
                properties: config.config_map().keys().filter_map(property).collect(),
            },
        }
    }

    /// Positions of each group, or why they cannot be told. A partition for which the group has no position is
    /// not there, nor are partitions of topics we may not describe; a group that does not exist has no positions.
    ///
    /// # Errors
    /// The outer error is about the process, or about a cluster that answered for no group.
    pub fn committed(&self, groups: &[String], timeout: Duration) -> Result<Read> {
        let answer: ByGroup<Result<ByTopic<Commit>>> = self.ask(Call::Committed(groups.to_vec()), timeout)?;
        Ok(from_wire(answer))
    }

    /// Writes positions. A group that has members on the cluster is refused with
    /// [`TargetGroupActive`](crate::error::Code::TargetGroupActive); a group that does not exist is created.
    ///
    /// # Errors
    /// The outer error is about the process, or about a cluster that answered for no group; part of the positions
    /// may have been written then. So they may for a group whose error is about the whole of it.
    pub fn commit(&self, positions: &Positions, timeout: Duration) -> Result<Written> {
        let positions = positions.iter().map(|(group, it)| (group.clone(), by_topic(it)));
        let answer: ByGroup<Result<ByTopic<Result<()>>>> =
            self.ask(Call::Commit(positions.collect()), timeout)?;
        Ok(from_wire(answer))
    }

    /// Deletes groups with all their positions. One that has members is refused with
    /// [`TargetGroupActive`](crate::error::Code::TargetGroupActive); one that does not exist counts as deleted.
    ///
    /// # Errors
    /// The outer error is about the process, or about a cluster that answered for no group.
    pub fn delete(&self, groups: &[String], timeout: Duration) -> Result<Deleted> {
        self.ask(Call::Delete(groups.to_vec()), timeout)
    }

    fn ask<T: DeserializeOwned>(&self, call: Call, timeout: Duration) -> Result<T> {
        let request = Request {
            cluster: &self.cluster,
            timeout,
            call,
        };
        let request = serde_json::to_string(&request).expect("texts and numbers");
        let answer = self.process.ask(&request, timeout + PATIENCE)?;
        let answer: Result<T> = serde_json::from_str(&answer)
            .map_err(|error| ended(format!("its answer cannot be read: {error}")))?;
        answer
    }
}

/// What a call may take beyond its timeout before the process counts as hung. The calls themselves end after 2 s.
const PATIENCE: Duration = Duration::from_secs(10);
