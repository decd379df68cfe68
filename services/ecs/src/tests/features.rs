//! Volumes, health checks, restart policies and ephemeral storage: what is accepted, what the engine is
//! asked for, and what is told of it.

use std::time::Duration;

use wharf_contracts::ImageConfig;
use wharf_ecs_api::{Ecs as _, types};
use wharf_engine::log::LogPolicy;
use wharf_engine::sim::Behaviour;
use wharf_engine::{HealthCheck, InitialContent, Mount, MountSource, RestartPolicy, SandboxId, VolumeName};

use crate::records::{ContainerHealth, ContainerStatus, StopCode, TaskStatus};
use crate::testing::{World, container, context, definition, engine_id, logging, run};

type Request = types::RegisterTaskDefinitionRequest;

fn volume(name: &str) -> types::Volume {
    types::Volume { name: Some(name.to_owned()), ..types::Volume::default() }
}

fn mount(volume: &str, path: &str) -> types::MountPoint {
    types::MountPoint {
        source_volume: Some(volume.to_owned()),
        container_path: Some(path.to_owned()),
        read_only: None,
    }
}

fn from(container: &str, read_only: Option<bool>) -> types::VolumeFrom {
    types::VolumeFrom { source_container: Some(container.to_owned()), read_only }
}

fn check(command: &[&str]) -> types::HealthCheck {
    types::HealthCheck {
        command: command.iter().map(|&part| part.to_owned()).collect(),
        ..types::HealthCheck::default()
    }
}

fn checked(name: &str) -> types::ContainerDefinition {
    types::ContainerDefinition { health_check: Some(check(&["CMD-SHELL", "test -e /ok"])), ..container(name) }
}

fn policy(period: Option<i32>, codes: &[i32]) -> types::ContainerRestartPolicy {
    types::ContainerRestartPolicy {
        enabled: true,
        ignored_exit_codes: Some(codes.to_vec()),
        restart_attempt_period: period,
    }
}

fn with(change: impl FnOnce(&mut Request)) -> Request {
    let mut request = definition("web", vec![container("main"), container("side")]);
    change(&mut request);
    request
}

