//! `wharf inspect`, `port`, `top`, `stats`, `events`; and the output of `wharf logs`.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use wharf_containers::event::{Action, ContainerEvent};
use wharf_containers::{LogLine, LogOptions};
use wharf_core::{Clock as _, SystemClock, Timestamp};
use wharf_engine::log::Stream;
use wharf_engine::session::Process;

use super::{Named, list, refuse};
use crate::admin::client::Client;
use crate::admin::containers::{Call, ContainerDetails, ContainerStats, Watch};
use crate::cli::DataDir;
use crate::failure::Result;
use crate::output;

/// Between two samples of `stats`.
const SAMPLE: Duration = Duration::from_secs(1);

/// Tell all about containers, as JSON
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf inspect web\n  wharf inspect --format '{{.State}}' web")]
pub struct Inspect {
    /// A text with {{.Name}}, {{.State}}, {{.Ports}} and their like
    #[arg(long, short)]
    format: Option<String>,
    #[command(flatten)]
    named: Named,
}

pub fn inspect(options: &Inspect) -> Result<()> {
    let layout = options.named.data.layout()?;
    super::block_on(async {
        let client = Client::new(&layout);
        let mut all = Vec::new();
        for container in &options.named.containers {
            let details: ContainerDetails =
                client.call(&Call::Inspect { container: container.clone() }).await?;
            match &options.format {
                Some(format) => list::print_formatted(&details, format)?,
                None => all.push(details),
            }
        }
        if options.format.is_none() {
            output::json(&all);
        }
        Ok(())
    })
}

/// List the published ports of a container
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf port web\n  wharf port web 80/tcp")]
pub struct Port {
    container: String,
    /// Only this one: PORT[/PROTOCOL]
    port: Option<String>,
    #[command(flatten)]
    data: DataDir,
}

pub fn port(options: &Port) -> Result<()> {
    let layout = options.data.layout()?;
    super::block_on(async {
        let call = Call::Inspect { container: options.container.clone() };
        let details: ContainerDetails = Client::new(&layout).call(&call).await?;
        let mut found = false;
        for port in &details.ports {
            let inside = format!("{}/{}", port.container_port, port.protocol.as_str());
            let outside = std::net::SocketAddr::new(port.address, port.host_port);
            match &options.port {
                None => output::line(format!("{inside} -> {outside}")),
                Some(wanted) if *wanted == inside || format!("{wanted}/tcp") == inside => {
                    found = true;
                    output::line(outside.to_string());
                }
                Some(_) => {}
            }
        }
        match &options.port {
            Some(wanted) if !found => {
                Err(refuse(format!("no public port {wanted} published for {}", details.name)))
            }
            _ => Ok(()),
        }
    })
}

/// List the processes of a container
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf top web")]
pub struct Top {
    container: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataDir,
}

pub fn top(options: &Top) -> Result<()> {
    let layout = options.data.layout()?;
    super::block_on(async {
        let call = Call::Top { container: options.container.clone() };
        let processes: Vec<Process> = Client::new(&layout).call(&call).await?;
        if options.json {
            output::json(&processes);
            return Ok(());
        }
        let rows: Vec<Vec<String>> = processes
            .iter()
            .map(|process| {
                let seconds = process.cpu.as_secs();
                vec![
                    process.uid.to_string(),
                    process.pid.to_string(),
                    process.parent_pid.to_string(),
                    process.state.to_string(),
                    process.terminal.clone().unwrap_or_else(|| "?".to_owned()),
                    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
                    output::bytes(process.resident_bytes),
                    process.command.join(" "),
                ]
            })
            .collect();
        output::table(&["UID", "PID", "PPID", "S", "TTY", "TIME", "RSS", "COMMAND"], &rows);
        Ok(())
    })
}

/// Show what containers use
#[derive(Args)]
#[command(
    after_help = "Examples:\n  wharf stats\n  wharf stats --no-stream web db\n  wharf stats --no-stream --json"
)]
pub struct Stats {
    /// Names, ids, or beginnings of ids; all that run when none is given
    containers: Vec<String>,
    /// Show it once
    #[arg(long)]
    no_stream: bool,
    /// Print one JSON array a sample
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataDir,
}

pub fn stats(options: &Stats) -> Result<()> {
    let layout = options.data.layout()?;
    super::block_on(async {
        let client = Client::new(&layout);
        let call = Call::Stats { containers: options.containers.clone() };
        let mut before: Vec<ContainerStats> = client.call(&call).await?;
        loop {
            // CPU is what was used between two looks.
            tokio::time::sleep(SAMPLE).await;
            let now: Vec<ContainerStats> = client.call(&call).await?;
            if options.json {
                output::json_line(&now);
            } else {
                if !options.no_stream {
                    let _ = write!(anstream::stdout().lock(), "\x1b[H\x1b[2J");
                }
                print_stats(&before, &now);
            }
            if options.no_stream {
                return Ok(());
            }
            before = now;
        }
    })
}

