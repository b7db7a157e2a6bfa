#!/usr/bin/python3
"""The power is cut under load, CUTS (4) times: the spool lies on a file system of our own (power_cut_fs.py, FUSE) that
then forgets what wasn't synced, or keeps some of it, torn. The daemon is killed, starts on what is left, and by the
ledgers of both sides nothing acknowledged is lost, nor delivered twice without a mark. Then once more on one whose
syncs do nothing: there mail must be lost, or this test sees nothing."""
import os
import random
import signal
import subprocess
import sys
import time

from posthaste import BUILD, ROOT, Daemon, Directory, Sink, free_port, wait_for

CUTS = int(os.environ.get("CUTS", "4"))
SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))


def run(cuts, lies):
    """How many were acknowledged, lost, delivered twice, and twice without a mark."""
    chance = random.Random(SEED)
    port, inject_port = free_port("127.2.0.6"), free_port()
    with Directory() as directory:
        mount = directory.path / "disk"
        mount.mkdir()
        directory.start(["/usr/bin/python3", ROOT / "tests/peers/power_cut_fs.py", mount, SEED])
        wait_for(lambda: os.path.ismount(mount), 10, "the file system")
        try:
            sink = Sink(directory, [f"mx.sink.test 127.2.0.6:{port} none"])
            slow = 'Site "mx.sink.test" { MessageRate = 20/s }' if lies else "" # so that there is something to lose
            daemon = Daemon(directory, f"""
Workers = 2
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:{inject_port}"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} MaxConnections = 2 }}
{slow}
Queue {{ MessageRetryInterval = 1s QueueGlitchRetryInterval = 200ms TransientFailureRetryInterval = 500ms }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
    LocalData = {{"sink.test. MX 10 mx.sink.test.", "mx.sink.test. A 127.2.0.6"}} }}
""", spool=mount / "spool")
            injector = directory.start([BUILD / "bench-injector", f"127.0.0.1:{inject_port}", "8", "0", "2048",
                                        "u-#@sink.test"], stdout=subprocess.PIPE, text=True)
            if lies:
                (mount / ".lie").mkdir()
            for _ in range(cuts):
                time.sleep(chance.uniform(0.2, 0.7))
                (mount / ".cut").mkdir()
                daemon.kill()
                (mount / ".cut").rmdir()
                if lies:
                    daemon.config.write_text(daemon.config.read_text().replace(slow, ""))
                daemon.start()
            time.sleep(0.2)
            injector.send_signal(signal.SIGTERM)
            acknowledged = set(map(int, injector.communicate(timeout=60)[0].splitlines()[1].split()[1:]))
            wait_for(lambda: daemon.metrics()["posthaste_queued"] == 0, 60, "an empty queue")
            damaged = daemon.metrics()["posthaste_quarantined_total"]
            assert daemon.stop() == 0
            _, delivered = sink.ledgers()
            lost = [i for i in acknowledged if i not in delivered]
            twice = [i for i, times in delivered.items() if times > 1]
            number, doubted = {}, set()
            for e in daemon.each_event():
                if e["event"] in ("delivered", "deferred") and "recipient" in e:
                    number.setdefault(e["id"], int(e["recipient"].split("@")[0][2:]))
                if e.get("ambiguous_resend") or e.get("reason") == "in-doubt":
                    doubted.add(e["id"])
            marked = {number[i] for i in doubted if i in number}
            return len(acknowledged), len(lost), len(twice), len([i for i in twice if i not in marked]), int(damaged)
        finally:
            for process in reversed(directory.processes[1:]):
                if process.poll() is None:
                    process.kill()
                    process.wait()
            subprocess.run(["umount", mount], check=False)


def main():
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.geteuid() != 0:
        print("power cut: left out, there is no /dev/fuse for us here")
        return True
    print(f"power cut: seed {SEED}")
    acknowledged, lost, twice, silent, damaged = run(CUTS, lies=False)
    print(f"power cut: {CUTS} cuts, {acknowledged} acknowledged, {lost} lost, {twice} delivered twice, {silent} of them "
          f"without a mark, {damaged} damaged")
    forgotten = run(1, lies=True)[1]
    print(f"power cut: with syncs that do nothing {forgotten} lost")
    return forgotten > 0 and lost == 0 and silent == 0 and damaged == 0 and acknowledged > 100


sys.exit(0 if main() else 1)
