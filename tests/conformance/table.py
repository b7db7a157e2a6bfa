"""Reads table.txt."""
import pathlib
import re
import shlex

TABLE = pathlib.Path(__file__).with_name("table.txt")
OUTCOMES = {"TLS": 0, "PLAIN": 0, "DEFER": 2, "NDR": 2, "REJECT": 1}

SCHEDULE_TEST = "tests/queue/retry_test.c"  # minutes are too long for real sockets


def read_pairs(text):
    return dict(tuple(map(str.strip, pair.split("=", 1))) for pair in filter(None, map(str.strip, text.split(";"))))


def lines():
    for line in TABLE.read_text().splitlines():
        if line and not line.startswith("#"):
            yield [column.strip() for column in line.split("|")]


PRESETS = {first[1:]: read_pairs(rest[0]) for first, *rest in lines() if first.startswith("@")}


def distinct(text, row):
    """Every row has domains of its own."""
    return re.sub(r"contoso|\bexample\b|provider|\bother\b(?=\.org)", lambda m: m[0] + row, text,
                  flags=re.IGNORECASE)


class Connector:
    def __init__(self, text, row):
        preset, _, rest = text.partition(" ")
        self.preset, slash, smart = preset.partition("/")
        self.keys = PRESETS[self.preset] | (PRESETS[slash + smart] if smart else {})
        self.list = None
        for key, value in read_pairs(rest).items():
            if key == "list":
                self.list = distinct(value, row)
            elif value:
                self.keys[key] = value
            else:
                self.keys.pop(key, None)
        if self.preset in ("SEC", "LST") and not self.list:
            self.list = distinct("contoso.com", row)

    @property
    def smart(self):
        return self.keys.get("DNSRoutingEnabled") == "false" and "SmartHosts" in self.keys

    def text(self, label, row, spaces):
        keys = {key: distinct(value, row) for key, value in self.keys.items()}
        keys.setdefault("AddressSpaces", "{" + ", ".join(f'"{space}"' for space in spaces) + "}")
        pairs = "\n    ".join(f"{key} = {value}" for key, value in keys.items())
        return f'SendConnector "{label}" {{\n    {pairs}\n}}\n'


class Expected:
    """One recipient's outcome."""

    def __init__(self, text):
        words = shlex.split(text)
        self.kind = words.pop(0)
        if self.kind not in OUTCOMES:
            raise ValueError(f"outcome {text}")
        self.status = words.pop(0) if self.kind in ("DEFER", "NDR") else None
        self.reason = words.pop(0) if self.kind in ("DEFER", "NDR", "REJECT") else None
        self.also = dict((word.split("=", 1) + [""])[:2] for word in words)


class Row:
    def __init__(self, columns):
        self.row, connector, *rest = columns
        self.pending = self.elsewhere = None
        if connector.startswith("PENDING "):
            self.pending = connector[8:]
        else:
            self.read(connector, *rest)

    def read(self, connector, hosts, mail, outcome):
        self.connectors = [Connector(text.strip(), self.row) for text in connector.split("++")]
        self.hosts = [dict((word.split("=", 1) + [""])[:2] for word in host.split()) for host in hosts.split("/")]
        self.steps = [distinct(step, self.row) if "@" in step else step
                      for step in (mail or "u@contoso.com").split()]
        self.elsewhere = SCHEDULE_TEST if "schedule" in self.steps else None
        self.expected = [Expected(text.strip()) for text in outcome.split(" ; ")]
        self.addresses = []
        self.found = None
        smart = self.connectors[0].smart
        for i, host in enumerate(self.hosts):
            default = "relay.example.net" if smart else f"mx{i + 1}.contoso.com"
            host["name"] = distinct(host.get("name", default), self.row)
            host["san"] = [distinct(name.replace("%00", "\0"), self.row) for name in
                           host.get("san", default + ("" if smart else ",contoso.com")).split(",") if name != "-"]
            host["sts"] = distinct(host.get("sts", ""), self.row)
            host["cn"] = distinct(host.get("cn", ""), self.row)

    @property
    def number(self):
        return int(re.match(r"\d+", self.row)[0])

    @property
    def rejected(self):
        return self.expected[0].kind == "REJECT"

    def domains(self):
        found = [step.split("@")[1].encode("idna").decode() for step in self.steps if "@" in step]
        return list(dict.fromkeys(found))

    def config(self):
        out = ""
        for i, connector in enumerate(self.connectors):
            label = f"row-{self.row}" + ("" if i == 0 else f"-{i}")
            out += connector.text(label, self.row, self.domains())
        return out


def read():
    return [Row(columns) for columns in lines() if not columns[0].startswith("@")]
