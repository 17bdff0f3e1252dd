//! The keys of one cluster, and the librdkafka properties that they stand for.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::keys::{keys, words};
use super::problem::{At, Problems, closest, short};
use super::read::{Reader, Refused, Required, Setting, Shape, Spot, Table};
use super::schema::Kind;
use super::shapes::{File, Servers, Text};
use super::yaml::{Kind as Yaml, Node};
use crate::kafka::ClusterAlias;
use crate::kafka::client::{ClusterConnection, OWNED, Properties, Secret};

keys! {
    /// `clusters.<alias>:`
    struct Cluster {
        /// host:port of some brokers, separated by commas.
        bootstrap_servers: Required<Servers>,
        /// How to prove who we are, and who they are.
        security: Table<Security>,
        /// librdkafka properties for every client of this cluster.
        client: PassThrough,
        /// librdkafka properties for consumers.
        consumer: PassThrough,
        /// librdkafka properties for producers.
        producer: PassThrough,
    }
}

keys! {
    /// `security:`
    struct Security {
        /// How connections are protected.
        protocol: Protocol = "plaintext",
        /// SASL mechanism; required with sasl_plaintext and sasl_ssl.
        mechanism: Option<Mechanism>,
        /// For PLAIN and SCRAM.
        username: Option<Text>,
        /// For PLAIN and SCRAM.
        password: Option<Secret>,
        /// CA certificates (PEM) that sign the brokers' certificates. Default: the system's.
        ca_file: Option<File>,
        /// Our own certificate (PEM), for mutual TLS.
        certificate_file: Option<File>,
        /// The private key (PEM) of certificate_file.
        key_file: Option<File>,
        /// The pass phrase of key_file.
        key_password: Option<Secret>,
        /// Whether a broker's certificate must carry the name we connected to.
        verify_hostname: bool = "true",
        /// For OAUTHBEARER: tokens from an OIDC token endpoint.
        oauth: Table<Oauth>,
        /// For GSSAPI.
        kerberos: Table<Kerberos>,
    }
}

keys! {
    /// `security.oauth:`
    struct Oauth {
        /// URL of the OIDC token endpoint.
        token_endpoint: Required<Text>,
        /// Our public identifier at the authorisation server.
        client_id: Required<Text>,
        /// What only we and the authorisation server know.
        client_secret: Required<Secret>,
        /// Scopes asked for, separated by blanks.
        scope: Option<Text>,
    }
}

keys! {
    /// `security.kerberos:`
    struct Kerberos {
        /// Primary of the brokers' principal.
        service_name: Text = "kafka",
        /// Our principal.
        principal: Required<Text>,
        /// The keytab that holds our principal's key.
        keytab_file: Required<File>,
    }
}

/// `security.protocol:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

words!(Protocol {
    Plaintext = "plaintext", Ssl = "ssl", SaslPlaintext = "sasl_plaintext", SaslSsl = "sasl_ssl"
});

/// `security.mechanism:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
    OauthBearer,
    Gssapi,
}

words!(Mechanism {
    Plain = "PLAIN", ScramSha256 = "SCRAM-SHA-256", ScramSha512 = "SCRAM-SHA-512", OauthBearer = "OAUTHBEARER",
    Gssapi = "GSSAPI"
});

impl Cluster {
    /// How to reach it.
    pub fn connection(self, alias: ClusterAlias, problems: &mut Problems) -> ClusterConnection {
        let mut pass_through = |written: Setting<Vec<Property>>| -> Properties {
            for property in written.iter() {
                check_property(property, problems);
            }
            let properties = written.value.into_iter();
            properties.map(|it| (it.name, Secret::new(it.text))).collect()
        };
        ClusterConnection {
            alias,
            bootstrap_servers: self.bootstrap_servers.value.unwrap_or_default(),
            client: pass_through(self.client),
            consumer: pass_through(self.consumer),
            producer: pass_through(self.producer),
            security: security(&self.security, problems),
        }
    }
}

/// `security:` in librdkafka's words, after checking that its parts belong together.
fn security(security: &Setting<Security>, problems: &mut Problems) -> Properties {
    if security.protocol.spot.is_wrong || security.mechanism.spot.is_wrong {
        return Properties::new();
    }
    security.parts_fit(security.spot.at, problems);
    security.properties()
}

impl Security {
    fn is_tls(&self) -> bool {
        matches!(*self.protocol, Protocol::Ssl | Protocol::SaslSsl)
    }

