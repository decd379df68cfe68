//! The life of a task, as it should be and as it goes wrong.

use std::time::Duration;

use wharf_contracts::{ImageConfig, TaskMetadata as _};
use wharf_core::ApiError;
use wharf_ecs_api::{Ecs as _, types};
use wharf_engine::log::Stream;
use wharf_engine::sim::{Behaviour, OnSignal};
use wharf_engine::{Engine as _, EngineError, SandboxId, Signal};
use wharf_state::Record as _;

use crate::records::{AttachmentStatus, ContainerStatus, StopCode, Task, TaskStatus};
use crate::testing::{World, container, context, definition, engine_id, logging, run};

async fn stop(world: &World, arn: &str, reason: Option<&str>) -> types::Task {
    let input = types::StopTaskRequest {
        task: arn.to_owned(),
        reason: reason.map(str::to_owned),
        ..types::StopTaskRequest::default()
    };
    world.ecs.stop_task(&context(), input).await.unwrap().task.unwrap()
}

fn stop_of(task: &Task) -> (StopCode, &str) {
    let stop = task.stop.as_ref().expect("a reason");
    (stop.code, stop.reason.as_str())
}

async fn no_trace(world: &World) {
    assert_eq!(world.sim.list().await.unwrap(), [], "sandboxes are left");
    assert!(world.interfaces.by_owner.lock().is_empty(), "interfaces are left");
}

#[tokio::test]
async fn a_task_runs_with_what_was_asked_for_and_stops_when_told() {
    let world = World::started().await;
    world.images.add(
        "quits",
        ImageConfig {
            entrypoint: vec!["/bin/app".into()],
            cmd: vec!["--default".into()],
            env: vec!["PATH=/bin".into(), "COLOUR=red".into()],
            working_dir: "/srv".into(),
            stop_signal: Some("SIGQUIT".into()),
            user: "app".into(),
            ..ImageConfig::default()
        },
    );
    let mut wanted = logging(container("main"));
    wanted.image = Some("quits".into());
    wanted.command = Some(vec!["--port".into(), "80".into()]);
    wanted.environment =
        Some(vec![types::KeyValuePair { name: Some("COLOUR".into()), value: Some("blue".into()) }]);
    wanted.memory = Some(256);
    wanted.cpu = Some(128);
    wanted.readonly_root_filesystem = Some(true);
    wanted.ulimits =
        Some(vec![types::Ulimit { name: types::UlimitName::Nofile, soft_limit: 512, hard_limit: -1 }]);
    let arn = world.run_one(wanted).await;
    let task = world.until_status(&arn, TaskStatus::Running).await;

    assert_eq!(task.network.status, AttachmentStatus::Attached);
    assert_eq!(task.containers[0].status, ContainerStatus::Running);
    assert_eq!(task.containers[0].image_digest.as_deref(), Some("sha256:quits"));
    assert!(task.times.started.is_some() && task.times.pull_stopped.is_some());
    let id = engine_id(&task, 0);
    let spec = world.sim.container_spec(&id).unwrap();
    assert_eq!(spec.process.args, ["/bin/app", "--port", "80"]);
    assert_eq!(spec.process.user, "app");
    assert_eq!(spec.process.working_dir, "/srv");
    assert!(spec.readonly_root);
    assert_eq!(spec.resources.memory_bytes, Some(256 << 20));
    assert_eq!(spec.resources.cpu_shares, Some(128));
    assert_eq!((spec.process.rlimits[0].soft, spec.process.rlimits[0].hard), (512, u64::MAX));
    let env = &spec.process.env;
    for expected in [
        "COLOUR=blue".to_owned(),
        "AWS_REGION=us-east-1".to_owned(),
        "AWS_ENDPOINT_URL=http://172.31.0.1:4566".to_owned(),
        "AWS_EXECUTION_ENV=AWS_ECS_FARGATE".to_owned(),
        format!("ECS_CONTAINER_METADATA_URI_V4=http://169.254.170.2/v4/{}", task.containers[0].runtime_id),
    ] {
        assert!(env.contains(&expected), "{expected} is not in {env:?}");
    }
    let sandbox = world.sim.sandbox_spec(&SandboxId::new(task.id.clone()).unwrap()).unwrap();
    assert_eq!(sandbox.resources.cpu_millis, Some(250));
    assert_eq!(sandbox.resources.memory_bytes, Some(512 << 20));
    assert_eq!(sandbox.resources.pids_max, Some(4096));
    assert!(sandbox.netns.is_some());

    let answer = stop(&world, &arn, Some("enough")).await;
    assert_eq!(answer.desired_status.as_deref(), Some("STOPPED"));
    assert_eq!(stop(&world, &arn, Some("again")).await.stopped_reason.as_deref(), Some("enough"));
    let stopped = world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(stop_of(&stopped), (StopCode::UserInitiated, "enough"));
    assert_eq!(stopped.containers[0].exit_code, Some(131), "SIGQUIT, as the image says");
    assert_eq!(stopped.network.status, AttachmentStatus::Deleted);
    assert!(stopped.version > task.version);
    assert!(stopped.times.stopping.is_some() && stopped.times.execution_stopped.is_some());
    no_trace(&world).await;
}

