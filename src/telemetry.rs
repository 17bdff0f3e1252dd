//! The log: where it goes, what it looks like. Data is on stdout, so the log is on stderr.
//!
//! librdkafka's lines arrive with the target `librdkafka` and can be filtered by it:
//! `--log info,librdkafka=debug`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people: time, level, target, message, fields.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts the log. `log` is a filter such as `info` or `info,librdkafka=debug`.
///
/// # Errors
/// The filter cannot be parsed; the text says where. Nothing has been started then.
pub fn init(log: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::builder().parse(log).map_err(|error| {
        format!("`{log}` is not a log filter: {error}; write for example info,librdkafka=debug")
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(UtcMillis)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| format!("the log was started twice: {error}"))
}

/// `2026-01-02T03:04:05.678Z`
struct UtcMillis;

impl FormatTime for UtcMillis {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        write!(w, "{:.3}", jiff::Timestamp::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_refused_with_its_text() {
        let error = init("info,causeway=loud", LogFormat::Text).expect_err("loud is no level");
        assert!(error.contains("info,causeway=loud"), "{error}");
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        let mut text = String::new();
        UtcMillis
            .format_time(&mut Writer::new(&mut text))
            .expect("a string takes everything");
        assert_eq!(text.len(), "2026-01-02T03:04:05.678Z".len(), "{text}");
        assert!(text.ends_with('Z'));
    }
}
