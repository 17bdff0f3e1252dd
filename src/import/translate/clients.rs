//! Settings of Java's clients → librdkafka's properties, and the few that are settings of a flow here.

use super::draft::Draft;
use super::names::named;
use crate::config::takes_property;
use crate::import::input::{Flow, Keys, is_security};
use crate::import::value::is_dynamic;
use crate::import::verdicts::Class;
use crate::kafka::client::{JavaClient, OWNED, from_java};

impl Draft<'_> {
    /// `consumer.*`, `producer.*` and `admin.*` of the flow.
    pub fn clients(&mut self, flow: &Flow) {
        let reads = self.cluster_of(&flow.source).map(|it| it.consumer.clone());
        let mut reads = reads.unwrap_or_default();
        let writes = self.cluster_of(&flow.target).map(|it| it.producer.clone());
        let mut writes = writes.unwrap_or_default();
        for prefix in ["consumer.", "source.consumer."] {
            for (key, id) in &flow.records {
                if let Some(name) = key.strip_prefix(prefix)
                    && name != "poll.timeout.ms"
                    && !name.starts_with("override.")
                {
                    let below = reads.get(name);
                    if let Some(below) = below.filter(|it| flow.records.values().any(|id| id == *it)) {
                        let line = self.sheet.at(*id).line;
                        let text = format!("has no effect: line {line} overrides it");
                        self.sheet.idle(*below, text);
                    }
                    self.sheet.put(&mut reads, name, *id);
                }
            }
        }
        for (key, id) in &flow.records {
            if let Some(name) = key.strip_prefix("producer.override.") {
                self.sheet.put(&mut writes, name, *id);
            }
        }
        self.settings_of_the_flow(&reads, &writes);
        self.tune(&flow.source, "consumer", JavaClient::Consumer, &reads);
        self.tune(&flow.target, "producer", JavaClient::Producer, &writes);
    }

    fn settings_of_the_flow(&mut self, reads: &Keys, writes: &Keys) {
        match self.sheet.word(reads, "auto.offset.reset") {
            Some((id, word)) => match word.as_str() {
                "latest" => {
                    self.set("start_from", "latest");
                    self.sheet.different(id, "→ replication.start_from: latest; it is for a new flow only, positions that are lost later are declared as gaps (on_gap)");
                }
                "earliest" => self.sheet.carried(id, "→ replication.start_from: earliest, the default"),
                _ => self.sheet.gone(id, "a new flow begins at the earliest record, at the latest or at a time (start_from)"),
            },
            None => self.sheet.default("consumer.auto.offset.reset", "earliest, as in causeway; MirrorMaker 2 also resets in silence when records are lost, causeway declares a gap (on_gap)"),
        }
        match self.sheet.word(reads, "isolation.level") {
            Some((id, word)) if word == "read_committed" => {
                self.sheet.carried(id, "aborted records are never copied");
            }
            Some((id, _)) => self.sheet.different(id, "aborted records are never copied"),
            None => self.sheet.default(
                "consumer.isolation.level",
                "read_uncommitted in MirrorMaker 2; causeway never copies records of aborted transactions",
            ),
        }
        match self.sheet.word(writes, "compression.type") {
            Some((id, codec)) if ["none", "gzip", "snappy", "lz4", "zstd"].contains(&codec.as_str()) => {
                self.set("compression", codec);
                self.sheet.carried(id, "→ replication.compression");
            }
            Some((id, _)) => self.sheet.gone(id, "no codec of this name"),
            None => self.sheet.default(
                "producer.compression.type",
                "none in MirrorMaker 2; lz4 in causeway",
            ),
        }
    }

    /// Java client settings → librdkafka properties of the cluster.
    fn tune(&mut self, alias: &str, section: &'static str, client: JavaClient, keys: &Keys) {
        let decided = ["auto.offset.reset", "isolation.level", "compression.type"];
        for (name, id) in keys.iter().filter(|(name, _)| !decided.contains(&name.as_str())) {
            let id = *id;
            if is_security(name) || name == "bootstrap.servers" {
                let first = self.cluster_of(alias).and_then(|it| match it.bootstrap {
                    first if name == "bootstrap.servers" => first,
                    _ => it.security.get(name).copied(),
                });
                match first {
                    Some(first) => self.sheet.same(first, id),
                    None => self.sheet.decide(id, Class::NoEquivalent, "causeway has one set of credentials for each cluster; write it at the cluster and import again"),
                }
                continue;
            }
            let Some(ours) = from_java(client, name) else {
                let owned = OWNED.iter().find(|(owned, _)| owned == name).map(|(_, why)| *why);
                self.sheet.gone(id, owned.unwrap_or_else(|| client_gone(name)));
                continue;
            };
            let mut value = self.sheet.value(id).to_owned();
            // Java's word for the system's choice of a buffer, or for never.
            if value == "-1" && ours != "topic.metadata.refresh.interval.ms" {
                "0".clone_into(&mut value);
            }
            if is_dynamic(&value) {
                let text = format!("its value comes from elsewhere; set {ours} under `{section}` by hand");
                self.sheet.gone(id, text);
                continue;
            }
            // causeway sizes what it receives at 128 MiB and more.
            let too_large =
                ours == "fetch.max.bytes" && value.parse().is_ok_and(|bytes: u64| 128 << 20 < bytes);
            if too_large || !takes_property(ours, &value) {
                let text = format!("librdkafka does not take this value as {ours}");
                self.sheet.gone(id, text);
                continue;
            }
            let tuning = self.tuning.entry((alias.to_owned(), section)).or_default();
            if let Some((other, first)) = tuning.get(ours)
                && *other != value
            {
                let line = self.sheet.at(*first).line;
                let text = format!("line {line} sets another value for the same cluster, which was taken");
                self.sheet.gone(id, text);
                continue;
            }
            tuning.insert(ours, (value, id));
            let named = named(alias, self.names);
            self.sheet
                .carried(id, format!("→ clusters.{named}.{section}.{ours}"));
        }
    }

    pub fn delivery(&mut self, flow: &Flow) {
        let worker = self.worker(&flow.target);
        match self.sheet.word(worker, "exactly.once.source.support") {
            Some((id, word)) if word == "enabled" => {
                self.set("delivery", "exactly_once");
                self.sheet.carried(id, "→ replication.delivery: exactly_once");
            }
            Some((id, _)) => self.sheet.different(id, "causeway's default, exactly_once, is kept; for MirrorMaker 2's guarantee set delivery: at_least_once"),
            None => self.sheet.default(
                "exactly.once.source.support",
                "off in MirrorMaker 2; causeway copies exactly once, which consumers see that read committed records: set delivery: at_least_once for MirrorMaker 2's guarantee",
            ),
        }
    }
}

fn client_gone(name: &str) -> &'static str {
    match name {
        "poll.timeout.ms" => "causeway has no such wait",
        "buffer.memory" => "set memory at the top of the config file",
        "max.poll.records" => {
            "causeway takes what has arrived; memory at the top of the config file bounds it"
        }
        "max.request.size" => "the target topic decides how large a record may be, not the client",
        "max.block.ms" => "causeway waits for the target as long as it takes, and stops reading meanwhile",
        "interceptor.classes"
        | "key.serializer"
        | "value.serializer"
        | "key.deserializer"
        | "value.deserializer"
        | "metric.reporters" => "Java code cannot run in causeway; records are copied as bytes",
        "partitioner.class" => "records keep their partition",
        "default.api.timeout.ms" => "causeway repeats what fails, with back-off",
        _ => "librdkafka has no setting that means the same",
    }
}
