//! Task definitions: what is accepted, made normal, and refused in AWS's words.

use wharf_ecs_api::{Ecs as _, types};

use crate::records::TaskStatus;
use crate::testing::{World, container, context, definition, logging, run};

type Request = types::RegisterTaskDefinitionRequest;

/// A valid definition of one container, changed.
fn with(change: impl FnOnce(&mut Request)) -> Request {
    let mut request = definition("web", vec![container("main")]);
    change(&mut request);
    request
}

fn with_container(change: impl FnOnce(&mut types::ContainerDefinition)) -> Request {
    with(|request| change(&mut request.container_definitions[0]))
}

fn port(container_port: i32, host_port: Option<i32>) -> types::PortMapping {
    types::PortMapping { container_port: Some(container_port), host_port, ..Default::default() }
}

fn option(name: &str, value: Option<&str>) -> Request {
    with_container(|of| {
        *of = logging(of.clone());
        let options = of.log_configuration.as_mut().unwrap().options.as_mut().unwrap();
        match value {
            Some(value) => options.insert(name.to_owned(), value.to_owned()),
            None => options.remove(name),
        };
    })
}

fn pair(change: impl FnOnce(&mut types::ContainerDefinition, &mut types::ContainerDefinition)) -> Request {
    let (mut one, mut two) = (container("one"), container("two"));
    change(&mut one, &mut two);
    definition("web", vec![one, two])
}

fn on(name: &str, condition: types::ContainerCondition) -> Vec<types::ContainerDependency> {
    vec![types::ContainerDependency { container_name: name.to_owned(), condition }]
}

#[tokio::test]
async fn what_is_wrong_with_a_definition_is_said_in_the_words_of_aws() {
    use types::{Compatibility, ContainerCondition, NetworkMode};
    let cases: Vec<(Request, &str)> = vec![
        (with(|of| of.family = String::new()), "Family should not be null or empty."),
        (with(|of| of.family = "a b".into()), "Family contains invalid characters."),
        (with(|of| of.network_mode = None), "Fargate only supports network mode ‘awsvpc’."),
        (
            with(|of| of.network_mode = Some(NetworkMode::Bridge)),
            "Fargate only supports network mode ‘awsvpc’.",
        ),
        (with(|of| of.cpu = None), "Fargate requires that 'cpu' be defined at the task level."),
        (with(|of| of.memory = None), "Fargate requires that 'memory' be defined at the task level."),
        (
            with(|of| of.memory = Some("9999".into())),
            "No Fargate configuration exists for given values: 256 CPU, 9999 memory",
        ),
        (with(|of| of.cpu = Some("lots".into())), "Invalid 'cpu' setting for task."),
        (with(|of| of.memory = Some("-1".into())), "Invalid 'memory' setting for task."),
        (with(|of| of.container_definitions.clear()), "Container list cannot be empty."),
        (
            with(|of| of.container_definitions = (0..11).map(|n| container(&format!("c{n}"))).collect()),
            "at most 10",
        ),
        (with(|of| of.execution_role_arn = Some("me".into())), "Invalid 'executionRoleArn'"),
        (with_container(|of| of.name = None), "Container.name should not be null or empty."),
        (with_container(|of| of.name = Some("a/b".into())), "Container.name contains invalid characters."),
        (with_container(|of| of.image = Some(String::new())), "Container.image should not be null or empty."),
        (with_container(|of| of.essential = Some(false)), "at least one essential container"),
        (
            with_container(|of| of.memory = Some(1024)),
            "The 'memory' setting for container is greater than for the task.",
        ),
        (with_container(|of| of.memory = Some(5)), "Invalid setting for container 'main'."),
        (
            with_container(|of| (of.memory, of.memory_reservation) = (Some(64), Some(128))),
            "'memory' must be greater than or equal to 'memoryReservation'",
        ),
        (with_container(|of| of.cpu = Some(-1)), "Invalid 'cpu' setting for container 'main'."),
        (
            with_container(|of| of.cpu = Some(512)),
            "The sum of all container 'cpu' values cannot be greater than the value of the task 'cpu'.",
        ),
        (
            with_container(|of| of.port_mappings = Some(vec![port(80, Some(8080))])),
            "When networkMode=awsvpc, the host ports and container ports in port mappings must match.",
        ),
        (with_container(|of| of.port_mappings = Some(vec![port(0, None)])), "Container port must be"),
        (
            with_container(|of| of.port_mappings = Some(vec![port(80, None), port(80, None)])),
            "Host ports must be unique",
        ),
        (with_container(|of| of.working_directory = Some("srv".into())), "must be an absolute path"),
        (with_container(|of| of.stop_timeout = Some(121)), "stopTimeout must be at most 120 seconds"),
        (with_container(|of| of.start_timeout = Some(1)), "startTimeout must be at least 2 seconds"),
        (
            with_container(|of| {
                let variable = types::KeyValuePair { name: Some("A=B".into()), value: None };
                of.environment = Some(vec![variable]);
            }),
            "Invalid environment variable name",
        ),
        (with_container(|of| of.command = Some(vec!["a\0b".into()])), "contains a zero byte"),
        (
            with_container(|of| {
                let limit = types::Ulimit { name: types::UlimitName::Nofile, soft_limit: 9, hard_limit: 8 };
                of.ulimits = Some(vec![limit]);
            }),
            "the soft limit must not exceed the hard limit",
        ),
        (
            with_container(|of| {
                let add = types::KernelCapabilities { add: Some(vec!["NET_ADMIN".into()]), drop: None };
                of.linux_parameters =
                    Some(types::LinuxParameters { capabilities: Some(add), ..Default::default() });
            }),
            "not supported for tasks on Fargate: NET_ADMIN",
        ),
        (
            with_container(|of| {
                of.linux_parameters =
                    Some(types::LinuxParameters { shared_memory_size: Some(64), ..Default::default() });
            }),
            "not supported on Fargate: sharedMemorySize",
        ),
        (option("awslogs-group", None), "Log driver awslogs requires options: awslogs-group"),
        (option("awslogs-region", None), "Log driver awslogs requires options: awslogs-region"),
        (option("awslogs-stream-prefix", None), "awslogs-stream-prefix"),
        (option("awslogs-create-group", Some("yes")), "awslogs-create-group must be true or false"),
        (pair(|_, two| two.name = Some("one".into())), "Container names must be unique"),
        (
            pair(|one, _| one.depends_on = Some(on("three", ContainerCondition::Start))),
            "which does not exist",
        ),
        (
            pair(|one, two| {
                one.depends_on = Some(on("two", ContainerCondition::Start));
                two.depends_on = Some(on("one", ContainerCondition::Start));
            }),
            "There is a cycle in the container dependencies.",
        ),
        (
            pair(|one, _| one.depends_on = Some(on("two", ContainerCondition::Success))),
            "A dependency container with SUCCESS or COMPLETE condition cannot be an essential container",
        ),
        (
            with(|of| {
                of.requires_compatibilities = Some(vec![Compatibility::Ec2]);
                (of.network_mode, of.cpu, of.memory) = (None, None, None);
            }),
            "At least one of 'memory' or 'memoryReservation' must be specified.",
        ),
        (with_container(|of| of.command = Some(vec!["x".repeat(65 * 1024)])), "exceeds the maximum of 64 KB"),
    ];
    let world = World::at_rest();
    for (request, words) in cases {
        let error = world.ecs.register_task_definition(&context(), request.clone()).await.expect_err(words);
        assert_eq!(error.code, "ClientException", "{words}: {error}");
        assert!(error.message.contains(words), "{words}: {error}");
    }
    let listed = world.ecs.list_task_definitions(&context(), Default::default()).await.unwrap();
    assert_eq!(listed.task_definition_arns, Some(Vec::new()), "nothing was registered");
}

