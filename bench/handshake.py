#!/usr/bin/env python3
"""The client's side of a handshake, from ClientHello to facts and verdict: the engine over bare BoringSSL,
both in memory against the same server; and the engine with a revocation list of 10 MB at hand over the engine without
(`--only crl` for that alone). Time is the thread's CPU, the median over rounds that alternate between them;
instructions are callgrind's, where valgrind is there."""
import shutil

from lab import Runs, c_program, instructions_per_round, options_parser, prepare, save, table
from plot import bars

MODES = ("full", "cached", "resumed")
CRL_BYTES = 10 << 20


def cell(key, certs, mode, options):
    figures = {"engine": Runs(), "bare": Runs()}
    for _ in range(options.runs):
        for line in c_program("handshake", key=key, certs=certs, mode=mode, rounds=options.rounds):
            figures[line["side"]].add(line["cpu_ns"] / 1000)
            calls = f"{line['sends']}+{line['receives']}"
    result = {"key": key, "certs": certs, "mode": mode, "calls": calls,
              "engine_us": figures["engine"].median(), "bare_us": figures["bare"].median()}
    if options.callgrind and shutil.which("valgrind") and certs in (2, options.callgrind):
        for side in figures:
            result[f"{side}_instructions"] = instructions_per_round("handshake", key=key, certs=certs, mode=mode,
                                                                    side=side)
    return result


def listed(options):
    """With a long list and without, by turns in one process."""
    cells, rows = [], []
    for mode in MODES:
        figures = {"engine": Runs(), "listed": Runs(), "bare": Runs()}
        for _ in range(options.runs):
            for line in c_program("handshake", mode=mode, rounds=options.rounds, crl=CRL_BYTES):
                figures[line["side"]].add(line["cpu_ns"] / 1000)
        size = line["crl_bytes"] # the last side's
        c = {"mode": mode, "crl_bytes": size, **{f"{side}_us": runs.median() for side, runs in figures.items()}}
        instructions = ["", ""]
        if options.callgrind and shutil.which("valgrind") and mode == "full": # the list alone takes a minute there
            for side, size in (("engine", 0), ("listed", CRL_BYTES)):
                c[f"{side}_instructions"] = instructions_per_round("handshake", mode=mode, side=side, crl=size)
            instructions = [f"{c['listed_instructions'] / c['engine_instructions']:.4f}",
                            f"{c['listed_instructions'] - c['engine_instructions']:,.0f}"]
        cells.append(c)
        rows.append([f"{mode}, list of {c['crl_bytes'] / 1e6:.1f} MB", f"{c['listed_us'] / c['engine_us']:.3f}", instructions[0],
                     f"{c['engine_us']:.1f}", f"{c['listed_us']:.1f}", instructions[1]])
    table("handshake with a long revocation list at hand against none (P-256, 2 certificates, TLS 1.3)",
          ["handshake", "with/without CPU", "with/without instr.", "without us", "with us", "more instr."], rows,
          "The client's side, ClientHello to verdict; the leaf's issuer's list, and a short one of the root.")
    return cells


def main():
    prepare()
    parser = options_parser(__doc__, rounds=150, runs=3, callgrind=2)
    parser.add_argument("--only", choices=["crl"], help="crl: the cost of a long revocation list alone")
    options = parser.parse_args()
    if options.only:
        save("handshake-crl", {"options": vars(options), "crl": listed(options)})
        return
    cells, rows, full = [], [], {}
    for key in ("ecdsa", "rsa"):
        for certs in (1, 2, 3):
            for mode in MODES:
                c = cell(key, certs, mode, options)
                cells.append(c)
                if mode == "full":
                    full = c
                instructions = [c.get("engine_instructions"), c.get("bare_instructions")]
                rows.append([f"{key}, {certs} certificate(s), {mode}", f"{c['engine_us'] / c['bare_us']:.2f}",
                             f"{instructions[0] / instructions[1]:.2f}" if instructions[0] else "",
                             f"{c['engine_us'] / full['engine_us']:.2f}", f"{c['engine_us']:.0f}",
                             f"{c['bare_us']:.0f}", f"{instructions[0] / 1e6:.2f}" if instructions[0] else "",
                             c["calls"]])
    table("handshake: the engine's client against bare BoringSSL, in memory (no durable writes; TLS 1.3)",
          ["handshake", "engine/bare CPU", "engine/bare instr.", "of full", "engine us", "bare us", "engine Minstr.",
           "sends+receives"], rows,
          "`of full`: this line's engine CPU over the full handshake's of the same certificates. sends+receives:\n"
          "flights on a socket, the same for both. Bare `cached` takes any chain unseen: it can't be undercut.")
    bars("handshake", "client CPU a handshake, microseconds", [
        (f"{c['key']}, {c['certs']} certificate(s), {c['mode']}", {"engine": c["engine_us"], "bare BoringSSL": c["bare_us"]})
        for c in cells])
    save("handshake", {"options": vars(options), "cells": cells, "crl": listed(options)})


if __name__ == "__main__":
    main()