#[tokio::test]
async fn output_reaches_the_log_stream_before_the_sandbox_goes() {
    let world = World::started().await;
    world.sim.when_args(
        &["serve"],
        Behaviour::exits(0)
            .after(Duration::from_secs(5))
            .printing(Stream::Stdout, "listening")
            .printing(Stream::Stderr, "ready"),
    );
    let arn = world.run_one(logging(container("main"))).await;
    let task = world.until_status(&arn, TaskStatus::Running).await;
    let stream = format!("ecs/main/{}", task.id);
    world.eventually(|| world.logs.messages(&stream) == ["listening", "ready"]).await;
    world.sim.log(&engine_id(&task, 0), Stream::Stdout, "one more");
    world.eventually(|| world.logs.messages(&stream).len() == 3).await;
    assert!(world.sim.released(&engine_id(&task, 0)).unwrap() > 0);
    world.sim.log(&engine_id(&task, 0), Stream::Stdout, "last words");
    world.sim.advance(Duration::from_secs(5));
    world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(world.logs.messages(&stream).last().map(String::as_str), Some("last words"));
    no_trace(&world).await;
}

#[tokio::test]
async fn output_that_no_log_driver_wants_takes_no_space() {
    let world = World::started().await;
    let arn = world.run_one(container("main")).await;
    let task = world.until_status(&arn, TaskStatus::Running).await;
    let id = engine_id(&task, 0);
    world.sim.log(&id, Stream::Stdout, "nobody hears this");
    world.eventually(|| world.sim.released(&id).is_some_and(|released| released > 0)).await;
}

#[tokio::test]
async fn a_program_that_exits_at_once_has_run() {
    let world = World::started().await;
    world.sim.when_args(&["serve"], Behaviour::exits(3));
    let arn = world.run_one(container("main")).await;
    // Whatever is due at once is due when time is asked.
    world.eventually(|| world.sim.next_due().is_some() || world.task(&arn).unwrap().stop.is_some()).await;
    world.sim.advance(Duration::ZERO);
    let task = world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(stop_of(&task), (StopCode::EssentialContainerExited, "Essential container in task exited"));
    assert_eq!(task.containers[0].exit_code, Some(3));
    assert!(task.times.started.is_some(), "it was started");
    no_trace(&world).await;
}

#[tokio::test]
async fn an_image_that_is_not_there() {
    let world = World::started().await;
    let mut wanted = container("main");
    wanted.image = Some("nowhere:1".into());
    let arn = world.run_one(wanted).await;
    let task = world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(
        stop_of(&task),
        (StopCode::TaskFailedToStart, "CannotPullContainerError: nowhere:1: not found")
    );
    assert_eq!((task.containers[0].exit_code, task.times.started), (None, None));
    no_trace(&world).await;
}

#[tokio::test]
async fn a_program_that_cannot_be_run() {
    let world = World::started().await;
    world.sim.when_args(&["serve"], Behaviour::cannot_start(127, "exec: \"serve\": not found"));
    let arn = world.run_one(logging(container("main"))).await;
    let task = world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(stop_of(&task), (StopCode::TaskFailedToStart, "Task failed to start"));
    let reason = task.containers[0].reason.as_deref().unwrap();
    assert_eq!(reason, "CannotStartContainerError: exec: \"serve\": not found");
    assert_eq!(task.containers[0].exit_code, None);
    no_trace(&world).await;
}

#[tokio::test]
async fn an_image_without_a_program_cannot_be_run() {
    let world = World::started().await;
    world.images.add("empty", ImageConfig::default());
    let mut wanted = container("main");
    wanted.image = Some("empty".into());
    let arn = world.run_one(wanted).await;
    let task = world.until_status(&arn, TaskStatus::Stopped).await;
    assert!(task.containers[0].reason.as_deref().unwrap().contains("no command specified"));
}

