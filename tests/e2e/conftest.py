"""Fixtures: a Wharf of one's own, images made from nothing, and the clients that users have.

Every server runs in its own data directory on a port that the kernel chose, and every test that
starts one checks that nothing of it is left. The suite runs in a network namespace of its own
(`cargo xtask test` makes it), so the machine's network is never touched.
"""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
import uuid
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

import images
import leaks

WHARF = os.environ["WHARF_BIN"]
HELLO = os.environ["WHARF_HELLO_BIN"]
PATIENCE = 60.0


def wait_until(predicate, what, timeout=PATIENCE):
    """Waits for a predicate with a deadline; returns its first true value."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:.0f} s for {what}")
        time.sleep(0.01)


class Wharf:
    """One running server."""

    def __init__(self, directory: Path, *arguments: str):
        self.directory = directory
        self.arguments = arguments
        self.process = None
        self.ready = None

    def start(self):
        log = open(self.directory.with_suffix(".log"), "ab")
        self.process = subprocess.Popen(
            [WHARF, "up", "--json", "--listen", "127.0.0.1:0", "--data-dir", str(self.directory), *self.arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(PATIENCE)
            raise AssertionError("wharf did not start:\n" + self.directory.with_suffix(".log").read_text()[-4000:])
        self.ready = json.loads(line)
        return self

    @property
    def endpoint(self):
        return self.ready["endpoint"]

    @property
    def log(self):
        return self.directory.with_suffix(".log").read_text()

    def environment(self):
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return kept | {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_PAGER": "",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service, region="us-east-1", key="test", secret="test", **config):
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=region,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(retries={"max_attempts": 0}, **config),
        )

    def aws(self, *arguments, check=True):
        """Runs the stock AWS CLI; returns its parsed JSON, or the finished process when not `check`."""
        done = subprocess.run(
            [os.environ["WHARF_AWS"], *arguments, *(["--output", "json"] if "--output" not in arguments else [])],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )
        if not check:
            return done
        assert done.returncode == 0, f"aws {' '.join(arguments)}\n{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def cli(self, *arguments, check=True, **options):
        """Runs the wharf CLI against this server's data directory."""
        done = subprocess.run(
            [WHARF, *arguments, "--data-dir", str(self.directory)],
            capture_output=True,
            text=True,
            timeout=120,
            **options,
        )
        if check:
            assert done.returncode == 0, f"wharf {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done

    def kill(self):
        """kill -9 of the control plane alone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def restart(self):
        self.kill()
        return self.start()

    def down(self):
        self.cli("down")
        if self.process is not None:
            self.process.wait(PATIENCE)
        self.process = self.ready = None


@pytest.fixture(scope="session")
def archives(tmp_path_factory):
    """Docker archives made from nothing: `hello` (a static web server) and `busybox`."""
    directory = tmp_path_factory.mktemp("archives")
    hello = images.docker_archive(
        directory / "hello.tar",
        "hello:latest",
        [images.layer({"hello": (0o755, Path(HELLO).read_bytes())})],
        {"Entrypoint": ["/hello"]},
    )
    busybox = images.docker_archive(
        directory / "busybox.tar", "busybox:latest", [images.busybox_layer()], {"Cmd": ["sh"], "Env": ["PATH=/bin"]}
    )
    return {"hello": hello, "busybox": busybox}


def short_directory():
    """A data directory with a short path, as unix sockets like it."""
    directory = Path("/tmp") / f"wh-{uuid.uuid4().hex[:8]}"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def new_wharf():
    """Makes servers; each is taken down at the end, and must leave nothing behind."""
    before = leaks.snapshot()
    made = []

    def make(*arguments, start=True):
        server = Wharf(short_directory(), *arguments)
        made.append(server)
        return server.start() if start else server

    yield make
    for server in made:
        if server.ready is not None:
            server.down()
        elif server.process is not None and server.process.poll() is None:
            server.process.kill()
            server.process.wait(PATIENCE)
        shutil.rmtree(server.directory, ignore_errors=True)
        server.directory.with_suffix(".log").unlink(missing_ok=True)
    leaks.check(before)


@pytest.fixture(scope="module")
def wharf(archives):
    """A server that the tests of one file share, with both images loaded."""
    before = leaks.snapshot()
    server = Wharf(short_directory()).start()
    for archive in archives.values():
        server.cli("load", str(archive))
    yield server
    server.down()
    shutil.rmtree(server.directory, ignore_errors=True)
    server.directory.with_suffix(".log").unlink(missing_ok=True)
    leaks.check(before)


@pytest.fixture
def ecs(wharf):
    return wharf.client("ecs")


@pytest.fixture
def logs(wharf):
    return wharf.client("logs")


@pytest.fixture
def ec2(wharf):
    return wharf.client("ec2")


def subnet_of(server):
    return server.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]


def network(server, public="DISABLED"):
    return {"awsvpcConfiguration": {"subnets": [subnet_of(server)], "assignPublicIp": public}}


def register(server, family, *, image="busybox", command=None, cpu="256", memory="512", group=None, **container):
    """Registers a FARGATE task definition of one container that logs to `group`; returns its ARN.

    A program that is pid 1 and has no handler does not hear SIGTERM, so the grace is short here.
    """
    definition = {
        "name": "main",
        "image": image,
        "essential": True,
        "stopTimeout": 2,
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": group or f"/ecs/{family}",
                "awslogs-region": "us-east-1",
                "awslogs-stream-prefix": "ecs",
                "awslogs-create-group": "true",
            },
        },
        **({"command": command} if command else {}),
        **container,
    }
    answer = server.client("ecs").register_task_definition(
        family=family,
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu=cpu,
        memory=memory,
        containerDefinitions=[definition],
    )
    return answer["taskDefinition"]["taskDefinitionArn"]


def run(server, definition, **options):
    answer = server.client("ecs").run_task(
        cluster="default",
        taskDefinition=definition,
        **{"launchType": "FARGATE", "networkConfiguration": network(server), **options},
    )
    assert answer["failures"] == []
    return answer["tasks"][0]["taskArn"]


def describe(server, arn):
    (task,) = server.client("ecs").describe_tasks(cluster="default", tasks=[arn])["tasks"]
    return task


def wait_for_status(server, arn, status, timeout=PATIENCE):
    def reached():
        task = describe(server, arn)
        if task["lastStatus"] == "STOPPED" and status != "STOPPED":
            raise AssertionError(f"the task stopped: {task.get('stoppedReason')} {task['containers']}")
        return task if task["lastStatus"] == status else None

    return wait_until(reached, f"{arn} to be {status}", timeout)


def address_of(task):
    (attachment,) = task["attachments"]
    return next(d["value"] for d in attachment["details"] if d["name"] == "privateIPv4Address")


def stream_of(arn, container="main", prefix="ecs"):
    return f"{prefix}/{container}/{arn.rsplit('/', 1)[1]}"


def messages(server, group, stream):
    """All messages of a stream, over all pages."""
    client = server.client("logs")
    found, token = [], None
    while True:
        page = client.get_log_events(
            logGroupName=group, logStreamName=stream, startFromHead=True, **({"nextToken": token} if token else {})
        )
        found += [event["message"] for event in page["events"]]
        if page["nextForwardToken"] == token:
            return found
        token = page["nextForwardToken"]


def open_port(ec2, port, group="default"):
    """Lets everyone in, this machine too, as the tests on AWS would have to."""
    ec2.authorize_security_group_ingress(
        GroupName=group, IpProtocol="tcp", FromPort=port, ToPort=port, CidrIp="0.0.0.0/0"
    )


def http_get(url, timeout=5, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as answer:
        return answer.read().decode()
