//! No record comes back to a cluster it has been on, and no topic has two writers: decided before start,
//! over all flows of all files together, from names and filters alone.
//!
//! A name is followed as `prefix + t`, where `t` is any topic name that Kafka allows and the prefix is what
//! default-policy flows have put before it. Filters become deterministic automata; a set of filters lets
//! some name pass exactly when the product of their automata accepts one, and the shortest is the witness.
//!
//! **Loops.** The first return of a record to a cluster is a cycle of flows that visits no other cluster
//! twice, so those are searched, shortest first, from every cluster with any name. A cycle is harmless when
//! - no name passes all its filters, or
//! - its first and its last flow prefix names: the last one sees its target in the name (MM2's `isCycle`), or
//! - all its flows keep the name and write the origin: then a record that goes round was produced on the
//!   cycle, or came in under a name that a flow of the cycle also writes, which is a double writer.
//!
//! MM2's heartbeats, by known aliases, get a prefix from both policies, so they cannot loop. A flow may copy some
//! beyond its filter; only flows between the same clusters could write the same ones, and of those only one
//! copies any (`load`).
//!
//! **Double writers.** Two flows into one cluster are refused when some name can come out of both.
//!
//! Every doubt counts against the topology: names that `isCycle` would stop on the way are not subtracted,
//! and a search that grows too large counts as found.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

use super::{FlowSpec, Provenance, Selection};
use crate::config::pattern::anchored;
use crate::kafka::ClusterAlias;
use crate::names::replication_policy::{HEARTBEATS_TOPIC, MAX_TOPIC_LENGTH, ReplicationPolicy, metric_name};

#[cfg(test)]
mod tests;

/// Why the flows together are refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Index of the flow to show it at.
    pub flow: usize,
    pub message: String,
    pub hint: String,
}

/// Largest automaton of one pattern, in bytes.
const MAX_AUTOMATON: usize = 1 << 20;
/// Most states of one product.
const MAX_STATES: usize = 20_000;
/// Most paths followed in search of loops.
const MAX_PATHS: usize = 5_000;

/// What Kafka allows in a topic name, nicest witnesses first.
const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-_.";

type Dfa = dense::DFA<Vec<u32>>;

/// What a selection selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Of the source's topics.
    Topics,
    /// Of the source's groups, which may be called anything.
    Groups,
}

/// The automata of one selection, to ask whether it can select anything.
pub struct Filters {
    include: Vec<Dfa>,
    exclude: Vec<Dfa>,
    /// What is never copied, whatever the patterns say.
    internal: Option<Dfa>,
    alphabet: Vec<u8>,
}

impl Filters {
    /// `None`: nothing is included, or a pattern has no automaton; both are said elsewhere.
    pub fn new(selection: &Selection, of: Names) -> Option<Self> {
        let automata = |patterns: &[(String, regex::Regex)]| -> Option<Vec<Dfa>> {
            patterns.iter().map(|(text, _)| automaton(text).ok()).collect()
        };
        let (include, exclude) = (automata(&selection.include)?, automata(&selection.exclude)?);
        if include.is_empty() {
            return None;
        }
        let (internal, alphabet) = match of {
            Names::Topics => (
                Some(automaton(INTERNAL).expect("a small constant pattern")),
                ALPHABET.to_vec(),
            ),
            Names::Groups => (None, (0..=u8::MAX).collect()),
        };
        Some(Self {
            include,
            exclude,
            internal,
            alphabet,
        })
    }

    /// Why the selection selects nothing; `None` if it may select something.
    pub fn never(&self) -> Option<&'static str> {
        self.never_any(&self.include)
    }

    /// Why each pattern of `include` selects nothing; `None` where it may select something.
    pub fn never_each(&self) -> impl Iterator<Item = Option<&'static str>> {
        self.include
            .iter()
            .map(|pattern| self.never_any(std::slice::from_ref(pattern)))
    }

    fn never_any(&self, include: &[Dfa]) -> Option<&'static str> {
        let impossible = |none: Vec<&Dfa>| {
            let demand = Demand {
                prefix: String::new(),
                any: include.iter().collect(),
                none,
            };
            shortest_of(&[demand], MAX_TOPIC_LENGTH, &self.alphabet) == Name::Impossible
        };
        let internal = self.internal.as_ref();
        if !impossible(self.exclude.iter().chain(internal).collect()) {
            None
        } else if impossible(vec![]) {
            Some("no name that Kafka allows matches")
        } else if impossible(internal.into_iter().collect()) {
            Some("only internal topics match, which are never copied")
        } else {
            Some("`exclude` keeps out all that matches")
        }
    }
}

