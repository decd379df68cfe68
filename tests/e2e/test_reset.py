"""`POST /_wharf/reset` brings back an empty Wharf, as often as a test suite likes."""

import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from conftest import address_of, http_get, network, open_port, register, run, wait_for_status, wait_until

RESETS = 20


def reset(server):
    request = urllib.request.Request(f"{server.endpoint}/_wharf/reset", method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def network_namespaces():
    """Those with a process and those with a mount."""
    found = set()
    for process in Path("/proc").iterdir():
        try:
            found.add(os.readlink(process / "ns/net"))
        except OSError:
            continue
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return len(found) + sum("nsfs" in line for line in mounts)


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def test_resets_empty_everything_and_nothing_grows(new_wharf, archives):
    wharf = new_wharf("--allow-reset")
    wharf.cli("load", str(archives["busybox"]))
    seen = []
    for _ in range(RESETS):
        arn = run(wharf, register(wharf, "gone", command=["sh", "-c", "echo here; exec sleep 600"]))
        wait_for_status(wharf, arn, "RUNNING")
        reset(wharf)
        assert wharf.client("ecs").list_task_definitions()["taskDefinitionArns"] == []
        assert wharf.client("ecs").list_tasks(cluster="default")["taskArns"] == []
        assert wharf.client("logs").describe_log_groups()["logGroups"] == []
        assert wharf.client("ec2").describe_network_interfaces()["NetworkInterfaces"] == []
        seen.append((network_namespaces(), len(os.listdir("/sys/class/net")), descriptors(wharf)))
    # The pool of namespaces made ahead is refilled in the background, so the first is the measure.
    wait_until(lambda: network_namespaces() <= max(counts[0] for counts in seen[:3]) + 1, f"namespaces to go away: {seen}")
    assert len(os.listdir("/sys/class/net")) <= seen[0][1] + 1, seen
    # A socket in a VPC that is gone would keep its namespace.
    wait_until(lambda: descriptors(wharf) <= max(counts[2] for counts in seen[:3]) + RESETS // 2, f"descriptors to be closed: {seen}")
    reset(wharf)
    reset(wharf)
    # Images are no state of an account: what was loaded can be run at once.
    wait_for_status(wharf, run(wharf, register(wharf, "after", command=["sleep", "600"])), "RUNNING")


def test_reset_must_be_allowed(new_wharf):
    guarded = new_wharf()
    with pytest.raises(urllib.error.HTTPError) as refused:
        reset(guarded)
    assert refused.value.code in (403, 404)


def test_tasks_of_two_accounts_have_the_same_network_and_both_answer(wharf):
    """Every account's default VPC is 172.31.0.0/16, and the host reaches the tasks of all."""
    script = "mkdir /w; echo $WHO > /w/index.html; exec httpd -f -p 8000 -h /w"
    pages = {}
    for account in ("000000000000", "123456789012"):
        ecs = wharf.client("ecs", key=account)
        ec2 = wharf.client("ec2", key=account)
        open_port(ec2, 8000)
        definition = ecs.register_task_definition(
            family="who",
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory="512",
            containerDefinitions=[
                {
                    "name": "main",
                    "image": "busybox",
                    "command": ["sh", "-c", script],
                    "environment": [{"name": "WHO", "value": account}],
                    "stopTimeout": 2,
                }
            ],
        )["taskDefinition"]["taskDefinitionArn"]
        assert f":{account}:" in definition
        subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]]
        configuration = {"awsvpcConfiguration": {"subnets": subnets[:1]}}
        (task,) = ecs.run_task(
            taskDefinition="who", launchType="FARGATE", networkConfiguration=configuration
        )["tasks"]

        def running():
            (found,) = ecs.describe_tasks(tasks=[task["taskArn"]])["tasks"]
            assert found["lastStatus"] != "STOPPED", found
            return found if found["lastStatus"] == "RUNNING" else None

        pages[account] = (ecs, wait_until(running, "the task to run"))
    assert network(wharf)["awsvpcConfiguration"]["subnets"] != configuration["awsvpcConfiguration"]["subnets"]
    addresses = {address_of(task) for _, task in pages.values()}
    assert len(addresses) == 2 and all(address.startswith("172.31.") for address in addresses)

    def page(task):
        try:
            return http_get(f"http://{address_of(task)}:8000/").strip()
        except OSError:
            return None

    for account, (ecs, task) in pages.items():
        assert wait_until(lambda: page(task), "the page") == account
        # Neither sees the other's.
        others = [arn for _, other in pages.values() if (arn := other["taskArn"]) != task["taskArn"]]
        assert ecs.describe_tasks(tasks=[other.rsplit("/", 1)[1] for other in others])["tasks"] == []
    for ecs, task in pages.values():
        ecs.stop_task(task=task["taskArn"])
