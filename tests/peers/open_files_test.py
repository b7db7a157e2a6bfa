#!/usr/bin/env python3
"""With few open files allowed, MaxOutboundConnections is what they allow, said at the start: many sites at once are
served in turn, and no attempt fails for want of a file."""
import resource
import subprocess
import sys
import time

from posthaste import BUILD, Daemon, Directory, Sink, free_port

SITES, FILES = 120, 128


def main():
    port = free_port("127.5.1.1")
    names = [f"d{n}" for n in range(SITES)]
    local = ", ".join(f'"{n}.test. MX 10 mx.{n}.test.", "mx.{n}.test. A 127.5.1.{i + 1}"' for i, n in enumerate(names))
    with Directory() as directory:
        sink = Sink(directory, [f"mx.{n}.test 127.5.1.{i + 1}:{port} none latency=20" for i, n in enumerate(names)])
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
        daemon = Daemon(directory, f"""
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} ConnectionInactivityTimeOut = 1s }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{local}}} }}
""")
        senders = [subprocess.Popen([BUILD / "bench-injector", daemon.listening["in"], "1", "1", "1024", f"u@{n}.test"],
                                    stdout=subprocess.DEVNULL) for n in names[:20]]
        for n in names[20:]:
            assert senders.pop(0).wait(60) == 0
            senders.append(subprocess.Popen([BUILD / "bench-injector", daemon.listening["in"], "1", "1", "1024",
                                             f"u@{n}.test"], stdout=subprocess.DEVNULL))
        assert all(sender.wait(60) == 0 for sender in senders)
        most, deadline, metrics = 0, time.monotonic() + 60, {}
        while time.monotonic() < deadline and metrics.get("posthaste_delivered_total") != SITES:
            metrics = daemon.metrics()
            most = max(most, metrics["posthaste_connections_out"])
        assert metrics["posthaste_delivered_total"] == SITES, metrics
        said = daemon.said()
        assert f"{FILES} open files are allowed: MaxOutboundConnections is {FILES // 2} instead of 20000" in said, said
        assert most <= FILES // 2, most
        assert not any("Too many open files" in str(e) for e in daemon.each_event())
        assert daemon.stop() == 0
        assert sum(entry["messages"] for entry in sink.ledgers()[0].values()) == SITES
        print(f"open files: {SITES} sites served with {FILES} files, {most:.0f} connections at most")
        return 0


sys.exit(main())