/// The name that a pattern stands for, if it is plainly one.
fn literal(pattern: &str) -> Option<String> {
    let plain = pattern
        .replace("[.]", "\\.")
        .replace("\\.", "/")
        .replace("\\-", "-");
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/');
    plain.chars().all(allowed).then(|| plain.replace('/', "."))
}

/// replication_policy::is_internal_topic
const INTERNAL: &str = r"(__|\.).*|.*[.-]internal";

/// The automaton of a pattern that must match a whole topic name. The error is a reason.
pub fn automaton(pattern: &str) -> Result<Dfa, String> {
    let build = |unicode: bool| {
        dense::Builder::new()
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Anchored)
                    .match_kind(MatchKind::All)
                    .unicode_word_boundary(true)
                    .dfa_size_limit(Some(MAX_AUTOMATON))
                    .determinize_size_limit(Some(2 * MAX_AUTOMATON)),
            )
            .syntax(syntax::Config::new().unicode(unicode).utf8(unicode))
            .build(&anchored(pattern))
            .map_err(Box::new)
    };
    // Topic names are ASCII, where both readings of a pattern agree; the first one is far smaller, but
    // does not know `\p{Greek}`.
    build(false)
        .or_else(|error| {
            if error.is_size_limit_exceeded() {
                Err(error)
            } else {
                build(true)
            }
        })
        .map_err(|error| error.to_string())
}

/// Every loop and every pair of writers of one topic. Each flow is named in one loop at most.
pub fn refusals(flows: &[&FlowSpec]) -> Vec<Refusal> {
    let proof = Proof::new(flows);
    let mut refusals = proof.double_writers();
    refusals.extend(collisions(flows));
    let (loops, complete) = proof.loops();
    refusals.extend(loops);
    // Flows with double writers can make the search for loops explode; they are refused already.
    if refusals.is_empty() && !complete {
        refusals.push(Refusal {
            flow: 0,
            message: "these flows have too many paths to prove that none is a loop".into(),
            hint: "use replication_policy: default, or topics that fewer flows have in common".into(),
        });
    }
    refusals
}

/// Topics that were asked for by name and that Kafka would take for one on the target, so that the second could not
/// be created.
fn collisions(flows: &[&FlowSpec]) -> Vec<Refusal> {
    let mut refusals = vec![];
    let mut taken: BTreeMap<(&ClusterAlias, String), (&FlowSpec, String)> = BTreeMap::new();
    for (index, flow) in flows.iter().enumerate() {
        let names = flow.topics.include.iter().filter_map(|(text, _)| literal(text));
        for name in names.filter(|name| flow.topics.matches(name)) {
            let remote = flow.naming().format_remote_topic(&name);
            let (first, theirs) = taken
                .entry((&flow.id.target, metric_name(&remote)))
                .or_insert_with(|| (flow, remote.clone()));
            if *theirs == remote {
                continue;
            }
            let writers = match first.id == flow.id {
                true => flow.id.to_string(),
                false => format!("{} and {}", first.id, flow.id),
            };
            refusals.push(Refusal {
                flow: index,
                message: format!(
                    "{writers} would write topics `{theirs}` and `{remote}` on {}, which Kafka takes for one: `.` and `_` are the same to it",
                    flow.id.target
                ),
                hint: match first.id.source == flow.id.source {
                    true => "exclude one of them".into(),
                    false => "use replication_policy: default, which puts the source before the name, or exclude one of them".into(),
                },
            });
        }
    }
    refusals
}

/// Flows with the automata of their filters.
struct Proof<'a> {
    flows: &'a [&'a FlowSpec],
    automata: BTreeMap<&'a str, Dfa>,
    internal: Dfa,
    heartbeats: Dfa,
    everything: Dfa,
}

/// What must hold of `prefix + t`: one of `any` accepts it and none of `none`.
struct Demand<'a> {
    prefix: String,
    any: Vec<&'a Dfa>,
    none: Vec<&'a Dfa>,
}

/// The answer of a search for a name.
#[derive(Debug, PartialEq, Eq)]
enum Name {
    Exists(String),
    Impossible,
    /// The search was given up.
    Unknown,
}