#[tokio::test]
async fn a_log_group_that_is_not_there() {
    let world = World::started().await;
    let mut wanted = logging(container("main"));
    let options = wanted.log_configuration.as_mut().unwrap().options.as_mut().unwrap();
    options.remove("awslogs-create-group");
    let arn = world.run_one(wanted).await;
    let task = world.until_status(&arn, TaskStatus::Stopped).await;
    let (code, reason) = stop_of(&task);
    assert_eq!(code, StopCode::TaskFailedToStart);
    assert!(reason.starts_with("ResourceInitializationError: failed to validate logger args"), "{reason}");
    assert!(reason.contains("ResourceNotFoundException"), "{reason}");
    no_trace(&world).await;
}

#[tokio::test]
async fn a_log_store_that_is_away_for_a_moment_loses_nothing() {
    let world = World::started().await;
    world.sim.when_args(&["serve"], Behaviour::runs().printing(Stream::Stdout, "listening"));
    *world.logs.outages.lock() = 2;
    let arn = world.run_one(logging(container("main"))).await;
    let task = world.until_status(&arn, TaskStatus::Running).await;
    let stream = format!("ecs/main/{}", task.id);
    world.eventually(|| world.logs.messages(&stream) == ["listening"]).await;
    *world.logs.outages.lock() = 1;
    world.sim.log(&engine_id(&task, 0), Stream::Stdout, "more");
    world.sim.exit(&engine_id(&task, 0), 0);
    world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(world.logs.messages(&stream), ["listening", "more"]);
}

#[tokio::test]
async fn a_network_without_an_address_left() {
    let world = World::started().await;
    *world.interfaces.refuse.lock() =
        Some(ApiError::sender("InsufficientFreeAddressesInSubnet", "no addresses left"));
    let arn = world.run_one(container("main")).await;
    let task = world.until_status(&arn, TaskStatus::Stopped).await;
    let (code, reason) = stop_of(&task);
    assert_eq!(code, StopCode::TaskFailedToStart);
    assert!(reason.contains("InsufficientFreeAddressesInSubnet"), "{reason}");
}

