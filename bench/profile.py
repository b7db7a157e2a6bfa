#!/usr/bin/env python3
"""Where the daemon's CPU goes in a scenario of deliver: by part (kernel or user, and which library), and the
functions at the top, from perf's samples of the daemon alone. Needs `perf` (linux-perf)."""
import re
import shutil
import subprocess
import sys

import deliver
from lab import OUT, options_parser, prepare, save, table
from plot import bars

# First match wins: what a function belongs to, by its name.
PARTS = [
    ("kernel: TCP and sockets", r"\[k\].*(tcp|sock|skb|ip_|inet|net|__dev|process_backlog|loopback|sendmsg|recv|fib|"
                                r"_copy_(to|from)_iter|copy_user|csum|neigh|dst_|eth_|sk_|qdisc|nf_|hook)"),
    ("kernel: files and block", r"\[k\].*(ext4|jbd2|blk|bio|virt|iomap|vfs|filemap|folio|dio|submit|aio|nvme|fsync|"
                                r"writeback|xas_|shmem|inode|dentry)"),
    ("kernel: io_uring, epoll, eventfd", r"\[k\].*(io_|epoll|eventfd|ep_|iou|uring|fput|fget)"),
    ("kernel: scheduling and locks", r"\[k\].*(sched|switch|futex|lock|wake|task|rcu|timer|hrtimer|idle|ttwu|pick_|"
                                     r"entity|tick|rq_|clock)"),
    ("kernel: system call entry", r"\[k\].*(syscall|entry|exit_to|pti|sysret|do_softirq|irq)"),
    ("kernel: rest", r"\[k\]"),
    ("BoringSSL", r"(?i)ecp_|bn_|x25519|fiat|sha(256|512|1)_|aes_|gcm|ghash|chacha|poly1305|SSL|bssl|asn1|X509|EVP|EC_|"
                  r"CBS|CBB|CRYPTO_|OPENSSL|BUF_|p256|mul_mont|evp|hkdf|hmac|tls1?_|RAND_|beeu"),
    ("libc: copies and formats", r"mem(cpy|move|set|chr|cmp)|str(len|chr|cmp|nlen|chrnul)|printf|_itoa|_IO_|pthread|libc"),
    ("allocator", r"malloc|calloc|free|je_|arena|tcache|extent|sz_|rallocx|realloc|tsd_|cache_bin"),
    ("XXH3", r"XXH"),
    ("posthaste", r"."),
]


def perf_lines(data, *arguments):
    done = subprocess.run(["perf", "report", "-i", data, "--stdio", "-g", "none", "--percent-limit", "0",
                           *arguments], capture_output=True, text=True)
    return [line.split(None, 1) for line in done.stdout.splitlines() if re.match(r"\s+\d+\.\d+%", line)]


def main():
    prepare()
    parser = options_parser(__doc__, messages=40000, workers=1, connections=20, durability="commit", top=25)
    parser.add_argument("scenario", nargs="?", default="plain", choices=deliver.SCENARIOS)
    options = parser.parse_args()
    if shutil.which("perf") is None:
        sys.exit("profile: perf is missing (Debian package linux-perf)")
    scenario = deliver.SCENARIOS[options.scenario]
    data = OUT / f"perf-{options.scenario}.data"
    recorder = []

    def watch(daemon):
        recorder.append(subprocess.Popen(["perf", "record", "-q", "-g", "-F", "1999", "-o", str(data), "-p",
                                          str(daemon.process.pid)], stderr=subprocess.DEVNULL))

    run = deliver.daemon_run(scenario, int(options.messages * scenario.get("share", 1)), options, watch)
    recorder[0].wait(30) # it ends with the daemon
    symbols = [(float(percent.rstrip("%")), rest) for percent, rest in perf_lines(data, "--no-children", "--sort",
                                                                                "symbol")]
    parts = {}
    for percent, name in symbols:
        part = next(part for part, pattern in PARTS if re.search(pattern, name))
        parts[part] = parts.get(part, 0) + percent
    table(f"profile of {scenario['title']}: {run['cpu'] * 1000:.1f} us of CPU a message ({run['world']}, "
          f"durability {options.durability}; sampling included)", ["part", "share", "us a message"],
          [[part, f"{share:.1f} %", f"{share / 100 * run['cpu'] * 1000:.2f}"]
           for part, share in sorted(parts.items(), key=lambda pair: -pair[1])])
    table("functions at the top", ["function", "share", "us a message"],
          [[name.strip(), f"{percent:.1f} %", f"{percent / 100 * run['cpu'] * 1000:.2f}"]
           for percent, name in symbols[:options.top]])
    bars(f"profile-{options.scenario}", f"{scenario['title']}: CPU a message by part, microseconds", [
        (part, {"posthaste": share / 100 * run["cpu"] * 1000})
        for part, share in sorted(parts.items(), key=lambda pair: -pair[1])])
    save(f"profile-{options.scenario}", {"parts": parts, "run": run, "symbols": symbols[:200]})
    print(f"callers: perf report -i {data}")


if __name__ == "__main__":
    main()
