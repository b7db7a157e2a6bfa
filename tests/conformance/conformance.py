#!/usr/bin/python3
"""The whole truth table against the real daemon on real sockets: once with its caches, once without.

    conformance.py [--final] [ROW…]

Each row has its own domains, connectors and scripted servers; the servers' own records are the
witnesses. Rows that aren't run yet are counted and named; with --final they fail the test."""
import concurrent.futures
import json
import pathlib
import re
import signal
import smtplib
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "peers"))
import table  # noqa: E402
from destinations import Zones  # noqa: E402
from pki import Pki  # noqa: E402
from policy import PolicyHost  # noqa: E402
from posthaste import BUILD, ROOT, Daemon, Directory, free_port  # noqa: E402
from server import Host, Servers  # noqa: E402

WAIT_S = 30
CONCLUDED = ("delivered", "deferred", "failed", "expired")


class Log:
    """The delivery log, as it grows."""

    def __init__(self, path):
        self.path = path
        self.events = []
        self.changed = threading.Condition()
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        rest, offset = "", 0
        while True:
            if self.path.exists():
                with self.path.open() as file:
                    file.seek(offset)
                    text = file.read()
                    offset = file.tell()
                *lines, rest = (rest + text).split("\n")
                if lines:
                    with self.changed:
                        self.events += map(json.loads, lines)
                        self.changed.notify_all()
            time.sleep(0.02)

    def of(self, recipient, kinds=CONCLUDED):
        return [e for e in self.events if e.get("recipient") == recipient and e["event"] in kinds]

    def wait(self, condition, what):
        with self.changed:
            until = time.monotonic() + WAIT_S
            while not condition():
                if time.monotonic() > until:
                    raise AssertionError(f"{what} did not happen within {WAIT_S} s")
                self.changed.wait(1)


