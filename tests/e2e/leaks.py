"""What a Wharf may leave on a machine, counted before and after."""

import os
import subprocess
import time
from collections import Counter
from pathlib import Path


class Snapshot(Counter):
    """A multiset of traces; subtracting keeps what is there now and was not before."""


def of_others():
    """Names of the control groups of Wharfs that other programs run on this machine meanwhile."""
    names = set()
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"__keeper" in command and b"--instance" in command and command[0] != os.environ["WHARF_BIN"].encode():
            names.add("wharf-" + command[command.index(b"--instance") + 1].decode())
    return names


def snapshot():
    traces = Snapshot()
    others = of_others()
    traces.update(f"mount {line.split()[4]}" for line in Path("/proc/self/mountinfo").read_text().splitlines())
    for root, directories, _files in os.walk("/sys/fs/cgroup"):
        directories[:] = [name for name in directories if name not in others]
        traces.update(f"cgroup {root}/{name}" for name in directories if "wharf" in name or "wharf" in root)
    pipes = (path.name for path in Path("/dev/shm").glob("wharf-*"))
    traces.update(f"memory {name}" for name in pipes if name not in others)
    traces.update(f"interface {name}" for name in os.listdir("/sys/class/net"))
    for table in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = table.split()
        traces[f"route {fields[0]} {fields[1]}"] += 1
    rules = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
    traces.update(rules.stdout.splitlines())
    namespaces = set()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            groups = (process / "cgroup").read_text()
            if any(name in groups for name in others):
                continue
            namespaces.add(os.readlink(process / "ns/pid"))
        except OSError:
            continue
        if os.environ["WHARF_BIN"].encode() in command[0]:
            traces[f"process {b' '.join(command).decode(errors='replace')}"] += 1
    traces.update(f"pid namespace {name}" for name in namespaces)
    return traces


SHOWN = 20


def check(before, patience=20.0):
    """Nothing is there that was not there before; the kernel may take a moment to clean up."""
    deadline = time.monotonic() + patience
    while True:
        left = sorted((snapshot() - before).elements())
        if not left:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"{len(left)} things are left behind: {left[:SHOWN]}")
        time.sleep(0.05)
