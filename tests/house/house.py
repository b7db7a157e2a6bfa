#!/usr/bin/env python3
"""Holds the tree to its own rules: room arrows, mirrored tests, calls we have a better form for, attacks that
have their tests, and mutants that still find what they change."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAY_INCLUDE = {
    "base": set(),
    "dns": {"base"},
    "tls": {"base", "dns"},
    "smtp": {"base", "tls"},
    "queue": {"base", "smtp"},
    "config": {"base", "dns", "smtp", "tls"},
    "engine": {"base", "dns", "tls", "smtp", "queue", "config"},
    "cli": {"base", "dns", "tls", "smtp", "queue", "config", "engine", "bench"},
}
SMTP_OF_TLS = {"tls/gate.h", "tls/policy.h", "tls/facts.h"}
MIRRORED = {"base", "dns", "tls", "smtp", "queue", "config"}
REFUSED = {
    "strcpy": "ph_str_copy", "strcat": "ph_buf_append", "sprintf": "snprintf or ph_buf_printf",
    "strtok": "ph_str_cut", "rand": "ph_io_random", "time": "ph_io.wall_ms", "gets": "ph_io_recv_next",
    "system": "nothing: no subprocesses", "popen": "nothing: no subprocesses",
    "fork": "nothing: no subprocesses", "vfork": "nothing: no subprocesses",
    "execv": "nothing: no subprocesses", "execve": "nothing: no subprocesses",
    "execvp": "nothing: no subprocesses", "execl": "nothing: no subprocesses",
    "execlp": "nothing: no subprocesses", "posix_spawn": "nothing: no subprocesses",
}
SUBPROCESSES = {"fork", "execv", "execvp", "execl"}
MAY_START_PROCESSES = {"cli/demo.c"} # it runs its own sink beside the daemon
LINES_MAX = 900
CALL = re.compile(r"(?<![\w.>])(" + "|".join(REFUSED) + r")\s*\(")

# A test may cover more than its mirror: it says so in a line "// Covers: room/file room/other".
COVERED = set()
for path in ROOT.glob("tests/**/*.c"):
    for covers in re.findall(r"^// Covers: (.+)$", path.read_text(), re.M):
        COVERED.update(covers.split())

faults = []
for room, allowed in MAY_INCLUDE.items():
    for path in sorted((ROOT / room).glob("*.[ch]")):
        name = path.relative_to(ROOT)
        lines = path.read_text().splitlines()
        if len(lines) > LINES_MAX:
            print(f"{name}: {len(lines)} lines: two files by now?") # a question, not a fault
        for number, line in enumerate(lines, 1):
            included = re.match(r'#include "((\w+)/[^"]+)"', line)
            if included:
                whole, other = included.groups()
                if other != room and other not in allowed:
                    faults.append(f"{name}:{number}: room {room} may not know {other}")
                elif room == "smtp" and other == "tls" and whole not in SMTP_OF_TLS:
                    faults.append(f"{name}:{number}: of tls, smtp may know the clearance only")
            code = line.split("//")[0]
            for call in CALL.findall(code):
                if call in SUBPROCESSES and str(name) in MAY_START_PROCESSES:
                    continue
                faults.append(f"{name}:{number}: {call}() is refused; use {REFUSED[call]}")
            if "TODO" in line or "FIXME" in line:
                faults.append(f"{name}:{number}: a promise left in the code")
        if path.suffix == ".c" and room in MIRRORED:
            mirror = ROOT / "tests" / room / f"{path.stem}_test.c"
            if not mirror.exists() and f"{room}/{path.stem}" not in COVERED:
                faults.append(f"{name}: no {mirror.relative_to(ROOT)}, and no other test covers it")


def test_exists(where, name):
    """Does a test that docs/ATTACKS.md names exist?"""
    if where == "table":
        rows = (ROOT / "tests/conformance/table.txt").read_text()
        return re.search(rf"^{name}[a-z]? ", rows, re.M)
    if where == "sim":
        return f"X({name}," in (ROOT / "tests/sim/options.h").read_text()
    if where.startswith("peers/"):
        path = ROOT / "tests" / f"{where}_test.py"
        return path.exists() and re.search(rf"\b{name}\b", path.read_text())
    path = ROOT / "tests" / f"{where}_test.c"
    return path.exists() and re.search(rf"^Test\(\w+, {name}\b", path.read_text(), re.M)


attacks = (ROOT / "docs/ATTACKS.md").read_text()
for where, name in re.findall(r"`([a-z_/]+):([0-9a-z_A-Z]+)`", attacks):
    if not test_exists(where, name):
        faults.append(f"docs/ATTACKS.md: there is no test {where}:{name}")
for line in attacks.splitlines():
    if re.match(r"\| (?!attack |source |---)", line) and "`" not in line.rsplit("|", 2)[1]:
        faults.append(f"docs/ATTACKS.md: no test: {line[:60]}")
sys.path.insert(0, str(ROOT / "tests/sim"))
import mutants # noqa: E402: what each changes must still stand in the sources
for name in mutants.MUTANTS:
    faults += mutants.check(name)
print("\n".join(faults) if faults else "house: in order")
sys.exit(1 if faults else 0)
