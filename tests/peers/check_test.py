#!/usr/bin/env python3
"""`posthaste check` on a file with ten different mistakes: all ten, each with its line, id and remedy, in one
run; and on one without."""
import json
import subprocess
import sys

from posthaste import BUILD, Directory

MISTAKES = """Hostnme = "out.test"
SendConnector "a" {
    AddressSpaces = {"a.*.test"}
    TlsAuthLevel = DomainValidation
}
SendConnector "b" {
    AddressSpaces = {"b.test"}
    RequireTLS = true
    IgnoreSTARTTLS = true
    Port = 587
}
SendConnector "c" {
    AddressSpaces = {"c.test"}
    SmartHosts = {"relay.test"}
    MaxConnectionAge = 5 minutes
}
SendConnector "b" { AddressSpaces = {"*"} }
TransportConfig {
    TLSSendDomainSecureList = {"*.d.test"}
    MaxOutboundConnections = 10
}
"""
WANTED = {1: "C21", 3: "C16", 4: "C01", 8: "C03", 10: "C25", 14: "C05", 15: "C17", 17: "C24", 18: "C18", 19: "C11"}


def check(path, *more):
    return subprocess.run([BUILD / "posthaste", "check", "-c", path, *more], capture_output=True, text=True)


def main():
    with Directory() as directory:
        path = directory.path / "bad.conf"
        path.write_text(MISTAKES)
        done = check(path)
        found, order = {}, []
        for line in done.stderr.splitlines():
            where, _, rest = line.removeprefix(f"{path}:").partition(": ")
            ident, key = rest.split()[:2]
            if ident.startswith("C"):
                assert line.startswith(f"{path}:") and key.endswith(":") and "; " in rest, line
                found.setdefault(int(where), set()).add(ident)
                order.append(int(where))
        assert done.returncode == 1 and order == sorted(order), done.stderr
        for line, ident in WANTED.items():
            assert ident in found.get(line, set()), (line, ident, done.stderr)
        as_json = json.loads(check(path, "--json").stdout)
        assert len(as_json["errors"]) == sum("C" in line.split()[1] for line in as_json["errors"]) >= 10
        assert subprocess.run([BUILD / "posthaste", "run", "-c", path], capture_output=True).returncode == 78
        good = directory.path / "good.conf"
        good.write_text('SendConnector "a" { AddressSpaces = {"*"} }\n')
        done = check(good)
        assert done.returncode == 0 and "0 errors, 0 warnings" in done.stdout, done
        done = check(directory.path / "none.conf")
        assert done.returncode == 66 and "can't be read (No such file" in done.stderr and "; write" in done.stderr, done
        print(f"check: {len(WANTED)} different mistakes in one run, each at its line with its remedy")
        return 0


sys.exit(main())
