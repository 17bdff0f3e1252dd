//! Mechanisms of SASL, in Java's words.

use std::collections::BTreeMap;

use super::builder::{Builder, OIDC};
use super::jaas;
use crate::config::short;
use crate::import::input::{Id, Keys};
use crate::import::value::{Reference, reference};
use crate::import::verdicts::{Class, Holds};

const MECHANISMS: &[&str] = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"];
const KERBEROS: &str = "needs a causeway built with `--features gssapi`";

/// Of a login module, by their names.
type Options = BTreeMap<String, String>;

impl Builder<'_> {
    pub fn sasl(&mut self, keys: &Keys) {
        let written = keys.get("sasl.mechanism").copied();
        // Java's default.
        let mechanism = written.map_or("GSSAPI".to_owned(), |id| self.sheet.value(id).to_owned());
        if !MECHANISMS.contains(&mechanism.as_str()) {
            return self.foreign_mechanism(keys, written);
        }
        if let Some(id) = written {
            self.sheet.carried(id, "→ security.mechanism");
        }
        self.line("mechanism", mechanism.as_str());
        let jaas = keys.get("sasl.jaas.config").copied();
        let options = jaas.map(|id| self.options(id)).unwrap_or_default();
        match mechanism.as_str() {
            "OAUTHBEARER" => self.oauth(keys, jaas, &options),
            "GSSAPI" => self.kerberos(keys, jaas, &options),
            _ => {
                self.option("username", jaas, options.get("username"), "USERNAME");
                self.secret("password", jaas, options.get("password"), "PASSWORD");
                self.options_left(jaas, &options, &["username", "password"]);
            }
        }
    }

    fn options(&mut self, jaas: Id) -> Options {
        let value = self.sheet.value(jaas).to_owned();
        if let Some((_, options)) = jaas::parse(&value) {
            return options;
        }
        let why = match reference(&value, self.sheet) {
            Some(Reference::Other(what)) => format!("it comes from {what}"),
            Some(Reference::File(path)) => format!("it comes from {}", short(&path)),
            Some(Reference::Environment(name)) => format!("it comes from variable {name}"),
            None => "it is not `<login module> required name=\"value\" …;`".to_owned(),
        };
        let text = format!("its parts could not be read, because {why}; set the variables below from it");
        self.sheet.decide(jaas, Class::Different, text);
        Options::new()
    }

    /// A mechanism librdkafka lacks, such as MSK's IAM. What is written is the nearest that a cluster of that
    /// kind offers, so that the file is complete once the variables are set.
    fn foreign_mechanism(&mut self, keys: &Keys, written: Option<Id>) {
        let text = "librdkafka has no such mechanism (AWS_MSK_IAM is Java only); SCRAM-SHA-512 is written in its place: create SCRAM credentials on the cluster, name the listener for them in bootstrap_servers (MSK: port 9096), and set the variables";
        for id in written.into_iter().chain(keys.get("sasl.jaas.config").copied()) {
            self.sheet.decide(id, Class::NoEquivalent, text);
        }
        for (key, id) in keys {
            if key.ends_with("callback.handler.class") {
                let text = "Java code; belongs to a mechanism that librdkafka lacks";
                self.sheet.gone(*id, text);
            }
        }
        self.line("mechanism", "SCRAM-SHA-512");
        for (key, end, what) in [
            ("username", "USERNAME", "user of the SCRAM credentials"),
            ("password", "PASSWORD", "password of the SCRAM credentials"),
        ] {
            self.placeholder(key, end, what, Holds::Text);
        }
    }

    fn options_left(&mut self, jaas: Option<Id>, options: &Options, known: &[&str]) {
        let left = options.keys().filter(|it| !known.contains(&it.as_str()));
        let left: Vec<String> = left.map(|it| short(it)).collect();
        if let Some(id) = jaas
            && !left.is_empty()
        {
            let text = format!("options without an equivalent: {}", left.join(", "));
            self.sheet.different(id, text);
        }
    }

    fn oauth(&mut self, keys: &Keys, jaas: Option<Id>, options: &Options) {
        if let Some(id) = keys.get("sasl.mechanism") {
            self.sheet.different(*id, OIDC);
        }
        let first = |names: [&str; 2]| names.iter().find_map(|name| options.get(*name));
        for (java, ours, end, option) in [
            (
                "sasl.oauthbearer.token.endpoint.url",
                "oauth.token_endpoint",
                "TOKEN_ENDPOINT",
                options.get("oauth.token.endpoint.uri"),
            ),
            (
                "sasl.oauthbearer.client.credentials.client.id",
                "oauth.client_id",
                "CLIENT_ID",
                first(["clientId", "oauth.client.id"]),
            ),
        ] {
            match keys.get(java) {
                Some(id) => self.text(*id, ours, end),
                None => self.option(ours, jaas, option, end),
            }
        }
        let (id, secret) = match keys.get("sasl.oauthbearer.client.credentials.client.secret") {
            Some(id) => (Some(*id), Some(self.sheet.value(*id).to_owned())),
            None => (jaas, first(["clientSecret", "oauth.client.secret"]).cloned()),
        };
        self.secret("oauth.client_secret", id, secret.as_ref(), "CLIENT_SECRET");
        if let Some(id) = keys.get("sasl.oauthbearer.scope") {
            self.text(*id, "oauth.scope", "SCOPE");
        } else if let Some(scope) = first(["scope", "oauth.scope"]) {
            self.option("oauth.scope", jaas, Some(scope), "SCOPE");
        }
        let known = [
            "clientId",
            "clientSecret",
            "scope",
            "oauth.client.id",
            "oauth.client.secret",
            "oauth.scope",
            "oauth.token.endpoint.uri",
        ];
        self.options_left(jaas, options, &known);
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

    fn kerberos(&mut self, keys: &Keys, jaas: Option<Id>, options: &Options) {
        if let Some(id) = keys.get("sasl.mechanism").copied().or(jaas) {
            self.sheet.different(id, KERBEROS);
        }
        if let Some(id) = keys.get("sasl.kerberos.service.name") {
            self.text(*id, "kerberos.service_name", "KERBEROS_SERVICE");
        } else if let Some(service) = options.get("serviceName") {
            self.option("kerberos.service_name", jaas, Some(service), "KERBEROS_SERVICE");
        }
        let principal = options.get("principal");
        self.option("kerberos.principal", jaas, principal, "KERBEROS_PRINCIPAL");
        let key = "kerberos.keytab_file";
        match (options.get("keyTab"), jaas) {
            (Some(path), Some(id)) if reference(path, self.sheet).is_none() => self.written(id, key, path),
            _ => {
                let what = "path of the principal's keytab; a ticket cache is not used";
                self.placeholder(key, "KEYTAB_FILE", what, Holds::File);
            }
        }
        let known = ["principal", "keyTab", "serviceName", "useKeyTab", "storeKey"];
        self.options_left(jaas, options, &known);
    }
}
