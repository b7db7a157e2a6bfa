#!/usr/bin/env python3
"""DANE against a signed zone and real sockets: what is published, what is shown, and whether the mail
goes. For each deferral the peer has seen no MAIL."""
import smtplib
import subprocess
import sys

from destinations import DAY, NOW, Certificate, Peer, Zones
from posthaste import BUILD, Daemon, Directory, disagreement, free_port, wait_for

PORT = free_port("127.3.0.1")


def cases():
    """name: (records below it, certificate, connector's settings, peer's options, wanted)."""
    root = Certificate(authority=True)
    stranger = Certificate(authority=True)
    trusted = Certificate(authority=True)  # the one in the connectors' TlsTrustAnchors

    def good(name):
        return Certificate([f"mx.{name}.dane", f"{name}.dane"], trusted)

    def self_signed(name):
        return Certificate([f"mx.{name}.dane"])

    def below(name, issuer=root, **dates):
        return Certificate([f"mx.{name}.dane"], issuer, **dates)

    crt = "RequireTLS = true TlsAuthLevel = CertificateValidation"
    table = {
        # Rows of the truth table: row 99, row 100, row 101, row 102, row 103, row 118, row 119, row 120.
        "row99": (lambda c: [c.tlsa(3, 1, 1)], self_signed("row99"), "", {}, "dane"),
        "row100": (lambda c: [stranger.tlsa(3, 1, 1)], good("row100"), "", {}, "dane-mismatch"),
        "row101": (lambda c: [c.tlsa(3, 1, 1)], self_signed("row101"), crt, {}, "cert-self-signed"),
        "row101a": (lambda c: [c.tlsa(3, 1, 1)], self_signed("row101a"), crt + " AcceptDane = true", {}, "dane"),
        "row102": (lambda c: [stranger.tlsa(3, 1, 1)], None, "", {}, "dane-no-tls"),
        "row102a": (lambda c: [c.tlsa(3, 1, 1)], self_signed("row102a"), "", {"starttls": "454 not now"},
                    "dane-no-tls"),
        "row102b": (lambda c: [c.tlsa(3, 1, 1)], self_signed("row102b"), "", {"broken": True}, "dane-no-tls"),
        "row103": (lambda c: [c.tlsa(0, 1, 1), c.tlsa(1, 0, 1)], self_signed("row103"), "", {}, "none"),
        "row103a": (lambda c: [stranger.tlsa(1, 1, 1)], None, "", {}, "dane-no-tls"),
        "row118": (lambda c: [c.tlsa(3, 1, 1)], Certificate(["other.example"], before=NOW - 9 * DAY,
                                                            after=NOW - DAY), "", {}, "dane"),
        "row119": (lambda c: [root.tlsa(2, 0, 1)], below("row119", before=NOW - 9 * DAY, after=NOW - DAY), "", {},
                   "dane-expired"),
        "row119a": (lambda c: [root.tlsa(2, 0, 1)], below("somewhere-else"), "", {}, "dane-host-mismatch"),
        "row119b": (lambda c: [root.tlsa(2, 0, 1)], below("row119b"), "", {}, "dane"),
        "row120": (lambda c: [], good("row120"), "SmtpDaneMode = Mandatory", {}, "dane-required"),
        # Beyond the table.
        "mandatory": (lambda c: [c.tlsa(3, 1, 2)], self_signed("mandatory"), "SmtpDaneMode = Mandatory", {}, "dane"),
        "off": (lambda c: [stranger.tlsa(3, 1, 1)], None, "SmtpDaneMode = None", {}, "none"),
        "none": (lambda c: [], None, "", {}, "none"),
        "agility": (lambda c: [c.tlsa(3, 1, 1), stranger.tlsa(3, 1, 2)], self_signed("agility"), "", {},
                    "dane-mismatch"),
        "rollover": (lambda c: [stranger.tlsa(3, 1, 1), c.tlsa(3, 1, 1)], self_signed("rollover"), "", {}, "dane"),
        "full": (lambda c: [root.tlsa(2, 0, 0)], below("full"), "", {}, "dane"),
        "ignore": (lambda c: [c.tlsa(3, 1, 1)], self_signed("ignore"), "IgnoreSTARTTLS = true", {}, "dane"),
        "future": (lambda c: [root.tlsa(2, 0, 1)], below("future", before=NOW + DAY, after=NOW + 2 * DAY), "", {},
                   "dane-mismatch"),
    }
    return table, trusted


