#!/usr/bin/env python3
"""`posthaste demo` keeps what it shows: exit 0, each verdict with its reason, the sum of what was accepted, and no
file left behind."""
import pathlib
import re
import subprocess
import sys
import tempfile

from posthaste import BUILD

WANTED = {"good.demo": "delivered by TLS", "anytls.demo": "delivered by TLS", "notls.demo": "delivered in clear",
          "selfsigned.demo": "held", "wrongname.demo": "held", "revoked.demo": "held", "plain.demo": "held"}


def left_behind():
    return set(pathlib.Path(tempfile.gettempdir()).glob("posthaste-demo-*"))


before = left_behind()
done = subprocess.run([BUILD / "posthaste", "demo"], capture_output=True, text=True, timeout=120)
assert done.returncode == 0 and "\n  as promised\n" in done.stdout, done.stdout + done.stderr
for domain, outcome in WANTED.items():
    assert re.search(rf"^  {re.escape(domain)} .* {outcome} +\d", done.stdout, re.M), (domain, done.stdout)
for reason in ("cert-self-signed", "cert-name-mismatch", "cert-revoked", "tls-not-offered"):
    assert f"      {reason}: " in done.stdout, reason
assert "accepted 7000 = delivered 3000 + held in the queue 4000" in done.stdout, done.stdout
assert max(map(len, done.stdout.splitlines())) <= 120, done.stdout
assert left_behind() <= before, left_behind() - before
print(f"demo: {len(WANTED)} partners as promised, nothing left behind")
sys.exit(0)
