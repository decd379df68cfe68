"""The control plane is killed at random moments of a life of RunTask and StopTask.

Whatever was acknowledged is known afterwards, every task comes to the end that was asked for, no
container runs twice, and nothing is left behind. `WHARF_KILLS` is the number of kills (10 in CI),
`WHARF_SEED` repeats a run's order of events.
"""

import os
import random
import signal
import threading
import time

from botocore.exceptions import BotoCoreError, ClientError

from conftest import PATIENCE, describe, messages, network, register, stream_of, wait_until

KILLS = int(os.environ.get("WHARF_KILLS", "10"))
SEED = int(os.environ.get("WHARF_SEED", "0")) or random.randrange(1, 2**32)
RUNNING_MAX = 8
#: The longest life of a server, in seconds, counted from its readiness.
LIFE = 0.4


class Journal:
    """What the server has acknowledged."""

    def __init__(self):
        self.tasks = {}
        self.tokens = 0

    def wanted(self, status):
        return [arn for arn, desired in self.tasks.items() if desired == status]


def one_call(journal, ecs, rng, arguments):
    """One call at random; written down only when it was answered."""
    running = journal.wanted("RUNNING")
    if running and (len(running) >= RUNNING_MAX or rng.random() < 0.45):
        arn = rng.choice(running)
        # Unknown until it is answered: either end is right.
        journal.tasks[arn] = "STOPPED?"
        ecs.stop_task(cluster="default", task=arn, reason="the campaign")
        journal.tasks[arn] = "STOPPED"
        return
    journal.tokens += 1
    answer = None
    try:
        answer = ecs.run_task(**arguments, clientToken=f"{SEED}-{journal.tokens}")
    finally:
        # An unanswered call is made again with its token: it must not run a second task.
        if answer is None:
            journal.tokens -= 1
    (task,) = answer["tasks"]
    assert task["taskArn"] not in journal.tasks, "a token ran a task that another had run"
    journal.tasks[task["taskArn"]] = "RUNNING"


def pids_by_task(family):
    """Processes of the campaign, by the mark that each task's shell has in its arguments."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                arguments = file.read()
            if b": unmistakable-campaign" in arguments:
                with open(f"/proc/{pid}/cgroup") as file:
                    found.append(next(line.rsplit("/", 1)[1].split("-")[0] for line in file if ":pids:" in line or line.startswith("0::")))
        except (OSError, StopIteration):
            continue
    return found


def test_kills_at_random_moments_lose_nothing_and_leave_nothing(new_wharf, archives):
    rng = random.Random(SEED)
    print(f"WHARF_SEED={SEED} WHARF_KILLS={KILLS}")
    wharf = new_wharf()
    wharf.cli("load", str(archives["busybox"]))
    # The first process of a task: with it ends all that is in its pid namespace.
    script = ": unmistakable-campaign; trap 'exit 0' TERM; echo first; sleep 600 & wait"
    definition = register(wharf, "campaign", command=["sh", "-c", script], stopTimeout=5)
    journal = Journal()

    for _ in range(KILLS):
        ecs = wharf.client("ecs", connect_timeout=5, read_timeout=20)
        arguments = dict(
            cluster="default", taskDefinition=definition, launchType="FARGATE", networkConfiguration=network(wharf)
        )
        reaper = threading.Timer(rng.random() * LIFE, lambda: wharf.process.send_signal(signal.SIGKILL))
        reaper.start()
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                one_call(journal, ecs, rng, arguments)
            except (BotoCoreError, ClientError) as error:
                assert not isinstance(error, ClientError), error
                break
        reaper.join()
        wharf.process.wait(PATIENCE)
        wharf.start()

    assert journal.tasks, "the campaign did something"
    for arn, desired in journal.tasks.items():
        if desired == "STOPPED?":
            desired = describe(wharf, arn)["desiredStatus"]
            journal.tasks[arn] = desired
        wait_until(lambda: describe(wharf, arn)["lastStatus"] == desired, f"{arn} to be {desired}")
    listed = wharf.client("ecs").get_paginator("list_tasks")
    known = {arn for page in listed.paginate(cluster="default") for arn in page["taskArns"]}
    # A last call without an answer may have run one more: its token tells.
    extra = known - set(journal.tasks)
    assert len(extra) <= 1
    for arn in extra:
        answer = wharf.client("ecs").run_task(**arguments, clientToken=f"{SEED}-{journal.tokens + 1}")
        assert [task["taskArn"] for task in answer["tasks"]] == [arn]
        journal.tasks[arn] = "RUNNING"
        wait_until(lambda: describe(wharf, arn)["lastStatus"] == "RUNNING", f"{arn} to run")

    running = journal.wanted("RUNNING")
    assert sorted(pids_by_task("campaign")) == sorted(arn.rsplit("/", 1)[1] for arn in running)
    for arn in journal.wanted("STOPPED"):
        task = describe(wharf, arn)
        assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "the campaign")
        (container,) = task["containers"]
        # One that was stopped before it began has no exit code, and printed nothing.
        lines = messages(wharf, "/ecs/campaign", stream_of(arn)) if "startedAt" in task else []
        assert lines in ([], ["first"]), (lines, task)
        assert container.get("exitCode") in (None, 0, 137, 143)
    for arn in running:
        lines = wait_until(lambda: messages(wharf, "/ecs/campaign", stream_of(arn)), "its line")
        assert lines == ["first"]
        wharf.client("ecs").stop_task(cluster="default", task=arn)
    for arn in running:
        wait_until(lambda: describe(wharf, arn)["lastStatus"] == "STOPPED", f"{arn} to stop")
    assert pids_by_task("campaign") == []
    assert wharf.client("ec2").describe_network_interfaces()["NetworkInterfaces"] == []
    print(f"{len(journal.tasks)} tasks")
