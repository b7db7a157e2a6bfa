#!/usr/bin/env python3
"""REQUIRETLS and TLS-Required: No (RFC 8689): demanded, passed on, bounced with a protected notification;
and a header that waives what the destination publishes, never what the administrator demands."""
import smtplib
import ssl
import sys

from destinations import Certificate, Peer
from posthaste import Daemon, Directory, free_port, wait_for

PORT = free_port("127.4.0.1")


def main():
    with Directory() as directory:
        root = Certificate(authority=True)
        (directory.path / "root.pem").write_bytes(root.pem())

        def peer(number, name, extensions=("REQUIRETLS",), issuer=root, **options):
            path = Certificate([f"mx{number}.{name}.lab"], issuer).write(directory.path / f"{name}{number}.pem")
            return Peer(f"127.4.{ord(name[0]) - 96}.{number}", PORT, path, extensions, **options)

        peers = {"a1": peer(1, "a"),                       # takes it
                 "b1": peer(1, "b", ()),                   # lacks it
                 "c1": peer(1, "c", ()), "c2": peer(2, "c"),  # the second one takes it
                 "d1": peer(1, "d", issuer=None),          # offers it, unverified
                 "e1": Peer("127.4.5.1", PORT),            # no TLS
                 "s1": peer(1, "s"),                       # the sender's own, where bounces go
                 "t1": peer(1, "t", ()),                   # a sender whose host lacks REQUIRETLS
                 "w1": peer(1, "w", (), issuer=None)}      # TLSA records that don't match
        data = []
        for name in "abcdestw":
            data += [f'"{name}.lab. MX {i}0 mx{i}.{name}.lab."' for i in (1, 2) if f"{name}{i}" in peers]
            data += [f'"mx{i}.{name}.lab. A 127.4.{ord(name) - 96}.{i}"' for i in (1, 2) if f"{name}{i}" in peers]
        data += [f'"{name}.lab. MX 10 mx1.w.lab."' for name in "xyz"] + [f'"_{PORT}._tcp.mx1.w.lab. TLSA 3 1 1 {"ab" * 32}"']
        server = Certificate(["in.lab"], root).write(directory.path / "in.pem")
        daemon = Daemon(directory, f"""
SendConnector "all" {{ AddressSpaces = {{"*"}} TlsTrustAnchors = {{"{directory.path}/root.pem"}} }}
SendConnector "off" {{ AddressSpaces = {{"off.a.lab"}} RequireTlsExtension = off DNSRoutingEnabled = false
    SmartHosts = {{"[mx1.a.lab]"}} Port = {PORT} TlsTrustAnchors = {{"{directory.path}/root.pem"}} }}
SendConnector "must" {{ AddressSpaces = {{"x.lab"}} SmtpDaneMode = Mandatory }}
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}}
    TlsCertificate = "{server}" AuthMechanism = {{Tls}} }}
Resolver {{ Port = {PORT} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{", ".join(data)}}} }}
""")
        host, port = daemon.listening["in"].split(":")
        context = ssl.create_default_context(cafile=directory.path / "root.pem")
        context.check_hostname = False
        expected = {"u@a.lab": "delivered", "u@b.lab": "requiretls-unsupported", "u@c.lab": "delivered",
                    "u@d.lab": "cert-self-signed", "u@e.lab": "tls-not-offered",
                    "u@off.a.lab": "requiretls-unsupported", "v@b.lab": "requiretls-unsupported",
                    "u@w.lab": "dane-mismatch", "waived@y.lab": "delivered", "both@z.lab": "cert-self-signed",
                    "waived@x.lab": "dane-mismatch"}
        with smtplib.SMTP(host, int(port)) as client:
            client.ehlo()
            assert not client.has_extn("requiretls"), "REQUIRETLS offered in the clear"
            assert client.docmd("MAIL", "FROM:<s@s.lab> REQUIRETLS")[0] == 555
            client.starttls(context=context)
            client.ehlo()
            assert client.has_extn("requiretls")
            assert client.docmd("MAIL", "FROM:<s@s.lab> REQUIRETLS=1")[0] in (501, 555)
            client.rset()

            def send(recipient, *options, sender="s@s.lab", header=""):
                client.sendmail(sender, [recipient], f"Subject: {recipient}\r\n{header}\r\nsecret words\r\n",
                                mail_options=options)
            for recipient in ("u@a.lab", "u@b.lab", "u@c.lab", "u@d.lab", "u@e.lab", "u@off.a.lab"):
                send(recipient, "REQUIRETLS", "RET=FULL")
            send("v@b.lab", "REQUIRETLS", sender="t@t.lab")
            send("u@w.lab")
            send("waived@y.lab", header="TLS-Required: No\r\n")
            send("both@z.lab", "REQUIRETLS", header="TLS-Required: No\r\n")  # then the header is ignored
            send("waived@x.lab", header="TLS-Required: No\r\n")  # the administrator's word stands

        def concluded():
            return {e["recipient"]: e for e in daemon.events()
                    if e["event"] in ("delivered", "deferred", "failed") and "recipient" in e}
        wait_for(lambda: set(expected) <= set(concluded()) and len(peers["s1"].messages) == 2, 20,
                 "an outcome for each")
        wait_for(lambda: concluded().get("t@t.lab"), 10, "the end of a notification that can't be protected")
        bad = 0
        for recipient, wanted in expected.items():
            event = concluded()[recipient]
            found = "delivered" if event["event"] == "delivered" else event["reason"]
            good = found == wanted and (wanted != "requiretls-unsupported" or event["status"] == "5.7.30")
            bad += not good
            print(f"{recipient:14} {found:24} {event['status']:8}{'' if good else 'WRONG ' + str(event)}")
        for name in ("b1", "c1", "d1", "e1"):
            assert not peers[name].mails(), f"{name} was told of the message: {peers[name].mails()}"
        for name in ("a1", "c2"):
            mails = peers[name].said("MAIL")
            assert len(mails) == 1 and "REQUIRETLS" in mails[0].split(), mails
            assert not peers[name].said("MAIL", "clear")
        # The notifications: protected too, and without the content though RET=FULL was asked for.
        mails = peers["s1"].said("MAIL")
        assert len(mails) == 2 and all("FROM:<>" in m and "REQUIRETLS" in m.split() for m in mails), mails
        for message in peers["s1"].messages:
            assert b"secret words" not in message and b"5.7.30" in message, message
        assert not peers["t1"].mails()
        assert concluded()["t@t.lab"]["event"] == "failed"
        assert not any("REQUIRETLS" in m for m in peers["w1"].mails())
        assert daemon.stop() == 0
        print(f"requiretls: {len(expected)} messages, {bad} wrong")
        return bad


sys.exit(1 if main() else 0)
