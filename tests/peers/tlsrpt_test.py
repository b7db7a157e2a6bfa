#!/usr/bin/env python3
"""TLS reports (RFC 8460): what sessions came to, told by mail and by HTTPS to who asked for it. Each report is
checked field by field against RFC 8460 section 4.4 by a parser of this test's own."""
import base64
import datetime
import email
import gzip
import http.server
import ipaddress
import json
import re
import smtplib
import ssl
import sys
import threading
import time

from destinations import Certificate, Peer
from posthaste import Daemon, Directory, free_port, wait_for

PORT = free_port("127.6.0.1")
RESULTS = {"starttls-not-supported", "certificate-host-mismatch", "certificate-expired", "certificate-not-trusted",
           "validation-failure", "tlsa-invalid", "dnssec-invalid", "dane-required", "sts-policy-fetch-error",
           "sts-policy-invalid", "sts-webpki-invalid"}


def only(name, value, keys, optional=()):
    assert isinstance(value, dict), f"{name} is no object"
    assert set(keys) <= set(value) <= set(keys) | set(optional), f"{name}: {sorted(value)}"


def parse_report(text):
    """RFC 8460 4.4, strictly: unknown members, wrong types and sums that don't add up are refused."""
    report = json.loads(text, object_pairs_hook=lambda pairs: (
        dict(pairs) if len({k for k, _ in pairs}) == len(pairs) else {"": "a member stands twice"}))
    only("report", report, ["organization-name", "date-range", "contact-info", "report-id", "policies"])
    for key in ("organization-name", "contact-info", "report-id"):
        assert isinstance(report[key], str) and report[key]
    only("date-range", report["date-range"], ["start-datetime", "end-datetime"])
    times = []
    for key in ("start-datetime", "end-datetime"):
        value = report["date-range"][key]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value), value
        times.append(datetime.datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ"))
    assert times[0] < times[1]
    assert isinstance(report["policies"], list) and report["policies"]
    for item in report["policies"]:
        only("policies", item, ["policy", "summary"], ["failure-details"])
        policy, summary, details = item["policy"], item["summary"], item.get("failure-details", [])
        only("policy", policy, ["policy-type", "policy-domain"], ["policy-string", "mx-host"])
        assert policy["policy-type"] in ("tlsa", "sts", "no-policy-found")
        for key in ("policy-string", "mx-host"):
            assert isinstance(policy.get(key, []), list) and all(isinstance(s, str) for s in policy.get(key, []))
        if policy["policy-type"] == "tlsa":
            assert all(re.fullmatch(r"[23] [01] [012] ([0-9A-F]{2})+", s) for s in policy["policy-string"])
        elif policy["policy-type"] == "sts":
            assert "policy-string" not in policy or policy["policy-string"][0] == "version: STSv1"
        else:
            assert "policy-string" not in policy and "mx-host" not in policy
        only("summary", summary, ["total-successful-session-count", "total-failure-session-count"])
        assert all(type(count) is int and count >= 0 for count in summary.values())
        failed = 0
        for detail in details:
            only("failure-details", detail, ["result-type", "failed-session-count"],
                 ["sending-mta-ip", "receiving-mx-hostname", "receiving-mx-helo", "receiving-ip",
                  "additional-information", "failure-reason-code"])
            assert detail["result-type"] in RESULTS, detail
            assert type(detail["failed-session-count"]) is int and detail["failed-session-count"] > 0
            for key in ("sending-mta-ip", "receiving-ip"):
                if key in detail:
                    ipaddress.ip_address(detail[key])
            failed += detail["failed-session-count"]
        assert failed == summary["total-failure-session-count"], (failed, summary)
    return report


def read_mail(raw):
    """The report in a mail, its form checked against RFC 8460 section 5.3."""
    message = email.message_from_bytes(raw)
    assert message.get_content_type() == "multipart/report" and message.get_param("report-type") == "tlsrpt"
    domain, submitter = message["TLS-Report-Domain"], message["TLS-Report-Submitter"]
    subject = re.sub(r"\s+", " ", message["Subject"])
    assert re.fullmatch(rf"Report Domain: {domain} Submitter: {submitter} Report-ID: <\S+@\S+>", subject), subject
    assert message["TLS-Required"] == "No" and message["Message-ID"] and message["Date"]
    text, attached = message.get_payload()
    assert text.get_content_type() == "text/plain"
    assert attached.get_content_type() == "application/tlsrpt+gzip"
    name = attached.get_filename().split("!")
    assert name[0] == submitter and name[1] == domain and name[3].endswith(".json.gz"), name
    report = parse_report(gzip.decompress(base64.b64decode(attached.get_payload())))
    start = datetime.datetime.strptime(report["date-range"]["start-datetime"], "%Y-%m-%dT%H:%M:%SZ")
    assert int(name[2]) == int(start.replace(tzinfo=datetime.timezone.utc).timestamp())
    return domain, report


class Collector:
    """https: a policy for testing.lab, and a place where reports are posted."""

    def __init__(self, certificate):
        self.posts, collector = [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                text = "version: STSv1\nmode: testing\nmx: *.testing.lab\nmax_age: 86400\n"
                self.answer(200 if self.headers["Host"].startswith("mta-sts.testing.lab") else 404, text)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Type"] == "application/tlsrpt+gzip" and self.path == "/v1/tlsrpt"
                collector.posts.append(parse_report(gzip.decompress(body)))
                self.answer(201, "")

            def answer(self, status, text):
                self.send_response(status)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.6.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = self.server.server_address[1]


def main():
    with Directory() as directory:
        root = Certificate(authority=True)
        (directory.path / "root.pem").write_bytes(root.pem())
        collector = Collector(Certificate(["mta-sts.testing.lab", "mta-sts.broken.lab", "tlsrpt.reports.lab"], root)
                              .write(directory.path / "https.pem"))
        mail, post = "mailto:tls@reports.lab", "https://tlsrpt.reports.lab/v1/tlsrpt"
        # name: (shows TLS?, who wants reports, connector's settings)
        domains = {"good": (True, mail, ""), "plain": (False, post, ""), "testing": (True, f"{mail},{post}", ""),
                   "dane": (True, "mailto:tls@dane.lab", ""),  # itself, whose TLS fails
                   "broken": (True, mail, ""),                 # an MTA-STS record, and no policy behind it
                   "private": (True, mail, "RequireTLS = true TlsAuthLevel = CertificateValidation"),
                   "off": (True, mail, "TlsReporting = off"), "silent": (True, None, ""),
                   "reports": (True, mail, "")}
        data, peers, connectors = ['"tlsrpt.reports.lab. A 127.6.0.1"'], {}, []
        for i, (name, (tls, rua, settings)) in enumerate(domains.items()):
            address = f"127.6.1.{i + 1}"
            certificate = Certificate([f"mx.{name}.lab"])
            peers[name] = Peer(address, PORT, certificate.write(directory.path / f"{name}.pem") if tls else None)
            data += [f'"{name}.lab. MX 10 mx.{name}.lab."', f'"mx.{name}.lab. A {address}"']
            if rua:
                data.append(f'"_smtp._tls.{name}.lab. TXT \\"v=TLSRPTv1; rua={rua}\\""')
            if name in ("testing", "broken"):
                data += [f'"_mta-sts.{name}.lab. TXT \\"v=STSv1; id=1;\\""', f'"mta-sts.{name}.lab. A 127.6.0.1"']
            connectors.append(f'SendConnector "{name}" {{ AddressSpaces = {{"{name}.lab"}} {settings} SourceIPAddress = '
                              f'{{"127.6.9.9"}}\n  TlsTrustAnchors = {{"{directory.path}/root.pem"}} }}')
        data.append(f'"_{PORT}._tcp.mx.dane.lab. TLSA 3 1 1 {"ab" * 32}"')
        daemon = Daemon(directory, "TlsReportInterval = 3s\n" + "\n".join(connectors) + f"""
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Resolver {{ Port = {PORT} AllowedDestinations = {{"127.0.0.0/8"}} HttpsPort = {collector.port}
    HttpsTrustAnchors = "{directory.path}/root.pem" LocalData = {{{", ".join(data)}}} }}
""")
        address, port = daemon.listening["in"].split(":")
        with smtplib.SMTP(address, int(port)) as client:
            for name in domains:
                if name != "reports":
                    client.sendmail("s@sender.lab", [f"u@{name}.lab"], f"Subject: {name}\r\n\r\nhello\r\n")

        def reports():
            found = [read_mail(raw) for peer in ("reports", "dane") for raw in peers[peer].messages]
            return found + [(r["policies"][0]["policy"]["policy-domain"], r) for r in collector.posts]
        wanted = {"good.lab", "plain.lab", "testing.lab", "dane.lab", "broken.lab", "private.lab"}
        wait_for(lambda: {d for d, _ in reports()} >= wanted and
                 len([d for d, _ in reports() if d == "testing.lab"]) >= 2, 20, "a report for each")
        # Two periods more: reports themselves make no report.
        marks = len(reports())
        time.sleep(6.5)
        assert len(reports()) == marks, [d for d, _ in reports()]
        assert {d for d, _ in reports()} == wanted

        sums = {}
        for domain, report in reports():
            assert report["organization-name"] == "out.posthaste.test"
            for item in report["policies"]:
                policy = item["policy"]
                assert policy["policy-domain"] == domain
                entry = sums.setdefault((domain, policy["policy-type"]), [0, 0, set(), policy])
                entry[0] += item["summary"]["total-successful-session-count"]
                entry[1] += item["summary"]["total-failure-session-count"]
                for detail in item.get("failure-details", []):
                    if detail["result-type"] != "sts-policy-fetch-error":
                        assert detail["sending-mta-ip"] == "127.6.9.9" and detail["receiving-ip"].startswith("127.6.1.")
                        assert detail["receiving-mx-hostname"] == f"mx.{domain}"
                    entry[2].add((detail["result-type"], detail["failure-reason-code"]))
        expected = {("good.lab", "no-policy-found"): (1, 0, set()),
                    ("plain.lab", "no-policy-found"): (0, 1, {("starttls-not-supported", "tls-not-offered")}),
                    ("testing.lab", "sts"): (0, 2, {("certificate-not-trusted", "cert-self-signed")}),  # told twice
                    ("dane.lab", "tlsa"): (0, 1, {("tlsa-invalid", "dane-mismatch")}),
                    ("broken.lab", "sts"): (0, 1, {("sts-policy-fetch-error", "sts-policy")}),
                    ("broken.lab", "no-policy-found"): (1, 0, set()),
                    # Its connector refused the certificate: that is nobody's business but ours.
                    ("private.lab", "no-policy-found"): (1, 0, set())}
        bad = 0
        for key in sorted(set(expected) | set(sums)):
            found = tuple(sums[key][:3]) if key in sums else None
            bad += found != expected.get(key)
            print(f"{key[0]:14} {key[1]:16} {found}{'' if found == expected.get(key) else f' WRONG, not {expected.get(key)}'}")
        assert sums["testing.lab", "sts"][3]["mx-host"] == ["*.testing.lab"]
        assert sums["testing.lab", "sts"][3]["policy-string"][1] == "mode: testing"
        assert sums["dane.lab", "tlsa"][3]["policy-string"] == ["3 1 1 " + "AB" * 32]
        assert all("FROM:<>" in m for m in peers["reports"].mails())
        assert peers["dane"].messages, "a report of the failure of TLS must not fail by it"
        assert daemon.stop() == 0
        print(f"tlsrpt: {len(reports())} reports, {bad} entries wrong")
        return bad


sys.exit(1 if main() else 0)
