#!/usr/bin/env python3
"""Starts a Docker engine of our own in a directory of its own, and ends it with everything that it started.

    engine.py start KIND DIRECTORY [--tree TREE] [--disk MIB] [--iptables]
    engine.py stop DIRECTORY

`start` returns when the engine answers and prints its host, `unix://DIRECTORY/docker.sock`. The kinds:

    classic      the `dockerd` of this system
    graph        the newer one in TREE, a Debian root beside the system, with the graph driver overlay2
    containerd   the same with the image store of containerd

The process id of dockerd is in DIRECTORY/docker.pid, its log in DIRECTORY/log. An engine that was killed is started again with
the same command; the containers it left behind are still there then, as they are under systemd.

Each engine lives in a mount namespace of its own. There the programs of TREE lie over those of the system, so that all else,
above all what containers bind, is found at the same path as outside; and there all mounts end that it makes. Its containers
are below one control group, and the number of its bridge is that of its networks, so that all of it is found again.
"""

import argparse
import hashlib
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

START_SECS, STOP_SECS, COMMAND_SECS = 60, 20, 30

KINDS = ("classic", "graph", "containerd")

# As many engines may be there at once; each has the networks 10.223.N.0/24, 10.(224+N).0.0/16 and fd74:633a:N::/64.
ENGINES = 16


def told(*arguments, check=True):
    """The output of a short command."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=COMMAND_SECS,
    )
    if check and done.returncode:
        raise RuntimeError(f"{shlex.join(map(str, arguments))}: {done.stdout.strip()}")
    return done.stdout


def until(holds, seconds):
    """Whether something comes to hold within some seconds."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


