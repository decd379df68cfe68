"""Bad input and faults of the machine: a clear error, and everything else goes on."""

import ctypes
import errno
import io
import json
import socket
import struct
import subprocess
import tarfile

import pytest
from botocore.exceptions import ClientError

import images
from conftest import WHARF, describe, register, run, short_directory, wait_for_status

#: The number of fsopen(2), the same on every architecture.
FSOPEN = 430


def refused_load(wharf, archive):
    before = json.loads(wharf.cli("images", "--json").stdout)
    done = wharf.cli("load", str(archive), check=False)
    assert done.returncode != 0
    assert done.stderr.startswith("error:")
    assert json.loads(wharf.cli("images", "--json").stdout) == before
    return done.stderr


def test_a_file_that_is_no_archive(wharf, tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(b"this is not a tar archive" * 100)
    assert str(path) in refused_load(wharf, path)


def test_an_archive_cut_short(wharf, tmp_path, archives):
    path = tmp_path / "cut.tar"
    path.write_bytes(archives["busybox"].read_bytes()[:200_000])
    refused_load(wharf, path)


def test_an_archive_with_a_changed_byte(wharf, tmp_path):
    def flip(name, content):
        return content[:-600] + b"X" + content[-599:] if name.endswith("layer.tar") else content

    layer = images.layer({"a": (0o644, b"x" * 4096)})
    path = images.docker_archive(tmp_path / "flip.tar", "flip:latest", [layer], {}, corrupt=flip)
    assert "sha256" in refused_load(wharf, path) or "digest" in refused_load(wharf, path)


@pytest.mark.parametrize("name", ["../escaped", "a/../../escaped", "/../escaped"])
def test_a_layer_that_points_outside(wharf, tmp_path, name):
    path = images.docker_archive(
        tmp_path / "evil.tar", "evil:latest", [images.layer({name: (0o644, b"boo")})], {}
    )
    done = wharf.cli("load", str(path), check=False)
    if done.returncode == 0:  # unpacked when it is first run
        arn = run(wharf, register(wharf, "evil", image="evil", command=["/x"]))
        task = wait_for_status(wharf, arn, "STOPPED")
        assert "CannotPullContainerError" in task["stoppedReason"]
    else:
        assert "escaped" in done.stderr
    assert not (wharf.directory.parent / "escaped").exists()


def test_a_layer_with_an_absolute_hard_link(wharf, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("shadow")
        info.type, info.linkname = tarfile.LNKTYPE, "/etc/shadow-of-the-host"
        archive.addfile(info)
    path = images.docker_archive(tmp_path / "link.tar", "link:latest", [buffer.getvalue()], {})
    done = wharf.cli("load", str(path), check=False)
    if done.returncode == 0:
        arn = run(wharf, register(wharf, "link", image="link", command=["/x"]))
        assert "CannotPullContainerError" in wait_for_status(wharf, arn, "STOPPED")["stoppedReason"]
    else:
        assert "shadow" in done.stderr


def failed_up(*arguments, **options):
    done = subprocess.run([WHARF, "up", *arguments], capture_output=True, text=True, timeout=60, **options)
    assert done.returncode != 0
    assert done.stderr.startswith("error:") and "panicked" not in done.stderr
    return done.stderr


def test_a_data_directory_in_use(wharf):
    text = failed_up("--listen", "127.0.0.1:0", "--data-dir", str(wharf.directory))
    assert str(wharf.directory) in text and "in use" in text
    assert wharf.client("sts").get_caller_identity()["Account"] == "000000000000"


def test_a_port_already_taken():
    directory = short_directory()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = failed_up("--listen", f"127.0.0.1:{port}", "--data-dir", str(directory))
    assert str(port) in text and "hint:" in text
    subprocess.run(["rm", "-rf", str(directory)], check=True)


def test_no_root(tmp_path):
    directory = short_directory()
    directory.chmod(0o777)
    text = failed_up(
        "--listen", "127.0.0.1:0", "--data-dir", f"{directory}/d", user=65534, group=65534, extra_groups=[]
    )
    assert "root" in text and "hint:" in text
    subprocess.run(["rm", "-rf", str(directory)], check=True)


def without_fsopen_of_overlay():
    """A kernel without overlayfs, as far as our children can tell: fsopen(2) answers ENODEV."""
    load, jump, back = 0x20, 0x15, 0x06
    errno_nodev, allow = 0x00050000 | errno.ENODEV, 0x7FFF0000
    program = struct.pack(
        "HBBI" * 4, load, 0, 0, 0, jump, 0, 1, FSOPEN, back, 0, 0, errno_nodev, back, 0, 0, allow
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privs, set_seccomp, filter_mode = 38, 22, 2
    assert libc.prctl(no_new_privs, 1, 0, 0, 0) == 0
    assert libc.prctl(set_seccomp, filter_mode, header, 0, 0) == 0


def test_a_kernel_without_overlayfs():
    directory = short_directory()
    text = failed_up(
        "--listen", "127.0.0.1:0", "--data-dir", str(directory), preexec_fn=without_fsopen_of_overlay
    )
    assert "the kernel has no overlayfs" in text and "modprobe overlay" in text
    subprocess.run(["rm", "-rf", str(directory)], check=True)


def test_a_data_directory_on_overlayfs():
    directory = short_directory()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(directory)], check=True)
    merged = directory / "merged"
    try:
        for name in ("lower", "upper", "work", "merged"):
            (directory / name).mkdir()
        options = f"lowerdir={directory}/lower,upperdir={directory}/upper,workdir={directory}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], check=True)
        text = failed_up("--listen", "127.0.0.1:0", "--data-dir", str(merged / "d"))
        assert str(merged) in text and "is on overlayfs" in text and "another filesystem" in text
    finally:
        subprocess.run(["umount", "-R", str(directory)], check=True)
        directory.rmdir()


def test_a_listener_for_everyone_needs_other_credentials_or_a_word():
    directory = short_directory()
    text = failed_up("--listen", "0.0.0.0:0", "--data-dir", str(directory))
    assert "test" in text and "hint:" in text
    text = failed_up("--listen", "0.0.0.0:0", "--auth", "any", "--data-dir", str(directory))
    assert "loopback" in text
    subprocess.run(["rm", "-rf", str(directory)], check=True)


def test_a_full_disk_is_told_and_running_tasks_go_on(new_wharf, archives):
    directory = short_directory()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(directory)], check=True)
    try:
        wharf = new_wharf(start=False)
        subprocess.run(["rm", "-rf", str(wharf.directory)], check=True)
        wharf.directory = directory / "d"
        wharf.start()
        wharf.cli("load", str(archives["busybox"]))
        arn = run(wharf, register(wharf, "goes-on", command=["sleep", "600"]))
        wait_for_status(wharf, arn, "RUNNING")
        filler = directory / "filler"
        with filler.open("wb") as file:
            try:
                while True:
                    file.write(b"\0" * 65536)
                    file.flush()
            except OSError:
                pass
        with pytest.raises(ClientError) as refused:
            for number in range(2000):
                register(wharf, f"full-{number}", command=["true"], environment=[{"name": "X", "value": "x" * 60000}])
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
        assert describe(wharf, arn)["lastStatus"] == "RUNNING"
        filler.unlink()
        wharf.down()
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)
        directory.rmdir()


