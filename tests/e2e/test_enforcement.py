"""Who may do what, with the stock clients: each user has just what its policies say, at once, and is told
why not in the words of AWS."""

import json
import os
import shutil
import subprocess
import uuid

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

import leaks
from conftest import Wharf, short_directory

ACCOUNT = "000000000000"
OTHER = "111122223333"
DEFINITION = f"arn:aws:ecs:us-east-1:{ACCOUNT}:task-definition"


@pytest.fixture(scope="module")
def server():
    """A server without images: no task has to run here."""
    before = leaks.snapshot()
    made = Wharf(short_directory()).start()
    yield made
    made.down()
    shutil.rmtree(made.directory, ignore_errors=True)
    made.directory.with_suffix(".log").unlink(missing_ok=True)
    leaks.check(before)


@pytest.fixture
def iam(server):
    return server.client("iam")


def statement(effect, action, resource="*", **condition):
    made = {"Effect": effect, "Action": action, "Resource": resource}
    return made | ({"Condition": condition} if condition else {})


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


class User:
    """A user with one inline policy and one access key."""

    def __init__(self, server, *statements):
        self.server, self.iam = server, server.client("iam")
        self.name = f"user-{uuid.uuid4().hex[:8]}"
        self.arn = self.iam.create_user(UserName=self.name)["User"]["Arn"]
        if statements:
            self.may(*statements)
        key = self.iam.create_access_key(UserName=self.name)["AccessKey"]
        self.key, self.secret = key["AccessKeyId"], key["SecretAccessKey"]

    def may(self, *statements):
        self.iam.put_user_policy(UserName=self.name, PolicyName="own", PolicyDocument=document(*statements))

    def client(self, service):
        return self.server.client(service, key=self.key, secret=self.secret)

    def denial(self, action, resource, why=None):
        why = why or f"because no identity-based policy allows the {action} action"
        return f"User: {self.arn} is not authorized to perform: {action} on resource: {resource} {why}"