#[tokio::test]
async fn what_wharf_does_not_do_is_refused_by_name() {
    let cases: Vec<(Request, &str)> = vec![
        (with(|of| of.task_role_arn = Some("arn:aws:iam::000000000000:role/x".into())), "taskRoleArn"),
        (
            with(|of| {
                let volume = types::Volume {
                    efs_volume_configuration: Some(Default::default()),
                    ..types::Volume::default()
                };
                of.volumes = Some(vec![volume]);
            }),
            "efsVolumeConfiguration",
        ),
        (with_container(|of| of.privileged = Some(true)), "privileged"),
        (with_container(|of| of.secrets = Some(vec![Default::default()])), "secrets"),
        (
            with_container(|of| {
                of.linux_parameters =
                    Some(types::LinuxParameters { max_swap: Some(1), ..Default::default() });
            }),
            "maxSwap",
        ),
        (option("awslogs-datetime-format", Some("%Y")), "awslogs-datetime-format"),
        (
            with_container(|of| {
                *of = logging(of.clone());
                of.log_configuration.as_mut().unwrap().log_driver = types::LogDriver::Splunk;
            }),
            "splunk",
        ),
        (
            with(|of| {
                of.runtime_platform = Some(types::RuntimePlatform {
                    cpu_architecture: None,
                    operating_system_family: Some(types::OSFamily::WindowsServer2022Core),
                });
            }),
            "WINDOWS_SERVER_2022_CORE",
        ),
    ];
    let world = World::at_rest();
    for (request, name) in cases {
        let error = world.ecs.register_task_definition(&context(), request).await.expect_err(name);
        assert_eq!(error.code, "NotImplemented", "{name}: {error}");
        assert!(
            error.message.contains(name) && error.message.contains("ecs:RegisterTaskDefinition"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_answer_has_the_normal_form_of_aws() {
    let world = World::at_rest();
    let request = with(|of| {
        of.cpu = Some(".25 vCPU".into());
        of.memory = Some("0.5 GB".into());
        of.container_definitions[0] = logging(of.container_definitions[0].clone());
        of.container_definitions[0].port_mappings = Some(vec![port(80, None)]);
    });
    let answer = world.ecs.register_task_definition(&context(), request).await.unwrap();
    let registered = answer.task_definition.unwrap();
    assert_eq!((registered.cpu.as_deref(), registered.memory.as_deref()), (Some("256"), Some("512")));
    assert_eq!(registered.revision, Some(1));
    assert_eq!(registered.registered_by.as_deref(), Some("arn:aws:iam::000000000000:root"));
    assert_eq!(
        registered.compatibilities,
        Some(vec![types::Compatibility::Ec2, types::Compatibility::Fargate])
    );
    let of = &registered.container_definitions.as_ref().unwrap()[0];
    assert_eq!((of.cpu, of.essential), (Some(0), Some(true)));
    let mapping = &of.port_mappings.as_ref().unwrap()[0];
    assert_eq!(
        (mapping.host_port, mapping.protocol.as_ref()),
        (Some(80), Some(&types::TransportProtocol::Tcp))
    );
    assert_eq!((&of.environment, &of.mount_points), (&Some(Vec::new()), &Some(Vec::new())));
    let attributes: Vec<_> =
        registered.requires_attributes.as_ref().unwrap().iter().map(|of| of.name.as_str()).collect();
    assert!(attributes.contains(&"com.amazonaws.ecs.capability.logging-driver.awslogs"), "{attributes:?}");
    let described = types::DescribeTaskDefinitionRequest { task_definition: "web".into(), include: None };
    let described = world.ecs.describe_task_definition(&context(), described).await.unwrap();
    assert_eq!(described.task_definition, Some(registered));
}

#[tokio::test]
async fn revisions_are_counted_retired_deleted_and_never_used_again() {
    let world = World::started().await;
    let first = world.register(definition("web", vec![container("main")])).await;
    let second = world.register(definition("web", vec![container("main")])).await;
    assert!(first.ends_with("task-definition/web:1") && second.ends_with("task-definition/web:2"));

    let deregister = |name: &str| types::DeregisterTaskDefinitionRequest { task_definition: name.to_owned() };
    let answer = world.ecs.deregister_task_definition(&context(), deregister("web:2")).await.unwrap();
    assert_eq!(answer.task_definition.unwrap().status, Some(types::TaskDefinitionStatus::Inactive));
    let describe =
        |name: &str| types::DescribeTaskDefinitionRequest { task_definition: name.to_owned(), include: None };
    let newest = world.ecs.describe_task_definition(&context(), describe("web")).await.unwrap();
    assert_eq!(newest.task_definition.unwrap().revision, Some(1));
    let error = world.ecs.run_task(&context(), run("web:2")).await.unwrap_err();
    assert_eq!(
        (error.code.as_ref(), error.message.as_str()),
        ("ClientException", "TaskDefinition is inactive")
    );

    // One that a task still runs on stays until that is forgotten.
    let arn = world.ecs.run_task(&context(), run("web:1")).await.unwrap().tasks.unwrap()[0].task_arn.clone();
    world.until_status(&arn.unwrap(), TaskStatus::Running).await;
    world.ecs.deregister_task_definition(&context(), deregister("web:1")).await.unwrap();
    let delete = types::DeleteTaskDefinitionsRequest {
        task_definitions: vec!["web:1".into(), "web:2".into(), "web:9".into()],
    };
    let answer = world.ecs.delete_task_definitions(&context(), delete).await.unwrap();
    assert_eq!(answer.failures.unwrap().len(), 1);
    let deleted = answer.task_definitions.unwrap();
    assert!(deleted.iter().all(|of| of.status == Some(types::TaskDefinitionStatus::DeleteInProgress)));
    world.ecs.platform().sweep().await.unwrap();
    world.ecs.describe_task_definition(&context(), describe("web:1")).await.unwrap();
    let error = world.ecs.describe_task_definition(&context(), describe("web:2")).await.unwrap_err();
    assert_eq!(error.message, "Unable to describe task definition.");
    let third = world.register(definition("web", vec![container("main")])).await;
    assert!(third.ends_with("web:3"), "{third}");

    let delete = types::DeleteTaskDefinitionsRequest { task_definitions: vec!["web:3".into()] };
    let answer = world.ecs.delete_task_definitions(&context(), delete).await.unwrap();
    assert!(answer.failures.unwrap()[0].reason.as_deref().unwrap().contains("ACTIVE"));
}
