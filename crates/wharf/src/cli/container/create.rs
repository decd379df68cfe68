//! `wharf run`, `wharf create`, `wharf start`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use wharf_containers::config::{
    ContainerConfig, DeviceConfig, HealthConfig, Limits, MountConfig, Network, PortConfig, Restart, Size,
    Stdin, TmpfsConfig, Ulimit,
};
use wharf_containers::{Created, RemoveOptions};

use super::attached::{self, Manner, Outcome};
use super::terminal::{self, DetachKeys};
use super::{refuse, values};
use crate::admin::client::Client;
use crate::admin::containers::{Call, SessionCall};
use crate::cli::DataDir;
use crate::failure::{Failure, Result};
use crate::output;

/// What a container is: the options of `run` and `create`.
#[derive(Args)]
struct What {
    /// The image (NAME[:TAG] or NAME@DIGEST, as `wharf images` lists it), then a command in place of
    /// the image's, and its arguments
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true, value_names = ["IMAGE", "COMMAND"])]
    image: Vec<String>,
    /// Keep the input open
    #[arg(long, short)]
    interactive: bool,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// A name; without one it is made up
    #[arg(long)]
    name: Option<String>,
    /// An environment variable, NAME=VALUE, or NAME with the value that it has here
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// A file of environment variables, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// A volume: HOST-PATH:TARGET[:ro], NAME:TARGET[:ro], or TARGET for one without a name
    #[arg(long, short, value_parser = values::volume, value_name = "[SOURCE:]TARGET[:ro]")]
    volume: Vec<MountConfig>,
    /// A mount in key=value form: type=bind|volume|tmpfs,source=…,target=…[,readonly]
    #[arg(long, value_name = "KEY=VALUE,…")]
    mount: Vec<String>,
    /// A directory in memory: TARGET[:size=…,mode=…]
    #[arg(long, value_parser = values::tmpfs, value_name = "TARGET[:OPTIONS]")]
    tmpfs: Vec<TmpfsConfig>,
    /// Publish a port: [IP:][HOST:]CONTAINER[/udp]
    #[arg(long, short, value_name = "[IP:][HOST:]CONTAINER[/udp]")]
    publish: Vec<String>,
    /// A hard limit in CPUs, such as 1.5
    #[arg(long, value_parser = values::cpus)]
    cpus: Option<u32>,
    /// A share of the CPUs against others; 1024 is the usual one
    #[arg(long, short = 'c')]
    cpu_shares: Option<u32>,
    /// A hard limit on memory, such as 512m
    #[arg(long, short, value_parser = values::bytes)]
    memory: Option<u64>,
    /// What is kept for it under pressure
    #[arg(long, value_parser = values::bytes)]
    memory_reservation: Option<u64>,
    /// Memory and swap together
    #[arg(long, value_parser = values::bytes)]
    memory_swap: Option<u64>,
    /// How many processes and threads it may have
    #[arg(long)]
    pids_limit: Option<i64>,
    /// The size of /dev/shm
    #[arg(long, value_parser = values::bytes)]
    shm_size: Option<u64>,
    /// The user: NAME|UID[:GROUP|GID]
    #[arg(long, short)]
    user: Option<String>,
    /// One more group, by name or number
    #[arg(long)]
    group_add: Vec<String>,
    /// The working directory
    #[arg(long, short)]
    workdir: Option<String>,
    /// In place of the image's entrypoint; "" takes it away
    #[arg(long)]
    entrypoint: Option<String>,
    /// The host name that it sees
    #[arg(long, short = 'H')]
    hostname: Option<String>,
    /// Write nothing to its root
    #[arg(long)]
    read_only: bool,
    /// An init that reaps and forwards signals
    #[arg(long)]
    init: bool,
    /// Keep nothing of the host from it
    #[arg(long)]
    privileged: bool,
    /// Give a capability, such as NET_ADMIN
    #[arg(long)]
    cap_add: Vec<String>,
    /// Take a capability
    #[arg(long)]
    cap_drop: Vec<String>,
    /// no-new-privileges
    #[arg(long)]
    security_opt: Vec<String>,
    /// A device: SOURCE[:TARGET[:rwm]]
    #[arg(long, value_parser = values::device)]
    device: Vec<DeviceConfig>,
    /// A kernel parameter of its namespaces, NAME=VALUE
    #[arg(long, value_parser = values::label)]
    sysctl: Vec<(String, String)>,
    /// A resource limit, such as nofile=1024:2048
    #[arg(long, value_parser = values::ulimit)]
    ulimit: Vec<Ulimit>,
    /// no, always, unless-stopped, on-failure[:N]
    #[arg(long, value_parser = values::restart, default_value = "no")]
    restart: Restart,
    /// The signal that `stop` sends
    #[arg(long)]
    stop_signal: Option<String>,
    /// How long `stop` waits before it kills, in seconds
    #[arg(long)]
    stop_timeout: Option<u32>,
    /// A label, NAME[=VALUE]
    #[arg(long, short, value_parser = values::label)]
    label: Vec<(String, String)>,
    /// A command that tells its health, for the shell
    #[arg(long)]
    health_cmd: Option<String>,
    /// Between two checks, such as 30s
    #[arg(long, value_parser = values::duration_ms)]
    health_interval: Option<u64>,
    /// How long a check may take
    #[arg(long, value_parser = values::duration_ms)]
    health_timeout: Option<u64>,
    /// Failures in a row that make it unhealthy
    #[arg(long)]
    health_retries: Option<u32>,
    /// While failures do not count
    #[arg(long, value_parser = values::duration_ms)]
    health_start_period: Option<u64>,
    /// No health check
    #[arg(long)]
    no_healthcheck: bool,
    /// `default` (an address in the default VPC) or `none`
    #[arg(long, alias = "net", default_value = "default")]
    network: String,
    /// A line for /etc/hosts, NAME:ADDRESS
    #[arg(long, value_parser = values::extra_host)]
    add_host: Vec<(String, std::net::IpAddr)>,
    /// A name server
    #[arg(long)]
    dns: Vec<std::net::IpAddr>,
    /// A search domain
    #[arg(long)]
    dns_search: Vec<String>,
    /// Remove it once it has ended
    #[arg(long)]
    rm: bool,
    /// `never` is the only way here: images come with `wharf load`
    #[arg(long, hide = true)]
    pull: Option<String>,
}

