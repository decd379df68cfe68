"""Containers run by hand, as Docker users run them: pipes, terminals, exit codes, ports, copies."""

import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time
import fcntl

import pytest

from conftest import PATIENCE, WHARF, wait_until


class Hand:
    """The wharf command against one server."""

    def __init__(self, server):
        self.server = server
        self.environment = os.environ | {"WHARF_DATA_DIR": str(server.directory)}

    def __call__(self, *arguments, check=True, text_in=None, timeout=120):
        done = subprocess.run(
            [WHARF, *arguments],
            input=text_in,
            stdin=subprocess.DEVNULL if text_in is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment,
        )
        if check:
            assert done.returncode == 0, f"wharf {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done

    def out(self, *arguments, **options):
        return self(*arguments, **options).stdout

    def terminal(self, *arguments):
        return Terminal([WHARF, *arguments], self.environment)

    def popen(self, *arguments, **options):
        return subprocess.Popen([WHARF, *arguments], env=self.environment, **options)

    def inspect(self, name):
        return json.loads(self.out("inspect", name))[0]


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, command, environment, size=(40, 100)):
        self.master, slave = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.text = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def until(self, text):
        """Reads until the text has come; returns what came."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.text:
            left = deadline - time.monotonic()
            assert left > 0, f"never saw {text!r} in {self.text!r}"
            if select.select([self.master], [], [], min(left, 0.2))[0]:
                self.text += os.read(self.master, 65536).decode(errors="replace")
        seen, self.text = self.text.split(text, 1)
        return seen + text

    def end(self):
        """Waits for the command; returns its exit code. The terminal must be as it was."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end: {self.text!r}"
            if select.select([self.master], [], [], 0.05)[0]:
                self.text += os.read(self.master, 65536).decode(errors="replace")
        assert termios.tcgetattr(self.slave) == self.before, "the terminal is not put back"
        os.close(self.master)
        os.close(self.slave)
        return self.process.returncode


@pytest.fixture
def hand(wharf):
    """The command; every test leaves no container behind."""
    hand = Hand(wharf)
    yield hand
    left = hand.out("ps", "-aq").split()
    if left:
        hand("rm", "-f", *left)


