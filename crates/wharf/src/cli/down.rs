//! `wharf down`: stop what runs, leave nothing behind, keep the data.

use clap::Args;

use super::DataDir;
use crate::admin::client::Client;
use crate::admin::messages::Downed;
use crate::failure::Result;
use crate::{output, platform};

/// Stop every task and the server; the data stays
#[derive(Args)]
#[command(
    long_about = "Stop every task (SIGTERM, its grace, SIGKILL) and the server, and remove every namespace, mount, \
                  cgroup and interface. The data stays: the next `wharf up` finds images, task definitions and logs again.",
    after_help = "Examples:\n  wharf down\n  wharf down --data-dir ./data"
)]
pub struct Options {
    #[command(flatten)]
    data: DataDir,
}

pub fn run(options: &Options) -> Result<()> {
    let layout = options.data.layout()?;
    let downed: Downed = super::block_on(async {
        let client = Client::new(&layout);
        if client.is_running().await {
            let server = layout.read_server()?;
            let downed = client.post("/down").await?;
            platform::wait_until_gone(&server).await?;
            Ok(downed)
        } else {
            // A server that was killed leaves its tasks and its keeper running.
            platform::down_without_server(&layout).await
        }
    })?;
    if downed.removed_containers > 0 {
        output::note(format!(
            "{} containers run by hand were removed; named volumes stay",
            downed.removed_containers
        ));
    }
    output::note(match downed.stopped_tasks {
        0 => "Wharf is down".to_owned(),
        1 => "Wharf is down; 1 task was stopped".to_owned(),
        count => format!("Wharf is down; {count} tasks were stopped"),
    });
    Ok(())
}
