//! Development tasks. `cargo xtask --help` lists them; CI runs nothing that is not here.
#![forbid(unsafe_code)]

mod bench;
mod generate;
mod new_service;
mod quickstart;
mod setup;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development tasks of Wharf")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build Wharf, start it, and do the main job with visible progress
    Quickstart(quickstart::Options),
    /// Run every test
    Test(test::Options),
    /// Measure, beside the peers
    Bench(bench::Options),
    /// Write the generated API crates from the pinned botocore release
    Generate(generate::Options),
    /// Make the folder, the API crate and the manifest of a new AWS service
    NewService(new_service::Options),
    /// Check the laws of the house
    Tidy(tidy::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Quickstart(options) => quickstart::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Generate(options) => generate::run(&options),
        Task::NewService(options) => new_service::run(&options),
        Task::Tidy(options) => tidy::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
