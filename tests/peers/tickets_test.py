#!/usr/bin/env python3
"""Tickets over a restart: the first session of the new run is a resumed one; without TlsTicketKey it
isn't; and a key that others can read is an error."""
import os
import smtplib
import subprocess
import sys

from destinations import Certificate, Peer
from posthaste import BUILD, Daemon, Directory, free_port, wait_for

PORT = free_port("127.4.2.1")


def send(daemon, count):
    host, port = daemon.listening["in"].split(":")
    done = len([e for e in daemon.events() if e["event"] == "delivered"])
    with smtplib.SMTP(host, int(port)) as client:
        for number in range(count):
            client.sendmail("s@one.test", [f"u{number}@contoso.test"], "Subject: one\r\n\r\nx\r\n")
    wait_for(lambda: len([e for e in daemon.events() if e["event"] == "delivered"]) >= done + count, 20, "delivery")


def handshakes(daemon):
    metrics = daemon.metrics()
    return {kind: int(metrics[f'posthaste_handshakes_total{{kind="{kind}"}}'])
            for kind in ("full", "chain_cached", "resumed", "failed")}


def run(directory, kept):
    root = Certificate(["root"], authority=True)
    (directory.path / "root.pem").write_bytes(root.pem())
    certificate = Certificate(["mx.contoso.test", "contoso.test"], root)
    address = f"127.4.2.{1 + kept}"
    Peer(address, PORT, certificate.write(directory.path / "server.pem"))
    key = directory.path / "ticket.key"
    daemon = Daemon(directory, (f'TlsTicketKey = "{key}"\n' if kept else "") + f"""Workers = 2
SendConnector "contoso" {{ AddressSpaces = {{"contoso.test"}} RequireTLS = true TlsAuthLevel = DomainValidation
  TlsTrustAnchors = {{"{directory.path}/root.pem"}} SmtpMaxMessagesPerConnection = 1 }}
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Resolver {{ Port = {PORT} AllowedDestinations = {{"127.0.0.0/8"}}
  LocalData = {{"contoso.test. MX 10 mx.contoso.test.", "mx.contoso.test. A {address}"}} }}
""")
    send(daemon, 10)
    first = handshakes(daemon)
    assert first["resumed"] > 0 and first["failed"] == 0, first
    assert daemon.stop() == 0
    assert (directory.path / "spool" / "tickets").exists() == kept
    daemon.start()
    send(daemon, 1)
    second = handshakes(daemon)
    assert second["resumed"] == (1 if kept else 0), second
    assert daemon.stop() == 0
    if kept:
        os.chmod(key, 0o644)
        checked = subprocess.run([BUILD / "posthaste", "check", "-c", daemon.config], capture_output=True, text=True)
        assert checked.returncode == 1 and "C20 TlsTicketKey" in checked.stderr, checked.stderr
    return f"{first} then {second}"


def main():
    for kept in (True, False):
        with Directory() as directory:
            print(f"tickets, {'kept' if kept else 'not kept'}: {run(directory, kept)}")


sys.exit(main())
