//! Clusters, capacity providers, tags.

use wharf_ecs_api::{Ecs as _, types};

use crate::records::TaskStatus;
use crate::testing::{World, container, context, definition, run};

fn create(name: &str) -> types::CreateClusterRequest {
    types::CreateClusterRequest { cluster_name: Some(name.to_owned()), ..Default::default() }
}

async fn describe(world: &World, name: &str) -> types::DescribeClustersResponse {
    let input = types::DescribeClustersRequest {
        clusters: Some(vec![name.to_owned()]),
        include: Some(vec![types::ClusterField::Statistics, types::ClusterField::Tags]),
    };
    world.ecs.describe_clusters(&context(), input).await.unwrap()
}

#[tokio::test]
async fn the_default_cluster_is_there_and_others_are_not() {
    let world = World::at_rest();
    let answer = world.ecs.describe_clusters(&context(), Default::default()).await.unwrap();
    let clusters = answer.clusters.unwrap();
    assert_eq!(clusters[0].cluster_name.as_deref(), Some("default"));
    assert_eq!(clusters[0].status.as_deref(), Some("ACTIVE"));
    let answer = describe(&world, "other").await;
    let failure = &answer.failures.unwrap()[0];
    assert_eq!(failure.reason.as_deref(), Some("MISSING"));
    assert_eq!(failure.arn.as_deref(), Some("arn:aws:ecs:us-east-1:000000000000:cluster/other"));
    let input = types::ListTasksRequest { cluster: Some("other".into()), ..Default::default() };
    let error = world.ecs.list_tasks(&context(), input).await.unwrap_err();
    assert_eq!(
        (error.code.as_ref(), error.message.as_str()),
        ("ClusterNotFoundException", "Cluster not found.")
    );
}

#[tokio::test]
async fn a_cluster_is_made_once_counted_and_deleted_when_empty() {
    let world = World::started().await;
    let mut input = create("web");
    input.tags = Some(vec![types::Tag { key: Some("team".into()), value: Some("a".into()) }]);
    input.settings = Some(vec![types::ClusterSetting {
        name: Some(types::ClusterSettingName::ContainerInsights),
        value: Some("disabled".into()),
    }]);
    let first = world.ecs.create_cluster(&context(), input).await.unwrap().cluster.unwrap();
    let again = world.ecs.create_cluster(&context(), create("web")).await.unwrap().cluster.unwrap();
    assert_eq!(first, again);

    let definition = world.register(definition("web", vec![container("main")])).await;
    let input = types::RunTaskRequest { cluster: Some("web".into()), ..run(&definition) };
    let arn =
        world.ecs.run_task(&context(), input).await.unwrap().tasks.unwrap()[0].task_arn.clone().unwrap();
    world.until_status(&arn, TaskStatus::Running).await;
    let cluster = &describe(&world, "web").await.clusters.unwrap()[0];
    assert_eq!((cluster.running_tasks_count, cluster.pending_tasks_count), (Some(1), Some(0)));
    let statistics = cluster.statistics.as_ref().unwrap();
    let running = statistics.iter().find(|of| of.name.as_deref() == Some("runningFargateTasksCount"));
    assert_eq!(running.unwrap().value.as_deref(), Some("1"));
    assert_eq!(cluster.tags.as_ref().unwrap()[0].key.as_deref(), Some("team"));

    let delete = types::DeleteClusterRequest { cluster: "web".into() };
    let error = world.ecs.delete_cluster(&context(), delete.clone()).await.unwrap_err();
    assert_eq!(error.code, "ClusterContainsTasksException");
    let stop =
        types::StopTaskRequest { cluster: Some("web".into()), task: arn.clone(), ..Default::default() };
    world.ecs.stop_task(&context(), stop).await.unwrap();
    world.until_status(&arn, TaskStatus::Stopped).await;
    let deleted = world.ecs.delete_cluster(&context(), delete.clone()).await.unwrap().cluster.unwrap();
    assert_eq!(deleted.status.as_deref(), Some("INACTIVE"));
    let described = describe(&world, "web").await.clusters.unwrap();
    assert_eq!(described[0].status.as_deref(), Some("INACTIVE"));
    let error = world.ecs.delete_cluster(&context(), delete).await.unwrap_err();
    assert_eq!(error.code, "ClusterNotFoundException");
    let listed = world.ecs.list_clusters(&context(), Default::default()).await.unwrap();
    assert_eq!(listed.cluster_arns, Some(Vec::new()));
}