impl What {
    fn config(&self, mode: Stdin) -> Result<ContainerConfig> {
        let bad = |message: String| refuse(message);
        let (image, command) = self.image.split_first().ok_or_else(|| refuse("the image is missing"))?;
        if image.starts_with('-') {
            return Err(
                refuse(format!("the option {image:?} is not known here")).hint("see `wharf run --help`")
            );
        }
        let mut mounts = self.volume.clone();
        let mut tmpfs = self.tmpfs.clone();
        for text in &self.mount {
            match values::mount(text).map_err(bad)? {
                Ok(mount) => mounts.push(mount),
                Err(memory) => tmpfs.push(memory),
            }
        }
        let mut ports: Vec<PortConfig> = Vec::new();
        for text in &self.publish {
            ports.extend(values::ports(text).map_err(bad)?);
        }
        let network = match self.network.as_str() {
            "default" | "bridge" => Network::Default,
            "none" => Network::None,
            other => return Err(refuse(format!("the network {other:?} is not known here: default or none"))),
        };
        if network == Network::None && !ports.is_empty() {
            return Err(refuse("a container without a network has no ports to publish"));
        }
        if !matches!(self.restart, Restart::No) && self.rm {
            return Err(refuse("--rm and --restart exclude each other"));
        }
        let mut no_new_privileges = false;
        for option in &self.security_opt {
            match option.as_str() {
                "no-new-privileges" | "no-new-privileges=true" | "no-new-privileges:true" => {
                    no_new_privileges = true;
                }
                other => return Err(refuse(format!("the security option {other:?} is not known here"))),
            }
        }
        if let Some(pull) = self.pull.as_deref().filter(|pull| *pull != "never") {
            return Err(refuse(format!("--pull {pull}: there is no registry to pull from"))
                .hint("`wharf load` puts an image in"));
        }
        let pids_max = match self.pids_limit {
            None | Some(0 | -1) => None,
            Some(limit) => Some(
                u32::try_from(limit).map_err(|_| refuse(format!("--pids-limit {limit} is out of range")))?,
            ),
        };
        Ok(ContainerConfig {
            image: image.clone(),
            entrypoint: self
                .entrypoint
                .as_ref()
                .map(|entrypoint| if entrypoint.is_empty() { Vec::new() } else { vec![entrypoint.clone()] }),
            command: command.to_vec(),
            env: self.environment()?,
            working_dir: self.workdir.clone(),
            user: self.user.clone(),
            groups: self.group_add.clone(),
            hostname: self.hostname.clone(),
            terminal: self.tty.then(|| terminal::size().unwrap_or(Size { rows: 24, columns: 80 })),
            stdin: if self.interactive { mode } else { Stdin::Null },
            labels: self.label.clone(),
            mounts,
            tmpfs,
            ports,
            limits: Limits {
                cpu_millis: self.cpus,
                cpu_shares: self.cpu_shares,
                memory_bytes: self.memory,
                memory_reservation_bytes: self.memory_reservation,
                memory_swap_bytes: self.memory_swap,
                pids_max,
                shm_bytes: self.shm_size,
            },
            read_only: self.read_only,
            init: self.init,
            privileged: self.privileged,
            no_new_privileges,
            capabilities_add: self.cap_add.clone(),
            capabilities_drop: self.cap_drop.clone(),
            devices: self.device.clone(),
            sysctls: self.sysctl.clone(),
            ulimits: self.ulimit.clone(),
            restart: self.restart,
            stop_signal: self.stop_signal.clone(),
            stop_timeout_secs: self.stop_timeout,
            health: self.health(),
            network,
            extra_hosts: self.add_host.clone(),
            name_servers: self.dns.clone(),
            search_domains: self.dns_search.clone(),
            auto_remove: self.rm,
        })
    }

