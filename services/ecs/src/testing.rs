//! The world that tests of the service stand in: the fake engine, a store in memory, and fakes of the
//! rooms next door.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use wharf_contracts::{
    ImageConfig, ImageError, ImageSource, Interface, InterfaceError, InterfaceRequest, Interfaces,
    LogDestination, LogEvent, LogSink, LogSinkError, ResolvedImage,
};
use wharf_core::{
    AccountId, ApiError, ManualClock, Principal, Region, RequestContext, RequestId, Scope, SeededRng,
    Timestamp,
};
use wharf_ecs_api::{Ecs as _, types};
use wharf_engine::ContainerId;
use wharf_engine::sim::Sim;
use wharf_state::{MemoryJournal, Store};

use crate::records::{Task, TaskStatus};
use crate::{Dependencies, Ecs, tables};

pub const SUBNET: &str = "subnet-0123456789abcdef0";
pub const START_MS: i64 = 1_700_000_000_000;

pub fn scope() -> Scope {
    Scope { account: AccountId::DEFAULT, region: Region::default() }
}

pub fn context() -> RequestContext {
    RequestContext {
        request_id: RequestId::random(&SeededRng::new(1)),
        scope: scope(),
        principal: Principal::Root { account: AccountId::DEFAULT },
        session: None,
        access_key_id: "test".to_owned(),
        source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        now: Timestamp::from_millis(START_MS),
    }
}

#[derive(Default)]
pub struct FakeInterfaces {
    pub by_owner: Mutex<BTreeMap<String, Interface>>,
    pub made: Mutex<u8>,
    pub refuse: Mutex<Option<ApiError>>,
}

#[async_trait]
impl Interfaces for FakeInterfaces {
    async fn check(
        &self,
        _scope: &Scope,
        subnet_ids: &[String],
        _security_group_ids: &[String],
    ) -> Result<Vec<String>, InterfaceError> {
        subnet_ids
            .iter()
            .map(|id| match id.as_str() {
                SUBNET => Ok("us-east-1a".to_owned()),
                _ => Err(InterfaceError::Refused(ApiError::sender(
                    "InvalidSubnetID.NotFound",
                    format!("The subnet ID '{id}' does not exist"),
                ))),
            })
            .collect()
    }

    async fn create(&self, request: InterfaceRequest) -> Result<Interface, InterfaceError> {
        if let Some(error) = self.refuse.lock().clone() {
            return Err(InterfaceError::Refused(error));
        }
        let mut by_owner = self.by_owner.lock();
        if let Some(interface) = by_owner.get(&request.owner) {
            return Ok(interface.clone());
        }
        let mut made = self.made.lock();
        *made += 1;
        let address = Ipv4Addr::new(172, 31, 0, 3 + *made);
        let interface = Interface {
            id: format!("eni-{:017x}", *made),
            mac_address: format!("02:00:00:00:00:{:02x}", *made),
            private_ipv4: address,
            private_dns_name: format!("ip-172-31-0-{}.ec2.internal", 3 + *made),
            subnet_id: request.subnet_id,
            subnet_cidr: "172.31.0.0/20".to_owned(),
            gateway: Ipv4Addr::new(172, 31, 0, 1),
            vpc_id: "vpc-1".to_owned(),
            availability_zone: "us-east-1a".to_owned(),
            netns: PathBuf::from(format!("/netns/{made}")),
            name_servers: vec![IpAddr::V4(Ipv4Addr::new(172, 31, 0, 2))],
        };
        by_owner.insert(request.owner, interface.clone());
        Ok(interface)
    }

    async fn delete(&self, _scope: &Scope, owner: &str) -> Result<(), InterfaceError> {
        self.by_owner.lock().remove(owner);
        Ok(())
    }
}

#[derive(Default)]
pub struct FakeImages(Mutex<HashMap<String, ResolvedImage>>);

impl FakeImages {
    pub fn add(&self, name: &str, config: ImageConfig) {
        let image = ResolvedImage {
            digest: format!("sha256:{name}"),
            config,
            layers: vec![PathBuf::from(format!("/layers/{name}"))],
        };
        self.0.lock().insert(name.to_owned(), image);
    }
}

