#!/usr/bin/env python3
"""`posthaste test`: what it proposes holds, on settings that were never saved, and no MAIL is ever said."""
import json
import subprocess
import sys

from posthaste import BUILD, Directory, Sink, free_port

FORCED = 'RequireTLS = true TlsTrustAnchors = {"%(dir)s/root.pem"} RevocationCrls = {"%(dir)s/crl.pem"}'
CONNECTORS = {
    "name": ("wrong-name", FORCED + ' TlsAuthLevel = DomainValidation TlsDomain = {"mx.test.test"}'),
    "self": ("self-signed", FORCED + " TlsAuthLevel = CertificateValidation"),
    "none": ("none", FORCED),
    "off": ("good", FORCED + " Enabled = false"),
    "open": ("none", ""),
}


def main():
    port = free_port("127.4.0.1")
    sinks, data, connectors = [], [], []
    for i, (name, (kind, settings)) in enumerate(CONNECTORS.items()):
        address = f"127.4.0.{i + 1}"
        sinks.append(f"{name} {address}:{port} {kind} host=mx.test.test")
        data += [f'"{name}.test. MX 10 mx.{name}.test."', f'"mx.{name}.test. A {address}"']
        connectors.append(f'SendConnector "{name}" {{ AddressSpaces = {{"{name}.test"}} {settings} }}')
    # Two hosts that disagree: the first as bad as "none", the second good.
    data += ['"both.test. MX 10 mx.none.test."', '"both.test. MX 20 mx.off.test."']
    connectors.append(f'SendConnector "both" {{ AddressSpaces = {{"both.test"}} {FORCED} }}')
    bad = 0

    with Directory() as directory:
        sink = Sink(directory, sinks)
        config = directory.path / "posthaste.conf"
        config.write_text('Hostname = "out.test"\n' + "\n".join(connectors) % {"dir": directory.path} + f"""
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{", ".join(data)}}} }}
""")

        def test(what, code, *arguments):
            nonlocal bad
            done = subprocess.run([BUILD / "posthaste", "test", *arguments, "--json", "-c", config],
                                  capture_output=True, text=True, timeout=30)
            good = done.returncode == code
            bad += not good
            print(f"{'ok' if good else 'WRONG':6} {what}: exit {done.returncode} {done.stderr.strip()[:160]}")
            return json.loads(done.stdout) if done.stdout.startswith("{") else None

        def expect(what, held):
            nonlocal bad
            bad += not held
            print(f"{'ok' if held else 'WRONG':6} {what}")

        said = test("another name", 2, "u@name.test")["addresses"][0]
        levels = {name: level["result"] for name, level in said["levels"].items()}
        expect(f"each level has its verdict: {levels}", levels == {
            "EncryptionOnly": "accept", "CertificateValidation": "accept", "DomainValidation": "defer"})
        proposal = said["would_pass"][0]
        test(f"and with {proposal}", 0, "u@name.test", "--set", proposal)
        said = test("self-signed", 2, "u@self.test")["addresses"][0]
        pin = said["would_pass"][-1].split('"')[1]
        test("pinned", 0, "u@self.test", "--set", "TlsAuthLevel=EncryptionOnly", "--set", f"TlsPins={pin}")
        test("another pin", 2, "u@self.test", "--set", "TlsAuthLevel=EncryptionOnly", "--set", f"TlsPins={'0' * 64}")
        said = test("no STARTTLS", 2, "u@none.test")
        expect("the reason is delivery's", said["reason"] == "tls-not-offered" and said["status"] == "4.7.3")
        test("no STARTTLS, not demanded", 0, "u@none.test", "--set", "RequireTLS=false")
        said = test("a host that doesn't demand it", 0, "u@open.test")["addresses"][0]
        expect("in the clear, and no level would pass",
               said["tls"] is None and {v["result"] for v in said["levels"].values()} == {"defer"})
        test("no connector: it is disabled, and none other matches", 2, "u@off.test")
        test("the disabled one by name", 0, "--connector", "off")
        test("the disabled one by name, for another domain", 2, "--connector", "off", "u@none.test")
        said = test("two hosts, one good", 0, "u@both.test")
        expect("every address was tried", (said["tried"], said["accepted"]) == (2, 1))
        test("a setting that can't be", 78, "u@name.test", "--set", "TlsAuthLevel=Sometimes")
        test("an unknown key", 78, "u@name.test", "--set", "TlsLevel=None")
        test("a contradiction", 78, "u@name.test", "--set", "IgnoreSTARTTLS=true")
        test("no such connector", 64, "--connector", "nobody")
        test("nothing asked", 64)
        ledgers, _ = sink.ledgers()
        seen = {name: (entry["clear"], entry["tls"], entry["messages"]) for name, entry in ledgers.items()}
        expect(f"no destination saw a MAIL: {seen}", set(seen.values()) == {(0, 0, 0)})
        expect("and each was visited", all(entry["sessions"] > 0 for entry in ledgers.values()))
    return bad


sys.exit(1 if main() else 0)
