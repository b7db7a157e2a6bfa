#!/usr/bin/python3
"""Two nodes do Domain Security with each other: mutual TLS, marks, and certificates that are renewed, run
out and are revoked, on both sides and without a restart or a reload. A sink behind the second one is the witness of
what arrives, and the second one's log of what it took; a client of our own asks it what it would take."""
import datetime
import pathlib
import re
import smtplib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "conformance"))
from pki import DAY, NOW, Pki, issue, SERVER, CLIENT  # noqa: E402
from posthaste import Daemon, Directory, free_port, wait_for  # noqa: E402
from server import Host, Servers  # noqa: E402

BOTH = (SERVER, CLIENT)


class Node:
    def __init__(self, directory, name, certificate, config):
        self.name = name
        self.certs = directory.path / f"{name}-certs"
        self.certs.mkdir()
        self.files = 0
        self.put(certificate)
        path = directory.path / name
        path.mkdir()
        inner = Directory.__new__(Directory)
        inner.path, inner.processes, inner.start = path, directory.processes, directory.start
        self.daemon = Daemon(inner, f'CertificateDir = "{self.certs}"\nRevocationRefresh = 1s\n{config}')

    def put(self, certificate):
        self.files += 1
        part = self.certs / f"{self.files}.part"
        part.write_bytes(certificate.chain_pem() + certificate.key_pem())
        part.rename(self.certs / f"{self.files}.pem")

    def events(self, recipient, *kinds):
        return [e for e in self.daemon.events() if e.get("recipient") == recipient and e["event"] in kinds]


