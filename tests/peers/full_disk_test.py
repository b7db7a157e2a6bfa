#!/usr/bin/env python3
"""A small file system filled and drained, CYCLES (5) times: 452 before it is full, outcomes are written all the
same, mail is taken again when there is room, and nothing that was taken is lost. In a mount namespace of its own."""
import os
import smtplib
import socketserver
import subprocess
import sys
import threading

from posthaste import BUILD, Daemon, Directory, free_port, wait_for

CYCLES = int(os.environ.get("CYCLES", "5"))
SIZE_MIB = 48
TEXT = ("x" * 70 + "\r\n") * 3500 # about 250 KB: a file of its own
SMALL = ("y" * 70 + "\r\n") * 800 # about 57 KB: in the log


class Sink(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, port):
        self.got, self.lock = [], threading.Lock()
        super().__init__((address, port), Session)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Session(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 sink\r\n")
        for line in iter(self.rfile.readline, b""):
            verb = line[:4].upper()
            answer = b"250 ok\r\n"
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                for text in iter(self.rfile.readline, b".\r\n"):
                    if text.startswith(b"Subject: "):
                        with self.server.lock:
                            self.server.got.append(int(text[9:]))
            elif verb == b"QUIT":
                answer = b"221 bye\r\n"
            self.wfile.write(answer)
            if verb == b"QUIT":
                return


def run():
    port, inject = free_port("127.7.0.1"), free_port()
    with Directory() as directory:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", directory.path], check=True)
        sink = Sink("127.7.0.1", port)
        daemon = Daemon(directory, f"""
Workers = 1
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:{inject}"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} HoldWhenDisabled = true ENABLED }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
    LocalData = {{"a.test. MX 10 mx.a.test.", "mx.a.test. A 127.7.0.1"}} }}
""".replace("ENABLED", ""))
        text = daemon.config.read_text().replace("MinFreeSpace = 1%", "MinFreeSpace = 10%")

        def reload(enabled):
            before = daemon.metrics()["posthaste_config_generation"]
            daemon.config.write_text(text.replace("HoldWhenDisabled = true",
                                                  f"HoldWhenDisabled = true Enabled = {enabled}"))
            daemon.process.send_signal(1)
            wait_for(lambda: daemon.metrics()["posthaste_config_generation"] > before, 20, "the reload")

        taken, refused = [], 0
        number = 0
        for cycle in range(CYCLES):
            reload("false")
            full, before = False, len(taken)
            while not full:
                with smtplib.SMTP("127.0.0.1", inject) as client:
                    for _ in range(50):
                        body = TEXT if number % 3 == 0 else SMALL
                        try:
                            client.sendmail("me@sender.test", "u@a.test", f"Subject: {number}\r\n\r\n{body}")
                            taken.append(number)
                        except smtplib.SMTPResponseException as e:
                            assert e.args[0] in (452, 421), e
                            full = True
                        except smtplib.SMTPRecipientsRefused as e:
                            assert list(e.recipients.values())[0][0] == 452, e
                            full = True
                        number += 1
                        if full:
                            break
            assert len(taken) - before > 30, (cycle, len(taken) - before)
            refused += 1
            reload("true")
            wait_for(lambda: daemon.metrics()["posthaste_queued"] == 0, 30, "a drained queue")
            wait_for(lambda: daemon.metrics()["posthaste_spool_full"] == 0, 30, "room")
        assert daemon.stop() == 0
        daemon.start()
        assert daemon.metrics()["posthaste_queued"] == 0 # every outcome was written
        assert daemon.stop() == 0
        lost = set(taken) - set(sink.got)
        print(f"full disk: {CYCLES} cycles of {SIZE_MIB} MiB, {len(taken)} taken, {refused} times 452, {len(lost)} lost, "
              f"{len(sink.got) - len(set(sink.got))} twice")
        return not lost and len(sink.got) == len(set(sink.got))


def main():
    if "PH_OWN_MOUNTS" not in os.environ:
        flags = ["-m"] if os.geteuid() == 0 else ["-r", "-m"]
        command = ["unshare", *flags, sys.executable, *sys.argv]
        return subprocess.run(command, env={**os.environ, "PH_OWN_MOUNTS": "1"}).returncode == 0
    return run()


sys.exit(0 if main() else 1)