def test_unknown_keys_and_wrong_secrets_are_refused(wharf):
    def code(**who):
        with pytest.raises(ClientError) as refused:
            wharf.client("ecs", **who).list_clusters()
        return refused.value.response["Error"]["Code"]

    assert code(key="AKIAIOSFODNN7EXAMPLE") == "UnrecognizedClientException"
    assert code(secret="wrong") == "InvalidSignatureException"
    with pytest.raises(ClientError) as refused:
        wharf.client("sts", secret="wrong").get_caller_identity()
    assert refused.value.response["Error"]["Code"] == "SignatureDoesNotMatch"


def test_auth_any_takes_unknown_keys_as_the_root_of_the_default_account(new_wharf):
    wharf = new_wharf("--auth", "any")
    identity = wharf.client("sts", key="dummy", secret="dummy").get_caller_identity()
    assert identity["Arn"] == "arn:aws:iam::000000000000:root"


def test_accounts_and_regions_are_apart(wharf):
    here = wharf.client("ecs")
    here.create_cluster(clusterName="mine")
    elsewhere = wharf.client("ecs", region="eu-west-1")
    other = wharf.client("ecs", key="123456789012")
    assert any("mine" in arn for arn in here.list_clusters()["clusterArns"])
    assert not any("mine" in arn for arn in elsewhere.list_clusters()["clusterArns"])
    assert not any("mine" in arn for arn in other.list_clusters()["clusterArns"])
    assert wharf.client("sts", key="123456789012").get_caller_identity()["Account"] == "123456789012"
    here.delete_cluster(cluster="mine")
