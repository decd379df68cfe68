//! The running server: every part opened in order, wired, asked, and taken down.
//!
//! Order of opening: the listening socket (a port that is taken is told before anything is touched),
//! the state (its lock keeps a second server out), images, network, keeper, services; then what runs
//! is taken over, and only then is the server announced.

use std::ffi::OsString;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Response};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use wharf_containers::Containers;
use wharf_core::{AccountId, Clock, Region, Rng, Scope, SystemClock, SystemRng, Timestamp};
use wharf_engine_keeper::{KeeperConfig, KeeperEngine};
use wharf_image::{ImageStore, Limits, LoadOptions};
use wharf_network::DataPlane;
use wharf_network::linux::{InstanceId, NetlinkPlane, PlaneConfig, PoolSize};
use wharf_state::{DirectoryError, FjallJournal, Store};
use wharf_vault::Vault;
use wharf_wire::{Exposure, Metrics, Pipeline, PipelineParts, Server};

use crate::admin;
use crate::admin::messages::{ContainerSummary, Downed, ImageSummary, Reconciler, Status, TaskSummary};
use crate::cli::up::Options;
use crate::container_network::DefaultVpc;
use crate::credentials::{ACCESS_KEY_ID, AuthMode, CredentialChain, SECRET_ACCESS_KEY};
use crate::failure::{Context as _, Failure, Result};
use crate::layout::{Layout, ServerFile};
use crate::services::{self, Parts, Services};
use crate::uses::UseObserver;
use crate::vault;
use crate::vpc_endpoint::TaskEndpoints;

/// How long `down` waits for tasks to stop: the longest grace that Fargate allows, and some more.
const STOP_DEADLINE: Duration = Duration::from_secs(130);
/// How long requests under way may take when the server ends.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// How long a client of `down` waits for the process to be gone.
const EXIT_DEADLINE_SECS: i64 = 30;
const WORKERS_MAX: usize = 4;
/// As many as a resolver reads (resolv.conf(5)).
const NAME_SERVERS_MAX: usize = 3;

/// Everything below the front door.
pub struct Platform {
    layout: Layout,
    store: Store,
    vault: Vault,
    images: ImageStore,
    engine: Arc<KeeperEngine>,
    data_plane: Arc<dyn DataPlane>,
    endpoints: Arc<TaskEndpoints>,
    services: Services,
    /// Those run by hand.
    pub containers: Containers,
    facts: Facts,
    /// Told when `down` has taken everything down.
    downed: Notify,
}

/// What does not change while the server runs.
struct Facts {
    endpoint: String,
    /// The account and region that `wharf env` gives.
    home: Scope,
    auth: AuthMode,
    started_at: Timestamp,
    warnings: Vec<String>,
}

/// Runs the server until it is interrupted or taken down.
pub fn serve(options: &Options, layout: &Layout, announce: impl FnOnce(&ServerFile)) -> Result<()> {
    start_log();
    let listener = listen(options.listen)?;
    runtime()?.block_on(async {
        let platform = Platform::open(options, layout, &listener).await?;
        let outcome = platform.serve(options, listener, announce).await;
        layout.remove_server();
        outcome
    })
}

/// Takes down what a server that is dead has left.
pub async fn down_without_server(layout: &Layout) -> Result<Downed> {
    if !layout.exists() {
        return Err(crate::layout::not_running(layout));
    }
    let facts = Facts {
        endpoint: String::new(),
        home: Scope { account: AccountId::DEFAULT, region: Region::default() },
        auth: AuthMode::Verify,
        started_at: SystemClock.now(),
        warnings: Vec::new(),
    };
    let platform = Platform::open_parts(layout, facts).await?;
    let downed = platform.down().await;
    layout.remove_server();
    downed
}

/// Waits until the server process has ended.
pub async fn wait_until_gone(server: &ServerFile) -> Result<()> {
    let Some(pid) = i32::try_from(server.pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return Ok(());
    };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK) else {
        return Ok(());
    };
    let wait = move || {
        let mut polled = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        let deadline = rustix::event::Timespec { tv_sec: EXIT_DEADLINE_SECS, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&deadline))
    };
    match tokio::task::spawn_blocking(wait).await {
        Ok(Ok(0)) => Err(Failure::new(format!("the server (pid {}) does not end", server.pid))),
        _ => Ok(()),
    }
}

/// Serves as the keeper, until it is told to end.
pub fn run_keeper(arguments: &[OsString]) -> ExitCode {
    wharf_engine_keeper::main_from_args(arguments.iter().cloned())
}

