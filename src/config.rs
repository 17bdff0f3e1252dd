//! `config/`: how to connect. Text → checked values; every problem at once, nothing contacted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use crate::kafka::ClusterAlias;
use crate::kafka::client::{ClusterConnection, OWNED, Properties, Secret};

mod document;
mod problem;
pub(crate) mod read;
pub(crate) mod schema;
pub(crate) mod value;
pub(crate) mod yaml;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::mistakes;

pub use document::{Document, KeyRow, KeyTable, VALUES, json_schema, key_tables, reference};
pub(crate) use problem::{At, Problems, closest, short, suggest};
pub use problem::{Problem, Severity};
use read::{Data, Property, Reader, Section};

/// A checked configuration: how to reach each cluster, and how this process behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Every cluster by its alias.
    pub clusters: BTreeMap<ClusterAlias, ClusterConnection>,
    /// Where the HTTP interface listens. Default `127.0.0.1:8083`.
    pub listen: SocketAddr,
    /// The name of this daemon in its consumer groups (static membership). Default: the host name.
    pub instance: String,
    /// Bytes that all tasks of this process together may hold, fetched and not yet acknowledged.
    pub memory_budget: u64,
    /// How long a stop may take before tasks are abandoned. Default 10 s.
    pub drain_timeout: Duration,
}

/// The text of a file, or a sentence about why there is none.
pub(crate) type ReadText<'a> = dyn Fn(&Path) -> Result<String, String> + 'a;

/// Reads a config file. The value is complete only when there are no problems; it is returned anyway, so
/// that the topologies can be checked against its clusters. `None` when not even its clusters are known.
///
/// `read` gives a file's text, or what is wrong with it.
pub(crate) fn load(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    read: &ReadText,
) -> (Option<Config>, Vec<Problem>) {
    let mut problems = Problems::new(path);
    let config = document(schema::CONFIG, env, read, &mut problems).and_then(|mut section| {
        section.complete(&mut problems);
        build(&section, env, &mut problems)
    });
    (config, problems.into_vec())
}

/// Reads a file and holds it against a table of keys.
pub(crate) fn document(
    table: &'static [schema::Key],
    env: &dyn Fn(&str) -> Option<String>,
    read: &ReadText,
    problems: &mut Problems,
) -> Option<Section> {
    let text = read(problems.file())
        .map_err(|error| {
            problems.add(At::START, error);
        })
        .ok()?;
    let tree = yaml::parse(&text, problems)?;
    Reader { env, problems }.document(&tree, table)
}

fn build(section: &Section, env: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) -> Option<Config> {
    let Data::Entries(entries) = &section.get("clusters")?.data else {
        return None;
    };
    if entries.is_empty() {
        problems
            .add(section.place("clusters"), "`clusters` names no cluster")
            .hint = Some("every topology needs two".into());
    }
    let clusters = entries
        .iter()
        .map(|(alias, _, value)| {
            let alias = ClusterAlias::new(alias);
            let connection = match &value.data {
                Data::Section(section) => cluster(alias.clone(), section, problems),
                _ => unknown_cluster(alias.clone()),
            };
            (alias, connection)
        })
        .collect();
    let instance = match section.text("instance") {
        Some(instance) => instance.to_owned(),
        None => host_name(env).unwrap_or_else(|| {
            problems.add(At::START, "this machine has no host name").hint =
                Some("set `instance` to a name that no other daemon has".into());
            String::new()
        }),
    };
    let listen = match section
        .section("api")
        .and_then(|api| api.get("listen"))
        .map(|v| &v.data)
    {
        Some(Data::Address(address)) => *address,
        _ => SocketAddr::from(([127, 0, 0, 1], 0)),
    };
    Some(Config {
        clusters,
        listen,
        instance,
        memory_budget: section.number("memory").unwrap_or_default(),
        drain_timeout: section.duration("drain_timeout").unwrap_or_default(),
    })
}

/// A cluster of which only the name is right.
fn unknown_cluster(alias: ClusterAlias) -> ClusterConnection {
    ClusterConnection {
        alias,
        bootstrap_servers: String::new(),
        security: Properties::new(),
        client: Properties::new(),
        consumer: Properties::new(),
        producer: Properties::new(),
    }
}