#[tokio::test]
async fn what_a_cluster_cannot_do_is_refused_by_name() {
    let world = World::at_rest();
    let insights = |value: &str| {
        Some(vec![types::ClusterSetting {
            name: Some(types::ClusterSettingName::ContainerInsights),
            value: Some(value.into()),
        }])
    };
    let cases = [
        (types::CreateClusterRequest { settings: insights("enabled"), ..create("x") }, "NotImplemented"),
        (
            types::CreateClusterRequest { settings: insights("maybe"), ..create("x") },
            "InvalidParameterException",
        ),
        (
            types::CreateClusterRequest { configuration: Some(Default::default()), ..create("x") },
            "NotImplemented",
        ),
        (create("bad name"), "InvalidParameterException"),
        (
            types::CreateClusterRequest { capacity_providers: Some(vec!["mine".into()]), ..create("x") },
            "InvalidParameterException",
        ),
    ];
    for (input, code) in cases {
        let error = world.ecs.create_cluster(&context(), input.clone()).await.unwrap_err();
        assert_eq!(error.code, code, "{input:?}");
    }
}

#[tokio::test]
async fn tasks_go_to_the_capacity_providers_of_a_strategy() {
    let world = World::started().await;
    let put = types::PutClusterCapacityProvidersRequest {
        cluster: "default".into(),
        capacity_providers: vec!["FARGATE".into(), "FARGATE_SPOT".into()],
        default_capacity_provider_strategy: vec![types::CapacityProviderStrategyItem {
            capacity_provider: "FARGATE_SPOT".into(),
            weight: Some(1),
            base: None,
        }],
    };
    world.ecs.put_cluster_capacity_providers(&context(), put).await.unwrap();
    let definition = world.register(definition("web", vec![container("main")])).await;
    let input = types::RunTaskRequest { launch_type: None, ..run(&definition) };
    let task = world.ecs.run_task(&context(), input).await.unwrap().tasks.unwrap().remove(0);
    assert_eq!(task.capacity_provider_name.as_deref(), Some("FARGATE_SPOT"));
    assert_eq!(task.launch_type, Some(types::LaunchType::Fargate));
    let answer = world.ecs.describe_capacity_providers(&context(), Default::default()).await.unwrap();
    assert_eq!(answer.capacity_providers.unwrap().len(), 2);
}

#[tokio::test]
async fn tags_are_put_listed_and_removed() {
    let world = World::at_rest();
    let definition = world.register(definition("web", vec![container("main")])).await;
    let tag = |key: &str| types::Tag { key: Some(key.into()), value: Some("1".into()) };
    let input =
        types::TagResourceRequest { resource_arn: definition.clone(), tags: vec![tag("a"), tag("b")] };
    world.ecs.tag_resource(&context(), input).await.unwrap();
    let input = types::UntagResourceRequest { resource_arn: definition.clone(), tag_keys: vec!["a".into()] };
    world.ecs.untag_resource(&context(), input).await.unwrap();
    let input = types::ListTagsForResourceRequest { resource_arn: definition.clone() };
    let tags = world.ecs.list_tags_for_resource(&context(), input).await.unwrap().tags.unwrap();
    assert_eq!(tags, [tag("b")]);
    let run = types::RunTaskRequest {
        propagate_tags: Some(types::PropagateTags::TaskDefinition),
        enable_ecs_managed_tags: Some(true),
        tags: Some(vec![tag("c")]),
        ..run(&definition)
    };
    let task = world.ecs.run_task(&context(), run).await.unwrap().tasks.unwrap().remove(0);
    let keys: Vec<_> = task.tags.unwrap().into_iter().filter_map(|tag| tag.key).collect();
    assert_eq!(keys, ["aws:ecs:clusterName", "b", "c"]);
    for (arn, tags) in [
        (definition.clone(), vec![tag("aws:x")]),
        (definition.clone(), vec![tag("")]),
        (definition, (0..51).map(|n| tag(&n.to_string())).collect()),
        ("arn:aws:ecs:us-east-1:000000000000:task/default/none".to_owned(), vec![tag("a")]),
        ("web".to_owned(), vec![tag("a")]),
    ] {
        let input = types::TagResourceRequest { resource_arn: arn.clone(), tags };
        let error = world.ecs.tag_resource(&context(), input).await.unwrap_err();
        assert_eq!(error.code, "InvalidParameterException", "{arn}");
    }
}
