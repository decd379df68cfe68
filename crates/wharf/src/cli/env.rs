//! `wharf env`: what a shell needs to reach the server.

use clap::Args;

use super::DataDir;
use crate::admin::client::Client;
use crate::failure::Result;
use crate::layout::not_running;
use crate::output;

/// Print the environment that points the AWS CLI and the SDKs at the server
#[derive(Args)]
#[command(after_help = "Examples:\n  eval \"$(wharf env)\"\n  wharf env --json")]
pub struct Options {
    #[command(flatten)]
    data: DataDir,
    /// Print a JSON object instead of `export` lines
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let layout = options.data.layout()?;
    let server = layout.read_server()?;
    if !super::block_on(async { Ok(Client::new(&layout).is_running().await) })? {
        return Err(not_running(&layout));
    }
    let variables = [
        ("AWS_ENDPOINT_URL", &server.endpoint),
        ("AWS_ACCESS_KEY_ID", &server.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", &server.secret_access_key),
        ("AWS_DEFAULT_REGION", &server.region),
        ("AWS_REGION", &server.region),
    ];
    if options.json {
        output::json(&variables.into_iter().collect::<std::collections::BTreeMap<_, _>>());
    } else {
        for (name, value) in variables {
            output::line(format!("export {name}='{value}'"));
        }
        // A session token of real credentials would be sent along, and refused.
        output::line("unset AWS_SESSION_TOKEN AWS_PROFILE");
    }
    Ok(())
}
