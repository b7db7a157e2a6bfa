#!/usr/bin/env python3
"""A smart host's name: its MX records first, where it has any, then its address; in brackets its address alone; an
address as it stands. All at the connector's port."""
import smtplib
import sys

from posthaste import Daemon, Directory, Sink, free_port, wait_for

HOSTS = {"mx": '"relay.example.test"', "bracket": '"[relay.example.test]"', "name": '"plain.example.test"',
         "literal": '"127.2.15.4"', "literal-in-brackets": '"[127.2.15.4]"'}
WANTED = {"mx": "127.2.15.1", "bracket": "127.2.15.2", "name": "127.2.15.3", "literal": "127.2.15.4",
          "literal-in-brackets": "127.2.15.4"}


def main():
    port = free_port("127.2.15.1")
    with Directory() as directory:
        sink = Sink(directory, [f"s{n} 127.2.15.{n}:{port} none host=s{n}.test" for n in range(1, 5)])
        connectors = "\n".join(f'SendConnector "{name}" {{ AddressSpaces = {{"{name}.test"}} DNSRoutingEnabled = false '
                               f"SmartHosts = {{{host}}} Port = {port} }}" for name, host in HOSTS.items())
        daemon = Daemon(directory, f"""
{connectors}
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.1-127.0.0.9"}} }}
Resolver {{ LocalData = {{"relay.example.test. MX 10 mx.example.test.", "mx.example.test. A 127.2.15.1",
  "relay.example.test. A 127.2.15.2", "plain.example.test. A 127.2.15.3"}} }}
""")
        host, smtp_port = daemon.listening["in"].split(":")
        for name in HOSTS:
            with smtplib.SMTP(host, int(smtp_port)) as client:
                client.sendmail("s@here.test", [f"u@{name}.test"], "Subject: t\r\n\r\nhello\r\n")
        wait_for(lambda: sum(e["event"] == "delivered" for e in daemon.events()) == len(HOSTS), what="all deliveries")
        found = {e["connector"]: e["ip"] for e in daemon.events() if e["event"] == "delivered"}
        assert found == WANTED, found
        assert daemon.stop() == 0
        assert {name: entry["messages"] for name, entry in sink.ledgers()[0].items()} == {"s1": 1, "s2": 1, "s3": 1, "s4": 2}
        print(f"smart hosts: {len(HOSTS)} ways to write one, each where it belongs")
        return 0


sys.exit(main())
