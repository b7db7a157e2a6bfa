#!/usr/bin/env python3
"""One verification of a presented chain, by number of certificates and by size of the CRL: the engine in full, from its
cache, and X509_verify_cert with the same anchor and lists. CPU of the thread, medians."""
from lab import Runs, c_program, options_parser, prepare, save, table
from plot import bars

# Entries of the leaf's issuer's list: 300,000 make about 10 MB.
CELLS = [(1, 0), (2, 0), (3, 0), (4, 0), (6, 0), (2, 1000), (2, 20000), (2, 300000)]


def main():
    prepare()
    options = options_parser(__doc__, rounds=200, runs=3).parse_args()
    rows, cells = [], []
    for certs, entries in CELLS:
        ways, load = {}, Runs()
        for _ in range(options.runs if entries < 100000 else 1):
            for line in c_program("verify", certs=certs, crl=entries,
                                  rounds=options.rounds if entries < 10000 else min(options.rounds, 20)):
                ways.setdefault(line["way"], Runs()).add(line["cpu_ns"] / 1000)
                load.add(line["load_ns"] / 1e6)
        engine, cached, bare = (ways[way].median() for way in ("engine", "cached", "bare"))
        cells.append({"certs": certs, "crl_entries": entries, "engine_us": engine, "cached_us": cached,
                      "bare_us": bare, "load_ms": load.median()})
        rows.append([f"{certs} certificate(s), " + (f"CRL of {entries:,}" if entries else "no CRL"),
                     f"{engine / bare:.2f}", f"{cached / engine:.4f}", f"{engine:.1f}", f"{bare:.1f}",
                     f"{cached:.2f}", f"{load.median():.1f}"])
    table("verify: one chain, P-256 (no durable writes)", ["chain", "engine/bare", "cached/full", "engine us", "bare us",
                                                          "cached us", "loading ms"], rows,
          "Certificates presented, the anchor not among them. loading: anchor and lists into a trust store, once per\n"
          "reload, off the workers.")
    bars("verify", "CPU a verification, microseconds", [
        (f"{c['certs']} certificate(s), CRL of {c['crl_entries']:,}",
         {"engine": c["engine_us"], "X509_verify_cert": c["bare_us"], "engine, cached": c["cached_us"]}) for c in cells],
         log=True)
    save("verify", {"options": vars(options), "cells": cells})


if __name__ == "__main__":
    main()