    fn health(&self) -> Option<HealthConfig> {
        let command = self.health_cmd.as_ref().filter(|_| !self.no_healthcheck)?;
        Some(HealthConfig {
            test: vec!["CMD-SHELL".to_owned(), command.clone()],
            interval_ms: self.health_interval.unwrap_or(0),
            timeout_ms: self.health_timeout.unwrap_or(0),
            retries: self.health_retries.unwrap_or(0),
            start_period_ms: self.health_start_period.unwrap_or(0),
        })
    }

    fn environment(&self) -> Result<Vec<String>> {
        let mut variables = Vec::new();
        for path in &self.env_file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| refuse(format!("cannot read {}", path.display())).because(&error))?;
            let lines = text.lines().map(str::trim_start);
            variables
                .extend(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned));
        }
        variables.extend(self.env.iter().cloned());
        // A name alone stands for what it is here; what is not here is left out.
        Ok(variables
            .into_iter()
            .filter_map(|variable| {
                if variable.contains('=') {
                    return Some(variable);
                }
                std::env::var(&variable).ok().map(|value| format!("{variable}={value}"))
            })
            .collect())
    }
}

/// Run a container
#[derive(Args)]
#[command(
    long_about = "Run a container from an image in the store, as `docker run` does.\n\n\
                  Its exit code becomes this command's; 125 means that Wharf could not run it, 126 that the program is \
                  not executable, 127 that it is not found.",
    after_help = "Examples:\n  wharf run --rm -it busybox sh\n  wharf run -d --name web -p 8080:80 hello\n  \
                  echo hello | wharf run --rm -i busybox cat\n  wharf run --rm -v $PWD:/src:ro -w /src busybox ls"
)]
pub struct Run {
    #[command(flatten)]
    what: What,
    /// Leave it in the background and print its id
    #[arg(long, short)]
    detach: bool,
    /// The keys that leave it running
    #[arg(long, default_value = "ctrl-p,ctrl-q", value_parser = |text: &str| DetachKeys::parse(text).map(|_| text.to_owned()))]
    detach_keys: String,
    /// Pass the signals that this command gets on to the program
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    sig_proxy: bool,
    /// Write the container's id to a file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    #[command(flatten)]
    data: DataDir,
}

