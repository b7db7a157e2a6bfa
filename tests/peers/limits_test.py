#!/usr/bin/env python3
"""Limits of a site: MessageRate, ConnectRate, BackoffOn, InDoubtLimit, and source addresses by weight, against a
server that keeps its own record of who came when."""
import json
import smtplib
import socketserver
import subprocess
import sys
import threading
import time

from posthaste import BUILD, Daemon, Directory, free_port, wait_for


class Server(socketserver.ThreadingTCPServer):
    """An SMTP server for one address. `refuse` is a reply to RCPT; `drop`: each message
    is read to its end and never answered the first time; `pause`: seconds before a body is answered."""
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, port):
        self.refuse, self.drop, self.pause, self.seen = None, False, 0, set()
        self.connections, self.messages, self.bodies = [], [], 0
        self.most, self.lock = 0, threading.Lock()
        super().__init__((address, port), Session)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Session(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self):
        server = self.server
        with server.lock:
            server.connections.append((time.monotonic(), self.client_address[0]))
        self.say("220 sink")
        try:
            self.converse(server)
        except (ConnectionError, ValueError):
            pass

    def converse(self, server):
        for line in iter(self.rfile.readline, b""):
            verb = line[:4].upper()
            if verb == b"EHLO":
                self.say("250 sink")
            elif verb == b"RCPT" and server.refuse:
                self.say(server.refuse)
            elif verb == b"DATA":
                self.say("354 go on")
                with server.lock:
                    server.bodies += 1
                    server.most = max(server.most, server.bodies)
                subject = None
                for text in iter(self.rfile.readline, b".\r\n"):
                    subject = text if text.startswith(b"Subject:") else subject
                    if not text:
                        return
                with server.lock:
                    dropped = server.drop and subject not in server.seen
                    server.seen.add(subject)
                time.sleep(server.pause)
                with server.lock:
                    server.bodies -= 1
                    if not dropped:
                        server.messages.append(time.monotonic())
                if dropped:
                    return
                self.say("250 taken")
            elif verb == b"QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")


def most_in(times, seconds):
    times = sorted(times)
    return max((sum(t <= u < t + seconds for u in times) for t in times), default=0)


def main():
    port, inject = free_port("127.4.0.1"), free_port()
    names = ["rate", "connect", "slow", "doubt", "pool"]
    servers = {name: Server(f"127.4.0.{i + 1}", port) for i, name in enumerate(names)}
    data = ", ".join(f'"{n}.test. MX 10 mx.{n}.test.", "mx.{n}.test. A 127.4.0.{i + 1}"'
                     for i, n in enumerate(names))
    with Directory() as directory:
        daemon = Daemon(directory, f"""
Workers = 2
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:{inject}"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} InDoubtLimit = 2 }}
SendConnector "pool" {{ AddressSpaces = {{"pool.test"}} SourceIPAddress = {{"127.5.0.1;4", "127.5.0.2"}}
    MaxConnections = 10 SmtpMaxMessagesPerConnection = 1 Ramp = false }}
Site "mx.rate.test" {{ MessageRate = 10/s }}
Site "mx.connect.test" {{ ConnectRate = 5/s SmtpMaxMessagesPerConnection = 1 }}
Site "mx.slow.test" {{ BackoffOn = {{"421 4.7.28", "/rate +limit/"}} }}
Queue {{ MessageRetryInterval = 1s QueueGlitchRetryInterval = 200ms QueueGlitchRetryCount = 15 }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{data}}} }}
""")
        servers["slow"].refuse = "450 4.7.1 You exceed our RATE limit"
        servers["doubt"].drop = True

        def send(name, count):
            with smtplib.SMTP("127.0.0.1", inject) as client:
                for i in range(count):
                    client.sendmail("a@sender.test", f"u@{name}.test", f"Subject: {i}\r\n\r\nx\r\n")

        def queue(*words):
            out = subprocess.run([BUILD / "posthaste", "queue", *words, "--json", "-c", daemon.config],
                                 stdout=subprocess.PIPE, text=True, check=True).stdout
            return json.loads(out)

        for name, count in (("slow", 3), ("doubt", 8), ("rate", 25), ("connect", 14), ("pool", 60)):
            send(name, count)
        # A record that comes late must not count: the windows are shorter than the second of the limits.
        wait_for(lambda: len(servers["rate"].messages) == 25, 20, "mail at a rate")
        assert most_in(servers["rate"].messages, 0.7) <= 10, most_in(servers["rate"].messages, 0.7)
        wait_for(lambda: len(servers["connect"].messages) == 14, 20, "connections at a rate")
        times = [at for at, _ in servers["connect"].connections]
        assert most_in(times, 0.7) <= 5, most_in(times, 0.7)

        wait_for(lambda: len(servers["pool"].messages) == 60, 20, "mail from a pool")
        sources = [who for _, who in servers["pool"].connections]
        first = sources.count("127.5.0.1")
        assert first + sources.count("127.5.0.2") == len(sources) >= 60
        assert 30 < first < 60, first # 48 on average

        # The one that said so rests although a connection succeeded, and nothing is tried meanwhile.
        site = next(s for s in queue("sites") if s["site"] == "mx.slow.test" and "reason" in s)
        assert site["state"] == "retry" and site["reason"] == "site-slowed", site
        before = len(servers["slow"].connections)
        send("slow", 5)
        time.sleep(1.5)
        assert len(servers["slow"].connections) == before
        servers["slow"].refuse = None
        queue("retry", "slow.test")
        wait_for(lambda: len(servers["slow"].messages) == 8, 20, "mail after the rest")

        # Eight bodies went unanswered; their second deliveries go two at a time.
        wait_for(lambda: daemon.metrics()["posthaste_in_doubt_total"] == 8, 20, "doubt")
        servers["doubt"].most, servers["doubt"].pause = 0, 0.1
        wait_for(lambda: len(servers["doubt"].messages) == 8, 20, "second deliveries")
        assert servers["doubt"].most <= 2, servers["doubt"].most
        assert daemon.metrics()["posthaste_ambiguous_resends_total"] == 8
        wait_for(lambda: daemon.metrics()["posthaste_queued"] == 0, 20, "an empty queue")
        assert daemon.stop() == 0
    print("limits: rates, BackoffOn, InDoubtLimit and weights hold")
    return True


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
