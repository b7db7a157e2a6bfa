#!/usr/bin/env python3
"""Each kind of destination against each TLS level: outcome, reason, and that nothing of a message was
said in the clear where TLS is forced. The destinations' own ledgers are the witnesses."""
import sys

from posthaste import Daemon, Directory, Sink, free_port, wait_for

KINDS = ["none", "refused", "broken", "self-signed", "untrusted", "expired", "revoked", "wrong-name", "good"]
LEVELS = {
    "opportunistic": "",
    "requiretls": "RequireTLS = true",
    "encryption": "RequireTLS = true TlsAuthLevel = EncryptionOnly",
    "certificate": "RequireTLS = true TlsAuthLevel = CertificateValidation",
    "domain": 'RequireTLS = true TlsAuthLevel = DomainValidation TlsDomain = {"mx.levels.test"}',
}
FORCED = {"none": "tls-not-offered", "refused": "starttls-refused", "broken": "tls-handshake-failed"}
CHAIN = {"self-signed": "cert-self-signed", "untrusted": "cert-untrusted-root",
         "expired": "cert-expired", "revoked": "cert-revoked"}


def wanted(kind, level):
    """None: delivered; else the reason."""
    if level == "opportunistic":
        return None
    if kind in FORCED:
        return FORCED[kind]
    if level in ("certificate", "domain") and kind in CHAIN:
        return CHAIN[kind]
    if level == "domain" and kind == "wrong-name":
        return "cert-name-mismatch"
    return None


def main():
    port = free_port("127.2.0.1")
    sinks, connectors, data, cases = [], [], [], []
    for i, kind in enumerate(KINDS):
        for j, (level, settings) in enumerate(LEVELS.items()):
            name, domain, address = f"{kind}-{level}", f"{kind}.{level}.levels", f"127.2.{i}.{j + 1}"
            sinks.append(f"{name} {address}:{port} {kind} host=mx.levels.test")
            data += [f'"{domain}. MX 10 mx.{domain}."', f'"mx.{domain}. A {address}"']
            connectors.append(f'SendConnector "{name}" {{ AddressSpaces = {{"{domain}"}} {settings}\n'
                              '  TlsTrustAnchors = {"%(dir)s/root.pem"} RevocationCrls = {"%(dir)s/crl.pem"} }')
            cases.append((kind, level, name, domain))
    with Directory() as directory:
        sink = Sink(directory, sinks)
        daemon = Daemon(directory, "\n".join(connectors) % {"dir": directory.path} + f"""
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{", ".join(data)}}} }}
""")
        import smtplib
        host, smtp_port = daemon.listening["in"].split(":")
        with smtplib.SMTP(host, int(smtp_port)) as client:
            for _, _, name, domain in cases:
                client.sendmail("s@levels", [f"u@{domain}"], f"Subject: {name}\r\n\r\nhello\r\n")

        def concluded():
            return {e["recipient"].split("@")[1]: e for e in daemon.events()
                    if e["event"] in ("delivered", "deferred", "failed")}
        wait_for(lambda: len(concluded()) == len(cases), what="an outcome for each")
        events = concluded()
        assert daemon.stop() == 0
        ledgers, _ = sink.ledgers()
        bad = 0
        print(f"{'':14}" + "".join(f"{level:22}" for level in LEVELS))
        for kind in KINDS:
            cells = []
            for level in LEVELS:
                name, event = f"{kind}-{level}", events[f"{kind}.{level}.levels"]
                ledger, reason = ledgers[name], wanted(kind, level)
                found = None if event["event"] == "delivered" else event["reason"]
                good = found == reason
                good &= ledger["messages"] == (1 if reason is None else 0)
                if level != "opportunistic":
                    good &= ledger["clear"] == 0
                if reason is not None:
                    good &= ledger["clear"] == 0 and ledger["tls"] == 0
                bad += not good
                how = "TLS" if ledger["tls"] else "PLAIN"
                cells.append(f"{(how if found is None else found) + ('' if good else ' WRONG'):22}")
            print(f"{kind:14}" + "".join(cells))
        print(f"levels: {len(cases) - bad} of {len(cases)} as wanted")
        return bad


sys.exit(1 if main() else 0)
