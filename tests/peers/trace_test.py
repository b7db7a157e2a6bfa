#!/usr/bin/env python3
"""`trace` shows how the last failure went without having been asked before, then what is said live; `top`
shows the daemon's figures."""
import smtplib
import subprocess
import sys
import time

from posthaste import BUILD, Daemon, Directory, Sink, free_port, wait_for


def main():
    port = free_port("127.2.5.1")
    with Directory() as directory:
        Sink(directory, [f"clear 127.2.5.1:{port} none host=mx.clear.test", f"good 127.2.5.2:{port} good host=mx.good.test",
                         f"wrong 127.2.5.3:{port} wrong-name host=mx.wrong.test"])
        data = [f'"{n}.test. MX 10 mx.{n}.test.", "mx.{n}.test. A 127.2.5.{i + 1}"' for i, n in enumerate(("clear", "good", "wrong"))]
        daemon = Daemon(directory, f"""
SendConnector "forced" {{ AddressSpaces = {{"*"}} RequireTLS = true TlsAuthLevel = DomainValidation
  TlsNameSource = host TlsTrustAnchors = {{"{directory.path}/root.pem"}} ConnectionInactivityTimeOut = 5m }}
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}} LocalData = {{{", ".join(data)}}} }}
""")

        def send(domain, text="hello"):
            host, smtp_port = daemon.listening["in"].split(":")
            with smtplib.SMTP(host, int(smtp_port)) as client:
                client.sendmail("s@trace", [f"u@{domain}"], f"Subject: t\r\n\r\n{text}\r\n")

        def trace(host):
            return subprocess.run([BUILD / "posthaste", "trace", host, "--once", "-c", daemon.config],
                                  capture_output=True, text=True)
        send("clear.test")
        send("wrong.test")
        wait_for(lambda: sum(e["event"] == "deferred" for e in daemon.events()) == 2, what="two refusals")
        told = trace("mx.clear.test")
        for part in ("connected to mx.clear.test (127.2.5.1)", "< 220 ", "> EHLO out.posthaste.test", "< 250",
                     "* tls-not-offered: "):
            assert part in told.stdout, (part, told)
        assert "MAIL" not in told.stdout
        told = trace("mx.wrong.test")
        for part in ("> STARTTLS", "* TLS1.3 ", "certificate ", "* cert-name-mismatch: "):
            assert part in told.stdout, (part, told)
        assert trace("mx.nowhere.test").returncode == 1

        send("good.test", "a secret body")
        wait_for(lambda: any(e["event"] == "delivered" for e in daemon.events()), what="a delivery")
        # Which names were demanded stands in the record, also where no TlsDomain lists them.
        named = {(e["host"], *e["policy"]["names"]) for e in daemon.events() if e.get("host")}
        assert named == {(host, host) for host in ("mx.clear.test", "mx.wrong.test", "mx.good.test")}, named
        trace("mx.good.test") # watched from here on, the open session too
        send("good.test", "a secret body")
        wait_for(lambda: sum(e["event"] == "delivered" for e in daemon.events()) == 2, what="another delivery")
        told = trace("mx.good.test").stdout
        for part in ("> MAIL FROM:<s@trace>", "> RCPT TO:<u@good.test>", "< 250 "):
            assert part in told, (part, told)
        assert "secret" not in told, told

        top = subprocess.run([BUILD / "posthaste", "top", "-c", daemon.config], capture_output=True, text=True, check=True).stdout
        assert "TLS-held           2" in top and "mx.good.test" in top and "delivered         2" in top, top
        live = directory.start([BUILD / "posthaste", "trace", "*", "-c", daemon.config], stdout=subprocess.PIPE, text=True)
        time.sleep(1)
        send("good.test")
        for line in live.stdout:
            if "> MAIL FROM" in line:
                break
        else:
            raise AssertionError("nothing was shown live")
        assert daemon.stop() == 0
        print("trace: the last failures, a live session, no bodies; top agrees with the metrics")
        return 0


sys.exit(main())
