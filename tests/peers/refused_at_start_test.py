#!/usr/bin/env python3
"""Mail that waits when the daemon ends, and that no connector takes any more when it starts again with another
configuration: it fails, its sender is told, and the daemon lives."""
import smtplib
import sys
import time

from posthaste import Daemon, Directory, free_port, wait_for


def config(port, limit):
    return f"""
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "partner" {{ AddressSpaces = {{"partner.test"}} RequireTLS = true MaxMessageSize = {limit} }}
SendConnector "internet" {{ AddressSpaces = {{"*"}} }}
Queue {{ QueueGlitchRetryInterval = 1s }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
    LocalData = {{"partner.test. MX 10 mx.partner.test.", "mx.partner.test. A 127.4.0.1",
                 "home.test. MX 10 mx.home.test.", "mx.home.test. A 127.4.0.2"}} }}
"""


def events(daemon, event):
    return [e for e in daemon.each_event() if e["event"] == event]


def main():
    port = free_port("127.4.0.2")
    with Directory() as directory:
        daemon = Daemon(directory, config(port, "1MB"))
        host, at = daemon.listening["in"].split(":")
        with smtplib.SMTP(host, int(at)) as client:
            client.sendmail("s@home.test", ["u@partner.test"], "Subject: big\r\n\r\n" + "x" * 60 * 1024)
        wait_for(lambda: events(daemon, "deferred"), what="a deferral: nobody listens at the partner's")
        assert daemon.stop() == 0
        time.sleep(1.5)  # it is due when the daemon starts
        daemon.config.write_text(daemon.head + config(port, "4KB"))
        daemon.start()
        wait_for(lambda: events(daemon, "failed"), what="the failure")
        failed = events(daemon, "failed")
        assert [e["reason"] for e in failed] == ["size-would-bypass-tls"], failed
        assert [e["recipient"] for e in events(daemon, "bounced")] == ["s@home.test"]
        assert daemon.process.poll() is None
        assert daemon.stop() == 0
    print("mail refused at the start fails, and the daemon lives")


if __name__ == "__main__":
    sys.exit(main())
