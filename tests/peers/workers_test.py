#!/usr/bin/env python3
"""The spool of one number of workers opened by another: logs without a worker are adopted whole, their mail is
delivered once, and adopted logs run empty."""
import smtplib
import sys

from posthaste import Daemon, Directory, Sink, free_port, wait_for


def main():
    port, inject = free_port("127.8.0.1"), free_port()
    with Directory() as directory:
        sink = Sink(directory, [f"mx.sink.test 127.8.0.1:{port} none"])
        config = f"""
Workers = 4
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:{inject}"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} Enabled = false HoldWhenDisabled = true }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
    LocalData = {{"sink.test. MX 10 mx.sink.test.", "mx.sink.test. A 127.8.0.1"}} }}
"""
        daemon = Daemon(directory, config)
        whole = daemon.config.read_text()
        number = 0

        def send(count):
            nonlocal number
            clients = [smtplib.SMTP("127.0.0.1", inject) for _ in range(8)] # so that every worker gets some
            for i in range(count):
                number += 1
                clients[i % 8].sendmail("a@sender.test", f"u-{number}@sink.test",
                                        f"X-Id: {number}\r\nSubject: x\r\n\r\nx\r\n")
            for client in clients:
                client.quit()

        def restart(workers, held=True):
            assert daemon.stop() == 0
            text = whole.replace("Workers = 4", f"Workers = {workers}")
            daemon.config.write_text(text if held else text.replace("Enabled = false", "Enabled = true"))
            daemon.start()

        send(40)
        for workers in (1, 3, 2):
            restart(workers)
            assert daemon.metrics()["posthaste_queued"] == number, daemon.metrics()["posthaste_queued"]
            send(16)
        daemon.kill()
        daemon.start()
        assert daemon.metrics()["posthaste_queued"] == number
        restart(2, held=False)
        wait_for(lambda: daemon.metrics()["posthaste_queued"] == 0, 30, "an empty queue")
        metrics = daemon.metrics()
        assert metrics["posthaste_delivered_total"] == number and metrics["posthaste_unbalanced"] == 0
        restart(1)
        assert daemon.metrics()["posthaste_queued"] == 0
        assert daemon.stop() == 0
        assert len(list((directory.path / "spool").glob("log-*"))) == 4
        delivered = sink.ledgers()[0]["mx.sink.test"]["messages"]
        assert delivered == number, (delivered, number)
    print(f"workers: {number} messages through 4, 1, 3 and 2 workers, each delivered once")
    return True


sys.exit(0 if main() else 1)
