#!/usr/bin/env python3
"""What the daemon says of its work, read by a parser of its own: Prometheus' text, the delivery log's
fields, and the sums that must come out even."""
import json
import re
import resource
import smtplib
import socket
import subprocess
import sys
import urllib.error
import urllib.request

from posthaste import BUILD, Daemon, Directory, Sink, free_port, wait_for

SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{([a-z_]+)="((?:[^"\\]|\\.)*)"\})? (-?[0-9.e+]+)$')
OUTCOME = {"time", "event", "id", "recipient", "connector", "rule", "site", "host", "ip", "port", "session",
           "step", "result", "reason", "status", "text", "verified_by", "revocation", "policy", "size",
           "attempts", "queued_ms", "attempt_ms", "ambiguous_resend", "tls", "seq", "chain"}
ATTEMPT = {"time", "event", "id", "recipient", "connector", "rule", "site", "host", "ip", "port", "session",
           "step", "result", "reason", "status", "text", "verified_by", "revocation", "policy", "size",
           "queued_ms", "tls", "seq", "chain"}
STEPS = {"dns", "connect", "banner", "ehlo", "starttls", "handshake", "verify", "auth", "mail"}


def scrape(daemon):
    """Every line must be a comment of a metric that follows, or a sample of one that was announced."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{daemon.http}/metrics").read().decode()
    types, samples = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:4]
            assert name not in types and kind in ("counter", "gauge"), line
            types[name] = kind
        elif not line.startswith("# HELP "):
            match = SAMPLE.match(line)
            assert match, f"not a sample: {line}"
            name, label, value, number = match.groups()
            assert name in types and name.startswith("posthaste_"), line
            assert label in (None, "reason", "kind", "result", "by", "mode"), f"an unbounded label: {line}"
            assert types[name] == "gauge" or name.endswith("_total"), line
            assert (name, value) not in samples, f"twice: {line}"
            samples[name, value] = float(number)
    return samples


def conserved(samples):
    total = {name: samples["posthaste_" + name, None] for name in
             ("accepted_total", "dsn_created_total", "recovered_total", "delivered_total", "failed_total",
              "expired_total", "deleted_total", "quarantined_total", "queued")}
    came = total["accepted_total"] + total["dsn_created_total"] + total["recovered_total"]
    went = sum(total[name] for name in ("delivered_total", "failed_total", "expired_total",
                                        "deleted_total", "quarantined_total", "queued"))
    assert came == went, total
    assert samples["posthaste_queued_in_doubt", None] <= total["queued"]
    assert samples["posthaste_messages_unscheduled", None] == 0, samples
    return total


def status(daemon, path):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{daemon.http}{path}").status
    except urllib.error.HTTPError as error:
        return error.code


def seen_in_a_crowd(daemon):
    """More clients than select() can count: who looks at the daemon is answered all the same."""
    wanted = 1100 # descriptors beyond 1024
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * wanted), hard))
    host, port = daemon.listening["in"].split(":")
    crowd = [socket.create_connection((host, int(port))) for _ in range(wanted)]
    for client in crowd:
        assert client.recv(4) == b"220 "
    samples = scrape(daemon)
    assert samples["posthaste_connections_in", None] >= wanted, samples
    for client in crowd:
        client.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def main():
    port = free_port("127.2.0.1")
    kinds = {"good": "RequireTLS = true TlsAuthLevel = DomainValidation TlsDomain = {\"mx.metrics.test\"}",
             "wrong-name": "RequireTLS = true TlsAuthLevel = DomainValidation TlsDomain = {\"mx.metrics.test\"}",
             "none": "RequireTLS = true", "self-signed": ""}
    sinks, connectors, data = [], [], []
    for i, (kind, settings) in enumerate(kinds.items()):
        address = f"127.2.9.{i + 1}"
        sinks.append(f"{kind} {address}:{port} {kind} host=mx.metrics.test")
        data += [f'"{kind}.test. MX 10 mx.{kind}.test."', f'"mx.{kind}.test. A {address}"']
        connectors.append(f'SendConnector "{kind}" {{ AddressSpaces = {{"{kind}.test"}} {settings}\n'
                          '  TlsTrustAnchors = {"%(dir)s/root.pem"} RevocationCrls = {"%(dir)s/crl.pem"} }')
    with Directory() as directory:
        Sink(directory, sinks)
        daemon = Daemon(directory, "\n".join(connectors) % {"dir": directory.path} + f"""
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{", ".join(data)}}} }}
""")
        assert status(daemon, "/healthz") == 200 and status(daemon, "/readyz") == 200
        assert status(daemon, "/nothing") == 404
        conserved(scrape(daemon))
        host, smtp_port = daemon.listening["in"].split(":")
        with smtplib.SMTP(host, int(smtp_port)) as client:
            client.sendmail("s@metrics", [f"u@{kind}.test" for kind in kinds] + ["x@nowhere.invalid"],
                            "Subject: m\r\n\r\nhello\r\n",
                            mail_options=["ENVID=a+2Bb", "RET=HDRS"])

        def outcomes():
            return {e["recipient"].split("@")[1]: e for e in daemon.events()
                    if e["event"] in ("delivered", "deferred", "failed")}
        wait_for(lambda: len(outcomes()) == len(kinds), what="an outcome for each")
        samples = scrape(daemon)
        total = conserved(samples)
        assert total["accepted_total"] == 5 and total["delivered_total"] == 2 and total["queued"] == 3, total
        assert samples["posthaste_tls_held", None] == 2
        assert samples["posthaste_tls_held_by_reason", "cert-name-mismatch"] == 1
        assert samples["posthaste_tls_held_by_reason", "tls-not-offered"] == 1
        assert samples["posthaste_unreachable", None] == 1
        assert samples["posthaste_refusals_total", "cert-name-mismatch"] == 1
        kinds_sum = sum(samples["posthaste_handshakes_total", kind] for kind in ("full", "chain_cached", "resumed"))
        assert kinds_sum == 3, samples
        assert samples["posthaste_sessions_opened_total", None] == 2
        assert samples["posthaste_spool_group_messages_total", None] >= 1
        assert samples["posthaste_verify_cpu_seconds_total", None] > 0

        events = daemon.events()
        accepted = [e for e in events if e["event"] == "accepted"]
        assert len(accepted) == 1 and accepted[0]["recipients"] == 5 and accepted[0]["envelope_id"] == "a+2Bb", accepted
        for event in events:
            if event["event"] in ("delivered", "deferred"):
                missing = OUTCOME - set(event) - ({"host", "ip", "port", "session", "tls"}
                                                  if event["event"] == "deferred" else set())
                assert not missing, (event["event"], missing)
            elif event["event"] == "attempt":
                assert not ATTEMPT - set(event), (ATTEMPT - set(event), event)
            if "step" in event:
                assert event["step"] in STEPS, event
            if "policy" in event:
                assert {"mode", "level", "names", "dane", "sts", "sources"} <= set(event["policy"]), event
        seen_in_a_crowd(daemon)
        good, wrong = outcomes()["good.test"], outcomes()["wrong-name.test"]
        assert good["tls"]["version"] == "TLS1.3" and good["verified_by"] == "chain+name" and good["reply"] == 250
        assert good["cert"]["names"] == ["mx.metrics.test"] and good["cert_chain"] == "good"
        assert good["revocation"] == "good" and good["envelope_id"] == "a+2Bb"
        assert re.fullmatch("[0-9a-f]{64}", good["cert"]["sha256"])
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT.*Z", good["cert"]["not_after"]), good["cert"]
        assert wrong["reason"] == "cert-name-mismatch" and wrong["policy"]["level"] == "DomainValidation"
        attempt = next(e for e in events if e["event"] == "attempt" and e["reason"] == "cert-name-mismatch")
        assert attempt["cert"]["names"] == ["mx.somebody-else.example"] and attempt["step"] == "verify", attempt
        loose = outcomes()["self-signed.test"]
        assert loose["event"] == "delivered" and loose["verified_by"] == "none"
        assert loose["cert_chain"] == "cert-self-signed", loose # what was seen, although nothing was demanded

        listed = json.loads(subprocess.run([BUILD / "posthaste", "queue", "list", "-c", daemon.config, "--json"],
                                           check=True, capture_output=True, text=True).stdout)
        states = {q["domain"]: q["state"] for q in listed}
        assert states["wrong-name.test"] == "tls-held" and states["nowhere.invalid"] == "unreachable", states
        assert daemon.stop() == 0
        print(f"metrics: {len(samples)} samples, {len(events)} log lines, the sums come out even")
        return 0


sys.exit(main())
