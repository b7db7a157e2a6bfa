#!/usr/bin/env python3
"""Replies to commands that a client sent without waiting (RFC 2920): all that a message has to be told leaves in one
send, with the reply to its last byte; a client that does wait, or whose message isn't all there, has them at once."""
import socket
import sys

from posthaste import Daemon, Directory, free_port

BODY = b"Subject: a message\r\n\r\n" + 60 * (b"x" * 62 + b"\r\n")
ENVELOPE = b"MAIL FROM:<a@feed.test>\r\nRCPT TO:<b@nowhere.test>\r\n"


def connect(address):
    host, port = address.rsplit(":", 1)
    client = socket.create_connection((host, int(port)), 20)
    client.recv(4096)
    client.sendall(b"EHLO feed.test\r\n")
    client.recv(4096)
    return client


def told(client):
    """What one receive brings: on loopback one send of the server."""
    return [line[:3].decode() for line in client.recv(4096).splitlines()]


def main():
    with Directory() as directory:
        config = f"""ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} DNSRoutingEnabled = false SmartHosts = {{"127.0.0.1"}} Port = {free_port()} }}
"""
        daemon = Daemon(directory, config)
        client = connect(daemon.listening["in"])
        chunk = b"BDAT %d LAST\r\n" % len(BODY) + BODY
        for _ in range(20):
            client.sendall(ENVELOPE + chunk)
            assert told(client) == ["250", "250", "250"], "a message in one piece"

        client.sendall(ENVELOPE + chunk[:2000])
        assert told(client) == ["250", "250"], "the client's message isn't all there"
        client.sendall(chunk[2000:])
        assert told(client) == ["250"]

        client.sendall(ENVELOPE + b"DATA\r\n")
        assert told(client) == ["250", "250", "354"]
        client.sendall(BODY + b".\r\n")
        assert told(client) == ["250"]

        for command in ENVELOPE.splitlines(keepends=True):
            client.sendall(command)
            assert told(client) == ["250"], "a client that waits"

        # Behind a message the next one's commands: their replies follow its own, in their order.
        client.sendall(chunk + ENVELOPE.replace(b"b@", b"b b@") + b"QUIT\r\n")
        replies = []
        while not replies or replies[-1] != "221":
            replies += told(client)
        assert replies == ["250", "250", "501", "221"], replies
        assert daemon.metrics()["posthaste_accepted_messages_total"] == 23
        assert daemon.stop() == 0
    print("replies: 20 messages in one send each way; in order; at once for a client that waits")


if __name__ == "__main__":
    sys.exit(main())
