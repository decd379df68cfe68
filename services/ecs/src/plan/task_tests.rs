//! Properties of the plan: any order of things seen, at any time, keeps the promises.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;
use wharf_core::{AccountId, Region, Scope};

use super::*;
use crate::records::{
    ContainerDefinition, Dependency, NetworkMode, Overrides, TaskDefinitionStatus, TaskNetwork, TaskTimes,
};

fn scope() -> Scope {
    Scope { account: AccountId::DEFAULT, region: Region::default() }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Three containers: the last waits for the first to succeed and the second to start.
fn definition() -> TaskDefinition {
    let container = |name: &str, essential, depends_on| ContainerDefinition {
        name: name.into(),
        essential,
        depends_on,
        start_timeout_secs: (name == "init").then_some(60),
        ..ContainerDefinition::default()
    };
    let on = |container, condition| Dependency { container, condition };
    TaskDefinition {
        scope: scope(),
        family: "web".into(),
        revision: 1,
        arn: String::new(),
        status: TaskDefinitionStatus::Active,
        execution_role_arn: None,
        network_mode: Some(NetworkMode::Awsvpc),
        containers: vec![
            container("init", false, Vec::new()),
            container("proxy", true, Vec::new()),
            container(
                "main",
                true,
                vec![on(0, DependencyCondition::Success), on(1, DependencyCondition::Start)],
            ),
        ],
        volumes: Vec::new(),
        ephemeral_storage_gib: None,
        requires_compatibilities: Vec::new(),
        compatibilities: Vec::new(),
        requires_attributes: Vec::new(),
        cpu: Some(256),
        memory_mib: Some(512),
        cpu_architecture: None,
        operating_system_family: None,
        tags: BTreeMap::new(),
        registered_at: at(0),
        registered_by: String::new(),
        deregistered_at: None,
        delete_requested_at: None,
    }
}

fn task(definition: &TaskDefinition) -> Task {
    let container = |of: &ContainerDefinition| Container {
        name: of.name.clone(),
        arn: String::new(),
        runtime_id: String::new(),
        image: String::new(),
        image_digest: None,
        cpu: 0,
        memory_mib: None,
        memory_reservation_mib: None,
        status: ContainerStatus::Pending,
        started_at: None,
        finished_at: None,
        exit_code: None,
        reason: None,
        stop_signal: None,
        health: ContainerHealth::Unknown,
        essential: of.essential,
    };
    Task {
        scope: scope(),
        cluster: "default".into(),
        id: "0".into(),
        arn: String::new(),
        cluster_arn: String::new(),
        task_definition_arn: String::new(),
        family: "web".into(),
        revision: 1,
        status: TaskStatus::Provisioning,
        desired: DesiredStatus::Running,
        version: 1,
        cpu: 256,
        memory_mib: 512,
        capacity_provider: None,
        platform_version: String::new(),
        cpu_architecture: String::new(),
        group: String::new(),
        started_by: None,
        tags: BTreeMap::new(),
        overrides: Overrides::default(),
        network: TaskNetwork {
            attachment_id: String::new(),
            subnet_id: String::new(),
            security_group_ids: Vec::new(),
            assign_public_ip: false,
            status: AttachmentStatus::PreCreated,
            interface: None,
        },
        availability_zone: String::new(),
        ephemeral_storage_gib: 20,
        containers: definition.containers.iter().map(container).collect(),
        times: TaskTimes {
            created: at(0),
            connectivity: None,
            pull_started: None,
            pull_stopped: None,
            started: None,
            stopping: None,
            execution_stopped: None,
            stopped: None,
        },
        stop: None,
    }
}

fn interface() -> InterfaceRecord {
    InterfaceRecord {
        id: "eni-1".into(),
        mac_address: String::new(),
        private_ipv4: Ipv4Addr::LOCALHOST,
        private_dns_name: String::new(),
        subnet_cidr: String::new(),
        gateway: Ipv4Addr::LOCALHOST,
        vpc_id: String::new(),
        name_servers: Vec::new(),
    }
}

/// What the world does to a task.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// The step that the plan asks for succeeds.
    StepSucceeds,
    /// It fails for good.
    StepFails,
    Exits {
        container: usize,
        code: Option<i32>,
    },
    LogDrains {
        container: usize,
    },
    UserStops,
    HostRestarts,
    /// The control plane dies, perhaps with a step done and not written down, and comes back with
    /// the record as it was last stored.
    ControlPlaneDies,
    TimePasses {
        millis: i64,
    },
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => Just(Happening::StepSucceeds),
        1 => Just(Happening::StepFails),
        3 => (0_usize..3, prop_oneof![Just(Some(0)), Just(Some(1)), Just(None)])
            .prop_map(|(container, code)| Happening::Exits { container, code }),
        3 => (0_usize..3).prop_map(|container| Happening::LogDrains { container }),
        1 => Just(Happening::UserStops),
        1 => Just(Happening::HostRestarts),
        1 => Just(Happening::ControlPlaneDies),
        2 => (0_i64..90_000).prop_map(|millis| Happening::TimePasses { millis }),
    ]
}

