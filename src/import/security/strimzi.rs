//! `tls` and `authentication` of Strimzi's clusters.

use super::builder::{Builder, OIDC};
use crate::config::short;
use crate::import::input::Keys;
use crate::import::verdicts::{Class, Holds};

impl Builder<'_> {
    pub fn strimzi(&mut self, keys: &Keys) {
        let written = keys.get("authentication.type").copied();
        let kind = written.map_or(String::new(), |id| self.sheet.value(id).to_owned());
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
        if let Some(id) = written {
            self.sheet.carried(id, "→ security");
        }
        match kind.as_str() {
            "plain" | "scram-sha-256" | "scram-sha-512" => {
                self.line("mechanism", kind.to_uppercase());
                self.field(keys, "username", "username", "USERNAME");
                self.secret_of(keys, "passwordSecret", "password", "password", "PASSWORD");
            }
            "tls" => self.certificate(keys),
            "oauth" => {
                self.line("mechanism", "OAUTHBEARER");
                self.field(keys, "tokenEndpointUri", "oauth.token_endpoint", "TOKEN_ENDPOINT");
                self.field(keys, "clientId", "oauth.client_id", "CLIENT_ID");
                self.secret_of(
                    keys,
                    "clientSecret",
                    "key",
                    "oauth.client_secret",
                    "CLIENT_SECRET",
                );
                if keys.contains_key("authentication.scope") {
                    self.field(keys, "scope", "oauth.scope", "SCOPE");
                }
                if let Some(id) = written {
                    self.sheet.different(id, OIDC);
                }
            }
            "custom" => {
                let config = |key: &str| key.strip_prefix("authentication.config.").map(str::to_owned);
                let java = keys.iter().filter_map(|(key, id)| Some((config(key)?, *id)));
                self.sasl(&java.collect());
                if let Some(id) = keys.get("authentication.sasl").copied() {
                    self.sheet.carried(id, "→ security.protocol");
                }
            }
            "" => {}
            _ => {
                if let Some(id) = written {
                    let text =
                        "causeway does not know this type of authentication; fill in `security:` by hand";
                    self.sheet.decide(id, Class::NoEquivalent, text);
                }
            }
        }
        self.trusted(keys);
        for (key, id) in keys {
            if self.sheet.is_marked(*id) {
            } else if key.starts_with("tls") && !key.contains('.') || key == "tls.trustedCertificates" {
                let text = "→ security.protocol; the system's CA certificates are trusted, as there";
                self.sheet.carried(*id, text);
            } else if key.starts_with("authentication.") {
                let text = "librdkafka has no such option for this type of authentication";
                self.sheet.gone(*id, text);
            } else {
                self.sheet.gone(*id, "librdkafka has its own handling of TLS");
            }
        }
    }

    /// A field of `authentication` that is no secret.
    fn field(&mut self, keys: &Keys, field: &str, ours: &str, end: &str) {
        match keys.get(&format!("authentication.{field}")).copied() {
            Some(id) => {
                let value = self.sheet.value(id).to_owned();
                self.written(id, ours, &value);
            }
            None => self.not_said(ours, end, "resource"),
        }
    }

    /// `key password of Secret my-secret`
    fn in_secret(&self, keys: &Keys, path: &str, field: &str) -> String {
        let value = |field: &str| {
            let id = keys.get(&format!("authentication.{path}.{field}"));
            id.map_or(String::new(), |id| short(self.sheet.value(*id)))
        };
        format!("key {} of Secret {}", value(field), value("secretName"))
    }

    /// A field of `authentication` that names a Secret.
    fn secret_of(&mut self, keys: &Keys, path: &str, field: &str, ours: &str, end: &str) {
        let what = self.in_secret(keys, path, field);
        let name = self.placeholder(ours, end, what.clone(), Holds::Text);
        let text = format!("→ security.{ours}: ${{{name}}}; set {name} from {what}");
        self.fields(keys, &format!("authentication.{path}."), &text);
    }

    fn certificate(&mut self, keys: &Keys) {
        let path = "certificateAndKey";
        let (certificate, key) = self.pair(
            format!(
                "path where {} is mounted",
                self.in_secret(keys, path, "certificate")
            ),
            format!("path where {} is mounted", self.in_secret(keys, path, "key")),
        );
        let text = format!(
            "→ security.certificate_file and key_file; mount the Secret, and set {certificate} and {key} to the paths"
        );
        self.fields(keys, &format!("authentication.{path}."), &text);
    }

    fn trusted(&mut self, keys: &Keys) {
        let path = "tls.trustedCertificates.";
        let trusted = || keys.iter().filter(|(key, _)| key.starts_with(path));
        if trusted().next().is_none() {
            return;
        }
        let names = trusted().filter(|(key, _)| key.ends_with(".secretName"));
        let names: Vec<String> = names.map(|(_, id)| short(self.sheet.value(*id))).collect();
        let secrets = names.join(" and ");
        let what = format!("path of the CA certificates (PEM) in Secret {secrets}, in one file");
        let name = self.placeholder("ca_file", "CA_FILE", what, Holds::File);
        let text = format!(
            "→ security.ca_file: ${{{name}}}; mount the Secret and set {name} to the path of its certificate"
        );
        self.fields(keys, path, &text);
    }

    fn fields(&mut self, keys: &Keys, path: &str, text: &str) {
        for (_, id) in keys.iter().filter(|(key, _)| key.starts_with(path)) {
            self.sheet.different(*id, text);
        }
    }
}
