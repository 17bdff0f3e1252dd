//! How MM2 proves who it is → `security:` of a cluster. Secrets become variables.

use std::collections::BTreeMap;

use super::input::{Cluster, Id, Keys, Sheet};
use super::value::{Reference, is_dynamic, literal, reference};
use super::verdicts::{Class, Holds};
use super::write::Map;
use crate::config::short;

/// Everything the cluster says about security; each of its keys gets a verdict.
///
/// `prefix` begins the names of its variables.
pub fn security(cluster: &Cluster, prefix: &str, sheet: &mut Sheet) -> Map {
    let mut builder = Builder {
        prefix,
        sheet,
        lines: Map::default(),
    };
    if cluster.strimzi.is_empty() {
        builder.java(&cluster.security);
    } else {
        builder.strimzi(&cluster.strimzi);
        let tls = cluster.strimzi.keys().any(|key| key.starts_with("tls"));
        builder.hostname(&cluster.security, tls);
        for (key, id) in &cluster.security {
            if !builder.sheet.is_marked(*id) {
                builder.other(key, *id);
            }
        }
    }
    builder.lines
}

struct Builder<'a> {
    prefix: &'a str,
    sheet: &'a mut Sheet,
    lines: Map,
}

const MECHANISMS: &[&str] = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"];
const OIDC: &str = "needs a causeway built with `--features oidc`";
const KERBEROS: &str = "needs a causeway built with `--features gssapi`";

