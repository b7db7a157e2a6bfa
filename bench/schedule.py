#!/usr/bin/env python3
"""One event of a worker's queue (due, into its flow, taken in fair order, deferred again) by how much is queued, and
beside what a whole message costs the bare relay in the same run."""
from deliver import floor_run
from lab import c_program, options_parser, prepare, save, table
from plot import curves


def main():
    prepare()
    options = options_parser(__doc__, max=10000000, events=500000, queues=1000).parse_args()
    floor_us = floor_run(20000, 4096, 20)["cpu"] * 1000
    rows, results, queued = [], [], 1000
    while queued <= options.max:
        r = c_program("schedule", queued=queued, events=options.events, queues=options.queues)[0]
        results.append(r)
        rows.append([f"{queued:,} queued", f"{r['event_ns']:.0f}", f"{r['event_ns'] / results[0]['event_ns']:.1f}",
                     f"{(r['event_ns'] - results[0]['event_ns']) / 1000 / floor_us * 100:.1f} %"])
        queued *= 10
    table(f"schedule: cost of an event ({options.queues} queues; in memory, no durability)",
          ["queue", "ns an event", "over 1,000", "growth in the relay's message"], rows,
          f"The last column: what an event costs more than with 1,000 queued, as a part of the bare relay's CPU for a\n"
          f"message ({floor_us:.1f} us in this run): how far from flat the cost of a message is.")
    curves("schedule", "cost by the length of the queue", "queued", "microseconds", {
        "an event": [(r["queued"], r["event_ns"] / 1000) for r in results],
        "the bare relay's message": [(r["queued"], floor_us) for r in results]})
    save("schedule", {"options": vars(options), "floor_us": floor_us, "runs": results})


if __name__ == "__main__":
    main()