/// The world, told apart from what the plan believes of it.
struct World {
    definition: TaskDefinition,
    task: Task,
    /// The record as it is sure to be after a crash.
    durable: Task,
    seen: Observation,
    now: Timestamp,
    forgotten: bool,
}

impl World {
    fn new() -> Self {
        let definition = definition();
        let task = task(&definition);
        let seen = Observation { containers: vec![SeenContainer::default(); 3], ..Observation::default() };
        Self { definition, durable: task.clone(), task, seen, now: at(1_000), forgotten: false }
    }

    fn step(&self) -> Step {
        next(&self.task, &self.definition, &self.seen, self.now)
    }

    fn succeed(&mut self, step: Step) {
        match step {
            Step::Provision => {
                self.seen.interface = Some((interface(), self.now));
                self.seen.images = true;
                self.seen.streams = true;
            }
            Step::Prepare => self.seen.prepared = true,
            Step::Start(indices) => {
                for index in indices {
                    let seen = &mut self.seen.containers[index];
                    assert_eq!(seen.engine, Seen::Absent, "started twice");
                    seen.engine = Seen::Running { started_at: self.now, health: None };
                    seen.log = LogProgress::Forwarding;
                }
            }
            Step::Stop(indices) => {
                for index in indices {
                    self.seen.containers[index].stop_sent = true;
                    self.exit(index, Some(143));
                }
            }
            Step::CleanUp => {
                let log = |seen: &SeenContainer| seen.log == LogProgress::Forwarding;
                assert!(!self.seen.containers.iter().any(log), "removed before the log was drained");
                let running = |seen: &SeenContainer| matches!(seen.engine, Seen::Running { .. });
                assert!(!self.seen.containers.iter().any(running), "removed while it ran");
                self.seen.cleaned = true;
            }
            Step::Forget => self.forgotten = true,
            Step::WaitUntil(until) => self.now = self.now.max(until),
            Step::Wait => {}
        }
    }

    fn exit(&mut self, index: usize, code: Option<i32>) {
        let at = self.now;
        if let Seen::Running { started_at, .. } = self.seen.containers[index].engine {
            self.seen.containers[index].engine = Seen::Exited {
                started_at: Some(started_at),
                at,
                code,
                oom_killed: false,
                storage_exceeded: false,
                start_error: None,
            };
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::StepSucceeds => {
                let step = self.step();
                self.succeed(step);
            }
            Happening::StepFails => {
                if matches!(self.step(), Step::Provision | Step::Prepare | Step::Start(_)) {
                    let reason = "CannotPullContainerError: x".to_owned();
                    let failure = StartFailure { code: StopCode::TaskFailedToStart, reason };
                    self.seen.failure.get_or_insert(failure);
                }
            }
            Happening::Exits { container, code } => self.exit(container, code),
            Happening::LogDrains { container } => {
                let seen = &mut self.seen.containers[container];
                if matches!(seen.engine, Seen::Exited { .. } | Seen::Lost { .. }) {
                    seen.log = LogProgress::Drained;
                }
            }
            Happening::UserStops => {
                if self.task.desired == DesiredStatus::Running {
                    for task in [&mut self.task, &mut self.durable] {
                        task.desired = DesiredStatus::Stopped;
                        task.stop = Some(StopRecord { code: StopCode::UserInitiated, reason: "u".into() });
                    }
                }
            }
            Happening::HostRestarts => {
                for (seen, container) in self.seen.containers.iter_mut().zip(&self.task.containers) {
                    let lost = container.status == ContainerStatus::Running;
                    *seen = SeenContainer {
                        engine: if lost { Seen::Lost { at: self.now } } else { Seen::Absent },
                        ..SeenContainer::default()
                    };
                }
                self.seen = Observation {
                    containers: std::mem::take(&mut self.seen.containers),
                    ..Observation::default()
                };
            }
            Happening::ControlPlaneDies => {
                let underway = self.step();
                if underway != Step::Forget {
                    self.succeed(underway);
                }
                self.task = self.durable.clone();
                let known = self.task.status > TaskStatus::Pending;
                let interface = self.task.network.interface.clone().filter(|_| known);
                let containers = std::mem::take(&mut self.seen.containers);
                let adopted = |seen: SeenContainer| SeenContainer {
                    log: if seen.engine == Seen::Absent {
                        LogProgress::None
                    } else {
                        LogProgress::Forwarding
                    },
                    engine: seen.engine,
                    ..SeenContainer::default()
                };
                self.seen = Observation {
                    interface: interface.map(|interface| (interface, self.now)),
                    containers: containers.into_iter().map(adopted).collect(),
                    ..Observation::default()
                };
            }
            Happening::TimePasses { millis } => {
                self.now = at(self.now.as_millis() + millis);
            }
        }
        self.fold();
    }

