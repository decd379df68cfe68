//! The life of containers run by hand, on the simulated engine and a store in memory.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use wharf_contracts::{ImageConfig, ImageError, ImageSource, ResolvedImage};
use wharf_core::{ManualClock, SeededRng, Timestamp};
use wharf_engine::session::{AttachSpec, ExecSpec, OutputFrom, SessionStdin};
use wharf_engine::sim::{Behaviour, ExecBehaviour, OnSignal, Sim};
use wharf_engine::{Engine, Signal};
use wharf_state::{MemoryJournal, Store};

use crate::config::{ContainerConfig, Network, PortConfig, Protocol, Restart};
use crate::event::Action;
use crate::plan::spec;
use crate::records::State;
use crate::{
    Attached, ContainerNetwork, Containers, ContainersError, Dependencies, LogOptions, NetworkError,
    RemoveOptions, WaitFor,
};

struct Images;

#[async_trait]
impl ImageSource for Images {
    async fn resolve(&self, reference: &str) -> Result<ResolvedImage, ImageError> {
        if !reference.starts_with("busybox") {
            return Err(ImageError::NotFound { reference: reference.to_owned() });
        }
        let config = ImageConfig { cmd: vec!["sh".to_owned()], ..ImageConfig::default() };
        Ok(ResolvedImage {
            digest: format!("sha256:{}", "a".repeat(64)),
            config,
            layers: vec![PathBuf::from("/layer")],
        })
    }
}

/// Gives 127.0.0.1, so that published ports can be tried.
#[derive(Default)]
struct Net(Mutex<Vec<String>>);

#[async_trait]
impl ContainerNetwork for Net {
    async fn attach(&self, owner: &str) -> Result<Attached, NetworkError> {
        let mut owners = self.0.lock();
        if !owners.iter().any(|held| held == owner) {
            owners.push(owner.to_owned());
        }
        Ok(Attached {
            address: Ipv4Addr::LOCALHOST,
            gateway: Ipv4Addr::LOCALHOST,
            mac_address: "02:00:00:00:00:01".to_owned(),
            netns: PathBuf::from("/netns"),
            name_servers: Vec::new(),
        })
    }

    async fn detach(&self, owner: &str) -> Result<(), NetworkError> {
        self.0.lock().retain(|held| held != owner);
        Ok(())
    }
}

struct World {
    sim: Sim,
    store: Store,
    network: Arc<Net>,
    containers: Containers,
}

async fn world() -> World {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let sim = Sim::new(clock);
    let journal = Arc::new(MemoryJournal::default());
    let store = crate::tables(Store::builder(journal)).open().expect("an empty store opens");
    let network = Arc::new(Net::default());
    let containers = server(&sim, &store, &network).await;
    World { sim, store, network, containers }
}

/// A server as it starts on what another left.
async fn server(sim: &Sim, store: &Store, network: &Arc<Net>) -> Containers {
    let containers = Containers::new(Dependencies {
        store: store.clone(),
        engine: Arc::new(sim.clone()),
        images: Arc::new(Images),
        network: network.clone(),
        clock: sim.clock(),
        rng: Arc::new(SeededRng::new(7)),
    });
    containers.recover().await.expect("it recovers");
    containers
}

