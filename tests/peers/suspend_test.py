#!/usr/bin/env python3
"""Mail that was suspended and is resumed is written down as attempted like any other: after a crash in the middle of the
attempt it is in doubt, and sent again with that mark only."""
import json
import smtplib
import socket
import subprocess
import sys
import threading

from posthaste import BUILD, Daemon, Directory, free_port, wait_for

CONFIG = """
Workers = 1
SendConnector "out" {{ AddressSpaces = {{"*"}} }}
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
  LocalData = {{"a.test. MX 10 mx.a.test.", "mx.a.test. A 127.2.41.1"}} }}
"""


class Host:
    """Takes messages up to their last byte, and is silent then; at least until `answers`."""

    def __init__(self, address):
        self.answers, self.bodies = False, []
        self.listener = socket.create_server(address)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            threading.Thread(target=self.talk, args=(self.listener.accept()[0],), daemon=True).start()

    def talk(self, link):
        try:
            lines = link.makefile("rb")
            link.sendall(b"220 mx.a.test ESMTP\r\n")
            for line in lines:
                verb = line.split()[0].upper()
                link.sendall(b"354 go on\r\n" if verb == b"DATA" else b"250 ok\r\n")
                if verb == b"DATA":
                    body = b""
                    while not body.endswith(b"\r\n.\r\n"):
                        body += lines.readline()
                    self.bodies.append(body)
                    if not self.answers:
                        lines.readline() # until the other side has gone
                    link.sendall(b"250 taken\r\n")
        except (OSError, IndexError):
            pass # the other side has gone


def main():
    port = free_port("127.2.41.1")
    with Directory() as directory:
        host = Host(("127.2.41.1", port))
        daemon = Daemon(directory, CONFIG.format(port=port))

        def queue(*words):
            return subprocess.run([BUILD / "posthaste", "queue", *words, "-c", daemon.config], capture_output=True,
                                  text=True, check=True).stdout
        queue("suspend", "a.test")
        address, smtp_port = daemon.listening["in"].split(":")
        with smtplib.SMTP(address, int(smtp_port)) as client:
            client.sendmail("s@b.test", ["u@a.test"], "Subject: t\r\n\r\nhello\r\n")
        wait_for(lambda: daemon.metrics()["posthaste_queued"] == 1, what="the mail in the queue")
        assert not host.bodies, "suspended, and sent"
        assert queue("resume", "a.test").startswith("1 recipient")
        wait_for(lambda: len(host.bodies) == 1, what="the attempt")
        daemon.kill()
        host.answers = True
        daemon.start()
        wait_for(lambda: len(host.bodies) == 2, seconds=30, what="the second attempt")
        wait_for(lambda: daemon.metrics()["posthaste_queued"] == 0, what="an empty queue")
        assert daemon.stop() == 0
        events = [json.loads(line) for line in daemon.log.read_text().splitlines()]
        doubts = [e for e in events if e.get("reason") == "in-doubt"]
        delivered = [e for e in events if e["event"] == "delivered"]
        assert len(doubts) == 1 and len(delivered) == 1, events
        assert delivered[0]["ambiguous_resend"], delivered
        print("suspend: what was resumed and cut off by a crash came twice, the second time marked")
        return 0


sys.exit(main())
