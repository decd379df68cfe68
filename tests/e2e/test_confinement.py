"""What a container may not do, tried from inside as root: to the machine, to Wharf, to its neighbours."""

from pathlib import Path
from urllib.parse import urlparse

from conftest import address_of, messages, register, run, stream_of, wait_for_status, wait_until

#: Each line of the answer is `name: outcome`; what must be refused says REFUSED.
ATTEMPTS = r"""
try() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "$name: DONE"; else echo "$name: REFUSED"; fi; }
try mount-tmpfs mount -t tmpfs none /mnt
try mount-proc mount -t proc none /mnt
try remount-proc mount -o remount,rw /proc/sys
try bind-mount mount --bind / /mnt
try unmount-masked umount /proc/kcore
try unshare-mounts unshare -m true
try unshare-user unshare -U true
try enter-init nsenter -t 1 -n -m true
try pivot-root pivot_root / /
try swap swapon /etc/hostname
try module insmod /nothing.ko
try clock sh -c 'date -s 2001-01-01; [ $(date +%Y) = 2001 ]'
try hostname hostname other
try reboot reboot -f
try kernel-log dmesg
try sysctl sh -c 'echo 1 > /proc/sys/kernel/panic'
try sysrq sh -c 'echo h > /proc/sysrq-trigger'
try core-pattern sh -c 'echo x > /proc/sys/kernel/core_pattern'
try kcore sh -c '[ -n "$(head -c 16 /proc/kcore)" ]'
try keys sh -c '[ -n "$(cat /proc/keys)" ]'
try timers sh -c '[ -n "$(cat /proc/timer_list)" ]'
try firmware sh -c '[ -n "$(ls /sys/firmware)" ]'
try write-sys sh -c 'echo 1 > /sys/kernel/mm/ksm/run'
try make-cgroup mkdir /sys/fs/cgroup/mine
try release-agent sh -c 'echo x > /sys/fs/cgroup/release_agent'
try new-address ip addr add 10.9.8.7/32 dev eth0
try link-down ip link set eth0 down
mknod /disk b MAJOR MINOR 2>/dev/null
try read-disk head -c 1 /disk
mknod /kmem c 1 2 2>/dev/null
try read-kmem head -c 1 /kmem
try host-root cat /proc/1/root/MARKER
try other-processes sh -c '[ "$(ls -d /proc/[0-9]* | wc -l)" -gt 8 ]'
try host-api timeout 5 wget -q -O - http://127.0.0.1:PORT/_wharf/health
try gateway-api timeout 5 wget -q -O - http://GATEWAY:PORT/_wharf/health
try stranger-metadata timeout 5 wget -q -O - http://169.254.170.2:80/v4/STRANGER
try own-metadata timeout 5 wget -q -O - http://169.254.170.2:80/v4/${ECS_CONTAINER_METADATA_URI_V4##*/}
echo "users: $(cat /proc/self/uid_map)"
grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status
echo end
"""

#: Docker's default set, which is also what Fargate gives.
CAPABILITIES_OF_DOCKER = 0x00000000A80425FB


def disk_numbers():
    """The numbers of the block device below `/`, or of any other."""
    for line in Path("/proc/partitions").read_text().splitlines()[2:]:
        major, minor = line.split()[:2]
        return major, minor
    return "8", "0"


def test_what_a_container_may_not_do(wharf, tmp_path):
    marker = tmp_path / "of-the-host"
    marker.write_text("boo")
    neighbour = run(wharf, register(wharf, "quiet-neighbour", command=["sleep", "600"], stopTimeout=2))
    task = wait_for_status(wharf, neighbour, "RUNNING")
    runtime_id = task["containers"][0]["runtimeId"]
    gateway = address_of(task).rsplit(".", 1)[0] + ".1"
    major, minor = disk_numbers()
    script = ATTEMPTS.replace("PORT", str(urlparse(wharf.endpoint).port)).replace("STRANGER", runtime_id)
    script = script.replace("GATEWAY", gateway).replace("MAJOR", major).replace("MINOR", minor)
    script = script.replace("/MARKER", str(marker))

    arn = run(wharf, register(wharf, "prisoner", command=["sh", "-c", script]))
    wait_for_status(wharf, arn, "STOPPED")
    lines = messages(wharf, "/ecs/prisoner", stream_of(arn))
    assert lines[-1] == "end", lines
    outcomes = dict(line.split(": ", 1) for line in lines if ": " in line)
    assert outcomes.pop("own-metadata") == "DONE"
    # Root inside is nobody outside.
    inside, outside, count = map(int, outcomes.pop("users").split())
    assert (inside, count) == (0, 65536) and outside >= 0x70000000
    done = sorted(name for name, outcome in outcomes.items() if outcome == "DONE")
    assert done == []
    assert len(outcomes) > 30

    status = dict(line.split(":\t") for line in lines if ":\t" in line)
    assert int(status["CapEff"], 16) & ~CAPABILITIES_OF_DOCKER == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("0", "2")
    assert wait_for_status(wharf, neighbour, "RUNNING", timeout=1)
    wharf.client("ecs").stop_task(cluster="default", task=neighbour)
    wait_for_status(wharf, neighbour, "STOPPED")


def test_no_descriptor_and_no_variable_of_the_engine_reaches_a_program(wharf):
    script = "ls /proc/self/fd | wc -l; env"
    arn = run(wharf, register(wharf, "inventory", command=["sh", "-c", script]))
    wait_for_status(wharf, arn, "STOPPED")
    lines = wait_until(lambda: messages(wharf, "/ecs/inventory", stream_of(arn)), "its output")
    # 0, 1, 2 and the directory that ls reads.
    assert int(lines[0]) == 4, lines
    text = "\n".join(lines[1:])
    assert "PATH=/bin" in text and "WHARF" not in text and "AWS_SECRET" not in text
