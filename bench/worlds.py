#!/usr/bin/env python3
"""The daemon on io_uring and by epoll, by turns, in scenarios of deliver: CPU and messages per second."""
import sys

import deliver
from deliver import median_of
from lab import OUT, file_system, options_parser, prepare, save, table


def main():
    prepare()
    parser = options_parser(__doc__, messages=40000, runs=3, workers=1, connections=20, durability="commit")
    parser.add_argument("scenarios", nargs="*", help=f"of {', '.join(deliver.SCENARIOS)}; default plain tls 100k")
    options = parser.parse_args()
    rows, results = [], {}
    for name in options.scenarios or ["plain", "tls", "100k"]:
        runs = {"ring": [], "poll": []}
        scenario = deliver.SCENARIOS[name]
        messages = int(options.messages * scenario.get("share", 1))
        for _ in range(options.runs):
            for world, of_world in runs.items():
                run = deliver.daemon_run(dict(scenario, world=world), messages, options)
                if run["world"] != world:
                    sys.exit(f"worlds: asked for {world}, ran on {run['world']}")
                of_world.append(run)
        ring, poll = median_of(runs["ring"], "cpu"), median_of(runs["poll"], "cpu")
        results[name] = {"messages": messages, "runs": runs, "ratio": ring / poll}
        rows.append([scenario["title"], options.durability, f"{ring / poll:.2f}", f"{ring:.4f}", f"{poll:.4f}",
                     f"{median_of(runs['ring'], 'rate'):.0f}", f"{median_of(runs['poll'], 'rate'):.0f}"])
        print(f"  {scenario['title']}: {ring / poll:.2f} times what it takes by epoll", flush=True)
    table(f"worlds: {options.workers} worker(s), spool on {file_system(OUT)}, {options.connections} connections",
          ["scenario", "durability", "ring/poll", "ring CPU s/1,000", "poll", "ring msg/s", "poll"], rows,
          "CPU seconds of the whole daemon per 1,000 messages; medians, the worlds by turns.")
    save("worlds", {"options": vars(options), "scenarios": results})


if __name__ == "__main__":
    main()
