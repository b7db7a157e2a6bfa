"""The servers that posthaste is compared with, each a private instance tuned as a bulk relay: Postfix from its package,
OpenSMTPD and Exim unpacked beside it (their packages exclude each other). All run in a mount and network namespace of
their own, so that their fixed paths, users and ports are nobody else's."""
import os
import pathlib
import pwd
import re
import shutil
import socket
import struct
import subprocess
import sys

from lab import OUT, cpu_seconds, memory_kib, wait_for

UNPACKED = OUT / "peers"
PACKAGES = ("opensmtpd", "exim4-daemon-light", "libidn12", "libgnutls-dane0", "libevent-2.1-7", "libnsl2", "libdb5.3")
USERS = {"opensmtpd": 901, "opensmtpq": 902, "Debian-exim": 903}
PORT = 2525 # where they take mail

# Runs a server and reaps what it leaves behind, so that no time of any descendant is lost; asked to end, it ends all.
REAPER = """
import ctypes, os, signal, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
def end(*unused):
    for name in filter(str.isdigit, os.listdir("/proc")):
        at = int(name)
        try:
            while at > 1 and at != os.getpid():
                at = int(open(f"/proc/{at}/stat").read().rsplit(")", 1)[1].split()[1])
            if at == os.getpid() and int(name) != at:
                os.kill(int(name), signal.SIGKILL if ended else signal.SIGTERM)
        except OSError:
            pass
    ended.append(True)
    signal.alarm(3)
ended = []
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGALRM, end)
subprocess.Popen(sys.argv[1:])
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""


def unpack():
    """Debian's packages, fetched and unpacked once into the build tree."""
    if (UNPACKED / "done").exists():
        return
    shutil.rmtree(UNPACKED, ignore_errors=True)
    (UNPACKED / "debs").mkdir(parents=True)
    fetched = subprocess.run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *PACKAGES],
                             cwd=UNPACKED / "debs", capture_output=True, text=True)
    if fetched.returncode != 0:
        sys.exit("versus: the packages of OpenSMTPD and Exim can't be fetched: are the package sources reachable?")
    for deb in (UNPACKED / "debs").glob("*.deb"):
        subprocess.run(["dpkg", "-x", deb, UNPACKED / "root"], check=True)
    (UNPACKED / "done").touch()


def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)


def make_world(disk):
    """Inside new namespaces: loopback up, a journalled file system at `disk`, /usr with the peers' programs, /etc and
    /var of our own on top of the machine's."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # OpenSMTPD's resolver asks for no addresses where the machine seems to have none but 127.0.0.1.
    subprocess.run(["ip", "address", "add", "192.0.2.10/32", "dev", "lo"], check=True)
    mount("--make-rprivate", "/")
    image = OUT / "spool.img"
    image.unlink(missing_ok=True)
    with open(image, "wb") as file:
        file.truncate(3 << 30)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    disk.mkdir(exist_ok=True)
    mount("-o", "loop", image, disk)
    image.unlink() # the mount keeps it; with the namespace it is gone
    for name in ("etc", "var"):
        for part in (f"{name}-upper", f"{name}-work"):
            (disk / part).mkdir()
        mount("-t", "overlay", "overlay", "-o",
              f"lowerdir=/{name},upperdir={disk}/{name}-upper,workdir={disk}/{name}-work", f"/{name}")
    mount("-t", "overlay", "overlay", "-o", f"lowerdir=/usr:{UNPACKED}/root/usr", "/usr")
    with open("/etc/passwd", "a") as users, open("/etc/group", "a") as groups:
        for name, number in USERS.items():
            users.write(f"{name}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n")
            groups.write(f"{name}:x:{number}:\n")
    resolv = pathlib.Path("/etc/resolv.conf")
    resolv.unlink(missing_ok=True)
    resolv.write_text("nameserver 127.0.0.1\n")
    pathlib.Path("/etc/hosts").write_text("127.0.0.1 localhost out.bench.test\n")
    pathlib.Path("/etc/mailname").write_text("out.bench.test\n")


# --- DNS: dN.test has the MX mx(N mod sites).sites.test, and that an address of 127/8 ---

def name_at(packet, at):
    labels = []
    while packet[at]:
        labels.append(packet[at + 1:at + 1 + packet[at]].decode())
        at += 1 + packet[at]
    return ".".join(labels).lower(), at + 1


def encoded(name):
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


def dns_answer(packet, sites):
    name, end = name_at(packet, 12)
    kind = struct.unpack("!H", packet[end:end + 2])[0]
    domain = re.fullmatch(r"d(\d+)\.test", name)
    host = re.fullmatch(r"mx(\d+)\.sites\.test", name)
    answers, known = [], bool(domain or host)
    if domain and kind == 15:
        exchange = encoded(f"mx{int(domain.group(1)) % sites}.sites.test")
        answers.append(struct.pack("!HHHIHH", 0xC00C, 15, 1, 3600, 2 + len(exchange), 10) + exchange)
    if host and kind == 1:
        number = int(host.group(1))
        answers.append(struct.pack("!HHHIH4B", 0xC00C, 1, 1, 3600, 4, 127, 2, number // 250, number % 250 + 1))
    head = packet[:2] + struct.pack("!HHHHH", 0x8580 | (0 if known else 3), 1, len(answers), 0, 0)
    return head + packet[12:end + 4] + b"".join(answers)


def serve_dns(sites):
    """In a process of its own; returns its id."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    pid = os.fork()
    if pid == 0:
        while True:
            packet, client = server.recvfrom(1500)
            server.sendto(dns_answer(packet, sites), client)
    server.close()
    return pid


