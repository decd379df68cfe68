//! Lists, filters, pages, and what `RunTask` refuses.

use wharf_ecs_api::{Ecs as _, types};

use crate::records::TaskStatus;
use crate::testing::{SUBNET, World, container, context, definition, run};

#[tokio::test]
async fn tasks_are_listed_by_filter_and_in_pages() {
    let world = World::at_rest();
    let web = world.register(definition("web", vec![container("main")])).await;
    let job = world.register(definition("job", vec![container("main")])).await;
    let mut all = Vec::new();
    for _ in 0..3 {
        let input = types::RunTaskRequest { count: Some(10), started_by: Some("me".into()), ..run(&web) };
        all.extend(world.ecs.run_task(&context(), input).await.unwrap().tasks.unwrap());
    }
    world.ecs.run_task(&context(), run(&job)).await.unwrap();
    let list = |change: fn(&mut types::ListTasksRequest)| {
        let mut input = types::ListTasksRequest::default();
        change(&mut input);
        input
    };
    let mut listed = Vec::new();
    let mut input = list(|of| (of.family, of.max_results) = (Some("web".into()), Some(7)));
    let mut pages = 0;
    loop {
        let answer = world.ecs.list_tasks(&context(), input.clone()).await.unwrap();
        listed.extend(answer.task_arns.unwrap());
        pages += 1;
        input.next_token = answer.next_token;
        if input.next_token.is_none() {
            break;
        }
    }
    let mut expected: Vec<_> = all.iter().map(|task| task.task_arn.clone().unwrap()).collect();
    expected.sort();
    listed.sort();
    assert_eq!((listed, pages), (expected, 5));

    let count = async |input| world.ecs.list_tasks(&context(), input).await.unwrap().task_arns.unwrap().len();
    assert_eq!(count(list(|_| {})).await, 31);
    assert_eq!(count(list(|of| of.started_by = Some("me".into()))).await, 30);
    assert_eq!(count(list(|of| of.desired_status = Some(types::DesiredStatus::Stopped))).await, 0);
    assert_eq!(count(list(|of| of.desired_status = Some(types::DesiredStatus::Pending))).await, 0);
    assert_eq!(count(list(|of| of.launch_type = Some(types::LaunchType::Ec2))).await, 0);

    let first = list(|of| (of.family, of.max_results) = (Some("web".into()), Some(7)));
    let token = world.ecs.list_tasks(&context(), first).await.unwrap().next_token;
    for input in [
        types::ListTasksRequest { next_token: token, ..list(|of| of.family = Some("job".into())) },
        list(|of| of.next_token = Some("x".into())),
        list(|of| of.max_results = Some(0)),
        list(|of| of.container_instance = Some("i-1".into())),
    ] {
        let error = world.ecs.list_tasks(&context(), input.clone()).await.unwrap_err();
        assert_eq!(error.code, "InvalidParameterException", "{input:?}");
    }
    let error =
        world.ecs.list_tasks(&context(), list(|of| of.service_name = Some("s".into()))).await.unwrap_err();
    assert_eq!(error.code, "ServiceNotFoundException");
}

