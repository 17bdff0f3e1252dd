//! Files → configuration and flows, or every problem in all of them. Nothing is contacted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::*;
use crate::config::read::{Data, Section, Value, anchored};
use crate::config::short;
use crate::config::{At, Config, Problem, Problems, ReadText, Severity, schema, suggest};
use crate::names::replication_policy::MAX_TOPIC_LENGTH;
use proof::{Filters, Names};

/// Reads the config file and the topology files and checks everything that can be known without
/// contacting a cluster: words, values, relations, loops, double writers.
///
/// `env` answers `${VAR}`. The problems are those of all files, sorted by file, line and column.
pub fn load(
    config: &Path,
    topologies: &[PathBuf],
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Config, Vec<Topology>), Vec<Problem>> {
    load_from(config, topologies, env, &crate::config::read::read_text)
}

/// As [`load`], with the texts of the files from elsewhere: what would be said of files not yet written.
pub(crate) fn load_from(
    config: &Path,
    topologies: &[PathBuf],
    env: &dyn Fn(&str) -> Option<String>,
    read: &ReadText,
) -> Result<(Config, Vec<Topology>), Vec<Problem>> {
    let (config, mut problems) = crate::config::load(config, env, read);
    let aliases = config.iter().flat_map(|config| config.clusters.keys());
    let aliases: Arc<BTreeSet<ClusterAlias>> = Arc::new(aliases.cloned().collect());
    let mut loaded = Vec::new();
    let mut names: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut sound = true;
    for path in topologies {
        let mut found = Problems::new(path);
        let topology = crate::config::document(schema::TOPOLOGY, env, read, &mut found).and_then(|section| {
            Builder {
                config: config.as_ref(),
                aliases: aliases.clone(),
                problems: &mut found,
            }
            .topology(section)
        });
        if let Some((name_at, topology)) = &topology
            && !topology.topology.name.is_empty()
            && let Some(first) = names.insert(topology.topology.name.clone(), path.clone())
        {
            found
                .add(
                    *name_at,
                    format!("there are two topologies named `{}`", topology.topology.name),
                )
                .hint = Some(format!("the other is in {}", first.display()));
        }
        let found = found.into_vec();
        sound &= found.iter().all(|it| it.severity == Severity::Note);
        problems.extend(found);
        loaded.extend(topology.map(|(_, topology)| (path, topology)));
    }
    share_heartbeats(
        loaded
            .iter_mut()
            .flat_map(|(_, placed)| &mut placed.topology.flows),
    );
    if sound {
        problems.extend(refusals(&loaded));
    }
    problems.sort();
    problems.dedup();
    match config {
        Some(config) if problems.iter().all(|it| it.severity == Severity::Note) => {
            let topology = |(path, placed): (&PathBuf, Placed)| Topology {
                notes: problems.iter().filter(|it| it.file == *path).cloned().collect(),
                ..placed.topology
            };
            Ok((config, loaded.into_iter().map(topology).collect()))
        }
        _ => Err(problems),
    }
}

/// A topology and where each of its flows stands in the file.
struct Placed {
    topology: Topology,
    flows_at: Vec<At>,
}

/// Of the flows between two clusters one carries the heartbeats for all, the first that writes them to the
/// source or else the first that has them enabled: what a flow copies beyond its filter no other may write, too.
fn share_heartbeats<'a>(flows: impl Iterator<Item = &'a mut FlowSpec>) {
    let mut by_pair: BTreeMap<_, Vec<&mut FlowSpec>> = BTreeMap::new();
    for flow in flows {
        let pair = (flow.id.source.clone(), flow.id.target.clone());
        by_pair.entry(pair).or_default().push(flow);
    }
    for mut flows in by_pair.into_values() {
        let on_source = |flow: &&mut FlowSpec| flow.heartbeats.enabled && flow.heartbeats.on_source;
        let carrier = flows
            .iter()
            .position(on_source)
            .or_else(|| flows.iter().position(|flow| flow.heartbeats.enabled));
        let Some(carrier) = carrier else {
            continue;
        };
        flows.remove(carrier);
        for flow in flows {
            flow.heartbeats.enabled = false;
            flow.heartbeats.topics = HeartbeatTopics::Elsewhere;
        }
    }
}

