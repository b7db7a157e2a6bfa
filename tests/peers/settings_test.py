#!/usr/bin/env python3
"""Keys that no other test goes by, each seen in what the daemon does: the receiving side's texts and limits, each
phase's timeout on the sending side, MaxRecipientsPerTransaction, TlsMinVersion, RetrySchedule, Postmaster."""
import datetime
import smtplib
import socket
import ssl
import subprocess
import sys
import threading

from posthaste import Daemon, Directory, free_port, wait_for

# Domain → the command behind which its host says nothing more, and what then becomes of the mail there.
STALLS = {"banner": "peer-timeout", "mail": "peer-timeout", "rcpt": "peer-timeout", "data": "peer-timeout", "dot": "in-doubt"}
HOSTS = {name: f"127.2.16.{n + 1}" for n, name in enumerate((*STALLS, "many", "old", "refusing", "nobody", "senders"))}


class Host:
    """Notes what it hears; silent from one step on; refuses recipients; speaks TLS 1.2 at most."""

    def __init__(self, address, stall=None, refuse=False, context=None):
        self.stall, self.refuse, self.context, self.heard, self.bodies = stall, refuse, context, [], []
        self.listener = socket.create_server(address)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            threading.Thread(target=self.talk, args=(self.listener.accept()[0],), daemon=True).start()

    def talk(self, link):
        try:
            self.converse(link)
        except OSError:
            pass # the other side has gone

    def converse(self, link):
        lines = link.makefile("rb")

        def say(step, text):
            if step == self.stall:
                while link.recv(4096):
                    pass
                raise OSError
            link.sendall(text.encode() + b"\r\n")
        say("banner", "220 host.test ESMTP")
        for line in lines:
            command = line.decode().strip()
            self.heard.append(command)
            verb = command.split()[0].upper()
            if verb == "EHLO":
                say("ehlo", "250-host.test\r\n250 STARTTLS" if self.context else "250 host.test")
            elif verb == "STARTTLS":
                say("starttls", "220 go on")
                link = self.context.wrap_socket(link, server_side=True)
                lines = link.makefile("rb")
            elif verb == "RCPT":
                say("rcpt", "550 5.1.1 nobody here" if self.refuse else "250 ok")
            elif verb == "DATA":
                say("data", "354 go on")
                body = b""
                while not body.endswith(b"\r\n.\r\n"):
                    body += lines.readline()
                self.bodies.append(body.decode())
                say("dot", "250 taken")
            else:
                say(verb.lower(), "221 bye" if verb == "QUIT" else "250 ok")


def certificate(directory):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", directory.path / "key.pem", "-out", directory.path / "cert.pem", "-days", "30",
                    "-subj", "/CN=old.test"], capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(directory.path / "cert.pem", directory.path / "key.pem")
    return context


def receiving(daemon):
    host, port = daemon.listening["texts"].split(":")
    message = "Subject: t\r\n\r\nbare\nline feed\r\n"
    with smtplib.SMTP() as client:
        assert client.connect(host, int(port)) == (220, b"in.test at your service"), "Fqdn, Banner"
        client.ehlo()
        assert client.esmtp_features["size"] == "2048", "MaxMessageSize"
        assert client.docmd("MAIL", "FROM:<a@here.test> SIZE=2049")[0] == 552
        client.mail("a@here.test")
        codes = [client.rcpt(f"u{n}@nobody.test")[0] for n in range(3)]
        assert codes == [250, 250, 452], ("MaxRecipientsPerMessage", codes)
        client.docmd("DATA")
        client.sock.sendall(message.encode() + b".\r\n")
        assert client.getreply()[0] == 550, "BareLineEndings = reject"
        client.mail("a@here.test")
        client.rcpt("u@nobody.test")
        assert client.data("Received: x\r\n" * 4 + "\r\n")[0] == 554, "MaxHopCount"
    host, port = daemon.listening["lenient"].split(":")
    with smtplib.SMTP(host, int(port)) as client:
        client.ehlo()
        client.mail("a@senders.test")
        client.rcpt("u@nobody.test")
        client.docmd("DATA")
        client.sock.sendall(message.encode() + b".\r\n")
        assert client.getreply()[0] == 250, "BareLineEndings = normalize"


