#!/usr/bin/env python3
"""The daemon from the first MAIL of a client to the last 250 of a sink, in scenarios; beside it, in the same
run, the bare relay of bench/relay.c with the same messages: to the same sites in the same way, and once more
in plaintext to one. CPU is the daemon's whole process; what source and sink took is stated, and is no part of it."""
import sys
import time

from lab import (OUT, Daemon, Lab, Runs, file_system, free_port, options_parser, own_cpu_seconds, prepare, save,
                 table, wait_for)
from plot import bars

TLS = ('RequireTLS = true TlsAuthLevel = DomainValidation TlsDomain = {{{names}}}\n'
       '    TlsTrustAnchors = {{"{root}"}}')


def sites(count):
    lines = []
    for i in range(count):
        lines += [f"d{i}.test. MX 10 mx{i}.sites.test.", f"mx{i}.sites.test. A 127.2.{i // 250}.{i % 250 + 1}"]
    return lines


def providers(domains, count):
    return ([f"d{i}.test. MX 10 mx{i % count}.sites.test." for i in range(domains)] +
            [f"mx{i}.sites.test. A 127.2.0.{i + 1}" for i in range(count)])


# name: what is sent where; `share` of the number of messages asked for.
SCENARIOS = {
    "plain": {"title": "one site, plaintext"},
    "tls": {"title": "one site, verified TLS", "tls": 1},
    "sites": {"title": "1,000 sites, verified TLS", "tls": 1000, "sites": 1000, "share": 0.5},
    "providers": {"title": "100,000 domains on 50 providers", "domains": 100000, "providers": 50, "share": 5},
    "latency": {"title": "20 ms a reply, 50 connections", "latency": 20, "connections": 50},
    "1k": {"title": "one site, plaintext, 1 KiB", "size": 1024},
    "100k": {"title": "one site, plaintext, 100 KiB", "size": 102400, "share": 0.2},
}


MESSAGES_PER_CONNECTION = 100 # SmtpMaxMessagesPerConnection's default


def lines_of(scenario):
    if "domains" in scenario:
        return providers(scenario["domains"], scenario["providers"]), scenario["domains"]
    count = scenario.get("sites", 1)
    return sites(count), count


def sites_of(scenario):
    return scenario.get("providers", scenario.get("sites", 1))


def sink_options(lab, scenario):
    options = {"latency": scenario["latency"]} if "latency" in scenario else {}
    if "tls" in scenario:
        options.update(pki=lab.path, sites=scenario["tls"], site="mx#.sites.test")
    return options


def check_arrived(who, scenario, messages, fed, tally):
    """A run counts when each message arrived once, and all of it as the scenario says."""
    shaken = tally["full"] + tally["resumed"]
    if tally["messages"] != messages or tally["distinct"] != messages or fed["refused"]:
        raise RuntimeError(f"{who}: {tally['messages']} ({tally['distinct']} distinct) of {messages} arrived, "
                           f"{fed['refused']} refused")
    if "tls" in scenario and (tally["clear"] or tally["failed"] or shaken != tally["connections"]):
        raise RuntimeError(f"{who}: {tally['clear']} in the clear, {shaken} handshakes and {tally['failed']} failed ones "
                           f"on {tally['connections']} connections")


def relay_run(scenario, messages, connections):
    """The bare relay with the scenario's own sites, TLS and latency; connections end as the daemon's do."""
    with Lab() as lab:
        sink_port, port = free_port(), free_port()
        lab.drain(sink_port, **sink_options(lab, scenario))
        own = {"connections": scenario.get("connections", 20), "sites": sites_of(scenario),
               "per_connection": scenario.get("per_connection", MESSAGES_PER_CONNECTION)}
        if "tls" in scenario:
            own.update(pki=lab.path, site="mx#.sites.test")
        relay = lab.relay(port, sink_port, **own)
        before, began = own_cpu_seconds(relay.pid), time.monotonic()
        _, fed = lab.feed(f"127.0.0.1:{port}", messages=messages, size=scenario.get("size", 4096),
                          connections=connections, recipient="u@d#.test", modulo=lines_of(scenario)[1])
        wait_for(lambda: lab.tally("drain.tally")["distinct"] == messages, 300, "the relay's delivery")
        took = time.monotonic() - began
        time.sleep(0.05) # the last log line, and the handshake of a connection that was opened too late for mail
        used, tally = own_cpu_seconds(relay.pid) - before, lab.tally("drain.tally")
        check_arrived("the bare relay", scenario, messages, fed, tally)
        relay.terminate()
        words = relay.communicate()[0].split()
        if int(words[1]) != messages:
            raise RuntimeError(f"the bare relay says it delivered {words[1]} of {messages}")
        return {"cpu": used / messages * 1000, "rate": messages / took, "per_write": messages / int(words[3]),
                "sessions": tally["connections"], "full": tally["full"], "resumed": tally["resumed"]}


def floor_run(messages, size, connections, latency=0):
    """The bare relay in plaintext to one site, on connections that don't end."""
    scenario = {"size": size, "per_connection": 0}
    if latency:
        scenario.update(latency=latency, connections=50)
    return relay_run(scenario, messages, connections)


