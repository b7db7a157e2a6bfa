#!/usr/bin/env python3
"""Post-quantum key exchange with real hosts, and boxes between that drop a ClientHello of two segments: the
first flight is short until the host is known to want more, what is lost is tried again in one segment, and
TlsRequireGroups holds meanwhile. What this library has decides how much can be shown; it is said."""
import smtplib
import socket
import struct
import subprocess
import sys
import threading

from destinations import Certificate, Peer
from posthaste import BUILD, Daemon, Directory, Sink, free_port, wait_for

PORT = free_port("127.6.1.1")
SEGMENT = 1400
KEM = "X25519MLKEM768"


class Box:
    """Hands bytes on between a host's address and the host behind; notes the size of each ClientHello. One
    that is too long for it: `silent` swallows it and all after it, `reset` ends the connection, `pass` hands it on."""

    def __init__(self, address, behind, mode):
        self.behind, self.mode, self.sessions = behind, mode, []
        self.listener = socket.create_server((address, PORT), backlog=64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            hellos = []
            self.sessions.append(hellos)
            threading.Thread(target=self.carry, args=(client, hellos), daemon=True).start()

    def carry(self, client, hellos):
        server = socket.create_connection((self.behind, PORT))
        threading.Thread(target=self.answer, args=(server, client), daemon=True).start()
        try:
            self.listen(client, server, hellos)
        except OSError:
            pass
        finally:
            server.close()

    def answer(self, server, client):
        try:
            while data := server.recv(65536):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def listen(self, client, server, hellos):
        tls, buffered = False, b""
        while data := client.recv(65536):
            if not tls:
                server.sendall(data)
                tls = data.upper().endswith(b"STARTTLS\r\n")
                continue
            buffered += data
            while len(buffered) >= 5 and len(buffered) >= 5 + int.from_bytes(buffered[3:5], "big"):
                size = 5 + int.from_bytes(buffered[3:5], "big")
                record, buffered = buffered[:size], buffered[size:]
                if record[0] == 0x16:
                    hellos.append(size)
                    if size > SEGMENT and self.mode == "reset":
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        client.close()
                        return
                    if size > SEGMENT and self.mode == "silent":
                        while client.recv(65536):
                            pass
                        return
                server.sendall(record)


def sizes(session):
    return ["long" if size > SEGMENT else "short" for size in session]


# name: (the box, the connector's settings, the sizes of each session's hellos, group or reason); two messages each,
# one after the other, on sessions of their own.
STRICT = "RequireTLS = true TlsAuthLevel = CertificateValidation"
CASES = {
    "known": ("pass", "", [["short", "long"], ["long"]], KEM),
    "eager": ("pass", f'TlsGroups = "{KEM}:X25519"', [["long"], ["long"]], KEM),
    "silent": ("silent", "", [["short", "long"], ["short"], ["short"]], "X25519"),
    "reset": ("reset", "", [["short", "long"], ["short"], ["short"]], "X25519"),
    "strict": ("silent", STRICT, [["short", "long"], ["short"], ["short"]], "X25519"),
    "eager-lost": ("silent", f'TlsGroups = "{KEM}:X25519"', [["long"], ["short"], ["short"]], "X25519"),
    "either": ("reset", f'RequireTLS = true TlsRequireGroups = "{KEM}:X25519"', [["long"], ["short"], ["short"]], "X25519"),
    "demanded": ("pass", f'RequireTLS = true TlsRequireGroups = "{KEM}"', [["long"], ["long"]], KEM),
    "demanded-lost": ("silent", f'RequireTLS = true TlsRequireGroups = "{KEM}"', None, "tls-handshake-failed"),
}
WITHOUT = {"plain": ("silent", "", [["short"], ["short"]], "X25519")}


def has_kem(directory):
    """By what `check` says, whose error must tell what to do."""
    file = directory.path / "has.conf"
    file.write_text(f'Hostname = "a.test"\nSpoolDir = "{directory.path}"\nSendConnector "x" {{ AddressSpaces = {{"*"}} '
                    f'TlsGroups = "{KEM}:X25519" }}\n')
    done = subprocess.run([BUILD / "posthaste", "check", "-c", file], capture_output=True, text=True)
    if done.returncode != 0:
        assert f"has.conf:3: C17 TlsGroups: this build of BoringSSL has no {KEM}; write ?{KEM} to go on without it, or " \
            "build with a newer one (BORINGSSL_ROOT)" in done.stderr, done.stderr
    return done.returncode == 0


def main():
    with Directory() as directory:
        kem = has_kem(directory)
        cases = CASES if kem else WITHOUT
        data, boxes, connectors, sinks = [], {}, [], []
        for number, (name, (mode, settings, _, _)) in enumerate(cases.items(), 1):
            data += [f'"{name}.test. MX 10 mx.{name}.test."', f'"mx.{name}.test. A 127.6.1.{number}"']
            sinks.append(f"{name} 127.6.2.{number}:{PORT} good host=mx.{name}.test")
            boxes[name] = Box(f"127.6.1.{number}", f"127.6.2.{number}", mode)
            connectors.append(f"""SendConnector "{name}" {{ AddressSpaces = {{"{name}.test"}} TlsTimeout = 1s
    SmtpMaxMessagesPerConnection = 1 {settings} TlsTrustAnchors = {{"{directory.path}/root.pem"}}
    RevocationCrls = {{"{directory.path}/crl.pem"}} }}""")
        # A host that has P-256 alone asks for it, and from then on is offered its key share at once.
        other = Peer("127.6.2.200", PORT, Certificate(["mx.other.test"]).write(directory.path / "other.pem"))
        other.context.set_ecdh_curve("prime256v1")
        boxes["other"] = Box("127.6.1.200", "127.6.2.200", "pass")
        data += ['"other.test. MX 10 mx.other.test."', '"mx.other.test. A 127.6.1.200"']
        connectors.append('SendConnector "other" { AddressSpaces = {"other.test"} SmtpMaxMessagesPerConnection = 1 }')
        sink = Sink(directory, sinks)
        daemon = Daemon(directory, "\n".join(connectors) + f"""
Workers = 1
TlsCaches = off
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Resolver {{ Port = {PORT} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{", ".join(data)}}} }}
""")

        def send(prefix):
            host, port = daemon.listening["in"].split(":")
            with smtplib.SMTP(host, int(port)) as client:
                for name in list(cases) + ["other"]:
                    client.sendmail("s@one.test", [f"{prefix}@{name}.test"], "Subject: one\r\n\r\nx\r\n")

        def outcomes(prefix):
            return {e["recipient"].split("@")[1][:-5]: e for e in daemon.events()
                    if e["event"] in ("delivered", "deferred") and e["recipient"].startswith(prefix)}

        held = sum(not cases[name][2] for name in cases)
        for prefix, wanted in (("u", len(cases) + 1), ("v", len(cases) + 1 - held)):
            send(prefix)
            wait_for(lambda: len(outcomes(prefix)) >= wanted, 20, f"{wanted} outcomes")
        # The same code, and so the same finding.
        shown = "known" if kem else "plain"
        told = subprocess.run([BUILD / "posthaste", "test", f"x@{shown}.test", "-c", daemon.config], capture_output=True,
                              text=True).stdout
        assert f", {KEM}" in told or not kem, told
        explained = subprocess.run([BUILD / "posthaste", "explain", f"x@{shown}.test", "-c", daemon.config], check=True,
                                   capture_output=True, text=True).stdout
        lost = subprocess.run([BUILD / "posthaste", "test", "x@silent.test", "-c", daemon.config], capture_output=True,
                              text=True) if kem else None
        assert not lost or (lost.returncode == 0 and ", X25519\n" in lost.stdout.replace(",  ", ", ")), lost
        attempts = [e for e in daemon.events() if e["event"] == "attempt" and "two segments" in e["text"]]
        assert daemon.stop() == 0
        ledgers, _ = sink.ledgers()
        for name, (mode, _, hellos, found) in cases.items():
            sessions = [sizes(session) for session in boxes[name].sessions]
            print(f"{name:14} {mode:7} {found:20} {sessions[:4]}")
            first = outcomes("u")[name]
            if hellos is None:
                assert first["event"] == "deferred" and first["reason"] == found, first
                assert "allows no shorter one" in first["text"], first
                assert all(session == ["long"] for session in sessions), sessions
                assert ledgers[name]["messages"] == ledgers[name]["tls"] == 0
            else:
                assert sessions[:len(hellos)] == hellos, sessions
                for event in (first, outcomes("v")[name]):
                    assert event["event"] == "delivered" and event["tls"]["group"] == found, event
            assert ledgers[name]["clear"] == 0
            retried = [e for e in attempts if e["site"] == f"mx.{name}.test"]
            assert bool(retried) == (mode != "pass" and kem), (name, retried)
        assert [e["tls"]["group"] for e in (outcomes("u")["other"], outcomes("v")["other"])] == ["P-256"] * 2
        hellos = [len(session) for session in boxes["other"].sessions]
        assert hellos == ([2, 1] if kem else [2, 2]), hellos # the older library sends what it always sends
        assert "key exchange" in explained and (KEM in explained) == kem, explained
        print(f"first_flight: {len(cases) + 1} hosts; " + (
            f"with {KEM}" if kem else f"this library lacks {KEM}: {len(CASES)} cases want one that has it (BORINGSSL_ROOT)"))


sys.exit(main())
