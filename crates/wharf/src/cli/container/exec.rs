//! `wharf exec` and `wharf attach`.

use std::process::ExitCode;

use clap::Args;
use wharf_containers::config::Stdin;
use wharf_engine::session::{ExecSpec, SessionStdin, TerminalSize};

use super::attached::{self, Manner, Outcome};
use super::refuse;
use super::terminal::{self, DetachKeys};
use crate::admin::client::Client;
use crate::admin::containers::{Call, ContainerDetails, SessionCall};
use crate::cli::DataDir;
use crate::failure::Result;

/// Run a command in a running container
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf exec -it web sh\n  wharf exec -u 1000 -w /tmp web id\n  \
                        cat dump.sql | wharf exec -i db psql")]
pub struct Exec {
    /// The container (its name, its id, or the beginning of its id), then the command and its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, allow_hyphen_values = true, value_names = ["CONTAINER", "COMMAND"])]
    command: Vec<String>,
    /// Pass on what is typed
    #[arg(long, short)]
    interactive: bool,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// Do not wait for it; it ends with the server
    #[arg(long, short)]
    detach: bool,
    /// An environment variable, NAME=VALUE
    #[arg(long, short)]
    env: Vec<String>,
    /// The user: NAME|UID[:GROUP|GID]
    #[arg(long, short)]
    user: Option<String>,
    /// The working directory
    #[arg(long, short)]
    workdir: Option<String>,
    /// The keys that leave it (and end it)
    #[arg(long, default_value = "ctrl-p,ctrl-q", value_parser = |text: &str| DetachKeys::parse(text).map(|_| text.to_owned()))]
    detach_keys: String,
    #[command(flatten)]
    data: DataDir,
}

pub fn exec(options: &Exec) -> Result<ExitCode> {
    let layout = options.data.layout()?;
    let (container, command) =
        options.command.split_first().ok_or_else(|| refuse("the container is missing"))?;
    if container.starts_with('-') {
        return Err(
            refuse(format!("the option {container:?} is not known here")).hint("see `wharf exec --help`")
        );
    }
    if options.detach {
        return Err(refuse("a command in the background is not done here")
            .hint("run it in the container's own shell: `wharf exec NAME sh -c 'COMMAND &'`"));
    }
    super::block_on(async {
        if options.tty && options.interactive && !terminal::stdin_is_terminal() {
            return Err(terminal::no_terminal());
        }
        let size = options.tty.then(|| {
            terminal::size().map_or_else(TerminalSize::default, |size| TerminalSize {
                rows: size.rows,
                columns: size.columns,
            })
        });
        let spec = ExecSpec {
            env: options.env.clone(),
            working_dir: options.workdir.clone(),
            user: options.user.clone(),
            terminal: size,
            stdin: if options.interactive { SessionStdin::Open } else { SessionStdin::Closed },
            ..ExecSpec::new(command.to_vec())
        };
        let call = SessionCall::Exec { container: container.clone(), spec };
        let session = Client::new(&layout).session(&call).await?;
        let manner = Manner {
            stdin: options.interactive,
            terminal: options.tty,
            proxy_signals: false,
            detach_keys: DetachKeys::parse(&options.detach_keys).map_err(refuse)?,
        };
        Ok(attached::carry(session, manner).await?.exit_code())
    })
}

/// Join the streams of a running container
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf attach shell\n  wharf attach --no-stdin web\n\n\
                        Ctrl-P Ctrl-Q leaves it running.")]
pub struct Attach {
    /// The container: its name, its id, or the beginning of its id
    container: String,
    /// Do not pass on what is typed
    #[arg(long)]
    no_stdin: bool,
    /// Pass the signals that this command gets on to the program
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    sig_proxy: bool,
    /// The keys that leave it running
    #[arg(long, default_value = "ctrl-p,ctrl-q", value_parser = |text: &str| DetachKeys::parse(text).map(|_| text.to_owned()))]
    detach_keys: String,
    #[command(flatten)]
    data: DataDir,
}

pub fn attach(options: &Attach) -> Result<ExitCode> {
    let layout = options.data.layout()?;
    super::block_on(async {
        let client = Client::new(&layout);
        let details: ContainerDetails =
            client.call(&Call::Inspect { container: options.container.clone() }).await?;
        let stdin = !options.no_stdin && details.config.stdin != Stdin::Null;
        let call = SessionCall::Attach { container: options.container.clone(), stdin };
        let session = client.session(&call).await?;
        let manner = Manner {
            stdin,
            terminal: details.config.terminal.is_some(),
            proxy_signals: options.sig_proxy,
            detach_keys: DetachKeys::parse(&options.detach_keys).map_err(refuse)?,
        };
        let outcome = attached::carry(session, manner).await?;
        if matches!(outcome, Outcome::Detached) {
            attached::say(&format!("\r\n{} runs on", details.name));
        }
        Ok(outcome.exit_code())
    })
}