impl<'a> Proof<'a> {
    fn new(flows: &'a [&'a FlowSpec]) -> Self {
        let own = |pattern: &str| automaton(pattern).expect("a small constant pattern");
        let patterns = flows
            .iter()
            .flat_map(|f| f.topics.include.iter().chain(&f.topics.exclude));
        // replication_policy::Naming::is_heartbeats_topic. Aliases have no characters that mean something here.
        let aliases: BTreeSet<&ClusterAlias> = flows.iter().flat_map(|f| f.aliases.iter()).collect();
        let aliases: Vec<&str> = aliases.into_iter().map(ClusterAlias::as_str).collect();
        let heartbeats = match aliases[..] {
            [] => HEARTBEATS_TOPIC.to_owned(),
            _ => format!(r"(({})\.)*{HEARTBEATS_TOPIC}", aliases.join("|")),
        };
        let texts: BTreeSet<&str> = patterns.map(|(text, _)| text.as_str()).collect();
        Self {
            flows,
            automata: texts
                .into_iter()
                .filter_map(|text| Some((text, automaton(text).ok()?)))
                .collect(),
            internal: own(INTERNAL),
            heartbeats: own(&heartbeats),
            everything: own(".*"),
        }
    }

    /// What a flow asks of a name it copies. A pattern without automaton counts as matching anything in
    /// `include`, nothing in `exclude`.
    fn passes(&self, flow: &'a FlowSpec, prefix: &str) -> Demand<'_> {
        let include = flow.topics.include.iter();
        let exclude = flow.topics.exclude.iter();
        let mut none: Vec<&Dfa> = exclude
            .filter_map(|(text, _)| self.automata.get(text.as_str()))
            .collect();
        none.push(&self.internal);
        Demand {
            prefix: prefix.to_owned(),
            any: include
                .map(|(text, _)| self.automata.get(text.as_str()).unwrap_or(&self.everything))
                .collect(),
            none,
        }
    }

    /// That a name is, or is not, one of MM2's heartbeats. A prefix of a known alias changes nothing about it.
    fn heartbeats(&self, yes: bool) -> Demand<'_> {
        let (any, none) = match yes {
            true => (vec![&self.heartbeats], vec![]),
            false => (vec![&self.everything], vec![&self.heartbeats]),
        };
        Demand {
            prefix: String::new(),
            any,
            none,
        }
    }

    fn double_writers(&self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for (index, flow) in self.flows.iter().enumerate() {
            let clash = self.flows[..index]
                .iter()
                .filter(|other| other.id.target == flow.id.target)
                .find_map(|other| match self.common_target(other, flow) {
                    Name::Impossible => None,
                    Name::Exists(name) => Some((other, format!("would both write topic `{name}` on"))),
                    Name::Unknown => Some((other, "cannot be shown to write different topics on".into())),
                });
            if let Some((other, what)) = clash {
                let apart = "give the flows topics that do not overlap";
                refusals.push(Refusal {
                    flow: index,
                    message: format!("{} {what} {}", self.names(&[other, flow]).join(" and "), flow.id.target),
                    hint: match other.id.source == flow.id.source {
                        true => apart.into(),
                        false => format!("use replication_policy: default, which puts the source before the name, or {apart}"),
                    },
                });
            }
        }
        refusals
    }

    /// A name on the target that comes out of both flows.
    fn common_target(&self, a: &'a FlowSpec, b: &'a FlowSpec) -> Name {
        let mut unknown = false;
        for (prefix_a, heartbeats_a) in outputs(a) {
            for (prefix_b, heartbeats_b) in outputs(b) {
                // The name is `prefix + t`; what a flow itself does not put before it, it must have read.
                let (prefix, read_by_a, read_by_b) = match (prefix_a.as_str(), prefix_b.as_str()) {
                    (a, b) if a == b => (a, "", ""),
                    ("", b) => (b, b, ""),
                    (a, "") => (a, "", a),
                    // Different aliases end at the first dot.
                    _ => continue,
                };
                let mut demands = vec![self.passes(a, read_by_a), self.passes(b, read_by_b)];
                demands.extend(
                    [heartbeats_a, heartbeats_b]
                        .into_iter()
                        .flatten()
                        .map(|yes| self.heartbeats(yes)),
                );
                match shortest(&demands, MAX_TOPIC_LENGTH - prefix.len().min(MAX_TOPIC_LENGTH)) {
                    Name::Exists(name) => return Name::Exists(format!("{prefix}{name}")),
                    Name::Unknown => unknown = true,
                    Name::Impossible => {}
                }
            }
        }
        if unknown { Name::Unknown } else { Name::Impossible }
    }

    /// Loops, and whether the search was complete.
    fn loops(&self) -> (Vec<Refusal>, bool) {
        let reach = self.reachable();
        let identity = |flow: usize| self.flows[flow].replication_policy == ReplicationPolicy::Identity;
        let entered_by_name: BTreeSet<&ClusterAlias> = (0..self.flows.len())
            .filter(|f| identity(*f))
            .map(|f| &self.flows[f].id.target)
            .collect();
        let mut refusals = Vec::new();
        let mut in_a_loop: BTreeSet<usize> = BTreeSet::new();
        let mut paths: VecDeque<Vec<usize>> = (0..self.flows.len())
            // Begun with a prefix, only a last flow without one can close the loop.
            .filter(|f| identity(*f) || entered_by_name.contains(&self.flows[*f].id.source))
            .map(|f| vec![f])
            .collect();
        let mut followed = 0;
        while let Some(path) = paths.pop_front() {
            let (start, end) = (
                &self.flows[path[0]].id.source,
                &self.flows[path[path.len() - 1]].id.target,
            );
            let returns = start == end;
            if path.iter().any(|f| in_a_loop.contains(f)) || !(returns || reach.contains(&(end, start))) {
                continue;
            }
            if returns && self.harmless(&path) {
                continue;
            }
            followed += 1;
            if followed > MAX_PATHS {
                return (refusals, false);
            }
            let (name, prefix) = self.name_along(&path);
            if name == Name::Impossible {
                continue;
            }
            if returns {
                refusals.push(self.refuse_loop(&path, name, &prefix));
                in_a_loop.extend(&path);
                continue;
            }
            for (next, flow) in self.flows.iter().enumerate() {
                let visited = path
                    .iter()
                    .skip(1)
                    .any(|f| self.flows[*f].id.source == flow.id.target);
                if flow.id.source == *end && !visited {
                    paths.push_back(path.iter().copied().chain([next]).collect());
                }
            }
        }
        (refusals, true)
    }

    /// Pairs of clusters between which there is a way.
    fn reachable(&self) -> BTreeSet<(&ClusterAlias, &ClusterAlias)> {
        let mut reach: BTreeSet<_> = self.flows.iter().map(|f| (&f.id.source, &f.id.target)).collect();
        loop {
            let longer: Vec<_> = reach
                .iter()
                .flat_map(|(a, b)| {
                    self.flows
                        .iter()
                        .filter(|f| f.id.source == **b)
                        .map(|f| (*a, &f.id.target))
                })
                .filter(|pair| !reach.contains(pair))
                .collect();
            if longer.is_empty() {
                return reach;
            }
            reach.extend(longer);
        }
    }

    /// Whether a cycle stops every record, whatever its topic.
    fn harmless(&self, cycle: &[usize]) -> bool {
        let flow = |f: &usize| self.flows[*f];
        let prefixes = |f: &usize| flow(f).replication_policy == ReplicationPolicy::Default;
        let by_name = cycle.first().is_some_and(prefixes) && cycle.last().is_some_and(prefixes);
        let by_origin = cycle
            .iter()
            .all(|f| !prefixes(f) && flow(f).provenance == Provenance::Header);
        by_name || by_origin
    }

    /// A topic of the first cluster whose records go the whole path, and the prefix they end with.
    fn name_along(&self, path: &[usize]) -> (Name, String) {
        let mut prefix = String::new();
        let mut demands = vec![self.heartbeats(false)];
        for flow in path.iter().map(|f| self.flows[*f]) {
            demands.push(self.passes(flow, &prefix));
            if flow.replication_policy == ReplicationPolicy::Default {
                prefix = format!("{}.{prefix}", flow.id.source);
            }
        }
        let room = MAX_TOPIC_LENGTH - prefix.len().min(MAX_TOPIC_LENGTH);
        (shortest(&demands, room), prefix)
    }

    fn refuse_loop(&self, cycle: &[usize], name: Name, prefix: &str) -> Refusal {
        let flows: Vec<&FlowSpec> = cycle.iter().map(|f| self.flows[*f]).collect();
        let start = &flows[0].id.source;
        let way: String = flows.iter().map(|f| format!("{} -> ", f.id.source)).collect();
        let what = match (&name, prefix) {
            (Name::Exists(name), "") => {
                format!("topic `{name}` keeps its name all the way round, so its records would come back")
            }
            (Name::Exists(name), _) => {
                format!("records of topic `{name}` would come back as `{prefix}{name}`")
            }
            _ => "its filters are too complex to show that no record would come back".to_owned(),
        };
        let topologies: BTreeSet<&str> = flows.iter().map(|f| f.id.topology.as_str()).collect();
        let involved = match topologies.len() {
            1 => String::new(),
            _ => format!(" (flows {})", self.names(&flows).join(", ")),
        };
        let header = if prefix.is_empty() {
            "provenance: header, "
        } else {
            ""
        };
        Refusal {
            flow: cycle.iter().copied().max().unwrap_or_default(),
            message: format!("loop {way}{start}: {what}{involved}"),
            hint: format!(
                "use replication_policy: default on every flow of the loop, {header}or topics that do not overlap"
            ),
        }
    }

    /// Flows by name, with their topology when there are several.
    fn names(&self, flows: &[&FlowSpec]) -> Vec<String> {
        let one = flows.iter().all(|f| f.id.topology == flows[0].id.topology);
        let name = |f: &&FlowSpec| match one {
            true => f.id.to_string(),
            false => format!("{} {}", f.id.topology, f.id),
        };
        flows.iter().map(name).collect()
    }
}