def daemon_run(scenario, messages, options, started=lambda daemon: None):
    size = scenario.get("size", 4096)
    lines, modulo = lines_of(scenario)
    with Lab() as lab:
        port = free_port()
        connector = f"MaxConnections = {scenario.get('connections', 20)}"
        if "tls" in scenario:
            connector += " " + TLS.format(names='"*.sites.test"', root=lab.path / "root.pem")
        drain = lab.drain(port, **sink_options(lab, scenario))
        daemon = Daemon(lab, port, lines, connector, workers=options.workers, durability=options.durability,
                        extra=f"IoWorld = {scenario['world']}" if "world" in scenario else "")
        started(daemon)
        drain_before, before, began = own_cpu_seconds(drain.pid), daemon.cpu(), time.monotonic()
        feed_cpu, fed = lab.feed(daemon.listening, messages=messages, size=size, connections=options.connections,
                                 recipient="u@d#.test", modulo=modulo)
        wait_for(lambda: lab.tally("drain.tally")["distinct"] == messages, 300, "delivery")
        took = time.monotonic() - began
        wait_for(lambda: daemon.metrics()["posthaste_queued"] == 0, 30, "the last outcome")
        used, drain_used, m, d = (daemon.cpu() - before, own_cpu_seconds(drain.pid) - drain_before,
                                  daemon.metrics(), lab.tally("drain.tally"))
        world = daemon.world()
        check_arrived(scenario["title"], scenario, messages, fed, d)
        return {"cpu": used / messages * 1000, "rate": messages / took, "source_cpu": feed_cpu / messages * 1000,
                "sink_cpu": drain_used / messages * 1000,
                "per_write": m["posthaste_spool_group_messages_total"] / m["posthaste_spool_groups_total"]
                if "posthaste_spool_groups_total" in m else messages / m["posthaste_durable_writes_total"],
                "writes": m["posthaste_durable_writes_total"] / messages, "sessions": d["connections"],
                "full": d["full"], "resumed": d["resumed"], "world": world}


def median_of(runs, key):
    return Runs.of(runs, key).median()


def sessions_of(runs):
    full, resumed = median_of(runs, "full"), median_of(runs, "resumed")
    return f"{median_of(runs, 'sessions'):.0f}" + (f" ({full:.0f}+{resumed:.0f})" if full else "")


def main():
    prepare()
    parser = options_parser(__doc__, messages=20000, runs=3, workers=1, connections=20, durability="commit")
    parser.add_argument("scenarios", nargs="*", help=f"of {', '.join(SCENARIOS)}; default all")
    options = parser.parse_args()
    names = options.scenarios or list(SCENARIOS)
    rows, results = [], {}
    for name in names:
        scenario = SCENARIOS[name]
        messages = int(options.messages * scenario.get("share", 1))
        relays, floors, runs = [], [], []
        # By turns, so that what else the machine does falls on all.
        for _ in range(options.runs if messages <= 50000 else 1):
            relays.append(relay_run(scenario, messages, options.connections))
            floors.append(floor_run(min(messages, options.messages), scenario.get("size", 4096), options.connections,
                                    scenario.get("latency", 0)))
            runs.append(daemon_run(scenario, messages, options))
        cpu, same, floor = median_of(runs, "cpu"), median_of(relays, "cpu"), median_of(floors, "cpu")
        results[name] = {"title": scenario["title"], "messages": messages, "size": scenario.get("size", 4096),
                         "durability": options.durability, "workers": options.workers, "relay": relays,
                         "floor": floors, "runs": runs, "cpu_per_1000": cpu, "relay_cpu_per_1000": same,
                         "floor_cpu_per_1000": floor, "ratio": cpu / same, "ratio_plaintext": cpu / floor}
        rows.append([scenario["title"], options.durability, f"{cpu / same:.2f}", f"{cpu / floor:.2f}", f"{cpu:.4f}",
                     f"{same:.4f}", f"{floor:.4f}", f"{median_of(runs, 'rate'):.0f}", f"{median_of(relays, 'rate'):.0f}",
                     f"{median_of(runs, 'per_write'):.1f}", sessions_of(runs), sessions_of(relays),
                     f"{median_of(runs, 'source_cpu'):.3f}+{median_of(runs, 'sink_cpu'):.3f}"])
        print(f"  {scenario['title']}: {cpu / same:.2f} times the bare relay that does the same, "
              f"{cpu / floor:.2f} times the one in plaintext to one site")
        sys.stdout.flush()
    world = runs[0]["world"]
    table(f"deliver: posthaste ({world}, {options.workers} worker(s), spool on {file_system(OUT)}) against the bare relay",
          ["scenario", "durability", "ratio", "to plaintext", "CPU s/1,000", "relay", "plaintext", "msg/s", "relay",
           "msg/write", "sessions", "relay", "source+sink CPU"], rows,
          "ratio: CPU seconds per 1,000 messages, the daemon's over those of the bare relay in the same run that serves\n"
          "the scenario's own sites with its TLS; to plaintext: over the relay that speaks plaintext to one site. sessions:\n"
          "connections (handshakes full+resumed), as the sink counted them.")
    bars("deliver", "CPU a message, microseconds", [
        (r["title"], {"posthaste": r["cpu_per_1000"] * 1000, "bare relay, the same": r["relay_cpu_per_1000"] * 1000,
                      "bare relay, plaintext": r["floor_cpu_per_1000"] * 1000})
        for r in results.values()])
    save("deliver", {"options": vars(options), "scenarios": results})


if __name__ == "__main__":
    main()
