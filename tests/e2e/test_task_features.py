"""What a task definition may ask for beside a program: volumes, health, order, restarts, storage."""

import pytest
from botocore.exceptions import ClientError

import images
from conftest import describe, messages, network, run, stream_of, wait_for_status, wait_until


def container(name, script, **more):
    return {
        "name": name,
        "image": "busybox",
        "command": ["sh", "-c", script],
        "stopTimeout": 2,
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": "/ecs/features",
                "awslogs-region": "us-east-1",
                "awslogs-stream-prefix": "ecs",
                "awslogs-create-group": "true",
            },
        },
        **more,
    }


def start(server, family, *containers, **more):
    answer = server.client("ecs").register_task_definition(
        family=family,
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        containerDefinitions=list(containers),
        **more,
    )
    return run(server, answer["taskDefinition"]["taskDefinitionArn"])


def output(server, arn, name):
    return messages(server, "/ecs/features", stream_of(arn).replace("ecs/main/", f"ecs/{name}/"))


def stop(server, arn):
    server.client("ecs").stop_task(cluster="default", task=arn)
    return wait_for_status(server, arn, "STOPPED")


def named(task, name):
    return next(of for of in task["containers"] if of["name"] == name)


@pytest.fixture(scope="module")
def stateful(wharf, tmp_path_factory):
    """An image that declares a volume with something in it."""
    path = images.docker_archive(
        tmp_path_factory.mktemp("stateful") / "stateful.tar",
        "stateful:latest",
        [images.busybox_layer(), images.layer({"srv/data/seed": (0o644, b"from the image\n")})],
        {"Cmd": ["sh"], "Env": ["PATH=/bin"], "Volumes": {"/srv/data": {}}},
    )
    wharf.cli("load", str(path))
    return "stateful"


def test_two_containers_share_a_volume_and_a_third_reads_it(wharf, stateful):
    point = {"sourceVolume": "shared", "containerPath": "/srv/data"}
    arn = start(
        wharf,
        "sharing",
        container("writer", "cat /srv/data/seed; echo written > /srv/data/file; sleep 600", image=stateful, mountPoints=[point]),
        container(
            "reader",
            "while [ ! -s /in/file ]; do sleep 0.05; done; cat /in/file /in/seed; sleep 600",
            mountPoints=[{**point, "containerPath": "/in"}],
            dependsOn=[{"containerName": "writer", "condition": "START"}],
        ),
        container(
            "guest",
            "while [ ! -s /in/file ]; do sleep 0.05; done; echo no > /in/file || echo refused; cat /in/file; sleep 600",
            volumesFrom=[{"sourceContainer": "reader", "readOnly": True}],
            dependsOn=[{"containerName": "reader", "condition": "START"}],
        ),
        volumes=[{"name": "shared"}],
    )
    # What it says on stderr has no place in the order.
    wait_until(lambda: {"refused", "written"} <= set(output(wharf, arn, "guest")), "the guest to read")
    assert output(wharf, arn, "writer") == ["from the image"]
    assert output(wharf, arn, "reader") == ["written", "from the image"]
    stop(wharf, arn)


def test_a_container_waits_for_another_to_be_healthy_and_an_unhealthy_task_goes_on(wharf):
    check = {"command": ["CMD-SHELL", "test -e /ok"], "interval": 5, "timeout": 2, "retries": 1}
    arn = start(
        wharf,
        "healthy",
        # Healthy at first, and not for ever.
        container("db", "touch /ok; while [ ! -e /asked ]; do sleep 0.1; done; sleep 600", healthCheck={
            **check, "command": ["CMD-SHELL", "test -e /asked && exit 1; touch /asked; test -e /ok"],
        }),
        container("app", "echo up; sleep 600", dependsOn=[{"containerName": "db", "condition": "HEALTHY"}]),
    )  # fmt: skip
    assert describe(wharf, arn)["healthStatus"] == "UNKNOWN"
    task = wait_for_status(wharf, arn, "RUNNING")
    assert named(task, "db")["healthStatus"] == "HEALTHY"
    assert named(task, "app")["healthStatus"] == "UNKNOWN", "it has no health check"
    wait_until(lambda: output(wharf, arn, "app") == ["up"], "the app")
    task = wait_until(
        lambda: (seen := describe(wharf, arn))["healthStatus"] == "UNHEALTHY" and seen, "the task to be unhealthy"
    )
    assert named(task, "db")["healthStatus"] == "UNHEALTHY"
    # Not part of a service: it goes on.
    assert task["lastStatus"] == "RUNNING"
    stop(wharf, arn)


