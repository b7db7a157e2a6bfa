#!/usr/bin/env python3
"""posthaste, Postfix, OpenSMTPD and Exim side by side: the same source, sink, names and messages, each with its durable
spool on the same freshly made journalled ext4. CPU is that of whole process trees from the first injection to the last
delivery. Needs root, for namespaces and a loop mount; nothing of it is left behind."""
import os
import shutil
import subprocess
import sys
import time

from deliver import TLS, median_of, providers, sites
from lab import (OUT, Daemon, Lab, end, file_system, memory_kib, options_parser, own_cpu_seconds, prepare, save, table, wait_for)
from peers import PEERS, make_world, serve_dns, unpack
from plot import bars

SCENARIOS = {
    "plain": {"title": "S1 one site, plaintext", "sites": 1},
    "tls": {"title": "S2 one site, verified TLS", "sites": 1, "tls": True},
    "sites": {"title": "S3 1,000 sites, verified TLS", "sites": 1000, "tls": True},
    "1k": {"title": "S4 one site, plaintext, 1 KiB", "sites": 1, "size": 1024},
    "latency": {"title": "S5 as S2, 20 ms a reply, 50 connections", "sites": 1, "tls": True, "latency": 20,
                "connections": 50},
    "latency10": {"title": "S6 as S5, 10 connections", "sites": 1, "tls": True, "latency": 20, "connections": 10},
    "100k": {"title": "S7 one site, plaintext, 100 KiB", "sites": 1, "size": 102400},
    "providers": {"title": "S8 100,000 domains on 50 providers", "sites": 50, "domains": 100000},
}
SHORT = ("plain", "tls", "sites", "latency", "latency10") # within ten minutes; the default


PER_SITE = 10 # messages to each of many sites: a site that gets a single one is all handshake


class Posthaste:
    name, share = "posthaste", 1

    def __init__(self, lab, scenario):
        connector = f"MaxConnections = {scenario.get('connections', 20)}"
        if "tls" in scenario:
            connector += " " + TLS.format(names='"*.sites.test"', root=lab.path / "root.pem")
        # One site has one name here: the peers are told mx0 too.
        lines = providers(scenario["domains"], scenario["sites"]) if "domains" in scenario else sites(scenario["sites"])
        self.daemon = Daemon(lab, 25, lines, connector, workers=1)
        self.process, self.listening, self.cpu = self.daemon.process, self.daemon.listening, self.daemon.cpu

    def memory(self):
        return memory_kib(self.process.pid)

    def words(self):
        return (self.daemon.lab.path / "errors").read_text()[-1000:]


