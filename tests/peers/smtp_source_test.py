#!/usr/bin/env python3
"""Postfix's smtp-source → posthaste → Postfix's smtp-sink in the clear, and → a STARTTLS sink under
DomainValidation: every message arrives once. MESSAGES (2000) says how many; prints what it cost."""
import os
import subprocess
import sys
import time

from posthaste import Daemon, Directory, Sink, free_port, wait_for

MESSAGES = int(os.environ.get("MESSAGES", "2000"))
CONFIG = """
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} {settings} }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
    LocalData = {{"sink.test. MX 10 mx.sink.test.", "mx.sink.test. A {address}"}} }}
"""


def inject(daemon):
    before, began = daemon.cpu_seconds(), time.monotonic()
    subprocess.run(["smtp-source", "-d", "-s", "50", "-m", str(MESSAGES), "-l", "4096",
                    "-f", "a@source.test", "-t", "u@sink.test", daemon.listening["in"]], check=True)
    wait_for(lambda: daemon.metrics()["posthaste_delivered_total"] == MESSAGES, 300, "delivery")
    took, cpu, m = time.monotonic() - began, daemon.cpu_seconds() - before, daemon.metrics()
    print(f"  {MESSAGES / took:8.0f} messages/s, {cpu / MESSAGES * 1000:.3f} CPU s per 1,000, "
          f"{m['posthaste_durable_writes_total'] / MESSAGES:.3f} syncs per message, durability commit")
    assert m["posthaste_queued"] == 0 and m["posthaste_deferred_total"] == 0


def plain():
    port = free_port("127.2.0.1")
    with Directory() as directory:
        counter = directory.path / "counter" # not a pipe: it would be full after some thousands
        sink = directory.start(["smtp-sink", "-c", "-u", "nobody", f"127.2.0.1:{port}", "200"],
                               stdout=counter.open("wb"))
        time.sleep(0.3)
        daemon = Daemon(directory, CONFIG.format(settings="", port=port, address="127.2.0.1"))
        inject(daemon)
        assert daemon.stop() == 0
        sink.terminate()
        sink.wait()
        counts = counter.read_bytes().decode(errors="replace").replace("\r", "\n").split("\n")
        received = int([c for c in counts if "mesg=" in c][-1].split("mesg=")[1].split()[0])
        print(f"plain: {received} of {MESSAGES} at smtp-sink")
        assert received == MESSAGES


def verified():
    port = free_port("127.2.0.1")
    settings = ('RequireTLS = true TlsAuthLevel = DomainValidation TlsDomain = {"mx.sink.test"}\n'
                'TlsTrustAnchors = {"%s/root.pem"}')
    with Directory() as directory:
        sink = Sink(directory, [f"mx.sink.test 127.2.0.1:{port} good"])
        daemon = Daemon(directory, CONFIG.format(settings=settings % directory.path, port=port,
                                                 address="127.2.0.1"))
        inject(daemon)
        assert daemon.stop() == 0
        ledger = sink.ledgers()[0]["mx.sink.test"]
        print(f"DomainValidation: {ledger['messages']} of {MESSAGES} at the sink, "
              f"{ledger['clear']} MAIL in the clear, handshakes {ledger['full']} full "
              f"{ledger['resumed']} resumed")
        assert ledger["messages"] == MESSAGES and ledger["clear"] == 0


plain()
verified()
sys.exit(0)