#[async_trait]
impl ImageSource for FakeImages {
    async fn resolve(&self, reference: &str) -> Result<ResolvedImage, ImageError> {
        let not_found = || ImageError::NotFound { reference: reference.to_owned() };
        self.0.lock().get(reference).cloned().ok_or_else(not_found)
    }
}

#[derive(Default)]
pub struct FakeLogs {
    pub groups: Mutex<BTreeSet<String>>,
    pub streams: Mutex<BTreeMap<String, (u64, Vec<LogEvent>)>>,
    /// How many calls from now on fail for want of the store.
    pub outages: Mutex<u32>,
}

impl FakeLogs {
    fn answers(&self) -> Result<(), LogSinkError> {
        let mut outages = self.outages.lock();
        if *outages == 0 {
            return Ok(());
        }
        *outages -= 1;
        Err(LogSinkError::Unavailable { message: "the disk is full".to_owned() })
    }

    pub fn messages(&self, stream: &str) -> Vec<String> {
        let streams = self.streams.lock();
        let events = streams.get(stream).map(|(_, events)| events.as_slice()).unwrap_or_default();
        events.iter().map(|event| event.message.clone()).collect()
    }
}

#[async_trait]
impl LogSink for FakeLogs {
    async fn open(&self, destination: &LogDestination, create_group: bool) -> Result<u64, LogSinkError> {
        self.answers()?;
        if create_group {
            self.groups.lock().insert(destination.group.clone());
        }
        if !self.groups.lock().contains(&destination.group) {
            return Err(LogSinkError::Refused(ApiError::sender(
                "ResourceNotFoundException",
                "The specified log group does not exist.",
            )));
        }
        Ok(self.streams.lock().entry(destination.stream.clone()).or_default().0)
    }

    async fn append(&self, destination: &LogDestination, events: Vec<LogEvent>) -> Result<(), LogSinkError> {
        self.answers()?;
        let mut streams = self.streams.lock();
        let (position, stored) = streams.entry(destination.stream.clone()).or_default();
        for event in events {
            assert!(event.next_position > *position, "an event was repeated: {event:?}");
            *position = event.next_position;
            stored.push(event);
        }
        Ok(())
    }
}

/// A service with everything around it. `ecs` may be stopped and made anew on the same state.
pub struct World {
    pub clock: Arc<ManualClock>,
    pub sim: Sim,
    pub journal: MemoryJournal,
    pub interfaces: Arc<FakeInterfaces>,
    pub images: Arc<FakeImages>,
    pub logs: Arc<FakeLogs>,
    pub ecs: Arc<Ecs>,
    seed: u64,
}

