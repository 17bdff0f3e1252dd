//! Settings of topics.

use std::collections::BTreeMap;
use std::ptr;
use std::time::Duration;

use rdkafka_sys as sys;
use sys::rd_kafka_admin_op_t as Op;

use super::{Admin, BATCH};
use crate::error::Result;
use crate::kafka::objects::{Owned, c_string, items, outcome, text};

/// One setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// `None` if the broker hides it (sensitive).
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it cannot be set.
    pub read_only: bool,
    /// Whether it is a secret.
    pub sensitive: bool,
}

/// Where the value of a setting comes from (Kafka's `ConfigEntry.ConfigSource`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on this topic.
    DynamicTopic,
    /// Set dynamically on a broker or as the cluster's default.
    DynamicBroker,
    /// From a broker's `server.properties`.
    StaticBroker,
    /// Kafka's built-in default.
    Default,
    /// Anything else.
    Unknown,
}

/// One change of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOp {
    /// Give the setting this value on the topic.
    Set(String, String),
    /// Remove the setting from the topic, so that the broker's default applies again.
    Delete(String),
}

impl Admin {
    /// All settings of each topic, or why they cannot be told.
    pub fn describe_configs(
        &self,
        names: &[&str],
        timeout: Duration,
    ) -> Result<BTreeMap<String, Result<BTreeMap<String, ConfigEntry>>>> {
        let mut described = BTreeMap::new();
        for batch in names.chunks(BATCH) {
            let topics: Vec<_> = batch.iter().map(|name| topic_resource(name)).collect();
            let op = Op::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
            // SAFETY: the call copies the resources. The event holds a DescribeConfigs result; everything is copied
            // out before it ends.
            unsafe {
                let start = sys::rd_kafka_DescribeConfigs;
                let event = self.call_with("describe configs", op, timeout, &topics, start)?;
                let result = sys::rd_kafka_event_DescribeConfigs_result(event.ptr());
                for &topic in items(result, sys::rd_kafka_DescribeConfigs_result_resources) {
                    let (name, outcome) = self.resource_outcome("describe configs of", topic);
                    let entries = outcome.map(|()| {
                        let entries = items(topic, sys::rd_kafka_ConfigResource_configs);
                        entries.iter().map(|&entry| config_entry(entry)).collect()
                    });
                    described.insert(name, entries);
                }
            }
        }
        Ok(described)
    }

    /// Changes settings; those not named stay as they are (KIP-339). A topic's changes go through together
    /// or not at all: Kafka refuses all of them when one is invalid.
    ///
    /// # Errors
    /// The outer error is about the cluster: part of the topics may have been changed then.
    pub fn incremental_alter_configs(
        &self,
        topics: &BTreeMap<String, Vec<ConfigOp>>,
        timeout: Duration,
    ) -> Result<BTreeMap<String, Result<()>>> {
        let all: Vec<_> = topics.iter().filter(|(_, ops)| !ops.is_empty()).collect();
        let mut outcomes = BTreeMap::new();
        for batch in all.chunks(BATCH) {
            let made = batch.iter().map(|(name, ops)| (*name, alterations(name, ops)));
            let natives = self.made("alter configs of", made, &mut outcomes);
            if natives.is_empty() {
                continue;
            }
            let op = Op::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS;
            // SAFETY: the call copies the resources. The event holds an IncrementalAlterConfigs result; everything
            // is copied out before it ends.
            unsafe {
                let start = sys::rd_kafka_IncrementalAlterConfigs;
                let event = self.call_with("alter configs", op, timeout, &natives, start)?;
                let result = sys::rd_kafka_event_IncrementalAlterConfigs_result(event.ptr());
                let topics = items(result, sys::rd_kafka_IncrementalAlterConfigs_result_resources);
                let outcome = |&it| self.resource_outcome("alter configs of", it);
                outcomes.extend(topics.iter().map(outcome));
            }
        }
        Ok(outcomes)
    }

    /// # Safety
    /// `topic` must be valid.
    unsafe fn resource_outcome(
        &self,
        what: &str,
        topic: *const sys::rd_kafka_ConfigResource_t,
    ) -> (String, Result<()>) {
        // SAFETY: demanded of the caller; name and text live as long as the resource.
        unsafe {
            let name = text(sys::rd_kafka_ConfigResource_name(topic));
            let error = sys::rd_kafka_ConfigResource_error(topic);
            let why = text(sys::rd_kafka_ConfigResource_error_string(topic));
            let outcome = self.outcome(what, &name, error, why);
            (name, outcome)
        }
    }
}

fn topic_resource(name: &str) -> Owned<sys::rd_kafka_ConfigResource_t> {
    let name = c_string(name);
    // SAFETY: the name is valid and copied; the new object is destroyed by its guard.
    unsafe {
        let kind = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        let native = sys::rd_kafka_ConfigResource_new(kind, name.as_ptr());
        Owned::some(native, sys::rd_kafka_ConfigResource_destroy)
    }
}

fn alterations(
    name: &str,
    ops: &[ConfigOp],
) -> std::result::Result<Owned<sys::rd_kafka_ConfigResource_t>, String> {
    let resource = topic_resource(name);
    for op in ops {
        let (kind, key, value) = match op {
            ConfigOp::Set(key, value) => (
                sys::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET,
                c_string(key),
                Some(c_string(value)),
            ),
            ConfigOp::Delete(key) => (
                sys::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_DELETE,
                c_string(key),
                None,
            ),
        };
        let value = value.as_ref().map_or(ptr::null(), |v| v.as_ptr());
        // SAFETY: all pointers are valid; the texts are copied. The error, if any, is ours.
        unsafe {
            outcome(sys::rd_kafka_ConfigResource_add_incremental_config(
                resource.ptr(),
                key.as_ptr(),
                kind,
                value,
            ))?;
        }
    }
    Ok(resource)
}

/// # Safety
/// `entry` must be valid.
unsafe fn config_entry(entry: *const sys::rd_kafka_ConfigEntry_t) -> (String, ConfigEntry) {
    use sys::rd_kafka_ConfigSource_t::*;
    // SAFETY: demanded of the caller; the texts live as long as the entry.
    unsafe {
        let value = sys::rd_kafka_ConfigEntry_value(entry);
        let source = match sys::rd_kafka_ConfigEntry_source(entry) {
            RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG => ConfigSource::DynamicTopic,
            RD_KAFKA_CONFIG_SOURCE_DYNAMIC_BROKER_CONFIG
            | RD_KAFKA_CONFIG_SOURCE_DYNAMIC_DEFAULT_BROKER_CONFIG => ConfigSource::DynamicBroker,
            RD_KAFKA_CONFIG_SOURCE_STATIC_BROKER_CONFIG => ConfigSource::StaticBroker,
            RD_KAFKA_CONFIG_SOURCE_DEFAULT_CONFIG => ConfigSource::Default,
            _ => ConfigSource::Unknown,
        };
        let entry_view = ConfigEntry {
            value: (!value.is_null()).then(|| text(value)),
            source,
            read_only: sys::rd_kafka_ConfigEntry_is_read_only(entry) == 1,
            sensitive: sys::rd_kafka_ConfigEntry_is_sensitive(entry) == 1,
        };
        (text(sys::rd_kafka_ConfigEntry_name(entry)), entry_view)
    }
}
