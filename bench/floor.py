#!/usr/bin/env python3
"""The floors: a source straight into a sink (what the measuring itself costs), and the bare relay of
bench/relay.c between them, which commits durably and does nothing that it could leave out."""
import time

from deliver import floor_run, median_of
from lab import OUT, Lab, file_system, free_port, options_parser, own_cpu_seconds, prepare, save, table, wait_for
from plot import bars


def direct_run(messages, size, connections):
    with Lab() as lab:
        port = free_port()
        drain = lab.drain(port)
        before, began = own_cpu_seconds(drain.pid), time.monotonic()
        cpu, _ = lab.feed(f"127.0.0.1:{port}", messages=messages, size=size, connections=connections)
        took = time.monotonic() - began
        wait_for(lambda: lab.tally("drain.tally")["distinct"] == messages, 10, "the last message")
        return {"cpu": (cpu + own_cpu_seconds(drain.pid) - before) / messages * 1000, "rate": messages / took,
                "per_write": 0}


def main():
    prepare()
    options = options_parser(__doc__, messages=40000, runs=3).parse_args()
    rows, results = [], []
    for connections, size in ((20, 1024), (20, 4096), (20, 102400), (200, 4096), (400, 4096)):
        messages = options.messages if size < 100000 else options.messages // 10
        direct, relay = [], []
        for _ in range(options.runs):
            direct.append(direct_run(messages, size, connections))
            relay.append(floor_run(messages, size, connections))
        cpu, without = median_of(relay, "cpu"), median_of(direct, "cpu")
        results.append({"connections": connections, "size": size, "messages": messages, "durability": "commit",
                        "direct": direct, "relay": relay, "ratio": cpu / without})
        rows.append([f"{size // 1024} KiB, {connections} connections", "commit", f"{cpu / without:.2f}",
                     f"{cpu * 1000:.1f}", f"{without * 1000:.1f}", f"{median_of(relay, 'rate'):.0f}",
                     f"{median_of(direct, 'rate'):.0f}", f"{median_of(relay, 'per_write'):.1f}"])
    table(f"floor: a bare relay on one ring (spool on {file_system(OUT)}), and source into sink without it",
          ["messages", "durability", "relay/direct", "relay CPU us", "source+sink CPU us", "relay msg/s",
           "direct msg/s", "msg/write"], rows, "CPU in microseconds a message, of the processes named, in the same run.")
    bars("floor", "CPU a message, microseconds", [
        (f"{r['size'] // 1024} KiB, {r['connections']} connections",
         {"bare relay": median_of(r["relay"], "cpu") * 1000, "source and sink": median_of(r["direct"], "cpu") * 1000})
        for r in results])
    save("floor", {"options": vars(options), "rows": results})


if __name__ == "__main__":
    main()
