//! An account with something in it: one of each kind of thing, called `thing`, with a marker in what
//! nobody else may read.

use std::collections::BTreeMap;

use wharf_core::RequestContext;
use wharf_shape::Structure;
use wharf_wire::Registration;

use super::call;

struct World<'a> {
    registrations: &'a [Registration],
    context: &'a RequestContext,
}

impl World<'_> {
    async fn call(&self, service: &str, operation: &str, input: impl Structure) -> String {
        let named = |of: &&Registration| of.service().model().name == service;
        let registration = self.registrations.iter().find(named).unwrap();
        let answer = call(registration, self.context, operation, Box::new(input)).await;
        answer.unwrap_or_else(|error| panic!("{service}:{operation}: {error}"))
    }
}

/// Makes the things; gives what they may be called by.
pub async fn make(registrations: &[Registration], context: &RequestContext, marker: &str) -> Vec<String> {
    let world = World { registrations, context };
    let marked = || marker.to_owned();
    let name = || "thing".to_owned();
    {
        use wharf_ecs_api::types::{
            Compatibility, ContainerDefinition, CreateClusterRequest, NetworkMode,
            RegisterTaskDefinitionRequest, Tag,
        };
        let tags = || Some(vec![Tag { key: Some("mark".into()), value: Some(marked()) }]);
        let cluster = CreateClusterRequest { cluster_name: Some(name()), tags: tags(), ..Default::default() };
        world.call("ecs", "CreateCluster", cluster).await;
        let container = ContainerDefinition {
            name: Some("app".into()),
            image: Some("app".into()),
            command: Some(vec![marked()]),
            ..Default::default()
        };
        let definition = RegisterTaskDefinitionRequest {
            family: name(),
            network_mode: Some(NetworkMode::Awsvpc),
            requires_compatibilities: Some(vec![Compatibility::Fargate]),
            cpu: Some("256".into()),
            memory: Some("512".into()),
            container_definitions: vec![container],
            tags: tags(),
            ..Default::default()
        };
        world.call("ecs", "RegisterTaskDefinition", definition).await;
    }
    {
        use wharf_logs_api::types::{
            CreateLogGroupRequest, CreateLogStreamRequest, InputLogEvent, PutLogEventsRequest,
        };
        let tags = Some(BTreeMap::from([("mark".to_owned(), marked())]));
        let group = CreateLogGroupRequest { log_group_name: name(), tags, ..Default::default() };
        world.call("logs", "CreateLogGroup", group).await;
        let stream = CreateLogStreamRequest { log_group_name: name(), log_stream_name: name() };
        world.call("logs", "CreateLogStream", stream).await;
        let event = InputLogEvent { message: marked(), timestamp: context.now.as_millis() };
        let events = PutLogEventsRequest {
            log_group_name: name(),
            log_stream_name: name(),
            log_events: vec![event],
            ..Default::default()
        };
        world.call("logs", "PutLogEvents", events).await;
    }
    {
        use wharf_iam_api::types::{CreatePolicyRequest, CreateRoleRequest, CreateUserRequest, Tag};
        let tags = || Some(vec![Tag { key: "mark".into(), value: marked() }]);
        let user = CreateUserRequest { user_name: name(), tags: tags(), ..Default::default() };
        world.call("iam", "CreateUser", user).await;
        let trust = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}}"#;
        let role = CreateRoleRequest {
            role_name: name(),
            assume_role_policy_document: trust.into(),
            description: Some(marked()),
            tags: tags(),
            ..Default::default()
        };
        world.call("iam", "CreateRole", role).await;
        let document = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::{marker}"}}}}"#
        );
        let policy = CreatePolicyRequest {
            policy_name: name(),
            policy_document: document,
            description: Some(marked()),
            tags: tags(),
            ..Default::default()
        };
        world.call("iam", "CreatePolicy", policy).await;
    }
    {
        use wharf_ssm_api::types::{ParameterType, PutParameterRequest};
        let parameter = PutParameterRequest {
            name: name(),
            value: marked(),
            r#type: Some(ParameterType::String),
            ..Default::default()
        };
        world.call("ssm", "PutParameter", parameter).await;
        let secret = wharf_secretsmanager_api::types::CreateSecretRequest {
            name: name(),
            secret_string: Some(marked()),
            client_request_token: Some("01234567-89ab-cdef-0123-456789abcdef".into()),
            ..Default::default()
        };
        world.call("secretsmanager", "CreateSecret", secret).await;
    }
    let mut texts = super::arns_of(&context.account().to_string());
    texts.push("thing".to_owned());
    texts
}

/// Everything that was made, as its owner sees it.
pub async fn describe(registrations: &[Registration], context: &RequestContext) -> String {
    let world = World { registrations, context };
    let name = || "thing".to_owned();
    let ecs = {
        use wharf_ecs_api::types::{
            ClusterField, DescribeClustersRequest, DescribeTaskDefinitionRequest, TaskDefinitionField,
        };
        let clusters =
            DescribeClustersRequest { clusters: Some(vec![name()]), include: Some(vec![ClusterField::Tags]) };
        let definition = DescribeTaskDefinitionRequest {
            task_definition: name(),
            include: Some(vec![TaskDefinitionField::Tags]),
        };
        [
            world.call("ecs", "DescribeClusters", clusters).await,
            world.call("ecs", "DescribeTaskDefinition", definition).await,
        ]
    };
    let logs = {
        use wharf_logs_api::types::{FilterLogEventsRequest, ListTagsLogGroupRequest};
        let events = FilterLogEventsRequest { log_group_name: Some(name()), ..Default::default() };
        [
            world.call("logs", "FilterLogEvents", events).await,
            world.call("logs", "ListTagsLogGroup", ListTagsLogGroupRequest { log_group_name: name() }).await,
        ]
    };
    let iam = {
        use wharf_iam_api::types::{GetPolicyRequest, GetRoleRequest, GetUserRequest};
        let policy_arn = format!("arn:aws:iam::{}:policy/thing", context.account());
        [
            world.call("iam", "GetRole", GetRoleRequest { role_name: name() }).await,
            world.call("iam", "GetUser", GetUserRequest { user_name: Some(name()) }).await,
            world.call("iam", "GetPolicy", GetPolicyRequest { policy_arn }).await,
        ]
    };
    let parameter = wharf_ssm_api::types::GetParameterRequest { name: name(), with_decryption: None };
    let parameter = world.call("ssm", "GetParameter", parameter).await;
    let secret =
        wharf_secretsmanager_api::types::GetSecretValueRequest { secret_id: name(), ..Default::default() };
    let secret = world.call("secretsmanager", "GetSecretValue", secret).await;
    let all: Vec<String> = ecs.into_iter().chain(logs).chain(iam).chain([parameter, secret]).collect();
    all.join("\n")
}
