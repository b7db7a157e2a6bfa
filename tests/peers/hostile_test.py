#!/usr/bin/env python3
"""What a hostile destination says reaches the log, the queue's listing and the notification escaped and bounded:
no line is forged, no terminal steered, and each line is one JSON object."""
import json
import smtplib
import socketserver
import subprocess
import sys
import threading

from posthaste import BUILD, Daemon, Directory, free_port, wait_for

NASTY = b'4.2.0 \x1b[2J\xc2\x9b2J"},\\ \xff\xfe ' + b"A" * 1500 + b' {"event":"delivered"}'


def controls(text):
    return [c for c in text.decode() if c < " " or "\x7f" <= c < "\xa0"]


class Hostile(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 " + NASTY[:400] + b"\r\n")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb in (b"EHLO", b"HELO"):
                self.wfile.write(b"250 mx\r\n")
            elif verb == b"RCPT":
                self.wfile.write(b"450 " + NASTY + b"\r\n" if b"later" in line else b"550 " + NASTY + b"\r\n")
            elif verb == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 ok\r\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def main():
    port = free_port("127.2.3.1")
    server = Server(("127.2.3.1", port), Hostile)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with Directory() as directory:
        daemon = Daemon(directory, f"""
SendConnector "all" {{ AddressSpaces = {{"hostile.test"}} }}
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
  LocalData = {{"hostile.test. MX 10 mx.hostile.test.", "mx.hostile.test. A 127.2.3.1"}} }}
""")
        host, smtp_port = daemon.listening["in"].split(":")
        with smtplib.SMTP(host, int(smtp_port)) as client:
            client.sendmail("s@nowhere.invalid", ["later@hostile.test", "never@hostile.test"], "Subject: h\r\n\r\nhello\r\n")

        def events():
            return {e["event"]: e for e in daemon.events() if e.get("recipient", "").endswith("@hostile.test")}
        wait_for(lambda: {"deferred", "failed"} <= set(events()), what="both outcomes")
        raw = daemon.log.read_bytes()
        for line in raw.splitlines():
            record = json.loads(line) # one object a line, whatever was said
            assert not controls(line), line
            assert len(line) < 4096 and record["event"] != "delivered", record
            assert len(record.get("text", "")) <= 512, record
        for event in ("deferred", "failed"):
            assert events()[event]["reason"] == "rcpt-rejected" and events()[event]["policy"]["level"] == "Opportunistic"
        # The notification's own address has no connector: nothing is claimed of a policy.
        trace = subprocess.run([BUILD / "posthaste", "trace", "mx.hostile.test", "--once", "-c", daemon.config], capture_output=True).stdout
        for command in (("queue", "list"), ("queue", "sites")):
            trace += subprocess.run([BUILD / "posthaste", *command, "-c", daemon.config], capture_output=True).stdout
        assert not controls(trace.replace(b"\n", b"")), trace
        assert subprocess.run([BUILD / "posthaste", "log", "verify", daemon.log], capture_output=True).returncode == 0
        assert daemon.stop() == 0
        server.shutdown()
        print(f"hostile: {len(raw.splitlines())} lines, each one JSON object without a control character")
        return 0


sys.exit(main())
