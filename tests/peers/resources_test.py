#!/usr/bin/env python3
"""Too few files, too little memory, too few threads, no locked memory, files that may not grow: the daemon says so in
one line and ends with 70, or runs with less. Nothing acknowledged is lost, by the sink's ledger over all of its
lives, and when files are short while it runs it goes on once there are some again."""
import os
import shutil
import subprocess
import sys

from posthaste import BUILD, Daemon, Directory, Sink, free_port, wait_for

CONFIG = """
Workers = 2
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:{inject}"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} ConnectionInactivityTimeOut = 1s }}
Queue {{ MessageRetryInterval = 1s QueueGlitchRetryInterval = 200ms TransientFailureRetryInterval = 500ms }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
    LocalData = {{"sink.test. MX 10 mx.sink.test.", "mx.sink.test. A 127.2.0.5"}} }}
"""
MIB = 1 << 20
NOBODY = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
# A command that limits, what it says where it can't run; None: it must run.
TRIALS = [
    (["prlimit", "--nofile=16:16"], "Too many open files"),
    (["prlimit", "--nofile=20:20"], "Too many open files"),
    (["prlimit", "--nofile=40:40"], None),
    (["prlimit", f"--as={130 * MIB}"], "130 MiB of address space are allowed"),
    (["prlimit", f"--as={511 * MIB}"], "511 MiB of address space are allowed"),
    (["prlimit", f"--as={1024 * MIB}"], None),
    ([*NOBODY, "prlimit", "--nproc=1:1"], "a thread can't be started"),
    ([*NOBODY, "prlimit", "--nproc=8:8"], "a thread can't be started"),
    ([*NOBODY, "prlimit", "--nproc=16:16"], None),
    ([*NOBODY, "prlimit", "--memlock=0:0"], None),
    ([*NOBODY, "prlimit", "--memlock=65536:65536"], None),
    (["prlimit", "--fsize=1000000"], None),
]
CLEAR = ("of address space are allowed", "Too many open files", "out of memory", "a thread can't be started", "could not be started")


def injector(port, first):
    """Of mail by many connections; its numbers begin with `first`."""
    return subprocess.Popen([BUILD / "bench-injector", f"127.0.0.1:{port}", "30", f"{first}+300", "2000",
                             "u-#@sink.test"], stdout=subprocess.PIPE, text=True)


def numbers(process):
    """Those that were acknowledged."""
    lines = process.communicate(timeout=60)[0].splitlines()
    return set(map(int, lines[1].split()[1:]))


def open_spool(directory):
    """For whoever comes next, root or nobody."""
    for path in [directory.path / "spool", *(directory.path / "spool").rglob("*")]:
        shutil.chown(path, "nobody", "nogroup")
    for name in ("delivery.jsonl", "errors"):
        if (directory.path / name).exists():
            (directory.path / name).chmod(0o666)


def short_of_files(daemon, inject_port):
    """While it runs: as many files as it has open now, and none more; then as many as before."""
    pid = daemon.process.pid
    wait_for(lambda: all(daemon.metrics()[f"posthaste_{name}"] == 0 for name in
                         ("connections_in", "connections_out", "queued")), 20, "rest")
    limits = subprocess.run(["prlimit", "--pid", str(pid), "--nofile", "--raw", "--noheadings", "-o", "SOFT,HARD"],
                            capture_output=True, text=True, check=True).stdout.split()
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    free = min(set(range(len(taken) + 1)) - taken) # the limit is on numbers
    subprocess.run(["prlimit", "--pid", str(pid), f"--nofile={free}:{limits[1]}"], check=True)
    waits = injector(inject_port, 50000)
    try:
        waits.wait(1)
        raise AssertionError("it took connections for which there were no files")
    except subprocess.TimeoutExpired:
        pass
    assert daemon.process.poll() is None
    subprocess.run(["prlimit", "--pid", str(pid), f"--nofile={limits[0]}:{limits[1]}"], check=True)
    return numbers(waits)


def main():
    assert os.geteuid() == 0, "needs root"
    port, inject_port = free_port("127.2.0.5"), free_port()
    acknowledged, refused, ran = set(), 0, 0
    with Directory() as directory:
        directory.path.chmod(0o777)
        (directory.path / "spool").mkdir()
        sink = Sink(directory, [f"mx.sink.test 127.2.0.5:{port} none"])
        config = CONFIG.format(port=port, inject=inject_port)
        # By epoll, since an accept of the ring that was begun goes by the limit of that time.
        by_poll = "" if "POSTHASTE_IO" in os.environ else "IoWorld = poll\n"
        daemon = Daemon(directory, by_poll + config)
        acknowledged |= numbers(injector(inject_port, 1))
        assert len(acknowledged) == 300
        if os.environ.get("POSTHASTE_IO") != "ring":
            acknowledged |= short_of_files(daemon, inject_port)
            assert len(acknowledged) == 600
        daemon.kill()
        daemon.config.write_text(daemon.head + config)
        # Nobody may be kept out of the directories above the build.
        daemon.binary = shutil.copy(BUILD / "posthaste", directory.path)
        for number, (prefix, says) in enumerate(TRIALS, 1):
            open_spool(directory)
            before = len(daemon.said())
            daemon.prefix = prefix
            try:
                daemon.start()
                started = True
            except AssertionError:
                started = False
            if started:
                sender = injector(inject_port, 1000 * number)
                try:
                    sender.wait(2)
                except subprocess.TimeoutExpired: # the daemon has ended
                    sender.terminate()
                acknowledged |= numbers(sender)
                daemon.process.terminate()
            code = daemon.process.wait(60)
            said = daemon.said()[before:]
            assert code == 0 or (code == 70 and any(text in said for text in CLEAR)), (prefix, code, said)
            assert "internal error" not in said, (prefix, said)
            if says is None:
                assert code == 0, (prefix, code, said)
            else:
                assert code == 70 and says in said, (prefix, code, said)
            ran += code == 0
            refused += code != 0
        open_spool(directory)
        daemon.prefix = []
        daemon.start()
        wait_for(lambda: daemon.metrics()["posthaste_queued"] == 0, 60, "an empty queue")
        assert daemon.metrics()["posthaste_messages_unscheduled"] == 0
        assert daemon.stop() == 0
        _, arrived = sink.ledgers()
        lost = acknowledged - set(arrived)
        print(f"resources: {len(TRIALS)} limits, {ran} ran with less, {refused} were told why not; {len(acknowledged)} "
              f"acknowledged, {len(lost)} lost")
        assert not lost, sorted(lost)[:10]
        return True


sys.exit(0 if main() else 1)
