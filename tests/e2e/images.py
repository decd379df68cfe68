"""Images from nothing: layers and docker archives, made with tarfile alone."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path


def _member(name, mode, size=0, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.mode, info.size, info.type, info.linkname = mode, size, kind, link
    return info


def layer(files):
    """A layer of `{path: (mode, bytes)}`; a `str` in place of the bytes is a symbolic link's target."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, (mode, content) in files.items():
            if isinstance(content, str):
                archive.addfile(_member(path, 0o777, kind=tarfile.SYMTYPE, link=content))
            else:
                archive.addfile(_member(path, mode, len(content)), io.BytesIO(content))
    return buffer.getvalue()


def busybox_layer():
    """Debian's static busybox, with a link for each of its applets, and the users of a small system."""
    binary = Path(os.environ.get("WHARF_BUSYBOX", "/bin/busybox"))
    applets = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout.split()
    files = {"bin/busybox": (0o755, binary.read_bytes())}
    files |= {f"bin/{applet}": (0o777, "busybox") for applet in applets if applet != "busybox"}
    files["etc/passwd"] = (0o644, b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
    files["etc/group"] = (0o644, b"root:x:0:\nuser:x:1000:\nextra:x:2000:user\n")
    return layer(files)


def docker_archive(path, reference, layers, config, corrupt=None):
    """A `docker save` archive. `corrupt(name, bytes) -> bytes` may damage a file on its way in."""
    corrupt = corrupt or (lambda _name, content: content)
    digests = [hashlib.sha256(content).hexdigest() for content in layers]
    image = {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [],
    }
    config_bytes = json.dumps(image).encode()
    config_name = hashlib.sha256(config_bytes).hexdigest() + ".json"
    manifest = [
        {"Config": config_name, "RepoTags": [reference], "Layers": [f"{digest}/layer.tar" for digest in digests]}
    ]
    files = {config_name: config_bytes}
    files |= {f"{digest}/layer.tar": content for digest, content in zip(digests, layers)}
    files["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            content = corrupt(name, content)
            archive.addfile(_member(name, 0o644, len(content)), io.BytesIO(content))
    return Path(path)
