#!/usr/bin/env python3
"""A real Postfix, run privately, takes a multi-recipient 8-bit message of 10,000,000 bytes from
posthaste; its body's SHA-256 is the same at the other end."""
import hashlib
import os
import pathlib
import smtplib
import socket
import subprocess
import sys

from posthaste import Daemon, Directory, free_port, wait_for

SIZE = 10_000_000


def body():
    line = ("Grüße " * 12 + "\r\n").encode()
    text = line * (SIZE // len(line))
    return text + b"x" * (SIZE - len(text) - 2) + b"\r\n"


def start_postfix(directory, port):
    base = directory.path / "postfix"
    for name in ("etc", "spool", "data", "mail"):
        (base / name).mkdir(parents=True)
    os.chmod(base, 0o755)
    (base / "etc" / "main.cf").write_text(f"""
compatibility_level = 3.6
queue_directory = {base}/spool
data_directory = {base}/data
myhostname = mx.postfix.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
message_size_limit = 0
virtual_mailbox_limit = 0
mailbox_size_limit = 0
virtual_mailbox_domains = postfix.test
virtual_mailbox_base = {base}/mail
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
alias_maps =
alias_database =
maillog_file = /dev/stdout
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = reject_unauth_destination
smtpd_sasl_auth_enable = no
""")
    master = pathlib.Path("/etc/postfix/master.cf").read_text() if pathlib.Path(
        "/etc/postfix/master.cf").exists() else pathlib.Path("/usr/share/postfix/master.cf.dist").read_text()
    lines = []
    for text in master.splitlines():
        fields = text.split()
        if text.startswith("smtp ") and len(fields) > 1 and fields[1] == "inet":
            text = f"127.0.0.1:{port} inet n - n - - smtpd"
        elif len(fields) >= 8 and not text.startswith((" ", "#", "\t")):
            fields[4] = "n"
            text = " ".join(fields)
        lines.append(text)
    (base / "etc" / "master.cf").write_text("\n".join(lines) + "\n")
    import shutil
    for name in ("data",):
        shutil.chown(base / name, "postfix")
    os.chmod(base / "mail", 0o777)
    log = open(base / "log", "wb")
    directory.start(["postfix", "-c", base / "etc", "start-fg"], stdout=log, stderr=log)

    def answers():
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as s:
                return s.recv(3) == b"220"
        except OSError:
            return False
    try:
        wait_for(answers, 20, "Postfix's greeting")
    except AssertionError:
        print((base / "log").read_text())
        raise
    return base


def main():
    port = free_port()
    content = body()
    with Directory() as directory:
        base = start_postfix(directory, port)
        try:
            daemon = Daemon(directory, f"""
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} }}
Resolver {{ Port = {port} AllowedDestinations = {{"127.0.0.0/8"}}
    LocalData = {{"postfix.test. MX 10 mx.postfix.test.", "mx.postfix.test. A 127.0.0.1"}} }}
""")
            host, smtp_port = daemon.listening["in"].split(":")
            with smtplib.SMTP(host, int(smtp_port)) as client:
                refused = client.sendmail("s@source.test", [f"u{i}@postfix.test" for i in range(5)],
                                          b"Subject: large\r\nMIME-Version: 1.0\r\n"
                                          b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + content,
                                          mail_options=["BODY=8BITMIME"])
                assert not refused
            wait_for(lambda: daemon.metrics()["posthaste_delivered_total"] == 5, 120, "delivery")
            mails = base / "mail" / "all" / "new"
            wait_for(lambda: mails.exists() and len(list(mails.iterdir())) == 5, 60, "Postfix's delivery")
            assert daemon.stop() == 0
            want = hashlib.sha256(content).hexdigest()
            for mail in mails.iterdir():
                raw = mail.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
                got = hashlib.sha256(raw.split(b"\r\n\r\n", 1)[1]).hexdigest()
                assert got == want, f"{mail}: {got} instead of {want}"
            print(f"postfix: 5 recipients have the same {SIZE} bytes, sha256 {want[:16]}…")
        finally:
            subprocess.run(["postfix", "-c", base / "etc", "stop"], capture_output=True)


main()
sys.exit(0)