def main():
    port = free_port("127.2.16.1")
    with Directory() as directory:
        context = certificate(directory)
        hosts = {name: Host((address, port), stall=name, refuse=name == "refusing",
                            context=context if name == "old" else None)
                 for name, address in HOSTS.items() if name != "nobody"}
        data = ", ".join(f'"{n}.test. MX 10 mx.{n}.test.", "mx.{n}.test. A {a}"' for n, a in HOSTS.items())
        daemon = Daemon(directory, f"""
Postmaster = "keeper@posthaste.test"
Queue {{ RetrySchedule = Exponential RetryFirstInterval = 2s RetryLastInterval = 3s }}
SendConnector "out" {{ AddressSpaces = {{"*"}} Fqdn = "greets.test" MaxRecipientsPerTransaction = 2
  GreetingTimeout = 1s EhloTimeout = 5s MailTimeout = 1s RcptTimeout = 1s DataTimeout = 1s FinalDotTimeout = 1s }}
SendConnector "modern" {{ AddressSpaces = {{"old.test"}} RequireTLS = true TlsMinVersion = TLS1.3 }}
ReceiveConnector "texts" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} Fqdn = "in.test"
  Banner = "at your service" MaxMessageSize = 2KB MaxRecipientsPerMessage = 2 MaxHopCount = 3 }}
ReceiveConnector "lenient" {{ Bindings = {{"127.0.0.2:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} BareLineEndings = normalize }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{data}}} }}
""")
        receiving(daemon)
        host, smtp_port = daemon.listening["lenient"].split(":")
        with smtplib.SMTP(host, int(smtp_port)) as client:
            for name in (*STALLS, "old", "refusing"):
                client.sendmail("a@senders.test", [f"u@{name}.test"], "Subject: t\r\n\r\nhello\r\n")
            client.sendmail("a@senders.test", [f"u{n}@many.test" for n in range(5)], "Subject: t\r\n\r\nhello\r\n")

        def deferred(name):
            return [e for e in daemon.events() if e["event"] == "deferred" and e["recipient"].endswith(f"@{name}.test")]
        for name, reason in (*STALLS.items(), ("old", "tls-handshake-failed")):
            wait_for(lambda: deferred(name), what=f"the deferral of {name}")
            assert deferred(name)[0]["reason"] == reason, deferred(name)[0]
        wait_for(lambda: sum("u" in r for r in hosts["many"].heard if r.startswith("RCPT")) == 5, what="mail to many")
        transactions = []
        for line in hosts["many"].heard:
            if line.startswith("MAIL"):
                transactions.append(0)
            elif line.startswith("RCPT"):
                transactions[-1] += 1
        assert sorted(transactions) == [1, 2, 2], ("MaxRecipientsPerTransaction", transactions)
        assert hosts["many"].heard[0] == "EHLO greets.test", hosts["many"].heard[0]
        assert not any(line.startswith("MAIL") for line in hosts["old"].heard)
        wait_for(lambda: hosts["senders"].bodies, what="the notification")
        assert "keeper@posthaste.test" in hosts["senders"].bodies[0].split("\r\n\r\n")[0], hosts["senders"].bodies[0]

        wait_for(lambda: len(deferred("nobody")) >= 3, what="three tries of a host that isn't there")
        times = [datetime.datetime.fromisoformat(e["time"]) for e in deferred("nobody")[:3]]
        waits = [(later - earlier).total_seconds() for earlier, later in zip(times, times[1:])]
        assert waits[0] >= 1.9 and waits[1] >= 2.9, ("RetrySchedule", waits)
        daemon.process.kill() # what stalls would be waited for
        daemon.kills += 1
        print(f"settings: {len(STALLS)} timeouts, texts, limits and schedules as they are written")
        return 0


sys.exit(main())