def run(kind, scenario, messages, disk):
    with Lab(disk) as lab:
        drain_options = {}
        if "tls" in scenario:
            drain_options.update(pki=lab.path, sites=scenario["sites"], site="mx#.sites.test")
        if "latency" in scenario:
            drain_options["latency"] = scenario["latency"]
        drain = lab.drain(25, **drain_options)
        server = kind(lab, scenario)
        before, drain_before, began = server.cpu(), own_cpu_seconds(drain.pid), time.monotonic()
        try:
            feed_cpu, fed = lab.feed(server.listening, messages=messages, size=scenario.get("size", 4096),
                                     connections=20, recipient="u@d#.test",
                                     modulo=scenario.get("domains") or min(scenario["sites"], max(1, messages // PER_SITE)))
            wait_for(lambda: lab.tally("drain.tally")["distinct"] >= messages, 60, f"{kind.name}'s delivery")
        except RuntimeError as error:
            raise RuntimeError(f"{error}; its last words:\n{server.words()}") from error
        took, memory = time.monotonic() - began, server.memory()
        time.sleep(0.3) # its last words
        used, d = server.cpu() - before, lab.tally("drain.tally")
        if fed["refused"] or d["messages"] < messages or ("tls" in scenario and d["clear"]):
            raise RuntimeError(f"{kind.name}: {d['messages']} of {messages}, {fed['refused']} refused, "
                               f"{d['clear']} in the clear")
        end(server.process)
        return {"cpu": used / messages * 1000, "rate": messages / took, "memory_kib": memory, "messages": messages,
                "sessions": d["connections"], "full": d["full"], "resumed": d["resumed"],
                "duplicates": d["messages"] - messages, "tools_cpu":
                (feed_cpu + own_cpu_seconds(drain.pid) - drain_before) / messages * 1000}


def compare(names, servers, options, disk):
    rows, results = [], {}
    for name in names:
        scenario = SCENARIOS[name]
        dns = serve_dns(scenario["sites"])
        figures = {}
        for turn in range(options.runs):
            for kind in servers:
                try:
                    messages = max(options.messages, PER_SITE * scenario["sites"]) if scenario["sites"] > 1 \
                        else options.messages
                    figure = run(kind, scenario, int(messages * kind.share), disk)
                    figures.setdefault(kind, []).append(figure)
                except RuntimeError as error:
                    print(f"  {scenario['title']}: {error}", file=sys.stderr)
        os.kill(dns, 9)
        os.waitpid(dns, 0)
        ours = figures.get(Posthaste)
        for kind, runs in figures.items():
            cpu, rate = median_of(runs, "cpu"), median_of(runs, "rate")
            rows.append([scenario["title"], kind.name, "commit", "TLS 1.3" if "tls" in scenario else "none",
                         f"{cpu / median_of(ours, 'cpu'):.1f}" if ours else "",
                         f"{median_of(ours, 'rate') / rate:.1f}" if ours else "", f"{cpu:.3f}", f"{rate:.0f}",
                         runs[0]["messages"], f"{median_of(runs, 'sessions'):.0f}",
                         f"{median_of(runs, 'full'):.0f}+{median_of(runs, 'resumed'):.0f}",
                         f"{median_of(runs, 'memory_kib') / 1024:.0f}"])
        results[name] = {kind.name: runs for kind, runs in figures.items()}
        print(f"  {scenario['title']}: done")
        sys.stdout.flush()
    return rows, results


def inside(options):
    disk = OUT / "versus-disk"
    make_world(disk)
    servers = [Posthaste] + [PEERS[name] for name in options.servers.split(",") if name in PEERS]
    rows, results = compare(options.scenarios or SHORT, servers, options, disk)
    table(f"versus: spool on {file_system(disk)} with a journal, one machine, by turns",
          ["scenario", "server", "durability", "TLS", "CPU / ours", "our msg/s / its", "CPU s/1,000", "msg/s",
           "messages", "sessions", "handshakes", "PSS MiB"], rows,
          "CPU: user and system of the whole process tree. Durability: each acknowledges what is synced, as delivered by\n"
          "its package. handshakes: full+resumed, counted by the sink. Haraka isn't installed here: left out.")
    bars("versus", "CPU a message, microseconds", [
        (SCENARIOS[name]["title"], {server: median_of(runs, "cpu") * 1000 for server, runs in of.items()})
        for name, of in results.items()], log=True)
    save("versus", {"options": vars(options), "scenarios": results})


def main():
    prepare()
    parser = options_parser(__doc__, messages=3000, runs=1, servers="postfix,opensmtpd,exim")
    parser.add_argument("--inside", action="store_true", help="of the namespaces; not for people")
    parser.add_argument("scenarios", nargs="*", help=f"of {', '.join(SCENARIOS)}; default {' '.join(SHORT)}")
    options = parser.parse_args()
    if options.inside:
        return inside(options)
    if os.geteuid() != 0:
        sys.exit("versus: needs root, for its own namespaces and a loop mount")
    OUT.mkdir(parents=True, exist_ok=True)
    unpack()
    done = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child",
                           sys.executable, *sys.argv, "--inside"])
    shutil.rmtree(OUT / "versus-disk", ignore_errors=True)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
