#!/usr/bin/env python3
"""swaks sends one message with AUTH over TLS; without AUTH, and with a wrong password, it is refused."""
import crypt
import subprocess
import sys

from posthaste import Daemon, Directory, Sink, free_port, wait_for


def main():
    port = free_port("127.2.0.1")
    with Directory() as directory:
        sink = Sink(directory, [f"mx.sink.test 127.2.0.1:{port} none"])
        (directory.path / "users").write_text("ann:" + crypt.crypt("secret", crypt.mksalt(crypt.METHOD_SHA512)) + "\n")
        daemon = Daemon(directory, f"""
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}}
    AuthMechanism = {{Tls, BasicAuth, BasicAuthRequireTLS}} AuthFile = "{directory.path}/users"
    TlsCertificate = "{directory.path}/server.pem" }}
SendConnector "out" {{ AddressSpaces = {{"*"}} }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
    LocalData = {{"sink.test. MX 10 mx.sink.test.", "mx.sink.test. A 127.2.0.1"}} }}
""")

        def swaks(*more):
            return subprocess.run(["swaks", "--server", daemon.listening["in"].replace(":", ":"), "--to",
                                   "u@sink.test", "--from", "ann@source.test", *more],
                                  capture_output=True, text=True)
        good = swaks("-tls", "--auth", "PLAIN", "--auth-user", "ann", "--auth-password", "secret")
        login = swaks("-tls", "--auth", "LOGIN", "--auth-user", "ann", "--auth-password", "secret")
        wrong = swaks("-tls", "--auth", "PLAIN", "--auth-user", "ann", "--auth-password", "guess")
        clear = swaks("--auth", "PLAIN", "--auth-user", "ann", "--auth-password", "secret")
        without = swaks("-tls")
        assert good.returncode == 0, good.stdout + good.stderr
        assert login.returncode == 0, login.stdout + login.stderr
        assert wrong.returncode != 0 and "535" in wrong.stdout, wrong.stdout
        assert clear.returncode != 0 and "235" not in clear.stdout, clear.stdout
        assert without.returncode != 0 and "550 5.7.1" in without.stdout, without.stdout
        wait_for(lambda: daemon.metrics()["posthaste_delivered_total"] == 2, what="delivery")
        assert daemon.stop() == 0
        ledgers, _ = sink.ledgers()
        assert ledgers["mx.sink.test"]["messages"] == 2
        print("swaks: 2 sent with AUTH over TLS; wrong password, AUTH in the clear and no AUTH refused")


main()
sys.exit(0)
