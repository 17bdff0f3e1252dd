//! The small languages inside scalars: sizes, durations, addresses, `${VAR}`. Text in, value or
//! sentence out.

use std::time::Duration;

/// Bytes: `52428800`, `64KiB`, `50MiB`, `1GiB`.
pub fn bytes(text: &str) -> Result<u64, Option<String>> {
    let (number, unit) = split(text);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => {
            let per_second = unit.ends_with("/s");
            let unit = unit.trim_end_matches("/s").to_lowercase();
            let meant = ["k", "m", "g", "t"]
                .into_iter()
                .find(|p| unit.starts_with(p))
                .unwrap_or("");
            let meant = match meant {
                "" => String::new(),
                prefix => format!("{}iB", prefix.to_uppercase()),
            };
            return Err((!number.is_empty() && !meant.is_empty()).then(|| {
                format!(
                    "write `{number}{meant}`{}",
                    if per_second {
                        "; \"per second\" is in the key"
                    } else {
                        ""
                    }
                )
            }));
        }
    };
    let number: u64 = number.parse().map_err(|_| None)?;
    number.checked_mul(factor).ok_or(None)
}

/// A duration: `500ms`, `5s`, `2m`, `1h`.
pub fn duration(text: &str) -> Result<Duration, Option<String>> {
    let (number, unit) = split(text);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" if !number.is_empty() => return Err(Some(format!("add the unit: `{number}s` or `{number}ms`"))),
        _ => return Err(None),
    };
    let number: u64 = number.parse().map_err(|_| None)?;
    number
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
        .ok_or(None)
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

/// Shortest exact form of a size, as [`bytes`] reads it.
pub fn show_bytes(value: u64) -> String {
    for (factor, unit) in [
        (1 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ] {
        if value >= factor && value.is_multiple_of(factor) {
            return format!("{}{unit}", value / factor);
        }
    }
    value.to_string()
}

/// Shortest exact form of a duration, as [`duration`] reads it.
pub fn show_duration(value: Duration) -> String {
    let ms = value.as_millis();
    for (factor, unit) in [(3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if ms >= factor && ms.is_multiple_of(factor) {
            return format!("{}{unit}", ms / factor);
        }
    }
    format!("{ms}ms")
}

/// A list of `host:port`, separated by commas. Returns it without blanks.
pub fn servers(text: &str) -> Result<String, String> {
    let servers: Vec<&str> = text.split(',').map(str::trim).collect();
    for server in &servers {
        server_address(server)?;
    }
    Ok(servers.join(","))
}

fn server_address(text: &str) -> Result<(), String> {
    if text.contains("://") {
        return Err(format!(
            "`{text}` names a protocol; write host:port and set security.protocol"
        ));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("`{text}` has no port; write host:port"));
    };
    let v6 = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host_is_fine = match v6 {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        }
    };
    if !host_is_fine {
        let v6 = text.matches(':').count() > 1;
        return Err(format!(
            "`{text}` is not host:port{}",
            if v6 { "; write IPv6 as [address]:port" } else { "" }
        ));
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => Err(format!("`{port}` is not a port; 1 to 65535")),
    }
}

/// Replaces `${VAR}` and `${VAR:-default}` from the environment; `$$` is a dollar, as is a `$` before
/// anything else. The error is a message and a hint; it never holds a value.
pub fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, (String, String)> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let literal = || "write `$$` for a dollar sign".to_owned();
            let Some((inside, after)) = after.split_once('}') else {
                return Err(("`${` has no `}`".into(), literal()));
            };
            rest = after;
            let (name, default) = match inside.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            let is_name = !name.starts_with(|c: char| c.is_ascii_digit())
                && !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !is_name {
                return Err((
                    format!("`{name}` is not the name of an environment variable"),
                    literal(),
                ));
            }
            let set = env(name).filter(|value| default.is_none() || !value.is_empty());
            match set.or(default.map(str::to_owned)) {
                Some(value) => result.push_str(&value),
                None => {
                    return Err((
                        format!("environment variable `{name}` is not set"),
                        format!("set it, or give a default: `${{{name}:-…}}`"),
                    ));
                }
            }
        } else {
            result.push('$');
        }
    }
    result.push_str(rest);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_binary_and_a_wrong_unit_is_corrected() {
        assert_eq!(bytes("50MiB"), Ok(50 << 20));
        assert_eq!(bytes("64 KiB"), Ok(65536));
        assert_eq!(bytes("7"), Ok(7));
        assert_eq!(
            bytes("20MB/s"),
            Err(Some("write `20MiB`; \"per second\" is in the key".into()))
        );
        assert_eq!(bytes("20m"), Err(Some("write `20MiB`".into())));
        assert_eq!(bytes("99999999999TiB"), Err(None));
        assert_eq!(bytes("many"), Err(None));
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("5"), Err(Some("add the unit: `5s` or `5ms`".into())));
        assert_eq!(duration("soon"), Err(None));
    }

    #[test]
    fn servers_are_hosts_with_ports() {
        assert_eq!(
            servers("a:1, b.c-d:65535,[::1]:9092"),
            Ok("a:1,b.c-d:65535,[::1]:9092".into())
        );
        for wrong in [
            "",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:65536",
            "::1:9092",
            "[x]:1",
            "a:1,",
            "SSL://a:1",
            "a b:1",
        ] {
            assert!(servers(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn variables_come_from_the_environment() {
        let env = |name: &str| (name == "A").then(|| "x$y".to_owned());
        assert_eq!(expand("${A}-$$-${B:-b}-$", &env), Ok("x$y-$-b-$".into()));
        assert_eq!(expand("^a$|b", &env), Ok("^a$|b".into()));
        for wrong in ["${B}", "${A", "${}", "${1}", "${a b}"] {
            assert!(expand(wrong, &env).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_as_the_same_value(value: u32) {
            prop_assert_eq!(bytes(&show_bytes(value.into())), Ok(value.into()));
            let time = Duration::from_millis(value.into());
            prop_assert_eq!(duration(&show_duration(time)), Ok(time));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = (bytes(&text), duration(&text), servers(&text), expand(&text, &|_| None));
        }
    }
}