    /// Reports what is missing, what has no effect, and what this build cannot do.
    fn parts_fit(&self, at: At, problems: &mut Problems) {
        use Mechanism::{Gssapi, OauthBearer, Plain, ScramSha256, ScramSha512};
        let (protocol, mechanism) = (*self.protocol, *self.mechanism);
        let sasl = matches!(protocol, Protocol::SaslPlaintext | Protocol::SaslSsl);
        let scram = matches!(mechanism, Some(Plain | ScramSha256 | ScramSha512));
        let (oauth, kerberos) = (mechanism == Some(OauthBearer), mechanism == Some(Gssapi));
        let password = scram || sasl && mechanism.is_none();
        let tls = self.is_tls();

        let by_protocol = format!("protocol {protocol}");
        let by_mechanism = mechanism.map_or_else(|| by_protocol.clone(), |it| format!("mechanism {it}"));
        let [of_sasl, of_tls] = ["protocol sasl_plaintext or sasl_ssl", "protocol ssl or sasl_ssl"];
        let of_scram = "mechanism PLAIN or SCRAM";
        for (spot, is_needed, has_effect, by, home) in [
            (self.mechanism.spot, sasl, sasl, &by_protocol, of_sasl),
            (self.username.spot, scram, password, &by_mechanism, of_scram),
            (self.password.spot, scram, password, &by_mechanism, of_scram),
            (
                self.oauth.spot,
                oauth,
                oauth,
                &by_mechanism,
                "mechanism OAUTHBEARER",
            ),
            (
                self.kerberos.spot,
                kerberos,
                kerberos,
                &by_mechanism,
                "mechanism GSSAPI",
            ),
            (self.ca_file.spot, false, tls, &by_protocol, of_tls),
            (self.certificate_file.spot, false, tls, &by_protocol, of_tls),
            (self.key_file.spot, false, tls, &by_protocol, of_tls),
            (self.key_password.spot, false, tls, &by_protocol, of_tls),
        ] {
            if is_needed && !spot.is_written {
                problems.add(at, format!("`{}` is missing: {by} needs it", spot.name));
            } else if spot.is_written && !has_effect {
                problems
                    .add(spot.at, format!("`{}` has no effect with {by}", spot.name))
                    .hint = Some(format!("it belongs to {home}; remove it, or change the other"));
            }
        }
        let (certificate, key) = (self.certificate_file.spot, self.key_file.spot);
        let pass_phrase = Spot {
            is_written: self.key_password.spot.is_written && !certificate.is_written,
            ..self.key_password.spot
        };
        for (by, spot) in [(certificate, key), (key, certificate), (pass_phrase, key)] {
            if by.is_written && !spot.is_written {
                problems.add(at, format!("`{}` is missing: {} needs it", spot.name, by.name));
            }
        }
        for (is_used, is_built, name, feature) in [
            (oauth, cfg!(feature = "oidc"), OauthBearer, "oidc"),
            (kerberos, cfg!(feature = "gssapi"), Gssapi, "gssapi"),
        ] {
            if is_used && !is_built {
                let message = format!("this causeway was built without {name}");
                problems.add(self.mechanism.spot.at, message).hint =
                    Some(format!("build it with `--features {feature}`"));
            }
        }
    }

    fn properties(&self) -> Properties {
        let secret = |text: &Option<String>| text.as_ref().map(Secret::new);
        let verify = if *self.verify_hostname { "https" } else { "none" };
        let mut properties = vec![
            ("security.protocol", Some(Secret::new(self.protocol.as_str()))),
            (
                "sasl.mechanism",
                self.mechanism.map(|it| Secret::new(it.as_str())),
            ),
            ("sasl.username", secret(&self.username)),
            ("sasl.password", self.password.value.clone()),
            ("ssl.ca.location", secret(&self.ca_file)),
            ("ssl.certificate.location", secret(&self.certificate_file)),
            ("ssl.key.location", secret(&self.key_file)),
            ("ssl.key.password", self.key_password.value.clone()),
            (
                "ssl.endpoint.identification.algorithm",
                self.is_tls().then(|| Secret::new(verify)),
            ),
        ];
        if let Some(oauth) = self.oauth.written() {
            properties.extend([
                ("sasl.oauthbearer.method", Some(Secret::new("oidc"))),
                (
                    "sasl.oauthbearer.token.endpoint.url",
                    secret(&oauth.token_endpoint),
                ),
                ("sasl.oauthbearer.client.id", secret(&oauth.client_id)),
                (
                    "sasl.oauthbearer.client.secret",
                    oauth.client_secret.value.clone(),
                ),
                ("sasl.oauthbearer.scope", secret(&oauth.scope)),
            ]);
        }
        if let Some(kerberos) = self.kerberos.written() {
            properties.extend([
                (
                    "sasl.kerberos.service.name",
                    Some(Secret::new(&*kerberos.service_name.value)),
                ),
                ("sasl.kerberos.principal", secret(&kerberos.principal)),
                ("sasl.kerberos.keytab", secret(&kerberos.keytab_file)),
            ]);
        }
        let set = properties.into_iter();
        set.filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }
}

