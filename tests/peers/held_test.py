#!/usr/bin/env python3
"""Mail that a TLS policy holds back: listed and counted as a state of its own, on a schedule of its own, and
released at once when the host is seen with another certificate. And a certificate that is about to end is
told of while it is still good."""
import datetime
import smtplib
import socket
import subprocess
import sys
import threading

from posthaste import BUILD, Daemon, Directory, Sink, free_port, wait_for

DOMAINS = ["one.test", "two.test", "three.test"]


class Switch:
    """One address, behind which one of two servers stands."""

    def __init__(self, address, to):
        self.to = to
        self.listener = socket.create_server(address)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(self.to)
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self.copy, args=(source, target), daemon=True).start()

    @staticmethod
    def copy(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def main():
    port = free_port("127.2.8.1")
    data = [f'"{domain}. MX 10 mx.held.test."' for domain in DOMAINS] + ['"mx.held.test. A 127.2.8.1"']
    with Directory() as directory:
        sink = Sink(directory, [f"before 127.2.8.2:{port} wrong-name host=mx.held.test",
                                f"after 127.2.8.3:{port} expiring host=mx.held.test"])
        switch = Switch(("127.2.8.1", port), ("127.2.8.2", port))
        daemon = Daemon(directory, f"""
SendConnector "partner" {{ AddressSpaces = {{"*"}} RequireTLS = true TlsAuthLevel = DomainValidation
  TlsDomain = {{"mx.held.test"}} RetryTls = {{1h}} TlsTrustAnchors = {{"{directory.path}/root.pem"}} }}
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{", ".join(data)}}} }}
""")

        def send(domain):
            host, smtp_port = daemon.listening["in"].split(":")
            with smtplib.SMTP(host, int(smtp_port)) as client:
                client.sendmail("s@held", [f"u@{domain}"], "Subject: h\r\n\r\nhello\r\n")

        def recipients(event):
            return {e["recipient"] for e in daemon.events() if e["event"] == event}
        send("one.test")
        send("two.test")
        wait_for(lambda: len(recipients("deferred")) == 2, what="two deferrals")
        metrics = daemon.metrics()
        assert metrics["posthaste_tls_held"] == 2, metrics
        assert daemon.said().count("mail for one.test is held: cert-name-mismatch: ") == 1, daemon.said() # told once
        assert metrics['posthaste_tls_held_by_reason{reason="cert-name-mismatch"}'] == 2
        listed = subprocess.run([BUILD / "posthaste", "queue", "list", "-c", daemon.config], check=True,
                                capture_output=True, text=True).stdout
        assert listed.count("tls-held") == 2 and "cert-name-mismatch (4.7.5)" in listed, listed
        for event in daemon.events():
            if event["event"] == "deferred": # RetryTls: an hour, up to a tenth longer
                begun, again = (datetime.datetime.fromisoformat(event[key]) for key in ("time", "next_attempt"))
                assert 3599 <= (again - begun).total_seconds() <= 3961, event

        sites = subprocess.run([BUILD / "posthaste", "queue", "sites", "-c", daemon.config], check=True,
                               capture_output=True, text=True).stdout
        assert "a TLS policy holds back" in sites and "cert-name-mismatch" in sites, sites
        switch.to = ("127.2.8.3", port) # the partner has renewed; nobody has told us
        send("three.test")
        wait_for(lambda: len(recipients("delivered")) == 3, seconds=10, what="the release of what was held")
        metrics = daemon.metrics()
        assert metrics["posthaste_tls_held"] == 0 and metrics["posthaste_messages_unscheduled"] == 0
        assert metrics["posthaste_peer_certificates_expiring"] == 1
        assert "the certificate of mx.held.test ends in 10 days" in daemon.said(), daemon.said()
        assert daemon.said().count("ends in 10 days") <= daemon.workers(), "told once a worker"
        sites = subprocess.run([BUILD / "posthaste", "queue", "sites", "-c", daemon.config], check=True,
                               capture_output=True, text=True).stdout
        assert "its certificate ends 20" in sites, sites
        assert daemon.stop() == 0
        ledgers, _ = sink.ledgers()
        assert ledgers["before"]["clear"] + ledgers["before"]["tls"] == 0 and ledgers["after"]["messages"] == 3
        print("held: 2 held for an hour, released by another domain's handshake with the renewed certificate")
        return 0


sys.exit(main())
