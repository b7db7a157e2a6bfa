#!/usr/bin/env python3
"""The administrator's hand in the queue while the daemon runs: suspend (over a restart), resume, bounce, delete,
export by query; and what becomes of mail whose time is over in each state."""
import json
import smtplib
import socketserver
import subprocess
import sys
import threading
import time

from posthaste import BUILD, Daemon, Directory, free_port, wait_for


class Server(socketserver.ThreadingTCPServer):
    """Takes mail, or answers `refuse` to RCPT of all but the sender's own domain."""
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address, port):
        self.refuse, self.mail = None, []
        super().__init__((address, port), Session)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Session(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 sink\r\n")
        recipients = []
        for line in iter(self.rfile.readline, b""):
            verb = line[:4].upper()
            answer = b"250 ok\r\n"
            if verb == b"RCPT" and self.server.refuse and b"@sender.test" not in line:
                answer = self.server.refuse.encode() + b"\r\n"
            elif verb == b"RCPT":
                recipients.append(line.split(b"<")[1].split(b">")[0].decode())
            elif verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                text = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.mail += [(recipient, text.decode()) for recipient in recipients]
                recipients = []
            elif verb == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(answer)


def main():
    port, inject = free_port("127.6.0.1"), free_port()
    server = Server("127.6.0.1", port)
    server.refuse = "450 4.2.1 not now"
    names = ["sender", "a", "b", "c", "d"]
    data = ", ".join(f'"{n}.test. MX 10 mx.test."' for n in names) + ', "mx.test. A 127.6.0.1"'
    data += ', "away.test. MX 10 mx.away.test.", "mx.away.test. A 127.6.0.9"' # where nobody listens
    with Directory() as directory:
        config = f"""
Workers = 2
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:{inject}"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} }}
Queue {{ MessageRetryInterval = 1s EXPIRY }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{data}}} }}
"""
        daemon = Daemon(directory, config.replace("EXPIRY", ""))

        def queue(*words, code=0):
            done = subprocess.run([BUILD / "posthaste", "queue", *words, "-c", daemon.config],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
            return done.stdout + done.stderr

        def send(*recipients, subject="x"):
            with smtplib.SMTP("127.0.0.1", inject) as client:
                client.sendmail("me@sender.test", recipients, f"Subject: {subject}\r\n\r\nThe text.\r\n")

        def metric(name):
            return daemon.metrics()[f"posthaste_{name}"]

        def balanced():
            m = daemon.metrics()
            total = lambda *names: sum(m[f"posthaste_{n}"] for n in names)
            owed = total("recovered_total", "accepted_total", "dsn_created_total")
            return owed == total("delivered_total", "failed_total", "expired_total", "deleted_total",
                                 "quarantined_total", "queued") and m["posthaste_messages_unscheduled"] == 0 and \
                m["posthaste_rescued_total"] == 0 and m["posthaste_unbalanced"] == 0

        for i in range(5):
            send(f"u{i}@a.test")
        send("u@b.test", "v@b.test", subject="for export")
        send("u@c.test")
        send("u@d.test")
        wait_for(lambda: metric("deferred_total") >= 9, 20, "deferrals")

        # Export: one to standard output, many to files.
        def ids_of(event, ending):
            return [e["id"] for e in daemon.events() if e["event"] == event and e["recipient"].endswith(ending)]

        wait_for(lambda: ids_of("deferred", "@b.test") and ids_of("deferred", "u0@a.test"), 20, "the log's lines")
        ids = ids_of("deferred", "@b.test")
        text = queue("export", ids[0])
        assert "Subject: for export" in text and "The text." in text and text.startswith("Received:"), text
        (directory.path / "out").mkdir()
        assert "5 messages" in queue("export", "a.test", f"to={directory.path}/out")
        assert len(list((directory.path / "out").glob("*.eml"))) == 5
        queue("export", "0123456789abcdef", code=1)
        assert "selects nothing" in queue("suspend", "colour=red", code=64)

        # Suspended, it stays so over a restart, whatever else is retried.
        assert "5 recipients" in queue("suspend", "a.test", "reason=rcpt-rejected")
        assert queue("suspend", "a.test").startswith("0 recipients are suspended; new mail for it is held")
        assert "is held" not in queue("suspend", "sender=nobody.test")
        assert "1 recipients" in queue("delete", "c.test")
        assert "1 recipients" in queue("bounce", "domain=d.test")
        wait_for(lambda: any(to == "me@sender.test" for to, _ in server.mail), 20, "the notification")
        assert "u@d.test" in server.mail[0][1] and "Action: failed" in server.mail[0][1]
        assert balanced()
        assert daemon.stop() == 0
        daemon.start()
        server.refuse = None
        queue("retry", "*")
        send("new@a.test") # to what is suspended as a whole, also after the restart
        send("new@b.test")
        wait_for(lambda: metric("queued") == 6, 20, "all but the suspended")
        time.sleep(1.2)
        assert metric("queued") == 6 and balanced()
        assert '"suspended"' in queue("show", ids_of("deferred", "u0@a.test")[0], "--json")
        assert "0 recipients" in queue("resume", "sender=sender.test") # not as long as its queue isn't
        assert "6 recipients" in queue("resume", "state=suspended")
        wait_for(lambda: metric("queued") == 0, 20, "an empty queue")
        got = sorted(to for to, _ in server.mail if not to.startswith("me@"))
        assert got == ["new@a.test", "new@b.test", "u0@a.test", "u1@a.test", "u2@a.test", "u3@a.test", "u4@a.test", "u@b.test", "v@b.test"], got
        assert daemon.stop() == 0
        assert len(ids_of("deleted", "u@c.test")) == 1 and len(ids_of("deleted", ".test")) == 1

        # Over with in each state: deferred, in a queue that waits, suspended; and one word of it for each message.
        daemon.config.write_text(daemon.config.read_text().replace("MessageRetryInterval = 1s",
                                                                   "MessageExpirationTimeout = 7s DelayNotificationTimeout = 1s"))
        server.mail.clear()
        server.refuse = "450 4.2.1 not now"
        daemon.start()
        send("u@a.test", "v@a.test", "w@b.test")
        send("u@away.test")
        send("u@c.test")
        wait_for(lambda: metric("deferred_total") >= 4, 20, "deferrals")
        queue("suspend", "c.test")
        wait_for(lambda: metric("queued") == 0, 30, "the end of all")
        assert metric("expired_total") == 5 and balanced(), daemon.metrics()
        late = [text for _, text in server.mail if "Action: delayed" in text]
        over = [text for _, text in server.mail if "Action: failed" in text]
        first = [text for text in late if "u@a.test" in text]
        assert len(first) == 1 and "v@a.test" in first[0] and "w@b.test" in first[0], late
        assert "Will-Retry-Until:" in first[0]
        assert len(over) == 4, over # a.test, b.test, c.test and the one that can't be reached
        assert sum("u@a.test" in text and "v@a.test" in text for text in over) == 1
        assert daemon.stop() == 0
    print("queue: suspend, resume, bounce, delete, export, delay and expiry")
    return True


sys.exit(0 if main() else 1)