/// librdkafka properties.
pub struct PassThrough;

/// One of them.
#[derive(Clone)]
pub struct Property {
    /// Its name in librdkafka.
    name: String,
    /// Where the name stands.
    at: At,
    /// The value; it may be a secret.
    text: String,
    /// Whether the value was written in the file as it is.
    is_literal: bool,
}

impl std::fmt::Debug for Property {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: [secret]", self.name)
    }
}

impl Shape for PassThrough {
    type Value = Vec<Property>;
    const KIND: Kind = Kind::Properties;

    fn accept(reader: &mut Reader<'_>, node: &Node, _: At, _: &str) -> Result<Self::Value, Refused> {
        let mut properties = Vec::new();
        for entry in node.entries()? {
            let what = format!("`{}`", short(&entry.key));
            match reader.text(&entry.value, &what, true) {
                Ok((written, text)) => properties.push(Property {
                    name: entry.key.clone(),
                    at: entry.key_at,
                    is_literal: text == written,
                    text,
                }),
                Err(Refused::Misfit) if !matches!(entry.value.kind, Yaml::Unusable) => {
                    let message = format!("{what} must be a single value");
                    reader.problems.add(entry.key_at, message);
                }
                Err(_) => {}
            }
        }
        Ok(properties)
    }

    fn absent(_: At) -> Option<Self::Value> {
        Some(Vec::new())
    }
}

fn check_property(property: &Property, problems: &mut Problems) {
    let name = short(&property.name);
    let (message, hint) = if let Some((_, reason)) = OWNED.iter().find(|(owned, _)| *owned == property.name) {
        (
            format!("`{name}` may not be set here"),
            Some((*reason).to_owned()),
        )
    } else if property.name == "plugin.library.paths" {
        // librdkafka loads the library as soon as the property is set.
        let reason = "it loads foreign code".to_owned();
        (format!("`{name}` may not be set here"), Some(reason))
    } else if property.name.contains('\0') || property.text.contains('\0') {
        (format!("`{name}` holds a zero byte"), None)
    } else {
        let checked = ClientConfig::new()
            .set(&property.name, &property.text)
            .create_native_config();
        let Err(KafkaError::ClientConfig(kind, description, ..)) = checked else {
            return;
        };
        if kind == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
            let near = closest(&property.name, COMMON_PROPERTIES.split_whitespace());
            let hint = near.map(|near| format!("did you mean `{near}`?"));
            (format!("`{name}` is not a librdkafka property"), hint)
        } else {
            let secrets = ["password", "secret", "token", "pem", "oauth", "jaas"];
            let may_show = property.is_literal && !secrets.iter().any(|it| property.name.contains(it));
            let hint = may_show.then(|| description.lines().next().unwrap_or_default().to_owned());
            (format!("librdkafka refuses the value of `{name}`"), hint)
        }
    };
    problems.add(property.at, message).hint = hint;
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
pub const COMMON_PROPERTIES: &str = "
    batch.num.messages batch.size broker.address.family broker.address.ttl client.dns.lookup client.rack
    connections.max.idle.ms debug enable.metrics.push enable.ssl.certificate.verification
    fetch.error.backoff.ms fetch.max.bytes fetch.message.max.bytes fetch.min.bytes
    fetch.queue.backoff.ms fetch.wait.max.ms linger.ms max.partition.fetch.bytes message.max.bytes
    metadata.max.age.ms queue.buffering.backpressure.threshold receive.message.max.bytes
    reconnect.backoff.max.ms reconnect.backoff.ms request.timeout.ms retry.backoff.max.ms
    retry.backoff.ms socket.connection.setup.timeout.ms socket.keepalive.enable socket.max.fails
    socket.nagle.disable socket.receive.buffer.bytes socket.send.buffer.bytes socket.timeout.ms
    ssl.ca.location ssl.cipher.suites ssl.curves.list ssl.sigalgs.list statistics.interval.ms
    sticky.partitioning.linger.ms topic.metadata.refresh.interval.ms
";