/// Loops and double writers over all files.
fn refusals(loaded: &[(&PathBuf, Placed)]) -> Vec<Problem> {
    let flows: Vec<(&FlowSpec, &Path, At)> = loaded
        .iter()
        .flat_map(|(path, placed)| {
            let places = placed.topology.flows.iter().zip(&placed.flows_at);
            places.map(|(flow, at)| (flow, path.as_path(), *at))
        })
        .collect();
    let specs: Vec<&FlowSpec> = flows.iter().map(|(flow, ..)| *flow).collect();
    let mut problems = Vec::new();
    for refusal in proof::refusals(&specs) {
        let (_, path, at) = flows[refusal.flow];
        let mut found = Problems::new(path);
        found.add(at, refusal.message).hint = Some(refusal.hint);
        problems.extend(found.into_vec());
    }
    problems
}

struct Builder<'a> {
    /// The clusters that exist; unknown when the config file could not be read.
    config: Option<&'a Config>,
    aliases: Arc<BTreeSet<ClusterAlias>>,
    problems: &'a mut Problems,
}

impl Builder<'_> {
    fn topology(&mut self, mut section: Section) -> Option<(At, Placed)> {
        let mut replication = match section.take("replication").map(|v| v.data) {
            Some(Data::Section(replication)) => replication,
            _ => Section::empty(schema::REPLICATION, At::START),
        };
        let flows = section.take("flows");
        let written_direction = section.get("direction").map(|v| v.at);
        section.complete(self.problems);

        let name = section.text("name").unwrap_or_default().to_owned();
        let name_at = section.place("name");
        let overrides = match flows {
            Some(Value {
                data: Data::Entries(entries),
                ..
            }) => self.overrides(entries),
            _ => BTreeMap::new(),
        };
        let pattern = section.text("pattern")?.to_owned();
        self.members_fit(&section, &pattern, written_direction);
        if replication.at == At::START {
            replication.at = section.place("pattern");
        }

        let expanded = match pattern.as_str() {
            "custom" => {
                if overrides.is_empty() {
                    self.problems
                        .add(section.place("pattern"), "pattern custom needs `flows`")
                        .hint = Some(
                        "list them: `flows: { \"seoul->busan\": { topics: { include: [orders] } } }`".into(),
                    );
                }
                overrides
                    .iter()
                    .map(|(pair, (at, _))| (pair.clone(), *at))
                    .collect()
            }
            pattern => {
                let expanded = self.expand(&section, pattern)?;
                self.overrides_fit(&overrides, &expanded);
                expanded
            }
        };

        let mut topology = Topology {
            name: name.clone(),
            flows: Vec::new(),
            notes: Vec::new(),
        };
        let mut flows_at = Vec::new();
        let mut overrides = overrides;
        for ((source, target), at) in expanded {
            let mut settings = replication.clone();
            let mut flow_at = at;
            if let Some((over_at, over)) = overrides.remove(&(source.clone(), target.clone())) {
                flow_at = over_at;
                settings.merge(over);
                settings.at = over_at;
            }
            settings.complete(self.problems);
            let id = FlowId {
                topology: name.clone(),
                source,
                target,
            };
            let longest = id.offset_map_topic().len();
            if longest > MAX_TOPIC_LENGTH {
                self.problems
                    .add(
                        name_at,
                        format!("the names of causeway's own topics would have {longest} characters"),
                    )
                    .hint = Some(format!(
                    "Kafka accepts {MAX_TOPIC_LENGTH}; shorten the name of the topology or the alias"
                ));
            }
            topology.flows.push(self.flow(id, &settings));
            flows_at.push(flow_at);
        }
        Some((name_at, Placed { topology, flows_at }))
    }

    /// The keys that name clusters must be those of the pattern.
    fn members_fit(&mut self, section: &Section, pattern: &str, direction: Option<At>) {
        let own = schema::PATTERNS
            .iter()
            .find(|(name, _)| *name == pattern)
            .map_or(&[][..], |(_, keys)| keys);
        let all: BTreeSet<&str> = schema::PATTERNS
            .iter()
            .flat_map(|(_, keys)| keys.iter().copied())
            .collect();
        for key in all {
            let at = if key == "direction" {
                direction
            } else {
                section.get(key).map(|v| v.at)
            };
            match at {
                Some(at) if !own.contains(&key) => {
                    self.problems
                        .add(at, format!("`{key}` does not belong to pattern {pattern}"))
                        .hint = Some(match own {
                        [] => "pattern custom takes `flows` only".into(),
                        own => format!("pattern {pattern} takes {}", own.join(", ")),
                    });
                }
                None if own.contains(&key) && key != "direction" => {
                    self.problems.add(
                        section.place("pattern"),
                        format!("`{key}` is missing: pattern {pattern} needs it"),
                    );
                }
                _ => {}
            }
        }
    }

    /// The pairs of clusters of a pattern, each with its place. `None` when members are missing.
    fn expand(&mut self, section: &Section, pattern: &str) -> Option<BTreeMap<Pair, At>> {
        let at = section.place("pattern");
        let mut one = |key: &str| section.get(key).and_then(|value| self.cluster(value));
        let mut pairs = Vec::new();
        match pattern {
            "active-standby" => {
                let (active, standby) = (one("active"), one("standby"));
                pairs.push((active?, standby?));
            }
            "hub-and-spoke" => {
                let hub = one("hub");
                let spokes = self.members(section, "spokes", 1);
                let (hub, direction) = (hub?, section.text("direction")?);
                for spoke in spokes? {
                    if direction != "out" {
                        pairs.push((spoke.clone(), hub.clone()));
                    }
                    if direction != "in" {
                        pairs.push((hub.clone(), spoke));
                    }
                }
            }
            _ => {
                let clusters = self.members(section, "clusters", 2)?;
                for source in &clusters {
                    for target in clusters.iter().filter(|target| *target != source) {
                        pairs.push((source.clone(), target.clone()));
                    }
                }
            }
        }
        for (source, _) in pairs.iter().filter(|(source, target)| source == target) {
            self.problems
                .add(at, format!("`{source}` would be copied to itself"))
                .hint = Some("name two different clusters".into());
        }
        Some(pairs.into_iter().map(|pair| (pair, at)).collect())
    }

    /// A list of different clusters.
    fn members(&mut self, section: &Section, key: &str, at_least: usize) -> Option<Vec<ClusterAlias>> {
        let value = section.get(key)?;
        let Data::List(items) = &value.data else {
            return None;
        };
        if items.len() < at_least {
            let noun = if at_least == 1 { "cluster" } else { "clusters" };
            self.problems
                .add(value.at, format!("`{key}` needs at least {at_least} {noun}"));
        }
        let mut members: Vec<ClusterAlias> = Vec::new();
        for item in items {
            let member = self.cluster(item)?;
            if members.contains(&member) {
                self.problems.add(item.at, format!("`{member}` is named twice"));
            } else {
                members.push(member);
            }
        }
        Some(members)
    }

    fn cluster(&mut self, value: &Value) -> Option<ClusterAlias> {
        match &value.data {
            Data::Text(alias) => self.known(alias, value.at),
            _ => None,
        }
    }

    /// An alias, reported when no cluster has it.
    fn known(&mut self, alias: &str, at: At) -> Option<ClusterAlias> {
        let alias = ClusterAlias::new(alias);
        if let Some(config) = self.config
            && !config.clusters.contains_key(&alias)
        {
            let known: Vec<&str> = config.clusters.keys().map(ClusterAlias::as_str).collect();
            let mut hint = format!("the config file names {}", known.join(", "));
            if let Some(near) = crate::config::closest(alias.as_str(), &known) {
                hint = format!("{hint}; did you mean `{near}`?");
            }
            self.problems
                .add(at, format!("there is no cluster `{}`", short(alias.as_str())))
                .hint = Some(hint);
        }
        Some(alias)
    }

    /// `flows:` by pair of clusters.
    fn overrides(&mut self, entries: Vec<(String, At, Value)>) -> BTreeMap<Pair, (At, Section)> {
        let mut result = BTreeMap::new();
        for (name, at, value) in entries {
            let Data::Section(section) = value.data else {
                continue;
            };
            let Some((source, target)) = name.split_once("->") else {
                self.problems
                    .add(at, format!("`{}` is not the name of a flow", short(&name)))
                    .hint = Some("write `\"source->target\"` with the aliases of two clusters".into());
                continue;
            };
            let (source, target) = (self.known(source.trim(), at), self.known(target.trim(), at));
            if let (Some(source), Some(target)) = (source, target) {
                if source == target {
                    self.problems
                        .add(at, format!("`{source}` would be copied to itself"))
                        .hint = Some("name two different clusters".into());
                } else if result.insert((source, target), (at, section)).is_some() {
                    self.problems.add(at, format!("flow `{name}` is given twice"));
                }
            }
        }
        result
    }

    fn overrides_fit(&mut self, overrides: &BTreeMap<Pair, (At, Section)>, expanded: &BTreeMap<Pair, At>) {
        let names: Vec<String> = expanded
            .keys()
            .map(|(source, target)| format!("{source}->{target}"))
            .collect();
        for ((source, target), (at, _)) in overrides {
            if !expanded.contains_key(&(source.clone(), target.clone())) {
                let name = format!("{source}->{target}");
                self.problems
                    .add(*at, format!("the pattern has no flow `{name}`"))
                    .hint = suggest(&name, names.iter().map(String::as_str));
            }
        }
    }

    fn flow(&mut self, id: FlowId, settings: &Section) -> FlowSpec {
        let empty = Section::empty(schema::REPLICATION, settings.at);
        self.note_idle_settings(settings);
        let throttle = settings.section("throttle");
        let sync = settings.section("config_sync");
        FlowSpec {
            mirror_maker: mirror_maker(settings.section("mirror_maker").unwrap_or(&empty), &id.source),
            id,
            aliases: self.aliases.clone(),
            topics: self.topics(settings),
            on_gap: self.on_gap(settings),
            replication_policy: word(
                settings,
                "replication_policy",
                ReplicationPolicy::from_word,
                ReplicationPolicy::Default,
            ),
            provenance: word(settings, "provenance", Provenance::from_word, Provenance::None),
            delivery: word(settings, "delivery", Delivery::from_word, Delivery::ExactlyOnce),
            start_from: match settings.get("start_from").map(|v| &v.data) {
                Some(Data::Timestamp(time)) => StartFrom::Timestamp(*time),
                Some(Data::Text(word)) if word == "latest" => StartFrom::Latest,
                _ => StartFrom::Earliest,
            },
            tasks: narrow(settings.number("tasks")).unwrap_or(1),
            compression: word(settings, "compression", Compression::from_word, Compression::Lz4),
            commit_interval: settings.duration("commit_interval").unwrap_or_default(),
            throttle: Throttle {
                bytes_per_second: throttle.and_then(|t| t.number("bytes_per_second")),
                records_per_second: throttle.and_then(|t| narrow(t.number("records_per_second"))),
            },
            config_sync: {
                let sync = sync.unwrap_or(&empty);
                ConfigSyncSpec {
                    interval: sync.duration("interval").unwrap_or_default(),
                    mode: word(sync, "mode", SyncMode::from_word, SyncMode::Apply),
                    exclude: patterns(sync, "exclude")
                        .into_iter()
                        .map(|(text, _)| text)
                        .collect(),
                    replication_factor: narrow(sync.number("replication_factor")),
                }
            },
            groups: groups(settings.section("groups").unwrap_or(&empty)),
            offset_sync: {
                let sync = settings.section("offset_sync").unwrap_or(&empty);
                OffsetSyncSpec {
                    interval: sync.duration("interval").unwrap_or_default(),
                    write_groups: sync.boolean("write_groups").unwrap_or_default(),
                    delete_groups: sync.boolean("delete_groups").unwrap_or_default(),
                    metadata: word(sync, "metadata", MetadataSync::from_word, MetadataSync::Exact),
                    checkpoints: sync.boolean("checkpoints").unwrap_or_default(),
                    offset_syncs: sync.boolean("offset_syncs").unwrap_or_default(),
                    map_retention: sync.duration("map_retention").unwrap_or_default(),
                    map_bytes: sync.number("map_bytes").unwrap_or_default(),
                }
            },
            heartbeats: {
                let heartbeats = settings.section("heartbeats").unwrap_or(&empty);
                let enabled = heartbeats.boolean("enabled").unwrap_or_default();
                HeartbeatSpec {
                    enabled,
                    topics: match enabled {
                        true => HeartbeatTopics::Always,
                        false => HeartbeatTopics::ByFilter,
                    },
                    interval: heartbeats.duration("interval").unwrap_or_default(),
                    on_source: heartbeats.boolean("on_source").unwrap_or_default(),
                }
            },
        }
    }

    fn topics(&mut self, settings: &Section) -> Selection {
        let Some(section) = settings.section("topics") else {
            return Selection {
                include: Vec::new(),
                exclude: Vec::new(),
            };
        };
        match section.get("include").map(|v| (&v.data, v.at)) {
            None => {
                self.problems
                    .add(section.at, "no topics are selected: `topics.include` is missing")
                    .hint = Some("`topics: { include: [\".*\"] }` selects all but internal ones".into());
            }
            Some((Data::List(items), at)) if items.is_empty() => {
                self.problems.add(at, "`include` is empty").hint =
                    Some("`include: [\".*\"]` selects all topics but internal ones".into());
            }
            Some(_) => {}
        }
        for item in section.list("include").iter().chain(section.list("exclude")) {
            if let Data::Pattern(text, _) = &item.data
                && let Err(why) = proof::automaton(text)
            {
                self.problems
                    .add(
                        item.at,
                        format!("`{text}` is too complex to compare with other filters: {why}"),
                    )
                    .hint = Some("shorten counted repetitions, or write several patterns".into());
            }
        }
        let selection = Selection {
            include: patterns(section, "include"),
            exclude: patterns(section, "exclude"),
        };
        let filters = Filters::new(&selection, Names::Topics);
        match filters.as_ref().and_then(Filters::never) {
            Some(why) => {
                self.problems
                    .add(
                        section.place("include"),
                        format!("`topics` can select nothing: {why}"),
                    )
                    .hint =
                    Some("a flow that copies nothing is none; correct the patterns, or remove it".into());
            }
            None => {
                let each = filters.iter().flat_map(Filters::never_each);
                let patterns = section.list("include").iter();
                let patterns = patterns.filter_map(|item| match &item.data {
                    Data::Pattern(text, _) => Some((item.at, text)),
                    _ => None,
                });
                for ((at, text), why) in patterns.zip(each) {
                    if let Some(why) = why {
                        self.problems.note(at, format!("`{text}` selects nothing: {why}"));
                    }
                }
            }
        }
        selection
    }

    /// `on_gap:`, a word or with exceptions by topic.
    fn on_gap(&mut self, settings: &Section) -> GapPolicy {
        let Some(section) = settings.section("on_gap") else {
            return GapPolicy {
                default: word(settings, "on_gap", OnGap::from_word, OnGap::Halt),
                others: vec![],
            };
        };
        let default = word(section, "default", OnGap::from_word, OnGap::Halt);
        let other = default.other();
        if section.get(default.as_str()).is_some() {
            self.problems
                .add(
                    section.place(default.as_str()),
                    format!("`{default}` lists exceptions from `default: {default}`"),
                )
                .hint = Some(format!(
                "list under `{other}` the topics that do otherwise, or write `default: {other}`"
            ));
        }
        let others = Selection {
            include: patterns(section, other.as_str()),
            exclude: vec![],
        };
        let filters = Filters::new(&others, Names::Topics);
        let each = filters.iter().flat_map(Filters::never_each);
        for (item, why) in section.list(other.as_str()).iter().zip(each) {
            if let (Data::Pattern(text, _), Some(why)) = (&item.data, why) {
                self.problems
                    .note(item.at, format!("`{text}` is no topic's: {why}"));
            }
        }
        let others = others.include;
        GapPolicy { default, others }
    }

    /// Settings that were written and do nothing because of others.
    fn note_idle_settings(&mut self, settings: &Section) {
        let on = |section: &str, key: &str| {
            let section = settings.section(section)?;
            let at = section.place(key);
            section.boolean(key).map(|on| (on, at))
        };
        let pairs = [
            ("offset_sync", "delete_groups", "write_groups"),
            ("heartbeats", "on_source", "enabled"),
        ];
        for (section, key, without) in pairs {
            if let (Some((true, at)), Some((false, _))) = (on(section, key), on(section, without)) {
                self.problems
                    .note(at, format!("`{key}` does nothing while `{without}` is false"));
            }
        }
        if let Some(section) = settings.section("config_sync")
            && section.text("mode") == Some("report")
            && patterns(section, "exclude").iter().any(|(text, _)| text == ".*")
        {
            self.problems.note(
                section.place("exclude"),
                "`.*` leaves no setting for `mode: report` to compare",
            );
        }
        if let Some(section) = settings.section("groups")
            && let Some(filters) = Filters::new(&groups(section), Names::Groups)
            && let Some(why) = filters.never()
            && section.get("include").is_some()
        {
            let note = self.problems.note(
                section.place("include"),
                format!("`groups` selects nothing, so no positions are translated: {why}"),
            );
            if section.get("exclude").is_none() {
                note.hint = Some(format!(
                    "unless it is written, exclude is {}",
                    UNWANTED_GROUPS.join(", ")
                ));
            }
        }
    }
}