class Run:
    """One daemon with every row's connectors."""

    def __init__(self, directory, rows, caches):
        self.directory = directory
        self.rows = rows
        self.caches = caches
        self.pki = Pki()
        self.hosts = {}
        self.compared = 0
        (directory.path / "secret").write_text("user\npassword\n")
        (directory.path / "secret").chmod(0o600)
        self.port = free_port("127.3.0.1")
        for index, row in enumerate(rows):
            self.make_hosts(row, index)
        client = self.pki.client("client.posthaste.test")
        (directory.path / "client.pem").write_bytes(client.chain_pem() + client.key_pem())
        self.pki.write(directory.path)
        self.zones = Zones(directory, {"forged": {"signed": True, "records": [
            f"{domain.removesuffix('.forged')} MX 10 mx" for row in rows for domain in row.domains()
            if domain.endswith(".forged")] + ["mx A 127.3.0.1"]}}, forged=["forged"])
        self.publish_policies()
        self.pki.own(directory.path / "certs")
        Servers([host for hosts in self.hosts.values() for host in hosts], self.port)

    def make_hosts(self, row, index):
        self.hosts[row.row] = []
        for i, script in enumerate(row.hosts):
            certificate = self.pki.leaf(script.get("cert", "good"), script["san"], script["cn"])
            staple = self.pki.staple(certificate) if "staple" in script else None
            host = Host(f"127.3.{index}.{i + 1}", script, certificate, staple)
            (self.directory.path / f"host-{row.row}-{i + 1}.pem").write_bytes(certificate.chain_pem())
            self.hosts[row.row].append(host)

    def policy_domain(self, row):
        return self.hosts[row.row][0].script["name"] if row.connectors[0].smart else row.domains()[0]

    def publish_policies(self):
        policies = {}
        for row in self.rows:
            mode, _, mx = row.hosts[0]["sts"].partition(":")
            if mode:
                policies[self.policy_domain(row)] = f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n"
        certificate = self.pki.leaf("good", [f"mta-sts.{domain}" for domain in policies] or ["none.test"], "")
        path = self.directory.path / "policies.pem"
        path.write_bytes(certificate.chain_pem() + certificate.key_pem())
        self.policies = PolicyHost("127.3.255.1", path, policies)

    def fill(self, text, row):
        for i, host in enumerate(self.hosts[row.row]):
            text = text.replace(f"@host{i + 1}.pem", str(self.directory.path / f"host-{row.row}-{i + 1}.pem"))
            text = text.replace(f"@address{i + 1}", host.address)
        return text.replace("%port", str(self.port)).replace('"@', f'"{self.directory.path}/')

    def data(self, row):
        names = {}
        for i, host in enumerate(self.hosts[row.row]):
            names.setdefault(host.script["name"], host.address)
        lines = [f'"{name}. A {address}"' for name, address in names.items()]
        for i, host in enumerate(self.hosts[row.row]):
            if "tlsa" in host.script:
                lines.append(f'"_{self.port}._tcp.{host.script["name"]}. TLSA '
                             f'{self.pki.tlsa(host.certificate, host.script["tlsa"])}"')
        if row.hosts[0]["sts"]:
            domain = self.policy_domain(row)
            lines += [f'"_mta-sts.{domain}. TXT \\"v=STSv1; id=1;\\""', f'"mta-sts.{domain}. A 127.3.255.1"']
        for domain in row.domains():
            if domain.endswith(".forged"):
                continue
            lines += [f'"{domain}. MX {10 * (i + 1)} {host.script["name"]}."'
                      for i, host in enumerate(self.hosts[row.row])]
        return lines

    def config(self, rows, replaced=None):
        connectors = "".join(self.fill((replaced or {}).get(row.row, row.config()), row) for row in rows)
        listed = [f'"{c.list}"' for row in rows for c in row.connectors if c.list]
        data = [line for row in rows for line in self.data(row)]
        return f"""
TlsCaches = {"on" if self.caches else "off"}
CertificateDir = "{self.directory.path}/certs"
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} MaxMessageSize = 100MB }}
SendConnector "internet" {{ AddressSpaces = {{"*"}} }}
{connectors}
TransportConfig {{ TLSSendDomainSecureList = {{{", ".join(listed)}}} }}
Resolver {{ Port = {self.port} AllowedDestinations = {{"127.0.0.0/8"}} {self.zones.settings()}
    HttpsPort = {self.policies.port} HttpsTrustAnchors = "{self.directory.path}/root.pem"
    LocalData = {{{", ".join(data)}}} }}
"""

    # --- `check` ---

    def check(self, row):
        path = self.directory.path / f"check-{row.row}.conf"
        path.write_text('Hostname = "out.posthaste.test"\n' + self.config([row]))
        done = subprocess.run([BUILD / "posthaste", "check", "--json", "-c", path], capture_output=True, text=True)
        said = json.loads(done.stdout)
        return done.returncode, *([line.split(" ")[1] for line in said[kind]] for kind in ("errors", "warnings"))

    def checked(self, row):
        """What is wrong with the words of `check` about this row."""
        code, errors, warnings = self.check(row)
        expected = row.expected[0]
        if row.rejected:
            return [] if code == 1 and expected.reason in errors else [f"check: {code} {errors}"]
        wrong = [] if code == 0 else [f"check: {code} {errors}"]
        wanted = expected.also.get("warn")
        if wanted and wanted not in warnings:
            wrong.append(f"check warns {warnings}, not {wanted}")
        return wrong

    # --- mail ---

    def send(self, recipients, size):
        host, port = self.daemon.listening["in"].split(":")
        utf8 = not all(r.isascii() for r in recipients)
        text = f"From: <s@sender.test>\r\nSubject: row\r\n\r\n{'x' * 76}\r\n"
        text += ("y" * 76 + "\r\n") * (size // 78)
        with smtplib.SMTP(host, int(port), timeout=WAIT_S) as client:
            client.ehlo()
            client.sendmail("s@sender.test", recipients, text, mail_options=["SMTPUTF8"] if utf8 else [])

    def outcome(self, address):
        """Of the log; or of the queue, where nothing could be tried for want of a host."""
        events = self.log.of(address)
        domain = address.split("@")[1]
        if not events and domain.endswith(".forged"):
            done = subprocess.run([BUILD / "posthaste", "queue", "list", "--json", "-c", self.daemon.config],
                                  capture_output=True, text=True)
            return [q | {"event": "deferred", "policy": {"level": "Opportunistic"}} for q in json.loads(done.stdout)
                    if q["domain"] == domain and q.get("reason")]
        return events

    def reload(self, row, setting):
        key, value = setting.split("=")
        row.connectors[0].keys[key] = value
        text = self.daemon.config.read_text()
        head = text[:text.index("\nTlsCaches")]
        self.daemon.config.write_text(head + self.config([r for r in self.rows if not r.rejected]))
        self.daemon.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)

    def play(self, row):
        """The row's mail, step by step; what came out is in row.addresses and the log."""
        size, joined, waiting = 0, [], []
        for step in row.steps:
            if step.startswith("size="):
                size = int(step[5:])
        messages = []
        for step in [*row.steps, "then"]:
            if "@" in step:
                local, domain = step.split("@")
                address = f"{local}{len(row.addresses) + 1}@{domain}"
                row.addresses.append(address)
                if joined:
                    messages[-1].append(address)
                else:
                    messages.append([address])
                joined = []
            elif step == "and":
                joined = [True]
            elif step == "then":
                for message in messages:
                    self.send(message, size)
                    waiting += message
                messages = []
                # Behind the first refusal the rest of a queue waits unseen.
                enough = any if "fix" in row.steps else all
                self.log.wait(lambda: enough(self.outcome(a) for a in waiting), f"row {row.row}: an outcome")
                time.sleep(0.2)  # the session it went by is closed, where its script says so
            elif step.startswith("reload="):
                self.reload(row, step[7:])
            elif step == "gone":
                (self.directory.path / "certs" / "going-0.pem").unlink()
                time.sleep(2.5)  # the daemon looks once a second
            elif step == "fix":
                for host, script in zip(self.hosts[row.row], row.hosts):
                    host.certificate = self.pki.leaf("good", script["san"], script["cn"])
            elif step == "retry":
                subprocess.run([BUILD / "posthaste", "queue", "retry", row.domains()[0], "-c", self.daemon.config],
                               check=True, capture_output=True)
                self.log.wait(lambda: all(self.log.of(a, ("delivered",)) for a in waiting),
                              f"row {row.row}: delivery after the retry")

    # --- verdicts ---

    def judge(self, row):
        """All that is wrong with what was found."""
        wrong = []
        hosts = self.hosts[row.row]
        sessions = [s for host in hosts for s in host.sessions]
        expected = [row.expected[min(i, len(row.expected) - 1)] for i in range(len(row.addresses))]
        for address, wanted in zip(row.addresses, expected):
            wrong += self.judge_recipient(row, address, wanted, hosts)
        if all(e.kind in ("DEFER",) for e in expected):
            for host in hosts:
                for session in host.sessions:
                    wrong += quiet(host, session)
        also = {key: value for e in row.expected for key, value in e.also.items()}
        if "connections" in also and len(sessions) != int(also["connections"]):
            wrong.append(f"{len(sessions)} connections")
        elif "connections" not in also and row.expected[0].kind == "DEFER" and len(row.addresses) == 1:
            # One attempt: each address once.
            wrong += [f"{len(h.sessions)} connections to {h.script['name']}" for h in hosts if len(h.sessions) > 1]
        if "auth" in also and not any(s.said("AUTH") for s in sessions):
            wrong.append("no AUTH")
        if "auth" not in also and any(s.said("AUTH") for s in sessions):
            wrong.append("AUTH was said")
        if any(line.upper().startswith("AUTH") for s in sessions for line in s.clear) and row.expected[0].kind != "PLAIN":
            wrong.append("AUTH in the clear")
        if "sequential" in also and any(s.ahead or any("SIZE=" in line for line in s.tls) for s in sessions):
            wrong.append("extensions of the EHLO before TLS were used")
        if "client" in also:
            peers = {s.peer.get_subject().CN if s.peer else "none" for s in sessions if s.messages}
            if peers != {also["client"]}:
                wrong.append(f"client certificates {peers}")
        if "certificate" in also:
            serials = {s.peer.get_serial_number() for s in sessions if s.messages}
            if serials != {getattr(self.pki, also["certificate"]).x509.serial_number}:
                wrong.append("another client certificate was sent")
        return wrong

    def judge_recipient(self, row, address, wanted, hosts):
        events = self.outcome(address)
        if not events:
            return ["no outcome"]
        event = events[-1]
        got = [(i, s) for i, host in enumerate(hosts) for s in host.sessions
               if any(names(line, address) for line in s.said("RCPT"))]
        wrong = []
        if wanted.kind in ("TLS", "PLAIN"):
            if event["event"] != "delivered":
                return [f"{event['event']} {event.get('status')} {event.get('reason')}: {event.get('text')}"]
            inside = [any(names(line, address) for line in s.tls) for _, s in got]
            if not got or any(i != (wanted.kind == "TLS") for i in inside):
                wrong.append(f"went {'in TLS' if any(inside) else 'in the clear' if got else 'elsewhere'}")
            if {i + 1 for i, _ in got} != {int(wanted.also.get("via", 1))}:
                wrong.append(f"went to hosts {[i + 1 for i, _ in got]}")
        else:
            name = {"DEFER": "deferred", "NDR": "failed"}[wanted.kind]
            found = (event["event"], event.get("status"), event.get("reason"))
            if found != (name, wanted.status, wanted.reason):
                wrong.append(f"{' '.join(map(str, found))}: {event.get('text')}")
            if wanted.kind == "DEFER" and got:
                wrong.append("its RCPT was said")
            if "text" in wanted.also and wanted.also["text"] not in event.get("text", ""):
                wrong.append(f"the sentence lacks \"{wanted.also['text']}\": {event.get('text')}")
        said = {"verified": event.get("verified_by"), "revocation": event.get("revocation"),
                "would": event.get("would_defer", {}).get("reason")}
        wrong += [f"{key} is {said[key]}" for key in said if key in wanted.also and said[key] != wanted.also[key]]
        if "attempts" in wanted.also:
            tried = self.log.of(address, ("attempt",))
            if len(tried) != int(wanted.also["attempts"]):
                wrong.append(f"{len(tried)} attempts logged")
        return wrong

    def agree(self, row):
        """`test` and `explain` say of each recipient what delivery did. (A mailbox's refusal and a size are the
        message's: `test` ends before them.)"""
        wrong = []
        for i, address in enumerate(row.addresses):
            wanted = row.expected[min(i, len(row.expected) - 1)]
            events = self.outcome(address)
            if wanted.reason in ("rcpt-rejected", "size-would-bypass-tls") or not events:
                continue
            self.compared += 1
            done = self.command("test", address)
            said = json.loads(done.stdout)
            code = {"TLS": 0, "PLAIN": 0, "DEFER": 2, "NDR": 1}[wanted.kind]
            if (done.returncode, said.get("reason"), said.get("status")) != (code, wanted.reason, wanted.status):
                wrong.append(f"test: {done.returncode} {said.get('reason')} {said.get('status')} {done.stderr[:200]}")
            inside = {a["tls"] is not None for a in said["addresses"] if a["result"] == "accept"}
            if code == 0 and inside != {wanted.kind == "TLS"}:
                wrong.append(f"test: in TLS {inside}")
            told = json.loads(self.command("explain", address).stdout)
            level = told.get("policy", {}).get("level")
            if (told["connector"], level) != (events[-1]["connector"], events[-1]["policy"]["level"]):
                wrong.append(f"explain: {told['connector']} {level}, not {events[-1]['connector']} "
                             f"{events[-1]['policy']['level']}")
        return wrong

    def command(self, name, address):
        return subprocess.run([BUILD / "posthaste", name, address, "--json", "-c", self.daemon.config],
                              capture_output=True, text=True, timeout=WAIT_S)

    def agreements(self, rows):
        """What was wrong with the answers of the commands, by row."""
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            found = dict(zip((row.row for row in rows), pool.map(careful(self.agree), rows)))
        return found

    def verdicts(self, rows):
        return {row.row: self.words[row.row] + ([] if row.rejected else self.judge(row)) for row in rows}

    def run(self):
        lives = [row for row in self.rows if row.steps == ["life"]]
        self.rows = [row for row in self.rows if row not in lives]
        sent = [row for row in self.rows if not row.rejected]
        self.words = {row.row: self.checked(row) for row in self.rows}
        self.daemon = Daemon(self.directory, self.config(sent))
        self.log = Log(self.daemon.log)
        failures, threads = {}, []
        # A reload routes all mail anew: those rows come when the others are judged.
        # And with a certificate gone no file is accepted: last.
        later = [row for word in ("reload", "gone") for row in sent
                 if any(step.startswith(word) for step in row.steps)]

        def play(row):
            try:
                self.play(row)
            except Exception as error:
                failures[row.row] = [str(error)]
        for row in lives:
            threads.append(threading.Thread(target=lambda: failures.update({row.row: life(row, self.caches)})))
            threads[-1].start()
        for row in sent:
            if row not in later:
                threads.append(threading.Thread(target=play, args=(row,)))
                threads[-1].start()
        for thread in threads:
            thread.join()
        wrong = self.verdicts([row for row in self.rows if row not in later])
        if self.caches:
            for row, found in self.agreements([row for row in sent if row not in later]).items():
                wrong[row] += found
        for row in later:
            play(row)
        wrong |= self.verdicts(later)
        wrong |= failures
        if self.daemon.stop() != 0:
            wrong["the end"] = ["the daemon did not stop cleanly"]
        return wrong


