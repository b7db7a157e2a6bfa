"""What the benchmarks share: processes and what they cost, the daemon, source and sink, medians, tables,
JSON and plots. A figure counts only with the run it is compared with: everything here makes ratios."""
import argparse
import contextlib
import ctypes
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / os.environ.get("PRESET", "release")
OUT = ROOT / "build" / "bench"
TALLY = ("connections", "full", "resumed", "failed", "messages", "distinct", "bytes", "refused", "clear")
TICK = os.sysconf("SC_CLK_TCK")


# --- processes ---

def cpu_seconds(pid):
    """User and system time of a process, of all its descendants, and of those of them that are gone."""
    children, used = {}, {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            used[int(entry.name)] = sum(map(int, fields[11:15]))
    total, todo = 0, [pid]
    while todo:
        one = todo.pop()
        total += used.get(one, 0)
        todo += children.get(one, [])
    return total / TICK


def own_cpu_seconds(pid):
    """Of one process alone, with all threads it ever had: exact, where /proc counts in hundredths of a second."""
    clock = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)) != 0:
        raise RuntimeError(f"process {pid} is gone")
    return time.clock_gettime(clock.value)


def memory_kib(pid, what="Pss"):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(rf"^{what}:\s+(\d+)", text, re.M).group(1))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not happen within {seconds} s")
        time.sleep(0.005)


class Lab:
    """A directory on the file system that is measured, and the processes begun in it: both go with it."""

    def __init__(self, spool_on=None):
        OUT.mkdir(parents=True, exist_ok=True)
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=spool_on or OUT))
        self.path.chmod(0o755)
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for process in reversed(self.processes):
            end(process)
        shutil.rmtree(self.path, ignore_errors=True)

    def start(self, command, **options):
        process = subprocess.Popen([str(c) for c in command], **options)
        self.processes.append(process)
        return process

    def tally(self, name):
        numbers = struct.unpack(f"{len(TALLY)}Q", (self.path / name).read_bytes())
        return dict(zip(TALLY, numbers))

    def drain(self, port, **options):
        """The sink, once it listens. Options as bench-drain's, with - for _."""
        return self.begin("bench-drain", port=port, tally=self.path / "drain.tally", **options)

    def relay(self, port, to, **options):
        return self.begin("bench-relay", port=port, to=f"127.2.0.1:{to}", spool=self.path / "relay.spool",
                          log=self.path / "relay.log", **options)

    def begin(self, program, **options):
        process = self.start([BUILD / program] + arguments(options), stdout=subprocess.PIPE, text=True)
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{program} did not start")
        return process

    def feed(self, to, **options):
        """The source, to its end: its CPU seconds and its tally."""
        command = [str(BUILD / "bench-feed"), f"to={to}", f"tally={self.path}/feed.tally"] + arguments(options)
        process = subprocess.Popen(command)
        self.processes.append(process)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError("bench-feed failed")
        return usage.ru_utime + usage.ru_stime, self.tally("feed.tally")


def arguments(options):
    return [f"{key.replace('_', '-')}={value}" for key, value in options.items()]


