#!/usr/bin/env python3
"""SIGHUP with other Forwarders: the new ones are asked from then on, and what was under way at one that never answers
is asked of them."""
import smtplib
import socket
import struct
import sys
import threading

from posthaste import Daemon, Directory, Sink, free_port, wait_for


class Forwarder:
    """Answers every MX question with mx.<name>, every A question with its address; or nothing at all."""

    def __init__(self, at, answers=None):
        self.answers, self.asked = answers, []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((at, 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            query, client = self.socket.recvfrom(4096)
            end = query.index(b"\0", 12) + 5
            kind = struct.unpack(">H", query[end - 4:end - 2])[0]
            self.asked.append((query[12:end - 5], kind))
            if self.answers is None:
                continue
            if kind == 15:
                data = struct.pack(">H", 10) + b"\x02mx\xc0\x0c"
            else:
                data = socket.inet_aton(self.answers)
            records = b""
            if kind in (1, 15):
                records = b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data
            self.socket.sendto(query[:2] + b"\x81\x80" + query[4:6] + struct.pack(">HHH", bool(records), 0, 0)
                               + query[12:end] + records, client)


def config(port, forwarder, at):
    return f"""
SendConnector "out" {{ AddressSpaces = {{"*"}} SmtpDaneMode = None MtaStsMode = None }}
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}} Forwarders = {{"{at}@{forwarder.port}"}} }}
"""


def main():
    port = free_port("127.2.17.1")
    with Directory() as directory:
        sink = Sink(directory, [f"one 127.2.17.1:{port} none host=mx.one.example", f"two 127.2.17.2:{port} none host=mx.two.example"])
        one, silent, two = Forwarder("127.2.17.5", "127.2.17.1"), Forwarder("127.2.17.6"), Forwarder("127.2.17.7", "127.2.17.2")
        daemon = Daemon(directory, config(port, one, "127.2.17.5"))

        def send(domain):
            host, smtp_port = daemon.listening["in"].split(":")
            with smtplib.SMTP(host, int(smtp_port)) as client:
                client.sendmail("s@here.test", [f"u@{domain}"], "Subject: t\r\n\r\nhello\r\n")

        def delivered(domain):
            return [e["ip"] for e in daemon.events() if e["event"] == "delivered" and e["recipient"] == f"u@{domain}"]

        def reload(text):
            generation = daemon.metrics()["posthaste_config_generation"]
            daemon.reload(text)
            wait_for(lambda: daemon.metrics()["posthaste_config_generation"] > generation, what="the reload")
        send("first.example")
        wait_for(lambda: delivered("first.example") == ["127.2.17.1"], what="a delivery by the first forwarder")
        reload(config(port, silent, "127.2.17.6"))
        send("second.example")
        wait_for(lambda: silent.asked, what="a question to the silent one")
        reload(config(port, two, "127.2.17.7"))
        wait_for(lambda: delivered("second.example") == ["127.2.17.2"], what="a delivery by the last forwarder")
        assert not any(e["event"] == "deferred" for e in daemon.events())
        assert daemon.stop() == 0
        assert {name: entry["messages"] for name, entry in sink.ledgers()[0].items()} == {"one": 1, "two": 1}
        print("forwarders: renewed by SIGHUP, with what was under way")
        return 0


sys.exit(main())