class Test:
    def __init__(self, directory):
        self.directory = directory
        self.bad = 0
        self.count = 0
        self.pki = Pki()
        self.port = free_port("127.5.0.2")
        self.out = free_port("127.5.0.3")

    def expect(self, what, held):
        self.bad += not held
        print(f"{'ok' if held else 'WRONG':6} {what}")

    def own(self, name, **options):
        return issue(self.pki.intermediate, name, [name], usage=BOTH, chain=[self.pki.intermediate.x509], **options)

    def crl(self, *revoked):
        text = self.pki.root.crl_pem() + self.pki.intermediate.crl_pem([c.x509 for c in revoked])
        part = self.directory.path / "crl.part"
        part.write_bytes(text)
        part.rename(self.directory.path / "crl.pem")

    def put_b(self, certificate):
        """What the second node shows to clients, renewed in place."""
        part = self.directory.path / "b.part"
        part.write_bytes(certificate.chain_pem() + certificate.key_pem())
        part.rename(self.directory.path / "b.pem")

    def start(self):
        path = self.directory.path
        (path / "root.pem").write_bytes(self.pki.root.chain_pem())
        self.crl()
        self.a1, self.b1 = self.own("a.test"), self.own("b.test")
        self.put_b(self.b1)
        trust = f'TlsTrustAnchors = {{"{path}/root.pem"}} RevocationCrls = {{"{path}/crl.pem"}}'
        self.sink = Host("127.5.0.3", {"starttls": "none"})
        Servers([self.sink], self.out)
        self.b = Node(self.directory, "b", self.b1, f"""
ReceiveConnector "partners" {{ Bindings = {{"127.5.0.2:{self.port}"}} RemoteIPRanges = {{"127.0.0.0/8"}}
    DomainSecureEnabled = true TlsCertificate = "{path}/b.pem" {trust} }}
SendConnector "inside" {{ AddressSpaces = {{"b.test"}} DNSRoutingEnabled = false SmartHosts = {{"127.5.0.3"}}
    Port = {self.out} SendOrganizationHeaders = true }}
SendConnector "outside" {{ AddressSpaces = {{"out.test"}} DNSRoutingEnabled = false SmartHosts = {{"127.5.0.3"}}
    Port = {self.out} }}
TransportConfig {{ TLSReceiveDomainSecureList = {{"a.test"}} }}
""")
        self.a = Node(self.directory, "a", self.a1, f"""
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "partner" {{ AddressSpaces = {{"b.test"}} DomainSecureEnabled = true
    TlsCertificateName = "<I>CN=Intermediate A1<S>CN=a.test" {trust}
    ConnectionInactivityTimeOut = 1s }}
TransportConfig {{ TLSSendDomainSecureList = {{"b.test"}} }}
Queue {{ TransientFailureRetryInterval = 1s MessageRetryInterval = 1s }}
Resolver {{ Port = {self.port} AllowedDestinations = {{"127.0.0.0/8"}}
    LocalData = {{"b.test. MX 10 mx.b.test.", "mx.b.test. A 127.5.0.2"}} }}
""")

    def mail(self, headers=""):
        """By the first node; the recipient's address."""
        self.count += 1
        recipient = f"u{self.count}@b.test"
        host, port = self.a.daemon.listening["in"].split(":")
        with smtplib.SMTP(host, int(port)) as client:
            client.sendmail("s@a.test", [recipient], f"{headers}Subject: {self.count}\r\n\r\nhello\r\n")
        return recipient

    def delivered(self, recipient):
        wait_for(lambda: self.a.events(recipient, "delivered"), 20, f"delivery to {recipient}")
        return self.a.events(recipient, "delivered")[-1]

    def deferred(self, recipient):
        wait_for(lambda: self.a.events(recipient, "deferred", "failed"), 20, f"a deferral of {recipient}")
        return self.a.events(recipient, "deferred", "failed")[-1]

    def at_sink(self, recipient):
        """Each time the sink got it."""
        found = []
        for session in self.sink.sessions:
            said = session.said("RCPT")
            which = [i for i, line in enumerate(said) if f"<{recipient}>" in line]
            found += [session.bodies[i] for i in which if len(session.bodies) > i]
        return found

    def arrived(self, recipient):
        """The header that the sink got."""
        wait_for(lambda: self.at_sink(recipient), 20, f"{recipient} at the sink")
        return self.at_sink(recipient)[0].split(b"\r\n\r\n")[0].decode()

    def taken(self):
        """How many messages of the first node's the second one took."""
        return len([e for e in self.b.daemon.events() if e["event"] == "accepted" and e["sender"] == "s@a.test"])

    def refused(self, what, reason, recipient=None):
        """Mail of the first node's waits, and neither the second node nor the sink saw any of it."""
        taken = self.taken()
        recipient = recipient or self.mail()
        event = self.deferred(recipient)
        self.expect(f"{what}: {event['reason']}; nothing of it was taken", event["reason"] == reason and
                    self.taken() == taken and not self.at_sink(recipient))
        return recipient, event

    def takes(self, certificate):
        """Would the second node take mail of the first one's domain from who shows this? By a client of our own."""
        import ssl
        path = self.directory.path / "probe.pem"
        path.write_bytes(certificate.chain_pem() + certificate.key_pem())
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(path)
        code, _ = self.direct("probe@a.test", context=context, recipient="probe@b.test")
        return code == 250

    def shown(self, certificate):
        """Mail goes until the first node's log says that the second one showed this certificate."""
        from cryptography.hazmat.primitives import hashes
        wanted = certificate.x509.fingerprint(hashes.SHA256()).hex()
        wait_for(lambda: self.delivered(self.mail())["cert"]["sha256"] == wanted, 20, "the renewed certificate")
        return True

    def direct(self, sender, headers="", context=None, recipient="x@b.test"):
        """By a client of our own to the second node: the code and text that MAIL, RCPT or DATA got."""
        client = smtplib.SMTP("127.5.0.2", self.port, local_hostname="forger.test")
        try:
            client.ehlo()
            if context:
                client.starttls(context=context)
                client.ehlo()
            client.sendmail(sender, [recipient], headers + "Subject: x\r\n\r\nhello\r\n")
            return 250, ""
        except smtplib.SMTPSenderRefused as refusal:
            return refusal.smtp_code, refusal.smtp_error.decode()
        finally:
            client.close()

    def run(self):
        self.start()
        forged = "X-MS-Exchange-Organization-AuthAs: Internal\r\n"
        recipient = self.mail(forged)
        event = self.delivered(recipient)
        self.expect(f"mutual TLS: verified by {event['verified_by']}", event["verified_by"] == "mutual")
        header = self.arrived(recipient)
        marks = re.findall(r"^X-MS-Exchange-Organization-(\S+): (.*?)\r?$", header, re.M)
        self.expect(f"marked by the second node, once, whatever the sender wrote: {marks}", marks[:2] == [
            ("AuthAs", "Partner"), ("AuthDomain", "a.test")] and len(marks) == 3)
        self.forgers(forged)
        self.renewal()
        self.revocation()
        self.expiry()
        self.ledgers()
        for node in (self.a, self.b):
            self.expect(f"node {node.name} stops cleanly", node.daemon.stop() == 0)
        return self.bad

    def forgers(self, forged):
        import ssl
        plain = ssl.create_default_context()
        plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
        stranger = ssl.create_default_context()
        stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
        path = self.directory.path / "stranger.pem"
        certificate = self.own("stranger.test")
        path.write_bytes(certificate.chain_pem() + certificate.key_pem())
        stranger.load_cert_chain(path)
        code, text = self.direct("forger@a.test")
        self.expect(f"in the clear: {code} {text[:70]}", code == 451 and text.startswith("4.7.3"))
        code, text = self.direct("forger@a.test", context=plain)
        self.expect(f"without a certificate: {code} {text[:70]}", code == 451 and text.startswith("4.7.3"))
        code, text = self.direct("forger@a.test", context=stranger)
        self.expect(f"with another's certificate: {code} {text[:70]}", code == 454 and text.startswith("4.7.5"))
        code, _ = self.direct("s@elsewhere.test", forged, recipient="f1@b.test")
        header = self.arrived("f1@b.test")
        self.expect("another domain's mail passes, and its forged mark doesn't",
                    code == 250 and "X-MS-Exchange" not in header)
        # What the partner's mail is marked with goes no further than to our own.
        host, port = "127.5.0.2", self.port
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(next(self.a.certs.glob("*.pem")))
        code, _ = self.direct("s@a.test", context=context, recipient="f2@out.test")
        header = self.arrived("f2@out.test")
        self.expect("the mark stays at the border", code == 250 and "X-MS-Exchange" not in header)
        del host, port

    def renewal(self):
        self.expect("the first certificate is taken", self.takes(self.a1))
        self.a2 = self.own("a.test", begin=NOW - DAY / 24)
        self.a.put(self.a2)
        self.crl(self.a1) # so only the renewed one passes
        wait_for(lambda: not self.takes(self.a1), 20, "the list at the second node")
        wait_for(lambda: self.a.daemon.metrics()["posthaste_config_generation"] > 1, 20, "the certificate's renewal")
        event = self.delivered(self.mail())
        self.expect("renewed: the new certificate is shown, the old one is revoked", event["verified_by"] == "mutual")
        self.b2 = self.own("b.test", begin=NOW - DAY / 24)
        self.put_b(self.b2)
        self.expect("the receiver's is renewed in place", self.shown(self.b2))

    def revocation(self):
        self.crl(self.a1, self.a2)
        wait_for(lambda: not self.takes(self.a2), 20, "the list at the second node")
        recipient, event = self.refused("revoked", "mail-rejected")
        self.expect(f"and told why: {event['reply']} {event['status']} {event['text'][:90]}",
                    event["reply"] == 454 and event["status"] == "4.7.5" and "revoked" in event["text"])
        self.a.put(self.own("a.test", begin=NOW - DAY / 48))
        self.expect("and delivered as soon as a third one is there", bool(self.delivered(recipient)))
        # The other way round: the receiver's certificate is revoked, while mail goes.
        self.crl(self.a1, self.a2, self.b2)

        def held():
            recipient = self.mail()
            wait_for(lambda: self.a.events(recipient, "delivered", "deferred"), 20, "an outcome")
            return not self.a.events(recipient, "delivered")
        wait_for(held, 20, "the list at the first node")
        recipient = f"u{self.count}@b.test"
        self.refused("the receiver's is revoked", "cert-revoked", recipient)
        self.b3 = self.own("b.test", begin=NOW - DAY / 24)
        self.put_b(self.b3)
        self.expect("and renewed in place", bool(self.delivered(recipient)) and self.shown(self.b3))

    def ends(self, seconds):
        return datetime.datetime.utcnow().replace(microsecond=0) + datetime.timedelta(seconds=seconds)

    def wait_until(self, moment):
        wait_for(lambda: datetime.datetime.utcnow() > moment, 15)
        time.sleep(1.2) # an idle session of before may go on for its second

    def expiry(self):
        for file in self.a.certs.glob("*.pem"):
            file.unlink()
        ends, later = self.ends(5), self.ends(10)
        last = self.own("b.test", end=later)
        self.put_b(last)
        generation = self.a.daemon.metrics()["posthaste_config_generation"]
        self.a.put(self.own("a.test", end=ends))
        wait_for(lambda: self.a.daemon.metrics()["posthaste_config_generation"] > generation, 20, "its last one")
        self.expect("certificates in their last seconds, on both sides", self.shown(last))
        self.wait_until(ends)
        recipient, _ = self.refused("has expired", "client-cert-expired")
        self.a.put(self.own("a.test"))
        self.expect("and was renewed", bool(self.delivered(recipient)))
        self.wait_until(later)
        recipient, _ = self.refused("the receiver's has expired", "cert-expired")
        self.put_b(self.own("b.test"))
        self.expect("and was renewed in place", bool(self.delivered(recipient)))

    def ledgers(self):
        """At the end all sides agree: each message once."""
        mails = [f"u{i}@b.test" for i in range(1, self.count + 1)]
        for recipient in mails:
            self.arrived(recipient)
        wait_for(lambda: all(self.b.events(r, "delivered") for r in mails), 20, "the second node's log")
        once = all(len(self.a.events(r, "delivered")) == len(self.b.events(r, "delivered")) ==
                   len(self.at_sink(r)) == 1 for r in mails)
        self.expect(f"{len(mails)} messages, each once: in the first node's log, the second's, and at the sink", once)
        mutual = {e["verified_by"] for r in mails for e in self.a.events(r, "delivered")}
        self.expect(f"each verified by {mutual}", mutual == {"mutual"})

def main():
    with Directory() as directory:
        test = Test(directory)
        try:
            return test.run()
        finally:
            for name in ("a", "b"):
                for line in (directory.path / name / "errors").read_text().splitlines():
                    if ": W" not in line:
                        print(f"{name}: {line}")


sys.exit(1 if main() else 0)