fn start_log() {
    use std::io::IsTerminal as _;
    let filter = tracing_subscriber::EnvFilter::try_from_env("WHARF_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,wharf=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // A log on a full disk is lost; telling so on the same full disk would end the process.
        .log_internal_errors(false)
        .init();
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| {
        let failure = Failure::new(format!("cannot listen on {address}")).because(&error);
        match error.kind() {
            std::io::ErrorKind::AddrInUse => failure.hint(
                "something else listens there, perhaps another Wharf: `wharf status` tells; or choose another port with `--listen`",
            ),
            std::io::ErrorKind::PermissionDenied => failure.hint("ports below 1024 need root"),
            std::io::ErrorKind::AddrNotAvailable => failure.hint("this machine has no such address"),
            _ => failure,
        }
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(WORKERS_MAX))
        .enable_all()
        .build()
        .context(|| "cannot start the async runtime".to_owned())
}

impl Platform {
    async fn open(options: &Options, layout: &Layout, listener: &TcpListener) -> Result<Arc<Self>> {
        let address = listener.local_addr().context(|| "cannot tell the listening address".to_owned())?;
        let mut warnings = Vec::new();
        if !address.ip().is_loopback() {
            warnings.push(format!(
                "{address} can be reached by others, and everybody knows the built-in key `test`"
            ));
        }
        if options.auth == AuthMode::Any {
            warnings.push("unknown access keys are taken for the root of the default account".to_owned());
        }
        let host = if address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { host_of(address) };
        let facts = Facts {
            endpoint: format!("http://{host}:{}", address.port()),
            home: Scope { account: options.account, region: options.region.clone() },
            auth: options.auth,
            started_at: SystemClock.now(),
            warnings,
        };
        layout.create()?;
        Self::open_parts(layout, facts).await
    }

    async fn open_parts(layout: &Layout, facts: Facts) -> Result<Arc<Self>> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let rng: Arc<dyn Rng> = Arc::new(SystemRng::new());
        let store = open_store(layout)?;
        let vault = vault::open(layout, &store, Arc::clone(&rng)).await?;
        let images = ImageStore::open(&layout.images(), Arc::clone(&clock), Limits::default())
            .context(|| format!("cannot open the image store {}", layout.images().display()))?;
        let engine = start_engine(layout).await?;
        let data_plane: Arc<dyn DataPlane> = Arc::new(open_network(layout, &*rng)?);
        let endpoints = TaskEndpoints::new(Arc::clone(&data_plane));
        let services = Services::new(Parts {
            store: store.clone(),
            vault: vault.clone(),
            engine: engine.clone(),
            images: Arc::new(images.clone()),
            data_plane: data_plane.clone(),
            endpoints: Arc::clone(&endpoints),
            name_servers: name_servers(),
            clock: Arc::clone(&clock),
            rng: Arc::clone(&rng),
            default_account: facts.home.account,
        });
        services.start(&facts.home).await?;
        let containers = Containers::new(wharf_containers::Dependencies {
            store: store.clone(),
            engine: engine.clone(),
            images: Arc::new(images.clone()),
            network: Arc::new(DefaultVpc::new(
                services.ec2.clone(),
                facts.home.clone(),
                Arc::clone(&clock),
                Arc::clone(&rng),
            )),
            clock,
            rng,
        });
        containers
            .recover()
            .await
            .context(|| "the containers run by hand could not be taken over".to_owned())?;
        Ok(Arc::new(Self {
            layout: layout.clone(),
            store,
            vault,
            images,
            engine,
            data_plane,
            endpoints,
            services,
            containers,
            facts,
            downed: Notify::new(),
        }))
    }

    /// Answers requests until a signal comes or `down` has been called.
    async fn serve(
        self: &Arc<Self>,
        options: &Options,
        listener: TcpListener,
        announce: impl FnOnce(&ServerFile),
    ) -> Result<()> {
        let mut interrupt =
            signal(SignalKind::interrupt()).context(|| "cannot wait for signals".to_owned())?;
        let mut terminate =
            signal(SignalKind::terminate()).context(|| "cannot wait for signals".to_owned())?;
        let server = self.front_door(options, listener)?;
        let admin = tokio::spawn(admin::server::serve(admin::server::bind(&self.layout)?, Arc::clone(self)));
        let file = ServerFile {
            pid: std::process::id(),
            endpoint: self.facts.endpoint.clone(),
            account: self.facts.home.account.to_string(),
            region: self.facts.home.region.to_string(),
            access_key_id: ACCESS_KEY_ID.to_owned(),
            secret_access_key: SECRET_ACCESS_KEY.to_owned(),
            data_dir: self.layout.root().to_owned(),
        };
        self.layout.write_server(&file)?;
        announce(&file);
        let taken_down = tokio::select! {
            () = self.downed.notified() => true,
            _ = interrupt.recv() => false,
            _ = terminate.recv() => false,
        };
        if !taken_down {
            let running = self.services.ecs.running_tasks().len();
            if running > 0 {
                tracing::info!(
                    "{running} tasks run on; `wharf up` takes them up again, `wharf down` stops them"
                );
            }
            self.services.ecs.stop().await;
        }
        server.shutdown(DRAIN_DEADLINE).await;
        if let Err(error) = self.services.iam.flush_uses().await {
            tracing::warn!(%error, "the last uses of access keys could not be written");
        }
        admin.abort();
        Ok(())
    }

    fn front_door(self: &Arc<Self>, options: &Options, listener: TcpListener) -> Result<Server> {
        let metrics = Arc::new(Metrics::default());
        let pipeline = Pipeline::new(PipelineParts {
            services: self.services.registrations(),
            credentials: Arc::new(CredentialChain {
                default_account: options.account,
                mode: options.auth,
                long_term: Some(self.services.iam.clone()),
                temporary: Some(self.services.sts.tokens()),
            }),
            authorizer: self.services.authorizer(),
            denials: Some(self.services.sts.messages()),
            clock: Arc::new(SystemClock),
            rng: Arc::new(SystemRng::new()),
            observers: vec![metrics.clone(), Arc::new(UseObserver(self.services.iam.clone()))],
        });
        let mut server = Server::builder(pipeline, metrics);
        if options.allow_reset {
            let platform = Arc::clone(self);
            server = server.route(
                Method::POST,
                "/_wharf/reset",
                Arc::new(move |_request| {
                    let platform = Arc::clone(&platform);
                    Box::pin(async move { reset_answer(&platform).await })
                }),
            );
        }
        let server = server.build();
        server
            .serve_listener(listener, Exposure::Everything)
            .context(|| "cannot serve the listening socket".to_owned())?;
        Ok(server)
    }

    /// Stops every task and empties all state.
    async fn reset(&self) -> Result<()> {
        let containers = || "the containers run by hand could not be removed".to_owned();
        self.containers.remove_all().await.context(containers)?;
        self.services.reset().await?;
        self.store.wipe().await.context(|| "the state could not be emptied".to_owned())?;
        self.services.iam.forget();
        vault::remember(&self.store, &self.vault).await?;
        let network = || "the default VPC could not be made".to_owned();
        self.services.ec2.warm(&self.facts.home).await.context(network)
    }

    pub async fn down(&self) -> Result<Downed> {
        let running = self.services.ecs.running_tasks().len();
        let left = self
            .services
            .ecs
            .stop_all("Wharf was taken down", STOP_DEADLINE)
            .await
            .context(|| "the tasks could not be stopped".to_owned());
        if let Err(failure) = &left {
            // A disk that is full must not keep what runs alive.
            tracing::error!("{failure}; what runs is removed all the same");
        }
        self.containers.stop_all().await;
        let removed_containers = match self.containers.remove_all().await {
            Ok(count) => count,
            Err(error) => {
                tracing::error!(%error, "containers run by hand are removed without their records");
                0
            }
        };
        self.services.ecs.stop().await;
        self.engine.shutdown().await.context(|| "the engine could not be taken down".to_owned())?;
        self.endpoints.close_all().await;
        self.data_plane.teardown().await.context(|| "the network could not be taken down".to_owned())?;
        let _ = std::fs::remove_dir_all(network_directory(&self.layout));
        self.downed.notify_one();
        Ok(Downed { stopped_tasks: running, removed_containers })
    }

    pub async fn status(&self) -> Result<Status> {
        let tasks = self.services.ecs.running_tasks();
        let running = tasks.iter().filter(|task| task.last_status == "RUNNING").count();
        let mut warnings = self.facts.warnings.clone();
        warnings.extend(self.data_plane.status().notes);
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            keeper_pid: self.engine.keeper_pid(),
            endpoint: self.facts.endpoint.clone(),
            data_dir: self.layout.root().to_string_lossy().into_owned(),
            account: self.facts.home.account.to_string(),
            region: self.facts.home.region.to_string(),
            auth: match self.facts.auth {
                AuthMode::Verify => "verify".to_owned(),
                AuthMode::Any => "any".to_owned(),
            },
            started_at: self.facts.started_at.to_iso8601(),
            services: services::NAMES.iter().map(|&name| name.to_owned()).collect(),
            running_tasks: running,
            pending_tasks: tasks.len() - running,
            reconcilers: self
                .services
                .ecs
                .status()
                .into_iter()
                .map(|status| Reconciler {
                    name: status.name.to_owned(),
                    queued: status.queued,
                    running: status.running,
                    runs: status.runs,
                    failing: status.failing.into_iter().map(|failing| (failing.key, failing.error)).collect(),
                })
                .collect(),
            warnings,
        })
    }

    pub fn images(&self) -> Result<Vec<ImageSummary>> {
        let images = self.images.list().context(|| "the image store cannot be read".to_owned())?;
        Ok(images
            .into_iter()
            .map(|image| ImageSummary {
                reference: image.reference.familiar(),
                digest: image.digest.to_string(),
                size_bytes: image.bytes,
            })
            .collect())
    }

    /// Blocks.
    pub fn load(&self, archive: impl Read) -> Result<Vec<ImageSummary>> {
        let loaded = self
            .images
            .load(archive, &LoadOptions::default())
            .context(|| "the archive was refused, and nothing of it was kept".to_owned())?;
        Ok(loaded
            .into_iter()
            .flat_map(|image| {
                let digest = image.digest.to_string();
                image.references.into_iter().map(move |reference| ImageSummary {
                    reference: reference.familiar(),
                    digest: digest.clone(),
                    size_bytes: image.bytes,
                })
            })
            .collect())
    }

    pub fn tasks(&self) -> Vec<TaskSummary> {
        self.services
            .ecs
            .tasks()
            .into_iter()
            .map(|task| TaskSummary {
                arn: task.arn,
                cluster: task.cluster,
                task_definition: task.task_definition,
                last_status: task.last_status,
                address: task.private_ipv4.map(|address| address.to_string()),
                created_at: Timestamp::from_millis(task.created_at_ms).to_iso8601(),
                stopped_reason: task.stopped_reason,
                containers: task
                    .containers
                    .into_iter()
                    .map(|(name, last_status)| ContainerSummary { name, last_status })
                    .collect(),
            })
            .collect()
    }
}

