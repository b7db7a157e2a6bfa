#!/usr/bin/env python3
"""SIGHUP: a bad file changes nothing and is reported; a good one takes effect, for mail that waits too,
and a session opened under a weaker policy carries nothing of a raised one."""
import smtplib
import sys

from posthaste import Daemon, Directory, Sink, free_port, wait_for


def config(port, connector, rest=""):
    return f"""
SendConnector "partner" {{ AddressSpaces = {{"partner.test"}} ConnectionInactivityTimeOut = 5m {connector} }}
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
  LocalData = {{"partner.test. MX 10 mx.partner.test.", "mx.partner.test. A 127.2.7.1"}} }}
{rest}
"""


def main():
    port = free_port("127.2.7.1")
    with Directory() as directory:
        sink = Sink(directory, [f"partner 127.2.7.1:{port} none host=mx.partner.test"])
        daemon = Daemon(directory, config(port, ""))

        def send():
            host, smtp_port = daemon.listening["in"].split(":")
            with smtplib.SMTP(host, int(smtp_port)) as client:
                client.sendmail("s@reload", ["u@partner.test"], "Subject: r\r\n\r\nhello\r\n")

        def count(event, reason=None):
            return sum(e["event"] == event and reason in (None, e["reason"]) for e in daemon.events())
        send()
        wait_for(lambda: count("delivered") == 1, what="the first delivery")
        assert daemon.metrics()["posthaste_connections_out"] == 1 # idle, in the clear
        generation = daemon.metrics()["posthaste_config_generation"]

        daemon.reload(config(port, "RequireTLS = maybe", "Nonsense = 1"))
        wait_for(lambda: "the configuration in force stays" in daemon.said(), what="the report of the errors")
        assert ": C17 RequireTLS:" in daemon.said().replace(str(daemon.config), ""), daemon.said()
        assert "C21 Nonsense" in daemon.said()
        send()
        wait_for(lambda: count("delivered") == 2, what="a delivery by the old configuration")
        assert daemon.metrics()["posthaste_sessions_opened_total"] == 1
        assert daemon.metrics()["posthaste_config_generation"] == generation

        daemon.reload(config(port, "RequireTLS = true"))
        wait_for(lambda: daemon.metrics()["posthaste_config_generation"] > generation, what="the new configuration")
        send()
        wait_for(lambda: count("deferred", "tls-not-offered") == 1, what="a deferral by the raised policy")
        assert count("delivered") == 2
        assert daemon.metrics()["posthaste_tls_held"] == 1

        daemon.reload(config(port, "RequireTLS = true", "Workers = 7\nUser = \"nobody-here\"\n"))
        wait_for(lambda: "Workers: \"7\" takes the place of" in daemon.said() and "User: " in daemon.said(),
                 what="what only a start brings into force")

        daemon.reload(config(port, "")) # what is held goes at once, not at its next retry
        wait_for(lambda: count("delivered") == 3, seconds=10, what="the release of what was held")
        assert daemon.metrics()["posthaste_tls_held"] == 0
        assert daemon.metrics()["posthaste_messages_unscheduled"] == 0

        assert daemon.said().count(" Workers: ") == 1, "it is as at the start again: nothing waits for the next one"

        # What the Resolver and the Log block say is renewed too; a log that can't be opened yet, by the next SIGHUP.
        log = directory.path / "later" / "other.jsonl"
        daemon.head = daemon.head.replace(str(daemon.log), str(log)).replace("Level = warn", "Level = info")
        generation = daemon.metrics()["posthaste_config_generation"]
        daemon.reload(config(port, "").replace("partner.test. MX 10 mx.partner.test.", "partner.test. MX 10 new.partner.test.")
                      .replace("mx.partner.test. A 127.2.7.1", "new.partner.test. A 127.2.7.1"))
        wait_for(lambda: daemon.metrics()["posthaste_config_generation"] > generation, what="the last configuration")
        assert "reloaded " in daemon.said(), "Log.Level stays as it was"
        assert f"the log {log} can't be opened" in daemon.said()
        log.parent.mkdir()
        daemon.reload()
        wait_for(log.exists, what="the log at its new place")
        send()
        wait_for(lambda: log.exists() and '"event":"delivered"' in log.read_text(), what="a delivery in the new log")
        assert '"host":"new.partner.test"' in log.read_text(), log.read_text()
        assert count("delivered") == 3
        assert daemon.stop() == 0
        ledgers, _ = sink.ledgers()
        assert ledgers["partner"]["messages"] == 4, ledgers
        print("reload: a bad file changed nothing, a raised policy held its mail, a lowered one released it")
        return 0


sys.exit(main())
