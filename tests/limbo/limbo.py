#!/usr/bin/env python3
"""x509-limbo's server cases through `posthaste verify`, one process a case.

The cases (C2SP/x509-limbo, Apache-2.0, sorted into tiers) are not part of the tree: they are read
from x509-limbo/limbo-server.json in the directory `shared` beside the repository, or from
POSTHASTE_LIMBO. A mismatch in tier `must`, or a false accept in tier `policy`, fails.

    limbo.py [--list | --present]    --list: each mismatch of every tier; --present: are they here?
"""
import collections
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / os.environ.get("PRESET", "dev")


def cases_file():
    given = os.environ.get("POSTHASTE_LIMBO")
    if given:
        return pathlib.Path(given)
    common = subprocess.run(["git", "-C", ROOT, "rev-parse", "--path-format=absolute",
                             "--git-common-dir"], capture_output=True, text=True).stdout.strip()
    trees = [ROOT] + ([pathlib.Path(common).parent] if common else [])
    for tree in trees:
        file = tree.parent / "shared" / "x509-limbo" / "limbo-server.json"
        if file.exists():
            return file
    return None


def command(case, directory):
    def put(name, pems):
        path = directory / name
        path.write_text("".join(pems))
        return path

    words = [BUILD / "posthaste", "verify", "--json",
             "--trust", put("trust.pem", case["trusted_certs"]),
             "--untrusted", put("untrusted.pem", case["untrusted_intermediates"]),
             "--leaf", put("leaf.pem", [case["peer_certificate"]])]
    name = case.get("expected_peer_name")
    if name:
        words += ["--name", name["value"], "--name-kind", name["kind"].lower()]
    if case.get("validation_time"):
        moment = datetime.datetime.fromisoformat(case["validation_time"])
        words += ["--time", str(int(moment.timestamp()))]
    if case.get("max_chain_depth") is not None:
        words += ["--max-depth", str(case["max_chain_depth"])]
    for number, crl in enumerate(case.get("crls") or []):
        words += ["--crl", put(f"{number}.crl", [crl])]
    return words


def main():
    file = cases_file()
    if "--present" in sys.argv:
        return 0 if file else 1
    if file is None:
        print("limbo: no cases here (shared/x509-limbo beside the repository, or POSTHASTE_LIMBO)")
        return 1
    rows = collections.defaultdict(collections.Counter)
    mismatches = []
    slowest = (0, "")
    with tempfile.TemporaryDirectory(prefix="posthaste-limbo-") as temporary:
        for case in json.loads(file.read_text())["testcases"]:
            done = subprocess.run(command(case, pathlib.Path(temporary)), capture_output=True,
                                  text=True, timeout=20)
            answer = json.loads(done.stdout) if done.stdout else {}
            accepts = done.returncode == 0
            wanted = case["expected_result"] == "SUCCESS"
            # A crash, or input that can't be read, is no verdict.
            if done.returncode not in (0, 1, 2):
                kind = "no verdict"
            elif accepts == wanted:
                kind = "right"
            else:
                kind = "false accept" if accepts else "false reject"
            rows[case["tier"]][kind] += 1
            slowest = max(slowest, (answer.get("cpu_us", 0), case["id"]))
            if kind != "right":
                mismatches.append((case["tier"], kind, case["id"],
                                   answer.get("detail") or done.stderr.strip()))
    print(f"{'tier':8} {'cases':>6} {'right':>6} {'false accept':>13} {'false reject':>13} {'no verdict':>11}")
    for tier in ("must", "policy", "advice"):
        counts = rows[tier]
        print(f"{tier:8} {sum(counts.values()):6} {counts['right']:6} {counts['false accept']:13} "
              f"{counts['false reject']:13} {counts['no verdict']:11}")
    print(f"slowest: {slowest[0]} µs of CPU, {slowest[1]}")
    bad = [row for row in mismatches
           if row[0] == "must" or (row[0] == "policy" and row[1] != "false reject")
           or row[1] == "no verdict"]
    for row in mismatches if "--list" in sys.argv else bad:
        print(": ".join(row))
    if not rows["must"] or not rows["policy"]:
        print("limbo: the file has no cases of these tiers")
        return 1
    return 1 if bad else 0


sys.exit(main())