/// The prefixes a flow puts before names, each with the names it does so for: all, or those that are (`true`)
/// or are not (`false`) MM2's heartbeats.
fn outputs(flow: &FlowSpec) -> Vec<(String, Option<bool>)> {
    let prefix = format!("{}.", flow.id.source);
    match flow.replication_policy {
        ReplicationPolicy::Default => vec![(prefix, None)],
        ReplicationPolicy::Identity => vec![(String::new(), Some(false)), (prefix, Some(true))],
    }
}

/// The shortest `t`, of 1 to `longest` characters, that meets all demands.
fn shortest(demands: &[Demand], longest: usize) -> Name {
    shortest_of(demands, longest, ALPHABET)
}

/// The same, of these characters.
fn shortest_of(demands: &[Demand], longest: usize, alphabet: &[u8]) -> Name {
    let automata: Vec<&Dfa> = demands
        .iter()
        .flat_map(|d| d.any.iter().chain(&d.none).copied())
        .collect();
    let starts = demands
        .iter()
        .flat_map(|d| d.any.iter().chain(&d.none).map(|dfa| after(dfa, &d.prefix)));
    let start: Vec<StateID> = starts.collect();
    let holds = |states: &[StateID], one: &dyn Fn(&Dfa, StateID) -> bool, with_none: bool| {
        let mut pairs = automata.iter().zip(states).map(|(dfa, state)| one(dfa, *state));
        demands.iter().all(|demand| {
            let any = pairs
                .by_ref()
                .take(demand.any.len())
                .fold(false, |all, is| all | is);
            let none = pairs
                .by_ref()
                .take(demand.none.len())
                .fold(false, |all, is| all | is);
            any && !(with_none && none)
        })
    };
    let accepts = |dfa: &Dfa, state: StateID| dfa.is_match_state(dfa.next_eoi_state(state));
    let alive = |dfa: &Dfa, state: StateID| !dfa.is_dead_state(state);

    // Characters that no automaton tells apart need one try.
    let mut classes = HashSet::new();
    let alphabet: Vec<u8> = alphabet
        .iter()
        .copied()
        .filter(|c| {
            classes.insert(
                automata
                    .iter()
                    .map(|dfa| dfa.byte_classes().get(*c))
                    .collect::<Vec<u8>>(),
            )
        })
        .collect();

    let mut seen: HashSet<Vec<StateID>> = HashSet::new();
    let mut queue = VecDeque::from([(start, String::new())]);
    while let Some((states, name)) = queue.pop_front() {
        if name.len() == longest {
            continue;
        }
        for c in &alphabet {
            let next: Vec<StateID> = automata
                .iter()
                .zip(&states)
                .map(|(dfa, s)| dfa.next_state(*s, *c))
                .collect();
            if !holds(&next, &alive, false) || seen.contains(&next) {
                continue;
            }
            let name = format!("{name}{}", char::from(*c));
            if holds(&next, &accepts, true) {
                return Name::Exists(name);
            }
            if seen.len() == MAX_STATES {
                return Name::Unknown;
            }
            seen.insert(next.clone());
            queue.push_back((next, name));
        }
    }
    Name::Impossible
}

/// The state of an automaton that has read `prefix`.
fn after(dfa: &Dfa, prefix: &str) -> StateID {
    let start = dfa
        .start_state(&start::Config::new().anchored(Anchored::Yes))
        .expect("an anchored automaton has an anchored start");
    prefix
        .bytes()
        .fold(start, |state, byte| dfa.next_state(state, byte))
}
