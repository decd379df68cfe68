"""What people do with the stock clients: pages, waiters, filters, live logs, errors by class."""

import time

import pytest

from conftest import describe, register, run, stream_of, wait_for_status, wait_until

TICKING = "i=0; while :; do echo tick $i; i=$((i+1)); usleep 50000; done"


@pytest.fixture(scope="module")
def ticking(wharf):
    """Three tasks that print all the time into one group."""
    definition = register(wharf, "ticking", command=["sh", "-c", TICKING])
    arns = sorted(run(wharf, definition) for _ in range(3))
    for arn in arns:
        wait_for_status(wharf, arn, "RUNNING")
    yield arns
    for arn in arns:
        wharf.client("ecs").stop_task(cluster="default", task=arn)
    wharf.client("ecs").get_waiter("tasks_stopped").wait(
        cluster="default", tasks=arns, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )


def test_listings_in_pages(wharf, ecs, ticking):
    listed = wharf.aws("ecs", "list-tasks", "--family", "ticking", "--page-size", "1")["taskArns"]
    assert sorted(listed) == ticking
    first = wharf.aws("ecs", "list-tasks", "--family", "ticking", "--max-items", "2")
    assert len(first["taskArns"]) == 2
    rest = wharf.aws("ecs", "list-tasks", "--family", "ticking", "--starting-token", first["NextToken"])
    assert sorted(first["taskArns"] + rest["taskArns"]) == ticking
    for operation, member in (
        ("list_clusters", "clusterArns"),
        ("list_task_definitions", "taskDefinitionArns"),
        ("list_task_definition_families", "families"),
    ):
        whole = getattr(ecs, operation)()[member]
        pages = ecs.get_paginator(operation).paginate(PaginationConfig={"PageSize": 1})
        assert [item for page in pages for item in page[member]] == whole


def test_a_cluster_described_with_all_that_is_known(wharf, ticking):
    (cluster,) = wharf.aws("ecs", "describe-clusters", "--include", "STATISTICS", "SETTINGS", "TAGS")["clusters"]
    statistics = {pair["name"]: pair["value"] for pair in cluster["statistics"]}
    assert int(statistics["runningFargateTasksCount"]) == cluster["runningTasksCount"] >= 3
    assert cluster["settings"] == [{"name": "containerInsights", "value": "disabled"}]
    missing = wharf.aws("ecs", "describe-clusters", "--clusters", "nowhere")
    assert missing["clusters"] == [] and missing["failures"][0]["reason"] == "MISSING"


def test_network_questions_with_filters_and_in_every_output(wharf, ticking):
    (subnet,) = wharf.aws(
        "ec2", "describe-subnets", "--filters", "Name=availability-zone,Values=us-east-1b", "Name=default-for-az,Values=true"
    )["Subnets"]  # fmt: skip
    assert subnet["AvailabilityZone"] == "us-east-1b"
    attached = [
        detail["value"]
        for arn in ticking
        for detail in describe(wharf, arn)["attachments"][0]["details"]
        if detail["name"] == "networkInterfaceId"
    ]
    text = wharf.aws("ec2", "describe-network-interfaces", "--output", "text", check=False).stdout
    table = wharf.aws("ec2", "describe-vpcs", "--output", "table", check=False).stdout
    assert all(interface in text for interface in attached)
    assert "172.31.0.0/16" in table
    refused = wharf.aws("ec2", "describe-vpcs", "--filters", "Name=colour,Values=red", check=False)
    assert refused.returncode != 0 and "The filter 'colour' is invalid" in refused.stderr
    refused = wharf.aws("ec2", "create-vpc", "--cidr-block", "10.0.0.0/16", check=False)
    assert refused.returncode != 0 and "NotImplemented" in refused.stderr and "ec2:CreateVpc" in refused.stderr


def test_logs_are_followed_as_aws_logs_tail_does(logs, ticking):
    """`aws logs tail --follow` asks FilterLogEvents again and again from the last timestamp on."""
    seen, start = {}, 0

    def poll():
        nonlocal start
        for page in logs.get_paginator("filter_log_events").paginate(
            logGroupName="/ecs/ticking", startTime=start, interleaved=True
        ):
            stamps = [event["timestamp"] for event in page["events"]]
            assert stamps == sorted(stamps)
            seen.update({event["eventId"]: (event["logStreamName"], event["message"]) for event in page["events"]})
            start = max([start, *stamps])
        return seen

    def enough():
        poll()
        return len(seen) > 150

    wait_until(enough, "150 lines of three streams")
    by_stream = {}
    for stream, message in seen.values():
        by_stream.setdefault(stream, set()).add(int(message.removeprefix("tick ")))
    assert set(by_stream) == {stream_of(arn) for arn in ticking}
    for numbers in by_stream.values():
        assert numbers == set(range(max(numbers) + 1)), "a line is missing"