# --- the servers ---

class Peer:
    def __init__(self, lab, scenario):
        self.lab, self.scenario = lab, scenario
        self.tls = "tls" in scenario
        self.connections = scenario.get("connections", 50) # to one site, at most
        self.base = lab.path / self.name
        self.base.mkdir()
        self.configure()
        log = open(self.base / "log", "wb")
        self.process = lab.start([sys.executable, "-c", REAPER, *self.command()], stdout=log, stderr=log)

        def answers():
            try:
                with socket.create_connection(("127.0.0.1", PORT), 1) as s:
                    return s.recv(3) == b"220"
            except OSError:
                return False
        try:
            wait_for(answers, 20, f"{self.name}'s start")
        except RuntimeError as error:
            raise RuntimeError(f"{error}; its last words:\n{self.words()}") from error
        self.listening = f"127.0.0.1:{PORT}"

    def words(self):
        logs = [self.base / "log", *self.base.glob("maillog"), *self.base.glob("spool/*log")]
        return "\n".join((t := log.read_text(errors="replace"))[:1000] + t[-1000:] for log in logs)

    def cpu(self):
        return cpu_seconds(self.process.pid)

    def memory(self):
        """PSS of all its processes, KiB."""
        parents = {}
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                except OSError:
                    continue
        ours, total = {self.process.pid}, 0
        for pid in sorted(parents):
            if parents[pid] in ours:
                ours.add(pid)
                try:
                    total += memory_kib(pid)
                except (OSError, AttributeError):
                    pass
        return total


class Postfix(Peer):
    name, share = "Postfix", 1

    def configure(self):
        for name in ("etc", "spool", "data"):
            (self.base / name).mkdir()
        shutil.chown(self.base / "data", "postfix")
        text = f"""compatibility_level = 3.6
queue_directory = {self.base}/spool
data_directory = {self.base}/data
myhostname = out.bench.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
maillog_file = {self.base}/maillog
maillog_file_prefixes = /
alias_maps =
alias_database =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions =
smtpd_client_connection_count_limit = 0
default_process_limit = 100
in_flow_delay = 0
default_destination_concurrency_limit = {self.connections}
initial_destination_concurrency = {self.connections}
smtp_mx_session_limit = 2
"""
        if self.tls:
            text += f"""smtp_tls_security_level = verify
smtp_tls_CAfile = {self.lab.path}/root.pem
smtp_tls_verify_cert_match = hostname
smtp_tls_servername = hostname
smtp_tls_connection_reuse = yes
smtp_tls_session_cache_database = btree:{self.base}/data/smtp_scache
"""
        (self.base / "etc" / "main.cf").write_text(text)
        lines = []
        for line in pathlib.Path("/usr/share/postfix/master.cf.dist").read_text().splitlines():
            fields = line.split()
            if line.startswith("smtp ") and fields[1] == "inet":
                line = f"127.0.0.1:{PORT} inet n - n - - smtpd"
            elif len(fields) >= 8 and not line.startswith((" ", "#", "\t")):
                fields[4] = "n"
                line = " ".join(fields)
            lines.append(line)
        lines.append("tlsproxy unix - - n - 0 tlsproxy") # what connection reuse with TLS goes through
        (self.base / "etc" / "master.cf").write_text("\n".join(lines) + "\n")

    def command(self):
        return ["postfix", "-c", self.base / "etc", "start-fg"]


