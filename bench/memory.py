#!/usr/bin/env python3
"""Memory: of a TLS session alone, of an idle session in the daemon (the slope over their number, all to one site or
each to its own), and of a queued message in a worker's slabs. `bench queue` measures the last in the daemon."""
import re
import pathlib
import time

from deliver import TLS, sites
from lab import (Daemon, Lab, Runs, c_program, free_port, memory_kib, options_parser, prepare, save, table, wait_for)
from plot import bars


def kernel_pages():
    """Of all TCP sockets of the machine, both ends."""
    text = pathlib.Path("/proc/net/sockstat").read_text()
    return int(re.search(r"^TCP:.* mem (\d+)", text, re.M).group(1))


def idle_daemon(count, messages, tls, one_site):
    """`count` idle sessions, each to a site of its own or all to one, after so many messages."""
    site_count = 1 if one_site else count
    with Lab() as lab:
        port = free_port()
        connector = f"ConnectionInactivityTimeOut = 5m MaxConnections = {count} Ramp = false PipelineDepth = 1"
        if tls:
            connector += " " + TLS.format(names='"*.sites.test"', root=lab.path / "root.pem")
        # To one site: so slow that each session gets its first message before another is free.
        drain_options = {"latency": 300} if one_site else {}
        if tls:
            drain_options.update(pki=lab.path, sites=site_count, site="mx#.sites.test")
        lab.drain(port, **drain_options)
        daemon = Daemon(lab, port, sites(site_count), connector)
        lab.feed(daemon.listening, messages=messages, size=1024, connections=100, recipient="u@d#.test",
                 modulo=site_count)
        wait_for(lambda: daemon.metrics()["posthaste_queued"] == 0, 60, "delivery")
        time.sleep(7) # until the allocator has given back what it keeps for another burst
        m = daemon.metrics()
        return {"sites": site_count, "tls": tls, "open": m["posthaste_connections_out"],
                "allocated": m["posthaste_memory_allocated_bytes"], "resident": m["posthaste_memory_resident_bytes"],
                "rss": memory_kib(daemon.process.pid, "Rss") * 1024, "kernel_pages": kernel_pages()}


def main():
    prepare()
    options = options_parser(__doc__, few=200, many=2200, sessions=1000, queued=1000000, runs=3).parse_args()
    session = c_program("memory", sessions=options.sessions)[0]
    queued = c_program("schedule", queued=options.queued, events=1000)[0]
    runs, rows = [], [["queued message, one recipient, in the slabs", f"{queued['bytes_per_message']:.0f}", "", "128"],
                      ["TLS session alone, handshake under way", f"{session['shaking']:.0f}", "", ""],
                      ["TLS session alone, idle", f"{session['idle']:.0f}", "", ""],
                      ["TLS session alone, 4 KiB to be sent", f"{session['sending']:.0f}", "", ""]]
    for one_site, tls in ((True, True), (True, False), (False, True), (False, False)):
        slopes = {"allocated": Runs(), "rss": Runs()}
        for _ in range(options.runs):
            few, many = (idle_daemon(count, 4 * options.many, tls, one_site) for count in (options.few, options.many))
            runs += [few, many]
            for key, slope in slopes.items():
                slope.add((many[key] - few[key]) / (many["open"] - few["open"]))
        slope = {key: slope.median() for key, slope in slopes.items()}
        rows.append([f"daemon: an idle {'TLS' if tls else 'plaintext'} session" +
                     ("" if one_site else ", with a site of its own"), f"{slope['allocated']:.0f}",
                     f"{slope['rss']:.0f}", "8192" if one_site and tls else ""])
    table("memory: bytes each (user memory)", ["what", "allocated", "resident", "goal"], rows,
          f"daemon: growth from {options.few} to {options.many} sessions, by the allocator's count and of the process\n"
          f"(with what lies between the pieces), medians of {options.runs}. A site of its own:\n"
          "queue, account, tickets and certificates too.\n"
          f"Kernel socket memory of all TCP sockets then: {runs[1]['kernel_pages']} pages (idle buffers are empty).")
    bars("memory", "bytes each", [(row[0], {"allocated": float(row[1]), **({"resident": float(row[2])} if row[2] else {})})
                                  for row in rows])
    save("memory", {"options": vars(options), "session": session, "queued": queued, "daemon": runs})


if __name__ == "__main__":
    main()
