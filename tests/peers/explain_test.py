#!/usr/bin/env python3
"""`explain`: which connector carries a recipient and why each other one lost, under which policy and limits."""
import json
import subprocess
import sys

from posthaste import BUILD, Directory

CONFIG = """
SendConnector "internet" { AddressSpaces = {"*"} }
SendConnector "cheap" { AddressSpaces = {"tie.test;1"} }
SendConnector "dear" { AddressSpaces = {"tie.test;2"} }
SendConnector "tie-a" { AddressSpaces = {"same.test"} }
SendConnector "tie-b" { AddressSpaces = {"same.test"} }
SendConnector "off" { AddressSpaces = {"off.test"} Enabled = false }
SendConnector "held" { AddressSpaces = {"held.test"} Enabled = false HoldWhenDisabled = true }
SendConnector "small" { AddressSpaces = {"*.contoso.test"} MaxMessageSize = 10MB RequireTLS = true
  TlsAuthLevel = DomainValidation TlsDomain = {"*.contoso.test"} }
SendConnector "relay" { AddressSpaces = {"*.inside.test"} DNSRoutingEnabled = false SmartHosts = {"relay.big.test"} Port = 587 }
SendConnector "secure" { AddressSpaces = {"*.partner.test"} DomainSecureEnabled = true }
TransportConfig { TLSSendDomainSecureList = {"partner.test"} MaxPerDomainOutboundConnections = 7 }
Site "*.big.test" { MaxConnections = 3 }
Resolver { LocalData = {"contoso.test. MX 10 mx1.contoso.test."} }
"""
CASES = { # recipient: exit, connector, {connector: why it lost}
    "u@other.test": (0, "internet", {"cheap": "no address space matches"}),
    "u@tie.test": (0, "cheap", {"dear": '"tie.test" costs 2, and 1 through cheap',
                                "internet": '"*" is less specific than "tie.test" of cheap'}),
    "u@same.test": (0, "tie-a", {"tie-b": '"same.test" matches as well, and tie-a comes first by name'}),
    "u@off.test": (0, "internet", {"off": '"off.test" would match, but it is disabled'}),
    "u@held.test": (2, None, {}),
    "u@contoso.test": (0, "small", {"internet": '"*" is less specific than "*.contoso.test" of small'}),
    "u@a.inside.test": (0, "relay", {}),
}


def main():
    with Directory() as directory:
        path = directory.path / "explain.conf"
        path.write_text(CONFIG)

        def explain(*arguments):
            return subprocess.run([BUILD / "posthaste", "explain", *arguments, "-c", path], capture_output=True, text=True)
        for recipient, (code, connector, lost) in CASES.items():
            done = explain(recipient, "--json")
            answer = json.loads(done.stdout)
            assert done.returncode == code and answer["connector"] == connector, (recipient, done)
            why = {c["name"]: c["why"] for c in answer["connectors"]}
            for name, words in lost.items():
                assert why[name] == words, (recipient, name, why[name])
                assert words in explain(recipient).stdout
            assert [c["name"] for c in answer["connectors"] if c["chosen"]] == ([connector] if connector else ["held"])
        contoso = json.loads(explain("u@contoso.test", "--json").stdout)
        assert contoso["policy"]["level"] == "DomainValidation" and contoso["policy"]["names"] == ["*.contoso.test"]
        assert contoso["policy"]["source"].endswith(":9 SendConnector small"), contoso["policy"]
        assert contoso["hosts"] == [{"host": "mx1.contoso.test", "port": 25, "preference": 10}]
        assert contoso["limits"]["connections"] == 7 and contoso["limits"]["connections_source"] == "TransportConfig"
        inside = json.loads(explain("u@a.inside.test", "--json").stdout)
        assert inside["limits"]["connections"] == 3 and "Site *.big.test" in inside["limits"]["connections_source"]
        assert inside["hosts"][0]["port"] == 587
        assert "identity: not checked" not in explain("u@contoso.test").stdout

        large = explain("u@contoso.test", "--size", "20MB", "--json") # it must not leave by "*" with less TLS
        assert large.returncode == 1 and json.loads(large.stdout)["reason"] == "size-would-bypass-tls", large
        assert "MaxMessageSize is 10485760 bytes" in large.stdout
        assert json.loads(explain("u@partner.test", "--json").stdout)["policy"]["domain_secure"]
        below = explain("u@eu.partner.test")
        assert "not Domain Security: partner.test is in TLSSendDomainSecureList" in below.stdout, below
        assert explain("nobody").returncode == 64 and explain("u@x.test", "--size", "many").returncode == 64
        print(f"explain: {len(CASES)} routes, the losers' reasons, limits and policies")
        return 0


sys.exit(main())
