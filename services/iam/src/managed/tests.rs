//! The documents are what they say they are.

use std::collections::HashSet;

use wharf_policy::{Caller, Decision, Keys, Kind, Policy, PolicySet, Question, decide};

use super::*;

#[test]
fn every_document_is_a_policy_and_every_name_stands_once() {
    let mut names = HashSet::new();
    let mut ids = HashSet::new();
    for policy in all() {
        if let Err(error) = Policy::parse(Kind::Identity, &policy.document) {
            panic!("{}: {error}", policy.name);
        }
        assert!(names.insert(policy.name.clone()), "{} twice", policy.name);
        assert!(ids.insert(policy.id.clone()), "{} twice", policy.id);
        assert!(policy.id.starts_with("ANPA") && policy.id.len() == 21);
        let found = find(&format!("{}{}", policy.path, policy.name)).unwrap();
        assert_eq!(found.id, policy.id);
    }
    assert!(names.len() > 100);
    assert!(all().is_sorted_by_key(|policy| policy.name.to_lowercase()));
    assert!(find("/NoSuchPolicy").is_none());
    assert!(find("/AmazonECSTaskExecutionRolePolicy").is_none(), "its path is /service-role/");
}

fn allows(name: &str, action: &str, resource: &str, keys: &Keys) -> bool {
    let policy = all().iter().find(|policy| policy.name == name).unwrap();
    let policy = [Arc::new(Policy::parse(Kind::Identity, &policy.document).unwrap())];
    let account = "123456789012".parse().unwrap();
    let caller =
        Caller::User { account, arn: "arn:aws:iam::123456789012:user/bob".into(), id: "AIDA".into() };
    let question = Question { caller: &caller, action, resource, owner: None, context: keys };
    let set = PolicySet { identity: Some(&policy), ..PolicySet::default() };
    decide(&question, &set, None).decision == Decision::Allowed
}

/// What people count on: each policy lets in what it is for, and nothing beside it.
#[test]
fn the_documents_have_the_effect_that_their_names_promise() {
    let none = Keys::new();
    let cluster = "arn:aws:ecs:us-east-1:123456789012:cluster/default";
    #[rustfmt::skip]
    let cases = [
        ("AdministratorAccess", "iam:DeleteUser", "*", true),
        ("PowerUserAccess", "ecs:DeleteCluster", cluster, true),
        ("PowerUserAccess", "iam:DeleteUser", "*", false),
        ("PowerUserAccess", "iam:ListRoles", "*", true),
        ("ReadOnlyAccess", "ecs:DescribeTasks", "*", true),
        ("ReadOnlyAccess", "ecs:RunTask", "*", false),
        ("ReadOnlyAccess", "ssm:GetParameter", "*", true),
        ("ReadOnlyAccess", "secretsmanager:GetSecretValue", "*", false),
        ("ReadOnlyAccess", "logs:FilterLogEvents", "*", true),
        ("ReadOnlyAccess", "sts:AssumeRole", "*", false),
        ("ViewOnlyAccess", "ecs:ListTasks", "*", true),
        ("ViewOnlyAccess", "logs:GetLogEvents", "*", false),
        ("SecurityAudit", "iam:GetRole", "*", true),
        ("SecurityAudit", "s3:GetObject", "arn:aws:s3:::bucket/key", false),
        ("SecurityAudit", "secretsmanager:GetSecretValue", "*", false),
        ("IAMFullAccess", "iam:CreateRole", "*", true),
        ("IAMFullAccess", "ecs:ListTasks", "*", false),
        ("IAMReadOnlyAccess", "iam:GetUser", "*", true),
        ("IAMReadOnlyAccess", "iam:CreateUser", "*", false),
        ("AmazonECSTaskExecutionRolePolicy", "ecr:BatchGetImage", "*", true),
        ("AmazonECSTaskExecutionRolePolicy", "logs:PutLogEvents", "*", true),
        ("AmazonECSTaskExecutionRolePolicy", "logs:CreateLogGroup", "*", false),
        ("AmazonECSTaskExecutionRolePolicy", "ssm:GetParameters", "*", false),
        ("AmazonECS_FullAccess", "ecs:RunTask", "*", true),
        ("AmazonECS_FullAccess", "iam:PassRole", "arn:aws:iam::123456789012:role/x", false),
        ("AmazonEC2ContainerServiceforEC2Role", "ecs:SubmitTaskStateChange", "*", true),
        ("AmazonEC2ContainerServiceforEC2Role", "ecs:RunTask", "*", false),
        ("AmazonEC2ContainerRegistryReadOnly", "ecr:PutImage", "*", false),
        ("AmazonEC2ContainerRegistryPowerUser", "ecr:PutImage", "*", true),
        ("AmazonEC2ContainerRegistryPowerUser", "ecr:DeleteRepository", "*", false),
        ("AmazonEC2ContainerRegistryPullOnly", "ecr:GetDownloadUrlForLayer", "*", true),
        ("AmazonEC2ContainerRegistryPullOnly", "ecr:DescribeRepositories", "*", false),
        ("AWSLambdaBasicExecutionRole", "logs:CreateLogGroup", "*", true),
        ("AWSLambdaBasicExecutionRole", "sqs:ReceiveMessage", "*", false),
        ("AWSLambdaSQSQueueExecutionRole", "sqs:ReceiveMessage", "*", true),
        ("AmazonSSMReadOnlyAccess", "ssm:PutParameter", "*", false),
        ("SecretsManagerReadWrite", "secretsmanager:GetSecretValue", "*", true),
        ("CloudWatchLogsReadOnlyAccess", "logs:DeleteLogGroup", "*", false),
        ("CloudWatchLogsFullAccess", "logs:DeleteLogGroup", "*", true),
        ("AmazonEC2ReadOnlyAccess", "ec2:DescribeVpcs", "*", true),
        ("AmazonEC2ReadOnlyAccess", "ec2:CreateVpc", "*", false),
        ("AmazonVPCFullAccess", "ec2:CreateSubnet", "*", true),
        ("AmazonVPCFullAccess", "ec2:RunInstances", "*", false),
    ];
    for (name, action, resource, expected) in cases {
        assert_eq!(allows(name, action, resource, &none), expected, "{name} {action}");
    }
}

#[test]
fn conditions_and_variables_of_the_documents_are_alive() {
    let passed = |service: &str| Keys::new().with("iam:PassedToService", service);
    let role = "arn:aws:iam::123456789012:role/task";
    assert!(allows("AmazonECS_FullAccess", "iam:PassRole", role, &passed("ecs-tasks.amazonaws.com")));
    assert!(!allows("AmazonECS_FullAccess", "iam:PassRole", role, &passed("ec2.amazonaws.com")));
    let bob = Keys::new().with("aws:username", "bob");
    let user = |name: &str| format!("arn:aws:iam::123456789012:user/{name}");
    assert!(allows("IAMUserChangePassword", "iam:ChangePassword", &user("bob"), &bob));
    assert!(!allows("IAMUserChangePassword", "iam:ChangePassword", &user("eve"), &bob));
}