def test_health_goes_on_while_the_control_plane_is_dead(wharf):
    check = {"command": ["CMD-SHELL", "echo x >> /asked; test $(wc -l < /asked) -lt 2"], "interval": 5, "retries": 1}
    arn = start(wharf, "surviving", container("main", "sleep 600", healthCheck=check))
    wait_until(lambda: describe(wharf, arn)["healthStatus"] == "HEALTHY", "the first probe to be told")
    wharf.restart()
    wait_until(lambda: describe(wharf, arn)["healthStatus"] == "UNHEALTHY", "the second probe to be told")
    stop(wharf, arn)


def test_containers_start_in_order_and_stop_in_reverse(wharf):
    say = 'echo $(cat /proc/uptime | cut -d" " -f1); trap "cut -d\\" \\" -f1 /proc/uptime; exit 0" TERM; while :; do sleep 0.05; done'
    arn = start(
        wharf,
        "ordered",
        container("init", "sleep 0.3; exit 0", essential=False),
        container("first", say, dependsOn=[{"containerName": "init", "condition": "SUCCESS"}]),
        container("second", say, dependsOn=[{"containerName": "first", "condition": "START"}]),
    )
    wait_for_status(wharf, arn, "RUNNING")
    wait_until(lambda: all(output(wharf, arn, name) for name in ("first", "second")), "both to say when")
    stop(wharf, arn)
    (began, ended), (began_later, ended_earlier) = (
        [float(line) for line in output(wharf, arn, name)] for name in ("first", "second")
    )
    assert began <= began_later and ended_earlier <= ended


def test_a_definition_comes_back_as_it_was_given(wharf, ecs):
    given = container(
        "main",
        "true",
        healthCheck={"command": ["CMD", "true"], "interval": 7, "timeout": 3, "retries": 2, "startPeriod": 11},
        restartPolicy={"enabled": True, "ignoredExitCodes": [0, 3], "restartAttemptPeriod": 61},
        mountPoints=[{"sourceVolume": "data", "containerPath": "/data", "readOnly": True}],
        linuxParameters={"initProcessEnabled": True},
    )
    answer = ecs.register_task_definition(
        family="echo",
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        volumes=[{"name": "data"}],
        ephemeralStorage={"sizeInGiB": 42},
        containerDefinitions=[given],
    )["taskDefinition"]
    (told,) = answer["containerDefinitions"]
    for member in ("healthCheck", "restartPolicy", "mountPoints", "linuxParameters"):
        assert told[member] == given[member]
    assert answer["ephemeralStorage"] == {"sizeInGiB": 42}
    assert answer["volumes"][0]["name"] == "data"
    with pytest.raises(ClientError, match="Unknown volume 'data'"):
        ecs.register_task_definition(family="echo", containerDefinitions=[{**given, "memory": 64}])


def test_an_init_process_reaps_orphans(wharf):
    script = "(sleep 0.1 & ) ; sleep 1; cat /proc/1/comm; ps -o stat | grep -c Z; sleep 600"
    arn = start(wharf, "init", container("main", script, linuxParameters={"initProcessEnabled": True}))
    wait_for_status(wharf, arn, "RUNNING")
    wait_until(lambda: len(output(wharf, arn, "main")) == 2, "its output")
    comm, zombies = output(wharf, arn, "main")
    assert comm != "sh" and zombies == "0"
    stop(wharf, arn)


def test_storage_is_told_with_the_task(wharf, ecs):
    arn = start(wharf, "default-storage", container("main", "sleep 600"))
    assert describe(wharf, arn)["ephemeralStorage"] == {"sizeInGiB": 20}
    stop(wharf, arn)
    definition = "default-storage"
    answer = ecs.run_task(
        cluster="default",
        taskDefinition=definition,
        launchType="FARGATE",
        networkConfiguration=network(wharf),
        overrides={"ephemeralStorage": {"sizeInGiB": 21}},
    )
    arn = answer["tasks"][0]["taskArn"]
    assert describe(wharf, arn)["ephemeralStorage"] == {"sizeInGiB": 21}
    stop(wharf, arn)
