#!/usr/bin/env python3
"""TlsRequireGroups against hosts that have one group each: who lacks it gets no envelope."""
import smtplib
import subprocess
import sys

from destinations import Certificate, Peer
from posthaste import BUILD, Daemon, Directory, free_port, wait_for

PORT = free_port("127.4.3.1")


def main():
    certificate = Certificate(["mx.groups.test"])
    with Directory() as directory:
        file = certificate.write(directory.path / "server.pem")
        peers = {}
        for number, (name, curve) in enumerate({"other": "prime256v1", "same": None}.items(), 1):
            peers[name] = Peer(f"127.4.3.{number}", PORT, file)
            if curve is not None:
                peers[name].context.set_ecdh_curve(curve)
        daemon = Daemon(directory, f"""
SendConnector "pinned" {{ AddressSpaces = {{"*.groups.test"}} RequireTLS = true TlsRequireGroups = "X25519" }}
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Resolver {{ Port = {PORT} AllowedDestinations = {{"127.0.0.0/8"}}
  LocalData = {{"other.groups.test. A 127.4.3.1", "same.groups.test. A 127.4.3.2"}} }}
""")
        host, port = daemon.listening["in"].split(":")
        with smtplib.SMTP(host, int(port)) as client:
            for name in ("other", "same", "same"):
                client.sendmail("s@one.test", [f"u@{name}.groups.test"], "Subject: one\r\n\r\nx\r\n")

        def outcomes():
            return [e for e in daemon.events() if e["event"] in ("delivered", "deferred")]
        wait_for(lambda: len(outcomes()) >= 3, 20, "three outcomes")
        for event in outcomes():
            wanted = ("deferred", "tls-handshake-failed") if "other" in event["recipient"] else ("delivered", "none")
            assert (event["event"], event.get("reason")) == wanted, event
        assert not peers["other"].mails() and len(peers["same"].messages) == 2
        assert daemon.stop() == 0
        # What this library doesn't have can't be demanded: said before any mail depends on it.
        text = daemon.config.read_text().replace('"X25519"', '"X25519MLKEM768"')
        daemon.config.write_text(text)
        checked = subprocess.run([BUILD / "posthaste", "check", "-c", daemon.config], capture_output=True, text=True)
        lacking = "C17 TlsRequireGroups: this build of BoringSSL has no X25519MLKEM768" in checked.stderr
        assert lacking or checked.returncode == 0, checked.stderr
        print(f"groups: in order ({'this library lacks' if lacking else 'with'} X25519MLKEM768)")


sys.exit(main())
