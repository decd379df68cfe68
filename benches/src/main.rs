//! Each performance figure, beside the peer it is compared with, in one run.
//!
//! `cargo xtask bench` builds and runs this, in a network namespace of its own. A table goes to
//! stderr; with `--json`, one JSON document goes to stdout and nothing else.
//!
//! Figures are medians with their spread. Only ratios within one run mean something: machines are
//! noisy.
#![forbid(unsafe_code)]
// A benchmark asks the clock.
#![allow(clippy::disallowed_methods)]

mod api;
mod cpu;
mod engine;
mod image;
mod keeper_process;
mod load;
mod peer;
mod policy;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
    /// Print one JSON document on stdout
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Bench {
    /// Container starts, beside crun and runc
    Engine {
        /// A static busybox
        #[arg(long)]
        busybox: PathBuf,
        /// Starts that are timed, one after another
        #[arg(long, default_value_t = 200)]
        runs: usize,
        /// Starts at full speed
        #[arg(long, default_value_t = 2000)]
        sustained: usize,
        /// Containers that are idle at once
        #[arg(long, default_value_t = 1000)]
        idle: usize,
    },
    /// The API, beside moto
    Api {
        /// The wharf binary
        #[arg(long)]
        wharf: PathBuf,
        /// A static busybox
        #[arg(long)]
        busybox: PathBuf,
        /// `moto_server`; without it nothing is compared
        #[arg(long)]
        moto: Option<PathBuf>,
    },
    /// Decisions by IAM's policies
    Policy,
    /// The keeper of the engine bench
    #[command(name = "__keeper", hide = true)]
    Keeper {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// The peers of the engine bench
    #[command(name = "__peer", hide = true)]
    Peer { program: PathBuf, bundle: PathBuf, state: PathBuf },
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let report = match cli.bench {
        Bench::Keeper { arguments } => return Ok(keeper_process::run(arguments)),
        Bench::Peer { program, bundle, state } => {
            peer::serve(&program, &bundle, &state)?;
            return Ok(ExitCode::SUCCESS);
        }
        Bench::Policy => policy::bench(),
        Bench::Engine { busybox, runs, sustained, idle } => {
            runtime()?.block_on(engine::bench(&busybox, runs, sustained, idle))?
        }
        Bench::Api { wharf, busybox, moto } => {
            runtime()?.block_on(api::bench(&wharf, &busybox, moto.as_deref()))?
        }
    };
    report.print(cli.json)?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
