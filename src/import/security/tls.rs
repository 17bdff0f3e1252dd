//! Whom TLS trusts and what it shows, in Java's words: `ssl.truststore.*` and `ssl.keystore.*`.

use super::builder::Builder;
use crate::config::short;
use crate::import::input::Keys;
use crate::import::value::{is_dynamic, literal};
use crate::import::verdicts::Holds;

impl Builder<'_> {
    fn is_pem(&self, keys: &Keys, key: &str) -> bool {
        keys.get(key)
            .is_some_and(|id| self.sheet.value(*id).eq_ignore_ascii_case("PEM"))
    }

    pub fn trust(&mut self, keys: &Keys) {
        let pem = self.is_pem(keys, "ssl.truststore.type");
        if let Some(id) = keys.get("ssl.truststore.location").copied() {
            let path = short(self.sheet.value(id));
            if pem && !is_dynamic(&path) {
                let text = literal(self.sheet.value(id));
                self.line("ca_file", text);
                let text = "→ security.ca_file; a relative path starts at the config file";
                self.sheet.carried(id, text);
            } else {
                let what = format!("path of the CA certificates (PEM) of {path}");
                self.placeholder("ca_file", "CA_FILE", what, Holds::File);
                self.sheet.different(
                    id,
                    format!("→ security.ca_file; librdkafka reads PEM: `keytool -list -rfc -keystore {path} > ca.pem`, and set the variable for it to its path"),
                );
            }
        } else if let Some(id) = keys.get("ssl.truststore.certificates").copied() {
            let what = "path of a file with these CA certificates (PEM)";
            let name = self.placeholder("ca_file", "CA_FILE", what, Holds::File);
            let text = format!("→ security.ca_file: ${{{name}}}; write the certificates into a file");
            self.sheet.different(id, text);
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

    pub fn key_pair(&mut self, keys: &Keys) {
        let pem = self.is_pem(keys, "ssl.keystore.type");
        let location = keys.get("ssl.keystore.location").copied();
        let chain = keys.get("ssl.keystore.certificate.chain").copied();
        if let Some(id) = location {
            let path = short(self.sheet.value(id));
            if pem && !is_dynamic(&path) {
                let text = literal(self.sheet.value(id));
                self.line("certificate_file", text.clone());
                self.line("key_file", text);
                let text = "→ security.certificate_file and key_file: one PEM file may hold both";
                self.sheet.carried(id, text);
            } else {
                let (certificate, key) = self.pair(
                    format!("path of the certificate (PEM) of {path}"),
                    format!("path of the private key (PEM) of {path}"),
                );
                self.sheet.different(
                    id,
                    format!(
                        "→ security.certificate_file: ${{{certificate}}}, key_file: ${{{key}}}; librdkafka reads PEM: `keytool -importkeystore -srckeystore {path} -destkeystore client.p12 -deststoretype PKCS12`, \
                         `openssl pkcs12 -in client.p12 -nokeys -out client.pem`, `openssl pkcs12 -in client.p12 -nocerts -out client.key`"
                    ),
                );
            }
        } else if let Some(id) = chain {
            let (certificate, key) = self.pair(
                "path of a file with this certificate chain (PEM)",
                "path of a file with the private key (PEM)",
            );
            let text = format!("→ security.certificate_file: ${{{certificate}}}; write it into a file");
            self.sheet.different(id, text);
            if let Some(id) = keys.get("ssl.keystore.key").copied() {
                let text = format!(
                    "→ security.key_file: ${{{key}}}; write it into a file that only causeway may read"
                );
                self.sheet.different(id, text);
            }
        }
        let store = keys.get("ssl.keystore.password").copied();
        let password = keys.get("ssl.key.password").copied();
        let password = password.or(store.filter(|_| !pem));
        if let Some(id) = password.filter(|_| location.or(chain).is_some()) {
            let value = self.sheet.value(id).to_owned();
            self.secret("key_password", Some(id), Some(&value), "KEY_PASSWORD");
        }
        for id in store.into_iter().chain(keys.get("ssl.keystore.type").copied()) {
            if !self.sheet.is_marked(id) {
                let text = "causeway reads PEM, which has neither type nor store password";
                self.sheet.gone(id, text);
            }
        }
    }

    /// The variables that stand for a certificate and its key.
    pub fn pair(&mut self, certificate: impl Into<String>, key: impl Into<String>) -> (String, String) {
        (
            self.placeholder("certificate_file", "CERTIFICATE_FILE", certificate, Holds::File),
            self.placeholder("key_file", "KEY_FILE", key, Holds::File),
        )
    }
}
