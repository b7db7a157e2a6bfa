#!/usr/bin/env python3
"""A peer whose connection breaks at every byte of the dialogue, in both directions, by RST and by FIN, with
BDAT and with DATA: each message arrives once, or again with the mark `ambiguous_resend`; none is lost,
and none arrives twice without the mark. STEP (7) sets how far the offsets lie apart; 1 is every byte."""
import asyncio
import os
import random
import re
import socket
import struct
import sys
import threading

from posthaste import Daemon, Directory, free_port, wait_for

STEP = int(os.environ.get("STEP", "7"))
OFFSETS_MAX = {"received": 260, "sent": 190}
CONFIG = """
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} }}
Queue {{ MessageRetryInterval = 1s QueueGlitchRetryInterval = 100ms TransientFailureRetryInterval = 500ms }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{local}}} }}
"""


class Case:
    """One domain at an address of its own: its first connection breaks at `offset`, the others hold."""

    def __init__(self, number, direction, offset, how, chunking):
        self.direction, self.offset, self.how, self.chunking = direction, offset, how, chunking
        self.domain = f"d{number}.test"
        self.address = f"127.3.{number // 250}.{number % 250 + 1}"
        self.broken = False    # its connection has broken
        self.messages = 0      # bodies whose end came: delivered, whatever the sender learned
        self.acknowledged = 0  # 250s that went out whole


class Broken(Exception):
    pass


class Conversation:
    def __init__(self, case, reader, writer):
        self.case, self.reader, self.writer = case, reader, writer
        self.breaks = not case.broken
        self.count = {"received": 0, "sent": 0}
        self.buffer = b""

    def left(self, direction):
        if not self.breaks or self.case.direction != direction:
            return None
        return self.case.offset - self.count[direction]

    def break_now(self):
        self.case.broken = True
        if self.case.how == "rst":
            self.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort() if self.case.how == "rst" else self.writer.close()
        raise Broken

    async def more(self):
        left = self.left("received")
        if left is not None and left <= 0:
            self.break_now()
        data = await self.reader.read(65536 if left is None else min(left, 65536))
        if not data:
            raise Broken
        self.count["received"] += len(data)
        self.buffer += data

    async def line(self):
        while b"\r\n" not in self.buffer:
            await self.more()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    async def say(self, text):
        data, left = text.encode(), self.left("sent")
        if left is not None and left < len(data):
            self.writer.write(data[:max(left, 0)])
            await self.writer.drain()
            self.break_now()
        self.count["sent"] += len(data)
        self.writer.write(data)
        await self.writer.drain()

    async def serve(self):
        case = self.case
        await self.say("220 peer.test ESMTP\r\n")
        while True:
            verb = (await self.line()).upper()
            if verb.startswith(b"EHLO"):
                await self.say("250-peer.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n"
                               + ("250-CHUNKING\r\n" if case.chunking else "") + "250 SIZE\r\n")
            elif verb == b"DATA":
                await self.say("354 go\r\n")
                while (await self.line()) != b".":
                    pass
                await self.message()
            elif verb.startswith(b"BDAT"):
                size = int(re.match(rb"BDAT (\d+) LAST", verb).group(1))
                while len(self.buffer) < size:
                    await self.more()
                self.buffer = self.buffer[size:]
                await self.message()
            elif verb == b"QUIT":
                await self.say("221 bye\r\n")
                self.writer.close()
                return
            else:
                await self.say("250 ok\r\n")

    async def message(self):
        self.case.messages += 1
        await self.say("250 taken\r\n")
        self.case.acknowledged += 1


async def converse(cases, reader, writer):
    case = cases[writer.get_extra_info("sockname")[0]]
    try:
        await Conversation(case, reader, writer).serve()
    except (Broken, ConnectionError):
        pass
    finally:
        writer.close()


def listen(cases, port):
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def begin():
        await asyncio.start_server(lambda r, w: converse(cases, r, w), "0.0.0.0", port, backlog=4096)
        started.set()

    def run():
        loop.create_task(begin())
        loop.run_forever()

    threading.Thread(target=run, daemon=True).start()
    started.wait()


def inject(address, cases):
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as s:
        f = s.makefile("rwb")

        def expect(code):
            while True:
                line = f.readline()
                assert line.startswith(code), line
                if line[3:4] == b" ":
                    return

        expect(b"220")
        f.write(b"EHLO me.test\r\n"), f.flush(), expect(b"250")
        for case in cases:
            f.write(f"MAIL FROM:<a@source.test>\r\nRCPT TO:<u@{case.domain}>\r\nDATA\r\n".encode())
            f.flush(), expect(b"250"), expect(b"250"), expect(b"354")
            f.write(b"Subject: x\r\n\r\n.dots\r\nbody\r\n.\r\n"), f.flush(), expect(b"250")
        f.write(b"QUIT\r\n"), f.flush(), expect(b"221")


def main():
    start = random.randrange(STEP)
    cases = []
    for direction, most in OFFSETS_MAX.items():
        for offset in range(start, most, STEP):
            for how in ("rst", "fin"):
                for chunking in (True, False):
                    cases.append(Case(len(cases), direction, offset, how, chunking))
    port = free_port("127.3.0.1")
    listen({case.address: case for case in cases}, port)
    local = ", ".join(f'"{c.domain}. MX 10 mx.{c.domain}.", "mx.{c.domain}. A {c.address}"' for c in cases)
    with Directory() as directory:
        daemon = Daemon(directory, CONFIG.format(port=port, local=local))
        inject(daemon.listening["in"], cases)
        wait_for(lambda: daemon.metrics()["posthaste_queued"] == 0, 120, "an empty queue")
        delivered = daemon.metrics()["posthaste_delivered_total"]
        assert daemon.stop() == 0
        marked = {e["recipient"] for e in daemon.events()
                  if e["event"] == "delivered" and e["ambiguous_resend"]}
    lost = [c for c in cases if c.messages == 0]
    twice = [c for c in cases if c.messages > 1]
    silent = [c for c in twice if f"u@{c.domain}" not in marked]
    needless = [c for c in cases if c.messages == 1 and f"u@{c.domain}" in marked]
    unbroken = sum(not c.broken for c in cases)
    print(f"reset: {len(cases)} messages, offsets from {start} by {STEP}; {len(cases) - unbroken} connections broken, "
          f"{len(lost)} lost, {len(twice)} arrived twice, {len(silent)} of them without the mark; "
          f"{len(needless)} marked that had arrived once")
    for c in (lost + silent)[:5]:
        print(" ", c.domain, c.direction, c.offset, c.how, c.chunking, c.messages)
    assert delivered == len(cases)
    assert not lost and not silent and all(c.messages <= 2 for c in cases)
    # The window is real: without any case in it nothing was shown.
    assert twice and len(cases) - unbroken > len(cases) // 2


main()
sys.exit(0)
