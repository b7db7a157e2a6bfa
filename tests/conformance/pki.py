"""Certificates of the conformance table, all made at the start of a run and none of them stored."""
import datetime
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.utcnow().replace(microsecond=0)
DAY = datetime.timedelta(days=1)
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def pem(*certificates):
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


class Certificate:
    """One certificate, its key, and what is sent along with it."""

    def __init__(self, x, key, chain=()):
        self.x509 = x
        self.key = key
        self.chain = [x, *chain]

    def key_pem(self):
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption())

    def chain_pem(self):
        return pem(*self.chain)

    def crl_pem(self, revoked=(), last=NOW - DAY, following=NOW + 30 * DAY):
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.x509.subject) \
            .last_update(last).next_update(following) \
            .add_extension(x509.CRLNumber(1), critical=False) \
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                           critical=False)
        for certificate in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
                .revocation_date(NOW - DAY).build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def issue(issuer, subject, names=(), ca=False, usage=(SERVER,), begin=NOW - 30 * DAY, end=NOW + 300 * DAY,
          key=None, chain=(), rsa_bits=0, distribution_point=None):
    """`issuer` None: self-signed."""
    if key is None:
        key = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
    signer = issuer.key if issuer else key
    builder = x509.CertificateBuilder().subject_name(name(subject)) \
        .issuer_name(issuer.x509.subject if issuer else name(subject)) \
        .public_key(key.public_key()).serial_number(x509.random_serial_number()) \
        .not_valid_before(begin).not_valid_after(end) \
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True) \
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False) \
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    if ca:
        builder = builder.add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False),
                                        critical=True)
    elif usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]),
                                        critical=not subject)
    if distribution_point:
        builder = builder.add_extension(x509.CRLDistributionPoints([x509.DistributionPoint(
            [x509.UniformResourceIdentifier(distribution_point)], None, None, None)]), critical=False)
    return Certificate(builder.sign(signer, hashes.SHA256()), key, chain)