class Connection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path, timeout):
        super().__init__("engine", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(path, resource, timeout=5):
    """What an engine answers to a GET, or None if it does not."""
    connection = Connection(path, timeout)
    try:
        connection.request("GET", resource)
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def alive(pid):
    """Whether a process is there and has not ended yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def first_number(path):
    """The number that a file holds, or None."""
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


class Engine:
    """One engine: its directory tells all there is to know about it."""

    def __init__(self, directory):
        self.directory = Path(directory).resolve()
        self.socket = self.directory / "docker.sock"
        self.pid_file = self.directory / "docker.pid"
        self.facts_file = self.directory / "engine.json"

    @property
    def host(self):
        return f"unix://{self.socket}"

    def facts(self):
        """What was decided when it was first started: kind, tree, number, disk."""
        return json.loads(self.facts_file.read_text()) if self.facts_file.exists() else None

    def names(self):
        """What all that it makes on the machine is named after."""
        facts = self.facts()
        if facts is None:
            return []
        number = facts["number"]
        return [f"tcb{number} ", facts["group"].strip("/"), f"10.223.{number}.", f"10.{224 + number}.", str(self.directory)]

    def answers(self):
        return ask(self.socket, "/_ping") is not None

    # Starting.

    def start(self, kind, tree=None, disk=0, iptables=False):
        """Returns when it answers; raises with the end of its log if it does not."""
        self.directory.mkdir(parents=True, exist_ok=True)
        facts = self.facts()
        if facts is None:
            facts = {"kind": kind, "tree": str(tree) if tree else None, "disk": disk, "iptables": iptables}
            facts["number"] = take_bridge()
            facts["group"] = "/tc-engine-" + hashlib.sha256(str(self.directory).encode()).hexdigest()[:12]
            self.facts_file.write_text(json.dumps(facts))
        if self.answers():
            return self.host
        # Of a predecessor that was killed; dockerd takes even its zombie for alive.
        predecessor = first_number(self.pid_file)
        until(lambda: not (predecessor and alive(predecessor) and self.owns(predecessor)), STOP_SECS)
        self.pid_file.unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)
        for name in ("data", "run"):
            (self.directory / name).mkdir(exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                self.command(facts), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        if not until(lambda: self.answers() or process.poll() is not None, START_SECS) or process.poll() is not None:
            self.stop()
            raise RuntimeError(f"the engine {kind} did not start:\n{self.last_words()}")
        return self.host

    def last_words(self):
        return "\n".join((self.directory / "log").read_text(errors="replace").splitlines()[-15:])

    def command(self, facts):
        """The command that becomes dockerd, in the mount namespace of its predecessor if something still lives there."""
        number, newer = facts["number"], facts["kind"] != "classic"
        arguments = ["dockerd", "--host", self.host, "--pidfile", self.pid_file]
        arguments += ["--data-root", self.directory / "data", "--exec-root", self.directory / "run"]
        arguments += ["--bridge", f"tcb{number}", "--cgroup-parent", facts["group"]]
        arguments += ["--default-address-pool", f"base=10.{224 + number}.0.0/16,size=24"]
        arguments += ["--ip-forward=false", f"--iptables={'true' if facts['iptables'] else 'false'}"]
        configuration = {}
        if newer:
            arguments += ["--ip6tables=false", "--ipv6", "--fixed-cidr-v6", f"fd74:633a:{number}::/64"]
            configuration["features"] = {"containerd-snapshotter": facts["kind"] == "containerd"}
        else:
            configuration["deprecated-key-path"] = str(self.directory / "key.json")
        if facts["kind"] != "containerd":
            configuration["storage-driver"] = "overlay2"
        file = self.directory / "daemon.json"
        file.write_text(json.dumps(configuration))
        arguments += ["--config-file", file]
        become = "exec " + shlex.join(str(argument) for argument in arguments)
        survivor = first_number(self.directory / "run" / "containerd" / "containerd.pid")
        if survivor and alive(survivor):
            return ["nsenter", f"--mount=/proc/{survivor}/ns/mnt", "sh", "-c", become]
        (self.directory / "run" / "containerd" / "containerd.pid").unlink(missing_ok=True)
        script = ["set -e"]
        if facts["disk"]:
            disk = self.directory / "disk"
            if not disk.exists():
                with disk.open("wb") as file:
                    file.truncate(facts["disk"] << 20)
                told("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", disk)
            script.append(shlex.join(["mount", "-o", "loop,noatime", str(disk), str(self.directory / "data")]))
        if newer:
            script.append(shlex.join(["mount", "--bind", facts["tree"] + "/usr", "/usr"]))
        return ["unshare", "--mount", "--propagation", "slave", "sh", "-c", "\n".join([*script, become])]

    # Ending.

    def stop(self):
        """Ends it, kindly at first, then whatever is left of it. Its directory stays."""
        facts = self.facts()
        if facts is None:
            return
        pid = first_number(self.pid_file)
        # A namespace is known by its number as long as one process lives in it.
        namespaces = self.namespaces(pid)
        if pid and self.owns(pid):
            os.kill(pid, signal.SIGTERM)
            until(lambda: not alive(pid), STOP_SECS)
        until(lambda: not self.kill(facts, namespaces), STOP_SECS)
        self.clear(facts)
        self.facts_file.unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)

    def owns(self, pid):
        """Whether a process is one that was started for this directory: its command names it."""
        try:
            return str(self.directory).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    def namespaces(self, pid):
        """The mount namespaces of the engine's processes, never the one that this program is in."""
        found = set()
        for candidate in (pid, first_number(self.directory / "run" / "containerd" / "containerd.pid")):
            if candidate and self.owns(candidate):
                found.add(os.readlink(f"/proc/{candidate}/ns/mnt"))
        return found - {os.readlink("/proc/self/ns/mnt")}

    def kill(self, facts, namespaces):
        """Kills what is left; says whether there was anything."""
        left = {pid for file in self.groups(facts, "cgroup.procs") for pid in map(int, file.read_text().split())}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    inside = os.readlink(f"/proc/{entry.name}/ns/mnt") in namespaces
                except OSError:
                    continue
                if inside or self.is_shim(entry.name):
                    left.add(int(entry.name))
        left = {pid for pid in left if alive(pid)}
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return bool(left)

    def is_shim(self, pid):
        """Whether a process is containerd or one of its shims of this engine, whatever became of its parents."""
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return b"containerd" in os.path.basename(words[0]) and any(str(self.directory).encode() + b"/" in word for word in words)

    def groups(self, facts, name):
        """A file of each control group below the engine's, or the groups themselves, innermost first."""
        found = []
        hierarchies = {Path(os.path.realpath(path)) for path in Path("/sys/fs/cgroup").iterdir() if path.is_dir()}
        for top in [Path("/sys/fs/cgroup"), *hierarchies]:
            for directory, _, files in os.walk(str(top) + facts["group"], topdown=False):
                if not name:
                    found.append(Path(directory))
                elif name in files:
                    found.append(Path(directory) / name)
        return found

    def clear(self, facts):
        """Removes its groups, bridges and rules."""
        for group in self.groups(facts, None):
            try:
                group.rmdir()
            except OSError:
                pass
        number = facts["number"]
        for link in links():
            addresses = [address.get("local", "") for address in link.get("addr_info", [])]
            if link.get("ifname") == f"tcb{number}" or any(address.startswith(f"10.{224 + number}.") for address in addresses):
                told("ip", "link", "delete", link["ifname"], check=False)
        if facts["iptables"]:
            for program in ("iptables", "ip6tables"):
                forget_rules(program)


def links():
    """All network devices. Those that come and go meanwhile make `ip` complain, which is no part of what it lists."""
    done = subprocess.run(
        ["ip", "-json", "address"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_SECS
    )
    return json.loads(done.stdout or "[]")


def take_bridge():
    """Makes a bridge with the first number that is free."""
    for number in range(ENGINES):
        name = f"tcb{number}"
        try:
            told("ip", "link", "add", name, "type", "bridge")
        except RuntimeError:
            continue
        told("ip", "address", "add", f"10.223.{number}.1/24", "dev", name)
        told("ip", "-6", "address", "add", f"fd74:633a:{number}::1/64", "dev", name, check=False)
        told("ip", "link", "set", name, "up")
        return number
    raise RuntimeError(f"all of the {ENGINES} bridges are taken")


def forget_rules(program):
    """Removes the chains that an engine makes, and every rule that speaks of them or of its bridges."""
    if not shutil.which(f"{program}-save"):
        return
    saved = told(f"{program}-save", check=False).splitlines()
    ours = [line for line in saved if "DOCKER" in line or "10.22" in line or " br-" in line or " tcb" in line]
    if ours:
        kept = "\n".join(line for line in saved if line not in ours and not line.startswith("#")) + "\n"
        subprocess.run([f"{program}-restore"], input=kept, text=True, timeout=COMMAND_SECS, check=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    start = actions.add_parser("start")
    start.add_argument("kind", choices=KINDS)
    start.add_argument("directory")
    start.add_argument("--tree", default=os.environ.get("TC_DOCKER_TREE"), help="Debian root with the newer engine")
    start.add_argument("--disk", type=int, default=0, metavar="MIB", help="keep images in a file system of this size of its own")
    start.add_argument("--iptables", action="store_true", help="let it make rules for packets; one engine at a time")
    stop = actions.add_parser("stop")
    stop.add_argument("directory")
    options = parser.parse_args()
    engine = Engine(options.directory)
    if options.action == "stop":
        engine.stop()
        return 0
    if options.kind != "classic" and not options.tree and engine.facts() is None:
        parser.error(f"{options.kind} needs --tree or the variable TC_DOCKER_TREE")
    try:
        print(engine.start(options.kind, options.tree, options.disk, options.iptables))
    except RuntimeError as error:
        sys.exit(f"engine.py: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