#[tokio::test]
async fn definitions_and_families_are_listed_in_order() {
    let world = World::at_rest();
    for family in ["web", "job", "web", "web", "web-2"] {
        world.register(definition(family, vec![container("main")])).await;
    }
    let deregister = types::DeregisterTaskDefinitionRequest { task_definition: "job:1".into() };
    world.ecs.deregister_task_definition(&context(), deregister).await.unwrap();
    let names = |arns: Option<Vec<String>>| -> Vec<String> {
        arns.unwrap().iter().map(|arn| arn.rsplit_once('/').unwrap().1.to_owned()).collect()
    };
    let list = async |input| {
        names(world.ecs.list_task_definitions(&context(), input).await.unwrap().task_definition_arns)
    };
    assert_eq!(list(Default::default()).await, ["web:1", "web:2", "web:3", "web-2:1"]);
    let of = types::ListTaskDefinitionsRequest { family_prefix: Some("web".into()), ..Default::default() };
    assert_eq!(list(of.clone()).await, ["web:1", "web:2", "web:3"]);
    let descending = types::ListTaskDefinitionsRequest { sort: Some(types::SortOrder::Desc), ..of };
    assert_eq!(list(descending.clone()).await, ["web:3", "web:2", "web:1"]);
    let page = types::ListTaskDefinitionsRequest { max_results: Some(2), ..descending };
    let answer = world.ecs.list_task_definitions(&context(), page.clone()).await.unwrap();
    let rest = types::ListTaskDefinitionsRequest { next_token: answer.next_token, ..page };
    assert_eq!(list(rest).await, ["web:1"]);
    let inactive = types::ListTaskDefinitionsRequest {
        status: Some(types::TaskDefinitionStatus::Inactive),
        ..Default::default()
    };
    assert_eq!(list(inactive).await, ["job:1"]);

    let families = async |status, prefix: &str| {
        let input = types::ListTaskDefinitionFamiliesRequest {
            status,
            family_prefix: Some(prefix.to_owned()),
            ..Default::default()
        };
        world.ecs.list_task_definition_families(&context(), input).await.unwrap().families.unwrap()
    };
    assert_eq!(families(None, "").await, ["job", "web", "web-2"]);
    assert_eq!(families(Some(types::TaskDefinitionFamilyStatus::Active), "w").await, ["web", "web-2"]);
    assert_eq!(families(Some(types::TaskDefinitionFamilyStatus::Inactive), "").await, ["job"]);
}

#[tokio::test]
async fn a_token_makes_tasks_once_and_means_one_request() {
    let world = World::at_rest();
    let web = world.register(definition("web", vec![container("main")])).await;
    let input = types::RunTaskRequest { client_token: Some("once".into()), count: Some(2), ..run(&web) };
    let first = world.ecs.run_task(&context(), input.clone()).await.unwrap();
    let again = world.ecs.run_task(&context(), input.clone()).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(world.ecs.tasks().len(), 2);
    let other = types::RunTaskRequest { count: Some(3), ..input };
    let error = world.ecs.run_task(&context(), other).await.unwrap_err();
    assert_eq!(error.code, "ConflictException");
    let both = types::RunTaskRequest { client_token: Some("both".into()), ..run(&web) };
    let (context, again) = (context(), both.clone());
    let (one, two) = tokio::join!(world.ecs.run_task(&context, both), world.ecs.run_task(&context, again));
    assert_eq!(one.unwrap().tasks.unwrap()[0].task_arn, two.unwrap().tasks.unwrap()[0].task_arn);
}

type Run = types::RunTaskRequest;