class Pki:
    """Root A is trusted and root B isn't; A1 stands below A, and leaves below A1."""

    def __init__(self):
        self.root = issue(None, "Root A", ca=True, end=NOW + 3000 * DAY)
        self.other_root = issue(None, "Root B", ca=True, end=NOW + 3000 * DAY)
        self.old_root = issue(None, "Root C", ca=True, begin=NOW - 3000 * DAY, end=NOW - DAY)
        # Root A once more, below a root that has expired: a second path, and a bad one.
        self.cross = issue(self.old_root, "Root A", ca=True, key=self.root.key, begin=NOW - 3000 * DAY,
                           end=NOW - DAY)
        self.intermediate = issue(self.root, "Intermediate A1", ca=True)
        self.expired_intermediate = issue(self.root, "Intermediate A2", ca=True, begin=NOW - 60 * DAY, end=NOW - DAY)
        self.bare_intermediate = issue(self.root, "Intermediate A3", ca=True)  # no CRL of its own
        # One that is out of date, and no other: lists are of an issuer, whichever connector names their file.
        self.stale_intermediate = issue(self.root, "Intermediate A4", ca=True)
        self.no_authority = issue(self.intermediate, "not an authority", ["not-an-authority.test"])
        self.revoked = []

    def leaf(self, kind, names, subject):
        """`kind` is what the table calls cert=KIND."""
        a1 = [self.intermediate.x509]
        common = dict(names=names, chain=a1)
        if kind == "good":
            return issue(self.intermediate, subject, **common)
        if kind == "self-signed":
            return issue(None, subject or "self", names)
        if kind == "untrusted":
            # Its root is sent too: without it, it would look like a missing intermediate.
            return issue(self.other_root, subject, names, chain=[self.other_root.x509])
        if kind == "partial":
            return issue(self.intermediate, subject, names)
        if kind == "expired":
            return issue(self.intermediate, subject, begin=NOW - 60 * DAY, end=NOW - DAY, **common)
        if kind == "expired-intermediate":
            return issue(self.expired_intermediate, subject, names, chain=[self.expired_intermediate.x509])
        if kind == "future":
            return issue(self.intermediate, subject, begin=NOW + DAY, end=NOW + 60 * DAY, **common)
        if kind == "revoked":
            certificate = issue(self.intermediate, subject, **common)
            self.revoked.append(certificate.x509)
            return certificate
        if kind == "no-crl":
            return issue(self.bare_intermediate, subject, names, chain=[self.bare_intermediate.x509])
        if kind == "stale-crl":
            return issue(self.stale_intermediate, subject, names, chain=[self.stale_intermediate.x509])
        if kind == "crl-pointer":
            return issue(self.bare_intermediate, subject, names, chain=[self.bare_intermediate.x509],
                         distribution_point="http://crl.posthaste.test/a3.crl")
        if kind == "client-only":
            return issue(self.intermediate, subject, usage=(CLIENT,), **common)
        if kind == "by-leaf":
            return issue(self.no_authority, subject, names, chain=[self.no_authority.x509, *a1])
        if kind == "weak":
            return issue(self.intermediate, subject, rsa_bits=1024, **common)
        if kind == "cross":
            return issue(self.intermediate, subject, names, chain=[*a1, self.cross.x509])
        raise ValueError(f"cert={kind}")

    def client(self, subject, **options):
        return issue(self.root, subject, usage=(CLIENT,), **options)

    def tlsa(self, certificate, words):
        """Of the leaf, with usage 2 of its issuer; or of another key altogether."""
        if words == "other":
            return f"3 1 1 {'5a' * 32}"
        usage, selector, matching = map(int, words.split("-"))
        of = self.intermediate if usage == 2 else certificate
        data = of.x509.public_bytes(serialization.Encoding.DER) if selector == 0 else \
            of.key.public_key().public_bytes(serialization.Encoding.DER,
                                             serialization.PublicFormat.SubjectPublicKeyInfo)
        digest = {1: hashlib.sha256, 2: hashlib.sha512}[matching](data).hexdigest()
        return f"{usage} {selector} {matching} {digest}"

    def own(self, directory):
        """CertificateDir: certificates that share issuer and subject, of which the newest valid one counts."""
        directory.mkdir()
        spans = {
            "going": [(-30, 300)],
            "renewed": [(-300, 30), (-1, 300), (1, 400), (-30, 300)],
            "over": [(-300, -1)],
        }
        for subject, pairs in spans.items():
            for i, (begin, end) in enumerate(pairs):
                certificate = self.client(f"{subject}.posthaste.test", begin=NOW + begin * DAY, end=NOW + end * DAY)
                (directory / f"{subject}-{i}.pem").write_bytes(certificate.chain_pem() + certificate.key_pem())
                if (subject, i) == ("renewed", 1):
                    self.newest = certificate

    def staple(self, certificate, good=False):
        """A DER OCSP response by the issuer itself."""
        status = ocsp.OCSPCertStatus.GOOD if good else ocsp.OCSPCertStatus.REVOKED
        return ocsp.OCSPResponseBuilder().add_response(
            cert=certificate.x509, issuer=self.intermediate.x509, algorithm=hashes.SHA1(), cert_status=status,
            this_update=NOW - DAY, next_update=NOW + DAY, revocation_time=None if good else NOW - DAY,
            revocation_reason=None).responder_id(ocsp.OCSPResponderEncoding.HASH, self.intermediate.x509) \
            .sign(self.intermediate.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def write(self, directory):
        files = {
            "root.pem": self.root.chain_pem(),
            "other-root.pem": self.other_root.chain_pem(),
            "intermediate.pem": self.intermediate.chain_pem(),
            "crl.pem": self.root.crl_pem() + self.intermediate.crl_pem(self.revoked)
            + self.expired_intermediate.crl_pem(),
            "stale-crl.pem": self.root.crl_pem(last=NOW - 60 * DAY, following=NOW - DAY)
            + self.stale_intermediate.crl_pem(last=NOW - 60 * DAY, following=NOW - DAY),
        }
        for file, text in files.items():
            (directory / file).write_bytes(text)