class OpenSMTPD(Peer):
    name, share = "OpenSMTPD", 1

    def configure(self):
        limits = (*(f"max-conn-per-{of} {self.connections}" for of in ("host", "route", "domain")),
                  "max-conn-per-source 1000", "max-conn-per-connector 1000", "conn-delay-host 0", "conn-delay-route 0",
                  "conn-delay-source 0", "conn-delay-connector 0", "conn-delay-domain 0", "conn-delay-relay 0",
                  "reconn-delay-route 0", "session-transaction-delay 0")
        text = "".join(f"mta limit {limit}\n" for limit in limits)
        text += f"""smtp limit max-mails 1000
listen on 127.0.0.1 port {PORT} hostname out.bench.test
action "out" relay{' tls' if self.tls else ''}
match from any for any action "out"
"""
        (self.base / "smtpd.conf").write_text(text)
        if self.tls: # its trust store has a fixed place, and is read for each session
            certificates = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
            certificates.parent.mkdir(parents=True, exist_ok=True)
            certificates.unlink(missing_ok=True)
            certificates.write_text((self.lab.path / "root.pem").read_text())
        for name, owner, mode in (("/var/lib/opensmtpd/empty", "root", 0o711), ("/var/spool/smtpd", "root", 0o711)):
            pathlib.Path(name).mkdir(parents=True, exist_ok=True)
            shutil.chown(name, owner, owner)
            os.chmod(name, mode)
        # Its spool has a fixed place too: what is mounted there is on the journalled disk itself.
        (self.base / "spool").mkdir(mode=0o711)
        subprocess.run(["umount", "/var/spool/smtpd"], stderr=subprocess.DEVNULL, check=False)
        mount("--bind", self.base / "spool", "/var/spool/smtpd")

    def command(self):
        return ["/usr/sbin/smtpd", "-d", "-f", self.base / "smtpd.conf"]


class Exim(Peer):
    name, share = "Exim", 0.3

    def configure(self):
        number = pwd.getpwnam("Debian-exim").pw_uid
        (self.base / "spool").mkdir()
        for path in (self.base / "spool", self.base):
            os.chown(path, number, number)
        tls = ""
        if self.tls:
            tls = f"""
  hosts_require_tls = *
  tls_verify_certificates = {self.lab.path}/root.pem
  tls_verify_hosts = *
  tls_verify_cert_hostnames = *
  hosts_try_dane ="""
        config = pathlib.Path("/var/lib/exim4/config.autogenerated") # where it is compiled to look
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(f"""primary_hostname = out.bench.test
spool_directory = {self.base}/spool
log_file_path = {self.base}/spool/%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = {PORT}
acl_smtp_rcpt = accept
host_lookup =
rfc1413_query_timeout = 0s
dns_ipv4_lookup = *
split_spool_directory = true
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = 1000
smtp_enforce_sync = false
queue_run_max = 20
remote_max_parallel = 20
keep_environment =
begin routers
out:
  driver = dnslookup
  domains = *
  transport = out
  self = send
begin transports
out:
  driver = smtp{tls}
begin retry
* * F,1h,5s
""")
        os.chmod(config, 0o644)

    def command(self):
        return ["/usr/sbin/exim4", "-bdf", "-q1m"]


PEERS = {"postfix": Postfix, "opensmtpd": OpenSMTPD, "exim": Exim}
