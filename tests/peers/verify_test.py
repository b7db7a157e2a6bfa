#!/usr/bin/env python3
"""`posthaste verify`: each option, each exit code, and the JSON that scripts read."""
import base64
import json
import subprocess
import sys

from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp

from destinations import DAY, NOW, Certificate
from posthaste import BUILD, Directory

bad = 0


def run(*words):
    done = subprocess.run([BUILD / "posthaste", "verify", *map(str, words)], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def expect(what, words, code, **fields):
    """`fields`: members of the JSON."""
    global bad
    found, out, err = run("--json", *words)
    answer = json.loads(out) if out else {}
    wrong = {k: answer.get(k) for k, v in fields.items() if answer.get(k) != v}
    if found != code or wrong:
        bad += 1
        print(f"{what}: exit {found}, wanted {code}; {wrong} {out}{err}")
    if out and set(answer) != {"result", "reason", "detail", "chain", "matched_name", "revocation", "dane", "cpu_us"}:
        bad += 1
        print(f"{what}: members {sorted(answer)}")


def epoch(moment):
    return int((moment - NOW).total_seconds()) + int(__import__("calendar").timegm(NOW.timetuple()))


def main():
    root, other = Certificate(["root"], authority=True), Certificate(["other"], authority=True)
    middle = Certificate(["middle"], root, authority=True)
    leaf = Certificate(["mx.contoso.test", "*.wild.test"], middle)
    lone = Certificate(["mx.contoso.test"])
    with Directory() as directory:
        path = directory.path

        def put(name, data):
            (path / name).write_bytes(data)
            return path / name

        def crl(name, issuer, *revoked, **dates):
            text = base64.encodebytes(issuer.crl(revoked, **dates))
            return put(name, b"-----BEGIN X509 CRL-----\n" + text + b"-----END X509 CRL-----\n")

        def staple(name, status, **dates):
            moment = dict({"this_update": NOW - DAY, "next_update": NOW + DAY}, **dates)
            good = status == ocsp.OCSPCertStatus.GOOD
            return put(name, ocsp.OCSPResponseBuilder().add_response(
                cert=leaf.x509, issuer=middle.x509, algorithm=hashes.SHA1(), cert_status=status,
                revocation_time=None if good else NOW - DAY, revocation_reason=None, **moment)
                .responder_id(ocsp.OCSPResponderEncoding.HASH, middle.x509)
                .sign(middle.key, hashes.SHA256()).public_bytes(
                    __import__("cryptography").hazmat.primitives.serialization.Encoding.DER))

        trust, distrust = put("root.pem", root.pem()), put("other.pem", other.pem())
        above, below = put("middle.pem", middle.pem()), put("leaf.pem", leaf.pem())
        chain = put("chain.pem", leaf.pem() + middle.pem())
        alone = put("lone.pem", lone.pem())
        base = ["--trust", trust, "--untrusted", above, "--leaf", below]
        named = base + ["--name", "mx.contoso.test"]
        good_crl, revoking = crl("good.crl", middle), crl("revoking.crl", middle, leaf)
        root_crl = crl("root.crl", root)
        stale = crl("stale.crl", middle, last=NOW - 9 * DAY, following=NOW - DAY)
        good_staple = staple("good.der", ocsp.OCSPCertStatus.GOOD)
        revoked_staple = staple("revoked.der", ocsp.OCSPCertStatus.REVOKED)
        old_staple = staple("old.der", ocsp.OCSPCertStatus.GOOD, this_update=NOW - 9 * DAY, next_update=NOW - DAY)

        expect("good", named, 0, result="accept", reason="none", chain=["CN=mx.contoso.test", "CN=middle", "CN=root"],
               matched_name="mx.contoso.test", revocation="not-checked", dane=None)
        expect("sent in one file", ["--trust", trust, "--leaf", chain, "--name", "mx.contoso.test"], 0)
        expect("no name asked", base, 0, matched_name=None)
        expect("wildcard", base + ["--name", "a.wild.test"], 0, matched_name="*.wild.test")
        expect("wrong name", base + ["--name", "contoso.test"], 1, result="reject", reason="cert-name-mismatch")
        expect("an address", base + ["--name", "192.0.2.1", "--name-kind", "ip"], 1, reason="cert-name-mismatch")
        expect("intermediate missing", ["--trust", trust, "--leaf", below], 1, reason="cert-partial-chain")
        expect("another root", ["--trust", distrust, "--untrusted", above, "--leaf", below], 1,
               reason="cert-untrusted-root")
        expect("self-signed", ["--trust", trust, "--leaf", alone], 1, reason="cert-self-signed")
        expect("itself trusted", ["--trust", alone, "--leaf", alone], 0)
        expect("later", named + ["--time", epoch(NOW + 60 * DAY)], 1, reason="cert-expired")
        expect("earlier", named + ["--time", epoch(NOW - 60 * DAY)], 1, reason="cert-not-yet-valid")
        expect("no intermediate allowed", named + ["--max-depth", 0], 1)
        expect("one allowed", named + ["--max-depth", 1], 0)

        expect("CRL", named + ["--crl", good_crl], 0, revocation="good")
        expect("CRL, all", named + ["--crl", good_crl, "--revocation", "require"], 2, result="undecidable",
               reason="revocation-unknown")
        expect("CRLs, all", named + ["--crl", good_crl, "--crl", root_crl, "--revocation", "require"], 0,
               revocation="good")
        expect("revoked", named + ["--crl", revoking], 1, reason="cert-revoked", revocation="revoked")
        expect("revoked, soft", named + ["--crl", revoking, "--revocation", "soft"], 1, reason="cert-revoked")
        expect("revoked, off", named + ["--crl", revoking, "--revocation", "off"], 0, revocation="not-checked")
        expect("stale", named + ["--crl", stale], 2, reason="revocation-unknown", revocation="unknown")
        expect("stale, soft", named + ["--crl", stale, "--revocation", "soft"], 0)
        expect("required, nothing there", named + ["--revocation", "require-leaf"], 2)
        expect("staple", named + ["--ocsp", good_staple], 0)
        expect("staple revokes", named + ["--ocsp", revoked_staple], 1, reason="cert-revoked")
        expect("old staple", named + ["--ocsp", old_staple], 2, reason="revocation-unknown")
        expect("old staple, soft", named + ["--ocsp", old_staple, "--revocation", "soft"], 0)
        expect("no staple at all", named + ["--ocsp", put("x.der", b"nonsense")], 2)

        def tlsa(certificate, *numbers):
            return ["--tlsa", certificate.tlsa(*numbers)[len("TLSA "):]]

        expect("DANE-EE", ["--trust", trust, "--leaf", alone, "--name", "other.test"] + tlsa(lone, 3, 1, 1), 0,
               dane="match-certificate")
        expect("DANE-EE expired", ["--trust", trust, "--leaf", alone, "--time", epoch(NOW + 60 * DAY)]
               + tlsa(lone, 3, 0, 2), 0)
        expect("DANE, another key", named + tlsa(other, 3, 1, 1), 1, reason="dane-mismatch", dane="mismatch")
        expect("DANE-TA", ["--trust", distrust, "--leaf", chain, "--name", "mx.contoso.test"] + tlsa(middle, 2, 0, 1),
               0, dane="match-authority")
        expect("DANE-TA, name", ["--trust", trust, "--leaf", chain, "--name", "other.test"] + tlsa(middle, 2, 0, 1),
               1, reason="dane-host-mismatch")
        expect("DANE-TA, expired", ["--trust", trust, "--leaf", chain, "--time", epoch(NOW + 60 * DAY)]
               + tlsa(middle, 2, 0, 1), 1, reason="dane-expired")
        expect("DANE, any of two", named + tlsa(other, 3, 1, 1) + tlsa(leaf, 3, 1, 1), 0)
        expect("DANE, unusable: the trust store decides", ["--trust", distrust, "--leaf", chain]
               + tlsa(leaf, 1, 1, 1), 1, dane="unusable")
        expect("DANE, no trust store", ["--leaf", alone] + tlsa(lone, 3, 1, 1), 0)

        for what, words, code in (
                ("no leaf", ["--trust", trust], 64), ("no trust", ["--leaf", below], 64),
                ("unknown option", named + ["--no-such", "x"], 64), ("no value", named + ["--time"], 64),
                ("no number", named + ["--time", "soon"], 64), ("no kind", named + ["--name-kind", "email"], 64),
                ("no mode", named + ["--revocation", "perhaps"], 64), ("no TLSA", named + ["--tlsa", "3 1 1"], 64),
                ("no TLSA data", named + ["--tlsa", "3 1 1 xyz"], 64), ("not there", ["--trust", path / "none"], 66),
                ("no certificate", ["--trust", trust, "--leaf", good_staple], 66),
                ("no PEM", ["--trust", put("torn.pem", root.pem()[:-40]), "--leaf", below], 66)):
            expect(what, words, code)
        code, out, _ = run("--help")
        assert code == 0 and "usage: posthaste verify" in out
        code, out, _ = run(*named)
        assert code == 0 and out.startswith("accept\n") and "CN=mx.contoso.test <- CN=middle <- CN=root" in out
    print("verify: in order" if bad == 0 else f"verify: {bad} wrong")
    return 1 if bad else 0


sys.exit(main())
