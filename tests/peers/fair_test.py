#!/usr/bin/env python3
"""A job to 500 domains that one host serves, at a rate, and then one message of somebody else to a domain of that host:
it waits for what was prepared already, not for the job."""
import smtplib
import sys

from limits_test import Server
from posthaste import Daemon, Directory, free_port, wait_for

DOMAINS = 500
PREPARED_MAX = 200 # messages that may be ahead of it; ours


def main():
    port, inject = free_port("127.9.0.1"), free_port()
    server = Server("127.9.0.1", port)
    data = ", ".join(f'"d{n}.test. MX 10 mx.test."' for n in range(DOMAINS + 1)) + ', "mx.test. A 127.9.0.1"'
    with Directory() as directory:
        daemon = Daemon(directory, f"""
Workers = 1
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:{inject}"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} }}
Site "mx.test" {{ MessageRate = 20/s }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{data}}} }}
""")
        with smtplib.SMTP("127.0.0.1", inject) as client:
            for n in range(DOMAINS):
                client.sendmail("job@bulk.test", f"u@d{n}.test", "Subject: job\r\n\r\nx\r\n")
            before = len(server.messages)
            client.sendmail("me@other.test", f"u@d{DOMAINS}.test", "Subject: other\r\n\r\nx\r\n")
        assert DOMAINS - before > 2 * PREPARED_MAX, before

        def delivered():
            return [e["recipient"] for e in daemon.events() if e["event"] == "delivered"]
        other = f"u@d{DOMAINS}.test"
        wait_for(lambda: other in delivered(), 30, "the other's message")
        ahead = delivered().index(other) - before
        assert ahead < PREPARED_MAX, ahead
        daemon.kill() # the rest of the job would take its time
        print(f"fair: of {DOMAINS - before} messages of a job {ahead} were ahead of another sender's one")


main()
sys.exit(0)
