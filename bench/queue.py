#!/usr/bin/env python3
"""A long queue to sites that can't be reached: memory per message, the time from start to ready, and what a
delivery costs beside it, compared with a queue of a thousand. The spool is made by bench/fill.c as if each
message had been tried once; two of the sites can be reached, so that the queue's first due message and fresh
mail are seen to go out."""
import os
import pathlib
import re
import statistics
import subprocess
import time

from lab import (BUILD, Daemon, Lab, free_port, memory_kib, options_parser, prepare, save, table, wait_for)
from plot import bars

FIRST_DUE_MS = 3000 # behind the fill


def lines(domains):
    """q0.test, which has the message that is due first, and d0.test are at the sink; nobody listens for the rest."""
    out = ["q0.test. MX 10 mx.sink.test.", "d0.test. MX 10 mx.sink.test.", "mx.sink.test. A 127.2.0.1"]
    for i in range(1, domains):
        out += [f"q{i}.test. MX 10 mx{i}.away.test.", f"mx{i}.away.test. A 127.9.{i // 250}.{i % 250 + 1}"]
    return out


def fresh(lab, daemon, options, before):
    """CPU of a delivery of fresh mail beside the queue, in us."""
    cpu, began = daemon.cpu(), time.monotonic()
    lab.feed(daemon.listening, messages=options.fresh, size=4096, connections=20, recipient="u@d0.test")
    wait_for(lambda: lab.tally("drain.tally")["messages"] >= before + options.fresh, 240, "fresh mail")
    return (daemon.cpu() - cpu) / options.fresh * 1e6, options.fresh / (time.monotonic() - began)


def run(queued, options):
    with Lab(options.spool_on or None) as lab:
        domains = min(options.domains, queued)
        began = time.monotonic()
        subprocess.run([BUILD / "bench-fill", f"spool={lab.path}/spool", f"messages={queued}",
                        f"logs={options.workers}", f"domains={domains}", f"size={options.size}",
                        f"first={FIRST_DUE_MS}", "spread=72000000"], check=True, stdout=subprocess.DEVNULL)
        os.sync() # what the fill wrote isn't the daemon's to wait for
        filled = time.monotonic() - began
        spool_bytes = sum(f.stat().st_blocks * 512 for f in (lab.path / "spool").rglob("seg-*"))
        port = free_port()
        lab.drain(port)
        began = time.monotonic()
        daemon = Daemon(lab, port, lines(domains), workers=options.workers,
                        extra="Queue { DelayNotificationTimeout = 30d }")
        ready = time.monotonic() - began
        start_cpu = daemon.cpu()
        wait_for(lambda: daemon.metrics()["posthaste_delivered_total"] >= 1, 60, "the first due message")
        first = time.monotonic() - began
        # Until the allocator has given back what it keeps for another burst, and what was due at first is over.
        time.sleep(options.settle)
        idle = daemon.cpu()
        time.sleep(2)
        idle = (daemon.cpu() - idle) / 2
        metrics = daemon.metrics()
        memory, allocated = memory_kib(daemon.process.pid, "Rss"), metrics["posthaste_memory_allocated_bytes"]
        peak = int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text()).group(1))
        cpus, rates = [], []
        for _ in range(options.rounds):
            cpu, rate = fresh(lab, daemon, options, lab.tally("drain.tally")["messages"])
            cpus.append(cpu)
            rates.append(rate)
        metrics = daemon.metrics()
        if metrics["posthaste_messages_unscheduled"] != 0:
            raise RuntimeError(f"{metrics['posthaste_messages_unscheduled']:.0f} messages without a next event")
        return {"queued": queued, "left": metrics["posthaste_queued"], "fill_s": filled, "spool_bytes": spool_bytes,
                "ready_s": ready, "start_cpu_s": start_cpu, "first_s": first, "idle_cpu": idle, "rss_kib": memory,
                "peak_kib": peak, "allocated": allocated, "cpu_us": statistics.median(cpus),
                "rate": statistics.median(rates)}


def main():
    prepare()
    parser = options_parser(__doc__, queued="1000,300000", fresh=5000, rounds=3, workers=1, domains=1000, size=256,
                            settle=11, spool_on="")
    options = parser.parse_args()
    rows, results = [], []
    for queued in map(int, options.queued.split(",")):
        r = run(queued, options)
        base = results[0] if results else r
        more = queued - base["queued"]
        r["bytes_per_message"] = (r["rss_kib"] - base["rss_kib"]) * 1024 / more if more else None
        r["allocated_per_message"] = (r["allocated"] - base["allocated"]) / more if more else None
        results.append(r)
        rows.append([f"{queued:,}", f"{r['bytes_per_message']:.0f}" if more else "-",
                     f"{r['allocated_per_message']:.0f}" if more else "-", f"{r['ready_s']:.2f}",
                     f"{r['start_cpu_s']:.2f}", f"{r['first_s']:.2f}", f"{r['cpu_us']:.1f}",
                     f"{r['cpu_us'] / base['cpu_us']:.2f}", f"{r['rate']:.0f}", f"{r['idle_cpu'] * 100:.1f}",
                     f"{r['peak_kib'] / 1024:.0f}", f"{r['spool_bytes'] / 1e6:.0f}"])
    table(f"queue: messages to {options.domains} sites of which all but two can't be reached "
          f"({options.workers} worker(s), contents of {options.size} bytes)",
          ["queued", "RSS B", "allocated B", "ready s", "CPU s", "first due s", "CPU us/delivery", "ratio", "msg/s",
           "idle CPU %", "peak MB", "spool MB"], rows,
          "RSS, allocated: bytes for each message beyond the first row's, resident and by the allocator's count. ready: from\n"
          "the start of the process to its `ready`, with its CPU. CPU us/delivery: of fresh mail of 4 KiB through the daemon\n"
          "while the queue waits, its own events included. idle CPU: of the queue alone. peak: of resident memory.")
    bars("queue", "a delivery beside a long queue, microseconds of CPU", [
        (f"{r['queued']:,} queued", {"posthaste": r["cpu_us"]}) for r in results])
    save("queue", {"options": vars(options), "runs": results})


if __name__ == "__main__":
    main()
