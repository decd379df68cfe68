//! `wharf status`: is the server there, and is it well?

use clap::Args;

use super::DataDir;
use crate::admin::client::Client;
use crate::admin::messages::Status;
use crate::failure::Result;
use crate::output;

/// Show whether the server runs, and how it is
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf status\n  wharf status --json")]
pub struct Options {
    #[command(flatten)]
    data: DataDir,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let layout = options.data.layout()?;
    let status: Status = super::block_on(async { Client::new(&layout).get("/status").await })?;
    if options.json {
        output::json(&status);
        return Ok(());
    }
    output::line(format!("Wharf {} is running since {}", status.version, status.started_at));
    let keeper = status.keeper_pid.map_or_else(|| "none".to_owned(), |pid| pid.to_string());
    for (name, value) in [
        ("endpoint", status.endpoint),
        ("data", status.data_dir),
        ("account", format!("{}, {}", status.account, status.region)),
        ("auth", status.auth),
        ("process", format!("{}, keeper {keeper}", status.pid)),
        ("services", status.services.join(" ")),
        ("tasks", format!("{} running, {} pending", status.running_tasks, status.pending_tasks)),
    ] {
        output::line(format!("  {name:<10}{value}"));
    }
    for reconciler in status.reconcilers {
        output::line(format!(
            "  {:<10}{} queued, {} running, {} runs",
            reconciler.name, reconciler.queued, reconciler.running, reconciler.runs
        ));
        for (key, error) in reconciler.failing {
            output::line(format!("    {key}: {error}"));
        }
    }
    for warning in status.warnings {
        output::note(format!("warning: {warning}"));
    }
    Ok(())
}