fn host_name(env: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| env("HOSTNAME"))
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
}

fn cluster(alias: ClusterAlias, section: &Section, problems: &mut Problems) -> ClusterConnection {
    ClusterConnection {
        bootstrap_servers: section.text("bootstrap_servers").unwrap_or_default().to_owned(),
        security: section
            .section("security")
            .map(|s| security(s, problems))
            .unwrap_or_default(),
        client: pass_through(section, "client", problems),
        consumer: pass_through(section, "consumer", problems),
        producer: pass_through(section, "producer", problems),
        ..unknown_cluster(alias)
    }
}

/// `security:` in librdkafka's words, after checking that its parts belong together.
fn security(section: &Section, problems: &mut Problems) -> Properties {
    let reported = |key: &str| matches!(section.get(key).map(|v| &v.data), Some(Data::Invalid));
    if reported("protocol") || reported("mechanism") {
        return Properties::new();
    }
    let protocol = section.text("protocol").unwrap_or("plaintext");
    let (sasl, tls) = (protocol.starts_with("sasl_"), protocol.ends_with("ssl"));
    let mechanism = section.text("mechanism");
    let scram = mechanism.is_some_and(|m| m == "PLAIN" || m.starts_with("SCRAM-"));
    let oauth = mechanism == Some("OAUTHBEARER");
    let kerberos = mechanism == Some("GSSAPI");

    let by_protocol = format!("protocol {protocol}");
    let by_mechanism = mechanism.map_or_else(|| by_protocol.clone(), |name| format!("mechanism {name}"));
    let has = |key: &str| section.get(key).is_some();
    for (key, needed, by) in [
        ("mechanism", sasl, by_protocol.as_str()),
        ("username", scram, &by_mechanism),
        ("password", scram, &by_mechanism),
        ("oauth", oauth, &by_mechanism),
        ("kerberos", kerberos, &by_mechanism),
        ("key_file", has("certificate_file"), "certificate_file"),
        ("certificate_file", has("key_file"), "key_file"),
        (
            "key_file",
            has("key_password") && !has("certificate_file"),
            "key_password",
        ),
    ] {
        if needed && !has(key) {
            problems.add(section.at, format!("`{key}` is missing: {by} needs it"));
        }
    }
    for (keys, wanted, by, home) in [
        (
            &["mechanism"][..],
            sasl,
            &by_protocol,
            "protocol sasl_plaintext or sasl_ssl",
        ),
        (
            &["username", "password"],
            scram || sasl && mechanism.is_none(),
            &by_mechanism,
            "mechanism PLAIN or SCRAM",
        ),
        (&["oauth"], oauth, &by_mechanism, "mechanism OAUTHBEARER"),
        (&["kerberos"], kerberos, &by_mechanism, "mechanism GSSAPI"),
        (
            &["ca_file", "certificate_file", "key_file", "key_password"],
            tls,
            &by_protocol,
            "protocol ssl or sasl_ssl",
        ),
    ] {
        for key in keys.iter().filter(|key| !wanted && has(key)) {
            problems
                .add(section.place(key), format!("`{key}` has no effect with {by}"))
                .hint = Some(format!("it belongs to {home}; remove it, or change the other"));
        }
    }
    for (used, built, name, feature) in [
        (oauth, cfg!(feature = "oidc"), "OAUTHBEARER", "oidc"),
        (kerberos, cfg!(feature = "gssapi"), "GSSAPI", "gssapi"),
    ] {
        if used && !built {
            problems
                .add(
                    section.place("mechanism"),
                    format!("this causeway was built without {name}"),
                )
                .hint = Some(format!("build it with `--features {feature}`"));
        }
    }

    let mut properties = Properties::new();
    let mut set = |property: &str, value: Option<Secret>| {
        properties.extend(value.map(|value| (property.to_owned(), value)));
    };
    let text = |section: &Section, key: &str| section.text(key).map(Secret::new);
    set("security.protocol", text(section, "protocol"));
    for (property, key) in [
        ("sasl.mechanism", "mechanism"),
        ("sasl.username", "username"),
        ("ssl.ca.location", "ca_file"),
        ("ssl.certificate.location", "certificate_file"),
        ("ssl.key.location", "key_file"),
    ] {
        set(property, text(section, key));
    }
    set("sasl.password", section.secret("password").cloned());
    set("ssl.key.password", section.secret("key_password").cloned());
    if let (true, Some(Data::Boolean(verify))) = (tls, section.get("verify_hostname").map(|v| &v.data)) {
        let algorithm = if *verify { "https" } else { "none" };
        set(
            "ssl.endpoint.identification.algorithm",
            Some(Secret::new(algorithm)),
        );
    }
    if let Some(section) = section.section("oauth") {
        set("sasl.oauthbearer.method", Some(Secret::new("oidc")));
        set(
            "sasl.oauthbearer.token.endpoint.url",
            text(section, "token_endpoint"),
        );
        set("sasl.oauthbearer.client.id", text(section, "client_id"));
        set(
            "sasl.oauthbearer.client.secret",
            section.secret("client_secret").cloned(),
        );
        set("sasl.oauthbearer.scope", text(section, "scope"));
    }
    if let Some(section) = section.section("kerberos") {
        set("sasl.kerberos.service.name", text(section, "service_name"));
        set("sasl.kerberos.principal", text(section, "principal"));
        set("sasl.kerberos.keytab", text(section, "keytab_file"));
    }
    properties
}

