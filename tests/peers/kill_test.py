#!/usr/bin/env python3
"""kill -9 at random moments under load, KILLS (5) times, with an injector that counts a message only
after its 250: acknowledged minus delivered is 0, and each duplicate is marked in the delivery log."""
import os
import random
import signal
import subprocess
import sys
import time

from posthaste import BUILD, Daemon, Directory, Sink, free_port, wait_for

KILLS = int(os.environ.get("KILLS", "5"))


def main():
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    print(f"kill: seed {seed}, {KILLS} kills")
    chance = random.Random(seed)
    port, inject_port = free_port("127.2.0.1"), free_port()
    with Directory() as directory:
        sink = Sink(directory, [f"mx.sink.test 127.2.0.1:{port} good", f"mx.b.test 127.2.0.2:{port} none"])
        daemon = Daemon(directory, f"""
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:{inject_port}"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} }}
Queue {{ MessageRetryInterval = 1s QueueGlitchRetryInterval = 200ms TransientFailureRetryInterval = 500ms }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
    LocalData = {{"sink.test. MX 10 mx.sink.test.", "mx.sink.test. A 127.2.0.1",
                  "b.test. MX 10 mx.b.test.", "mx.b.test. A 127.2.0.2"}} }}
""")
        injector = directory.start([BUILD / "bench-injector", f"127.0.0.1:{inject_port}", "20", "0", "2048",
                                    "u-#@sink.test", "v-#@b.test"], stdout=subprocess.PIPE, text=True)
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.05, 0.6))
            daemon.kill()
            daemon.start()
        time.sleep(0.3)
        injector.send_signal(signal.SIGTERM)
        out = injector.stdout.read().splitlines()
        injector.wait()
        acknowledged = set(map(int, out[1].split()[1:]))
        wait_for(lambda: daemon.metrics()["posthaste_queued"] == 0, 120, "an empty queue")
        in_doubt = daemon.metrics()["posthaste_ambiguous_resends_total"]
        assert daemon.stop() == 0
        _, delivered = sink.ledgers()
        lost = [i for i in acknowledged if i not in delivered]
        twice = [i for i, times in delivered.items() if times > 1]
        # The line of the second delivery may be lost with the process; that it was to come was told before.
        number, doubted = {}, set()
        for e in daemon.each_event():
            if e["event"] in ("delivered", "deferred") and "recipient" in e:
                number[e["id"]] = int(e["recipient"].split("@")[0][2:])
            if e.get("ambiguous_resend") or e.get("reason") == "in-doubt":
                doubted.add(e["id"])
        marked = {number[i] for i in doubted if i in number}
        silent = [i for i in twice if i not in marked]
        print(f"kill: {len(acknowledged)} acknowledged, {len(lost)} lost, {len(twice)} delivered twice, "
              f"{len(marked)} marked ambiguous_resend ({in_doubt:.0f} since the last start), "
              f"{len(silent)} twice without a mark {silent[:5]}")
        return not lost and not silent


sys.exit(0 if main() else 1)
