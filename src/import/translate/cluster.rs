//! One entry of `clusters:`.

use super::draft::Draft;
use super::leftovers;
use super::names::Named;
use crate::config::short;
use crate::config::value::servers;
use crate::import::input::Cluster;
use crate::import::security;
use crate::import::value::is_dynamic;
use crate::import::verdicts::{Form, Holds};
use crate::import::write::Map;

impl Draft<'_> {
    /// The entry, unless nobody says where the cluster is.
    pub fn cluster(&mut self, named: &Named) -> Option<Map> {
        let Named {
            cluster,
            name,
            prefix,
        } = named;
        let Some(id) = cluster.bootstrap else {
            self.without_addresses(cluster);
            return None;
        };
        let value = self.sheet.value(id);
        if let Err(why) = servers(value)
            && !is_dynamic(value)
        {
            let hint = self.sheet.oddity(id).unwrap_or(why);
            let at = self.sheet.at(id);
            let text = "the addresses must be host:port, separated by commas";
            self.sheet.problems.add(at, text).hint = Some(hint);
        }
        let variable = format!("{prefix}_BOOTSTRAP_SERVERS");
        let mut entry = Map::default();
        entry.push(
            "bootstrap_servers",
            self.sheet.text(id, &variable, Holds::Servers),
        );
        self.sheet
            .carried(id, format!("→ clusters.{name}.bootstrap_servers"));
        let security = security::security(cluster, prefix, self.sheet);
        if !security.is_empty() {
            entry.push("security", security);
        }
        for section in ["consumer", "producer"] {
            if let Some(tuning) = self.tuning.remove(&(cluster.alias.clone(), section)) {
                let mut properties = Map::default();
                for (name, (value, _)) in tuning {
                    properties.push(name, value);
                }
                entry.push(section, properties);
            }
        }
        leftovers::of_cluster(cluster, self.sheet);
        Some(entry)
    }

    /// A dedicated MM2 names its clusters itself, so what is missing has been said.
    fn without_addresses(&mut self, cluster: &Cluster) {
        let hint = match self.form() {
            Form::Dedicated => return,
            Form::Strimzi => "write its `bootstrapServers`",
            Form::Connectors => {
                "write `source.cluster.bootstrap.servers` and `target.cluster.bootstrap.servers`"
            }
        };
        let mut flows = self.input.flows.iter();
        if let Some(flow) = flows.find(|it| [&it.source, &it.target].contains(&&cluster.alias)) {
            let text = format!("the addresses of cluster `{}` are missing", short(&cluster.alias));
            self.sheet.problems.add(flow.at, text).hint = Some(hint.into());
        }
    }
}