def test_log_questions(wharf, ticking):
    found = wharf.aws(
        "logs", "filter-log-events", "--log-group-name", "/ecs/ticking", "--filter-pattern", '"tick 7"', "--max-items", "3"
    )["events"]  # fmt: skip
    assert found and all("tick 7" in event["message"] for event in found)
    streams = wharf.aws(
        "logs", "describe-log-streams", "--log-group-name", "/ecs/ticking", "--order-by", "LastEventTime", "--descending"
    )["logStreams"]  # fmt: skip
    last = [stream["lastEventTimestamp"] for stream in streams]
    assert len(last) == 3 and last == sorted(last, reverse=True)


def test_errors_are_of_the_classes_that_boto3_has_for_them(ecs, logs):
    with pytest.raises(ecs.exceptions.ClusterNotFoundException):
        ecs.describe_tasks(cluster="nowhere", tasks=["0" * 32])
    with pytest.raises(ecs.exceptions.InvalidParameterException):
        ecs.stop_task(task="0" * 32)
    with pytest.raises(ecs.exceptions.ClientException):
        ecs.describe_task_definition(taskDefinition="nothing")
    with pytest.raises(logs.exceptions.ResourceNotFoundException):
        logs.get_log_events(logGroupName="/nothing", logStreamName="x")
    logs.create_log_group(logGroupName="/twice")
    with pytest.raises(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName="/twice")
    logs.delete_log_group(logGroupName="/twice")


def test_a_log_group_that_is_not_there_stops_the_task_before_it_starts(wharf, ecs):
    options = {"awslogs-group": "/absent", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "x"}
    arn = run(
        wharf, register(wharf, "no-group", logConfiguration={"logDriver": "awslogs", "options": options})
    )
    task = wait_for_status(wharf, arn, "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"].startswith("ResourceInitializationError: failed to validate logger args:")
    assert "The specified log group does not exist" in task["stoppedReason"]


def test_a_task_stopped_by_a_user_says_so_and_its_times_are_in_order(wharf, ecs):
    arn = run(wharf, register(wharf, "in-order", command=["sleep", "600"]))
    running = wait_for_status(wharf, arn, "RUNNING")
    assert "stoppedAt" not in running and "stopCode" not in running and "exitCode" not in running["containers"][0]
    ecs.stop_task(task=arn)
    task = wait_for_status(wharf, arn, "STOPPED")
    assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "Task stopped by user")
    times = ("createdAt", "startedAt", "stoppingAt", "executionStoppedAt", "stoppedAt")
    assert [task[name] for name in times] == sorted(task[name] for name in times)
    assert task["createdAt"] <= task["pullStartedAt"] <= task["pullStoppedAt"] <= task["startedAt"]
    assert task["createdAt"] <= task["connectivityAt"] <= task["startedAt"]


def test_tasks_that_are_stopped_while_they_start_all_stop(wharf, ecs):
    """The order in which a start and a stop are stored must not matter."""
    definition = register(wharf, "hasty", command=["sleep", "600"])
    arns = []
    for _ in range(30):
        arns.append(run(wharf, definition))
        ecs.stop_task(task=arns[-1])
    for arn in arns:
        wait_for_status(wharf, arn, "STOPPED")


def test_a_flood_of_output_is_kept_and_neighbours_are_heard(wharf, ticking):
    """100 MB as fast as a program can print: the server's memory stays bounded, and others' lines are live."""
    lines, width = 100_000, 1000
    script = f"yes {'x' * (width - 1)} | head -n {lines}; echo done"
    arn = run(wharf, register(wharf, "flood", command=["sh", "-c", script]))
    wait_for_status(wharf, arn, "RUNNING")
    pid, peak, late = wharf.process.pid, 0, []
    logs = wharf.client("logs")

    def resident_mib():
        with open(f"/proc/{pid}/status") as status:
            return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))

    def over():
        nonlocal peak
        peak = max(peak, resident_mib())
        asked = time.time()
        newest = logs.get_log_events(
            logGroupName="/ecs/ticking", logStreamName=stream_of(ticking[0]), limit=1
        )["events"][-1]["timestamp"]
        late.append(asked - newest / 1000)
        return describe(wharf, arn)["lastStatus"] == "STOPPED"

    wait_until(over, "the flood to end", timeout=120)
    assert describe(wharf, arn)["containers"][0]["exitCode"] == 0
    last = logs.get_log_events(logGroupName="/ecs/flood", logStreamName=stream_of(arn), limit=2)["events"]
    assert [event["message"] for event in last] == ["x" * (width - 1), "done"]
    (stream,) = logs.describe_log_streams(logGroupName="/ecs/flood")["logStreams"]
    assert stream["logStreamName"] == stream_of(arn)
    print(f"peak {peak} MiB, a neighbour's newest line was at most {max(late):.2f} s old")
    assert peak < 400, f"{peak} MiB"
    assert max(late) < 5, f"{max(late):.1f} s"