fn with_main(change: impl FnOnce(&mut types::ContainerDefinition)) -> Request {
    with(|of| change(&mut of.container_definitions[0]))
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_words_of_aws() {
    let path = |path: &str| {
        let path = path.to_owned();
        with(move |of| {
            of.volumes = Some(vec![volume("data")]);
            of.container_definitions[0].mount_points = Some(vec![mount("data", &path)]);
        })
    };
    let on_healthy = |name: &str| {
        Some(vec![types::ContainerDependency {
            container_name: name.to_owned(),
            condition: types::ContainerCondition::Healthy,
        }])
    };
    let cases: Vec<(Request, &str)> = vec![
        (with_main(|of| of.mount_points = Some(vec![mount("data", "/x")])), "Unknown volume 'data'."),
        (with(|of| of.volumes = Some(vec![volume("a b")])), "Volume.name contains invalid characters."),
        (with(|of| of.volumes = Some(vec![volume("a"), volume("a")])), "Duplicate volume name: 'a'."),
        (
            with(|of| {
                let host = types::HostVolumeProperties { source_path: Some("/etc".into()) };
                of.volumes = Some(vec![types::Volume { host: Some(host), ..volume("data") }]);
            }),
            "Fargate compatible task definitions do not support sourcePath",
        ),
        (path("data"), "it must be an absolute path"),
        (path("/"), "it must be an absolute path"),
        (with_main(|of| of.volumes_from = Some(vec![from("nobody", None)])), "Unknown volumesFrom container"),
        (
            with(|of| {
                of.container_definitions[0].volumes_from = Some(vec![from("side", None)]);
                of.container_definitions[1].volumes_from = Some(vec![from("main", None)]);
            }),
            "cycle in the volumesFrom",
        ),
        (
            with(|of| of.ephemeral_storage = Some(types::EphemeralStorage { size_in_gi_b: 20 })),
            "between 21 and 200 GiB",
        ),
        (with_main(|of| of.health_check = Some(check(&["curl"]))), "must start with CMD"),
        (with_main(|of| of.health_check = Some(check(&["CMD"]))), "must start with CMD"),
        (
            with_main(|of| {
                of.health_check = Some(types::HealthCheck { interval: Some(4), ..check(&["CMD", "true"]) });
            }),
            "healthCheck.interval must be between 5 and 300",
        ),
        (
            with_main(|of| {
                of.health_check = Some(types::HealthCheck { retries: Some(11), ..check(&["CMD", "true"]) });
            }),
            "healthCheck.retries must be between 1 and 10",
        ),
        (
            with_main(|of| of.restart_policy = Some(policy(Some(59), &[]))),
            "restartAttemptPeriod must be between 60 and 1800",
        ),
        (with_main(|of| of.restart_policy = Some(policy(None, &[1; 51]))), "at most 50 exit codes"),
        (with_main(|of| of.depends_on = on_healthy("side")), "which has no health check"),
    ];
    let world = World::at_rest();
    for (request, expected) in cases {
        let error = world.ecs.register_task_definition(&context(), request).await.unwrap_err();
        assert_eq!(error.code, "ClientException", "{expected}");
        assert!(error.message.contains(expected), "{} for {expected}", error.message);
    }
}

#[tokio::test]
async fn what_was_given_comes_back() {
    let world = World::at_rest();
    let request = with(|of| {
        of.volumes = Some(vec![volume("data")]);
        of.ephemeral_storage = Some(types::EphemeralStorage { size_in_gi_b: 42 });
        let main = &mut of.container_definitions[0];
        main.mount_points = Some(vec![types::MountPoint { read_only: Some(true), ..mount("data", "/in") }]);
        main.health_check = Some(types::HealthCheck { retries: Some(2), ..check(&["CMD", "true"]) });
        main.restart_policy = Some(policy(None, &[0, 3]));
        main.linux_parameters =
            Some(types::LinuxParameters { init_process_enabled: Some(true), ..Default::default() });
        of.container_definitions[1].volumes_from = Some(vec![from("main", Some(true))]);
    });
    let answer = world.ecs.register_task_definition(&context(), request.clone()).await.unwrap();
    let told = answer.task_definition.unwrap();
    assert_eq!(told.volumes.unwrap()[0].name.as_deref(), Some("data"));
    assert_eq!(told.ephemeral_storage.unwrap().size_in_gi_b, 42);
    let (given, told) = (&request.container_definitions, told.container_definitions.unwrap());
    assert_eq!(told[0].mount_points, given[0].mount_points);
    assert_eq!(told[1].volumes_from, given[1].volumes_from);
    assert_eq!(told[0].restart_policy, given[0].restart_policy);
    assert_eq!(told[0].linux_parameters.as_ref().unwrap().init_process_enabled, Some(true));
    let check = told[0].health_check.as_ref().unwrap();
    assert_eq!((check.interval, check.timeout, check.retries), (Some(30), Some(5), Some(2)));
    assert_eq!(check.start_period, None);
}

#[tokio::test]
async fn the_engine_is_asked_for_volumes_storage_health_and_restarts() {
    let world = World::started().await;
    let image = ImageConfig {
        cmd: vec!["serve".into()],
        volumes: vec!["/var/data/".into()],
        ..ImageConfig::default()
    };
    world.images.add("stateful", image);
    let mut logged = logging(container("main"));
    let options = logged.log_configuration.as_mut().unwrap().options.as_mut().unwrap();
    options.insert("mode".to_owned(), "non-blocking".to_owned());
    options.insert("max-buffer-size".to_owned(), "2m".to_owned());
    let request = with(|of| {
        of.volumes = Some(vec![volume("data"), volume("scratch")]);
        let main = &mut of.container_definitions[0];
        main.log_configuration = logged.log_configuration;
        main.image = Some("stateful".into());
        main.mount_points = Some(vec![mount("scratch", "/var/data/tmp"), mount("data", "/var/data")]);
        main.health_check =
            Some(types::HealthCheck { start_period: Some(9), ..check(&["CMD-SHELL", "exit 0"]) });
        main.restart_policy = Some(policy(None, &[7]));
        main.linux_parameters =
            Some(types::LinuxParameters { init_process_enabled: Some(true), ..Default::default() });
        of.container_definitions[1].volumes_from = Some(vec![from("main", Some(true))]);
    });
    let registered = world.register(request).await;
    let mut wanted = run(&registered);
    wanted.overrides = Some(types::TaskOverride {
        ephemeral_storage: Some(types::EphemeralStorage { size_in_gi_b: 21 }),
        ..types::TaskOverride::default()
    });
    let answer = world.ecs.run_task(&context(), wanted).await.unwrap().tasks.unwrap().remove(0);
    assert_eq!(answer.ephemeral_storage.unwrap().size_in_gi_b, 21);
    let task = world.until_status(&answer.task_arn.unwrap(), TaskStatus::Running).await;

    let name = |index: usize| VolumeName::new(format!("v{index}")).unwrap();
    let sandbox = world.sim.sandbox_spec(&SandboxId::new(task.id.clone()).unwrap()).unwrap();
    assert_eq!(sandbox.volumes, [name(0), name(1)]);
    assert_eq!(sandbox.ephemeral_storage_bytes, Some(21 << 30));
    let main = world.sim.container_spec(&engine_id(&task, 0)).unwrap();
    let data = Mount::volume(MountSource::Sandbox(name(0)), "/var/data");
    let scratch = Mount {
        content: InitialContent::AsItIs,
        ..Mount::volume(MountSource::Sandbox(name(1)), "/var/data/tmp")
    };
    assert_eq!(main.mounts, [data.clone(), scratch.clone()], "the outer one first");
    assert_eq!(main.log, LogPolicy::DropOldest { segment_bytes: 256 << 10, segments_max: 8 });
    assert_eq!(main.init, wharf_engine::Init::Reaper);
    let expected = HealthCheck {
        args: vec!["/bin/sh".into(), "-c".into(), "exit 0".into()],
        interval: Duration::from_secs(30),
        timeout: Duration::from_secs(5),
        retries: 3,
        start_period: Duration::from_secs(9),
    };
    assert_eq!(main.health, Some(expected));
    let expected =
        RestartPolicy::OncePerPeriod { period: Duration::from_secs(300), ignored_exit_codes: vec![7] };
    assert_eq!(main.restart, Some(expected));
    let side = world.sim.container_spec(&engine_id(&task, 1)).unwrap();
    // The other image declares no volume there.
    let plain = Mount { content: InitialContent::AsItIs, ..data };
    assert_eq!(side.mounts, [plain.read_only(), scratch.read_only()]);
    assert_eq!((side.health, side.restart, side.log), (None, None, LogPolicy::KeepAll));
}

/// The ways through them are 20 to the ninth.
#[tokio::test]
async fn volumes_from_volumes_from_volumes_are_found_once() {
    let world = World::started().await;
    let name = |index: usize| format!("c{index}");
    let mut containers: Vec<_> = (0..10).map(|index| container(&name(index))).collect();
    for (index, of) in containers.iter_mut().enumerate().skip(1) {
        of.volumes_from = Some(vec![from(&name(index - 1), None); 20]);
    }
    containers[0].mount_points = Some(vec![mount("data", "/data")]);
    let mut request = definition("web", containers);
    request.volumes = Some(vec![volume("data")]);
    let registered = world.register(request).await;
    let answer = world.ecs.run_task(&context(), run(&registered)).await.unwrap().tasks.unwrap().remove(0);
    let task = world.until_status(&answer.task_arn.unwrap(), TaskStatus::Running).await;
    let last = world.sim.container_spec(&engine_id(&task, 9)).unwrap();
    assert_eq!(last.mounts.len(), 1);
}

#[tokio::test]
async fn a_container_waits_for_another_to_be_healthy_and_health_is_told() {
    let world = World::started().await;
    let mut app = checked("app");
    app.depends_on = Some(vec![types::ContainerDependency {
        container_name: "db".to_owned(),
        condition: types::ContainerCondition::Healthy,
    }]);
    let arn = world.run_all(vec![checked("db"), app]).await;
    let task = world.until(&arn, |task| task.containers[0].status == ContainerStatus::Running).await;
    let (db, app) = (engine_id(&task, 0), engine_id(&task, 1));
    world.sim.probe(&db, Some(1));
    assert_eq!(task.status, TaskStatus::Pending);
    assert!(world.sim.container_spec(&app).is_none());
    world.sim.probe(&db, Some(0));
    let task = world.until_status(&arn, TaskStatus::Running).await;
    assert_eq!(task.containers[0].health, ContainerHealth::Healthy);
    assert_eq!(task.health(), ContainerHealth::Unknown, "the other has not said anything yet");
    world.sim.probe(&app, Some(0));
    let healthy = world.until(&arn, |task| task.health() == ContainerHealth::Healthy).await;
    assert!(healthy.version > task.version);
    for _ in 0..3 {
        world.sim.probe(&db, None);
    }
    // Not part of a service: it goes on whatever its health.
    let unhealthy = world.until(&arn, |task| task.health() == ContainerHealth::Unhealthy).await;
    assert_eq!(unhealthy.status, TaskStatus::Running);
    let input = types::DescribeTasksRequest { tasks: vec![arn.clone()], ..Default::default() };
    let told = world.ecs.describe_tasks(&context(), input).await.unwrap().tasks.unwrap().remove(0);
    assert_eq!(told.health_status, Some(types::HealthStatus::Unhealthy));
    let containers = told.containers.unwrap();
    assert_eq!(containers[0].health_status, Some(types::HealthStatus::Unhealthy));
    assert_eq!(containers[1].health_status, Some(types::HealthStatus::Healthy));
}

#[tokio::test]
async fn a_dependency_that_ends_before_it_is_healthy_fails_the_start() {
    let world = World::started().await;
    world.sim.when_args(&["serve"], Behaviour::exits(1).after(Duration::from_secs(1)));
    let mut db = checked("db");
    db.essential = Some(false);
    let mut app = container("app");
    app.command = Some(vec!["app".into()]);
    app.depends_on = Some(vec![types::ContainerDependency {
        container_name: "db".to_owned(),
        condition: types::ContainerCondition::Healthy,
    }]);
    let arn = world.run_all(vec![db, app]).await;
    world.until(&arn, |task| task.containers[0].status == ContainerStatus::Running).await;
    world.sim.advance(Duration::from_secs(1));
    let task = world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(task.stop.as_ref().unwrap().code, StopCode::TaskFailedToStart);
    let reason = task.containers[1].reason.as_deref().unwrap();
    assert_eq!(reason, "dependency container db ended before it was HEALTHY");
}

#[tokio::test]
async fn a_container_that_is_started_again_keeps_its_task_running() {
    let mut world = World::started().await;
    world.sim.when_args(&["serve"], Behaviour::exits(1).after(Duration::from_secs(400)));
    let mut main = checked("main");
    main.restart_policy = Some(policy(None, &[]));
    let arn = world.run_one(main).await;
    let task = world.until_status(&arn, TaskStatus::Running).await;
    let id = engine_id(&task, 0);
    world.sim.probe(&id, Some(0));
    world.until(&arn, |task| task.health() == ContainerHealth::Healthy).await;
    world.sim.advance(Duration::from_secs(401));
    let again = world.until(&arn, |task| task.health() == ContainerHealth::Unknown).await;
    assert_eq!((again.status, again.containers[0].exit_code), (TaskStatus::Running, None));
    world.restart().await;
    world.sim.exit(&id, 5);
    let stopped = world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(stopped.containers[0].exit_code, Some(5), "it ended too early to be started once more");
}
