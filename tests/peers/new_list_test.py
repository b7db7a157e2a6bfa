#!/usr/bin/python3
"""A new revocation list, without a restart: idle sessions, sessions in use, tickets and verdicts it concerns
end with it, those of another issuer don't, and mail that was held for want of it goes at once. The peers'
ledgers are the witnesses: who was told MAIL in which session, and what was accepted."""
import base64
import subprocess
import sys
import time

from destinations import DAY, NOW, Certificate, Peer
from posthaste import BUILD, Daemon, Directory, free_port, wait_for
from revocation_test import Web, outcome, send

PORT = free_port("127.4.2.1")
CROWD = 100 # domains at one provider


def pem(der):
    return f"-----BEGIN X509 CRL-----\n{base64.encodebytes(der).decode()}-----END X509 CRL-----\n"


class Test:
    # Each below a root of its own. RetryTls is an hour: what is delivered again was released.
    NAMES = ["flow", "calm", "late", "stale", "crowd", "local", "anchor", "named"]

    def __init__(self, directory, web):
        self.directory, self.web = directory, web
        self.roots = {name: Certificate(["root of " + name], authority=True) for name in self.NAMES}
        self.leaves, self.peers = {}, {}
        for name in self.NAMES:
            host = "elsewhere.test" if name == "named" else f"mx.{name}.list.test"
            point = None if name in ("local", "anchor") else f"http://crl.list.test:{web.port}/{name}.crl"
            self.leaves[name] = Certificate([host], self.roots[name], distribution_point=point)
        for name in ("flow", "calm", "named"):
            web.files[f"/{name}.crl"] = self.roots[name].crl()
        web.files["/stale.crl"] = self.roots["stale"].crl(last=NOW - 9 * DAY, following=NOW - DAY)
        self.write_local(last=NOW - 9 * DAY, following=NOW - DAY)
        self.write_anchors([name for name in self.NAMES if name != "anchor"])
        self.daemon = Daemon(directory, self.config())

    def write_local(self, **dates):
        new = self.directory.path / "local.new"
        new.write_text(pem(self.roots["local"].crl(**dates)))
        new.rename(self.directory.path / "local.crl")

    def write_anchors(self, names):
        (self.directory.path / "roots.pem").write_bytes(b"".join(self.roots[name].pem() for name in names))

    def config(self):
        path, connectors = self.directory.path, []
        data = ['"crl.list.test. A 127.4.1.2"']
        for number, name in enumerate(self.NAMES, 1):
            address = f"127.4.2.{number}"
            self.peers[name] = Peer(address, PORT, self.leaves[name].write(path / f"{name}.pem"))
            data += [f'"{name}.list.test. MX 10 mx.{name}.list.test."', f'"mx.{name}.list.test. A {address}"']
            more = f'RevocationFetch = false RevocationCrls = {{"{path}/local.crl"}}' if name == "local" else (
                "RevocationFetch = false" if name == "anchor" else "")
            connectors.append(f"""SendConnector "{name}" {{ AddressSpaces = {{"{name}.list.test", "*.{name}.list.test"}}
  RequireTLS = true TlsAuthLevel = DomainValidation TlsDomain = {{"mx.{name}.list.test"}}
  TlsTrustAnchors = {{"{path}/roots.pem"}} {more} RetryTls = {{1h}}
  ConnectionInactivityTimeOut = 1m SmtpMaxMessagesPerConnection = 20 PipelineDepth = 1 }}""")
        data += [f'"d{i}.crowd.list.test. MX 10 mx.crowd.list.test."' for i in range(CROWD)]
        return "RevocationRefresh = 1s\n" + "\n".join(connectors) + f"""
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
TransportConfig {{ MaxPerDomainOutboundConnections = 4 }}
Resolver {{ Port = {PORT} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{", ".join(data)}}} }}
"""

    def mail(self, name, user, domain=None):
        send(self.daemon, domain or f"{name}.list.test", user)

    def deferred(self, name, user, reason, domain=None):
        recipient = f"{user}@{domain or name + '.list.test'}"
        wait_for(lambda: outcome(self.daemon, recipient), 20, f"an outcome for {recipient}")
        event = outcome(self.daemon, recipient)
        assert event["event"] == "deferred" and event["reason"] == reason, event

    def delivered(self, recipients, what):
        wait_for(lambda: set(recipients) <= {e["recipient"] for e in self.daemon.each_event()
                                             if e["event"] == "delivered"}, 20, what)

    def probe(self, name, user):
        """Does a list hold it? Else it was delivered."""
        self.mail(name, user)
        wait_for(lambda: outcome(self.daemon, f"{user}@{name}.list.test"), 20, f"an outcome for {user}")
        event = outcome(self.daemon, f"{user}@{name}.list.test")
        assert event["event"] == "delivered" or event["reason"] == "revocation-unknown", event
        return event["event"] == "deferred"

    def attempts(self, name, reason=None):
        return len([e for e in self.daemon.each_event() if e["event"] == "attempt" and e["connector"] == name
                    and reason in (None, e["reason"])])

    def held_mail(self):
        return self.daemon.metrics()["posthaste_tls_held"]

    # --- sessions, tickets, verdicts ---

    def several_sessions(self, name, count):
        """As many at once, by messages that wait for their reply; and idle after it."""
        peer = self.peers[name]
        peer.gate.clear()
        for i in range(count):
            self.mail(name, f"p{i}")
            wait_for(lambda: len([s for s in peer.open() if Peer.mails_in(s)]) > i, 20, f"session {i} of {name}")
        peer.gate.set()
        wait_for(lambda: len(peer.messages) >= count, 20, "their messages")

    def revoked_in_use(self):
        flow, calm = self.peers["flow"], self.peers["calm"]
        for i in range(45): # three sessions, one after another: the later ones are resumed
            self.mail("flow", f"before{i}")
        wait_for(lambda: len(flow.messages) == 45, 20, "what came before")
        assert any(s["resumed"] for s in flow.sessions), "no ticket was used"
        self.several_sessions("calm", 1)
        flow.gate.clear()
        known = len(flow.messages)
        count = 0
        while len([s for s in flow.open() if Peer.mails_in(s)]) < 3: # in use, all of them
            self.mail("flow", f"parallel{count}")
            count += 1
            time.sleep(0.2)
        flow.gate.set()
        wait_for(lambda: len(flow.messages) == known + count, 20, "messages in parallel")
        idle = flow.open()
        flow.gate.clear()
        before = sum(len(Peer.mails_in(s)) for s in idle)
        self.mail("flow", "inflight")
        wait_for(lambda: sum(len(Peer.mails_in(s)) for s in flow.open()) == before + 1, 20, "one in flight")
        time.sleep(0.3) # it is sent whole
        accepted, told, sessions = len(flow.messages), len(flow.mails()), len(flow.sessions)
        calm_sessions = calm.open()
        assert len(idle) >= 3 and len(calm_sessions) == 1, (len(idle), len(calm_sessions))

        self.web.files["/flow.crl"] = self.roots["flow"].crl([self.leaves["flow"]], last=NOW - DAY / 2)
        wait_for(lambda: len(flow.open()) == 1, 20, "the end of the idle sessions")
        for session in idle:
            assert not session["ended"] or session["commands"][-1] == "QUIT", session["commands"][-3:]
        assert self.daemon.metrics()["posthaste_revocation_sessions_ended_total"] == len(idle)
        for i in range(10): # while one is in flight
            self.mail("flow", f"after{i}")
        wait_for(lambda: self.held_mail() == 10, 20, "what comes after being held")
        flow.gate.set()
        wait_for(lambda: not flow.open(), 20, "the end of the session in use")
        for i in range(10, 20):
            self.mail("flow", f"after{i}")
        refused = self.attempts("flow", "cert-revoked")
        assert refused > 0
        subprocess.run([BUILD / "posthaste", "queue", "retry", "*", "-c", self.daemon.config], check=True,
                       capture_output=True)
        wait_for(lambda: self.attempts("flow", "cert-revoked") > refused, 20, "another try")
        wait_for(lambda: self.held_mail() == 20, 20, "all being held")
        # The ledger: one more was accepted, whose envelope had gone before, and no other was begun.
        assert len(flow.messages) == accepted + 1 and len(flow.mails()) == told
        assert sum(e["event"] == "delivered" and e["connector"] == "flow" for e in self.daemon.each_event()) == \
            len(flow.messages)
        later = flow.sessions[sessions:]
        assert later and not any(s["resumed"] for s in later), "a ticket outlived the list"
        assert not any(Peer.mails_in(s) for s in later)
        # What another list vouches for goes on in the same session.
        self.mail("calm", "goes-on")
        self.delivered(["goes-on@calm.list.test"], "mail of another issuer")
        assert calm.open() == calm_sessions, "a list ended a session that it says nothing of"
        print(f"flow: {len(idle)} sessions open, one in use: idle ones ended by the list, that one after its "
              f"message; none of 20 more accepted, {len(later)} handshakes refused, no ticket used")

    # --- mail that was held ---

    def held(self):
        for name in ("late", "stale", "local"):
            self.mail(name, "held")
            self.deferred(name, "held", "revocation-unknown")
        self.mail("named", "held")
        self.deferred("named", "held", "cert-name-mismatch")
        for i in range(CROWD):
            self.mail("crowd", "held", f"d{i}.crowd.list.test")
        for i in range(CROWD):
            self.deferred("crowd", "held", "revocation-unknown", f"d{i}.crowd.list.test")
        self.mail("anchor", "held")
        self.deferred("anchor", "held", "cert-untrusted-root")
        assert not any(self.peers[name].mails() for name in ("late", "stale", "local", "named", "crowd", "anchor"))
        named = self.attempts("named")

        self.web.files["/late.crl"] = self.roots["late"].crl()
        self.delivered(["held@late.list.test"], "the list that was missing")
        self.web.files["/stale.crl"] = self.roots["stale"].crl()
        self.delivered(["held@stale.list.test"], "the list in the place of one out of date")
        self.write_local()
        self.delivered(["held@local.list.test"], "the file's new list")
        self.web.files["/crowd.crl"] = self.roots["crowd"].crl()
        self.delivered([f"held@d{i}.crowd.list.test" for i in range(CROWD)], "what a crowd waited for")
        assert len(self.peers["crowd"].messages) == CROWD
        released = self.daemon.metrics()["posthaste_revocation_queues_released_total"]
        assert released >= 3 + CROWD, released
        assert "a revocation list has changed: held mail of " in self.daemon.said()
        assert self.attempts("named") == named, "a wrong name was tried again for the sake of a list"

        self.write_anchors(self.NAMES) # a reload tries all that is held
        self.daemon.reload()
        self.delivered(["held@anchor.list.test"], "the anchor that was missing")
        wait_for(lambda: self.attempts("named") > named, 20, "the wrong name's next try")
        self.write_local(last=NOW - 9 * DAY, following=NOW - DAY)
        self.daemon.reload()
        count = 0
        while not self.probe("local", f"again{count}"): # until the file was read
            count += 1
        self.write_local()
        self.daemon.reload() # its mail is tried before the file is read, and again when it was
        self.delivered([f"again{count}@local.list.test"], "the list that came with a reload")
        crowd = len([s for s in self.peers["crowd"].sessions if Peer.mails_in(s)])
        print(f"held: released by lists fetched, renewed, read and reloaded; {CROWD} domains at one provider "
              f"over {crowd} sessions; by a trust anchor; a wrong name was left alone")


def main():
    web = Web("127.4.1.2")
    with Directory() as directory:
        test = Test(directory, web)
        test.revoked_in_use()
        test.held()
        assert test.daemon.metrics()["posthaste_messages_unscheduled"] == 0
        assert test.daemon.stop() == 0
    web.close()
    return 0


sys.exit(main())
