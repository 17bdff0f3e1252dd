//! Java's `security.*`, `sasl.*` and `ssl.*`.

use super::builder::Builder;
use crate::import::input::{Id, Keys};
use crate::import::value::is_dynamic;
use crate::import::verdicts::Class;

impl Builder<'_> {
    pub fn java(&mut self, keys: &Keys) {
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
            } else if key.starts_with("sasl.") && !sasl || key.starts_with("ssl.") && !tls {
                let text = format!("has no effect: security.protocol is {protocol}");
                self.sheet.gone(*id, text);
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
            let text = format!("its value comes from elsewhere; {guess} is written by what else is set");
            self.sheet.decide(id, Class::Different, text);
            return guess.to_owned();
        }
        let wanted = "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL";
        self.sheet.mistake::<()>(id, "security.protocol", wanted);
        "plaintext".to_owned()
    }

    pub fn hostname(&mut self, keys: &Keys, tls: bool) {
        let checked = keys.get("ssl.endpoint.identification.algorithm").copied();
        if let Some(id) = checked.filter(|_| tls) {
            if self.sheet.value(id).is_empty() {
                self.line("verify_hostname", "false");
            }
            self.sheet.carried(id, "→ security.verify_hostname");
        }
    }

    /// Security settings of Java's that have no counterpart.
    pub fn other(&mut self, key: &str, id: Id) {
        let text = match key {
            "sasl.client.callback.handler.class"
            | "sasl.login.callback.handler.class"
            | "sasl.login.class"
            | "security.providers" => {
                let text = "Java code cannot run in causeway";
                return self.sheet.decide(id, Class::NoEquivalent, text);
            }
            "ssl.enabled.protocols" | "ssl.protocol" => {
                "OpenSSL chooses the newest version of TLS that both sides have"
            }
            "ssl.cipher.suites" => {
                "OpenSSL has other names for cipher suites; set ssl.cipher.suites under `client` if needed"
            }
            key if key.starts_with("ssl.") => "about Java's TLS; librdkafka uses OpenSSL",
            key if key.starts_with("sasl.kerberos.") => {
                "set the sasl.kerberos.* property of librdkafka under `client` if needed"
            }
            _ => "librdkafka has its own handling; see its properties under `client`",
        };
        self.sheet.gone(id, text);
    }
}
