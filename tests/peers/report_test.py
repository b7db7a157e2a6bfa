#!/usr/bin/env python3
"""Mode = report delivers by its floor and records what the full setting would have done; a rehearsal of the
full setting over that record says the same as delivery under it then does; and the record itself shows it
when somebody alters it."""
import json
import smtplib
import subprocess
import sys

from posthaste import BUILD, Daemon, Directory, Sink, free_port, wait_for

KINDS = {"none": "tls-not-offered", "refused": "starttls-refused", "broken": "tls-handshake-failed",
         "self-signed": "cert-self-signed", "untrusted": "cert-untrusted-root", "expired": "cert-expired",
         "revoked": "cert-revoked", "wrong-name": "cert-name-mismatch", "good": None}


def run(*command):
    return subprocess.run([BUILD / "posthaste", *command], capture_output=True, text=True)


def main():
    port = free_port("127.2.6.1")
    sinks, data = [], []
    for i, kind in enumerate(KINDS):
        sinks.append(f"{kind} 127.2.6.{i + 1}:{port} {kind} host=mx.report.test")
        data += [f'"{kind}.test. MX 10 mx.{kind}.test."', f'"mx.{kind}.test. A 127.2.6.{i + 1}"']

    def config(mode, directory):
        return f"""
SendConnector "partner" {{ AddressSpaces = {{"*"}} RequireTLS = true TlsAuthLevel = DomainValidation
  TlsDomain = {{"mx.report.test"}} {mode} TlsTrustAnchors = {{"{directory.path}/root.pem"}}
  RevocationCrls = {{"{directory.path}/crl.pem"}} }}
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{", ".join(data)}}} }}
"""
    with Directory() as directory:
        sink = Sink(directory, sinks)
        daemon = Daemon(directory, config("Mode = report", directory))
        assert "W14 Mode: report" in daemon.said(), daemon.said()

        def send():
            host, smtp_port = daemon.listening["in"].split(":")
            with smtplib.SMTP(host, int(smtp_port)) as client:
                for kind in KINDS:
                    client.sendmail("s@report", [f"u@{kind}.test"], "Subject: r\r\n\r\nhello\r\n")

        def last(event):
            return {e["recipient"][2:-5]: e for e in daemon.events() if e["event"] == event}
        send()
        wait_for(lambda: len(last("delivered")) == len(KINDS), what="every delivery, by the floor")
        for kind, reason in KINDS.items():
            event = last("delivered")[kind]
            assert event["policy"]["mode"] == "report" and event["policy"]["enforced"] == "Opportunistic", event
            would = event.get("would_defer", {}).get("reason")
            assert would == reason, (kind, would, reason)
        metrics = daemon.metrics()
        assert metrics["posthaste_report_messages_total"] == len(KINDS)
        assert metrics['posthaste_would_defer_total{reason="cert-name-mismatch"}'] == 1
        summary = run("log", "report", daemon.log).stdout
        assert f"would have deferred {len(KINDS) - 1} of {len(KINDS)} deliveries" in summary, summary
        assert "cert-expired at mx.expired.test" in summary, summary
        assert json.loads(run("log", "report", daemon.log, "--json").stdout)[0]["would_defer"] == len(KINDS) - 1

        enforce = directory.path / "enforce.conf"
        enforce.write_text(daemon.head + config("", directory))
        done = run("rehearse", "-c", enforce, daemon.log, "--json")
        assert done.returncode == 1, done
        rehearsed = {c["domain"][:-5]: c["reason"] for c in json.loads(done.stdout)["changes"]}
        assert set(rehearsed) == {kind for kind, reason in KINDS.items() if reason}, rehearsed
        assert run("rehearse", "-c", daemon.config, daemon.log).returncode == 0 # the one in force changes nothing
        assert run("rehearse", "-c", enforce, "/nowhere.jsonl").returncode == 66

        generation = metrics["posthaste_config_generation"]
        daemon.reload(config("", directory))
        wait_for(lambda: daemon.metrics()["posthaste_config_generation"] > generation, what="the reload")
        send()
        wait_for(lambda: len(last("deferred")) == len(KINDS) - 1, what="what is deferred under the full setting")
        for kind, event in last("deferred").items():
            assert event["reason"] == KINDS[kind], event
            assert rehearsed[kind] == KINDS[kind], (kind, rehearsed[kind])
        loose = directory.path / "loose.conf"
        loose.write_text(daemon.head + config("", directory).replace("RequireTLS = true TlsAuthLevel = "
                                                                     "DomainValidation", ""))
        done = run("rehearse", "-c", loose, daemon.log)
        assert done.returncode == 0 and done.stdout.count("would no longer be deferred") == len(KINDS) - 1, done
        assert daemon.stop() == 0
        sink.ledgers()
        return alter(directory, daemon.log.read_text().splitlines(keepends=True))


def alter(directory, lines):
    path = directory.path / "copy.jsonl"

    def verify(altered, *more):
        path.write_text("".join(altered))
        return run("log", "verify", path, *more)
    whole = verify(lines)
    assert whole.returncode == 0 and "0 problems" in whole.stdout, whole
    middle = len(lines) // 2
    for what, altered in {
            "altered": lines[:middle] + [lines[middle].replace('"event":"', '"event":"x', 1)] + lines[middle + 1:],
            "a gap": None,
            "ends within": lines[:-1] + [lines[-1][:-20]],
            "no line": lines[:middle] + ["{}\n"] + lines[middle:],
            "out of order": lines + [lines[0]]}.items():
        if altered is None: # the middle one of a chain, so that one is left before and one behind it
            worker = lines[middle].split('"seq":"')[1].split(".")[1]
            own = [i for i, line in enumerate(lines) if line.split('"seq":"')[1].split(".")[1] == worker]
            taken = own[len(own) // 2]
            altered = lines[:taken] + lines[taken + 1:]
        done = verify(altered)
        assert done.returncode == 1 and what in done.stdout, (what, done.stdout)
        assert json.loads(verify(altered, "--json").stdout)["problem_count"] >= 1
    assert verify(lines[middle:]).returncode == 0 # a file that begins in the middle of its chains
    halves = [directory.path / name for name in ("first.jsonl", "second.jsonl")]
    halves[0].write_text("".join(lines[:middle]))
    halves[1].write_text("".join(lines[middle:]))
    assert run("log", "verify", *halves).returncode == 0
    halves[1].write_text("".join(lines[middle + 1:]))
    assert run("log", "verify", *halves).returncode == 1
    print(f"report: {len(lines)} lines; what was rehearsed is what was then deferred; 5 alterations found")
    return 0


sys.exit(main())
