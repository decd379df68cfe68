"""The main line: an image becomes a running task through the stock AWS CLI."""

import json
import subprocess

from conftest import WHARF, address_of, describe, http_get, messages, stream_of, subnet_of, wait_until


def test_an_image_becomes_a_running_task_through_the_aws_cli(wharf, tmp_path):
    loaded = json.loads(wharf.cli("images", "--json").stdout)
    assert any("hello:latest" in image["reference"] for image in loaded)

    definition = tmp_path / "hello.json"
    definition.write_text(
        json.dumps(
            {
                "family": "hello",
                "requiresCompatibilities": ["FARGATE"],
                "networkMode": "awsvpc",
                "cpu": "256",
                "memory": "512",
                "containerDefinitions": [
                    {
                        "name": "hello",
                        "image": "hello",
                        "portMappings": [{"containerPort": 8080}],
                        "logConfiguration": {
                            "logDriver": "awslogs",
                            "options": {
                                "awslogs-group": "/ecs/hello",
                                "awslogs-region": "us-east-1",
                                "awslogs-stream-prefix": "ecs",
                                "awslogs-create-group": "true",
                            },
                        },
                    }
                ],
            }
        )
    )
    registered = wharf.aws("ecs", "register-task-definition", "--cli-input-json", f"file://{definition}")
    assert registered["taskDefinition"]["revision"] == 1
    assert registered["taskDefinition"]["status"] == "ACTIVE"

    subnet = wharf.aws("ec2", "describe-subnets")["Subnets"][0]
    started = wharf.aws(
        "ecs", "run-task", "--cluster", "default", "--launch-type", "FARGATE", "--task-definition", "hello",
        "--network-configuration", f"awsvpcConfiguration={{subnets=[{subnet['SubnetId']}],assignPublicIp=ENABLED}}",
    )  # fmt: skip
    assert started["failures"] == []
    arn = started["tasks"][0]["taskArn"]
    wharf.aws("ecs", "wait", "tasks-running", "--cluster", "default", "--tasks", arn)
    task = wharf.aws("ecs", "describe-tasks", "--cluster", "default", "--tasks", arn)["tasks"][0]
    address = address_of(task)
    assert address.rsplit(".", 2)[0] == subnet["CidrBlock"].rsplit(".", 2)[0]

    # A default group lets in its own members alone, and this machine is none.
    wharf.aws(
        "ec2", "authorize-security-group-ingress", "--group-name", "default", "--protocol", "tcp", "--port", "8080",
        "--cidr", "0.0.0.0/0",
    )  # fmt: skip

    def answer():
        # The program listens a moment after its task is RUNNING, as on AWS.
        try:
            return http_get(f"http://{address}:8080/")
        except OSError:
            return None

    text = wait_until(answer, "the task to answer")
    assert arn in text
    assert address in text
    assert "0.25" in text and "512" in text

    (interface,) = wharf.aws("ec2", "describe-network-interfaces")["NetworkInterfaces"]
    assert interface["PrivateIpAddress"] == address
    assert interface["Status"] == "in-use"

    group, stream = "/ecs/hello", stream_of(arn, "hello")
    wait_until(lambda: any("GET / " in line for line in messages(wharf, group, stream)), "the request's log line")
    events = wharf.aws("logs", "get-log-events", "--log-group-name", group, "--log-stream-name", stream)["events"]
    assert events[0]["message"].startswith("listening on")

    wharf.aws("ecs", "stop-task", "--cluster", "default", "--task", arn, "--reason", "seen enough")
    wharf.aws("ecs", "wait", "tasks-stopped", "--cluster", "default", "--tasks", arn)
    stopped = describe(wharf, arn)
    assert stopped["stopCode"] == "UserInitiated"
    assert stopped["stoppedReason"] == "seen enough"
    assert stopped["containers"][0]["exitCode"] == 0
    assert wharf.client("ec2").describe_network_interfaces()["NetworkInterfaces"] == []


def test_wharf_env_gives_what_the_clients_need(wharf):
    lines = dict(
        line.removeprefix("export ").split("=", 1) for line in wharf.cli("env").stdout.splitlines() if "=" in line
    )
    assert lines["AWS_ENDPOINT_URL"].strip("'\"") == wharf.endpoint
    assert lines["AWS_ACCESS_KEY_ID"] and lines["AWS_SECRET_ACCESS_KEY"]
    identity = wharf.aws("sts", "get-caller-identity")
    assert identity == {
        "UserId": "000000000000",
        "Account": "000000000000",
        "Arn": "arn:aws:iam::000000000000:root",
    }


def test_every_command_teaches(tmp_path):
    overview = subprocess.run([WHARF, "--help"], capture_output=True, text=True, check=True).stdout
    for command in ("up", "down", "status", "env", "load", "images", "ps", "logs", "quickstart"):
        assert command in overview
        text = subprocess.run([WHARF, command, "--help"], capture_output=True, text=True, check=True).stdout
        assert "Usage:" in text and "Examples:" in text, command


def test_the_default_vpc_is_there_from_the_start(ec2):
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    assert vpc["CidrBlock"] == "172.31.0.0/16"
    subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["Subnets"]
    assert len(subnets) == len({subnet["AvailabilityZone"] for subnet in subnets}) >= 3
    (group,) = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"]
    assert group["VpcId"] == vpc["VpcId"]


def test_subnet_ids_are_stable(wharf):
    assert subnet_of(wharf) == subnet_of(wharf)
