//! `wharf up`: start the server and say how to reach it.

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::process::Stdio;

use clap::Args;
use wharf_core::{AccountId, Region};

use super::DataDir;
use crate::credentials::AuthMode;
use crate::failure::{Context as _, Failure, Result};
use crate::layout::{Layout, ServerFile};
use crate::{output, platform};

/// Start the server
#[derive(Args, Clone)]
#[command(
    long_about = "Start the server, in the foreground or with --detach in the background.\n\n\
                  Tasks outlive the server: when it is interrupted or killed they run on, and the next `wharf up` takes \
                  them up again. `wharf down` stops them.",
    after_help = "Examples:\n  sudo wharf up\n  sudo wharf up --detach && eval \"$(sudo wharf env)\"\n  \
                  sudo wharf up --listen 127.0.0.1:0 --data-dir ./data --allow-reset --auth any   # for a test suite"
)]
pub struct Options {
    /// The address to listen on; port 0 takes any free port
    #[arg(long, default_value = "127.0.0.1:4566", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    #[command(flatten)]
    data: DataDir,
    /// The account that the key `test` belongs to
    #[arg(long, default_value = "000000000000", value_name = "12 DIGITS")]
    pub account: AccountId,
    /// The region that `wharf env` gives
    #[arg(long, default_value = "us-east-1")]
    pub region: Region,
    /// How to treat access keys that are not known
    #[arg(long, value_enum, default_value = "verify")]
    pub auth: AuthMode,
    /// Let POST /_wharf/reset empty all state and stop all tasks
    #[arg(long)]
    pub allow_reset: bool,
    /// Listen beyond loopback although everybody knows the built-in key `test`
    #[arg(long)]
    pub allow_default_credentials: bool,
    /// Return once the server is ready, and leave it in the background
    #[arg(long, short)]
    detach: bool,
    /// When ready, print one line of JSON
    #[arg(long)]
    json: bool,
    /// This process is the one that `--detach` leaves in the background
    #[arg(long, hide = true)]
    background: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let layout = options.data.layout()?;
    check(options)?;
    if options.detach {
        let server = detach(options, &layout)?;
        announce(options, &server);
        return Ok(());
    }
    if options.background {
        // Out of the terminal's session: its end must not be ours.
        let _ = rustix::process::setsid();
    }
    platform::serve(options, &layout, |server| announce(options, server))
}

/// Refusals that need no look at the machine.
fn check(options: &Options) -> Result<()> {
    let loopback = options.listen.ip().is_loopback();
    if !loopback && options.auth == AuthMode::Any {
        return Err(Failure::new(format!(
            "`--auth any` lets everybody in, and {} is not a loopback address",
            options.listen.ip()
        ))
        .hint("listen on 127.0.0.1, or leave `--auth any` out"));
    }
    if !loopback && !options.allow_default_credentials {
        return Err(Failure::new(format!(
            "{} can be reached by others, and everybody knows the built-in key `test`",
            options.listen.ip()
        ))
        .hint("listen on 127.0.0.1, or say `--allow-default-credentials` when the network is your own"));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(
            Failure::new("Wharf runs containers itself, and that needs root").hint("run it with sudo")
        );
    }
    Ok(())
}

fn announce(options: &Options, server: &ServerFile) {
    if options.json {
        output::json_line(server);
        return;
    }
    output::note(format!("Wharf {} is ready", env!("CARGO_PKG_VERSION")));
    for (name, value) in [
        ("endpoint", server.endpoint.as_str()),
        ("access key", server.access_key_id.as_str()),
        ("secret key", server.secret_access_key.as_str()),
        ("region", server.region.as_str()),
        ("data", &server.data_dir.to_string_lossy()),
    ] {
        output::line(format!("  {name:<12}{value}"));
    }
    output::note("Point the AWS CLI at it:  eval \"$(wharf env)\"");
}

/// Starts this program again in the background, and waits for its line of readiness.
fn detach(options: &Options, layout: &Layout) -> Result<ServerFile> {
    layout.create()?;
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(layout.log())
        .context(|| format!("cannot open {}", layout.log().display()))?;
    let program = std::env::current_exe().context(|| "cannot find this program".to_owned())?;
    let mut command = std::process::Command::new(program);
    command
        .args(["up", "--background", "--json"])
        .args(["--listen", &options.listen.to_string()])
        .args(["--account", &options.account.to_string()])
        .args(["--region", options.region.as_str()])
        .arg("--data-dir")
        .arg(layout.root())
        .args(["--auth", if options.auth == AuthMode::Any { "any" } else { "verify" }])
        .args(options.allow_reset.then_some("--allow-reset"))
        .args(options.allow_default_credentials.then_some("--allow-default-credentials"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    let start = std::fs::metadata(layout.log()).map_or(0, |metadata| metadata.len());
    let mut child = command.spawn().context(|| "cannot start the server".to_owned())?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        std::io::BufReader::new(stdout)
            .read_line(&mut line)
            .context(|| "cannot read from the server".to_owned())?;
    }
    if line.is_empty() {
        let _ = child.wait();
        return Err(said(layout, start));
    }
    serde_json::from_str(&line).context(|| "the server's line of readiness is not understood".to_owned())
}

/// Turns what a server that did not start wrote into this command's failure.
fn said(layout: &Layout, start: u64) -> Failure {
    let text = std::fs::read(layout.log()).unwrap_or_default();
    let text = String::from_utf8_lossy(text.get(usize::try_from(start).unwrap_or(0)..).unwrap_or_default())
        .into_owned();
    let find = |prefix: &str| text.lines().rev().find_map(|line| line.strip_prefix(prefix)).map(str::trim);
    match (find("error:"), find("hint:")) {
        (Some(error), Some(hint)) => Failure::new(error).hint(hint),
        (Some(error), None) => Failure::new(error),
        _ => Failure::new("the server did not start").hint(format!("see {}", layout.log().display())),
    }
}
