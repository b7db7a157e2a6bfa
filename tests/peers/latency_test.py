#!/usr/bin/env python3
"""A sink whose replies leave 20 ms after their commands: messages per round trip on one connection at
PipelineDepth 64, and messages per second on 50 connections at the default depth. Only that all arrive
is demanded: the figures are printed."""
import subprocess
import sys
import time

from posthaste import BUILD, Daemon, Directory, Sink, free_port, wait_for

LATENCY_MS = 20


def run(messages, settings):
    port = free_port("127.2.0.1")
    with Directory() as directory:
        sink = Sink(directory, [f"mx.sink.test 127.2.0.1:{port} none latency={LATENCY_MS}"])
        daemon = Daemon(directory, f"""
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} {settings} }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
    LocalData = {{"sink.test. MX 10 mx.sink.test.", "mx.sink.test. A 127.2.0.1"}} }}
""")
        began = time.monotonic()
        subprocess.run([BUILD / "bench-injector", daemon.listening["in"], "20", str(messages), "4096",
                        "u@sink.test"], check=True, stdout=subprocess.DEVNULL)
        wait_for(lambda: daemon.metrics()["posthaste_delivered_total"] == messages, 120, "delivery")
        took = time.monotonic() - began
        assert daemon.stop() == 0
        ledger = sink.ledgers()[0]["mx.sink.test"]
        assert ledger["messages"] == messages and ledger["duplicates"] == 0
        return took, ledger["sessions"]


took, sessions = run(2000, "MaxConnections = 1 PipelineDepth = 64 SmtpMaxMessagesPerConnection = 0")
print(f"latency: one connection, depth 64: {2000 / (took / (LATENCY_MS / 1000)):.1f} messages per round "
      f"trip of {LATENCY_MS} ms ({sessions} session)")
took, sessions = run(10000, "MaxConnections = 50")
print(f"latency: 50 connections, default depth: {10000 / took:.0f} messages/s ({sessions} sessions)")
sys.exit(0)
