#!/usr/bin/env python3
"""ProtocolLoggingLevel = Verbose: both sides' sessions in the fields of Exchange's protocol log, from + to -,
without bodies and passwords. TarpitInterval: a stranger's refusals come late, a client's that is authenticated
don't wait for it (told by order, not by the clock)."""
import base64
import csv
import smtplib
import socket
import ssl
import subprocess
import sys
import threading

from posthaste import BUILD, Daemon, Directory, Sink, free_port, wait_for

FIELDS = ("date-time", "connector-id", "session-id", "sequence-number", "local-endpoint", "remote-endpoint", "event",
          "data", "context")


class Client:
    def __init__(self, address):
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.lines = self.socket.makefile("rb")
        assert self.lines.readline().startswith(b"220")

    def say(self, text):
        self.socket.sendall(text.encode())

    def code(self):
        while True:
            line = self.lines.readline()
            if line[3:4] != b"-":
                return line[:3].decode()


def main():
    port = free_port("127.2.14.1")
    with Directory() as directory:
        sink = Sink(directory, [f"good 127.2.14.1:{port} good host=mx.partner.test"])
        log = directory.path / "protocol.csv"
        users = directory.path / "users"
        hashed = subprocess.run(["openssl", "passwd", "-6", "secret-password"], capture_output=True, text=True, check=True)
        users.write_text("joe:" + hashed.stdout)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-keyout", directory.path / "own.key", "-out", directory.path / "own.pem", "-days", "30",
                        "-subj", "/CN=in.test"], capture_output=True, check=True)
        daemon = Daemon(directory, f"""
SendConnector "out" {{ AddressSpaces = {{"*"}} ProtocolLoggingLevel = Verbose RequireTLS = true }}
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.1"}} TarpitInterval = 1s
  AuthMechanism = {{Tls, BasicAuth, BasicAuthRequireTLS}} AuthFile = "{users}" ProtocolLoggingLevel = Verbose
  TlsCertificate = "{directory.path}/own.pem" TlsKey = "{directory.path}/own.key" }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
  LocalData = {{"partner.test. MX 10 mx.partner.test.", "mx.partner.test. A 127.2.14.1"}} }}
""")
        text = daemon.config.read_text().replace("Log {", f'Log {{ Protocol = "{log}"')
        assert "W16 ProtocolLoggingLevel" in daemon.said(), daemon.said()
        generation = daemon.metrics()["posthaste_config_generation"]
        daemon.config.write_text(text)
        daemon.reload()
        wait_for(lambda: daemon.metrics()["posthaste_config_generation"] > generation, what="the reload")

        # The stranger was refused first, and is answered last.
        stranger, other = Client(daemon.listening["in"]), Client(daemon.listening["in"])
        answered = []
        stranger.say("EHLO stranger\r\nNONSENSE\r\nNOOP\r\n")

        def wait_for_stranger():
            codes = [stranger.code() for _ in range(3)]
            answered.append(("stranger", codes))
        thread = threading.Thread(target=wait_for_stranger)
        thread.start()
        wait_for(lambda: "NONSENSE" in log.read_text(), what="the stranger's mistake")
        other.say("NOOP\r\n" * 20)
        assert {other.code() for _ in range(20)} == {"250"}
        answered.append(("other", []))
        thread.join()
        assert answered == [("other", []), ("stranger", ["250", "500", "250"])], answered

        host, smtp_port = daemon.listening["in"].split(":")
        with smtplib.SMTP(host, int(smtp_port)) as client:
            client.starttls(context=ssl._create_unverified_context())
            client.login("joe", "secret-password")
            assert client.docmd("NONSENSE")[0] == 500
            client.sendmail("s@here.test", ["u@partner.test"], "Subject: t\r\n\r\na secret body, \"quoted\"\r\n")
        wait_for(lambda: any(e["event"] == "delivered" for e in daemon.events()), what="the delivery")
        assert daemon.stop() == 0
        written = log.read_text()
        rows = [dict(zip(FIELDS, row)) for row in csv.reader(line for line in written.splitlines() if line[0] != "#")]
        assert written.startswith("#Software: posthaste\n") and "#Fields: " + ",".join(FIELDS) in written
        assert all(len(row) == len(FIELDS) for row in rows)
        for secret in ("secret", base64.b64encode(b"\0joe\0secret-password").decode()):
            assert secret not in written, secret
        sessions = {}
        for row in rows:
            sessions.setdefault((row["connector-id"], row["session-id"]), []).append(row)
        for session in sessions.values():
            assert [int(row["sequence-number"]) for row in session] == list(range(len(session))), session
            assert session[0]["event"] == "+" and session[-1]["event"] == "-", session
        out = [session for (connector, _), session in sessions.items() if connector == "out"]
        assert len(out) == 1 and out[0][0]["remote-endpoint"] == f"127.2.14.1:{port}"
        said = [(row["event"], row["data"]) for row in out[0]]
        assert (">", "STARTTLS") in said and any(row["context"].startswith("TLS1.3 ") for row in out[0]), said
        assert any(event == ">" and data.startswith("MAIL FROM:<s@here.test>") for event, data in said), said
        assert any(event == "<" and data.startswith("250 ") for event, data in said), said
        taken = [row["data"] for (connector, _), session in sessions.items() if connector == "in" for row in session]
        assert "(credentials)" in taken and any(data.startswith("250 2.0.0 queued as ") for data in taken), taken
        print(f"protocol log: {len(sessions)} sessions in {len(rows)} lines, no secrets; a refused stranger waited")
        return 0


sys.exit(main())
