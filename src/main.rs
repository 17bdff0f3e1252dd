//! The `causeway` command: arguments → log → the command → exit code.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use causeway::{cli, telemetry};
use clap::Parser;

// 12 to 28 % less CPU than the system's allocator when copying: librdkafka allocates for each record.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = match error.use_stderr() {
                true => cli::ExitCode::Usage,
                false => cli::ExitCode::Done,
            };
            // Help that nobody reads to its end (`| head`) is no failure.
            let _ = error.print();
            return code.into();
        }
    };
    if let Err(error) = telemetry::init(cli.log(), cli.log_format()) {
        eprintln!("error: {error}");
        return cli::ExitCode::Usage.into();
    }
    cli.execute().into()
}
