"""What an engine could leave on a machine besides its files: mounts, bridges, rules, loop devices, control groups, processes."""

import re
import shutil
from pathlib import Path

from process import quiet

ASK_SECS = 30


class Machine:
    """The state of the machine at one moment."""

    def __init__(self, found):
        self.found = found

    @classmethod
    def now(cls):
        found = {
            "mount": {" ".join(line.split()[4:5]) for line in Path("/proc/self/mountinfo").read_text().splitlines()},
            "network interface": {path.name for path in Path("/sys/class/net").iterdir()},
            "control group": {path.name for path in Path("/sys/fs/cgroup").glob("**/tc-engine-*")},
            "loop device": set(lines("losetup", "--noheadings", "--output", "NAME,BACK-FILE")),
            "process": {name for name in processes() if re.search(r"dockerd|containerd", name)},
        }
        for program in ("iptables-save", "ip6tables-save"):
            # Counters differ each time.
            rules = {re.sub(r" \[\d+:\d+\]", "", line) for line in lines(program) if not line.startswith("#")}
            found[f"rule of {program}"] = {line for line in rules if not line.endswith(" ACCEPT") and line[0] in ":-"}
        return cls(found)

    @property
    def has_engine_rules(self):
        """Whether some engine makes rules for packets here."""
        return any("DOCKER" in rule for rule in self.found["rule of iptables-save"]) or not shutil.which("iptables-save")

    def changes(self, ours):
        """What is there now and was not then, one line each. Where other engines work, too, only what bears one of our names."""
        new = [f"{what} {line}" for what, now in Machine.now().found.items() for line in now - self.found[what]]
        if not self.found["process"]:
            return new
        return [line for line in new if any(name in f"{line} " for name in ours)]


def lines(*command):
    if not shutil.which(command[0]):
        return []
    return [line for line in quiet(command, ASK_SECS)[1].splitlines() if line]


def processes():
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name = (entry / "comm").read_text().strip()
                if (entry / "cmdline").read_bytes():
                    yield f"{name} {entry.name}"
            except OSError:
                continue
