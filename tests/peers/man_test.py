#!/usr/bin/env python3
"""The manual is the program's: each key stands in it with the default the code has, each command too, and every
command says how it is used."""
import json
import re
import subprocess
import sys

from posthaste import BUILD, ROOT, Directory

SECTIONS = {"": "GLOBAL", "ReceiveConnector": "RECEIVECONNECTOR", "SendConnector": "SENDCONNECTOR",
            "TransportConfig": "TRANSPORTCONFIG", "Site": "SITE", "Queue": "QUEUE", "Resolver": "RESOLVER",
            "Admin": "ADMIN", "Log": "LOG"}
GIVEN = {"SendConnector.AddressSpaces"} # required: it has no default


def run(*command):
    return subprocess.run([BUILD / "posthaste", *command], capture_output=True, text=True)


def sections(text):
    found = {}
    for part in text.split("\n.SH ")[1:]:
        title, _, body = part.partition("\n")
        found[title.split()[0]] = {key: default for key, default in re.findall(
            r"^\.B (\w+)\n(?:[^\n]*\n)*?\.br\n(No default\.|Default: [^\n]*)", body, re.M)}
    return found


def keys():
    with Directory() as directory:
        path = directory.path / "all.conf"
        path.write_text('ReceiveConnector "r" { }\nSendConnector "s" { AddressSpaces = {"*"} }\nSite "x" { }\n')
        lines = json.loads(run("config", "-c", path, "--json").stdout)
    for line in lines:
        block, key = re.fullmatch(r'(?:(\w+)(?: "\w")?\.)?(\w+)', line["key"]).groups()
        yield block or "", key, line["value"]


def main():
    manual = sections((ROOT / "docs/man/posthaste.conf.5").read_text())
    known, faults = {}, []
    for block, key, value in keys():
        section = manual.get(SECTIONS[block], {})
        known.setdefault(SECTIONS[block], set()).add(key)
        wanted = f"Default: {value}" if value and f"{block}.{key}" not in GIVEN else "No default."
        if section.get(key) != wanted:
            faults.append(f"posthaste.conf(5), {SECTIONS[block]}: {key}: wanted \"{wanted}\", found {section.get(key)}")
    for section in SECTIONS.values():
        for key in set(manual[section]) - known[section]:
            faults.append(f"posthaste.conf(5), {section}: {key} is no key")
    commands = re.findall(r"^  (\w+) ", run("--help").stdout, re.M)
    assert len(commands) > 5, commands
    page = (ROOT / "docs/man/posthaste.1").read_text()
    for command in commands:
        if not re.search(rf"^\.B {command}\b", page, re.M):
            faults.append(f"posthaste(1): {command} is missing")
        done = run(command, "--help")
        if done.returncode != 0 or f"usage: posthaste {command}" not in done.stdout:
            faults.append(f"posthaste {command} --help: exit {done.returncode}, {done.stdout!r}")
    reasons = re.findall(r'X\(\w+,\s*"([\w-]+)",\s*\d+,', (ROOT / "base/reason.h").read_text())
    assert len(reasons) > 50, reasons
    for token in reasons:
        if token != "none" and f".B {token}\n" not in page.replace("\\-", "-"):
            faults.append(f"posthaste(1), REASONS: {token} is missing")
    for page in ("posthaste.1", "posthaste.conf.5"):
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", ROOT / "docs/man" / page], capture_output=True, text=True)
        if done.returncode != 0 or done.stderr:
            faults.append(f"groff {page}: {done.stderr}")
    print("\n".join(faults) if faults else f"man: {sum(map(len, known.values()))} keys, {len(commands)} commands and {len(reasons)} reasons stand in it")
    return 1 if faults else 0


sys.exit(main())