fn print_stats(before: &[ContainerStats], now: &[ContainerStats]) {
    let rows: Vec<Vec<String>> = now
        .iter()
        .map(|sample| {
            let earlier = before.iter().find(|earlier| earlier.id == sample.id);
            let cpu = earlier.map_or(0.0, |earlier| {
                let used = sample.stats.cpu.total_nanos.saturating_sub(earlier.stats.cpu.total_nanos);
                let passed = (sample.at_ms - earlier.at_ms).max(1) as f64 * 1e6;
                used as f64 / passed * 100.0
            });
            let memory = &sample.stats.memory;
            let used = memory.bytes.saturating_sub(memory.inactive_file_bytes);
            let limit = memory.limit_bytes.map_or_else(|| "-".to_owned(), output::bytes);
            let share = memory.limit_bytes.filter(|limit| *limit > 0).map_or_else(
                || "-".to_owned(),
                |limit| format!("{:.2}%", used as f64 / limit as f64 * 100.0),
            );
            let (network, block) = (&sample.stats.network, &sample.stats.block);
            vec![
                sample.id.chars().take(12).collect(),
                sample.name.clone(),
                format!("{cpu:.2}%"),
                format!("{} / {limit}", output::bytes(used)),
                share,
                format!("{} / {}", output::bytes(network.received_bytes), output::bytes(network.sent_bytes)),
                format!("{} / {}", output::bytes(block.read_bytes), output::bytes(block.write_bytes)),
                sample.stats.pids.to_string(),
            ]
        })
        .collect();
    let header =
        ["CONTAINER", "NAME", "CPU", "MEMORY / LIMIT", "MEMORY %", "NET IN / OUT", "BLOCK IN / OUT", "PIDS"];
    output::table(&header, &rows);
}

/// Show what happens to containers, as it happens
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf events\n  wharf events --json")]
pub struct Events {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataDir,
}

pub fn events(options: &Events) -> Result<()> {
    let layout = options.data.layout()?;
    super::block_on(async {
        let mut lines = Client::new(&layout).watch(&Watch::Events).await?;
        while let Some(event) = lines.next::<ContainerEvent>().await? {
            if options.json {
                output::json_line(&event);
                continue;
            }
            let more = match &event.action {
                Action::Die { code } => {
                    format!(", exitCode={}", code.map_or_else(|| "?".to_owned(), |code| code.to_string()))
                }
                Action::Kill { signal } => format!(", signal={signal}"),
                Action::Rename { from } => format!(", oldName={from}"),
                Action::Health { status } => format!(", status={status}"),
                Action::ExecStart { command } => format!(", command={command}"),
                _ => String::new(),
            };
            let action = event.action.as_str();
            output::line(format!(
                "{} container {action} {} (image={}, name={}{more})",
                event.at.to_iso8601(),
                event.id,
                event.image,
                event.name
            ));
        }
        Ok(())
    })
}

/// How `wharf logs` shows a container's output.
pub struct LogView {
    pub follow: bool,
    pub tail: Option<usize>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub timestamps: bool,
    pub json: bool,
}

pub async fn logs(client: &Client<'_>, container: &str, view: &LogView) -> Result<()> {
    let options = LogOptions { follow: view.follow, tail: view.tail, since: view.since, until: view.until };
    let mut lines = client.watch(&Watch::Logs { container: container.to_owned(), options }).await?;
    // Whether the last piece of each stream left its line open.
    let mut open = [false; 2];
    while let Some(line) = lines.next::<LogLine>().await? {
        if view.json {
            output::json_line(&serde_json::json!({
                "container": container,
                "timestamp": line.unix_nanos / 1_000_000,
                "stream": if line.stream == Stream::Stdout { "stdout" } else { "stderr" },
                "message": String::from_utf8_lossy(&line.text),
            }));
            continue;
        }
        let mut bytes = Vec::with_capacity(line.text.len() + 32);
        let index = usize::from(line.stream == Stream::Stderr);
        if view.timestamps && !open[index] {
            let at = Timestamp::from_millis(i64::try_from(line.unix_nanos / 1_000_000).unwrap_or(0));
            bytes.extend(at.to_iso8601().into_bytes());
            bytes.push(b' ');
        }
        bytes.extend(&line.text);
        if !line.partial {
            bytes.push(b'\n');
        }
        open[index] = line.partial;
        // Whoever reads may have gone away.
        let written = match line.stream {
            Stream::Stdout => {
                std::io::stdout().lock().write_all(&bytes).and_then(|()| std::io::stdout().flush())
            }
            Stream::Stderr => std::io::stderr().lock().write_all(&bytes),
        };
        if written.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Now, for times that are said as ages.
pub fn now() -> Timestamp {
    SystemClock.now()
}
