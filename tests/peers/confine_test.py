#!/usr/bin/env python3
"""What the daemon gives up: started by root it becomes User, keeps the right to bind low ports and
nothing else, and can start no program. Mail goes through all the same."""
import os
import pathlib
import pwd
import shutil
import subprocess
import sys

from posthaste import BUILD, Daemon, Directory, Sink, free_port, wait_for

USER = "nobody"
CONFIG = """
User = "{user}"
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
    LocalData = {{"sink.test. MX 10 mx.sink.test.", "mx.sink.test. A 127.2.0.4"}} }}
"""

assert os.geteuid() == 0, "needs root"
with Directory() as directory:
    port = free_port("127.2.0.4")
    sink = Sink(directory, [f"mx.sink.test 127.2.0.4:{port} none"])
    spool = directory.path / "spool"
    spool.mkdir()
    for path in (directory.path, spool):
        shutil.chown(path, USER)
    daemon = Daemon(directory, CONFIG.format(user=USER, port=port))
    status = dict(line.split(":\t", 1) for line in
                  pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines()
                  if ":\t" in line)
    uid = str(pwd.getpwnam(USER).pw_uid)
    assert status["Uid"].split() == [uid] * 4, status["Uid"]
    assert int(status["CapEff"], 16) == 1 << 10, status["CapEff"] # CAP_NET_BIND_SERVICE
    assert int(status["CapBnd"], 16) == 0 or int(status["CapBnd"], 16) == 1 << 10, status["CapBnd"]
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    subprocess.run([BUILD / "bench-injector", daemon.listening["in"], "4", "200", "1000",
                    "u@sink.test"], check=True, stdout=subprocess.DEVNULL)
    wait_for(lambda: daemon.metrics()["posthaste_delivered_total"] == 200, 60, "delivery")
    assert daemon.stop() == 0
    assert sink.ledgers()[0]["mx.sink.test"]["messages"] == 200

    daemon.config.write_text(daemon.config.read_text().replace(f'User = "{USER}"',
                                                              'User = "nobody-there"'))
    refused = subprocess.run([BUILD / "posthaste", "run", "-c", daemon.config], capture_output=True,
                             text=True)
    assert refused.returncode == 78 and "there is no user nobody-there" in refused.stderr, refused
print(f"confined: user {USER}, capability to bind only, no new privileges, calls filtered; "
      "200 of 200 delivered")
sys.exit(0)