impl World {
    /// Not started: requests are answered, and nothing happens.
    pub fn at_rest() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(START_MS)));
        let sim = Sim::new(Arc::clone(&clock));
        let journal = MemoryJournal::new();
        let interfaces = Arc::new(FakeInterfaces::default());
        let images = Arc::new(FakeImages::default());
        let logs = Arc::new(FakeLogs::default());
        let config = ImageConfig { cmd: vec!["serve".to_owned()], ..ImageConfig::default() };
        images.add("app", config);
        let ecs = build(&clock, &sim, &journal, &interfaces, &images, &logs, 1);
        Self { clock, sim, journal, interfaces, images, logs, ecs, seed: 1 }
    }

    pub async fn started() -> Self {
        let world = Self::at_rest();
        world.ecs.start().await.unwrap();
        world
    }

    /// The control plane goes, and comes back on the same state.
    pub async fn restart(&mut self) {
        self.ecs.stop().await;
        self.rebuild();
        self.ecs.start().await.unwrap();
    }

    /// A new control plane on the same state, not started.
    pub fn rebuild(&mut self) {
        self.seed += 1;
        self.ecs = build(
            &self.clock,
            &self.sim,
            &self.journal,
            &self.interfaces,
            &self.images,
            &self.logs,
            self.seed,
        );
    }

    pub fn task(&self, arn: &str) -> Option<Arc<Task>> {
        let (cluster, id) = arn.rsplit_once(":task/").unwrap().1.split_once('/').unwrap();
        self.ecs.platform().store.snapshot().get(&(scope(), cluster.to_owned(), id.to_owned()))
    }

    /// Waits until the task's record satisfies the predicate.
    pub async fn until(&self, arn: &str, predicate: impl Fn(&Task) -> bool) -> Arc<Task> {
        let mut watch = self.ecs.platform().store.watch::<Task>();
        let wait = async {
            loop {
                if let Some(task) = self.task(arn).filter(|task| predicate(task)) {
                    return task;
                }
                watch.recv().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait)
            .await
            .unwrap_or_else(|_| panic!("waited in vain: {:#?}", self.task(arn)))
    }

    pub async fn until_status(&self, arn: &str, status: TaskStatus) -> Arc<Task> {
        self.until(arn, |task| task.status == status).await
    }

    /// Waits for something that has no record.
    pub async fn eventually(&self, predicate: impl Fn() -> bool) {
        let wait = async {
            while !predicate() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.expect("waited in vain");
    }

    pub async fn register(&self, request: types::RegisterTaskDefinitionRequest) -> String {
        let answer = self.ecs.register_task_definition(&context(), request).await.unwrap();
        answer.task_definition.unwrap().task_definition_arn.unwrap()
    }

    /// Registers a definition of one container, and runs it.
    pub async fn run_one(&self, container: types::ContainerDefinition) -> String {
        self.run_all(vec![container]).await
    }

    pub async fn run_all(&self, containers: Vec<types::ContainerDefinition>) -> String {
        let definition = self.register(definition("web", containers)).await;
        let answer = self.ecs.run_task(&context(), run(&definition)).await.unwrap();
        answer.tasks.unwrap()[0].task_arn.clone().unwrap()
    }
}

#[allow(clippy::too_many_arguments, reason = "one caller, and each is another room")]
fn build(
    clock: &Arc<ManualClock>,
    sim: &Sim,
    journal: &MemoryJournal,
    interfaces: &Arc<FakeInterfaces>,
    images: &Arc<FakeImages>,
    logs: &Arc<FakeLogs>,
    seed: u64,
) -> Arc<Ecs> {
    let store = tables(Store::builder(Arc::new(journal.clone()))).open().unwrap();
    Ecs::new(Dependencies {
        store,
        engine: Arc::new(sim.clone()),
        images: images.clone(),
        interfaces: interfaces.clone(),
        log_sink: logs.clone(),
        clock: clock.clone(),
        rng: Arc::new(SeededRng::new(seed)),
        endpoint_url: Some("http://172.31.0.1:4566".to_owned()),
    })
}

pub fn container(name: &str) -> types::ContainerDefinition {
    types::ContainerDefinition {
        name: Some(name.to_owned()),
        image: Some("app".to_owned()),
        ..types::ContainerDefinition::default()
    }
}

/// With a log group that is created.
pub fn logging(mut container: types::ContainerDefinition) -> types::ContainerDefinition {
    let options = [
        ("awslogs-group", "/ecs/web"),
        ("awslogs-region", "us-east-1"),
        ("awslogs-stream-prefix", "ecs"),
        ("awslogs-create-group", "true"),
    ];
    container.log_configuration = Some(types::LogConfiguration {
        log_driver: types::LogDriver::Awslogs,
        options: Some(options.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        secret_options: None,
    });
    container
}

pub fn definition(
    family: &str,
    containers: Vec<types::ContainerDefinition>,
) -> types::RegisterTaskDefinitionRequest {
    types::RegisterTaskDefinitionRequest {
        family: family.to_owned(),
        network_mode: Some(types::NetworkMode::Awsvpc),
        requires_compatibilities: Some(vec![types::Compatibility::Fargate]),
        cpu: Some("256".to_owned()),
        memory: Some("512".to_owned()),
        container_definitions: containers,
        ..types::RegisterTaskDefinitionRequest::default()
    }
}

pub fn run(task_definition: &str) -> types::RunTaskRequest {
    types::RunTaskRequest {
        task_definition: task_definition.to_owned(),
        launch_type: Some(types::LaunchType::Fargate),
        network_configuration: Some(types::NetworkConfiguration {
            awsvpc_configuration: Some(types::AwsVpcConfiguration {
                subnets: vec![SUBNET.to_owned()],
                ..types::AwsVpcConfiguration::default()
            }),
        }),
        ..types::RunTaskRequest::default()
    }
}

pub fn engine_id(task: &Task, index: usize) -> ContainerId {
    ContainerId::new(task.containers[index].runtime_id.clone()).unwrap()
}
