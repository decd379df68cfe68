//! `wharf ps`: the tasks of all accounts and regions, and the containers run by hand.

use clap::Args;

use super::DataDir;
use super::container::list;
use crate::admin::client::Client;
use crate::admin::containers::{Call, ContainerDetails};
use crate::admin::messages::TaskSummary;
use crate::failure::Result;
use crate::output;

/// List the tasks of all accounts and regions, and the containers run by hand
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf ps\n  wharf ps --all\n  wharf ps -q --filter status=exited\n  \
                        wharf ps --format '{{.Names}}: {{.Status}}'\n  wharf ps --json               # the tasks")]
pub struct Options {
    #[command(flatten)]
    data: DataDir,
    /// Show what has stopped too
    #[arg(long, short)]
    all: bool,
    /// Print the tasks as JSON
    #[arg(long, conflicts_with_all = ["quiet", "filter", "format"])]
    json: bool,
    /// Print the ids of containers run by hand alone
    #[arg(long, short)]
    quiet: bool,
    /// Only these containers: name, id, status, ancestor, label, health or exited, as KEY=VALUE
    #[arg(long, short, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print containers so: `json`, or a text with {{.ID}}, {{.Names}}, {{.Image}}, {{.Status}}, {{.Ports}}, …
    #[arg(long)]
    format: Option<String>,
}

pub fn run(options: &Options) -> Result<()> {
    let layout = options.data.layout()?;
    let containers: Vec<ContainerDetails> =
        super::block_on(async { Client::new(&layout).call(&Call::List).await })?;
    let asks_for_state =
        options.filter.iter().any(|filter| filter.starts_with("status=") || filter.starts_with("exited="));
    let mut shown = Vec::new();
    for container in &containers {
        let lives = matches!(container.state.as_str(), "running" | "paused" | "restarting");
        if (options.all || asks_for_state || lives) && list::matches(container, &options.filter)? {
            shown.push(container);
        }
    }
    if options.quiet {
        shown.iter().for_each(|container| output::line(container.id.get(..12).unwrap_or(&container.id)));
        return Ok(());
    }
    if let Some(format) = &options.format {
        return shown.iter().try_for_each(|container| list::print_formatted(container, format));
    }
    if !options.filter.is_empty() {
        list::print_table(&shown);
        return Ok(());
    }
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
    if !rows.is_empty() || shown.is_empty() {
        output::table(&["TASK", "DEFINITION", "STATUS", "ADDRESS", "CONTAINERS", "REASON"], &rows);
    }
    if !shown.is_empty() {
        if !rows.is_empty() {
            output::line("");
        }
        list::print_table(&shown);
    }
    Ok(())
}