#[tokio::test]
async fn what_cannot_be_run_is_said_in_the_words_of_aws() {
    let world = World::at_rest();
    let web = world.register(definition("web", vec![container("main")])).await;
    let mut bridged = definition("ec2", vec![container("main")]);
    bridged.requires_compatibilities = Some(vec![types::Compatibility::Ec2]);
    bridged.network_mode = None;
    let ec2 = world.register(bridged).await;
    let subnets = |subnets: &[&str]| {
        Some(types::NetworkConfiguration {
            awsvpc_configuration: Some(types::AwsVpcConfiguration {
                subnets: subnets.iter().map(|id| (*id).to_owned()).collect(),
                ..Default::default()
            }),
        })
    };
    let over = |change: fn(&mut types::TaskOverride)| {
        let mut over = types::TaskOverride::default();
        change(&mut over);
        Some(over)
    };
    let of = |change: &dyn Fn(&mut Run)| {
        let mut input = run(&web);
        change(&mut input);
        input
    };
    let named =
        |name: &str| Some(vec![types::ContainerOverride { name: Some(name.into()), ..Default::default() }]);
    let cases: Vec<(Run, &str, &str)> = vec![
        (run("none"), "ClientException", "TaskDefinition not found."),
        (run(&ec2), "InvalidParameterException", "Task definition does not support launch_type FARGATE."),
        (
            of(&|of| of.launch_type = None),
            "InvalidParameterException",
            "No Container Instances were found in your cluster.",
        ),
        (
            of(&|of| of.launch_type = Some(types::LaunchType::Ec2)),
            "InvalidParameterException",
            "No Container Instances were found in your cluster.",
        ),
        (of(&|of| of.count = Some(11)), "InvalidParameterException", "Count should be between 1 and 10."),
        (of(&|of| of.cluster = Some("none".into())), "ClusterNotFoundException", "Cluster not found."),
        (
            of(&|of| of.network_configuration = None),
            "InvalidParameterException",
            "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
        ),
        (
            of(&|of| of.network_configuration = subnets(&[])),
            "InvalidParameterException",
            "subnets can not be empty.",
        ),
        (
            of(&|of| of.network_configuration = subnets(&["subnet-none"])),
            "InvalidParameterException",
            "The subnet ID 'subnet-none' does not exist (ErrorCode: InvalidSubnetID.NotFound)",
        ),
        (
            of(&|of| of.network_configuration = subnets(&[SUBNET; 17])),
            "InvalidParameterException",
            "at most 16",
        ),
        (
            of(&|of| of.platform_version = Some("9.9".into())),
            "PlatformUnknownException",
            "platform does not exist",
        ),
        (of(&|of| of.platform_version = Some("1.3.0".into())), "NotImplemented", "platformVersion"),
        (of(&|of| of.enable_execute_command = Some(true)), "NotImplemented", "enableExecuteCommand"),
        (of(&|of| of.client_token = Some("a b".into())), "InvalidParameterException", "clientToken"),
        (
            of(&|of| of.group = Some("service:x".into())),
            "InvalidParameterException",
            "Invalid namespace for group.",
        ),
        (
            of(&|of| of.overrides = over(|over| over.memory = Some("9999".into()))),
            "ClientException",
            "No Fargate configuration exists for given values",
        ),
        (
            of(&|of| of.overrides = over(|over| over.task_role_arn = Some("x".into()))),
            "NotImplemented",
            "taskRoleArn",
        ),
        (
            of(&|of| {
                of.overrides =
                    Some(types::TaskOverride { container_overrides: named("none"), ..Default::default() });
            }),
            "InvalidParameterException",
            "Override for container named none is not a container in the TaskDefinition.",
        ),
    ];
    for (input, code, words) in cases {
        let error = world.ecs.run_task(&context(), input).await.expect_err(words);
        assert_eq!(error.code, code, "{words}: {error}");
        assert!(error.message.contains(words), "{words}: {error}");
    }
    assert_eq!(world.ecs.tasks().len(), 0);
}

#[tokio::test]
async fn overrides_change_the_task_and_are_told() {
    let world = World::started().await;
    let web = world.register(definition("web", vec![container("main")])).await;
    let input = Run {
        overrides: Some(types::TaskOverride {
            cpu: Some("512".into()),
            memory: Some("1 GB".into()),
            container_overrides: Some(vec![types::ContainerOverride {
                name: Some("main".into()),
                command: Some(vec!["other".into()]),
                memory: Some(700),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        ..run(&web)
    };
    let task = world.ecs.run_task(&context(), input).await.unwrap().tasks.unwrap().remove(0);
    assert_eq!((task.cpu.as_deref(), task.memory.as_deref()), (Some("512"), Some("1024")));
    let over = task.overrides.as_ref().unwrap().container_overrides.as_ref().unwrap();
    assert_eq!(over[0].command, Some(vec!["other".to_owned()]));
    assert_eq!(task.group.as_deref(), Some("family:web"));
    let record = world.until_status(task.task_arn.as_deref().unwrap(), TaskStatus::Running).await;
    let spec = world.sim.container_spec(&crate::testing::engine_id(&record, 0)).unwrap();
    assert_eq!((spec.process.args, spec.resources.memory_bytes), (vec!["other".to_owned()], Some(700 << 20)));
}
