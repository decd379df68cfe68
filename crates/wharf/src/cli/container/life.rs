//! `wharf stop`, `kill`, `rm`, `restart`, `pause`, `unpause`, `wait`, `rename`.

use clap::Args;
use wharf_containers::{RemoveOptions, WaitFor};
use wharf_engine::Signal;

use super::{Named, for_each, refuse};
use crate::admin::client::Client;
use crate::admin::containers::{Call, Ended};
use crate::cli::DataDir;
use crate::failure::Result;
use crate::output;

/// Stop running containers
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf stop web\n  wharf stop -t 60 db")]
pub struct Stop {
    /// How long to wait before it is killed, in seconds; its own, or 10
    #[arg(long = "time", short = 't', alias = "timeout", value_name = "SECONDS")]
    time: Option<u32>,
    #[command(flatten)]
    named: Named,
}

pub fn stop(options: &Stop) -> Result<()> {
    let layout = options.named.data.layout()?;
    super::block_on(for_each(&layout, &options.named.containers, async |client, container| {
        let call = Call::Stop { container: container.to_owned(), grace_secs: options.time };
        client.call(&call).await
    }))
}

/// Stop containers and start them again
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf restart web")]
pub struct Restart {
    /// How long to wait before it is killed, in seconds
    #[arg(long = "time", short = 't', alias = "timeout", value_name = "SECONDS")]
    time: Option<u32>,
    #[command(flatten)]
    named: Named,
}

pub fn restart(options: &Restart) -> Result<()> {
    let layout = options.named.data.layout()?;
    super::block_on(for_each(&layout, &options.named.containers, async |client, container| {
        let call = Call::Restart { container: container.to_owned(), grace_secs: options.time };
        client.call(&call).await
    }))
}

/// Send a signal to running containers
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf kill web\n  wharf kill -s HUP nginx")]
pub struct Kill {
    /// The signal, by name or number
    #[arg(long, short, default_value = "KILL")]
    signal: String,
    #[command(flatten)]
    named: Named,
}

pub fn kill(options: &Kill) -> Result<()> {
    let layout = options.named.data.layout()?;
    let signal =
        Signal::parse(&options.signal).ok_or_else(|| refuse(format!("{:?} is no signal", options.signal)))?;
    super::block_on(for_each(&layout, &options.named.containers, async |client, container| {
        client.call(&Call::Kill { container: container.to_owned(), signal: signal.0 }).await
    }))
}

/// Remove containers
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf rm web\n  wharf rm -f $(wharf ps -aq)")]
pub struct Remove {
    /// Kill those that run
    #[arg(long, short)]
    force: bool,
    /// Remove their volumes without names, too
    #[arg(long, short)]
    volumes: bool,
    #[command(flatten)]
    named: Named,
}

pub fn remove(options: &Remove) -> Result<()> {
    let layout = options.named.data.layout()?;
    let how = RemoveOptions { force: options.force, volumes: options.volumes };
    super::block_on(for_each(&layout, &options.named.containers, async |client, container| {
        client.call(&Call::Remove { container: container.to_owned(), options: how }).await
    }))
}

/// Freeze all processes of containers
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf pause web")]
pub struct Pause {
    #[command(flatten)]
    named: Named,
}

pub fn pause(options: &Pause) -> Result<()> {
    let layout = options.named.data.layout()?;
    super::block_on(for_each(&layout, &options.named.containers, async |client, container| {
        client.call(&Call::Pause { container: container.to_owned() }).await
    }))
}

/// Let paused containers go on
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf unpause web")]
pub struct Unpause {
    #[command(flatten)]
    named: Named,
}

pub fn unpause(options: &Unpause) -> Result<()> {
    let layout = options.named.data.layout()?;
    super::block_on(for_each(&layout, &options.named.containers, async |client, container| {
        client.call(&Call::Unpause { container: container.to_owned() }).await
    }))
}

/// Wait until containers have ended, and print their exit codes
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf wait job")]
pub struct Wait {
    #[command(flatten)]
    named: Named,
}

pub fn wait(options: &Wait) -> Result<()> {
    let layout = options.named.data.layout()?;
    super::block_on(async {
        let client = Client::new(&layout);
        for container in &options.named.containers {
            let call = Call::Wait { container: container.clone(), until: WaitFor::NotRunning };
            let ended: Ended = client.call(&call).await?;
            // -1, as nobody learned it.
            output::line(ended.code.unwrap_or(-1).to_string());
        }
        Ok(())
    })
}

/// Give a container another name
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf rename web old-web")]
pub struct Rename {
    container: String,
    name: String,
    #[command(flatten)]
    data: DataDir,
}

pub fn rename(options: &Rename) -> Result<()> {
    let layout = options.data.layout()?;
    super::block_on(async {
        let call = Call::Rename { container: options.container.clone(), to: options.name.clone() };
        Client::new(&layout).call(&call).await
    })
}
