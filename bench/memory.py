#!/usr/bin/env python3
"""Memory: of a TLS session by the allocator's count, of an open session in the daemon by its resident memory (the
slope over the number of sites, each with one idle session), and of a queued message in a worker's slabs. `bench
queue` measures the last in the daemon."""
import re
import pathlib
import time

from deliver import TLS, sites
from lab import (Daemon, Lab, c_program, free_port, memory_kib, options_parser, prepare, save, table, wait_for)


def kernel_pages():
    """Of all TCP sockets of the machine, both ends."""
    text = pathlib.Path("/proc/net/sockstat").read_text()
    return int(re.search(r"^TCP:.* mem (\d+)", text, re.M).group(1))


def idle_daemon(count, tls):
    with Lab() as lab:
        port = free_port()
        connector = "ConnectionInactivityTimeOut = 2m"
        if tls:
            connector += " " + TLS.format(names='"*.sites.test"', root=lab.path / "root.pem")
        lab.drain(port, **({"pki": lab.path, "sites": count, "site": "mx#.sites.test"} if tls else {}))
        daemon = Daemon(lab, port, sites(count), connector)
        lab.feed(daemon.listening, messages=4 * count, size=1024, recipient="u@d#.test", modulo=count)
        wait_for(lambda: daemon.metrics()["posthaste_queued"] == 0, 60, "delivery")
        time.sleep(1)
        m = daemon.metrics()
        return {"sites": count, "tls": tls, "rss_kib": memory_kib(daemon.process.pid, "Rss"),
                "open": m["posthaste_connections_out"], "kernel_pages": kernel_pages()}


def main():
    prepare()
    options = options_parser(__doc__, few=200, many=1200, sessions=1000, queued=1000000).parse_args()
    session = c_program("memory", sessions=options.sessions)[0]
    queued = c_program("schedule", queued=options.queued, events=1000)[0]
    slopes, runs = {}, []
    for tls in (False, True):
        few, many = idle_daemon(options.few, tls), idle_daemon(options.many, tls)
        runs += [few, many]
        slopes[tls] = (many["rss_kib"] - few["rss_kib"]) * 1024 / (many["open"] - few["open"])
    rows = [["queued message, one recipient, in the slabs", f"{queued['bytes_per_message']:.0f}", "128"],
            ["TLS session, handshake under way", f"{session['shaking']:.0f}", ""],
            ["TLS session, idle", f"{session['idle']:.0f}", "8192"],
            ["TLS session, 4 KiB to be sent", f"{session['sending']:.0f}", ""],
            ["daemon: a site with its idle plaintext session", f"{slopes[False]:.0f}", ""],
            ["daemon: a site with its idle TLS session", f"{slopes[True]:.0f}", ""],
            ["daemon: what TLS adds to it", f"{slopes[True] - slopes[False]:.0f}", "8192"]]
    table("memory: bytes each (user memory)", ["what", "bytes", "goal"], rows,
          f"daemon: growth of resident memory from {options.few} to {options.many} sites, tickets and chains kept\n"
          f"among it. Kernel socket memory of all TCP sockets then: {runs[-1]['kernel_pages']} pages "
          f"(idle buffers are empty).")
    save("memory", {"options": vars(options), "session": session, "queued": queued, "daemon": runs})


if __name__ == "__main__":
    main()
