#!/usr/bin/env python3
"""What a hostile client and hostile hosts do to the running daemon (docs/ATTACKS.md): commands in the clear
behind STARTTLS, TLS that ends in the midst of a command or a chunk, slow drips, guessed passwords; replies
ahead, in the clear, cut off, or never whole; addresses that DNS may not choose, and our own."""
import base64
import crypt
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time

from destinations import Certificate
from posthaste import Daemon, Directory, free_port, wait_for

NAMES = ("late", "again", "truncated", "half", "ahead", "drip", "good")


class Session:
    """A client's connection to the daemon, line by line."""

    def __init__(self, where, hello=True, source=None):
        host, port = where.rsplit(":", 1)
        self.plain = self.socket = socket.create_connection((host, int(port)), 10,
                                                            (source, 0) if source else None)
        self.stream = self.socket.makefile("rb")
        self.code()
        if hello:
            self.say("EHLO attacker.test")
            assert self.code() == 250

    def send(self, data):
        self.socket.sendall(data)

    def say(self, line):
        self.send(line.encode() + b"\r\n")

    def code(self):
        """Of the next reply; 0: the connection has ended."""
        line = b"000-"
        while line[3:4] == b"-":
            try:
                line = self.stream.readline()
            except (ConnectionError, ssl.SSLError):
                return 0
            if not line:
                return 0
        return int(line[:3])

    def starttls(self):
        self.say("STARTTLS")
        assert self.code() == 220
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.socket = context.wrap_socket(self.plain)
        self.stream = self.socket.makefile("rb")
        self.say("EHLO attacker.test")
        assert self.code() == 250

    def ask(self, *lines):
        """The codes of the answers to lines sent one by one."""
        codes = []
        for line in lines:
            self.say(line)
            codes.append(self.code())
        return codes

    def end_tls(self):
        """close_notify, and the bare connection goes on."""
        try:
            self.socket.settimeout(1)
            self.plain = self.socket.unwrap()
        except (OSError, ssl.SSLError):
            return False
        self.socket = self.plain
        self.stream = self.plain.makefile("rb")
        return True


