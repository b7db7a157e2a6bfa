#!/usr/bin/env python3
"""Several smart hosts behind one connector, each with an MTA-STS policy of its own (RFC 8461 §3.4): mail goes
by the one whose policy is met, and a host that fails its own gets no envelope."""
import email.utils
import smtplib
import subprocess
import sys

from destinations import Certificate, Peer, PolicyHost, policy
from posthaste import BUILD, Daemon, Directory, disagreement, free_port, wait_for

PORT = free_port("127.5.4.1")

# name: [(what a smart host publishes, what it shows)…], then which may get the mail, or why none does.
CASES = {
    "one-bad": ([("enforce", "self"), (None, "self")], {1}),
    "one-good": ([("enforce", "good"), ("enforce", "self")], {0}),
    "by-name": ([("elsewhere", "good"), ("enforce", "good")], {1}),
    "clear": ([("enforce", "none"), (None, "none")], {1}),
    "testing": ([("testing", "self"), ("testing", "wrong")], {0, 1}),
    "all-bad": ([("enforce", "self"), ("enforce", "wrong")], "sts-cert"),
    "mixed": ([("elsewhere", "good"), ("elsewhere", "good")], "sts-mx-mismatch"),
    "overridden": ([("enforce", "self"), ("enforce", "self")], "sts-cert"),
    # The same hosts behind both names: the stricter of the two counts.
    "shared": ([("enforce", "self"), ("none", "self")], "sts-cert"),
}


def main():
    with Directory() as directory:
        root = Certificate(authority=True)
        (directory.path / "root.pem").write_bytes(root.pem())
        data, connectors, peers, answers = [], [], {}, {}
        for i, (case, (hosts, _)) in enumerate(CASES.items()):
            smart = []
            for j, (publishes, shows) in enumerate(hosts):
                name, address = f"{'ab'[j]}.{case}.lab", f"127.5.4.{i * 2 + j + 1}"
                host = f"mx.{case}.lab" if case == "shared" else name
                smart.append(name)
                data.append(f'"{host}. A {address}"')
                if case == "shared":
                    data.append(f'"{name}. MX 10 {host}."')
                if publishes:
                    data += [f'"_mta-sts.{name}. TXT \'v=STSv1; id=1;\'"'.replace("'", '\\"'),
                             f'"mta-sts.{name}. A 127.5.0.1"']
                    mode = "enforce" if publishes == "elsewhere" else publishes
                    answers[name] = (200, "text/plain", policy(
                        mode, "mx.elsewhere.lab" if publishes == "elsewhere" else host))
                certificate = {"good": Certificate([host], root), "wrong": Certificate(["other.lab"], root),
                               "self": Certificate([host])}.get(shows)
                path = certificate.write(directory.path / f"{name}.pem") if certificate else None
                peers[case, j] = Peer(address, PORT, path)
            connectors.append(f"""SendConnector "{case}" {{ AddressSpaces = {{"{case}.to"}} DNSRoutingEnabled = false
    SmartHosts = {{{", ".join(f'"{name}"' for name in smart)}}} Port = {PORT} RetryTls = {{1h}}
    TlsTrustAnchors = {{"{directory.path}/root.pem"}} }}""")
        host = PolicyHost(Certificate([f"mta-sts.{name}" for name in answers], root)
                          .write(directory.path / "policy.pem"), answers)
        daemon = Daemon(directory, "\n".join(connectors) + f"""
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Resolver {{ Port = {PORT} AllowedDestinations = {{"127.0.0.0/8"}} HttpsPort = {host.port}
    HttpsTrustAnchors = "{directory.path}/root.pem" LocalData = {{{", ".join(data)}}} }}
""")

        def send(recipient, times=1, head=""):
            address, port = daemon.listening["in"].split(":")
            with smtplib.SMTP(address, int(port)) as client:
                for _ in range(times):
                    client.sendmail("s@sender.lab", [recipient],
                                    f"Message-ID: {email.utils.make_msgid()}\r\n{head}Subject: x\r\n\r\nhello\r\n")

        def outcomes(recipient):
            return [e for e in daemon.events() if e.get("recipient") == recipient and
                    e["event"] in ("delivered", "deferred", "failed")]

        for case in CASES:
            send(f"u@{case}.to", 4)
        wait_for(lambda: all(outcomes(f"u@{case}.to") and (
            not isinstance(CASES[case][1], set) or len(outcomes(f"u@{case}.to")) == 4) for case in CASES), 20,
            "an outcome for each")
        for case, (hosts, wanted) in CASES.items():
            found = outcomes(f"u@{case}.to")
            may = wanted if isinstance(wanted, set) else set()
            for j in range(len(hosts)):
                peer = peers[case, j]
                assert j in may or not peer.mails(), (case, j, peer.commands)
                assert hosts[j][1] == "none" or not peer.went_on_in_clear(), (case, j)
            print(f"{case:11} {found[0].get('reason', 'delivered'):16} "
                  f"{[len(peers[case, j].messages) for j in range(len(hosts))]}")
            if may:
                assert all(e["event"] == "delivered" for e in found), found
                assert sum(len(peers[case, j].messages) for j in may) == 4
            else:
                assert {e["reason"] for e in found} == {wanted}, found
            if case not in ("testing", "overridden"):
                assert disagreement(daemon, f"u@{case}.to", found[0]) is None, case
        # The log says by whose policy: that of the smart host that was used.
        event = outcomes("u@one-good.to")[0]
        assert event["policy"]["sts"] == "enforce" and "MTA-STS: a.one-good.lab" in event["policy"]["sources"], event
        assert event["verified_by"] == "chain+name"
        assert outcomes("u@one-bad.to")[0]["policy"]["sts"] == "none"
        # An exception for one of them lets the mail go by that one alone.
        done = subprocess.run([BUILD / "posthaste", "policy", "override", "b.overridden.lab", "--until", "1h", "-c",
                               daemon.config], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        wait_for(lambda: len([e for e in outcomes("u@overridden.to") if e["event"] == "delivered"]) == 4, 10,
                 "the exception")
        assert not peers["overridden", 0].mails() and len(peers["overridden", 1].messages) == 4
        assert "passed over" in str(outcomes("u@overridden.to")[-1]["policy"]["sources"])
        # The sender's own waiver passes all of them over.
        send("w@all-bad.to", 1, "TLS-Required: No\r\n")
        wait_for(lambda: outcomes("w@all-bad.to"), 10, "mail that waives the policies")
        assert outcomes("w@all-bad.to")[0]["event"] == "delivered", outcomes("w@all-bad.to")
        explained = subprocess.run([BUILD / "posthaste", "explain", "u@mixed.to", "-c", daemon.config], check=True,
                                   capture_output=True, text=True).stdout
        assert "of each smart host" in explained, explained
        assert daemon.stop() == 0
        host.close()
        print(f"smart_hosts: {len(CASES)} connectors with two smart hosts each, by each one's own policy")


sys.exit(main())
