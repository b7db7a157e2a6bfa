#!/usr/bin/env python3
"""Many domains at one provider, five TLS policies among them, hosts that suit some of them and not others:
sessions are shared, and no message goes over one that proves less than its own domain demands.

DOMAINS and MESSAGES set the size, WORKERS the engine's threads. What is allowed is decided here, by a
table of policies and of what the sink says that its addresses show; the engine is not asked."""
import collections
import json
import os
import subprocess
import sys
import time

from posthaste import BUILD, Daemon, Directory, Sink, free_port, wait_for

DOMAINS = int(os.environ.get("DOMAINS", "200"))
MESSAGES = int(os.environ.get("MESSAGES", "2000"))
WORKERS = int(os.environ.get("WORKERS", "0"))
PORT = free_port("127.2.20.1")

# What the provider's hosts show, by address; all of the same preference.
HOSTS = {
    "mx1a": ("127.2.20.1", "good", "mx1"),
    "mx1b": ("127.2.20.2", "good", "mx1"),
    "mx2": ("127.2.20.3", "good", "mx2"),
    "mx3": ("127.2.20.4", "wrong-name", "mx3"),
    "mx4": ("127.2.20.5", "self-signed", "mx4"),
    "mx5": ("127.2.20.6", "none", "mx5"),
}
CHAINS = {"good", "wrong-name"}

# Policy: (the connector's settings, which sessions it may use).
POLICIES = {
    "opp": ("", lambda shown, tls: True),
    "req": ("RequireTLS = true", lambda shown, tls: tls),
    "enc": ("RequireTLS = true TlsAuthLevel = EncryptionOnly", lambda shown, tls: tls),
    "crt": ("RequireTLS = true TlsAuthLevel = CertificateValidation",
            lambda shown, tls: tls and shown in CHAINS),
    "dom": ('RequireTLS = true TlsAuthLevel = DomainValidation TlsDomain = {"*.provider.test"}',
            lambda shown, tls: tls and shown == "good"),
}


def configuration(directory):
    text = f"Workers = {WORKERS}\n"
    for name, (settings, _) in POLICIES.items():
        text += f"""SendConnector "{name}" {{ AddressSpaces = {{"*.{name}.test"}} {settings}
    TlsTrustAnchors = {{"{directory.path}/root.pem"}} RevocationCrls = {{"{directory.path}/crl.pem"}} }}
"""
    data = [f'"{name}.provider.test. A {address}"' for address, _, name in HOSTS.values()]
    for number, domain in enumerate(domains()):
        # Written otherwise, and the same.
        data += [f'"{domain}. MX {number % 3 * 10} mx{i}.provider.test."' for i in range(1, 6)]
    return text + f"""ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Resolver {{ Port = {PORT} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{", ".join(data)}}} }}
"""


def domains():
    names = list(POLICIES)
    return [f"d{i}.{names[i % len(names)]}.test" for i in range(DOMAINS)]


def judge(record, ledgers):
    """Of each message that the sink took: was the session good enough for its recipient's domain?"""
    insufficient, delivered, mixed = [], collections.Counter(), collections.defaultdict(set)
    for line in record.open():
        host, session, how, recipient = line.split()
        policy = recipient.split("@")[1].split(".")[1]
        if not POLICIES[policy][1](HOSTS[host][1], how != "clear"):
            insufficient.append(line)
        delivered[recipient] += 1
        mixed[session].add(policy)
    assert sum(delivered.values()) == sum(entry["messages"] for entry in ledgers.values())
    return insufficient, delivered, mixed


def main():
    with Directory() as directory:
        record = directory.path / "record"
        sink = Sink(directory, [f"{name} {address}:{PORT} {shown} host={host}.provider.test"
                                for name, (address, shown, host) in HOSTS.items()], record)
        daemon = Daemon(directory, configuration(directory))
        began = time.monotonic()
        subprocess.run([BUILD / "bench-injector", daemon.listening["in"], "20", str(MESSAGES), "2048"] +
                       [f"u-#@{domain}" for domain in domains()], check=True, stdout=subprocess.DEVNULL)
        wait_for(lambda: daemon.metrics()["posthaste_delivered_total"] == MESSAGES, 300, "delivery")
        took, cpu = time.monotonic() - began, daemon.cpu_seconds()
        sites = json.loads(subprocess.run([BUILD / "posthaste", "queue", "sites", "--json", "-c", daemon.config],
                                          check=True, capture_output=True, text=True).stdout)
        assert daemon.stop() == 0
        ledgers, _ = sink.ledgers()
        insufficient, delivered, mixed = judge(record, ledgers)
        connections = sum(entry["sessions"] for entry in ledgers.values())
        full, resumed, refused = (sum(entry[kind] for entry in ledgers.values())
                                  for kind in ("full", "resumed", "failed"))
        for name, entry in ledgers.items():
            print(f"{name:5} {HOSTS[name][1]:12} sessions {entry['sessions']:5} full {entry['full']:4} resumed "
                  f"{entry['resumed']:4} messages {entry['messages']:6} ({entry['clear']} in clear)")
        print(f"provider: {DOMAINS} domains, {len(POLICIES)} policies, {MESSAGES} messages in {took:.1f} s, CPU "
              f"{cpu / MESSAGES * 1e6:.0f} us a message; {connections} connections, {len(mixed)} of them carried "
              f"mail; handshakes {full} full, {resumed} resumed, {refused} given up by the engine; messages on "
              f"insufficient sessions: {len(insufficient)}")
        assert not insufficient, insufficient[:5]
        assert len(delivered) == MESSAGES and set(delivered.values()) == {1}
        assert len({site["worker"] for site in sites}) == len(sites), "domains of one provider have several sites"
        # One session serves several policies, and a domain has none of its own.
        assert max(map(len, mixed.values())) >= 3, mixed
        assert connections < DOMAINS, connections
        # What a host showed is remembered: it isn't asked again and again by mail that it doesn't suit.
        assert connections - len(mixed) <= 8 * len(HOSTS), (connections, len(mixed))


sys.exit(main())
