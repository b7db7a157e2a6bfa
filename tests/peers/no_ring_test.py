#!/usr/bin/env python3
"""Where a filter forbids io_uring, as containers' do, the daemon says so, goes by epoll and delivers; told
IoWorld = ring it refuses to start and says why."""
import ctypes
import os
import struct
import subprocess
import sys

from posthaste import BUILD, Daemon, Directory, Sink, free_port, wait_for

CONFIG = """
IoWorld = {world}
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
    LocalData = {{"sink.test. MX 10 mx.sink.test.", "mx.sink.test. A 127.2.0.5"}} }}
"""
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, EPERM = 0x7fff0000, 0x00050001
IO_URING_SETUP = 425 # the same on every architecture


def forbid_ring():
    """seccomp(2): io_uring_setup answers EPERM."""
    filters = b"".join(struct.pack("HBBI", *f) for f in [
        (LOAD_NUMBER, 0, 0, 0), (JUMP_IF_EQUAL, 0, 1, IO_URING_SETUP), (RETURN, 0, 0, EPERM), (RETURN, 0, 0, ALLOW)])
    buffer = ctypes.create_string_buffer(filters, len(filters))
    program = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program) == 0


class Confined(Daemon):
    def start(self):
        start = self.directory.start
        self.directory.start = lambda command, **options: start(command, preexec_fn=forbid_ring, **options)
        try:
            super().start()
        finally:
            self.directory.start = start


os.environ.pop("POSTHASTE_IO", None) # the world is what this is about
with Directory() as directory:
    port = free_port("127.2.0.5")
    sink = Sink(directory, [f"mx.sink.test 127.2.0.5:{port} none"])
    daemon = Confined(directory, CONFIG.format(world="auto", port=port))
    subprocess.run([BUILD / "bench-injector", daemon.listening["in"], "4", "200", "1000", "u@sink.test"],
                   check=True, stdout=subprocess.DEVNULL)
    wait_for(lambda: daemon.metrics()["posthaste_delivered_total"] == 200, 60, "delivery")
    assert daemon.stop() == 0
    assert sink.ledgers()[0]["mx.sink.test"]["messages"] == 200
    said = (directory.path / "errors").read_text()
    assert "epoll" in said and "io_uring" in said, said
    reason = [line for line in said.splitlines() if "io_uring" in line][0]

    daemon.config.write_text(daemon.config.read_text().replace("IoWorld = auto", "IoWorld = ring"))
    refused = subprocess.run([BUILD / "posthaste", "run", "-c", daemon.config], capture_output=True, text=True,
                             preexec_fn=forbid_ring)
    assert refused.returncode not in (0, None) and "io_uring" in refused.stderr, refused
print("no ring:", reason)
print("no ring: 200 of 200 delivered by epoll; IoWorld = ring:", refused.stderr.strip().splitlines()[-1])
sys.exit(0)