    /// Folds what is seen, and checks every promise about the move.
    fn fold(&mut self) {
        let before = self.task.clone();
        progress(&mut self.task, &self.definition, &self.seen, self.now);
        assert!(self.task.version >= before.version);
        assert!(self.task.status >= before.status, "{:?} to {:?}", before.status, self.task.status);
        if before.status == TaskStatus::Stopped {
            assert_eq!(before, self.task, "the end is the end");
        }
        let once = self.task.clone();
        assert!(!progress(&mut self.task, &self.definition, &self.seen, self.now), "not idempotent");
        assert_eq!(once, self.task);
        for (index, container) in self.task.containers.iter().enumerate() {
            let seen = &self.seen.containers[index].engine;
            if container.exit_code != before.containers[index].exit_code {
                let told = matches!(seen, Seen::Exited { code, .. } if *code == container.exit_code);
                assert!(told, "an exit code that the engine did not tell");
            }
            if matches!(seen, Seen::Running { .. }) {
                assert_eq!(container.status, ContainerStatus::Running, "it runs, and is not said to");
            }
            if container.status == ContainerStatus::Running {
                assert!(matches!(seen, Seen::Running { .. }), "{:?} is not {seen:?}", container.status);
            }
        }
        if self.task.times.started.is_some() {
            let ran = |container: &Container| container.started_at.is_some();
            let essential = self.definition.containers.iter().zip(&self.task.containers);
            let missing = essential.filter(|(of, container)| of.essential && !ran(container)).count();
            assert_eq!(missing, 0, "RUNNING without an essential container");
        }
        if self.task.desired == DesiredStatus::Stopped {
            assert!(self.task.stop.is_some(), "stopped without a reason");
        }
        if before.stop.is_some() {
            assert_eq!(before.stop, self.task.stop, "the first reason stays");
        }
        // `PENDING` is handed to the store while the work goes on; all else is stored first.
        let going_on = matches!(self.step(), Step::Provision | Step::Prepare | Step::Start(_));
        if !(self.task.status == TaskStatus::Pending && going_on) {
            self.durable = self.task.clone();
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_promises_hold_and_the_task_comes_to_its_end(
        happenings in proptest::collection::vec(happening(), 0..60),
    ) {
        let mut world = World::new();
        for happening in happenings {
            world.happen(happening);
        }
        // From anywhere, once it is told to stop and everything succeeds, it ends and is forgotten.
        world.happen(Happening::UserStops);
        for _ in 0..40 {
            for container in 0..3 {
                world.happen(Happening::LogDrains { container });
            }
            world.happen(Happening::StepSucceeds);
            if world.forgotten {
                break;
            }
        }
        prop_assert!(world.forgotten, "stuck: {:?} {:?}", world.task, world.step());
    }

    #[test]
    fn without_trouble_every_task_comes_to_run(steps in 6_usize..20) {
        let mut world = World::new();
        for _ in 0..steps {
            world.happen(Happening::StepSucceeds);
            world.happen(Happening::Exits { container: 0, code: Some(0) });
        }
        prop_assert_eq!(world.task.status, TaskStatus::Running);
    }
}

#[test]
fn the_moves_go_forward_and_every_status_but_the_last_has_one() {
    for from in TaskStatus::ALL {
        assert!(TaskStatus::ALL.into_iter().filter(|to| from.may_become(*to)).all(|to| to > from));
        let moves = TaskStatus::ALL.into_iter().filter(|to| from.may_become(*to)).count();
        assert_eq!(moves == 0, from == TaskStatus::Stopped, "{from:?}");
    }
}

#[test]
fn what_is_stored_late_never_overtakes_a_stop_or_a_start() {
    let definition = definition();
    let seen = Observation { interface: Some((interface(), at(1))), ..Observation::default() };
    let fresh = task(&definition);
    let mut pending = fresh.clone();
    assert!(announce_pending(&mut pending, &seen, at(2)));
    assert_eq!(pending.status, TaskStatus::Pending);

    let stop = StopRecord { code: StopCode::UserInitiated, reason: String::new() };
    let stopped = Task { desired: DesiredStatus::Stopped, stop: Some(stop), ..fresh.clone() };
    let running = Task { status: TaskStatus::Running, ..fresh };
    for task in [stopped, running, pending] {
        let mut after = task.clone();
        assert!(!announce_pending(&mut after, &seen, at(3)));
        assert_eq!((after.status, after.version), (task.status, task.version));
    }
}

#[test]
fn a_dependency_that_takes_longer_than_its_start_timeout_stops_the_task() {
    let mut world = World::new();
    for _ in 0..3 {
        world.happen(Happening::StepSucceeds);
    }
    assert!(matches!(world.step(), Step::WaitUntil(_)), "{:?}", world.step());
    world.happen(Happening::TimePasses { millis: 60_000 });
    let reason = world.task.containers[2].reason.as_deref().unwrap();
    assert_eq!(reason, "dependency container init timed out before SUCCESS");
    assert_eq!(world.task.stop.as_ref().unwrap().code, StopCode::TaskFailedToStart);
    assert!(matches!(world.step(), Step::Stop(_)));
}
