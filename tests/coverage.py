#!/usr/bin/env python3
"""Prints gcovr's summary: lines and branches by room, and by file for what reads bytes of others and for the spool.

    tests/coverage.py SUMMARY.json"""
import json
import sys
from collections import defaultdict

ROOMS = ("base", "dns", "tls", "smtp", "queue", "config", "engine")
FILES = ("smtp/", "dns/", "config/", "queue/", "tls/asn1", "tls/crl", "tls/dane", "tls/mta_sts", "tls/ocsp", "tls/identity",
         "tls/report_record", "tls/pem", "tls/constraint", "base/base64", "base/endpoint", "base/str")


def percent(covered, total):
    return f"{100 * covered / total:5.1f} %" if total else "    -  "


def main():
    with open(sys.argv[1]) as summary:
        files = json.load(summary)["files"]
    rooms = defaultdict(lambda: [0, 0, 0, 0])
    print(f"{'':28} {'lines':>14} {'branches':>16}")
    for entry in sorted(files, key=lambda f: f["filename"]):
        name = entry["filename"]
        counts = (entry["line_covered"], entry["line_total"], entry["branch_covered"], entry["branch_total"])
        room = name.split("/")[0]
        rooms[room] = [a + b for a, b in zip(rooms[room], counts)]
        if name.endswith(".c") and name.startswith(FILES) and counts[1]:
            print(f"{name:28} {percent(*counts[:2])} {counts[1]:6} {percent(*counts[2:])} {counts[3]:6}")
    for room in ROOMS:
        counts = rooms[room]
        print(f"{room + '/':28} {percent(*counts[:2])} {counts[1]:6} {percent(*counts[2:])} {counts[3]:6}")


main()
