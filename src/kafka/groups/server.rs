//! The end of the pipe that makes the calls.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use rdkafka::ClientConfig;

use super::native::GroupAdmin;
use super::wire::{Call, Cluster, Request, by_partition, to_json, to_wire};
use crate::error::Result;

/// Answers the requests on stdin until it ends.
///
/// # Errors
/// stdin cannot be read.
pub fn serve() -> io::Result<()> {
    // Never dropped: clients take their time to end, and this process ends at once, with them in it.
    let clients: &'static Clients = Box::leak(Box::default());
    for line in io::stdin().lock().lines() {
        let line = line?;
        let Some((id, request)) = line.split_once(' ') else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let id = id.to_owned();
        let request: Request<Cluster> = serde_json::from_str(request)?;
        thread::spawn(move || {
            let client = clients.get(&request.cluster);
            let answer = match &client {
                Ok(client) => answer(client, request),
                Err(error) => to_json::<()>(Err(error.clone())),
            };
            let mut stdout = io::stdout().lock();
            // Without a parent stdin ends as well.
            let _ = writeln!(stdout, "{id} {answer}").and_then(|()| stdout.flush());
            drop(stdout);
            // After the answer: a client takes its time to end.
            if let Ok(client) = client
                && client.is_misled()
            {
                clients.forget(&client);
            }
        });
    }
    Ok(())
}

/// JSON of the result.
fn answer(client: &GroupAdmin, request: Request<Cluster>) -> String {
    let timeout = request.timeout;
    match request.call {
        Call::Committed(groups) => to_json(client.committed(&groups, timeout).map(to_wire)),
        Call::Commit(positions) => {
            let positions = positions.into_iter().map(|(group, it)| (group, by_partition(it)));
            to_json(client.commit(&positions.collect(), timeout).map(to_wire))
        }
        Call::Delete(groups) => to_json(client.delete(&groups, timeout)),
    }
}

/// One client per cluster and way to reach it.
#[derive(Default)]
struct Clients(Mutex<BTreeMap<Cluster, Arc<GroupAdmin>>>);

impl Clients {
    fn get(&self, cluster: &Cluster) -> Result<Arc<GroupAdmin>> {
        let mut clients = self.0.lock();
        if let Some(client) = clients.get(cluster) {
            return Ok(Arc::clone(client));
        }
        let mut config = ClientConfig::new();
        for (key, value) in &cluster.properties {
            config.set(key, value);
        }
        let client = Arc::new(GroupAdmin::new(&cluster.alias, &config, cluster.side)?);
        clients.insert(cluster.clone(), Arc::clone(&client));
        Ok(client)
    }

    fn forget(&self, client: &Arc<GroupAdmin>) {
        self.0.lock().retain(|_, it| !Arc::ptr_eq(it, client));
    }
}