def end(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Daemon:
    """posthaste run on a configuration; `lines` are LocalData's; `under`: a command that runs it."""

    def __init__(self, lab, port, lines, connector="", workers=1, durability="commit", extra="", under=()):
        self.http = free_port()
        self.lab = lab
        data = ",\n".join(f'"{line}"' for line in lines)
        (lab.path / "posthaste.conf").write_text(f"""Hostname = "out.bench.test"
SpoolDir = "{lab.path}/spool"
MinFreeSpace = 1%
Workers = {workers}
Durability = {durability}
Admin {{ ControlSocket = "{lab.path}/control" Http = "127.0.0.1:{self.http}" }}
Log {{ Delivery = "{lab.path}/delivery.jsonl" Level = warn }}
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} {connector} }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
    LocalData = {{{data}}} }}
{extra}
""")
        with open(lab.path / "errors", "ab") as errors:
            self.process = lab.start([*under, BUILD / "posthaste", "run", "-c", lab.path / "posthaste.conf"],
                                     stdout=subprocess.PIPE, stderr=errors, text=True)
        self.listening = None
        for line in self.process.stdout:
            if line.startswith("listening in "):
                self.listening = line.split()[2]
            if line.startswith("ready"):
                break
        else:
            raise RuntimeError("the daemon did not start: " + (lab.path / "errors").read_text())

    def cpu(self):
        return own_cpu_seconds(self.process.pid)

    def metrics(self):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics").read().decode()
        pairs = (line.split() for line in text.splitlines() if line and line[0] != "#")
        return {pair[0]: float(pair[1]) for pair in pairs}

    def world(self):
        """Which one the daemon runs on: a ring shows among its descriptors."""
        links = []
        for entry in pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                links.append(os.readlink(entry))
        return "ring" if any("io_uring" in link for link in links) else "poll"


# --- results ---

class Runs:
    """Figures of one kind over repeated runs: their median, and how far they lay apart."""

    def __init__(self):
        self.values = []

    @classmethod
    def of(cls, runs, key):
        figures = cls()
        figures.values = [run[key] for run in runs]
        return figures

    def add(self, value):
        self.values.append(value)

    def median(self):
        return statistics.median(self.values)

    def spread(self):
        """Half the distance of the extremes, as a part of the median."""
        return (max(self.values) - min(self.values)) / 2 / self.median() if self.median() else 0.0


def machine():
    name = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {"cpu": name.group(1) if name else "unknown", "cores": os.cpu_count(), "kernel": os.uname().release,
            "commit": commit.stdout.strip(), "load": os.getloadavg()[0]}


def file_system(path):
    """The type of the one that holds `path`."""
    where, found = pathlib.Path(path).resolve(), (0, "unknown")
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        mount, kind = line.split()[1:3]
        if where.is_relative_to(mount):
            found = max(found, (len(mount), kind))
    return found[1]


tables = [] # printed so far


def table(title, head, rows, note=""):
    """Prints it; `save` leaves what was printed as Markdown too, for docs/BENCHMARKS.md."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [head] + rows) for i in range(len(head))]
    line = lambda row: "| " + " | ".join(cell.ljust(w) if i == 0 else cell.rjust(w)
                                          for i, (cell, w) in enumerate(zip(row, widths))) + " |"
    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    text = "\n".join([line(head), rule] + [line(row) for row in rows])
    tables.append(f"{title}\n\n{text}\n" + (f"\n{note}\n" if note else ""))
    print(f"\n{tables[-1]}", end="", flush=True)


def save(name, results):
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{name}.json"
    where = machine()
    path.write_text(json.dumps({"benchmark": name, "machine": where, **results}, indent=1) + "\n")
    path.with_suffix(".md").write_text("\n".join(tables) + f"\n{where['cpu']}, {where['cores']} CPUs, Linux "
                                       f"{where['kernel']}, load {where['load']:.1f}, commit {where['commit']}\n")
    print(f"\nresults: {path.relative_to(ROOT)}, .md")


def options_parser(description, **defaults):
    parser = argparse.ArgumentParser(description=description)
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value,
                            help=f"default {value}")
    return parser


def c_program(name, **options):
    """Runs one of the C programs; its lines of JSON."""
    done = subprocess.run([str(BUILD / f"bench-{name}")] + arguments(options), stdout=subprocess.PIPE, text=True,
                          check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def collected(name, options):
    """Instructions in the functions measured_* of one run under callgrind."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=measured_*",
               str(BUILD / f"bench-{name}")] + arguments(options)
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found:
        raise RuntimeError(f"callgrind of bench-{name}: {done.stderr[-500:]}")
    return int(found.group(1))


def instructions_per_round(name, rounds=(3, 13), count="rounds", **options):
    """What one more round costs: what is done once falls out. `count`: the program's name for rounds."""
    few, many = (collected(name, {**options, count: number}) for number in rounds)
    return (many - few) / (rounds[1] - rounds[0])


def prepare():
    """As many open files as there may be, and an end that still ends what was begun."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(1))