class Host:
    """An SMTP host; what is hostile about it is its name's."""

    def __init__(self, name, address, port, certificate):
        self.name, self.commands, self.bodies = name, [], 0
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.connections = 0
        self.listener = socket.create_server((address, port), backlog=64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            self.connections += 1
            threading.Thread(target=self.serve, args=(connection, self.connections), daemon=True).start()

    def serve(self, connection, number):
        try:
            self.talk(connection, number)
        except (OSError, ssl.SSLError, ValueError):
            pass
        finally:
            connection.close()

    def talk(self, connection, number):
        name, tls, raw = self.name, False, connection
        stream = connection.makefile("rb")
        hostile = number == 1 or name in ("late", "drip", "ahead")

        def say(text):
            connection.sendall(text.encode())

        say("220 host\r\n")
        while line := stream.readline():
            verb = line.split()[0].upper()
            self.commands.append(("tls " if tls else "clear ") + line.decode("latin-1").strip())
            if verb == b"EHLO":
                # STARTTLS is on offer over TLS too, where nobody may take it.
                starttls = "" if tls and name != "again" else "250-STARTTLS\r\n"
                if name == "drip":
                    for byte in "250-host\r\n" + "250-X-NOTHING\r\n" * 100:
                        say(byte)
                        time.sleep(0.1)
                say("250-host\r\n" + starttls + "250 8BITMIME\r\n")
                if name == "ahead" and tls:
                    say("250 ok\r\n" * 10)
            elif verb == b"STARTTLS":
                say("220 go on\r\n")
                if name == "late":
                    time.sleep(0.2) # a segment of its own, in the midst of the handshake
                    say("250 injected\r\n")
                connection = self.context.wrap_socket(raw, server_side=True)
                stream, tls = connection.makefile("rb"), True
            elif verb == b"DATA":
                say("354 go on\r\n")
                for text in iter(stream.readline, b".\r\n"):
                    if not text:
                        return
                self.bodies += 1
                if hostile and name == "truncated":
                    # An attacker's FIN: no close_notify, and no reply.
                    raw_again = socket.socket(fileno=connection.detach())
                    raw_again.shutdown(socket.SHUT_RDWR)
                    raw_again.close()
                    return
                if hostile and name == "half":
                    say("250-2.0.0 take")
                    return
                say("250 2.0.0 taken\r\n")
            elif verb == b"QUIT":
                say("221 bye\r\n")
                return
            else:
                say("250 ok\r\n")


def clients(daemon, where, guarded):
    # Commands in the clear behind STARTTLS in one segment (Postfix CVE-2011-0411): none is run.
    session = Session(where)
    session.send(b"STARTTLS\r\nMAIL FROM:<evil@sender.test>\r\nRCPT TO:<u@good.test>\r\n")
    assert (session.code(), session.code()) == (421, 0)

    # Half a command over TLS, its end, and the other half in the clear (Exim CVE-2020-28018).
    session = Session(where)
    session.starttls()
    session.send(b"MAIL FR")
    assert not session.end_tls() or session.ask("OM:<evil@sender.test>")[0] in (0, 421)

    # TLS ends in the midst of a chunk (Exim's BDAT with STARTTLS), at several places.
    for part in (0, 1, 500, 999):
        session = Session(where)
        session.starttls()
        assert session.ask("MAIL FROM:<me@sender.test>", "RCPT TO:<u@good.test>") == [250, 250]
        session.send(b"BDAT 1000 LAST\r\n" + b"x" * part)
        if session.end_tls():
            session.send(b"y" * (1000 - part) + b"\r\nNOOP\r\n")
            assert session.code() == 0

    # Renegotiation: not for a client of TLS 1.2.
    with subprocess.Popen(["openssl", "s_client", "-connect", where, "-starttls", "smtp", "-tls1_2", "-crlf"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as openssl:
        for line in openssl.stdout:
            if "Verify return code" in line:
                break
        openssl.stdin.write("R\n")
        openssl.stdin.flush()
        rest = openssl.stdout.read()
        assert "no renegotiation" in rest or "unexpected message" in rest or "errno" in rest or "alert" in rest, rest

    # Names that end in a backslash, hold UTF-8 or are endless: in EHLO, and as SNI.
    for name in (b"a\\", b"\xff\xfe", b"a\x7f(b)", b"n" * 3000):
        session = Session(where, hello=False)
        session.send(b"EHLO " + name + b"\r\n")
        assert session.code() == 250
        assert session.ask("MAIL FROM:<me@sender.test>", "RCPT TO:<u@good.test>", "BDAT 0 LAST",
                           "QUIT") == [250, 250, 250, 221]

    # A drip of a byte now and then ends with the connection's time, in commands, in DATA, in the handshake.
    def dripping(session, data):
        began = time.monotonic()
        try:
            while time.monotonic() - began < 15:
                session.send(data)
                time.sleep(0.1)
        except OSError:
            return True
        return False
    drips = []
    for lines, data in (((), b"N"), (("MAIL FROM:<me@sender.test>", "RCPT TO:<u@good.test>", "DATA"), b"x"),
                        ((), b"NOOP\r\n"), (("STARTTLS",), b"\x16")):
        session = Session(guarded, source="127.0.0.9")
        session.ask(*lines)
        drips.append((session, data, threading.Thread(target=lambda s=session, d=data, r=drips: r.append(dripping(s, d)))))
    # Beyond the connections of one source there are none.
    with socket.create_connection(guarded.rsplit(":", 1), 10, ("127.0.0.9", 0)) as one_more:
        assert one_more.recv(100) == b""
    waiting = [entry[2] for entry in drips]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
    assert [entry for entry in drips if isinstance(entry, bool)] == [True] * 4, "a drip went on"

    # Passwords: one answer for unknown users and wrong passwords; three a session, then ten an address.
    def guess(user, word, source):
        session = Session(guarded, source=source)
        session.starttls()
        blob = base64.b64encode(f"\0{user}\0{word}".encode()).decode()
        return session, [session.ask(f"AUTH PLAIN {blob}")[0] for _ in range(3)]
    session, codes = guess("ann", "guess", "127.0.0.7")
    assert codes == [535] * 3 and session.code() == 421
    assert guess("nobody", "guess", "127.0.0.7")[1] == [535] * 3
    assert guess("ann", "secret", "127.0.0.7")[1][0] == 235 # a right one goes on counting for nothing
    guess("nobody", "guess", "127.0.0.7")
    assert guess("ann", "guess", "127.0.0.7")[1] == [535, 454, 454]
    assert guess("ann", "secret", "127.0.0.7")[1] == [454] * 3
    assert guess("ann", "secret", "127.0.0.8")[1][0] == 235
    assert daemon.metrics()["posthaste_passwords_wrong_total"] == 10


def main():
    port = free_port("127.8.0.1") # of our own listener too, so that its address is one of ours
    with Directory() as directory:
        certificate = Certificate([f"mx.{name}.test" for name in NAMES]).write(directory.path / "host.pem")
        (directory.path / "users").write_text("ann:" + crypt.crypt("secret", crypt.mksalt(crypt.METHOD_SHA512)) + "\n")
        local = [f'"{name}.test. MX 10 mx.{name}.test.", "mx.{name}.test. A 127.8.0.{i + 1}"'
                 for i, name in enumerate(NAMES)]
        refused = ["10.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1", "0.0.0.1", "224.0.0.1", "172.16.0.1"]
        local += [f'"p{i}.test. MX 10 mx.p{i}.test.", "mx.p{i}.test. A {address}"' for i, address in enumerate(refused)]
        local += ['"self.test. MX 10 mx.self.test.", "mx.self.test. A 127.8.1.1"',
                  '"ipv6.test. MX 10 mx.ipv6.test.", "mx.ipv6.test. AAAA ::ffff:10.0.0.1"']
        daemon = Daemon(directory, f"""
Workers = 2
ReceiveConnector "in" {{ Bindings = {{"127.8.1.1:{port}"}} RemoteIPRanges = {{"127.0.0.1"}}
    TlsCertificate = "{certificate}" TlsKey = "{certificate}" AuthMechanism = {{Tls}} }}
ReceiveConnector "guarded" {{ Bindings = {{"127.0.0.1:0"}} AuthFile = "{directory.path}/users"
    AuthMechanism = {{Tls, BasicAuth, BasicAuthRequireTLS}} TlsCertificate = "{certificate}" TlsKey = "{certificate}"
    ConnectionTimeout = 2s ConnectionInactivityTimeout = 1s MaxInboundConnectionPerSource = 4 RemoteIPRanges = {{"127.0.0.1"}}
    MaxProtocolErrors = 1000 }}
SendConnector "out" {{ AddressSpaces = {{"*"}} RequireTLS = true EhloTimeout = 2s SmtpMaxMessagesPerConnection = 1 }}
Queue {{ MessageRetryInterval = 1s QueueGlitchRetryInterval = 300ms TransientFailureRetryInterval = 1s }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{", ".join(local)}}} }}
""")
        hosts = {name: Host(name, f"127.8.0.{i + 1}", port, certificate) for i, name in enumerate(NAMES)}
        everybody = list(NAMES[:-1]) + [f"p{i}" for i in range(len(refused))] + ["self", "ipv6"]
        host, number = daemon.listening["in"].rsplit(":", 1)
        with smtplib.SMTP(host, int(number), source_address=("127.0.0.1", 0)) as client:
            for name in everybody:
                client.sendmail("me@sender.test", f"u@{name}.test", f"Subject: {name}\r\n\r\nx\r\n")
        clients(daemon, daemon.listening["in"], daemon.listening["guarded"])

        def last(name):
            events = [e for e in daemon.events() if e.get("recipient") == f"u@{name}.test" and
                      e["event"] not in ("accepted", "attempt")]
            return events[-1] if events else {"event": None}

        wanted = {"again": "delivered", "truncated": "delivered", "half": "delivered"}
        wait_for(lambda: all(last(n)["event"] == e for n, e in wanted.items()), 20, "delivery")
        reasons = {"late": "tls-handshake-failed", "ahead": "peer-protocol", "drip": "peer-timeout", "self": "dns-mx-loop"}
        reasons |= {f"p{i}": "dns-target-refused" for i in range(len(refused))} | {"ipv6": "dns-target-refused"}
        for name, reason in reasons.items():
            wait_for(lambda: last(name).get("reason") == reason, 20, f"{reason} for {name}, not {last(name)}")
            assert last(name)["event"] == "deferred", last(name)
        for name in ("late", "ahead", "drip"):
            assert hosts[name].bodies == 0 and not [c for c in hosts[name].commands if " MAIL" in c], name
        # One STARTTLS a session, though it was on offer again.
        assert sum("STARTTLS" in c for c in hosts["again"].commands) == hosts["again"].connections == 1
        # Taken, and never said so: sent again, and said to be perhaps the second.
        for name in ("truncated", "half"):
            assert hosts[name].bodies == 2, hosts[name].bodies
            assert last(name)["ambiguous_resend"] is True, last(name)
        assert not [c for h in hosts.values() for c in h.commands if c.startswith("clear MAIL")]
        assert hosts["good"].connections > 0
        wait_for(lambda: hosts["good"].bodies == 4, 20, "what good clients sent") # EHLO names, and nothing else
        assert daemon.metrics()["posthaste_messages_unscheduled"] == 0
        assert daemon.stop() == 0
        print(f"attacks: {len(everybody)} hostile destinations, none believed; clients held to their time and guesses")


main()
sys.exit(0)
