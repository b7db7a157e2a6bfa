#!/usr/bin/python3
"""Mail from posthaste to Postfix, Exim and aiosmtpd, and to it from swaks, msmtp, Postfix, Exim and OpenSMTPD, over
TLS 1.2 and 1.3, with RSA and ECDSA certificates; and to OpenSMTPD in the clear. Each peer is a private instance."""
import grp
import os
import pathlib
import pwd
import shutil
import smtplib
import socket
import ssl
import subprocess
import sys

from aiosmtpd.controller import Controller

from posthaste import ROOT, Daemon, Directory, free_port, wait_for

CACHE = pathlib.Path(os.environ.get("POSTHASTE_CACHE") or
                     pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "posthaste")
PEERS = CACHE / "peers"
BODY = "Subject: interop\r\n\r\n.a dot, and \u00fcmlauts in 8 bit\r\nend\r\n"
VERSIONS, KEYS = ("1.2","1.3",), ("rsa","ecdsa")


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def make_certificates(d):
    """A root, and for each kind of key a leaf for `peer.test` and `localhost`."""
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", d / "root.key", "-out", d / "root.pem",
        "-subj", "/CN=root", "-days", "30", "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    (d / "ext").write_text("subjectAltName=DNS:peer.test,DNS:localhost\nextendedKeyUsage=serverAuth\n"
                           "basicConstraints=CA:FALSE\n")
    for kind, key in (("rsa", ["rsa:2048"]), ("ecdsa", ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"])):
        run("openssl", "req", "-newkey", *key, "-nodes", "-keyout", d / f"{kind}.key", "-out", d / "csr",
            "-subj", "/CN=peer.test")
        run("openssl", "x509", "-req", "-in", d / "csr", "-CA", d / "root.pem", "-CAkey", d / "root.key",
            "-CAcreateserial", "-days", "30", "-extfile", d / "ext", "-out", d / f"{kind}.pem")
        (d / f"{kind}-both.pem").write_text((d / f"{kind}.key").read_text() + (d / f"{kind}.pem").read_text())
        for end in (".pem", ".key", "-both.pem"):
            (d / f"{kind}{end}").chmod(0o644)
    (d / "rsa.key").chmod(0o640)
    (d / "ecdsa.key").chmod(0o640)


def listening(port, seconds=10):
    def reached():
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0
    wait_for(reached, seconds, f"a listener on port {port}")


# --- servers: each takes mail for anybody and keeps it where `received` finds it

class Aiosmtpd:
    name = "aiosmtpd"

    def __init__(self, directory, work, kind, version):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory.path / f"{kind}.pem", directory.path / f"{kind}.key")
        context.minimum_version = context.maximum_version = {
            "1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
        self.port, self.messages = free_port(), []
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port, tls_context=context,
                                     require_starttls=True, decode_data=False)
        self.controller.start()

    async def handle_DATA(self, server, session, envelope):
        self.messages.append(envelope.content)
        return "250 taken"

    def received(self):
        return self.messages

    def stop(self):
        self.controller.stop()


class Postfix:
    name = "Postfix"

    def __init__(self, directory, work, kind, version, relay=None):
        self.port = free_port()
        self.mail = work / "mail"
        for sub in ("", "spool", "data", "mail"):
            (work / sub).mkdir(exist_ok=True)
        shutil.chown(work / "data", "postfix")
        shutil.chown(work / "mail", "nobody", "nogroup")
        versions = ">=TLSv1.2, <=TLSv1.2" if version == "1.2" else ">=TLSv1.3"
        (work / "main.cf").write_text(f"""
compatibility_level = 3.6
queue_directory = {work}/spool
data_directory = {work}/data
mail_owner = postfix
setgid_group = postdrop
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = peer.test
mydestination =
mynetworks = 127.0.0.0/8
maillog_file = {work}/maillog
maillog_file_prefixes = {work}
virtual_mailbox_domains = {"" if relay else "interop.test"}
virtual_mailbox_base = {work}/mail
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:{pwd.getpwnam("nobody").pw_uid}
virtual_gid_maps = static:{grp.getgrnam("nogroup").gr_gid}
smtpd_tls_chain_files = {directory.path}/{kind}-both.pem
smtpd_tls_security_level = encrypt
smtpd_tls_mandatory_protocols = {versions}
smtp_tls_mandatory_protocols = {versions}
smtp_tls_security_level = secure
smtp_tls_secure_cert_match = peer.test
smtp_tls_CAfile = {directory.path}/root.pem
relayhost = {f"[127.0.0.1]:{relay}" if relay else ""}
""")
        (work / "master.cf").write_text("".join(f"{line}\n" for line in [
            f"127.0.0.1:{self.port} inet n - n - - smtpd", "pickup unix n - n 60 1 pickup",
            "cleanup unix n - n - 0 cleanup", "qmgr unix n - n 300 1 qmgr", "rewrite unix - - n - - trivial-rewrite",
            "bounce unix - - n - 0 bounce", "defer unix - - n - 0 bounce", "trace unix - - n - 0 bounce",
            "smtp unix - - n - - smtp", "virtual unix - n n - - virtual", "tlsmgr unix - - n 1000? 1 tlsmgr",
            "postlog unix-dgram n - n - 1 postlogd", "anvil unix - - n - 1 anvil", "error unix - - n - - error",
            "retry unix - - n - - error", "proxymap unix - - n - - proxymap"]))
        self.work = work
        run("postfix", "-c", work, "start")
        listening(self.port)

    def received(self):
        return [p.read_bytes() for p in self.mail.rglob("*") if p.is_file() and "new" in p.parts]

    def stop(self):
        subprocess.run(["postfix", "-c", str(self.work), "stop"], capture_output=True)


class Exim:
    name = "Exim"

    def __init__(self, directory, work, kind, version, relay=None):
        self.port = free_port()
        work.mkdir(exist_ok=True)
        (work / "mail").mkdir()
        for sub in (work, work / "mail"):
            shutil.chown(sub, "Debian-exim", "Debian-exim")
        # Its private copies: it reads them as its own user.
        for end in (".pem", ".key"):
            shutil.copy(directory.path / f"{kind}{end}", work / f"server{end}")
            shutil.chown(work / f"server{end}", "Debian-exim")
        shutil.copy(directory.path / "root.pem", work / "root.pem")
        priority = "NORMAL:-VERS-ALL:+VERS-TLS" + version
        route = (f"relay:\n driver = manualroute\n route_list = * 127.0.0.1::{relay}\n self = send\n transport = out\n"
                 if relay else "local:\n driver = accept\n transport = keep\n")
        self.config = work / "exim.conf"
        self.config.write_text(f"""
primary_hostname = peer.test
spool_directory = {work}/spool
log_file_path = {work}/log_%s
pid_file_path = {work}/pid
exim_path = {work}/exim4
keep_environment =
local_interfaces = 127.0.0.1
daemon_smtp_ports = {self.port}
acl_smtp_rcpt = take
tls_advertise_hosts = *
tls_certificate = {work}/server.pem
tls_privatekey = {work}/server.key
tls_require_ciphers = {priority}
never_users =
exim_user = Debian-exim
exim_group = Debian-exim
allow_mx_to_ip = true
begin acl
take:
 accept
begin routers
{route}
begin transports
keep:
 driver = appendfile
 directory = {work}/mail
 maildir_format
 user = Debian-exim
 group = Debian-exim
out:
 driver = smtp
 hosts_require_tls = *
 tls_require_ciphers = {priority}
 tls_verify_certificates = {work}/root.pem
 tls_verify_hosts = *
 tls_verify_cert_hostnames =
 tls_sni = peer.test
begin retry
* * F,1h,1m
""")
        shutil.chown(self.config, "root", "root")
        shutil.copy(PEERS / "usr/sbin/exim4", work / "exim4") # where its own user may start it again
        self.process = directory.start([work / "exim4", "-C", self.config, "-bdf"],
                                       stdout=subprocess.DEVNULL, stderr=open(work / "stderr", "wb"))
        listening(self.port)
        self.work = work

    def received(self):
        return [p.read_bytes() for p in (self.work / "mail" / "new").glob("*")]

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


class OpenSmtpd:
    """Over TLS as a client only. As a server the packaged one (6.8.0p2) fails each handshake, with RSA ("rsa routines::
    missing private key") as with ECDSA ("elliptic curve routines::missing private key"), in TLS 1.2 as in 1.3: its
    network process has the public half of the key alone and hooks the signature to ask another process for it, by a
    mark that OpenSSL 3 drops when it copies the key. No setting of its own goes another way. In the clear it
    takes mail (OpenSmtpdInTheClear). Its paths are compiled in: it runs in a mount namespace where they are private."""
    name = "OpenSMTPD"

    def __init__(self, directory, work, kind, version, relay):
        self.port = free_port()
        (work / "smtpd.conf").write_text(f"""listen on 127.0.0.1 port {self.port} hostname peer.test
action out relay host "smtp+tls://127.0.0.1:{relay}" tls no-verify
match from any for any action out
""")
        (work / "smtpd.conf").chmod(0o600)
        script = (f"mount -t tmpfs none /var/spool && mkdir -m 711 /var/spool/smtpd && "
                  f"mount -t tmpfs none /run && mount -t tmpfs none /var/lib && "
                  f"mkdir -p /var/lib/opensmtpd/empty && exec {PEERS}/usr/sbin/smtpd -d -f {work}/smtpd.conf")
        self.process = directory.start(["unshare", "--mount", "sh", "-c", script],
                                       stdout=subprocess.DEVNULL, stderr=open(work / "stderr", "wb"))
        listening(self.port)

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


class OpenSmtpdInTheClear(OpenSmtpd):
    """Takes mail without TLS and passes it on to a server of ours."""
    name = "OpenSMTPD in the clear"
    tls = False

    def __init__(self, directory, work, kind, version):
        work.mkdir()
        self.next_hop = Aiosmtpd(directory, work, kind, version)
        super().__init__(directory, work, kind, version, self.next_hop.port)

    def received(self):
        return self.next_hop.received()

    def stop(self):
        super().stop()
        self.next_hop.stop()


def canonical(content):
    """The body alone, with LF line ends."""
    return content.replace(b"\r\n", b"\n").split(b"\n\n", 1)[1].rstrip(b"\n")


def inject(address, recipient):
    host, port = address.rsplit(":", 1)
    with smtplib.SMTP(host, int(port)) as client:
        client.sendmail("a@source.test", [recipient], BODY.encode(), mail_options=["BODY=8BITMIME"])


def outbound(server_class, kind, version):
    with Directory() as directory:
        make_certificates(directory.path)
        server = server_class(directory, directory.path / "peer", kind, version)
        tls = getattr(server_class, "tls", True)
        demands = f"""RequireTLS = true TlsAuthLevel = DomainValidation TlsDomain = {{"peer.test"}}
    TlsTrustAnchors = {{"{directory.path}/root.pem"}} RevocationFetch = false""" if tls else ""
        try:
            daemon = Daemon(directory, f"""
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} }}
SendConnector "out" {{ AddressSpaces = {{"*"}} {demands} }}
Resolver {{ Port = {server.port} AllowedDestinations = {{"127.0.0.0/8"}}
    LocalData = {{"interop.test. MX 10 peer.test.", "peer.test. A 127.0.0.1"}} }}
""")
            inject(daemon.listening["in"], "u@interop.test")
            try:
                wait_for(lambda: len(server.received()) == 1, 10, f"delivery to {server.name}")
            except AssertionError as failure:
                log = [p.read_text(errors="replace")[-600:] for p in (directory.path / "peer").glob("*")
                       if p.name in ("maillog", "log_main", "log_panic", "stderr")]
                raise AssertionError(f"{failure}: {daemon.events()[-1].get('text')} {log}") from None
            assert canonical(server.received()[0]) == canonical(BODY.encode()), server.received()
            wait_for(lambda: any(e["event"] == "delivered" for e in daemon.events()), 5, "the log line")
            event = [e for e in daemon.events() if e["event"] == "delivered"][0]
            assert event["tls"]["version"].endswith(version) if tls else not event.get("tls"), event
            assert daemon.stop() == 0
        finally:
            server.stop()


def send_swaks(directory, work, port, version):
    run("swaks", "--server", f"127.0.0.1:{port}", "--from", "a@source.test", "--to", "u@interop.test", "--tls",
        "--tls-protocol", "tlsv1_" + version[2], "--tls-verify", "--tls-ca-path", directory.path / "root.pem",
        "--tls-sni", "peer.test", "--helo", "client.test", "--data", BODY.replace("\r\n", "\\n"))


def send_msmtp(directory, work, port, version):
    run("msmtp", "--host=127.0.0.1", f"--port={port}", "--from=a@source.test", "--tls=on", "--tls-starttls=on",
        f"--tls-trust-file={directory.path}/root.pem", f"--tls-priorities=NORMAL:-VERS-ALL:+VERS-TLS{version}",
        "--tls-host-override=peer.test", "--domain=client.test", "u@interop.test", input=BODY.replace("\r\n", "\n"))


def through(server_class):
    def send(directory, work, port, version):
        server = server_class(directory, work, "rsa", version, relay=port)
        try:
            context = ssl.create_default_context(cafile=directory.path / "root.pem")
            with smtplib.SMTP("127.0.0.1", server.port) as client:
                if server_class is not OpenSmtpd:
                    client._host = "peer.test"
                    client.starttls(context=context)
                client.sendmail("a@source.test", ["u@interop.test"], BODY.encode(), mail_options=["BODY=8BITMIME"])
            wait_for(lambda: send.arrived(), 20, f"mail from {server.name}")
        finally:
            server.stop()
    return send


def inbound(send, kind, version):
    with Directory() as directory:
        make_certificates(directory.path)
        sink = Aiosmtpd(directory, None, "rsa", "1.3")
        work = directory.path / "peer"
        work.mkdir(exist_ok=True)
        try:
            daemon = Daemon(directory, f"""
ReceiveConnector "in" {{ Bindings = {{"127.0.0.1:0"}} RemoteIPRanges = {{"127.0.0.0/8"}} RequireTLS = true
    TlsCertificate = "{directory.path}/{kind}.pem" TlsKey = "{directory.path}/{kind}.key" Fqdn = "peer.test" }}
SendConnector "out" {{ AddressSpaces = {{"*"}} }}
Resolver {{ Port = {sink.port} AllowedDestinations = {{"127.0.0.0/8"}}
    LocalData = {{"interop.test. MX 10 mx.interop.test.", "mx.interop.test. A 127.0.0.1"}} }}
""")
            send.arrived = lambda: len(sink.received()) == 1
            if send is not send_swaks and send is not send_msmtp:
                shutil.rmtree(work)
                work.mkdir()
            send(directory, work, int(daemon.listening["in"].rsplit(":", 1)[1]), version)
            wait_for(lambda: len(sink.received()) == 1, 20, "the message")
            assert canonical(sink.received()[0]) == canonical(BODY.encode()), sink.received()
            trace = sink.received()[0].decode(errors="replace")
            assert " with ESMTPS id " in trace, trace[:500]
            assert daemon.stop() == 0
        finally:
            sink.stop()


def main():
    subprocess.run([str(ROOT / "tests/peers/unpack"), str(PEERS)], check=True)
    failures, count = [], 0
    wanted = sys.argv[1:]
    rows = [("to", s.name, outbound, s) for s in (Aiosmtpd, Postfix, Exim, OpenSmtpdInTheClear)]
    rows += [("from", name, inbound, send) for name, send in
             (("swaks", send_swaks), ("msmtp", send_msmtp), ("Postfix", through(Postfix)), ("Exim", through(Exim)),
              ("OpenSMTPD", through(OpenSmtpd)))]
    for direction, name, test, argument in rows:
        if wanted and name not in wanted:
            continue
        said = []
        for version in VERSIONS:
            if name.startswith("OpenSMTPD") and version == "1.2":
                continue # it has no key for the version: it takes the highest that both have
            for kind in KEYS:
                if argument is OpenSmtpdInTheClear and kind != "rsa":
                    continue # neither key nor version matters there
                count += 1
                try:
                    test(argument, kind, version)
                    said.append("without TLS" if argument is OpenSmtpdInTheClear else f"TLS {version} {kind}")
                except Exception as failure: # each row is told of
                    failures.append((direction, name, kind, version))
                    print(f"interop: {direction} {name} {kind} TLS {version}: {failure!r}"[:1500])
        print(f"interop: {direction} {name}: {', '.join(said)}", flush=True)
    print(f"interop: {count - len(failures)} of {count} exchanges")
    return 1 if failures or not count else 0


sys.exit(main())
