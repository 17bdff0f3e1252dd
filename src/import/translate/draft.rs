//! What becomes of the flows, one after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use super::names::Named;
use crate::config::value::show_duration;
use crate::import::input::{Cluster, Id, Input, Keys, Sheet};
use crate::import::verdicts::Form;
use crate::import::write::{Settings, Value};

/// librdkafka properties of one cluster: name, value, and the key they were.
type Tuning = BTreeMap<&'static str, (String, Id)>;

pub const NO_KEYS: &Keys = &Keys::new();

/// Why a setting of something that does not run is gone.
pub const SWITCHED_OFF: &str = "has no effect: it is switched off";

pub struct Draft<'a> {
    pub sheet: &'a mut Sheet,
    pub input: &'a Input,
    pub names: &'a [Named<'a>],
    /// Of all flows so far, by alias and section.
    pub tuning: BTreeMap<(String, &'static str), Tuning>,
    /// Of the flow that is being written.
    pub settings: Settings,
}

impl<'a> Draft<'a> {
    pub fn new(input: &'a Input, names: &'a [Named<'a>], sheet: &'a mut Sheet) -> Self {
        Self {
            sheet,
            input,
            names,
            tuning: BTreeMap::new(),
            settings: Settings::new(),
        }
    }

    pub fn form(&self) -> Form {
        self.input.form
    }

    pub fn cluster_of(&self, alias: &str) -> Option<&'a Cluster> {
        self.input.clusters.iter().find(|it| it.alias == alias)
    }

    /// Settings of the Connect worker that writes to a cluster.
    pub fn worker(&self, alias: &str) -> &'a Keys {
        self.cluster_of(alias).map_or(NO_KEYS, |it| &it.worker)
    }

    /// A key of `replication:`, dotted where it is nested.
    pub fn set(&mut self, path: &'static str, value: impl Into<Value>) {
        self.settings.insert(path, value.into());
    }

    /// A list, under its name of today or the one it once had.
    pub fn list(&mut self, keys: &Keys, name: &str, once: &str) -> Option<(Id, Vec<String>)> {
        self.sheet
            .list(keys, name)
            .or_else(|| self.sheet.list(keys, once))
    }

    /// Seconds given in one or several places → one interval.
    pub fn interval(&mut self, given: Vec<(Id, i64)>, path: &'static str, why: &str) {
        let positive = given.iter().map(|(_, seconds)| *seconds).filter(|it| 0 < *it);
        let Some(least) = positive.min() else {
            for (id, _) in given {
                self.sheet.gone(id, "an interval must be positive");
            }
            return;
        };
        let seconds = least.clamp(1, 3600);
        let text = show_duration(Duration::from_secs(seconds.unsigned_abs()));
        for (id, given) in given {
            let place = format!("→ replication.{path}");
            match given == seconds {
                true => self.sheet.carried(id, place),
                false => self
                    .sheet
                    .different(id, format!("{place}: {text}; {why}, at most 1h")),
            }
        }
        self.set(path, text);
    }
}
