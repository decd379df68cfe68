"""What was acknowledged survives kill -9, and what runs goes on with the same pids."""

import json
import os
import signal
from pathlib import Path

from conftest import address_of, describe, messages, register, run, stream_of, wait_for_status, wait_until

COUNTING = "i=0; while :; do i=$((i+1)); echo line $i; usleep 5000; done"


def processes(server):
    """pid of each process of a server, by its command line."""
    found = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(server.directory).encode() in command:
                found.setdefault(command[1].decode(), []).append(int(process.name))
    return found


def pid_of_command(text):
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if text.encode() in (process / "cmdline").read_bytes():
                    return int(process.name)
            except OSError:
                continue
    return None


def assert_unbroken(lines):
    numbers = [int(line.split()[1]) for line in lines]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_task_and_its_log_survive_kill_9_of_the_control_plane(new_wharf, archives):
    wharf = new_wharf()
    wharf.cli("load", str(archives["busybox"]))
    arn = run(wharf, register(wharf, "counts", command=["sh", "-c", f": unmistakable-a; {COUNTING}"]))
    before = wait_for_status(wharf, arn, "RUNNING")
    pid = pid_of_command("unmistakable-a")
    group, stream = "/ecs/counts", stream_of(arn)
    wait_until(lambda: len(messages(wharf, group, stream)) > 5, "some lines")

    wharf.kill()
    assert pid_of_command("unmistakable-a") == pid
    wharf.start()
    after = describe(wharf, arn)
    assert (after["lastStatus"], address_of(after)) == ("RUNNING", address_of(before))
    seen = len(messages(wharf, group, stream))
    wait_until(lambda: len(messages(wharf, group, stream)) > seen + 20, "more lines")
    assert pid_of_command("unmistakable-a") == pid

    wharf.client("ecs").stop_task(cluster="default", task=arn)
    wait_for_status(wharf, arn, "STOPPED")
    assert_unbroken(messages(wharf, group, stream))


def test_an_exit_while_the_control_plane_is_dead_is_told_afterwards(new_wharf, archives, tmp_path):
    wharf = new_wharf()
    wharf.cli("load", str(archives["busybox"]))
    arn = run(wharf, register(wharf, "quits", command=["sh", "-c", ": unmistakable-b; usleep 700000; echo last words; exit 7"]))
    wait_for_status(wharf, arn, "RUNNING")
    wharf.kill()
    wait_until(lambda: pid_of_command("unmistakable-b") is None, "the task to exit")
    wharf.start()
    task = wait_for_status(wharf, arn, "STOPPED")
    assert task["containers"][0]["exitCode"] == 7
    assert task["stopCode"] == "EssentialContainerExited"
    assert messages(wharf, "/ecs/quits", stream_of(arn)) == ["last words"]


def test_a_task_survives_kill_9_of_the_keeper(new_wharf, archives):
    wharf = new_wharf()
    wharf.cli("load", str(archives["busybox"]))
    arn = run(wharf, register(wharf, "kept", command=["sh", "-c", f": unmistakable-c; {COUNTING}"]))
    wait_for_status(wharf, arn, "RUNNING")
    pid = pid_of_command("unmistakable-c")
    status = json.loads(wharf.cli("status", "--json").stdout)
    os.kill(status["keeper_pid"], signal.SIGKILL)
    seen = len(messages(wharf, "/ecs/kept", stream_of(arn)))
    wait_until(lambda: len(messages(wharf, "/ecs/kept", stream_of(arn))) > seen + 20, "lines through a new keeper")
    assert pid_of_command("unmistakable-c") == pid
    assert describe(wharf, arn)["lastStatus"] == "RUNNING"
    wharf.client("ecs").stop_task(cluster="default", task=arn)
    task = wait_for_status(wharf, arn, "STOPPED")
    assert task["containers"][0]["exitCode"] in (137, 143)
    assert_unbroken(messages(wharf, "/ecs/kept", stream_of(arn)))


def test_down_stops_everything_and_a_second_up_finds_the_data(new_wharf, archives):
    wharf = new_wharf()
    wharf.cli("load", str(archives["busybox"]))
    arn = run(wharf, register(wharf, "comes-back", command=["sleep", "600"]))
    wait_for_status(wharf, arn, "RUNNING")
    wharf.down()
    assert processes(wharf) == {}
    wharf.start()
    families = wharf.client("ecs").list_task_definition_families()["families"]
    assert families == ["comes-back"]
    task = describe(wharf, arn)
    assert task["lastStatus"] == "STOPPED"
    assert "busybox" in wharf.cli("images").stdout
    assert messages(wharf, "/ecs/comes-back", stream_of(arn)) == []
