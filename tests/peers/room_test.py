#!/usr/bin/env python3
"""Two workers have mail for one host that allows few connections: the sessions of the one that is done first end,
and make room for the other's, however long an idle session may live."""
import subprocess
import sys

from posthaste import BUILD, Daemon, Directory, Sink, free_port, wait_for

MESSAGES = 1000

port = free_port("127.2.0.1")
with Directory() as directory:
    sink = Sink(directory, [f"mx.sink.test 127.2.0.1:{port} none latency=2"])
    daemon = Daemon(directory, f"""
Workers = 2
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} MaxConnections = 2 Ramp = false ConnectionInactivityTimeOut = 5m
    MaxConnectionAge = 1h SmtpMaxMessagesPerConnection = 0 }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
    LocalData = {{"sink.test. MX 10 mx.sink.test.", "mx.sink.test. A 127.2.0.1"}} }}
""")
    subprocess.run([BUILD / "bench-injector", daemon.listening["in"], "20", str(MESSAGES), "1024", "u@sink.test"],
                   check=True, stdout=subprocess.DEVNULL)
    wait_for(lambda: daemon.metrics()["posthaste_delivered_total"] == MESSAGES, 60, "the mail of both workers")
    assert daemon.stop() == 0
    ledger = sink.ledgers()[0]["mx.sink.test"]
    assert ledger["messages"] == MESSAGES and ledger["duplicates"] == 0
print(f"room: {MESSAGES} messages of two workers over 2 connections at a time, {ledger['sessions']} in all")
sys.exit(0)