impl Builder<'_> {
    fn line(&mut self, key: &str, text: impl Into<String>) {
        self.lines.put(key, text.into());
    }

    fn name(&self, end: &str) -> String {
        format!("{}_{end}", self.prefix)
    }

    /// A variable that stands for something the input does not hold as we need it.
    fn placeholder(&mut self, key: &str, end: &str, what: impl Into<String>, holds: Holds) -> String {
        let name = self.name(end);
        self.sheet.variable(&name, what.into(), holds);
        self.line(key, format!("${{{name}}}"));
        name
    }

    fn java(&mut self, keys: &Keys) {
        if keys.is_empty() {
            return;
        }
        let protocol = self.protocol(keys);
        let (sasl, tls) = (protocol.starts_with("sasl_"), protocol.ends_with("ssl"));
        if protocol != "plaintext" {
            self.line("protocol", protocol.as_str());
        }
        if sasl {
            self.sasl(keys);
        }
        if tls {
            self.trust(keys);
            self.key_pair(keys);
        }
        self.hostname(keys, tls);
        for (key, id) in keys {
            if self.sheet.is_marked(*id) {
                continue;
            }
            if key.starts_with("sasl.") && !sasl || key.starts_with("ssl.") && !tls {
                self.sheet
                    .gone(*id, format!("has no effect: security.protocol is {protocol}"));
            } else {
                self.other(key, *id);
            }
        }
    }

    fn protocol(&mut self, keys: &Keys) -> String {
        let Some(id) = keys.get("security.protocol").copied() else {
            return "plaintext".to_owned();
        };
        let value = self.sheet.value(id).to_lowercase();
        if ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"].contains(&value.as_str()) {
            self.sheet.carried(id, "→ security.protocol");
            return value;
        }
        if is_dynamic(&value) {
            let has = |start: &str| keys.keys().any(|key| key.starts_with(start));
            let guess = if has("sasl.") { "sasl_ssl" } else { "ssl" };
            self.sheet.decide(
                id,
                Class::Different,
                format!("its value comes from elsewhere; {guess} is written by what else is set"),
            );
            return guess.to_owned();
        }
        self.sheet.mistake::<()>(
            id,
            "security.protocol",
            "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
        );
        "plaintext".to_owned()
    }

    fn sasl(&mut self, keys: &Keys) {
        let written = keys.get("sasl.mechanism").copied();
        // Java's default.
        let mechanism = written.map_or("GSSAPI".to_owned(), |id| self.sheet.value(id).to_owned());
        if let Some(known) = MECHANISMS.iter().find(|it| **it == mechanism) {
            if let Some(id) = written {
                self.sheet.carried(id, "→ security.mechanism");
            }
            self.line("mechanism", *known);
        } else {
            self.foreign_mechanism(keys, written);
            return;
        }
        let jaas = keys.get("sasl.jaas.config").copied();
        let value = jaas.map(|id| self.sheet.value(id).to_owned()).unwrap_or_default();
        let options = match jaas {
            Some(id) => match parse_jaas(&value) {
                Some((_, options)) => options,
                None => {
                    let why = match reference(&value, self.sheet) {
                        Some(Reference::Other(what)) => format!("it comes from {what}"),
                        Some(Reference::File(path)) => format!("it comes from {}", short(&path)),
                        Some(Reference::Environment(name)) => format!("it comes from variable {name}"),
                        None => "it is not `<login module> required name=\"value\" …;`".to_owned(),
                    };
                    self.sheet.decide(
                        id,
                        Class::Different,
                        format!(
                            "its parts could not be read, because {why}; set the variables below from it"
                        ),
                    );
                    BTreeMap::new()
                }
            },
            None => BTreeMap::new(),
        };
        match mechanism.as_str() {
            "OAUTHBEARER" => self.oauth(keys, jaas, &options),
            "GSSAPI" => self.kerberos(keys, jaas, &options),
            _ => {
                self.option("username", jaas, options.get("username"), "USERNAME");
                self.secret_option("password", jaas, options.get("password"), "PASSWORD");
                let known = ["username", "password"];
                self.options_left(jaas, &options, &known);
            }
        }
    }

    /// A mechanism librdkafka lacks, such as MSK's IAM. What is written is the nearest that a cluster of that
    /// kind offers, so that the file is complete once the variables are set.
    fn foreign_mechanism(&mut self, keys: &Keys, written: Option<Id>) {
        let hint = "SCRAM-SHA-512 is written in its place: create SCRAM credentials on the cluster, name the listener for them in bootstrap_servers (MSK: port 9096), and set the variables";
        for id in written.into_iter().chain(keys.get("sasl.jaas.config").copied()) {
            self.sheet.decide(
                id,
                Class::NoEquivalent,
                format!("librdkafka has no such mechanism (AWS_MSK_IAM is Java only); {hint}"),
            );
        }
        for (_, id) in keys
            .iter()
            .filter(|(key, _)| key.ends_with("callback.handler.class"))
        {
            self.sheet
                .gone(*id, "Java code; belongs to a mechanism that librdkafka lacks");
        }
        self.line("mechanism", "SCRAM-SHA-512");
        self.placeholder(
            "username",
            "USERNAME",
            "user of the SCRAM credentials",
            Holds::Text,
        );
        self.placeholder(
            "password",
            "PASSWORD",
            "password of the SCRAM credentials",
            Holds::Text,
        );
    }

    /// An option of `sasl.jaas.config` that is no secret.
    fn option(&mut self, key: &str, jaas: Option<Id>, value: Option<&String>, end: &str) {
        match (value, jaas) {
            (Some(value), Some(id)) if !value.is_empty() => match reference(value, self.sheet) {
                None => {
                    let text = literal(value);
                    self.line(key, text);
                    self.sheet.carried(id, format!("→ security.{key}"));
                }
                Some(_) => {
                    let name = self.name(end);
                    let (_, text) = self.sheet.secret(id, value, &format!("security.{key}"), &name);
                    self.line(key, text);
                }
            },
            _ => {
                self.placeholder(
                    key,
                    end,
                    format!("security.{key}: the input does not say"),
                    Holds::Text,
                );
            }
        }
    }

    fn secret_option(&mut self, key: &str, jaas: Option<Id>, value: Option<&String>, end: &str) {
        match (value, jaas) {
            (Some(value), Some(id)) => {
                let name = self.name(end);
                let (suffix, text) = self.sheet.secret(id, value, &format!("security.{key}"), &name);
                self.line(&format!("{key}{suffix}"), text);
            }
            _ => {
                self.placeholder(
                    key,
                    end,
                    format!("security.{key}: the input does not say"),
                    Holds::Text,
                );
            }
        }
    }

    fn options_left(&mut self, jaas: Option<Id>, options: &BTreeMap<String, String>, known: &[&str]) {
        let left: Vec<String> = options
            .keys()
            .filter(|it| !known.contains(&it.as_str()))
            .map(|it| short(it))
            .collect();
        if let Some(id) = jaas
            && !left.is_empty()
        {
            self.sheet
                .different(id, format!("options without an equivalent: {}", left.join(", ")));
        }
    }

    fn oauth(&mut self, keys: &Keys, jaas: Option<Id>, options: &BTreeMap<String, String>) {
        if let Some(id) = keys.get("sasl.mechanism") {
            self.sheet.different(*id, OIDC);
        }
        match keys.get("sasl.oauthbearer.token.endpoint.url").copied() {
            Some(id) => {
                let text = self.sheet.text(id, &self.name("TOKEN_ENDPOINT"), Holds::Text);
                self.line("oauth.token_endpoint", text);
                self.sheet.carried(id, "→ security.oauth.token_endpoint");
            }
            None => self.option(
                "oauth.token_endpoint",
                jaas,
                options.get("oauth.token.endpoint.uri"),
                "TOKEN_ENDPOINT",
            ),
        }
        let first = |names: [&str; 2]| names.iter().find_map(|name| options.get(*name));
        match keys.get("sasl.oauthbearer.client.credentials.client.id").copied() {
            Some(id) => {
                let text = self.sheet.text(id, &self.name("CLIENT_ID"), Holds::Text);
                self.line("oauth.client_id", text);
                self.sheet.carried(id, "→ security.oauth.client_id");
            }
            None => self.option(
                "oauth.client_id",
                jaas,
                first(["clientId", "oauth.client.id"]),
                "CLIENT_ID",
            ),
        }
        match keys
            .get("sasl.oauthbearer.client.credentials.client.secret")
            .copied()
        {
            Some(id) => {
                let value = self.sheet.value(id).to_owned();
                self.secret_option("oauth.client_secret", Some(id), Some(&value), "CLIENT_SECRET");
            }
            None => self.secret_option(
                "oauth.client_secret",
                jaas,
                first(["clientSecret", "oauth.client.secret"]),
                "CLIENT_SECRET",
            ),
        }
        if let Some(id) = keys.get("sasl.oauthbearer.scope").copied() {
            let text = self.sheet.text(id, &self.name("SCOPE"), Holds::Text);
            self.line("oauth.scope", text);
            self.sheet.carried(id, "→ security.oauth.scope");
        } else if let Some(scope) = first(["scope", "oauth.scope"]) {
            self.option("oauth.scope", jaas, Some(scope), "SCOPE");
        }
        self.options_left(
            jaas,
            options,
            &[
                "clientId",
                "clientSecret",
                "scope",
                "oauth.client.id",
                "oauth.client.secret",
                "oauth.scope",
                "oauth.token.endpoint.uri",
            ],
        );
        if let Some(id) = keys.get("sasl.login.callback.handler.class").copied() {
            let known = [
                "OAuthBearerLoginCallbackHandler",
                "JaasClientOauthLoginCallbackHandler",
            ];
            match known.iter().any(|it| self.sheet.value(id).ends_with(it)) {
                true => self.sheet.carried(id, "librdkafka fetches tokens from an OIDC endpoint by itself"),
                false => self.sheet.decide(id, Class::NoEquivalent, "Java code; librdkafka fetches tokens from an OIDC endpoint with client id and secret, nothing else"),
            }
        }
    }

    fn kerberos(&mut self, keys: &Keys, jaas: Option<Id>, options: &BTreeMap<String, String>) {
        if let Some(id) = keys.get("sasl.mechanism").copied().or(jaas) {
            self.sheet.different(id, KERBEROS);
        }
        match keys.get("sasl.kerberos.service.name").copied() {
            Some(id) => {
                let text = self.sheet.text(id, &self.name("KERBEROS_SERVICE"), Holds::Text);
                self.line("kerberos.service_name", text);
                self.sheet.carried(id, "→ security.kerberos.service_name");
            }
            None => {
                if let Some(service) = options.get("serviceName") {
                    self.option("kerberos.service_name", jaas, Some(service), "KERBEROS_SERVICE");
                }
            }
        }
        self.option(
            "kerberos.principal",
            jaas,
            options.get("principal"),
            "KERBEROS_PRINCIPAL",
        );
        match (options.get("keyTab"), jaas) {
            (Some(path), Some(id)) if reference(path, self.sheet).is_none() => {
                let text = literal(path);
                self.line("kerberos.keytab_file", text);
                self.sheet.carried(id, "→ security.kerberos.keytab_file");
            }
            _ => {
                self.placeholder(
                    "kerberos.keytab_file",
                    "KEYTAB_FILE",
                    "path of the principal's keytab; a ticket cache is not used",
                    Holds::File,
                );
            }
        }
        self.options_left(
            jaas,
            options,
            &["principal", "keyTab", "serviceName", "useKeyTab", "storeKey"],
        );
    }

    fn trust(&mut self, keys: &Keys) {
        let word = |sheet: &Sheet, key: &str| keys.get(key).map(|id| sheet.value(*id).to_owned());
        let pem = word(self.sheet, "ssl.truststore.type").is_some_and(|it| it.eq_ignore_ascii_case("PEM"));
        if let Some(id) = keys.get("ssl.truststore.location").copied() {
            let path = short(self.sheet.value(id));
            if pem && !is_dynamic(&path) {
                let text = literal(self.sheet.value(id));
                self.line("ca_file", text);
                self.sheet.carried(
                    id,
                    "→ security.ca_file; a relative path starts at the config file",
                );
            } else {
                self.placeholder(
                    "ca_file",
                    "CA_FILE",
                    format!("path of the CA certificates (PEM) of {path}"),
                    Holds::File,
                );
                self.sheet.different(
                    id,
                    format!("→ security.ca_file; librdkafka reads PEM: `keytool -list -rfc -keystore {path} > ca.pem`, and set the variable for it to its path"),
                );
            }
        } else if let Some(id) = keys.get("ssl.truststore.certificates").copied() {
            let name = self.placeholder(
                "ca_file",
                "CA_FILE",
                "path of a file with these CA certificates (PEM)",
                Holds::File,
            );
            self.sheet.different(
                id,
                format!("→ security.ca_file: ${{{name}}}; write the certificates into a file"),
            );
        }
        for key in ["ssl.truststore.type", "ssl.truststore.password"] {
            if let Some(id) = keys.get(key).copied() {
                match pem && key.ends_with("type") {
                    true => self.sheet.carried(id, "causeway reads PEM only"),
                    false => self
                        .sheet
                        .gone(id, "causeway reads PEM, which has neither type nor password"),
                }
            }
        }
    }

    fn key_pair(&mut self, keys: &Keys) {
        let pem = keys
            .get("ssl.keystore.type")
            .is_some_and(|id| self.sheet.value(*id).eq_ignore_ascii_case("PEM"));
        let mut any = false;
        if let Some(id) = keys.get("ssl.keystore.location").copied() {
            any = true;
            let path = short(self.sheet.value(id));
            if pem && !is_dynamic(&path) {
                let text = literal(self.sheet.value(id));
                self.line("certificate_file", text.clone());
                self.line("key_file", text);
                self.sheet.carried(
                    id,
                    "→ security.certificate_file and key_file: one PEM file may hold both",
                );
            } else {
                let certificate = self.placeholder(
                    "certificate_file",
                    "CERTIFICATE_FILE",
                    format!("path of the certificate (PEM) of {path}"),
                    Holds::File,
                );
                let key = self.placeholder(
                    "key_file",
                    "KEY_FILE",
                    format!("path of the private key (PEM) of {path}"),
                    Holds::File,
                );
                self.sheet.different(
                    id,
                    format!(
                        "→ security.certificate_file: ${{{certificate}}}, key_file: ${{{key}}}; librdkafka reads PEM: `keytool -importkeystore -srckeystore {path} -destkeystore client.p12 -deststoretype PKCS12`, \
                         `openssl pkcs12 -in client.p12 -nokeys -out client.pem`, `openssl pkcs12 -in client.p12 -nocerts -out client.key`"
                    ),
                );
            }
        } else if let Some(id) = keys.get("ssl.keystore.certificate.chain").copied() {
            any = true;
            let certificate = self.placeholder(
                "certificate_file",
                "CERTIFICATE_FILE",
                "path of a file with this certificate chain (PEM)",
                Holds::File,
            );
            let key = self.placeholder(
                "key_file",
                "KEY_FILE",
                "path of a file with the private key (PEM)",
                Holds::File,
            );
            self.sheet.different(
                id,
                format!("→ security.certificate_file: ${{{certificate}}}; write it into a file"),
            );
            if let Some(id) = keys.get("ssl.keystore.key").copied() {
                self.sheet.different(
                    id,
                    format!(
                        "→ security.key_file: ${{{key}}}; write it into a file that only causeway may read"
                    ),
                );
            }
        }
        let (key, store) = (
            keys.get("ssl.key.password").copied(),
            keys.get("ssl.keystore.password").copied(),
        );
        if let Some(id) = key.or(store.filter(|_| !pem)).filter(|_| any) {
            let value = self.sheet.value(id).to_owned();
            let name = self.name("KEY_PASSWORD");
            let (suffix, text) = self.sheet.secret(id, &value, "security.key_password", &name);
            self.line(&format!("key_password{suffix}"), text);
        }
        for id in store.into_iter().chain(keys.get("ssl.keystore.type").copied()) {
            if !self.sheet.is_marked(id) {
                self.sheet.gone(
                    id,
                    "causeway reads PEM, which has neither type nor store password",
                );
            }
        }
    }

    fn hostname(&mut self, keys: &Keys, tls: bool) {
        if let Some(id) = keys
            .get("ssl.endpoint.identification.algorithm")
            .copied()
            .filter(|_| tls)
        {
            if self.sheet.value(id).is_empty() {
                self.line("verify_hostname", "false");
            }
            self.sheet.carried(id, "→ security.verify_hostname");
        }
    }

    /// Security settings of Java's that have no counterpart.
    fn other(&mut self, key: &str, id: Id) {
        match key {
            "ssl.enabled.protocols" | "ssl.protocol" => {
                self.sheet.gone(
                    id,
                    "OpenSSL chooses the newest version of TLS that both sides have",
                );
            }
            "ssl.cipher.suites" => self.sheet.gone(
                id,
                "OpenSSL has other names for cipher suites; set ssl.cipher.suites under `client` if needed",
            ),
            "sasl.client.callback.handler.class"
            | "sasl.login.callback.handler.class"
            | "sasl.login.class"
            | "security.providers" => {
                self.sheet
                    .decide(id, Class::NoEquivalent, "Java code cannot run in causeway");
            }
            key if key.starts_with("ssl.") => {
                self.sheet.gone(id, "about Java's TLS; librdkafka uses OpenSSL")
            }
            key if key.starts_with("sasl.kerberos.") => self.sheet.gone(
                id,
                "set the sasl.kerberos.* property of librdkafka under `client` if needed",
            ),
            _ => self.sheet.gone(
                id,
                "librdkafka has its own handling; see its properties under `client`",
            ),
        }
    }

    fn strimzi(&mut self, keys: &Keys) {
        let value = |sheet: &Sheet, key: &str| keys.get(key).map(|id| sheet.value(*id).to_owned());
        let kind = value(self.sheet, "authentication.type").unwrap_or_default();
        let tls = keys.keys().any(|key| key == "tls" || key.starts_with("tls."));
        let sasl = ["plain", "scram-sha-256", "scram-sha-512", "oauth", "custom"].contains(&kind.as_str());
        let protocol = match (sasl, tls || kind == "tls") {
            (true, true) => "sasl_ssl",
            (true, false) => "sasl_plaintext",
            (false, true) => "ssl",
            (false, false) => "plaintext",
        };
        if protocol != "plaintext" {
            self.line("protocol", protocol);
        }
        if let Some(id) = keys.get("authentication.type").copied() {
            self.sheet.carried(id, "→ security");
        }
        let secret_of = |sheet: &Sheet, path: &str, field: &str| {
            let name = value(sheet, &format!("{path}.secretName")).unwrap_or_default();
            let field = value(sheet, &format!("{path}.{field}")).unwrap_or_default();
            format!("key {} of Secret {}", short(&field), short(&name))
        };
        match kind.as_str() {
            "plain" | "scram-sha-256" | "scram-sha-512" => {
                self.line("mechanism", kind.to_uppercase());
                match keys.get("authentication.username").copied() {
                    Some(id) => {
                        let text = literal(self.sheet.value(id));
                        self.line("username", text);
                        self.sheet.carried(id, "→ security.username");
                    }
                    None => {
                        self.placeholder(
                            "username",
                            "USERNAME",
                            "security.username: the resource does not say",
                            Holds::Text,
                        );
                    }
                }
                let what = secret_of(self.sheet, "authentication.passwordSecret", "password");
                let name = self.placeholder("password", "PASSWORD", what.clone(), Holds::Text);
                self.secret_fields(
                    keys,
                    "authentication.passwordSecret.",
                    &format!("→ security.password: ${{{name}}}; set {name} from {what}"),
                );
            }
            "tls" => {
                let path = "authentication.certificateAndKey";
                let certificate = secret_of(self.sheet, path, "certificate");
                let key = secret_of(self.sheet, path, "key");
                let certificate_name = self.placeholder(
                    "certificate_file",
                    "CERTIFICATE_FILE",
                    format!("path where {certificate} is mounted"),
                    Holds::File,
                );
                let key_name = self.placeholder(
                    "key_file",
                    "KEY_FILE",
                    format!("path where {key} is mounted"),
                    Holds::File,
                );
                self.secret_fields(keys, &format!("{path}."), &format!("→ security.certificate_file and key_file; mount the Secret, and set {certificate_name} and {key_name} to the paths"));
            }
            "oauth" => {
                self.line("mechanism", "OAUTHBEARER");
                for (field, key, end) in [
                    ("tokenEndpointUri", "oauth.token_endpoint", "TOKEN_ENDPOINT"),
                    ("clientId", "oauth.client_id", "CLIENT_ID"),
                ] {
                    match keys.get(&format!("authentication.{field}")).copied() {
                        Some(id) => {
                            let text = literal(self.sheet.value(id));
                            self.line(key, text);
                            self.sheet.carried(id, format!("→ security.{key}"));
                        }
                        None => {
                            self.placeholder(
                                key,
                                end,
                                format!("security.{key}: the resource does not say"),
                                Holds::Text,
                            );
                        }
                    }
                }
                let what = secret_of(self.sheet, "authentication.clientSecret", "key");
                let name =
                    self.placeholder("oauth.client_secret", "CLIENT_SECRET", what.clone(), Holds::Text);
                self.secret_fields(
                    keys,
                    "authentication.clientSecret.",
                    &format!("→ security.oauth.client_secret: ${{{name}}}; set {name} from {what}"),
                );
                if let Some(id) = keys.get("authentication.scope").copied() {
                    let text = literal(self.sheet.value(id));
                    self.line("oauth.scope", text);
                    self.sheet.carried(id, "→ security.oauth.scope");
                }
                if let Some(id) = keys.get("authentication.type").copied() {
                    self.sheet.different(id, OIDC);
                }
            }
            "custom" => {
                let java: Keys = keys
                    .iter()
                    .filter_map(|(key, id)| {
                        Some((key.strip_prefix("authentication.config.")?.to_owned(), *id))
                    })
                    .collect();
                self.sasl(&java);
                if let Some(id) = keys.get("authentication.sasl").copied() {
                    self.sheet.carried(id, "→ security.protocol");
                }
            }
            "" => {}
            _ => {
                if let Some(id) = keys.get("authentication.type").copied() {
                    self.sheet.decide(
                        id,
                        Class::NoEquivalent,
                        "causeway does not know this type of authentication; fill in `security:` by hand",
                    );
                }
            }
        }
        let trusted: Vec<Id> = keys
            .iter()
            .filter(|(key, _)| key.starts_with("tls.trustedCertificates."))
            .map(|(_, id)| *id)
            .collect();
        if !trusted.is_empty() {
            let secrets: Vec<String> = keys
                .iter()
                .filter(|(key, _)| {
                    key.starts_with("tls.trustedCertificates.") && key.ends_with(".secretName")
                })
                .map(|(_, id)| short(self.sheet.value(*id)))
                .collect();
            let what = format!(
                "path of the CA certificates (PEM) in Secret {}, in one file",
                secrets.join(" and ")
            );
            let name = self.placeholder("ca_file", "CA_FILE", what, Holds::File);
            for id in trusted {
                self.sheet.different(id, format!("→ security.ca_file: ${{{name}}}; mount the Secret and set {name} to the path of its certificate"));
            }
        }
        for (key, id) in keys {
            if self.sheet.is_marked(*id) {
            } else if key.starts_with("tls") && !key.contains('.') || key == "tls.trustedCertificates" {
                self.sheet.carried(
                    *id,
                    "→ security.protocol; the system's CA certificates are trusted, as there",
                );
            } else if key.starts_with("authentication.") {
                self.sheet.gone(
                    *id,
                    "librdkafka has no such option for this type of authentication",
                );
            } else {
                self.sheet.gone(*id, "librdkafka has its own handling of TLS");
            }
        }
    }

    fn secret_fields(&mut self, keys: &Keys, path: &str, text: &str) {
        for (_, id) in keys.iter().filter(|(key, _)| key.starts_with(path)) {
            self.sheet.different(*id, text);
        }
    }
}