/// MM2's `groups.exclude`.
pub const UNWANTED_GROUPS: [&str; 3] = ["console-consumer-.*", "connect-.*", "__.*"];

/// `mirror_maker:`, where what is not written is as in MM2's dedicated mode.
fn mirror_maker(section: &Section, source: &ClusterAlias) -> MirrorMakerSpec {
    let mut it = MirrorMakerSpec::dedicated(source);
    it.mirror_positions = section.boolean("mirror_positions").unwrap_or_default();
    for (key, place) in [
        ("connector", &mut it.connector),
        ("source_alias", &mut it.source_alias),
        ("connect_group", &mut it.connect_group),
        ("offsets_topic", &mut it.offsets_topic),
        ("configs_topic", &mut it.configs_topic),
        ("status_topic", &mut it.status_topic),
    ] {
        if let Some(text) = section.text(key) {
            text.clone_into(place);
        }
    }
    it
}

/// `groups:`, where each list has a default of its own.
fn groups(section: &Section) -> Selection {
    let or = |key: &str, otherwise: &[&str]| match section.get(key) {
        Some(_) => patterns(section, key),
        None => otherwise.iter().map(|text| pattern(text)).collect(),
    };
    Selection {
        include: or("include", &[".*"]),
        exclude: or("exclude", &UNWANTED_GROUPS),
    }
}

fn pattern(text: &str) -> (String, regex::Regex) {
    let regex = regex::Regex::new(&anchored(text)).expect("a pattern of ours compiles");
    (text.to_owned(), regex)
}

type Pair = (ClusterAlias, ClusterAlias);

/// The value a word stands for. Words that stand for nothing have been reported.
fn word<T>(section: &Section, key: &str, from_word: fn(&str) -> Option<T>, otherwise: T) -> T {
    section.text(key).and_then(from_word).unwrap_or(otherwise)
}

/// The table bounds the number to what fits.
fn narrow<T: TryFrom<u64>>(number: Option<u64>) -> Option<T> {
    number.and_then(|n| n.try_into().ok())
}

fn patterns(section: &Section, key: &str) -> Vec<(String, regex::Regex)> {
    let pattern = |value: &Value| match &value.data {
        Data::Pattern(text, regex) => Some((text.clone(), regex.clone())),
        _ => None,
    };
    section.list(key).iter().filter_map(pattern).collect()
}
