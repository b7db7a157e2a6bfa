"""Destinations that publish something: a signed zone (Knot, a private instance), certificates, and SMTP
peers that keep a transcript of what they were told."""
import datetime
import hashlib
import http.server
import socket
import ssl
import subprocess
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from posthaste import free_port, wait_for

NOW = datetime.datetime.utcnow()
DAY = datetime.timedelta(days=1)


class Certificate:
    def __init__(self, names=(), issuer=None, authority=False, before=NOW - DAY, after=NOW + 30 * DAY,
                 distribution_point=None):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.issuer = issuer
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "authority")])
        builder = (x509.CertificateBuilder().subject_name(subject)
                   .issuer_name(issuer.x509.subject if issuer else subject)
                   .public_key(self.key.public_key()).serial_number(x509.random_serial_number())
                   .not_valid_before(before).not_valid_after(after)
                   .add_extension(x509.BasicConstraints(authority, None), True))
        if authority:
            builder = builder.add_extension(
                x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)
        else:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False).add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        if distribution_point:
            builder = builder.add_extension(x509.CRLDistributionPoints([x509.DistributionPoint(
                [x509.UniformResourceIdentifier(distribution_point)], None, None, None)]), False)
        self.x509 = builder.sign((issuer or self).key, hashes.SHA256())

    def crl(self, revoked=(), last=NOW - DAY, following=NOW + DAY, entries=0):
        """DER; `entries` more serial numbers make it long."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.x509.subject) \
            .last_update(last).next_update(following)
        serials = [certificate.x509.serial_number for certificate in revoked]
        for serial in serials + list(range(1 << 140, (1 << 140) + entries)):
            builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder()
                                                      .serial_number(serial).revocation_date(last).build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def pem(self):
        return self.x509.public_bytes(serialization.Encoding.PEM)

    def chain_pem(self):
        """As a server sends it: with all issuers, the root too (usage 2 needs it)."""
        return self.pem() + (self.issuer.chain_pem() if self.issuer else b"")

    def write(self, path):
        path.write_bytes(self.chain_pem() + self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return path

    def tlsa(self, usage, selector, matching):
        data = (self.x509.public_bytes(serialization.Encoding.DER) if selector == 0 else
                self.key.public_key().public_bytes(serialization.Encoding.DER,
                                                   serialization.PublicFormat.SubjectPublicKeyInfo))
        data = {0: data, 1: hashlib.sha256(data).digest(), 2: hashlib.sha512(data).digest()}[matching]
        return f"TLSA {usage} {selector} {matching} {data.hex()}"


class Zones:
    """Knot with zones of our own, signed by itself; `anchors` is the file for Resolver.TrustAnchor."""

    def __init__(self, directory, zones, forged=()):
        """`zones`: name → record lines. For those in `forged` the trust anchor names another key."""
        self.port = free_port()
        root = directory.path / "knot"
        for name in ("zones", "run", "db"):
            (root / name).mkdir(parents=True)
        text = f"""server:
    rundir: {root}/run
    listen: 127.0.0.1@{self.port}
log:
  - target: {root}/log
    any: info
database:
    storage: {root}/db
policy:
  - id: fast
    algorithm: ecdsap256sha256
    single-type-signing: on
template:
  - id: default
    storage: {root}/zones
