#!/usr/bin/env python3
"""One worker and several, by turns: what a message costs with as many connections a worker (batches are what saves
CPU: they follow the connections of a worker), and who delivers what goes to one hot site."""
import json

import deliver
from lab import OUT, Daemon, Lab, Runs, file_system, free_port, options_parser, prepare, save, table, wait_for
from plot import bars


def delivered_by(log):
    """Messages by the worker that delivered them: the first 16 bits of a session's number."""
    counts = {}
    with open(log) as lines:
        for line in lines:
            event = json.loads(line)
            if event["event"] == "delivered":
                worker = int(event["session"][:4], 16)
                counts[worker] = counts.get(worker, 0) + 1
    return counts


def run(workers, connections, messages, durability):
    with Lab() as lab:
        port = free_port()
        lab.drain(port)
        daemon = Daemon(lab, port, deliver.sites(1), f"MaxConnections = {connections}", workers=workers,
                        durability=durability)
        before = daemon.cpu()
        lab.feed(daemon.listening, messages=messages, size=4096, connections=connections, recipient="u@d0.test")
        wait_for(lambda: daemon.metrics()["posthaste_queued"] == 0, 120, "delivery")
        used, m = daemon.cpu() - before, daemon.metrics()
        wait_for(lambda: sum(delivered_by(lab.path / "delivery.jsonl").values()) == messages, 10, "the last log line")
        return {"cpu": used / messages * 1000,
                "per_write": m["posthaste_spool_group_messages_total"] / m["posthaste_spool_groups_total"],
                "delivered": delivered_by(lab.path / "delivery.jsonl")}


def main():
    prepare()
    options = options_parser(__doc__, messages=10000, runs=5, workers=2, connections=20,
                             durability="commit").parse_args()
    cases = {"one worker": (1, options.connections),
             f"{options.workers} workers, as many connections each": (options.workers,
                                                                    options.workers * options.connections),
             f"{options.workers} workers, as many in all": (options.workers, options.connections)}
    runs = {name: [] for name in cases}
    for _ in range(options.runs):
        for name, (workers, connections) in cases.items():
            runs[name].append(run(workers, connections, options.messages, options.durability))
    rows, one = [], Runs.of(runs["one worker"], "cpu").median()
    for name, (workers, connections) in cases.items():
        cpu, shares = Runs.of(runs[name], "cpu").median(), runs[name][-1]["delivered"]
        rows.append([name, options.durability, connections, f"{cpu / one:.2f}", f"{cpu:.4f}",
                     f"{Runs.of(runs[name], 'per_write').median():.1f}",
                     " + ".join(str(shares.get(worker, 0)) for worker in range(workers))])
    table(f"workers: {options.messages} messages of 4 KiB to one site, spool on {file_system(OUT)}",
          ["case", "durability", "connections", "CPU a message", "CPU s/1,000", "msg/write", "delivered by"], rows,
          "CPU a message: over one worker's in the same run. delivered by: messages by worker, of the last run.")
    bars("workers", "CPU a message, microseconds", [(name, {"posthaste": Runs.of(of, "cpu").median() * 1000})
                                                    for name, of in runs.items()])
    save("workers", {"options": vars(options), "runs": runs})


if __name__ == "__main__":
    main()
