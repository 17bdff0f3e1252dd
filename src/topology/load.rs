//! Files → configuration and flows, or every problem in all of them. Nothing is contacted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::*;
use crate::config::pattern::anchored;
use crate::config::read::{Named, Section, Setting, WordOr, Words};
use crate::config::{At, Config, Problem, Problems, ReadText, Severity, short, suggest};
use crate::names::replication_policy::MAX_TOPIC_LENGTH;
use keys::{Direction, FlowPattern, Groups, MirrorMaker, Replication, TopologyFile};
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
        let topology = crate::config::document(env, read, &mut found).and_then(|file| {
            Builder {
                config: config.as_ref(),
                aliases: aliases.clone(),
                problems: &mut found,
            }
            .topology(file)
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
            flow.heartbeat_topics = HeartbeatTopics::Elsewhere;
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
    fn topology(&mut self, file: TopologyFile) -> Option<(At, Placed)> {
        let name = file.name.value.clone().unwrap_or_default();
        let mut overrides = self.overrides(&file.flows);
        let (pattern, pattern_at) = (file.pattern.value?, file.pattern.spot.at);
        self.members_fit(&file, pattern);
        let expanded: BTreeMap<Pair, At> = match pattern {
            FlowPattern::Custom => {
                if overrides.is_empty() {
                    self.problems.add(pattern_at, "pattern custom needs `flows`").hint = Some(
                        "list them: `flows: { \"seoul->busan\": { topics: { include: [orders] } } }`".into(),
                    );
                }
                let pairs = overrides.iter();
                pairs.map(|(pair, (at, _))| (pair.clone(), *at)).collect()
            }
            pattern => {
                let pairs = self.expand(&file, pattern)?;
                let expanded = pairs.into_iter().map(|pair| (pair, pattern_at)).collect();
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
        for ((source, target), at) in expanded {
            let mut flow_at = at;
            let mut settings = match file.replication.written() {
                Some(replication) => replication.clone(),
                None => Replication::absent(pattern_at),
            };
            if let Some((over_at, over)) = overrides.remove(&(source.clone(), target.clone())) {
                flow_at = over_at;
                settings.merge(over);
            }
            let id = FlowId {
                topology: name.clone(),
                source,
                target,
            };
            let longest = id.offset_map_topic().len();
            if longest > MAX_TOPIC_LENGTH {
                self.problems
                    .add(
                        file.name.spot.at,
                        format!("the names of causeway's own topics would have {longest} characters"),
                    )
                    .hint = Some(format!(
                    "Kafka accepts {MAX_TOPIC_LENGTH}; shorten the name of the topology or the alias"
                ));
            }
            topology.flows.push(self.flow(id, settings));
            flows_at.push(flow_at);
        }
        Some((file.name.spot.at, Placed { topology, flows_at }))
    }

    /// The keys that name clusters must be those of the pattern.
    fn members_fit(&mut self, file: &TopologyFile, pattern: FlowPattern) {
        let (needed, taken) = file.members(pattern);
        let own: Vec<&str> = needed.iter().chain(&taken).map(|spot| spot.name).collect();
        for other in FlowPattern::VALUES.iter().filter(|other| **other != pattern) {
            let (members, member) = file.members(*other);
            for spot in members.iter().chain(&member).filter(|spot| spot.is_written) {
                let message = format!("`{}` does not belong to pattern {pattern}", spot.name);
                self.problems.add(spot.at, message).hint = Some(match own[..] {
                    [] => "pattern custom takes `flows` only".into(),
                    _ => format!("pattern {pattern} takes {}", own.join(", ")),
                });
            }
        }
        for spot in needed.iter().filter(|spot| !spot.is_written) {
            let message = format!("`{}` is missing: pattern {pattern} needs it", spot.name);
            self.problems.add(file.pattern.spot.at, message);
        }
    }

    /// The pairs of clusters of a pattern. `None` when members are missing.
    fn expand(&mut self, file: &TopologyFile, pattern: FlowPattern) -> Option<BTreeSet<Pair>> {
        let mut pairs = BTreeSet::new();
        match pattern {
            FlowPattern::ActiveStandby => {
                let (active, standby) = (self.member(&file.active), self.member(&file.standby));
                pairs.insert((active?, standby?));
            }
            FlowPattern::HubAndSpoke => {
                let (hub, spokes) = (self.member(&file.hub), self.members(&file.spokes, 1));
                let (hub, direction) = (hub?, *file.direction);
                for spoke in spokes? {
                    if direction != Direction::Out {
                        pairs.insert((spoke.clone(), hub.clone()));
                    }
                    if direction != Direction::In {
                        pairs.insert((hub.clone(), spoke));
                    }
                }
                if file.direction.spot.is_wrong {
                    return None;
                }
            }
            FlowPattern::ActiveActive | FlowPattern::Custom => {
                let clusters = self.members(&file.clusters, 2)?;
                for source in &clusters {
                    for target in clusters.iter().filter(|target| *target != source) {
                        pairs.insert((source.clone(), target.clone()));
                    }
                }
            }
        }
        for (source, _) in pairs.iter().filter(|(source, target)| source == target) {
            let message = format!("`{source}` would be copied to itself");
            self.problems.add(file.pattern.spot.at, message).hint =
                Some("name two different clusters".into());
        }
        Some(pairs)
    }

    fn member(&mut self, alias: &Setting<Option<ClusterAlias>>) -> Option<ClusterAlias> {
        let found = alias.value.as_ref()?;
        self.known(found, alias.spot.at);
        Some(found.clone())
    }

    /// A list of different clusters.
    fn members(
        &mut self,
        aliases: &Setting<Vec<(At, Option<ClusterAlias>)>>,
        at_least: usize,
    ) -> Option<Vec<ClusterAlias>> {
        let items = aliases.written()?;
        if items.len() < at_least {
            let noun = if at_least == 1 { "cluster" } else { "clusters" };
            let message = format!("`{}` needs at least {at_least} {noun}", aliases.spot.name);
            self.problems.add(aliases.spot.at, message);
        }
        let mut members: Vec<ClusterAlias> = Vec::new();
        for (at, item) in items {
            let member = item.as_ref()?;
            self.known(member, *at);
            if members.contains(member) {
                self.problems.add(*at, format!("`{member}` is named twice"));
            } else {
                members.push(member.clone());
            }
        }
        Some(members)
    }

    /// Reports an alias that no cluster has.
    fn known(&mut self, alias: &ClusterAlias, at: At) {
        if let Some(config) = self.config
            && !config.clusters.contains_key(alias)
        {
            let known: Vec<&str> = config.clusters.keys().map(ClusterAlias::as_str).collect();
            let mut hint = format!("the config file names {}", known.join(", "));
            if let Some(near) = crate::config::closest(alias.as_str(), known.iter().copied()) {
                hint = format!("{hint}; did you mean `{near}`?");
            }
            self.problems
                .add(at, format!("there is no cluster `{}`", short(alias.as_str())))
                .hint = Some(hint);
        }
    }

    /// `flows:` by pair of clusters.
    fn overrides(&mut self, flows: &[Named<Replication>]) -> BTreeMap<Pair, (At, Replication)> {
        let mut result = BTreeMap::new();
        for Named { name, at, value } in flows {
            let (at, Some(settings)) = (*at, value) else {
                continue;
            };
            let Some((source, target)) = name.split_once("->") else {
                self.problems
                    .add(at, format!("`{}` is not the name of a flow", short(name)))
                    .hint = Some("write `\"source->target\"` with the aliases of two clusters".into());
                continue;
            };
            let [source, target] = [source, target].map(|alias| ClusterAlias::new(alias.trim()));
            self.known(&source, at);
            self.known(&target, at);
            if source == target {
                self.problems
                    .add(at, format!("`{source}` would be copied to itself"))
                    .hint = Some("name two different clusters".into());
            } else if result.insert((source, target), (at, settings.clone())).is_some() {
                self.problems.add(at, format!("flow `{name}` is given twice"));
            }
        }
        result
    }

    fn overrides_fit(
        &mut self,
        overrides: &BTreeMap<Pair, (At, Replication)>,
        expanded: &BTreeMap<Pair, At>,
    ) {
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

    fn flow(&mut self, id: FlowId, settings: Replication) -> FlowSpec {
        self.note_idle_settings(&settings);
        FlowSpec {
            mirror_maker: mirror_maker(&settings.mirror_maker, &id.source),
            id,
            aliases: self.aliases.clone(),
            topics: self.topics(&settings),
            on_gap: self.on_gap(&settings),
            replication_policy: settings.replication_policy.value,
            provenance: settings.provenance.value,
            delivery: settings.delivery.value,
            start_from: settings.start_from.value,
            tasks: settings.tasks.value,
            compression: settings.compression.value,
            commit_interval: settings.commit_interval.value,
            throttle: settings.throttle.value.into(),
            config_sync: settings.config_sync.value.into(),
            groups: groups(&settings.groups),
            offset_sync: settings.offset_sync.value.into(),
            heartbeat_topics: match *settings.heartbeats.enabled {
                true => HeartbeatTopics::Always,
                false => HeartbeatTopics::ByFilter,
            },
            heartbeats: settings.heartbeats.value.into(),
        }
    }

    fn topics(&mut self, settings: &Replication) -> Selection {
        let topics = &settings.topics;
        let selection = Selection {
            include: patterns(&topics.include),
            exclude: patterns(&topics.exclude),
        };
        if topics.spot.is_wrong {
            return selection;
        }
        let include = topics.include.spot;
        if !include.is_written {
            self.problems
                .add(
                    topics.spot.at,
                    "no topics are selected: `topics.include` is missing",
                )
                .hint = Some("`topics: { include: [\".*\"] }` selects all but internal ones".into());
        } else if topics.include.written().is_some_and(Vec::is_empty) {
            self.problems.add(include.at, "`include` is empty").hint =
                Some("`include: [\".*\"]` selects all topics but internal ones".into());
        }
        for (at, text) in places(&topics.include).chain(places(&topics.exclude)) {
            if let Err(why) = proof::automaton(text) {
                self.problems
                    .add(
                        at,
                        format!("`{text}` is too complex to compare with other filters: {why}"),
                    )
                    .hint = Some("shorten counted repetitions, or write several patterns".into());
            }
        }
        let filters = Filters::new(&selection, Names::Topics);
        if let Some(why) = filters.as_ref().and_then(Filters::never) {
            self.problems
                .add(include.at, format!("`topics` can select nothing: {why}"))
                .hint = Some("a flow that copies nothing is none; correct the patterns, or remove it".into());
            return selection;
        }
        let each = filters.iter().flat_map(Filters::never_each);
        for ((at, text), why) in places(&topics.include).zip(each) {
            if let Some(why) = why {
                self.problems.note(at, format!("`{text}` selects nothing: {why}"));
            }
        }
        selection
    }

    /// `on_gap:`, a word or with exceptions by topic.
    fn on_gap(&mut self, settings: &Replication) -> GapPolicy {
        let keys = match &settings.on_gap.value {
            WordOr::Keys(keys) => keys,
            WordOr::Word(default) => {
                return GapPolicy {
                    default: *default,
                    others: vec![],
                };
            }
        };
        let default = *keys.default;
        let (own, others) = match default {
            OnGap::Halt => (&keys.halt, &keys.r#continue),
            OnGap::Continue => (&keys.r#continue, &keys.halt),
        };
        if own.spot.is_written {
            let message = format!("`{default}` lists exceptions from `default: {default}`");
            let other = default.other();
            self.problems.add(own.spot.at, message).hint = Some(format!(
                "list under `{other}` the topics that do otherwise, or write `default: {other}`"
            ));
        }
        let selection = Selection {
            include: patterns(others),
            exclude: vec![],
        };
        let filters = Filters::new(&selection, Names::Topics);
        let each = filters.iter().flat_map(Filters::never_each);
        for ((at, text), why) in places(others).zip(each) {
            if let Some(why) = why {
                self.problems.note(at, format!("`{text}` is no topic's: {why}"));
            }
        }
        GapPolicy {
            default,
            others: selection.include,
        }
    }

    /// Settings that were written and do nothing because of others.
    fn note_idle_settings(&mut self, settings: &Replication) {
        let (sync, heartbeats) = (&settings.offset_sync, &settings.heartbeats);
        for (idle, needed) in [
            (&sync.delete_groups, &sync.write_groups),
            (&heartbeats.on_source, &heartbeats.enabled),
        ] {
            if **idle && !**needed {
                let (name, needed) = (idle.spot.name, needed.spot.name);
                let message = format!("`{name}` does nothing while `{needed}` is false");
                self.problems.note(idle.spot.at, message);
            }
        }
        let sync = &settings.config_sync;
        if *sync.mode == SyncMode::Report && sync.exclude.iter().any(|it| it == ".*") {
            self.problems.note(
                sync.exclude.spot.at,
                "`.*` leaves no setting for `mode: report` to compare",
            );
        }
        if let Some(filters) = Filters::new(&groups(&settings.groups), Names::Groups)
            && let Some(why) = filters.never()
            && settings.groups.include.spot.is_written
        {
            let note = self.problems.note(
                settings.groups.include.spot.at,
                format!("`groups` selects nothing, so no positions are translated: {why}"),
            );
            if !settings.groups.exclude.spot.is_written {
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
fn mirror_maker(keys: &MirrorMaker, source: &ClusterAlias) -> MirrorMakerSpec {
    let mut it = MirrorMakerSpec::dedicated(source);
    it.mirror_positions = *keys.mirror_positions;
    for (key, place) in [
        (&keys.connector, &mut it.connector),
        (&keys.source_alias, &mut it.source_alias),
        (&keys.connect_group, &mut it.connect_group),
        (&keys.offsets_topic, &mut it.offsets_topic),
        (&keys.configs_topic, &mut it.configs_topic),
        (&keys.status_topic, &mut it.status_topic),
    ] {
        if let Some(text) = &key.value {
            text.clone_into(place);
        }
    }
    it
}

/// `groups:`, where each list has a default of its own.
fn groups(keys: &Groups) -> Selection {
    let or = |list: &Setting<Patterns>, otherwise: &[&str]| match list.spot.is_written {
        true => patterns(list),
        false => otherwise.iter().map(|text| pattern(text)).collect(),
    };
    Selection {
        include: or(&keys.include, &[".*"]),
        exclude: or(&keys.exclude, &UNWANTED_GROUPS),
    }
}

fn pattern(text: &str) -> (String, regex::Regex) {
    let regex = regex::Regex::new(&anchored(text)).expect("a pattern of ours compiles");
    (text.to_owned(), regex)
}

type Pair = (ClusterAlias, ClusterAlias);

/// Patterns with their places; without a value where one has been reported.
type Patterns = Vec<(At, Option<(String, regex::Regex)>)>;

fn patterns(list: &Patterns) -> Vec<(String, regex::Regex)> {
    list.iter().filter_map(|(_, pattern)| pattern.clone()).collect()
}

/// The texts of patterns with their places.
fn places(list: &Patterns) -> impl Iterator<Item = (At, &str)> {
    let written = list.iter();
    written.filter_map(|(at, pattern)| Some((*at, pattern.as_ref()?.0.as_str())))
}