zone:
"""
        for name, zone in zones.items():
            signed = zone["signed"]
            text += f"  - domain: {name}\n" + (
                "    dnssec-signing: on\n    dnssec-policy: fast\n    zonefile-sync: -1\n" if signed else "")
            (root / "zones" / f"{name}.zone").write_text(
                f"$ORIGIN {name}.\n$TTL 300\n@ SOA ns.{name}. hostmaster.{name}. 1 3600 600 86400 60\n"
                f"@ NS ns.{name}.\nns A 127.0.0.1\n" + "\n".join(zone["records"]) + "\n")
        config = root / "knot.conf"
        config.write_text(text)
        self.log = root / "log"
        directory.start(["/usr/sbin/knotd", "-c", config], stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL)
        signed = [name for name, zone in zones.items() if zone["signed"]]
        wait_for(lambda: self.log.exists() and all(
            f"[{name}.] zone file parsed" in self.log.read_text() or
            f"[{name}.] loaded" in self.log.read_text() for name in zones), 10, "Knot")
        anchors = directory.path / "anchors"
        lines = []
        for name in signed:
            def ds():
                return subprocess.run(["keymgr", "-c", config, f"{name}.", "ds"], capture_output=True,
                                      text=True).stdout.splitlines()
            wait_for(ds, 10, "a key of " + name)
            line = [entry for entry in ds() if " 13 2 " in entry][0]
            if name in forged:
                line = line[:-64] + hashlib.sha256(b"another key").hexdigest()
            owner, rest = line.split(" ", 1)
            lines.append(f"{owner} IN {rest}")
        anchors.write_text("\n".join(lines) + "\n")
        self.anchors = anchors

    def settings(self):
        return f'Forwarders = {{"127.0.0.1@{self.port}"}} TrustAnchor = "{self.anchors}"'


def policy(mode, *patterns, age=86400):
    return "version: STSv1\r\nmode: %s\r\n%smax_age: %d\r\n" % (
        mode, "".join(f"mx: {p}\r\n" for p in patterns), age)


class PolicyHost:
    """https://mta-sts.DOMAIN/.well-known/mta-sts.txt for many domains; counts what it is asked."""

    def __init__(self, certificate, answers):
        self.answers, self.asked = answers, []
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                domain = self.headers["Host"].split(":")[0].removeprefix("mta-sts.")
                host.asked.append(domain)
                status, kind, text = host.answers.get(domain, (404, "text/plain", "no"))
                if self.path != "/.well-known/mta-sts.txt":
                    status = 404
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text)))
                if status in (301, 302):
                    self.send_header("Location", "https://mta-sts.enforced.lab/.well-known/mta-sts.txt")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.5.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Peer:
    """An SMTP server at one address: a thread a session, a transcript of commands, and of what SNI said."""

    def __init__(self, address, port, certificate=None, extensions=(), starttls="220 go on",
                 broken=False):
        self.certificate, self.extensions = certificate, list(extensions)
        self.starttls, self.broken = starttls, broken
        self.commands, self.names, self.messages = [], [], []
        self.sessions = [] # of each: commands, resumed (None: in the clear), ended
        self.gate = threading.Event() # while it isn't set, messages wait for their final reply
        self.gate.set()
        self.context = None
        if certificate is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate)
            self.context.sni_callback = lambda _, name, __: self.names.append(name)
        self.listener = socket.create_server((address, port), backlog=64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def close(self):
        self.listener.close()

    def serve(self, connection):
        session = {"commands": [], "resumed": None, "ended": False}
        self.sessions.append(session)
        try:
            self.talk(connection, session)
        except (OSError, ssl.SSLError, ValueError):
            pass
        finally:
            connection.close()
            session["ended"] = True

    def talk(self, connection, session):
        tls = False
        stream = connection.makefile("rb")

        def say(text):
            connection.sendall(text.encode() + b"\r\n")

        say("220 peer")
        while True:
            line = stream.readline()
            if not line:
                return
            text = line.decode("latin-1").rstrip("\r\n")
            self.commands.append(("tls " if tls else "clear ") + text)
            session["commands"].append(text)
            verb = text.split(" ")[0].split(":")[0].upper()
            if verb == "EHLO":
                offers = ["PIPELINING", "8BITMIME", "DSN"] + self.extensions
                if self.context is not None and not tls:
                    offers.append("STARTTLS")
                say("\r\n".join(["250-peer"] + ["250-" + offer for offer in offers] + ["250 HELP"]))
            elif verb == "STARTTLS":
                say(self.starttls)
                if self.starttls.startswith("220"):
                    if self.broken:
                        connection.recv(1)
                        connection.sendall(b"no TLS here\r\n")
                        return
                    connection = self.context.wrap_socket(connection, server_side=True)
                    stream = connection.makefile("rb")
                    session["resumed"] = connection.session_reused
                    tls = True
            elif verb == "DATA":
                say("354 go on")
                body = []
                while (line := stream.readline()) not in (b".\r\n", b""):
                    body.append(line)
                self.gate.wait(60)
                self.messages.append(b"".join(body))
                say("250 2.0.0 taken")
            elif verb == "QUIT":
                say("221 bye")
                return
            else:
                say("250 2.0.0 yes")

    def open(self):
        return [s for s in self.sessions if not s["ended"]]

    @staticmethod
    def mails_in(session):
        return [c for c in session["commands"] if c.upper().startswith("MAIL")]

    def said(self, verb, where="tls"):
        return [c for c in self.commands if c.upper().startswith(f"{where} {verb}".upper())]

    def went_on_in_clear(self):
        """Said anything in the clear beyond what leads to TLS: MAIL, AUTH, a session without STARTTLS."""
        return [c for c in self.commands if c.startswith("clear ") and
                c.split()[1].upper() not in ("EHLO", "STARTTLS", "QUIT")]

    def mails(self):
        return self.said("MAIL", "tls") + self.said("MAIL", "clear")
