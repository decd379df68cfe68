//! `wharf ps`: the tasks of all accounts and regions.

use clap::Args;

use super::DataDir;
use crate::admin::client::Client;
use crate::admin::messages::TaskSummary;
use crate::failure::Result;
use crate::output;

/// List the tasks of all accounts and regions
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf ps\n  wharf ps --all\n  wharf ps --json")]
pub struct Options {
    #[command(flatten)]
    data: DataDir,
    /// Show stopped tasks too
    #[arg(long, short)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let layout = options.data.layout()?;
    let mut tasks: Vec<TaskSummary> = super::block_on(async { Client::new(&layout).get("/tasks").await })?;
    tasks.retain(|task| options.all || task.last_status != "STOPPED");
    if options.json {
        output::json(&tasks);
        return Ok(());
    }
    let rows: Vec<_> = tasks
        .iter()
        .map(|task| {
            let containers: Vec<_> = task
                .containers
                .iter()
                .map(|container| format!("{} {}", container.name, container.last_status))
                .collect();
            vec![
                task.arn.rsplit('/').next().unwrap_or_default().chars().take(12).collect(),
                task.task_definition.clone(),
                task.last_status.clone(),
                task.address.clone().unwrap_or_else(|| "-".to_owned()),
                containers.join(", "),
                task.stopped_reason.clone().unwrap_or_default(),
            ]
        })
        .collect();
    output::table(&["TASK", "DEFINITION", "STATUS", "ADDRESS", "CONTAINERS", "REASON"], &rows);
    Ok(())
}