def test_output_errors_and_exit_codes_are_the_programs(hand):
    done = hand("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
    # Exactly as it was written, with no newline made up.
    assert hand.out("run", "--rm", "busybox", "printf", "a\\nb") == "a\nb"
    assert hand("run", "--rm", "busybox", "nope", check=False).returncode == 127
    assert hand("run", "--rm", "busybox", "/etc", check=False).returncode == 126
    absent = hand("run", "absent", check=False)
    assert absent.returncode == 125 and "wharf load" in absent.stderr, absent.stderr
    nobody = subprocess.run(
        [WHARF, "run", "--data-dir", "/nonexistent/wharf", "busybox"], capture_output=True, text=True
    )
    assert nobody.returncode != 0 and "wharf up" in nobody.stderr, nobody.stderr
    assert hand.out("ps", "-aq") == ""


def test_pipes_go_through(hand):
    assert hand.out("run", "--rm", "-i", "busybox", "cat", text_in="x\n") == "x\n"
    big = "0123456789abcdef" * 65536
    assert hand.out("run", "--rm", "-i", "busybox", "cat", text_in=big) == big
    hand("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    assert hand.out("exec", "-i", "box", "wc", "-c", text_in=big).strip() == str(len(big))
    assert hand("exec", "box", "sh", "-c", "exit 9", check=False).returncode == 9
    assert hand("exec", "box", "nope", check=False).returncode == 127
    assert hand("run", "--rm", "-it", "busybox", "sh", check=False).returncode == 125
    hand("rm", "-f", "box")


def test_a_terminal_is_raw_resizes_detaches_and_is_put_back(hand):
    term = hand.terminal("run", "-it", "--name", "shell", "busybox", "sh")
    term.type("stty size; tty; echo $TERM $((20+22))\n")
    seen = term.until("xterm 42")
    assert "40 100" in seen and "/dev/pts/0" in seen, seen
    term.resize(50, 120)
    os.kill(term.process.pid, signal.SIGWINCH)
    wait_until(lambda: (term.type("stty size\n"), time.sleep(0.1), "50 120" in (term.text + read(term)))[2], "the size")
    term.type("echo half\x10typed\n")
    term.until("half\x10typed" if "half\x10typed" in term.text else "typed")
    term.type(b"\x10\x11")
    assert term.end() == 0
    assert hand.inspect("shell")["state"] == "running"

    again = hand.terminal("attach", "shell")
    again.type("echo again-$((1+1))\n")
    again.until("again-2")
    again.type("exit 5\n")
    assert again.end() == 5
    inside = hand.terminal("run", "--rm", "-it", "busybox", "sh", "-c", "trap 'exit 33' INT; echo ready; while :; do sleep 0.05; done")
    inside.until("ready")
    inside.type(b"\x03")
    assert inside.end() == 33
    hand("rm", "shell")


def read(term):
    if select.select([term.master], [], [], 0)[0]:
        term.text += os.read(term.master, 65536).decode(errors="replace")
    return term.text


def test_exec_on_a_terminal(hand):
    hand("run", "-d", "--name", "box", "-e", "COLOUR=red", "busybox", "sleep", "1000")
    term = hand.terminal("exec", "-it", "-w", "/etc", "-e", "SHAPE=round", "box", "sh")
    term.type("pwd; echo $COLOUR-$SHAPE\n")
    assert "/etc" in term.until("red-round")
    term.type("exit 3\n")
    assert term.end() == 3
    hand("rm", "-f", "box")


def test_signals_are_passed_on(hand):
    script = "trap 'echo told; exit 4' TERM; echo ready; while :; do sleep 0.05; done"
    running = hand.popen("run", "--rm", "busybox", "sh", "-c", script, stdout=subprocess.PIPE, text=True)
    assert running.stdout.readline() == "ready\n"
    running.send_signal(signal.SIGTERM)
    assert running.stdout.read() == "told\n"
    assert running.wait(PATIENCE) == 4
    assert hand.out("ps", "-aq") == ""


def test_life_of_a_container(hand):
    identity = hand.out("run", "-d", "--name", "web", "-l", "tier=front", "busybox", "sh", "-c",
                        "echo one; echo two >&2; trap 'exit 0' TERM; while :; do sleep 0.05; done").strip()
    assert re.fullmatch("[0-9a-f]{64}", identity)
    wait_until(lambda: hand("logs", "web").stdout == "one\n", "its output")
    assert hand("logs", "web").stderr == "two\n"
    assert hand("logs", "--tail", "1", "web").stderr == "two\n"
    assert re.match(r"\d{4}-\d\d-\d\dT", hand.out("logs", "-t", "web"))
    assert hand.out("ps", "-q") == identity[:12] + "\n"
    assert hand.out("ps", "--filter", "label=tier=front", "--format", "{{.Names}} {{.State}}") == "web running\n"
    assert "web" in hand.out("ps") and json.loads(hand.out("ps", "--json")) == []
    taken = hand("run", "-d", "--name", "web", "busybox", check=False)
    assert taken.returncode == 125 and "in use" in taken.stderr

    hand("pause", "web")
    assert hand.inspect("web")["state"] == "paused"
    assert hand("exec", "web", "true", check=False).returncode == 125
    hand("unpause", "web")
    assert "sleep" in hand.out("top", "web")
    stats = json.loads(hand.out("stats", "--no-stream", "--json", "web"))
    assert stats[0]["name"] == "web" and stats[0]["stats"]["pids"] >= 1
    hand("rename", "web", "site")
    hand("exec", "site", "sh", "-c", "echo kept > /file")
    hand("stop", "-t", "20", "site")
    assert hand.inspect("site")["exit"]["code"] == 0
    assert hand.out("wait", "site") == "0\n"
    hand("start", "site")
    assert hand.out("exec", "site", "cat", "/file") == "kept\n"
    refused = hand("rm", "site", check=False)
    assert refused.returncode != 0 and "force" in refused.stderr
    hand("kill", "-s", "KILL", "site")
    assert hand.out("wait", "site") == "137\n"
    hand("rm", "site")
    assert hand.out("ps", "-aq") == ""


def test_files_are_copied_both_ways(hand, tmp_path):
    hand("run", "-d", "--name", "box", "busybox", "sh", "-c", "mkdir /tmp; exec sleep 1000")
    wait_until(lambda: hand("exec", "box", "test", "-d", "/tmp", check=False).returncode == 0, "its directory")
    (tmp_path / "site" / "deep").mkdir(parents=True)
    (tmp_path / "site" / "index.html").write_text("hello")
    (tmp_path / "site" / "deep" / "x").write_text("x")
    hand("cp", str(tmp_path / "site"), "box:/tmp")
    assert hand.out("exec", "box", "cat", "/tmp/site/index.html", "/tmp/site/deep/x") == "hellox"
    hand("cp", f"{tmp_path}/site/.", "box:/tmp/new")
    assert hand.out("exec", "box", "ls", "/tmp/new") == "deep\nindex.html\n"
    hand("cp", str(tmp_path / "site" / "index.html"), "box:/tmp/renamed")
    hand("cp", "box:/tmp/renamed", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "hello"
    hand("cp", "box:/tmp/site", str(tmp_path / "tree"))
    assert (tmp_path / "tree" / "deep" / "x").read_text() == "x"
    archive = subprocess.run([WHARF, "cp", "box:/tmp/site", "-"], env=hand.environment, capture_output=True, check=True)
    assert b"site/index.html" in archive.stdout
    missing = hand("cp", "box:/nope", ".", check=False)
    assert missing.returncode != 0 and "no such file" in missing.stderr
    # A container that links out of itself writes nothing here.
    hand("exec", "box", "sh", "-c", f"mkdir /evil; ln -s {tmp_path} /evil/out")
    hand("cp", "box:/evil", str(tmp_path / "evil"))
    hand("stop", "-t", "0", "box")
    hand("cp", "box:/tmp/renamed", str(tmp_path / "stopped"))
    assert (tmp_path / "stopped").read_text() == "hello"
    hand("rm", "box")


def test_ports_volumes_and_a_restarted_server(hand, wharf, tmp_path):
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "index.html").write_text("from the host")
    hand("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "-v", f"{tmp_path}/www:/www:ro", "--restart", "always",
         "busybox", "httpd", "-f", "-p", "80", "-h", "/www")
    published = hand.out("port", "web", "80").strip()
    host, port = published.rsplit(":", 1)

    def fetch():
        try:
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                connection.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
                answer = b""
                while chunk := connection.recv(4096):
                    answer += chunk
                return b"from the host" in answer
        except OSError:
            return False

    wait_until(fetch, "an answer")
    pid = hand.inspect("web")["pid"]
    taken = hand("run", "-d", "--name", "other", "-p", f"{published}:80", "busybox", "sleep", "9", check=False)
    assert taken.returncode == 125 and "already allocated" in taken.stderr, taken.stderr
    hand("rm", "other")

    wharf.restart()
    wait_until(fetch, "an answer of the next server")
    assert hand.inspect("web")["pid"] == pid, "the container ran on"
    # One that crashes is started again.
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: hand.inspect("web")["restarts"] >= 1 and hand.inspect("web")["state"] == "running", "a restart")
    wait_until(fetch, "an answer after the restart")
    hand("rm", "-f", "web")
    assert not fetch()


def test_options_reach_the_container(hand):
    out = hand.out(
        "run", "--rm", "--hostname", "deck", "-u", "1000:1000", "-w", "/tmp", "--read-only", "--tmpfs", "/scratch:size=1m",
        "-e", "A=b", "--cap-drop", "ALL", "--ulimit", "nofile=64:64", "--network", "none", "--memory", "64m",
        "--entrypoint", "sh", "busybox", "-c",
        "hostname; id -u; pwd; echo $A; ulimit -n; touch /x 2>/dev/null || echo ro; touch /scratch/x && echo rw; "
        "grep CapEff /proc/self/status; ls /sys/class/net",
    )
    assert out.split() == ["deck", "1000", "/tmp", "b", "64", "ro", "rw", "CapEff:", "0000000000000000", "lo"], out
    bad = hand("run", "-p", "nope", "busybox", check=False)
    assert bad.returncode == 125 and "port" in bad.stderr
