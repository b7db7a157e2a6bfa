#!/usr/bin/python3
"""A host whose certificate is for other names: the whole story an administrator gets, and the sender. In each place
stand the host and its address, what was demanded and by which rule, the names, the reason and the sentence; and they
all tell the same. (docs/why-not-delivered.md shows it.)"""
import email
import email.utils
import json
import smtplib
import subprocess
import sys

from destinations import Certificate, Peer
from posthaste import BUILD, Daemon, Directory, free_port, wait_for

PORT = free_port("127.4.3.1")
FACTS = ["cert-name-mismatch", "connector contoso (posthaste.conf:", "RequireTLS with DomainValidation",
         "a certificate for mx1.contoso.test (TlsDomain)", "mx1.contoso.test (127.4.3.1) showed a valid one for "
         "mail.fabrikam.test, smtp.fabrikam.test", "its operator must get one with that name",
         "list a name it has in TlsDomain"]


def main():
    with Directory() as directory:
        root = Certificate(["authority"], authority=True)
        leaf = Certificate(["mail.fabrikam.test", "smtp.fabrikam.test"], root)
        peer = Peer("127.4.3.1", PORT, leaf.write(directory.path / "leaf.pem"))
        sender = Peer("127.4.3.2", PORT)
        (directory.path / "root.pem").write_bytes(root.pem())
        daemon = Daemon(directory, f"""
SendConnector "contoso" {{
  AddressSpaces = {{"contoso.test"}} RequireTLS = true TlsAuthLevel = DomainValidation
  TlsDomain = {{"mx1.contoso.test"}} TlsTrustAnchors = {{"{directory.path}/root.pem"}} }}
SendConnector "back" {{ AddressSpaces = {{"sender.test"}} DNSRoutingEnabled = false
  SmartHosts = {{"127.4.3.2"}} Port = {PORT} }}
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Queue {{ DelayNotificationTimeout = 2s MessageExpirationTimeout = 6s }}
Resolver {{ Port = {PORT} AllowedDestinations = {{"127.0.0.0/8"}}
  LocalData = {{"contoso.test. MX 10 mx1.contoso.test.", "mx1.contoso.test. A 127.4.3.1"}} }}
""")
        line = next(n for n, text in enumerate(daemon.config.read_text().splitlines(), 1) if '"contoso"' in text)
        rule = f"{daemon.config}:{line} SendConnector contoso"
        places = 0

        def posthaste(*arguments, code=0):
            done = subprocess.run([BUILD / "posthaste", *arguments, "-c", daemon.config], capture_output=True, text=True,
                                  timeout=30)
            assert done.returncode == code, (arguments, done)
            return done.stdout

        def tells(place, text, *more, without=()):
            nonlocal places
            for fact in [f for f in FACTS if f not in without] + list(more):
                assert fact in text, f"{place} doesn't say {fact!r}:\n{text}"
            places += 1

        host, port = daemon.listening["in"].split(":")
        with smtplib.SMTP(host, int(port)) as client:
            client.sendmail("billing@sender.test", ["anna@contoso.test"],
                            "Subject: invoice 4711\r\nMessage-ID: <4711@sender.test>\r\n\r\nhello\r\n")
        wait_for(lambda: any(e["event"] == "deferred" for e in daemon.events()), 10, "the deferral")

        # The log: the sentence, and each fact by itself.
        for event in [e for e in daemon.events() if e["event"] in ("attempt", "deferred")]:
            tells(event["event"], event["reason"] + ": " + event["text"])
            assert event["host"] == "mx1.contoso.test" and event["ip"] == "127.4.3.1", event
            assert event["status"] == "4.7.5" and event["rule"] == rule and event["step"] == "verify", event
            assert event["cert"]["names"] == ["mail.fabrikam.test", "smtp.fabrikam.test"], event
            assert event["cert_chain"] == "good" and event["verified_by"] == "none", event
            policy = event["policy"]
            assert policy["level"] == "DomainValidation" and policy["names"] == ["mx1.contoso.test"], event
            assert policy["sources"] == [f"DomainValidation: {rule}"], event
        tells("the notice", daemon.said(), "mail for contoso.test is held: ")
        tells("queue list", posthaste("queue", "list"), "tls-held", "(4.7.5)", "next retry ",
              f"demanded by {rule}: DomainValidation, TlsDomain mx1.contoso.test")
        queue = [q for q in json.loads(posthaste("queue", "list", "--json")) if q["domain"] == "contoso.test"][0]
        assert (queue["rule"], queue["level"], queue["names"]) == (rule, "DomainValidation", ["mx1.contoso.test"])
        tells("queue sites", posthaste("queue", "sites"), "a TLS policy holds back 1 recipient of 1 queue; next retry",
              "its certificate ends 20")
        identity = next(e["id"] for e in daemon.events() if e["event"] == "deferred")
        tells("queue show", posthaste("queue", "show", identity), f"demanded by {rule}")
        tells("test", posthaste("test", "anna@contoso.test", code=2), f"demands DomainValidation ({rule})",
              "refused      at verify: cert-name-mismatch", "EncryptionOnly         passes",
              "CertificateValidation  passes", "DomainValidation       cert-name-mismatch",
              'would pass by          TlsDomain = {"mail.fabrikam.test"}')
        explained = posthaste("explain", "anna@contoso.test") # nothing was connected to
        for fact in (f"demanded by {rule}", "level    DomainValidation", "name     mx1.contoso.test (TlsDomain)",
                     "10 mx1.contoso.test"):
            assert fact in explained, explained
        # What it proposes is what helps.
        posthaste("test", "anna@contoso.test", "--set", 'TlsDomain={"mail.fabrikam.test"}')

        wait_for(lambda: len(sender.messages) == 2, 20, "two notifications")
        for message, action in zip(sender.messages, ("delayed", "failed")):
            words, status = email.message_from_bytes(message).get_payload()[:2]
            tells(f"the {action} notification", words.get_payload(), "<anna@contoso.test>", "was sent unprotected",
                  "What the administrators of both sides need to know:")
            fields = status.get_payload()[1]
            tells(f"its {action} fields", fields["Diagnostic-Code"],
                  "x-posthaste;Certificate validation failure, Reason:SubjectMismatch - cert-name-mismatch: ")
            assert (fields["Action"], fields["Status"]) == (action, "4.7.5"), fields
            assert fields["Final-Recipient"] == "rfc822;anna@contoso.test", fields
            begun = next(e["time"] for e in daemon.events() if e["event"] == "attempt")
            attempt = email.utils.parsedate_to_datetime(fields["Last-Attempt-Date"]).isoformat()
            assert attempt[:19] == begun[:19], (attempt, begun) # when it was tried, not when this was written
            assert fields["Remote-MTA"] is None # no other server said this
            assert str(directory.path) not in message.decode(), "a path of ours goes to the sender"
        assert not peer.mails(), "an envelope went to the wrong host"
        tells("expired", [e for e in daemon.events() if e["event"] == "expired"][0]["text"], "given up after 6s",
              without=["cert-name-mismatch"])
        assert daemon.stop() == 0
        print(f"why: {places} places tell it, none an envelope")
        return 0


sys.exit(main())
