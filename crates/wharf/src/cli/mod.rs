//! The command line: one module a command. Each prints data to stdout and everything else to stderr.

mod aws;
mod container;
mod down;
mod env;
mod images;
mod load;
mod logs;
mod ps;
mod quickstart;
mod status;
pub mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::failure::{Context as _, Result};
use crate::layout::{DEFAULT_DIRECTORY, Layout};

#[derive(Parser)]
#[command(
    name = "wharf",
    version,
    about = "The AWS container platform on your own machine",
    long_about = "Wharf speaks the AWS APIs and really runs the containers, with its own engine and no Docker.\n\
                  Start it, point AWS_ENDPOINT_URL at it, and the AWS CLI, the SDKs, CDK and Terraform work unchanged.",
    after_help = "Examples:\n  \
                  wharf up --detach             start in the background\n  \
                  eval \"$(wharf env)\"           point the AWS CLI at it\n  \
                  wharf load hello.tar          put an image into the store\n  \
                  wharf quickstart hello.tar    do the whole main job, step by step\n  \
                  wharf run --rm -it busybox sh run a container by hand, without AWS\n  \
                  wharf down                    stop everything; the data stays"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Up(up::Options),
    Down(down::Options),
    Status(status::Options),
    Env(env::Options),
    Load(load::Options),
    Images(images::Options),
    Ps(ps::Options),
    Logs(logs::Options),
    Quickstart(quickstart::Options),
    Run(Box<container::create::Run>),
    Create(Box<container::create::Create>),
    Start(container::create::Start),
    Stop(container::life::Stop),
    Kill(container::life::Kill),
    Restart(container::life::Restart),
    Rm(container::life::Remove),
    Pause(container::life::Pause),
    Unpause(container::life::Unpause),
    Wait(container::life::Wait),
    Rename(container::life::Rename),
    Exec(container::exec::Exec),
    Attach(container::exec::Attach),
    Cp(container::copy::Options),
    Inspect(container::view::Inspect),
    Port(container::view::Port),
    Top(container::view::Top),
    Stats(container::view::Stats),
    Events(container::view::Events),
    /// The long-lived process that parents every container; started by `wharf up`
    #[command(name = "__keeper", hide = true)]
    Keeper(KeeperOptions),
}

#[derive(Args)]
struct KeeperOptions {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<std::ffi::OsString>,
}

/// Where the server that a command speaks to keeps its data.
#[derive(Args, Clone)]
struct DataDir {
    /// The data directory of the server
    #[arg(long, env = "WHARF_DATA_DIR", default_value = DEFAULT_DIRECTORY, value_name = "DIR")]
    data_dir: PathBuf,
}

impl DataDir {
    fn layout(&self) -> Result<Layout> {
        Layout::new(&self.data_dir)
    }
}

pub fn run() -> Result<ExitCode> {
    let outcome = match Cli::parse().command {
        Command::Keeper(options) => return Ok(crate::platform::run_keeper(&options.arguments)),
        Command::Up(options) => up::run(&options),
        Command::Down(options) => down::run(&options),
        Command::Status(options) => status::run(&options),
        Command::Env(options) => env::run(&options),
        Command::Load(options) => load::run(&options),
        Command::Images(options) => images::run(&options),
        Command::Ps(options) => ps::run(&options),
        Command::Logs(options) => logs::run(&options),
        Command::Quickstart(options) => quickstart::run(&options),
        Command::Run(options) => return container::create::run(&options),
        Command::Create(options) => container::create::create(&options),
        Command::Start(options) => return container::create::start(&options),
        Command::Stop(options) => container::life::stop(&options),
        Command::Kill(options) => container::life::kill(&options),
        Command::Restart(options) => container::life::restart(&options),
        Command::Rm(options) => container::life::remove(&options),
        Command::Pause(options) => container::life::pause(&options),
        Command::Unpause(options) => container::life::unpause(&options),
        Command::Wait(options) => container::life::wait(&options),
        Command::Rename(options) => container::life::rename(&options),
        Command::Exec(options) => return container::exec::exec(&options),
        Command::Attach(options) => return container::exec::attach(&options),
        Command::Cp(options) => container::copy::run(&options),
        Command::Inspect(options) => container::view::inspect(&options),
        Command::Port(options) => container::view::port(&options),
        Command::Top(options) => container::view::top(&options),
        Command::Stats(options) => container::view::stats(&options),
        Command::Events(options) => container::view::events(&options),
    };
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Runs a client's future on a small runtime of its own.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(|| "cannot start the async runtime".to_owned())?
        .block_on(future)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed_and_every_command_has_examples() {
        let command = super::Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            assert!(sub.get_about().is_some(), "{} says nothing about itself", sub.get_name());
            let examples = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.contains("Examples:"), "{} has no examples", sub.get_name());
        }
    }
}