pub fn run(options: &Run) -> Result<ExitCode> {
    let layout = options.data.layout()?;
    super::block_on(async {
        let client = Client::new(&layout);
        let what = &options.what;
        if what.tty && what.interactive && !options.detach && !terminal::stdin_is_terminal() {
            return Err(terminal::no_terminal());
        }
        let mode = if options.detach { Stdin::Open } else { Stdin::Once };
        let config = Box::new(what.config(mode)?);
        let made: Created =
            client.call(&Call::Create { config, name: what.name.clone() }).await.map_err(as_refusal)?;
        if let Some(path) = &options.cidfile {
            std::fs::write(path, &made.id)
                .map_err(|error| refuse(format!("cannot write {}", path.display())).because(&error))?;
        }
        if options.detach {
            let started: Result<()> = client.call(&Call::Start { container: made.id.clone() }).await;
            if let Err(failure) = started {
                remove_if_wanted(&client, what, &made).await;
                return Err(as_refusal(failure));
            }
            output::line(&made.id);
            return Ok(ExitCode::SUCCESS);
        }
        let call = SessionCall::Start { container: made.id.clone(), stdin: what.interactive };
        let session = match client.session(&call).await {
            Ok(session) => session,
            Err(failure) => {
                remove_if_wanted(&client, what, &made).await;
                return Err(as_refusal(failure));
            }
        };
        let manner = Manner {
            stdin: what.interactive,
            terminal: what.tty,
            proxy_signals: options.sig_proxy,
            detach_keys: DetachKeys::parse(&options.detach_keys).map_err(refuse)?,
        };
        let outcome = attached::carry(session, manner).await?;
        if matches!(outcome, Outcome::Detached) {
            attached::say(&format!("\r\n{} runs on: `wharf attach {}` joins it again", made.name, made.name));
        } else if what.rm {
            // Whoever runs the next command finds it gone.
            let until = wharf_containers::WaitFor::Removed;
            let gone: Result<crate::admin::containers::Ended> =
                client.call(&Call::Wait { container: made.id.clone(), until }).await;
            // It is gone already.
            let _ = gone;
        }
        Ok(outcome.exit_code())
    })
}

/// A container that never ran and was to remove itself.
async fn remove_if_wanted(client: &Client<'_>, what: &What, made: &Created) {
    if what.rm {
        let options = RemoveOptions { force: true, volumes: true };
        let removed: Result<()> = client.call(&Call::Remove { container: made.id.clone(), options }).await;
        // It has removed itself.
        let _ = removed;
    }
}

/// What fails before anything runs exits with 125.
fn as_refusal(failure: Failure) -> Failure {
    match failure.exit_code() {
        Some(_) => failure,
        None => failure.exit(125),
    }
}

/// Make a container without starting it
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf create --name web -p 8080:80 hello\n  wharf start web")]
pub struct Create {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    data: DataDir,
}

pub fn create(options: &Create) -> Result<()> {
    let layout = options.data.layout()?;
    super::block_on(async {
        let config = Box::new(options.what.config(Stdin::Open)?);
        let name = options.what.name.clone();
        let made: Created = Client::new(&layout).call(&Call::Create { config, name }).await?;
        output::line(&made.id);
        Ok(())
    })
}

/// Start containers that were made or have ended
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf start web\n  wharf start -ai shell")]
pub struct Start {
    /// Join its streams, and end with its exit code
    #[arg(long, short)]
    attach: bool,
    /// Pass on what is typed
    #[arg(long, short)]
    interactive: bool,
    #[command(flatten)]
    named: super::Named,
}

pub fn start(options: &Start) -> Result<ExitCode> {
    let layout = options.named.data.layout()?;
    super::block_on(async {
        let names = &options.named.containers;
        if !options.attach && !options.interactive {
            let started = super::for_each(&layout, names, async |client, container| {
                client.call(&Call::Start { container: container.to_owned() }).await
            });
            return started.await.map(|()| ExitCode::SUCCESS);
        }
        let [container] = names.as_slice() else {
            return Err(refuse("only one container can be attached to"));
        };
        let client = Client::new(&layout);
        let details: crate::admin::containers::ContainerDetails =
            client.call(&Call::Inspect { container: container.clone() }).await?;
        let stdin = options.interactive && details.config.stdin != Stdin::Null;
        let session = client.session(&SessionCall::Start { container: container.clone(), stdin }).await?;
        let manner = Manner {
            stdin,
            terminal: details.config.terminal.is_some(),
            proxy_signals: true,
            detach_keys: DetachKeys::parse("ctrl-p,ctrl-q").map_err(refuse)?,
        };
        Ok(attached::carry(session, manner).await?.exit_code())
    })
}