#[tokio::test]
async fn a_full_host_fails_the_task_and_a_hiccup_does_not() {
    let world = World::started().await;
    world.sim.fail_next_sandbox(EngineError::Exhausted { resource: "disk".into(), message: "full".into() });
    let arn = world.run_one(container("main")).await;
    let task = world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(stop_of(&task).1, "ResourceInitializationError: the host is out of disk: full");
    world.sim.fail_next_start(EngineError::Internal { message: "hiccup".into() });
    let arn = world.run_one(container("main")).await;
    world.until_status(&arn, TaskStatus::Running).await;
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed_when_its_time_is_up() {
    let world = World::started().await;
    world.sim.when_args(&["serve"], Behaviour::runs().on_signal(OnSignal::Ignores));
    let mut wanted = container("main");
    wanted.stop_timeout = Some(7);
    let arn = world.run_one(wanted).await;
    let task = world.until_status(&arn, TaskStatus::Running).await;
    stop(&world, &arn, None).await;
    let id = engine_id(&task, 0);
    world.eventually(|| world.sim.signals(&id) == [Signal::TERM]).await;
    world.sim.advance(Duration::from_secs(6));
    assert_eq!(world.task(&arn).unwrap().status, TaskStatus::Stopping);
    world.sim.advance(Duration::from_secs(1));
    let stopped = world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(stopped.containers[0].exit_code, Some(137));
}

#[tokio::test]
async fn a_program_that_eats_memory_is_told_of() {
    let world = World::started().await;
    let arn = world.run_one(container("main")).await;
    let task = world.until_status(&arn, TaskStatus::Running).await;
    world.sim.out_of_memory(&engine_id(&task, 0));
    let task = world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(stop_of(&task).0, StopCode::EssentialContainerExited);
    let main = &task.containers[0];
    assert_eq!(main.exit_code, Some(137));
    assert_eq!(main.reason.as_deref(), Some("OutOfMemoryError: Container killed due to memory usage"));
}

fn depends(on: &str, condition: types::ContainerCondition) -> Vec<types::ContainerDependency> {
    vec![types::ContainerDependency { container_name: on.to_owned(), condition }]
}

#[tokio::test]
async fn containers_start_in_the_order_of_their_dependencies_and_stop_in_reverse() {
    let world = World::started().await;
    world.sim.when_args(&["migrate"], Behaviour::exits(0).after(Duration::from_secs(2)));
    let mut migrate = container("migrate");
    migrate.command = Some(vec!["migrate".into()]);
    migrate.essential = Some(false);
    let mut sidecar = container("sidecar");
    sidecar.command = Some(vec!["sidecar".into()]);
    sidecar.essential = Some(false);
    let mut main = container("main");
    main.depends_on = Some(vec![
        types::ContainerDependency {
            container_name: "migrate".into(),
            condition: types::ContainerCondition::Success,
        },
        types::ContainerDependency {
            container_name: "sidecar".into(),
            condition: types::ContainerCondition::Start,
        },
    ]);
    let arn = world.run_all(vec![main, migrate, sidecar]).await;
    let at_work = |task: &Task| task.containers[1].status == ContainerStatus::Running;
    let task = world.until(&arn, at_work).await;
    assert_eq!(task.status, TaskStatus::Pending);
    assert_eq!(world.sim.container_spec(&engine_id(&task, 0)), None, "main waits");
    world.sim.advance(Duration::from_secs(2));
    world.until_status(&arn, TaskStatus::Running).await;

    world.sim.when_args(&["serve"], Behaviour::runs());
    stop(&world, &arn, None).await;
    let stopped = world.until_status(&arn, TaskStatus::Stopped).await;
    let codes: Vec<_> = stopped.containers.iter().map(|container| container.exit_code).collect();
    assert_eq!(codes, [Some(143), Some(0), Some(143)]);
}

#[tokio::test]
async fn what_others_depend_on_is_stopped_after_them() {
    let world = World::started().await;
    world.sim.when_args(&["serve"], Behaviour::runs().on_signal(OnSignal::Ignores));
    let mut sidecar = container("sidecar");
    sidecar.command = Some(vec!["sidecar".into()]);
    let mut main = container("main");
    main.depends_on = Some(depends("sidecar", types::ContainerCondition::Start));
    let arn = world.run_all(vec![sidecar, main]).await;
    let task = world.until_status(&arn, TaskStatus::Running).await;
    stop(&world, &arn, None).await;
    let (first, second) = (engine_id(&task, 0), engine_id(&task, 1));
    world.eventually(|| world.sim.signals(&second) == [Signal::TERM]).await;
    assert_eq!(world.sim.signals(&first), []);
    world.sim.advance(Duration::from_secs(30));
    let stopped = world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(stopped.containers[1].exit_code, Some(137));
    assert_eq!(stopped.containers[0].exit_code, Some(143));
}

#[tokio::test]
async fn a_dependency_that_fails_keeps_the_task_from_starting() {
    let world = World::started().await;
    world.sim.when_args(&["migrate"], Behaviour::exits(1).after(Duration::from_secs(1)));
    let mut migrate = container("migrate");
    migrate.command = Some(vec!["migrate".into()]);
    migrate.essential = Some(false);
    let mut main = container("main");
    main.depends_on = Some(depends("migrate", types::ContainerCondition::Success));
    let arn = world.run_all(vec![migrate, main]).await;
    world.until(&arn, |task| task.containers[0].status == ContainerStatus::Running).await;
    world.sim.advance(Duration::from_secs(1));
    let task = world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(stop_of(&task), (StopCode::TaskFailedToStart, "Task failed to start"));
    assert_eq!(task.containers[0].exit_code, Some(1));
    assert!(task.containers[1].reason.as_deref().unwrap().contains("migrate exited with code 1"));
    no_trace(&world).await;
}

#[tokio::test]
async fn an_essential_container_takes_the_others_with_it_and_another_does_not() {
    let world = World::started().await;
    let mut helper = container("helper");
    helper.essential = Some(false);
    let arn = world.run_all(vec![container("main"), helper.clone()]).await;
    let task = world.until_status(&arn, TaskStatus::Running).await;
    world.sim.exit(&engine_id(&task, 1), 9);
    let task = world.until(&arn, |task| task.containers[1].exit_code == Some(9)).await;
    assert_eq!(task.status, TaskStatus::Running);
    world.sim.exit(&engine_id(&task, 0), 0);
    world.until_status(&arn, TaskStatus::Stopped).await;

    let arn = world.run_all(vec![container("main"), helper]).await;
    let task = world.until_status(&arn, TaskStatus::Running).await;
    world.sim.exit(&engine_id(&task, 0), 1);
    let task = world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(task.containers[1].exit_code, Some(143));
    assert_eq!(stop_of(&task).0, StopCode::EssentialContainerExited);
}

#[tokio::test]
async fn a_stopped_task_is_described_for_an_hour() {
    let world = World::started().await;
    let arn = world.run_one(container("main")).await;
    world.until_status(&arn, TaskStatus::Running).await;
    stop(&world, &arn, None).await;
    let task = world.until_status(&arn, TaskStatus::Stopped).await;
    world.sim.advance(Duration::from_secs(59 * 60));
    world.ecs.platform().signal(task.key());
    let describe = types::DescribeTasksRequest { tasks: vec![arn.clone()], ..Default::default() };
    let answer = world.ecs.describe_tasks(&context(), describe.clone()).await.unwrap();
    let described = &answer.tasks.unwrap()[0];
    assert_eq!(described.last_status.as_deref(), Some("STOPPED"));
    assert_eq!(described.stopped_reason.as_deref(), Some("Task stopped by user"));
    world.sim.advance(Duration::from_secs(61));
    world.ecs.platform().signal(task.key());
    world.eventually(|| world.task(&arn).is_none()).await;
    let answer = world.ecs.describe_tasks(&context(), describe).await.unwrap();
    assert_eq!(answer.failures.unwrap()[0].reason.as_deref(), Some("MISSING"));
}

#[tokio::test]
async fn a_task_learns_of_itself_and_of_no_other() {
    let world = World::started().await;
    let arn = world.run_one(logging(container("main"))).await;
    let other = world.run_one(container("main")).await;
    let task = world.until_status(&arn, TaskStatus::Running).await;
    let other = world.until_status(&other, TaskStatus::Running).await;
    let address = task.network.interface.as_ref().unwrap().private_ipv4;
    let get = |path: &str| world.ecs.get("vpc-1", address, path);
    let id = &task.containers[0].runtime_id;

    let answer = get(&format!("/v4/{id}/task"));
    assert_eq!((answer.status, answer.content_type), (200, "application/json"));
    let value: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(value["TaskARN"], arn.as_str());
    assert_eq!(value["KnownStatus"], "RUNNING");
    assert_eq!(value["Limits"], serde_json::json!({ "CPU": 0.25, "Memory": 512 }));
    assert_eq!(value["Containers"][0]["Networks"][0]["IPv4Addresses"][0], address.to_string());
    let value: serde_json::Value = serde_json::from_str(&get(&format!("/v4/{id}")).body).unwrap();
    assert_eq!(value["DockerId"], id.as_str());
    assert_eq!(value["LogOptions"]["awslogs-stream"], format!("ecs/main/{}", task.id));
    assert_eq!(value["Labels"]["com.amazonaws.ecs.task-arn"], arn.as_str());
    assert_eq!(get("/v2/metadata").status, 200);

    let foreign = &other.containers[0].runtime_id;
    assert_eq!(get(&format!("/v4/{foreign}")).status, 404);
    assert_eq!(get(&format!("/v4/{foreign}/task")).status, 404);
    assert_eq!(get("/v4").status, 404);
    assert_eq!(world.ecs.get("vpc-2", address, "/v2/metadata").status, 404);
    stop(&world, &arn, None).await;
    world.until_status(&arn, TaskStatus::Stopped).await;
    world.eventually(|| world.ecs.get("vpc-1", address, "/v2/metadata").status == 404).await;
}

#[tokio::test]
async fn all_tasks_stop_within_a_deadline_and_a_reset_leaves_nothing() {
    let world = World::started().await;
    let definition = world.register(definition("web", vec![container("main")])).await;
    let input = types::RunTaskRequest { count: Some(3), ..run(&definition) };
    let tasks = world.ecs.run_task(&context(), input).await.unwrap().tasks.unwrap();
    let arn = |index: usize| tasks[index].task_arn.clone().unwrap();
    for index in 0..3 {
        world.until_status(&arn(index), TaskStatus::Running).await;
    }
    assert_eq!(world.ecs.running_tasks().len(), 3);
    let left = world.ecs.stop_all("wharf down", Duration::from_secs(10)).await.unwrap();
    assert_eq!(left, []);
    assert_eq!(stop_of(&world.task(&arn(0)).unwrap()).1, "wharf down");
    no_trace(&world).await;

    let stuck = world.run_one(container("main")).await;
    world.until_status(&stuck, TaskStatus::Running).await;
    world.ecs.reset().await.unwrap();
    assert_eq!((world.task(&stuck), world.ecs.tasks().len()), (None, 0));
    no_trace(&world).await;
    let answer = world.ecs.list_task_definitions(&context(), Default::default()).await.unwrap();
    assert_eq!(answer.task_definition_arns, Some(Vec::new()));
    // And it goes on.
    let arn = world.run_one(container("main")).await;
    world.until_status(&arn, TaskStatus::Running).await;
}