def life(row, caches):
    """Row 108: what the sender is told of mail that forced TLS holds until its time is over."""
    wrong = []
    with Directory() as directory:
        port = free_port("127.6.0.1")
        script = {"name": row.hosts[0]["name"], "starttls": "none"}
        host, home = Host("127.6.0.1", script), Host("127.6.0.2", {"name": "mx.home.test", "starttls": "none"})
        Servers([host, home], port)
        domain = table.distinct("contoso.com", row.row)
        daemon = Daemon(directory, f"""
TlsCaches = {"on" if caches else "off"}
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "partner" {{ AddressSpaces = {{"{domain}"}} RequireTLS = true }}
SendConnector "rest" {{ AddressSpaces = {{"*"}} }}
Queue {{ DelayNotificationTimeout = 2s MessageExpirationTimeout = 6s TransientFailureRetryInterval = 1s }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{
    "{domain}. MX 10 {script["name"]}.", "{script["name"]}. A 127.6.0.1",
    "home.test. MX 10 mx.home.test.", "mx.home.test. A 127.6.0.2"}} }}
""")
        address, smtp_port = daemon.listening["in"].split(":")
        with smtplib.SMTP(address, int(smtp_port)) as client:
            client.sendmail("s@home.test", [f"u@{domain}"], "Subject: row\r\n\r\nhello\r\n")
        told = []
        until = time.monotonic() + WAIT_S
        while len(told) < 2 and time.monotonic() < until:
            time.sleep(0.1)
            told = [body.decode() for session in home.sessions for body in session.bodies]
        kinds = [re.search(r"^Action: (\w+)", text, re.M)[1] for text in told]
        if kinds != ["delayed", "failed"]:
            wrong.append(f"the sender was told {kinds}")
        for text in told:
            if f"u@{domain}" not in text or "STARTTLS is required" not in text:
                wrong.append("a notification without the recipient or the reason")
        status = [re.search(r"^Status: (\S+)", text, re.M)[1] for text in told]
        if status and status[-1].split(".")[1:] != ["7", "3"]:
            wrong.append(f"Status: {status}, not the last real failure's")
        if len(host.sessions) < 3:
            wrong.append(f"{len(host.sessions)} attempts")
        for session in host.sessions:
            wrong += quiet(host, session)
        if daemon.stop() != 0:
            wrong.append("the daemon did not stop cleanly")
    return wrong


