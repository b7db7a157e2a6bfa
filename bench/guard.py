#!/usr/bin/env python3
"""Instructions of the hot paths, by callgrind, against bench/guard.json: a handshake and a verification of the engine,
an event of the queue, a message through the spool, and a message through the whole daemon. They depend little on
the machine and its load. `--accept` writes the figures of now into the file: on purpose, with the reason in the commit."""
import json
import pathlib
import re
import shutil
import sys

import deliver
from lab import (Daemon, Lab, end, free_port, instructions_per_round, options_parser, prepare, save, table,
                 wait_for)

RECORD = pathlib.Path(__file__).with_name("guard.json")
DAEMON_MESSAGES = (500, 2500) # what one more costs is the slope: it varies by 1 to 2 % with how they come together
PATHS = {
    "handshake, ECDSA, full": ("handshake", {"mode": "full", "side": "engine"}),
    "handshake, ECDSA, chain cached": ("handshake", {"mode": "cached", "side": "engine"}),
    "handshake, ECDSA, resumed": ("handshake", {"mode": "resumed", "side": "engine"}),
    "verification of two certificates": ("verify", {"certs": 2, "side": "engine"}),
    "verdict from the cache": ("verify", {"certs": 2, "side": "cached", "rounds": (1000, 91000)}),
    "event of the queue, 100,000 queued": ("schedule", {"queued": 100000, "count": "events", "rounds": (1000, 6000)}),
    "message of 4 KiB through the spool": ("spool", {"mode": "ingest", "world": "poll", "in_flight": 20,
                                                     "count": "messages", "rounds": (200, 1200)}),
    "message through the daemon, plaintext": ("daemon", {"tls": False}),
    "message through the daemon, verified TLS": ("daemon", {"tls": True}),
}


def daemon_instructions(messages, tls):
    """Of a whole daemon's life, by epoll (valgrind knows no io_uring), with so many messages."""
    with Lab() as lab:
        port = free_port()
        connector = "MaxConnections = 20"
        if tls:
            connector += " " + deliver.TLS.format(names='"*.sites.test"', root=lab.path / "root.pem")
        lab.drain(port, **({"pki": lab.path, "sites": 1, "site": "mx#.sites.test"} if tls else {}))
        out = lab.path / "callgrind.out"
        daemon = Daemon(lab, port, deliver.sites(1), connector, extra="IoWorld = poll",
                        under=["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}"])
        lab.feed(daemon.listening, messages=messages, size=4096, connections=20, recipient="u@d0.test")
        wait_for(lambda: daemon.metrics()["posthaste_queued"] == 0, 120, "delivery")
        end(daemon.process)
        return int(re.search(r"^(?:totals|summary): (\d+)", out.read_text(), re.M).group(1))


def measure(program, options):
    options = dict(options)
    if program == "daemon":
        few, many = (daemon_instructions(messages, **options) for messages in DAEMON_MESSAGES)
        return (many - few) / (DAEMON_MESSAGES[1] - DAEMON_MESSAGES[0])
    rounds, count = options.pop("rounds", (3, 13)), options.pop("count", "rounds")
    if program != "spool":
        return instructions_per_round(program, rounds, count, **options)
    with Lab() as lab:
        return instructions_per_round(program, rounds, count, directory=lab.path / "spool", **options)


def main():
    prepare()
    parser = options_parser(__doc__, tolerance=3.0)
    parser.add_argument("--accept", action="store_true", help="write the figures of now into bench/guard.json")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("guard: valgrind is missing (Debian package valgrind)")
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    rows, figures, worse = [], {}, []
    for name, (program, what) in PATHS.items():
        now = figures[name] = round(measure(program, what))
        before = recorded.get(name)
        change = (now - before) / before * 100 if before else None
        verdict = "new" if change is None else "worse" if change > options.tolerance else \
            "better" if change < -options.tolerance else "same"
        if verdict in ("new", "worse"):
            worse.append(name)
        rows.append([name, f"{now:,}", f"{before:,}" if before else "", f"{change:+.1f} %" if before else "", verdict])
    table(f"guard: instructions each, against bench/guard.json (tolerance {options.tolerance} %)",
          ["path", "now", "recorded", "change", "verdict"], rows)
    save("guard", {"figures": figures, "recorded": recorded})
    if options.accept:
        RECORD.write_text(json.dumps(figures, indent=1) + "\n")
        print("accepted: commit bench/guard.json with the reason")
    elif worse:
        sys.exit(f"guard: {', '.join(worse)}: look why, or record it with ./dev bench guard --accept")


if __name__ == "__main__":
    main()
