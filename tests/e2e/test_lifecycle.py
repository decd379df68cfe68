"""A task's life and its ends, each with a real process, and told truly."""

import threading

import pytest
from botocore.exceptions import ClientError

from conftest import (
    address_of,
    describe,
    messages,
    network,
    register,
    run,
    stream_of,
    subnet_of,
    wait_for_status,
    wait_until,
)


def test_a_task_that_exits_at_once_tells_its_code(wharf):
    arn = run(wharf, register(wharf, "exit-3", command=["sh", "-c", "echo bye; exit 3"]))
    task = wait_for_status(wharf, arn, "STOPPED")
    assert task["stopCode"] == "EssentialContainerExited"
    assert task["stoppedReason"] == "Essential container in task exited"
    assert task["containers"][0]["exitCode"] == 3
    assert wait_until(lambda: messages(wharf, "/ecs/exit-3", stream_of(arn)), "its output") == ["bye"]
    for earlier, later in (("createdAt", "stoppingAt"), ("stoppingAt", "stoppedAt")):
        assert task[earlier] <= task[later]


def test_a_task_that_ignores_sigterm_is_killed_after_its_grace(wharf):
    script = 'trap "echo ignored" TERM; echo ready; while :; do sleep 0.1; done'
    arn = run(wharf, register(wharf, "stubborn", command=["sh", "-c", script], stopTimeout=2))
    wait_for_status(wharf, arn, "RUNNING")
    wait_until(lambda: "ready" in messages(wharf, "/ecs/stubborn", stream_of(arn)), "the trap to be set")
    wharf.client("ecs").stop_task(cluster="default", task=arn, reason="enough")
    task = wait_for_status(wharf, arn, "STOPPED")
    assert task["containers"][0]["exitCode"] == 137
    assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "enough")
    assert "ignored" in messages(wharf, "/ecs/stubborn", stream_of(arn))
    assert (task["stoppedAt"] - task["stoppingAt"]).total_seconds() >= 2


def test_a_task_that_eats_memory_is_killed_and_told_so(wharf):
    hog = "x=; while :; do x=$x$x.; done"
    arn = run(wharf, register(wharf, "hog", command=["sh", "-c", hog]))
    task = wait_for_status(wharf, arn, "STOPPED")
    (container,) = task["containers"]
    assert container["exitCode"] == 137
    assert container["reason"] == "OutOfMemoryError: Container killed due to memory usage"


def test_a_fork_bomb_meets_the_pids_limit_and_its_neighbour_does_not_notice(wharf):
    neighbour = run(wharf, register(wharf, "neighbour", command=["sleep", "600"]))
    wait_for_status(wharf, neighbour, "RUNNING")
    bomb = run(wharf, register(wharf, "bomb", command=["sh", "-c", "echo boom; b() { b | b & }; b; sleep 600"]))
    wait_until(lambda: "boom" in messages(wharf, "/ecs/bomb", stream_of(bomb)), "the bomb to go off")
    wait_until(
        lambda: any("fork" in line.lower() or "resource" in line.lower() for line in messages(wharf, "/ecs/bomb", stream_of(bomb))),
        "the kernel to refuse a fork",
    )  # fmt: skip
    assert describe(wharf, neighbour)["lastStatus"] == "RUNNING"
    for arn in (bomb, neighbour):
        wharf.client("ecs").stop_task(cluster="default", task=arn)
    for arn in (bomb, neighbour):
        wait_for_status(wharf, arn, "STOPPED")


def test_an_image_that_is_not_there(wharf):
    arn = run(wharf, register(wharf, "missing", image="nowhere:1"))
    task = wait_for_status(wharf, arn, "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"].startswith("CannotPullContainerError:")
    assert "nowhere:1" in task["stoppedReason"]
    assert "exitCode" not in task["containers"][0]