def careful(function):
    """A row's trouble is its own."""
    def call(row):
        try:
            return function(row)
        except Exception as error:
            return [repr(error)[:300]]
    return call


def names(line, address):
    """Does RCPT name the address, in whichever spelling?"""
    local, domain = address.split("@")
    return any(f"<{local}@{d}>".lower() in line.lower() for d in (domain, domain.encode("idna").decode()))


def quiet(host, session):
    """Nothing of a message, and no way round STARTTLS."""
    wrong = []
    verbs = {line.split(" ")[0].upper() for line in session.clear}
    if verbs - {"EHLO", "HELO", "STARTTLS", "QUIT"}:
        wrong.append(f"said in the clear: {session.clear}")
    if {line.split(" ")[0].upper() for line in session.tls} - {"EHLO", "QUIT"}:
        wrong.append(f"said in TLS: {session.tls}")
    offered = host.script.get("starttls") not in ("none", "first-line") and "ehlo" not in host.script
    if offered and "STARTTLS" not in verbs:
        wrong.append("a connection without STARTTLS")
    return wrong


def conformance(arguments):
    final = "--final" in arguments
    chosen = [a for a in arguments if not a.startswith("-")]
    rows = [row for row in table.read() if not chosen or row.row in chosen or str(row.number) in chosen]
    begun = time.monotonic()
    runs, compared = [], 0
    for caches in (True, False):
        with Directory() as directory:
            live = [row for row in table.read() if not row.pending and not row.elsewhere
                    and row.row in {r.row for r in rows}]
            run = Run(directory, live, caches)
            runs.append(run.run())
            compared += run.compared
            for line in (directory.path / "errors").read_text().splitlines():
                if not re.search(r": W\d+ |: warn: ", line):
                    print(f"the daemon said: {line}")
    bad = 0
    for row in [r.row for r in rows] + ["the end"]:
        for name, found in zip(("caches on", "caches off"), runs):
            for text in found.get(row, []):
                print(f"row {row}, {name}: {text}")
        bad += any(found.get(row) for found in runs)
    cases = [row for row in rows if not row.pending and not row.elsewhere]
    pending = [row for row in rows if row.pending]
    elsewhere = [row for row in rows if row.elsewhere]
    for row in elsewhere:
        path = ROOT / row.elsewhere
        if not path.exists() or f"row {row.number}" not in path.read_text():
            print(f"row {row.row}: {row.elsewhere} doesn't name it")
            bad += 1
    for reason in dict.fromkeys(row.pending for row in pending):
        print(f"pending, {reason}: rows {' '.join(row.row for row in pending if row.pending == reason)}")
    numbers = {row.number for row in rows}
    waiting = {row.number for row in pending}
    print(f"conformance: {len(numbers)} rows in {len(rows)} cases: {len(cases)} run twice (caches on, off), "
          f"{len(cases) - bad} passed, {bad} failed, {len(elsewhere)} asserted elsewhere, "
          f"{len(pending)} pending ({len(waiting)} rows); test and explain were compared with delivery "
          f"for {compared} recipients; {time.monotonic() - begun:.0f} s")
    return bad > 0 or (final and len(pending) > 0)


if __name__ == "__main__":
    sys.exit(1 if conformance(sys.argv[1:]) else 0)
