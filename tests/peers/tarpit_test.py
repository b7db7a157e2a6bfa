#!/usr/bin/env python3
"""Half of all sites are tarpits, which take half a minute for each reply, and get half of the mail: the mail
for the other half arrives all the same while the tarpits hold. Prints the rate of that half beside
its rate alone; nothing is asserted of time. SITES (60) and MESSAGES (3000) say how many."""
import os
import subprocess
import sys
import time

from posthaste import BUILD, Daemon, Directory, Sink, free_port, wait_for

SITES = int(os.environ.get("SITES", "60"))
MESSAGES = int(os.environ.get("MESSAGES", "3000"))
CONFIG = """
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} }}
ShutdownTimeout = 100ms
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{local}}} }}
"""


def inject(daemon, recipients):
    senders = [subprocess.Popen([BUILD / "bench-injector", daemon.listening["in"], "1",
                                 str(MESSAGES // len(recipients)), "2048", recipient],
                                stdout=subprocess.DEVNULL) for recipient in recipients]
    for sender in senders:
        assert sender.wait(120) == 0


def run(tarpits):
    """Returns the rate of the good half."""
    port = free_port("127.4.0.1")
    good = [f"g{n}" for n in range(SITES // 2)]
    slow = [f"t{n}" for n in range(SITES // 2)]
    address = {name: f"127.4.{1 + (name[0] == 't')}.{int(name[1:]) + 1}" for name in good + slow}
    local = ", ".join(f'"{n}.test. MX 10 mx.{n}.test.", "mx.{n}.test. A {address[n]}"' for n in good + slow)
    with Directory() as directory:
        sink = Sink(directory, [f"mx.{n}.test {address[n]}:{port} none" for n in good]
                    + [f"mx.{n}.test {address[n]}:{port} none latency=30000" for n in slow])
        daemon = Daemon(directory, CONFIG.format(port=port, local=local))
        if tarpits:
            inject(daemon, [f"u@{n}.test" for n in slow])
            wait_for(lambda: daemon.metrics()["posthaste_connections_out"] >= len(slow), 60, "tarpits connected")
        began = time.monotonic()
        inject(daemon, [f"u@{n}.test" for n in good])
        want = MESSAGES // len(good) * len(good)
        wait_for(lambda: daemon.metrics()["posthaste_delivered_total"] >= want, 120, "the good half")
        took = time.monotonic() - began
        metrics = daemon.metrics()
        assert metrics["posthaste_delivered_total"] == want, "a tarpit took mail already"
        assert metrics["posthaste_messages_unscheduled"] == 0
        if tarpits:
            assert metrics["posthaste_queued"] == MESSAGES // len(good) * len(slow)
        assert daemon.stop() == 0
        ledgers = sink.ledgers()[0]
        assert all(ledgers[f"mx.{n}.test"]["messages"] == MESSAGES // len(good) for n in good)
        return want / took


alone = run(False)
beside = run(True)
print(f"tarpit: {SITES // 2} of {SITES} sites take 30 s a reply; the others' mail: {beside:.0f} messages/s beside "
      f"them, {alone:.0f} alone, ratio {beside / alone:.2f}")
sys.exit(0)
