"""What the peer tests share: the daemon, our own sink and injector, ports and temporary directories."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / os.environ.get("PRESET", "dev")


def free_port(address="127.0.0.1"):
    with socket.socket() as s:
        s.bind((address, 0))
        return s.getsockname()[1]


class Directory:
    """A temporary directory that goes with all processes begun in it."""

    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="posthaste-peer-"))
        self.path.chmod(0o755)
        self.processes = []
        return self

    def start(self, command, **options):
        process = subprocess.Popen([str(c) for c in command], **options)
        self.processes.append(process)
        return process

    def __exit__(self, *unused):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        shutil.rmtree(self.path, ignore_errors=True)


class Sink:
    def __init__(self, directory, lines, record=None):
        command = [BUILD / "bench-sink", directory.path] + ([record] if record else [])
        self.process = directory.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       text=True)
        self.process.stdin.write("\n".join(lines) + "\n")
        self.process.stdin.close()
        assert self.process.stdout.readline().strip() == "ready"

    def ledgers(self):
        self.process.send_signal(signal.SIGTERM)
        lines = self.process.stdout.read().splitlines()
        self.process.wait()
        ids = {}
        for pair in lines[-1].split()[1:]:
            number, times = pair.split(":")
            ids[int(number)] = int(times)
        return {entry["name"]: entry for entry in map(json.loads, lines[:-1])}, ids


class Daemon:
    def __init__(self, directory, config, name="posthaste.conf", http=None, prefix=(), spool=None):
        """`prefix`: a command that starts it, prlimit or another."""
        self.prefix = list(prefix)
        self.binary = BUILD / "posthaste"
        self.directory = directory
        self.config = directory.path / name
        self.http = http or free_port()
        self.log = directory.path / "delivery.jsonl"
        self.kills = 0
        text = f"""Hostname = "out.posthaste.test"
SpoolDir = "{spool or directory.path / 'spool'}"
MinFreeSpace = 1%
Admin {{ ControlSocket = "{directory.path}/control" Http = "127.0.0.1:{self.http}" }}
Log {{ Delivery = "{self.log}" Level = warn }}
"""
        if "POSTHASTE_IO" in os.environ: # ring or poll: not what is found out at start
            text += f"IoWorld = {os.environ['POSTHASTE_IO']}\n"
        self.head = text
        self.config.write_text(text + config)
        self.errors = open(directory.path / "errors", "ab")
        self.start()

    def start(self):
        self.process = self.directory.start([*self.prefix, self.binary, "run", "-c", self.config],
                                            stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self.listening = {}
        for line in self.process.stdout:
            words = line.split()
            if words[0] == "listening":
                self.listening[words[1]] = words[2]
            elif words[0] == "ready":
                return
        raise AssertionError("the daemon did not start: " + (self.directory.path / "errors").read_text()[-2000:])

    def reload(self, config=None):
        """Another configuration in the place of the old one (None: the file as it stands), and SIGHUP."""
        if config is not None:
            self.config.write_text(self.head + config)
        self.process.send_signal(signal.SIGHUP)

    def said(self):
        return (self.directory.path / "errors").read_text()

    def workers(self):
        return os.cpu_count()

    def kill(self):
        self.kills += 1
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        return self.process.wait(60)

    def metrics(self):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics").read().decode()
        return {line.split()[0]: float(line.split()[1]) for line in text.splitlines()
                if line and not line.startswith("#")}

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def events(self):
        return list(self.each_event())

    def each_event(self):
        """One by one: the log of a long run doesn't fit into memory."""
        if not self.log.exists():
            return
        with self.log.open() as lines:
            for line in lines:
                if not line.endswith("\n"):
                    break # still being written
                try:
                    yield json.loads(line)
                except json.JSONDecodeError:
                    assert self.kills > 0, line # only a kill cuts a line off


def disagreement(daemon, recipient, event):
    """What `posthaste test` says of a recipient, where that isn't what became of its mail; else None."""
    done = subprocess.run([BUILD / "posthaste", "test", recipient, "--json", "-c", daemon.config],
                          capture_output=True, text=True, timeout=60)
    said = json.loads(done.stdout).get("reason") if done.stdout else done.stderr
    wanted = (0, None) if event["event"] == "delivered" else (2, event["reason"])
    return None if (done.returncode, said) == wanted else (done.returncode, said)


def wait_for(condition, seconds=60, what="it"):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds} s")