/// `<login module class> required name="value" …;` The class without its package, and the options.
///
/// The grammar is that of `javax.security.auth.login.Configuration`, read as Kafka's `JaasConfig` reads it.
fn parse_jaas(text: &str) -> Option<(String, BTreeMap<String, String>)> {
    let mut words = Vec::new();
    let mut rest = text.trim().strip_suffix(';')?.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_whitespace() => {}
            '=' => words.push((String::from("="), false)),
            '"' | '\'' => {
                let mut word = String::new();
                loop {
                    match rest.next()? {
                        it if it == c => break,
                        '\\' => word.push(rest.next()?),
                        it => word.push(it),
                    }
                }
                words.push((word, true));
            }
            c => {
                let mut word = String::from(c);
                while let Some(next) =
                    rest.next_if(|it| !it.is_whitespace() && !matches!(it, '=' | '"' | '\''))
                {
                    word.push(next);
                }
                words.push((word, false));
            }
        }
    }
    let mut words = words.into_iter();
    let (class, _) = words.next()?;
    let (flag, _) = words.next()?;
    if !["required", "requisite", "sufficient", "optional"].contains(&flag.to_lowercase().as_str()) {
        return None;
    }
    let mut options = BTreeMap::new();
    while let Some((name, _)) = words.next() {
        if words.next() != Some(("=".to_owned(), false)) {
            return None;
        }
        let (value, quoted) = words.next()?;
        if !quoted && value == "=" {
            return None;
        }
        options.insert(name, value);
    }
    Some((class.rsplit('.').next().unwrap_or_default().to_owned(), options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn login_modules_are_read_with_their_options() {
        let (class, options) = parse_jaas(
            " org.apache.kafka.common.security.scram.ScramLoginModule required\n username=\"a\\\"b\" password='p;=q' debug=true ; ",
        )
        .unwrap();
        assert_eq!(class, "ScramLoginModule");
        assert_eq!(options["username"], "a\"b");
        assert_eq!(options["password"], "p;=q");
        assert_eq!(options["debug"], "true");
        assert!(
            parse_jaas("software.amazon.msk.auth.iam.IAMLoginModule required;")
                .unwrap()
                .1
                .is_empty()
        );
        for wrong in [
            "",
            ";",
            "a;",
            "a required b;",
            "a required b=;",
            "a required b=\"c;",
            "a needed;",
            "a required b=c",
        ] {
            assert!(parse_jaas(wrong).is_none(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_password_is_read_back(password: String) {
            let escaped = password.replace('\\', "\\\\").replace('"', "\\\"");
            let text = format!("x.PlainLoginModule required username=u password=\"{escaped}\";");
            prop_assert_eq!(&parse_jaas(&text).unwrap().1["password"], &password);
        }

        #[test]
        fn no_text_panics(text: String) {
            parse_jaas(&text);
        }
    }
}