def test_an_entrypoint_that_does_not_exist(wharf):
    arn = run(wharf, register(wharf, "no-program", command=["/no/such/program"]))
    task = wait_for_status(wharf, arn, "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart"
    assert "CannotStartContainerError" in (task["stoppedReason"] + task["containers"][0].get("reason", ""))
    assert "/no/such/program" in (task["stoppedReason"] + task["containers"][0].get("reason", ""))


def test_what_a_container_sees_of_itself(wharf):
    script = (
        "id; hostname; cat /proc/self/status; ls /proc/self/fd; mount; ip -4 addr show eth0; "
        "echo env=$COLOUR; pwd; ulimit -n; touch /x || echo readonly; cat /etc/hosts; ls -ld /"
    )
    definition = register(
        wharf,
        "looks",
        command=["sh", "-c", script],
        environment=[{"name": "COLOUR", "value": "blue"}],
        user="user",
        workingDirectory="/made/for/it",
        readonlyRootFilesystem=True,
        ulimits=[{"name": "nofile", "softLimit": 512, "hardLimit": 1024}],
    )
    arn = run(wharf, definition)
    task = wait_for_status(wharf, arn, "STOPPED")
    wait_until(lambda: "env=blue" in messages(wharf, "/ecs/looks", stream_of(arn)), "its output")
    lines = messages(wharf, "/ecs/looks", stream_of(arn))
    text = "\n".join(lines)
    assert "uid=1000(user) gid=1000(user)" in text and "2000(extra)" in text
    assert "127.0.0.1\tlocalhost" in text
    assert any(line.startswith("drwxr-xr-x") and line.endswith(" /") for line in lines)
    assert "CapEff:\t0000000000000000" in text
    assert "Seccomp:\t2" in text
    assert f"inet {address_of(task)}/20" in text
    assert "env=blue" in lines and "/made/for/it" in lines and "512" in lines
    assert "readonly" in lines
    assert "overlay on / type overlay (ro" in text


def test_overrides_reach_the_process(wharf):
    definition = register(wharf, "overridden", command=["sh", "-c", "echo $NAME"])
    arn = run(
        wharf,
        definition,
        overrides={
            "containerOverrides": [
                {"name": "main", "command": ["sh", "-c", "echo hi $NAME"], "environment": [{"name": "NAME", "value": "Ada"}]}
            ]
        },
        startedBy="a test",
        group="family:other",
    )  # fmt: skip
    task = wait_for_status(wharf, arn, "STOPPED")
    assert (task["startedBy"], task["group"]) == ("a test", "family:other")
    assert wait_until(lambda: messages(wharf, "/ecs/overridden", stream_of(arn)), "output") == ["hi Ada"]


def test_a_client_token_runs_a_task_once(wharf, ecs):
    definition = register(wharf, "once", command=["sleep", "600"])
    arguments = dict(
        cluster="default",
        taskDefinition=definition,
        launchType="FARGATE",
        networkConfiguration=network(wharf),
        clientToken="the-same",
    )
    first = ecs.run_task(**arguments)["tasks"][0]["taskArn"]
    assert ecs.run_task(**arguments)["tasks"][0]["taskArn"] == first
    with pytest.raises(ClientError) as refused:
        ecs.run_task(**arguments, startedBy="someone else")
    assert refused.value.response["Error"]["Code"] == "ConflictException"
    ecs.stop_task(cluster="default", task=first)
    wait_for_status(wharf, first, "STOPPED")


def test_two_containers_share_the_network_and_the_essential_one_decides(wharf, ecs):
    logging = {
        "logDriver": "awslogs",
        "options": {
            "awslogs-group": "/ecs/pair",
            "awslogs-region": "us-east-1",
            "awslogs-stream-prefix": "ecs",
            "awslogs-create-group": "true",
        },
    }
    answer = ecs.register_task_definition(
        family="pair",
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        containerDefinitions=[
            {
                "name": "server",
                "image": "busybox",
                "essential": False,
                "stopTimeout": 2,
                "command": ["sh", "-c", "echo hello from the other side > /index.html; exec httpd -f -p 127.0.0.1:9000 -h /"],
                "logConfiguration": logging,
            },
            {
                "name": "client",
                "image": "busybox",
                "essential": True,
                "command": ["sh", "-c", "until wget -q -O - http://127.0.0.1:9000/; do usleep 20000; done"],
                "logConfiguration": logging,
            },
        ],
    )  # fmt: skip
    arn = run(wharf, answer["taskDefinition"]["taskDefinitionArn"])
    task = wait_for_status(wharf, arn, "STOPPED")
    codes = {container["name"]: container["exitCode"] for container in task["containers"]}
    assert codes["client"] == 0
    assert codes["server"] in (0, 137, 143)
    found = wait_until(lambda: messages(wharf, "/ecs/pair", stream_of(arn, "client")), "the page")
    assert "hello from the other side" in found


def test_ten_tasks_at_once_each_with_its_own_address(wharf, ecs):
    definition = register(wharf, "ten", command=["sleep", "600"])
    answer = ecs.run_task(
        cluster="default", taskDefinition=definition, launchType="FARGATE", count=10, networkConfiguration=network(wharf)
    )
    arns = [task["taskArn"] for task in answer["tasks"]]
    assert len(arns) == 10 and answer["failures"] == []
    addresses = {address_of(wait_for_status(wharf, arn, "RUNNING")) for arn in arns}
    assert len(addresses) == 10
    assert set(ecs.list_tasks(cluster="default", family="ten")["taskArns"]) == set(arns)
    threads = [threading.Thread(target=ecs.stop_task, kwargs={"cluster": "default", "task": arn}) for arn in arns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for arn in arns:
        assert wait_for_status(wharf, arn, "STOPPED")["stopCode"] == "UserInitiated"


def test_refusals_name_what_is_refused(wharf, ecs):
    def refused(call, **arguments):
        with pytest.raises(ClientError) as error:
            call(**arguments)
        return error.value.response["Error"]

    error = refused(ecs.create_service, serviceName="x", taskDefinition="y")
    assert error["Code"] == "NotImplemented" and "ecs:CreateService" in error["Message"]
    error = refused(
        ecs.run_task,
        taskDefinition="no-such-family",
        launchType="FARGATE",
        networkConfiguration=network(wharf),
    )
    assert error["Message"] == "TaskDefinition not found."
    definition = register(wharf, "refusals", command=["true"])
    error = refused(ecs.run_task, taskDefinition=definition, launchType="FARGATE")
    assert error["Code"] == "InvalidParameterException"
    error = refused(
        ecs.run_task,
        taskDefinition=definition,
        launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-00000000000000000"]}},
    )
    assert error["Code"] == "InvalidParameterException"
    assert "subnet-00000000000000000" in error["Message"]
    error = refused(
        ecs.register_task_definition,
        family="refusals",
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="9999",
        containerDefinitions=[{"name": "main", "image": "busybox"}],
    )
    assert error["Code"] == "ClientException"
    assert "No Fargate configuration exists for given values" in error["Message"]
    assert subnet_of(wharf).startswith("subnet-")
