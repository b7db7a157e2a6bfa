#!/usr/bin/env python3
"""Certificates revoked while mail flows: CRLs from distribution points and from files. The peers'
transcripts say what was accepted; the web server counts what was fetched."""
import base64
import http.server
import smtplib
import sys
import threading
import time

from destinations import DAY, NOW, Certificate, Peer
from posthaste import Daemon, Directory, free_port, wait_for

PORT = free_port("127.4.0.1")


class Web:
    """Distribution points on loopback: path → bytes, or None for a server error."""

    def __init__(self, address):
        self.files, self.requests = {}, []
        self.port = free_port(address)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = outer.files.get(self.path)
                outer.requests.append(self.path)
                self.send_response(200 if body is not None else 503)
                self.end_headers()
                self.wfile.write(body or b"<html>not now</html>")

            def log_message(self, *unused):
                pass

        self.server = http.server.ThreadingHTTPServer((address, self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def count(self, path):
        return self.requests.count(path)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Flow:
    """One message after another for a domain, until it is stopped."""

    def __init__(self, daemon, domain):
        self.address = daemon.listening["in"].split(":")
        self.domain, self.sent, self.running = domain, 0, True
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        with smtplib.SMTP(self.address[0], int(self.address[1])) as client:
            while self.running:
                client.sendmail("s@flow.test", [f"u{self.sent}@{self.domain}"], "Subject: flow\r\n\r\nx\r\n")
                self.sent += 1
                time.sleep(0.02)

    def stop(self):
        self.running = False
        self.thread.join()


def send(daemon, domain, name):
    host, port = daemon.listening["in"].split(":")
    with smtplib.SMTP(host, int(port)) as client:
        client.sendmail("s@one.test", [f"{name}@{domain}"], "Subject: one\r\n\r\nx\r\n")


def outcome(daemon, recipient):
    found = [e for e in daemon.events() if e["event"] in ("delivered", "deferred")
             and e.get("recipient") == recipient]
    return found[0] if found else None


def expect(daemon, domain, name, wanted):
    """`wanted`: a reason, or None for delivered."""
    recipient = f"{name}@{domain}"
    send(daemon, domain, name)
    wait_for(lambda: outcome(daemon, recipient), 30, f"an outcome for {recipient}")
    event = outcome(daemon, recipient)
    assert (event.get("reason") if event["event"] == "deferred" else None) == wanted, event
    return event


def attempts(daemon, connector, reason):
    return len([e for e in daemon.events() if e["event"] == "attempt" and e.get("connector") == connector
                and e.get("reason") == reason])


def refused_again(daemon, connector):
    """The held queue is probed: once more with the same end."""
    before = attempts(daemon, connector, "cert-revoked")
    wait_for(lambda: attempts(daemon, connector, "cert-revoked") > before, 20, f"a probe of {connector}")


def main():
    web = Web("127.4.1.1")
    # Each domain below a root of its own: a list of one says nothing about another's certificate.
    names = ["flow", "missing", "tolerant", "forged", "inside", "stale", "none", "local"]
    roots = {name: Certificate(["root of " + name], authority=True) for name in names}
    leaves = {}
    for name in names:
        point = f"/{name}.crl" if name not in ("none", "local") else None
        host = "inside.revocation.test" if name == "inside" else "crl.revocation.test"
        leaves[name] = Certificate([f"mx.{name}.revocation.test", f"{name}.revocation.test"], roots[name],
                                   distribution_point=point and f"http://{host}:{web.port}{point}")
    forger = Certificate(["root of forged"], authority=True)
    web.files["/flow.crl"] = roots["flow"].crl()
    web.files["/forged.crl"] = forger.crl()
    web.files["/inside.crl"] = roots["inside"].crl()
    web.files["/stale.crl"] = roots["stale"].crl(last=NOW - 9 * DAY, following=NOW - DAY)
    with Directory() as directory:
        peers, connectors, data = {}, [], ['"crl.revocation.test. A 127.4.1.1"',
                                           '"inside.revocation.test. A 10.1.2.3"']
        (directory.path / "roots.pem").write_bytes(b"".join(r.pem() for r in roots.values()))
        local = directory.path / "local.crl"

        def write_local(revoked):
            text = base64.encodebytes(roots["local"].crl(revoked)).decode()
            new = local.with_suffix(".new")
            new.write_text(f"-----BEGIN X509 CRL-----\n{text}-----END X509 CRL-----\n")
            new.rename(local)

        write_local([])
        for number, (name, certificate) in enumerate(leaves.items(), 1):
            peers[name] = Peer(f"127.4.0.{number}", PORT,
                               certificate.write(directory.path / f"{name}.pem"))
            settings = {"tolerant": "RevocationUnknown = accept",
                        "flow": "SmtpMaxMessagesPerConnection = 25",
                        "local": f'RevocationFetch = false RevocationCrls = {{"{local}"}}'}.get(name, "")
            connectors.append(f'SendConnector "{name}" {{ AddressSpaces = {{"{name}.revocation.test"}} '
                              'RequireTLS = true TlsAuthLevel = DomainValidation\n'
                              f'  TlsTrustAnchors = {{"{directory.path}/roots.pem"}} {settings} }}')
            data += [f'"{name}.revocation.test. MX 10 mx.{name}.revocation.test."',
                     f'"mx.{name}.revocation.test. A 127.4.0.{number}"']
        config = "RevocationRefresh = 1s\n" + "\n".join(connectors) + f"""
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Queue {{ QueueGlitchRetryInterval = 300ms TransientFailureRetryInterval = 300ms
  OutboundConnectionFailureRetryInterval = 1s }}
Resolver {{ Port = {PORT} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{", ".join(data)}}} }}
"""
        daemon = Daemon(directory, config)
        for name, reason in {"missing": "revocation-unknown", "tolerant": None, "forged": "revocation-unknown",
                             "inside": "revocation-unknown", "stale": "revocation-unknown", "none": None,
                             "local": None}.items():
            expect(daemon, f"{name}.revocation.test", "first", reason)
        assert web.count("/inside.crl") == 0, "fetched from an address that is not allowed"
        for name in ("missing", "forged", "inside", "stale"):
            assert not peers[name].mails(), f"{name} saw an envelope"

        # A certificate is revoked while mail flows, over several sessions that end and are resumed.
        flows, peer = [Flow(daemon, "flow.revocation.test") for _ in range(4)], peers["flow"]
        wait_for(lambda: len(peer.messages) > 200 and any(s["resumed"] for s in peer.sessions), 20, "mail flowing")
        web.files["/flow.crl"] = roots["flow"].crl([leaves["flow"]], last=NOW - DAY / 2)
        before = web.count("/flow.crl")
        wait_for(lambda: web.count("/flow.crl") > before and any(
            e.get("reason") == "cert-revoked" for e in daemon.events()), 20, "the new list")
        # Envelopes that were cleared before it go on: each session that carried one ends after them.
        wait_for(lambda: not any(map(peer.mails_in, peer.open())), 20, "the end of the sessions in use")
        accepted, envelopes, known = len(peer.messages), len(peer.mails()), list(peer.sessions)
        resumed = len([s for s in known if s["resumed"]])
        sent = sum(flow.sent for flow in flows)
        wait_for(lambda: sum(flow.sent for flow in flows) > sent + 100, 20, "more mail")
        for flow in flows:
            flow.stop()
        refused_again(daemon, "flow")
        assert (len(peer.messages), len(peer.mails())) == (accepted, envelopes), "mail after the refresh"
        told = len([e for e in daemon.events() if e["event"] == "delivered" and e["connector"] == "flow"])
        assert told == accepted == envelopes, (told, accepted, envelopes)
        later = peer.sessions[len(known):]
        assert later and not any(s["resumed"] or peer.mails_in(s) for s in later), "a ticket outlived the list"
        print(f"flow: {accepted} messages accepted in {len(known)} sessions, {resumed} of them resumed, then none of "
              f"the next {sum(flow.sent for flow in flows) - sent}, in {len(later)} more handshakes, none resumed; "
              f"{web.count('/flow.crl')} fetches")

        # flow, stale (held though out of date: it may say "revoked") and the local file.
        assert daemon.metrics()["posthaste_revocation_lists"] == 3, daemon.metrics()["posthaste_revocation_lists"]

        # An older list, replayed, takes nothing back.
        web.files["/flow.crl"] = roots["flow"].crl()
        before = web.count("/flow.crl")
        wait_for(lambda: web.count("/flow.crl") > before + 1, 20, "two more fetches")
        refused_again(daemon, "flow")
        assert len(peers["flow"].mails()) == envelopes

        # A local file is read again.
        write_local([leaves["local"]])
        flow = Flow(daemon, "local.revocation.test")
        wait_for(lambda: attempts(daemon, "local", "cert-revoked"), 20, "the changed file")
        flow.stop()
        accepted = len(peers["local"].mails())
        refused_again(daemon, "local")
        assert len(peers["local"].mails()) == accepted

        # After a restart without the web the copy on disk still says so.
        assert daemon.stop() == 0
        web.close()
        daemon.start()
        refused_again(daemon, "flow")
        assert len(peers["flow"].mails()) == envelopes
        assert daemon.stop() == 0
    print("revocation: fetched, forged, replayed, stale, local and after a restart: as it should be")


if __name__ == "__main__":
    sys.exit(main())