fn config(command: &[&str]) -> ContainerConfig {
    ContainerConfig {
        image: "busybox".to_owned(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        ..ContainerConfig::default()
    }
}

impl World {
    async fn run(&self, config: ContainerConfig, name: &str) -> String {
        let made = self.containers.create(config, Some(name.to_owned())).await.expect("it is made");
        self.containers.start(name).await.expect("it starts");
        made.id
    }

    fn engine_id(&self, name: &str) -> wharf_engine::ContainerId {
        let container = self.containers.find(name).expect("it is there");
        spec::container_id(&container.id, container.run).expect("an id")
    }

    /// Waits until the container is in a state.
    async fn until(&self, name: &str, state: &str) {
        let mut events = self.containers.events();
        let is = || self.containers.find(name).map(|held| held.state.as_str().to_owned());
        let there = async {
            while is().ok().as_deref() != Some(state) {
                let _ = events.recv().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), there)
            .await
            .unwrap_or_else(|_| panic!("{name} is {:?}, not {state}", is()));
    }
}

#[tokio::test]
async fn a_container_is_made_started_stopped_and_removed() {
    let world = world().await;
    let id = world.run(config(&["sleep", "9"]), "web").await;
    let held = world.containers.find(&id[..6]).unwrap();
    assert!(matches!(held.state, State::Running { .. }));
    let wanted = world.sim.container_spec(&world.engine_id("web")).unwrap();
    assert_eq!(wanted.process.args, ["sleep", "9"]);
    assert!(matches!(
        world.containers.remove("web", RemoveOptions::default()).await,
        Err(ContainersError::Running(_))
    ));

    world.containers.stop("web", None).await.unwrap();
    let code = world.containers.wait("web", WaitFor::NotRunning).await.unwrap();
    assert_eq!(code, Some(143));
    assert_eq!(world.sim.signals(&world.engine_id("web")), [Signal::TERM]);

    // The second start is another run on the same layer.
    world.containers.start("web").await.unwrap();
    let again = world.sim.container_spec(&world.engine_id("web")).unwrap();
    assert_ne!(again.id, wanted.id);
    assert_eq!(again.writable_layer, wanted.writable_layer);

    world.containers.remove("web", RemoveOptions { force: true, volumes: false }).await.unwrap();
    assert!(matches!(world.containers.find("web"), Err(ContainersError::NoContainer(_))));
    assert!(world.sim.list().await.unwrap().is_empty());
    assert!(world.network.0.lock().is_empty());
}

#[tokio::test]
async fn names_are_unique_and_made_up_where_none_is_given() {
    let world = world().await;
    world.containers.create(config(&[]), Some("db".to_owned())).await.unwrap();
    let taken = world.containers.create(config(&[]), Some("db".to_owned())).await;
    assert!(matches!(taken, Err(ContainersError::NameTaken { .. })));
    let made = world.containers.create(config(&[]), None).await.unwrap();
    assert!(made.name.contains('_'), "{}", made.name);
    assert!(matches!(world.containers.rename(&made.id, "db").await, Err(ContainersError::NameTaken { .. })));
    world.containers.rename(&made.id, "db2").await.unwrap();
    assert_eq!(world.containers.find("db2").unwrap().id, made.id);
    let absent = ContainerConfig { image: "nginx".to_owned(), ..config(&[]) };
    assert!(matches!(world.containers.create(absent, None).await, Err(ContainersError::Image(_))));
}

#[tokio::test]
async fn one_that_removes_itself_waits_for_who_reads_its_output() {
    let world = world().await;
    let mut events = world.containers.events();
    let auto = ContainerConfig { auto_remove: true, ..config(&["job"]) };
    world.run(auto, "job").await;
    let from = AttachSpec { output: OutputFrom::Start, stdin: SessionStdin::Closed };
    let attachment = world.containers.attach("job", from).await.unwrap();
    world.sim.exit(&world.engine_id("job"), 3);
    assert_eq!(attachment.session.control.wait().await.code, Some(3));
    world.until("job", "exited").await;
    assert!(world.containers.find("job").is_ok(), "it is still read");
    drop(attachment);
    loop {
        if events.recv().await.unwrap().action == Action::Destroy {
            break;
        }
    }
    assert!(world.containers.find("job").is_err());
    assert!(world.sim.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_program_that_cannot_run_leaves_an_exited_container_with_its_code() {
    let world = world().await;
    world.sim.when_args(&["nope"], Behaviour::cannot_start(127, "exec: \"nope\": not found"));
    world.containers.create(config(&["nope"]), Some("bad".to_owned())).await.unwrap();
    let error = world.containers.start("bad").await.unwrap_err();
    assert!(matches!(error, ContainersError::Start { code: 127, .. }), "{error}");
    match &world.containers.find("bad").unwrap().state {
        State::Exited(exit) => assert_eq!(exit.code, Some(127)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_restarted_server_finds_what_runs_and_what_ended_meanwhile() {
    let world = world().await;
    let port = PortConfig {
        address: Ipv4Addr::LOCALHOST.into(),
        host_port: 0,
        container_port: 9,
        protocol: Protocol::Tcp,
    };
    world.run(ContainerConfig { ports: vec![port], ..config(&["runs"]) }, "runs").await;
    world.run(config(&["ends"]), "ends").await;
    world.run(ContainerConfig { auto_remove: true, ..config(&["goes"]) }, "goes").await;
    let ends = world.engine_id("ends");
    let goes = world.engine_id("goes");
    let port = world.containers.find("runs").unwrap().ports[0].host_port;
    let World { sim, store, network, containers } = world;
    // The server dies: nobody listens, nobody follows.
    containers.0.published.lock().clear();
    drop(containers);
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
        tokio::task::yield_now().await;
    }
    sim.exit(&ends, 5);
    sim.exit(&goes, 0);

    let containers = server(&sim, &store, &network).await;
    let world = World { sim, store, network, containers };
    assert!(matches!(world.containers.find("runs").unwrap().state, State::Running { .. }));
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("its port is served again");
    assert_eq!(world.containers.wait("ends", WaitFor::NotRunning).await.unwrap(), Some(5));
    let gone = async {
        while world.containers.find("goes").is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it removes itself");
}

#[tokio::test]
async fn a_container_that_its_policy_starts_again_is_told_of() {
    let world = world().await;
    let mut events = world.containers.events();
    let always = ContainerConfig { restart: Restart::Always, ..config(&["crash"]) };
    world.run(always, "crash").await;
    world.sim.exit(&world.engine_id("crash"), 1);
    world.until("crash", "restarting").await;
    world.sim.advance(Duration::from_secs(1));
    world.until("crash", "running").await;
    assert_eq!(world.containers.find("crash").unwrap().restarts, 1);
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        told.push(event.action);
    }
    assert_eq!(told, [Action::Create, Action::Start, Action::Die { code: Some(1) }, Action::Start]);
    world.sim.when_args(&["crash"], Behaviour::runs().on_signal(OnSignal::Exits(0)));
    world.containers.stop("crash", None).await.unwrap();
    world.until("crash", "exited").await;
}

#[tokio::test]
async fn logs_come_from_all_runs_and_follow_the_last() {
    let world = world().await;
    world.run(ContainerConfig { network: Network::None, ..config(&["talk"]) }, "talk").await;
    let print = |line: &str| world.sim.log(&world.engine_id("talk"), wharf_engine::log::Stream::Stdout, line);
    print("one");
    world.containers.stop("talk", None).await.unwrap();
    world.containers.start("talk").await.unwrap();
    print("two");
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut lines = world.containers.logs("talk", options).unwrap();
    assert_eq!(lines.recv().await.unwrap().text, b"one");
    assert_eq!(lines.recv().await.unwrap().text, b"two");
    print("three");
    assert_eq!(lines.recv().await.unwrap().text, b"three");
    let mut last =
        world.containers.logs("talk", LogOptions { tail: Some(1), ..LogOptions::default() }).unwrap();
    assert_eq!(last.recv().await.unwrap().text, b"three");
    assert!(last.recv().await.is_none());
    world.sim.exit(&world.engine_id("talk"), 0);
    assert!(lines.recv().await.is_none());
}

#[tokio::test]
async fn programs_run_beside_the_containers_own_while_it_runs() {
    let world = world().await;
    world.run(config(&["sh"]), "box").await;
    world
        .sim
        .when_exec(|_| true, ExecBehaviour::exits(4).printing(wharf_engine::log::Stream::Stderr, "no\n"));
    let mut session = world.containers.exec("box", ExecSpec::new(vec!["x".to_owned()])).await.unwrap();
    assert_eq!(session.output.recv().await.unwrap().bytes, b"no\n");
    assert_eq!(session.control.wait().await.code, Some(4));
    world.containers.stop("box", None).await.unwrap();
    let refused = world.containers.exec("box", ExecSpec::new(vec!["x".to_owned()])).await;
    assert!(matches!(refused, Err(ContainersError::NotRunning(_))));
}
