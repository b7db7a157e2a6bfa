#!/usr/bin/env python3
"""A long queue to sites that can't be reached: memory per message, the time from start to ready, and what a
delivery costs beside it, compared with a queue of a thousand. The spool is made by bench/fill.c as if each
message had been tried once; two of the sites can be reached, so that the queue's first due message and fresh
mail are seen to go out."""
import subprocess
import time

from lab import (BUILD, OUT, Daemon, Lab, free_port, memory_kib, options_parser, prepare, save, table, wait_for)
from plot import bars

FIRST_DUE_MS = 3000 # behind the fill


def lines(domains):
    """q0.test, which has the message that is due first, and d0.test are at the sink; nobody listens for the rest."""
    out = ["q0.test. MX 10 mx.sink.test.", "d0.test. MX 10 mx.sink.test.", "mx.sink.test. A 127.2.0.1"]
    for i in range(1, domains):
        out += [f"q{i}.test. MX 10 mx{i}.away.test.", f"mx{i}.away.test. A 127.9.{i // 250}.{i % 250 + 1}"]
    return out


def run(queued, options):
    with Lab(options.spool_on or None) as lab:
        began = time.monotonic()
        subprocess.run([BUILD / "bench-fill", f"spool={lab.path}/spool", f"messages={queued}",
                        f"logs={options.workers}", f"domains={min(options.domains, queued)}", f"size={options.size}",
                        f"first={FIRST_DUE_MS}", "spread=72000000"], check=True, stdout=subprocess.DEVNULL)
        filled = time.monotonic() - began
        spool_bytes = sum(f.stat().st_blocks * 512 for f in (lab.path / "spool").rglob("seg-*"))
        port = free_port()
        lab.drain(port)
        began = time.monotonic()
        daemon = Daemon(lab, port, lines(min(options.domains, queued)), workers=options.workers,
                        extra="Queue { DelayNotificationTimeout = 30d }")
        ready = time.monotonic() - began
        start_cpu = daemon.cpu()
        wait_for(lambda: daemon.metrics()["posthaste_delivered_total"] >= 1, 60, "the first due message")
        first = time.monotonic() - began
        time.sleep(0.5)
        memory = memory_kib(daemon.process.pid, "Rss")
        before, began = daemon.cpu(), time.monotonic()
        lab.feed(daemon.listening, messages=options.fresh, size=4096, connections=20, recipient="u@d0.test")
        wait_for(lambda: lab.tally("drain.tally")["messages"] >= options.fresh + 1, 120, "fresh mail")
        rate = options.fresh / (time.monotonic() - began)
        cpu = (daemon.cpu() - before) / options.fresh * 1e6
        metrics = daemon.metrics()
        left = metrics["posthaste_queued"]
        if metrics["posthaste_messages_unscheduled"] != 0:
            raise RuntimeError(f"{metrics['posthaste_messages_unscheduled']:.0f} messages without a next event")
        return {"queued": queued, "left": left, "fill_s": filled, "spool_bytes": spool_bytes, "ready_s": ready,
                "start_cpu_s": start_cpu, "first_s": first, "rss_kib": memory, "cpu_us": cpu, "rate": rate}


def main():
    prepare()
    parser = options_parser(__doc__, messages=300000, fresh=5000, workers=1, domains=1000, size=256, spool_on="")
    options = parser.parse_args()
    rows, results = [], []
    base = None
    for queued in (1000, options.messages):
        r = run(queued, options)
        base = base or r
        r["bytes_per_message"] = (r["rss_kib"] - base["rss_kib"]) * 1024 / queued if r is not base else None
        results.append(r)
        rows.append([f"{queued:,}", "-" if r is base else f"{r['bytes_per_message']:.0f}", f"{r['ready_s']:.2f}",
                     f"{r['start_cpu_s']:.2f}", f"{r['first_s']:.2f}", f"{r['cpu_us']:.0f}",
                     f"{r['cpu_us'] / base['cpu_us']:.2f}", f"{r['rate']:.0f}", f"{r['rss_kib'] / 1024:.0f}",
                     f"{r['spool_bytes'] / 1e6:.0f}"])
    table(f"queue: {options.messages:,} messages to {options.domains} sites that can't be reached "
          f"({options.workers} worker(s))",
          ["queued", "B/message", "ready s", "CPU s", "first due s", "CPU us/delivery", "ratio", "msg/s", "RSS MB",
           "spool MB"], rows,
          "B/message: resident memory beyond that of the queue of a thousand, over the messages. ready: from the start\n"
          "of the process to its `ready`. CPU us/delivery: of fresh mail of 4 KiB through the daemon, while the queue waits.")
    bars("queue", "a delivery beside a long queue, microseconds of CPU", [
        (f"{r['queued']:,} queued", {"posthaste": r["cpu_us"]}) for r in results])
    save("queue", {"options": vars(options), "runs": results})


if __name__ == "__main__":
    main()