async fn reset_answer(platform: &Platform) -> Response<Full<Bytes>> {
    let (status, body) = match platform.reset().await {
        Ok(()) => (200, serde_json::json!({"reset": true})),
        Err(failure) => (500, serde_json::json!({"error": failure.to_string()})),
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response
}

fn host_of(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}

fn open_store(layout: &Layout) -> Result<Store> {
    let journal = FjallJournal::open(&layout.state()).map_err(|error| {
        let in_use = matches!(error, DirectoryError::InUse { .. });
        let failure = Failure::new(format!("cannot use the data directory {}", layout.root().display()))
            .because(&error);
        if in_use {
            failure
                .hint("`wharf status` shows the server that uses it; another one needs another `--data-dir`")
        } else {
            failure
        }
    })?;
    vault::tables(services::tables(Store::builder(Arc::new(journal))))
        .open()
        .context(|| format!("cannot read the state in {}", layout.state().display()))
}

async fn start_engine(layout: &Layout) -> Result<Arc<KeeperEngine>> {
    let program = std::env::current_exe().context(|| "cannot find this program".to_owned())?;
    let config = KeeperConfig::new(layout.engine(), vec![program.into(), "__keeper".into()]);
    let (engine, _connected) = KeeperEngine::connect_or_start(config)
        .await
        .context(|| "the container engine did not start".to_owned())?;
    Ok(Arc::new(engine))
}

/// The machine's own name servers. Those on loopback are the machine's alone: a task cannot reach them.
fn name_servers() -> Vec<IpAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.strip_prefix("nameserver")?.split_whitespace().next()?.parse().ok())
        .filter(|address: &IpAddr| !address.is_loopback())
        .take(NAME_SERVERS_MAX)
        .collect()
}

/// Names of network interfaces and tables belong to the machine, so an instance has a name that
/// follows from its data directory.
fn instance(layout: &Layout) -> String {
    let path = layout.root().as_os_str().as_encoded_bytes();
    // FNV-1a: it must be the same after an upgrade.
    let hash =
        path.iter().fold(0x811c_9dc5_u32, |sum, &byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:08x}")
}

/// Bind mounts of network namespaces do not outlive the machine's uptime, so they stand below `/run`.
fn network_directory(layout: &Layout) -> std::path::PathBuf {
    std::path::Path::new("/run/wharf").join(instance(layout))
}

fn open_network(layout: &Layout, rng: &dyn Rng) -> Result<NetlinkPlane> {
    let instance = InstanceId::new(instance(layout))
        .ok_or_else(|| Failure::new("the data directory has no name for its network"))?;
    let config = PlaneConfig { instance, run_dir: network_directory(layout), pool: PoolSize::default() };
    NetlinkPlane::open(config, rng).context(|| "the network cannot be opened".to_owned())
}
