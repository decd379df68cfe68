//! Containers run by hand: the commands that Docker users know, one module a subject.

pub mod attached;
pub mod copy;
pub mod create;
pub mod exec;
pub mod life;
pub mod list;
pub mod terminal;
pub mod values;
pub mod view;

use std::process::ExitCode;

use clap::Args;

use super::DataDir;
use crate::admin::client::Client;
use crate::failure::{Context as _, Failure, Result};
use crate::layout::Layout;
use crate::output;

/// The containers that a command is for.
#[derive(Args)]
pub struct Named {
    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
    #[command(flatten)]
    pub data: DataDir,
}

/// As [`super::block_on`], for what may wait for somebody to type: that wait ends with the process.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(|| "cannot start the async runtime".to_owned())?;
    let outcome = runtime.block_on(future);
    runtime.shutdown_background();
    outcome
}

/// An exit code as a process has it; `None`, which nobody learned, is 125 as for `docker run`.
pub fn exit_code(code: Option<i32>) -> ExitCode {
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(125))
}

/// Does something for each, prints the names for which it was done, and fails if it failed for any.
pub async fn for_each(
    layout: &Layout,
    containers: &[String],
    work: impl AsyncFn(&Client<'_>, &str) -> Result<()>,
) -> Result<()> {
    let client = Client::new(layout);
    let mut failed = None;
    for container in containers {
        match work(&client, container).await {
            Ok(()) => output::line(container),
            Err(failure) => {
                if let Some(earlier) = failed.replace(failure) {
                    output::failure(&earlier);
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Docker's code for what failed before anything ran.
pub fn refuse(message: impl Into<String>) -> Failure {
    Failure::new(message).exit(125)
}