/// librdkafka properties as written, each checked by librdkafka itself.
fn pass_through(section: &Section, key: &str, problems: &mut Problems) -> Properties {
    let Some(Data::Properties(written)) = section.get(key).map(|v| &v.data) else {
        return Properties::new();
    };
    for property in written {
        check_property(property, problems);
    }
    written
        .iter()
        .map(|p| (p.name.clone(), Secret::new(&p.value.text)))
        .collect()
}

fn check_property(property: &Property, problems: &mut Problems) {
    let name = short(&property.name);
    let owned = OWNED.iter().find(|(owned, _)| *owned == property.name);
    // librdkafka loads the library as soon as the property is set.
    let plugin = (property.name == "plugin.library.paths").then_some(&("", "it loads foreign code"));
    if let Some((_, reason)) = owned.or(plugin) {
        problems
            .add(property.at, format!("`{name}` may not be set here"))
            .hint = Some((*reason).to_owned());
        return;
    }
    if property.name.contains('\0') || property.value.text.contains('\0') {
        problems.add(property.at, format!("`{name}` holds a zero byte"));
        return;
    }
    let checked = ClientConfig::new()
        .set(&property.name, &property.value.text)
        .create_native_config();
    let Err(KafkaError::ClientConfig(kind, description, ..)) = checked else {
        return;
    };
    if kind == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
        problems
            .add(property.at, format!("`{name}` is not a librdkafka property"))
            .hint = closest(&property.name, COMMON_PROPERTIES).map(|near| format!("did you mean `{near}`?"));
    } else {
        let may_show = property.value.literal
            && !["password", "secret", "token", "pem", "oauth", "jaas"]
                .iter()
                .any(|s| property.name.contains(s));
        problems
            .add(property.at, format!("librdkafka refuses the value of `{name}`"))
            .hint = may_show.then(|| description.lines().next().unwrap_or_default().to_owned());
    }
}

/// Whether librdkafka takes a property with this value, and causeway leaves it to the user.
pub(crate) fn takes_property(name: &str, value: &str) -> bool {
    !OWNED.iter().any(|(owned, _)| *owned == name)
        && !value.contains('\0')
        && ClientConfig::new()
            .set(name, value)
            .create_native_config()
            .is_ok()
}

/// Properties that people set, for "did you mean".
const COMMON_PROPERTIES: &[&str] = &[
    "batch.num.messages",
    "batch.size",
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "client.rack",
    "connections.max.idle.ms",
    "debug",
    "enable.metrics.push",
    "enable.ssl.certificate.verification",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "linger.ms",
    "max.partition.fetch.bytes",
    "message.max.bytes",
    "metadata.max.age.ms",
    "queue.buffering.backpressure.threshold",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.cipher.suites",
    "ssl.curves.list",
    "ssl.sigalgs.list",
    "statistics.interval.ms",
    "sticky.partitioning.linger.ms",
    "topic.metadata.refresh.interval.ms",
];