def main():
    table, trusted = cases()
    records, peers, connectors = [], {}, []
    with Directory() as directory:
        anchors = directory.path / "trusted.pem"
        anchors.write_bytes(trusted.pem())
        for i, (name, (published, certificate, settings, options, _)) in enumerate(table.items()):
            address = f"127.3.1.{i + 1}"
            records += [f"{name} MX 10 mx.{name}", f"mx.{name} A {address}"]
            records += [f"_{PORT}._tcp.mx.{name} {line}" for line in published(certificate)]
            path = certificate.write(directory.path / f"{name}.pem") if certificate else None
            peers[name] = Peer(address, PORT, path, **options)
            connectors.append(f'SendConnector "{name}" {{ AddressSpaces = {{"{name}.dane"}} {settings} '
                              f'TlsTrustAnchors = {{"{anchors}"}} }}')
        wanted = {f"{name}.dane": row[4] for name, row in table.items()}

        # An alias: the canonical name's records count, and it is what SNI asks for.
        alias = Certificate(["whatever.example"])
        records += ["alias MX 10 mx.alias", "mx.alias CNAME real.alias", "real.alias A 127.3.2.1",
                    f"_{PORT}._tcp.real.alias {alias.tlsa(3, 1, 1)}"]
        peers["alias"] = Peer("127.3.2.1", PORT, alias.write(directory.path / "alias.pem"))
        wanted["alias.dane"] = "dane"
        # An alias whose own name has the records.
        records += ["alias2 MX 10 mx.alias2", "mx.alias2 CNAME real.alias2", "real.alias2 A 127.3.2.2",
                    f"_{PORT}._tcp.mx.alias2 {alias.tlsa(3, 1, 1)}"]
        peers["alias2"] = Peer("127.3.2.2", PORT, directory.path / "alias.pem")
        wanted["alias2.dane"] = "dane"
        # An alias into an unsigned zone: the alias itself is signed, so its own records count.
        records += ["alias3 MX 10 mx.alias3", "mx.alias3 CNAME mx.plain.unsigned.",
                    f"_{PORT}._tcp.mx.alias3 {trusted.tlsa(3, 1, 1)}"]
        wanted["alias3.dane"] = "dane-mismatch"
        # The TLSA zone is delegated to a server that doesn't answer, or answers unsigned under a DS.
        ds = f"DS 1 13 2 {'ab' * 32}"
        records += ["lost MX 10 mx.lost", "mx.lost A 127.3.2.3", "_tcp.mx.lost NS ns.lost", f"_tcp.mx.lost {ds}",
                    "ns.lost A 127.0.0.1"]
        peers["lost"] = Peer("127.3.2.3", PORT, directory.path / "alias.pem")
        wanted["lost.dane"] = ("dns-failure", "dnssec-bogus")
        # The first host fails DANE, the second one passes.
        records += ["two MX 10 mx.row100", "two MX 20 mx.row99"]
        wanted["two.dane"] = "dane"
        # row 104: the whole zone is forged; or it isn't signed at all.
        forged = ["@ MX 10 mx", "mx A 127.3.2.4"]
        peers["forged"] = Peer("127.3.2.4", PORT, directory.path / "alias.pem")
        wanted["forged"] = "dnssec-bogus"
        plain = ["plain MX 10 mx.plain", "mx.plain A 127.3.2.5",
                 f"_{PORT}._tcp.mx.plain {trusted.tlsa(3, 1, 1)}"]
        peers["plain"] = Peer("127.3.2.5", PORT, directory.path / "alias.pem")
        wanted["plain.unsigned"] = "none"

        zones = Zones(directory, {"dane": {"signed": True, "records": records},
                                  "forged": {"signed": True, "records": forged},
                                  "unsigned": {"signed": False, "records": plain}}, forged=["forged"])
        daemon = Daemon(directory, "\n".join(connectors) + f"""
SendConnector "rest" {{ AddressSpaces = {{"*"}} TlsTrustAnchors = {{"{anchors}"}} }}
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Resolver {{ Port = {PORT} AllowedDestinations = {{"127.0.0.0/8"}} {zones.settings()} }}
""")
        host, port = daemon.listening["in"].split(":")
        with smtplib.SMTP(host, int(port)) as client:
            for domain in wanted:
                client.sendmail("s@sender.dane", [f"u@{domain}"], f"Subject: {domain}\r\n\r\nhello\r\n")

        def concluded():
            return {e["recipient"].split("@")[1]: e for e in daemon.events()
                    if e["event"] in ("delivered", "deferred", "failed")}
        # The forged zone's mail never gets as far as an attempt: its queue says why.
        wanted.pop("forged")
        wait_for(lambda: len(concluded()) == len(wanted), 40, "an outcome for each")
        bad = 0
        queues = subprocess.run([BUILD / "posthaste", "queue", "list", "-c", daemon.config], capture_output=True,
                                text=True).stdout
        if "dnssec-bogus (4.7.324): the MX records of forged fail DNSSEC validation" not in queues:
            bad += 1
            print(f"forged: {queues}")
        assert not peers["forged"].commands
        for domain, event in sorted(concluded().items()):
            delivered = event["event"] == "delivered"
            found, status = event["verified_by"] if delivered else event["reason"], event["status"]
            good = found in wanted[domain] if isinstance(wanted[domain], tuple) else found == wanted[domain]
            name = domain.split(".")[0]
            if not delivered and name in peers:
                good &= not peers[name].mails() and not peers[name].went_on_in_clear()
            if (said := disagreement(daemon, f"u@{domain}", event)) is not None:
                good, event = False, f"test says {said}"
            bad += not good
            print(f"{domain:20} {found:20} {status:10}{'' if good else 'WRONG ' + str(event)}")
        statuses = {event["reason"]: event["status"] for event in concluded().values() if event["event"] == "deferred"}
        for token, status in (("dane-no-tls", "4.7.321"), ("dane-expired", "4.7.322"), ("dane-mismatch", "4.7.323"),
                              ("dnssec-bogus", "4.7.324"), ("dane-host-mismatch", "4.7.325"),
                              ("dane-required", "4.7.5")):
            if statuses.get(token) != status:
                bad += 1
                print(f"{token}: status {statuses.get(token)}, not {status}")
        for name, sni in (("alias", "real.alias.dane"), ("alias2", "mx.alias2.dane"), ("row99", "mx.row99.dane")):
            if set(peers[name].names) != {sni}:
                bad += 1
                print(f"{name}: SNI {peers[name].names}, not {sni}")
        assert not peers["row120"].commands, "a host without DANE was connected to where DANE is a must"
        assert daemon.stop() == 0
        print(f"dane: {len(wanted)} destinations, {bad} wrong")
        return bad


sys.exit(1 if main() else 0)
