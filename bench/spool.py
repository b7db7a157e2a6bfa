#!/usr/bin/env python3
"""The spool: ingest against a plain loop that appends as many records by one write and calls fdatasync, what opening
again costs, and what copying forward costs. On the file system of the build tree; durability commit."""
from lab import OUT, Lab, Runs, c_program, file_system, options_parser, prepare, save, table
from plot import curves


def run(lab, runs, **options):
    cpu, rate, per_write, last = Runs(), Runs(), Runs(), None
    for i in range(runs):
        where = lab.path / f"{options['mode']}-{options.get('in_flight', 0)}-{options['messages']}-{i}"
        last = c_program("spool", directory=where, **options)[0]
        cpu.add(last["cpu_ns"] / last["count"] / 1000)
        rate.add(last["count"] / last["wall_ns"] * 1e9)
        per_write.add(last["per_write"])
    return {"cpu_us": cpu.median(), "rate": rate.median(), "per_write": per_write.median(), "last": last, **options}


def main():
    prepare()
    parser = options_parser(__doc__, messages=20000, recover=200000, runs=3, world="auto")
    options = parser.parse_args()
    rows, results = [], []
    for in_flight in (1, 8, 20, 64, 200, 400):
        with Lab() as lab:
            messages = options.messages if in_flight > 8 else options.messages // 10 * min(in_flight, 5)
            spool = run(lab, options.runs, mode="ingest", in_flight=in_flight, messages=messages, world=options.world)
            plain = run(lab, options.runs, mode="plain", in_flight=in_flight, messages=messages)
        results += [spool, plain]
        rows.append([f"{in_flight} in flight, 4 KiB", "commit", f"{spool['cpu_us'] / plain['cpu_us']:.2f}",
                     f"{plain['rate'] / spool['rate']:.2f}", f"{spool['cpu_us']:.1f}", f"{plain['cpu_us']:.1f}",
                     f"{spool['rate']:.0f}", f"{plain['rate']:.0f}", f"{spool['per_write']:.1f}"])
    world = results[0]["last"]["world"]
    table(f"spool: ingest ({world}, recycled segments, {file_system(OUT)}) against append + fdatasync",
          ["ingest", "durability", "CPU ratio", "time ratio", "spool us", "plain us", "spool msg/s", "plain msg/s",
           "msg/write"], rows, "ratios: the spool's over the plain loop's, a message. us: CPU of the whole process.")
    with Lab() as lab:
        recover = run(lab, 1, mode="recover", in_flight=400, messages=options.recover, size=512, world=options.world)
        compact = run(lab, options.runs, mode="compact", in_flight=400, messages=options.messages,
                      segment_bytes=4 << 20, world=options.world)
    results += [recover, compact]
    ingest = next(r for r in results if r["mode"] == "ingest" and r["in_flight"] == 64)
    table("spool: opening again, and copying forward", ["what", "durability", "messages/s", "CPU us a message",
                                                      "of an ingest's CPU"],
          [[f"recovery of {options.recover:,} messages", "commit", f"{recover['rate']:.0f}", f"{recover['cpu_us']:.2f}",
            f"{recover['cpu_us'] / ingest['cpu_us']:.2f}"],
           ["compaction, a tenth of the messages alive", "commit", f"{compact['rate']:.0f}",
            f"{compact['cpu_us']:.2f}", f"{compact['cpu_us'] / ingest['cpu_us']:.2f}"]],
          f"compaction: a message copied; {compact['last']['segments_before']} segments became "
          f"{compact['last']['segments_after']}. Recovery reads from a warm page cache.")
    curves("spool", "ingest against append + fdatasync, 4 KiB", "in flight", "CPU a message, microseconds", {
        name: [(r["in_flight"], r["cpu_us"]) for r in results if r["mode"] == mode]
        for mode, name in (("ingest", "spool"), ("plain", "append + fdatasync"))})
    save("spool", {"options": vars(options), "runs": results})


if __name__ == "__main__":
    main()
