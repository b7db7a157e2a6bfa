#!/usr/bin/env python3
"""MTA-STS against a policy host of our own: what the policy says, what hosts show, whether mail goes; what
is remembered over a restart, and fetched again when the published id changes."""
import json
import smtplib
import subprocess
import sys

from destinations import Certificate, Peer, PolicyHost, policy
from posthaste import BUILD, Daemon, Directory, disagreement, free_port, wait_for

PORT = free_port("127.5.0.1")


def main():
    with Directory() as directory:
        root = Certificate(authority=True)
        (directory.path / "root.pem").write_bytes(root.pem())
        plain = "text/plain; charset=utf-8"
        # Rows of the truth table: row 97 (untrusted, othermx), row 98 (testing), row 121 (behind).
        # domain: (answer of the policy host, what the MX host shows, connector's settings, wanted)
        cases = {
            "enforced": ((200, plain, policy("enforce", "mx.enforced.lab")), "good", "", "chain+name"),
            "wild": ((200, plain, policy("enforce", "*.wild.lab")), "good", "", "chain+name"),
            "untrusted": ((200, plain, policy("enforce", "mx.untrusted.lab")), "self", "", "sts-cert"),
            "wrongname": ((200, plain, policy("enforce", "mx.wrongname.lab")), "wrong", "", "sts-cert"),
            "othermx": ((200, plain, policy("enforce", "mx.elsewhere.lab")), "good", "", "sts-mx-mismatch"),
            "notls": ((200, plain, policy("enforce", "mx.notls.lab")), "none", "", "tls-not-offered"),
            "testing": ((200, plain, policy("testing", "mx.testing.lab")), "self", "", "none"),
            "nomode": ((200, plain, policy("none")), "self", "", "none"),
            # No policy can be had, and none is remembered (RFC 8461 §3.3).
            "missing": ((404, plain, "no"), "self", "", "none"),
            "moved": ((302, plain, "no"), "self", "", "none"),
            "html": ((200, "text/html", policy("enforce", "mx.html.lab")), "self", "", "none"),
            "nonsense": ((200, plain, "version: STSv1\nmode: enforce\n"), "self", "", "none"),
            "huge": ((200, plain, policy("enforce", "mx.huge.lab") + "x: " + "y" * 70000), "self", "", "none"),
            "badhost": ((200, plain, policy("enforce", "mx.badhost.lab")), "self", "", "none"),
            # An administrator's word.
            "ignored": ((200, plain, policy("enforce", "mx.ignored.lab")), "self", "MtaStsMode = None", "none"),
            # DANE stands above it.
            "dane": ((200, plain, policy("enforce", "mx.elsewhere.lab")), "self", "", "dane"),
            # The second host is named.
            "second": ((200, plain, policy("enforce", "mx2.second.lab")), "good", "", "chain+name"),
            # Behind a smart host only the smart host's policy counts.
            "behind": ((200, plain, policy("enforce", "mx.elsewhere.lab")), None, "relay", "sts-cert"),
            "relay": ((200, plain, policy("enforce", "mx.relay.lab")), "self", None, None),
        }
        data, connectors, peers, names = [], [], {}, []
        for i, (name, (_, shows, settings, _)) in enumerate(cases.items()):
            domain, address = f"{name}.lab", f"127.5.1.{i + 1}"
            data += [f'"{domain}. MX 10 mx.{domain}."', f'"mx.{domain}. A {address}"',
                     f'"_mta-sts.{domain}. TXT \'v=STSv1; id=1;\'"'.replace("'", '\\"'),
                     f'"mta-sts.{domain}. A 127.5.0.1"']
            if name != "badhost":
                names.append(f"mta-sts.{domain}")
            certificate = {"good": Certificate([f"mx.{domain}", f"mx2.{domain}"], root),
                           "wrong": Certificate([domain], root),
                           "self": Certificate([f"mx.{domain}"])}.get(shows)
            path = certificate.write(directory.path / f"{name}.pem") if certificate else None
            if shows is not None:
                peers[name] = Peer(address, PORT, path)
            if name == "dane":
                data.append(f'"_{PORT}._tcp.mx.{domain}. {certificate.tlsa(3, 1, 1)}"')
            if name == "second":
                data += [f'"{domain}. MX 20 mx2.{domain}."', f'"mx2.{domain}. A 127.5.2.1"']
                peers["second2"] = Peer("127.5.2.1", PORT, path)
            if settings == "relay":
                settings = f'DNSRoutingEnabled = false SmartHosts = {{"relay.lab"}} Port = {PORT}'
            if settings is not None:
                connectors.append(f'SendConnector "{name}" {{ AddressSpaces = {{"{domain}"}} {settings}\n'
                                  f'  TlsTrustAnchors = {{"{directory.path}/root.pem"}} }}')
        data += ['"strict.lab. MX 10 mx.untrusted.lab."']
        connectors.append('SendConnector "strict" { AddressSpaces = {"strict.lab"} RequireTLS = true '
                          f'TlsAuthLevel = CertificateValidation TlsTrustAnchors = {{"{directory.path}/root.pem"}} }}')
        host = PolicyHost(Certificate(names, root).write(directory.path / "policy.pem"),
                          {f"{name}.lab": case[0] for name, case in cases.items()})
        config = "\n".join(connectors) + f"""
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Resolver {{ Port = {PORT} AllowedDestinations = {{"127.0.0.0/8"}} HttpsPort = {host.port}
    HttpsTrustAnchors = "{directory.path}/root.pem" LocalData = {{{", ".join(data)}}} }}
"""
        daemon = Daemon(directory, config)

        def send(recipients):
            address, port = daemon.listening["in"].split(":")
            with smtplib.SMTP(address, int(port)) as client:
                for recipient in recipients:
                    client.sendmail("s@sender.lab", [recipient], f"Subject: {recipient}\r\n\r\nhello\r\n")

        def outcome(recipient):
            events = [e for e in daemon.events() if e.get("recipient") == recipient and
                      e["event"] in ("delivered", "deferred", "failed")]
            return events[-1] if events else None

        def found(recipient):
            event = outcome(recipient)
            return event["verified_by"] if event["event"] == "delivered" else event["reason"]

        wanted = {f"u@{name}.lab": case[3] for name, case in cases.items() if case[3]}
        send(wanted)
        wait_for(lambda: all(map(outcome, wanted)), 40, "an outcome for each")
        asked = list(host.asked)  # before `test` asks by itself
        bad = 0
        for recipient, expected in wanted.items():
            good = found(recipient) == expected
            name = recipient[2:-4]
            if outcome(recipient)["event"] != "delivered" and name in peers:
                good &= not peers[name].mails() and not peers[name].went_on_in_clear()
            good &= disagreement(daemon, recipient, outcome(recipient)) is None
            bad += not good
            print(f"{recipient:18} {found(recipient):18} {outcome(recipient)['status']:8}"
                  f"{'' if good else 'WRONG ' + str(outcome(recipient))}")
        assert outcome("u@othermx.lab")["status"] == "4.4.8" and outcome("u@untrusted.lab")["status"] == "4.7.5"
        assert not peers["othermx"].commands and not peers["second"].commands, "a host that no policy names was met"
        assert peers["second2"].mails()
        assert "behind.lab" not in asked and "relay.lab" in asked, asked
        assert "ignored.lab" not in asked
        assert asked.count("enforced.lab") == 1, "a redirect was followed, or a policy fetched twice"

        # An administrator looks, makes an exception, and ends it.
        def command(*words):
            return subprocess.run([BUILD / "posthaste", "policy", *words, "-c", daemon.config], capture_output=True,
                                  text=True)
        shown = command("show", "dane.lab").stdout
        assert "signed (DNSSEC)" in shown and "DANE: published" in shown and "TLSA 3 1 1" in shown, shown
        assert "MTA-STS: published, id 1" in shown and "mode enforce, id 1" in shown, shown
        shown = json.loads(command("show", "untrusted.lab", "--json").stdout)
        assert shown["remembered"][0]["mta_sts"]["mode"] == "enforce" and shown["hosts"][0]["dane"] == "none", shown
        assert "404" in command("show", "missing.lab").stdout or "200" in command("show", "missing.lab").stdout
        for words in (["override", "untrusted.lab"], ["override", "untrusted.lab", "--until", "yesterday"],
                      ["override", "untrusted.lab", "--until", "2020-01-01"], ["show"],
                      ["override", "untrusted.lab", "--until", "2099-01-01"], ["refresh", "no domain"]):
            assert command(*words).returncode == 64, words
        assert "OVERRIDDEN" in command("override", "untrusted.lab", "--until", "1h").stdout
        wait_for(lambda: outcome("u@untrusted.lab")["event"] == "delivered", 10, "the exception")
        assert "passed over" in str(outcome("u@untrusted.lab")["policy"]["sources"])
        assert "policy override: what untrusted.lab publishes" in (directory.path / "errors").read_text()
        # Never for a connector: its own demand stands.
        assert command("override", "othermx.lab", "--until", "1h").returncode == 0
        wait_for(lambda: outcome("u@othermx.lab")["event"] == "delivered", 10, "the exception")
        assert command("override", "othermx.lab", "--until", "now").returncode == 0
        assert command("override", "strict.lab", "--until", "1h").returncode == 0
        send(["u@strict.lab"])
        wait_for(lambda: outcome("u@strict.lab"), 10, "a connector's own demand")
        assert found("u@strict.lab") == "cert-self-signed"
        # It lasts over a restart, and ends.
        assert daemon.stop() == 0
        daemon.start()
        assert "OVERRIDDEN" in command("show", "untrusted.lab").stdout
        before = len(daemon.events())
        assert "OVERRIDDEN" not in command("override", "untrusted.lab", "--until", "now").stdout
        send(["again@untrusted.lab"])
        wait_for(lambda: outcome("again@untrusted.lab"), 10, "the end of the exception")
        assert found("again@untrusted.lab") == "sts-cert"
        # Fetched again at his wish: the queue that waited for it goes.
        host.answers["untrusted.lab"] = (200, plain, policy("testing", "mx.untrusted.lab"))
        assert command("refresh", "untrusted.lab").returncode == 0
        wait_for(lambda: outcome("again@untrusted.lab")["event"] == "delivered", 10, "the refreshed policy")
        host.answers["untrusted.lab"] = (200, plain, policy("enforce", "mx.untrusted.lab"))
        assert command("refresh", "untrusted.lab").returncode == 0
        wait_for(lambda: "mode enforce" in command("show", "untrusted.lab").stdout, 10, "the refreshed policy")

        def judged(after):
            """What became of mail for untrusted.lab since then: the first in its queue speaks for all."""
            return [e["reason"] if e["event"] == "deferred" else e["event"] for e in daemon.events()[after:]
                    if e.get("recipient", "").endswith("@untrusted.lab") and e["event"] in ("deferred", "delivered")]

        # Remembered: the policy host is gone and the daemon starts anew.
        assert daemon.stop() == 0
        host.close()
        before = len(daemon.events())
        daemon.start()
        send(["v@untrusted.lab", "v@enforced.lab", "v@missing.lab"])
        wait_for(lambda: judged(before) and all(map(outcome, ["v@enforced.lab", "v@missing.lab"])), 40, "memory")
        assert set(judged(before)) == {"sts-cert"}, judged(before)
        assert found("v@enforced.lab") == "chain+name" and found("v@missing.lab") == "none"
        assert daemon.stop() == 0

        # A new id with a host that doesn't answer leaves the old policy; with one that does, the new one counts.
        daemon.config.write_text(daemon.config.read_text().replace(
            '"_mta-sts.untrusted.lab. TXT \\"v=STSv1; id=1', '"_mta-sts.untrusted.lab. TXT \\"v=STSv1; id=2'))
        before = len(daemon.events())
        daemon.start()
        send(["w@untrusted.lab"])
        wait_for(lambda: judged(before), 20, "the old policy")
        assert set(judged(before)) == {"sts-cert"}, judged(before)
        assert daemon.stop() == 0
        host = PolicyHost(directory.path / "policy.pem",
                          {"untrusted.lab": (200, plain, policy("testing", "mx.untrusted.lab"))})
        text = daemon.config.read_text()
        daemon.config.write_text(text.replace(text.split("HttpsPort = ")[1].split()[0], str(host.port)))
        before = len(daemon.events())
        daemon.start()
        send(["x@untrusted.lab"])
        wait_for(lambda: outcome("x@untrusted.lab"), 20, "the new policy")
        assert "delivered" in judged(before) and "sts-cert" not in judged(before), judged(before)
        assert host.asked == ["untrusted.lab"], host.asked
        assert daemon.stop() == 0
        print(f"mta_sts: {len(wanted)} destinations, {bad} wrong; remembered over restarts")
        return bad


sys.exit(1 if main() else 0)