def refused(call, code="AccessDeniedException", **arguments):
    """The message of the error that the call must end with."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert caught.value.response["Error"]["Code"] == code, caught.value
    return caught.value.response["Error"]["Message"]


def task_definition(family, **more):
    return {
        "family": family,
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": [{"name": "main", "image": "busybox"}],
    } | more


def run_task(family):
    return {
        "taskDefinition": family,
        "launchType": "FARGATE",
        "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-0"]}},
    }


def test_a_user_does_what_it_may_and_is_told_in_the_words_of_aws_what_it_may_not(server):
    server.client("ecs").register_task_definition(**task_definition("words"))
    user = User(server)
    ecs = user.client("ecs")
    instances = f"arn:aws:ecs:us-east-1:{ACCOUNT}:container-instance/default/*"
    assert refused(ecs.list_tasks) == user.denial("ecs:ListTasks", instances)
    user.may(statement("Allow", "ecs:ListTasks"))
    assert ecs.list_tasks()["taskArns"] == []
    assert refused(ecs.run_task, **run_task("words")) == user.denial("ecs:RunTask", f"{DEFINITION}/words:1")
    assert user.client("sts").get_caller_identity()["Arn"] == user.arn
    message = refused(user.client("ec2").describe_vpcs, code="UnauthorizedOperation")
    said = "You are not authorized to perform this operation. "
    assert message.startswith(said + user.denial("ec2:DescribeVpcs", "*"))
    me = {"UserName": user.name}
    assert refused(user.client("iam").get_user, code="AccessDenied", **me) == user.denial("iam:GetUser", user.arn)


def test_the_aws_cli_shows_the_sentence(server):
    user = User(server, statement("Allow", "ecs:ListTasks"))
    environment = server.environment() | {"AWS_ACCESS_KEY_ID": user.key, "AWS_SECRET_ACCESS_KEY": user.secret}

    def aws(*arguments):
        return subprocess.run(
            [os.environ["WHARF_AWS"], *arguments], env=environment, capture_output=True, text=True, timeout=120
        )

    assert aws("ecs", "list-tasks").returncode == 0
    denied = aws("ecs", "delete-cluster", "--cluster", "default")
    assert denied.returncode != 0
    cluster = f"arn:aws:ecs:us-east-1:{ACCOUNT}:cluster/default"
    said = "An error occurred (AccessDeniedException) when calling the DeleteCluster operation: "
    assert said + user.denial("ecs:DeleteCluster", cluster) in denied.stderr


def test_a_role_is_passed_by_whom_may_pass_it_to_tasks_alone(server):
    role = f"arn:aws:iam::{ACCOUNT}:role/pull"
    definition = task_definition("passing", executionRoleArn=role)
    user = User(server, statement("Allow", "ecs:*"))
    ecs = user.client("ecs")
    assert refused(ecs.register_task_definition, **definition) == user.denial("iam:PassRole", role)
    to = {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    user.may(statement("Allow", "ecs:*"), statement("Allow", "iam:PassRole", role, **to))
    assert refused(ecs.register_task_definition, **definition) == user.denial("iam:PassRole", role)
    to = {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
    user.may(statement("Allow", "ecs:*"), statement("Allow", "iam:PassRole", role, **to))
    ecs.register_task_definition(**definition)
    # The role of another account is passed by nobody.
    theirs = f"arn:aws:iam::{OTHER}:role/pull"
    foreign = task_definition("passing", executionRoleArn=theirs)
    why = "because no resource-based policy allows the iam:PassRole action"
    message = refused(server.client("ecs").register_task_definition, **foreign)
    root = f"User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: iam:PassRole on resource: {theirs} "
    assert message == root + why
    # To run what somebody else registered hands the role over, too.
    runner = User(server, statement("Allow", "ecs:*"))
    assert refused(runner.client("ecs").run_task, **run_task("passing")) == runner.denial("iam:PassRole", role)


def test_tags_of_the_request_and_of_the_resource_decide(server):
    blue = {"StringEquals": {"aws:RequestTag/team": "blue"}, "ForAllValues:StringEquals": {"aws:TagKeys": ["team"]}}
    own = {"StringEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}}
    user = User(
        server,
        statement("Allow", ["ecs:CreateCluster", "ecs:TagResource"], **blue),
        statement("Allow", "ecs:UpdateClusterSettings", **own),
    )
    server.client("iam").tag_user(UserName=user.name, Tags=[{"Key": "team", "Value": "blue"}])
    ecs = user.client("ecs")
    tags = [{"key": "team", "value": "blue"}]
    assert "ecs:CreateCluster" in refused(ecs.create_cluster, clusterName="untagged")
    assert "ecs:CreateCluster" in refused(ecs.create_cluster, clusterName="red", tags=[{"key": "team", "value": "red"}])
    more = [*tags, {"key": "stage", "value": "test"}]
    assert "ecs:CreateCluster" in refused(ecs.create_cluster, clusterName="more", tags=more)
    ecs.create_cluster(clusterName="blue", tags=tags)
    server.client("ecs").create_cluster(clusterName="red", tags=[{"key": "team", "value": "red"}])
    settings = [{"name": "containerInsights", "value": "disabled"}]
    ecs.update_cluster_settings(cluster="blue", settings=settings)
    assert "on resource: arn:aws:ecs:us-east-1:000000000000:cluster/red " in refused(
        ecs.update_cluster_settings, cluster="red", settings=settings
    )


def test_a_deny_wins_over_every_allow(server):
    user = User(
        server,
        statement("Allow", "*"),
        statement("Deny", "ecs:Delete*", Bool={"aws:SecureTransport": "false"}),
    )
    ecs = user.client("ecs")
    ecs.create_cluster(clusterName="kept")
    assert refused(ecs.delete_cluster, cluster="kept") == user.denial(
        "ecs:DeleteCluster",
        f"arn:aws:ecs:us-east-1:{ACCOUNT}:cluster/kept",
        "with an explicit deny in an identity-based policy",
    )


def test_groups_and_managed_policies_give_and_a_boundary_narrows(server, iam):
    user = User(server)
    ecs = user.client("ecs")
    refused(ecs.list_clusters)
    group = f"group-{uuid.uuid4().hex[:8]}"
    iam.create_group(GroupName=group)
    iam.put_group_policy(
        GroupName=group, PolicyName="list", PolicyDocument=document(statement("Allow", ["ecs:List*", "logs:*"]))
    )
    refused(ecs.list_clusters)
    iam.add_user_to_group(GroupName=group, UserName=user.name)
    ecs.list_clusters()
    iam.remove_user_from_group(GroupName=group, UserName=user.name)
    refused(ecs.list_clusters)
    name = f"managed-{uuid.uuid4().hex[:8]}"
    arn = iam.create_policy(PolicyName=name, PolicyDocument=document(statement("Allow", "logs:*")))["Policy"]["Arn"]
    iam.attach_user_policy(UserName=user.name, PolicyArn=arn)
    refused(ecs.list_clusters)
    iam.create_policy_version(
        PolicyArn=arn, PolicyDocument=document(statement("Allow", ["ecs:List*", "logs:*"])), SetAsDefault=True
    )
    ecs.list_clusters()
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")
    refused(ecs.list_clusters)
    iam.attach_user_policy(UserName=user.name, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    ecs.list_clusters()
    iam.put_user_permissions_boundary(UserName=user.name, PermissionsBoundary=arn)
    assert refused(ecs.list_clusters) == user.denial(
        "ecs:ListClusters", "*", "because no permissions boundary allows the ecs:ListClusters action"
    )
    user.client("logs").describe_log_groups()
    iam.delete_user_permissions_boundary(UserName=user.name)
    ecs.list_clusters()


def test_keys_and_users_that_are_gone_are_gone_at_once(server, iam):
    user = User(server, statement("Allow", "ecs:*"))
    ecs = user.client("ecs")
    ecs.list_clusters()
    iam.update_access_key(UserName=user.name, AccessKeyId=user.key, Status="Inactive")
    refused(ecs.list_clusters, code="UnrecognizedClientException")
    iam.update_access_key(UserName=user.name, AccessKeyId=user.key, Status="Active")
    ecs.list_clusters()
    iam.delete_user_policy(UserName=user.name, PolicyName="own")
    refused(ecs.list_clusters)
    user.may(statement("Allow", "ecs:*"))
    ecs.list_clusters()
    iam.delete_access_key(UserName=user.name, AccessKeyId=user.key)
    refused(ecs.list_clusters, code="UnrecognizedClientException")


def test_sessions_may_what_role_and_session_policy_allow_and_end_with_their_role(server, iam):
    user = User(server)
    role = f"role-{uuid.uuid4().hex[:8]}"
    trust = {"Effect": "Allow", "Principal": {"AWS": user.arn}, "Action": "sts:AssumeRole"}
    arn = iam.create_role(RoleName=role, AssumeRolePolicyDocument=document(trust))["Role"]["Arn"]
    own = document(statement("Allow", ["ecs:*", "logs:*"]))
    iam.put_role_policy(RoleName=role, PolicyName="own", PolicyDocument=own)

    def session(**options):
        given = user.client("sts").assume_role(RoleArn=arn, RoleSessionName="ci", **options)["Credentials"]
        return lambda service: boto3.client(
            service,
            endpoint_url=server.endpoint,
            region_name="us-east-1",
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
            config=Config(retries={"max_attempts": 0}),
        )

    whole, narrow = session(), session(Policy=document(statement("Allow", "logs:*")))
    whole("ecs").list_clusters()
    narrow("logs").describe_log_groups()
    who = f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/ci"
    assert refused(narrow("ecs").list_clusters) == (
        f"User: {who} is not authorized to perform: ecs:ListClusters on resource: * "
        "because no session policy allows the ecs:ListClusters action"
    )
    stranger = User(server)
    assert refused(stranger.client("sts").assume_role, code="AccessDenied", RoleArn=arn, RoleSessionName="ci") == (
        f"User: {stranger.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}"
    )
    iam.delete_role_policy(RoleName=role, PolicyName="own")
    refused(whole("ecs").list_clusters)
    iam.delete_role(RoleName=role)
    with pytest.raises(ClientError):
        whole("ecs").list_clusters()


def test_nobody_reaches_into_another_account(server):
    theirs = server.client("ecs", key=OTHER)
    theirs.create_cluster(clusterName="private", tags=[{"key": "secret", "value": "theirs"}])
    arn = f"arn:aws:ecs:us-east-1:{OTHER}:cluster/private"
    user = User(server, statement("Allow", "*"))
    assert refused(user.client("ecs").describe_clusters, clusters=[arn]) == user.denial(
        "ecs:DescribeClusters", arn, "because no resource-based policy allows the ecs:DescribeClusters action"
    )
    # The root user of another account, too.
    for call, arguments in [
        ("describe_clusters", {"clusters": [arn], "include": ["TAGS"]}),
        ("delete_cluster", {"cluster": arn}),
        ("tag_resource", {"resourceArn": arn, "tags": [{"key": "secret", "value": "ours"}]}),
    ]:
        refused(getattr(server.client("ecs"), call), code="InvalidParameterException", **arguments)
    (cluster,) = theirs.describe_clusters(clusters=["private"], include=["TAGS"])["clusters"]
    assert (cluster["status"], cluster["tags"]) == ("ACTIVE", [{"key": "secret", "value": "theirs"}])


def test_logs_are_matched_by_the_arns_of_their_policies(server):
    group = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/app/web"
    user = User(server, statement("Allow", "logs:*", [f"{group}:*"]))
    logs = user.client("logs")
    logs.create_log_group(logGroupName="/app/web")
    logs.create_log_stream(logGroupName="/app/web", logStreamName="one")
    logs.put_log_events(
        logGroupName="/app/web", logStreamName="one", logEvents=[{"timestamp": 1_700_000_000_000, "message": "x"}]
    )
    assert refused(logs.create_log_group, logGroupName="/app/other") == user.denial(
        "logs:CreateLogGroup", f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/app/other:log-stream:"
    )
    # "Write to the streams of one group" says nothing of tagging the group by its ARN.
    assert refused(logs.list_tags_for_resource, resourceArn=group) == user.denial("logs:ListTagsForResource", group)


def test_the_simulator_says_what_happens(server, iam):
    user = User(server, statement("Allow", "ecs:List*"), statement("Deny", "ecs:ListServices"))
    actions = ["ecs:ListClusters", "ecs:ListServices", "ecs:RunTask"]
    answer = iam.simulate_principal_policy(PolicySourceArn=user.arn, ActionNames=actions)
    decisions = {result["EvalActionName"]: result["EvalDecision"] for result in answer["EvaluationResults"]}
    assert decisions == dict(zip(actions, ["allowed", "explicitDeny", "implicitDeny"]))
    ecs = user.client("ecs")
    ecs.list_clusters()
    assert refused(ecs.run_task, **run_task("nothing")) == user.denial("ecs:RunTask", f"{DEFINITION}/nothing:*")
