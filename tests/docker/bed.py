"""The test bed for containers: engines, archives of images, and the Debian roots that both come from.

`provision` makes what can be kept between runs, `start` brings the engines up, `stop` ends them. Tests find all of it by the
variables that `variables` returns:

    TC_DOCKER_CLASSIC      the engine of this Debian (20.10 in bookworm)
    TC_DOCKER_GRAPH        the newest, with the graph driver overlay2
    TC_DOCKER_CONTAINERD   the newest, with the image store of containerd
    TC_DOCKER_HOST         an engine that was here already; then one of the others names it, too
    TC_DOCKER_IMAGES       a directory with what images.py makes
    TC_DOCKER_REGISTRY     address of a registry on loopback that has `tc-test/busybox:latest`; the engines have it from there
    TC_DOCKER_TREE, TC_DOCKER_DISK
                           what engine.py needs to start another one
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import packages
from engine import Engine, alive, ask
from machine import Machine
from process import ROOT, quiet
from registry import Registry
from tree import ENGINE, IMAGE, Tree

HERE = ROOT / "tests" / "docker"
IMAGES_SECS, LOAD_SECS = 600, 120
# Sparse, and far more than the tests put there.
DISK_MIB = 32768
# Without these there are no images for an engine that is here already.
FOR_IMAGES = ("docker", "docker-registry", "busybox", "zstd", "lz4")
IMAGE_NAME = "tc-test/busybox:latest"
KINDS = {"classic": "TC_DOCKER_CLASSIC", "graph": "TC_DOCKER_GRAPH", "containerd": "TC_DOCKER_CONTAINERD"}


class Bed:
    """All that one run of the tests needs around Docker."""

    def __init__(self, cache, run_task):
        self.cache = cache
        self.engine_tree = Tree(cache / "engine", ENGINE)
        self.image_tree = Tree(cache / "debian", IMAGE)
        self.images = cache / "images"
        # Gives taskgraph's `run-task`, once the Python environment is there.
        self.run_task = run_task
        self.directory, self.engines, self.hosts, self.environment = None, {}, {}, {}
        self.own_host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        self.machine = self.before = self.registry = None

    # What is kept between runs.

    def provision(self):
        """Returns what went wrong, or None. Each part says how long it took."""
        self.cache.mkdir(parents=True, exist_ok=True)
        self.sweep()
        if os.geteuid() != 0:
            return "engines of our own take root"
        return (
            self.timed("packages", lambda: packages.install(packages.missing()))
            or self.both()
            or self.timed("images", lambda: self.make_images(with_debian=True))
        )

    def both(self):
        """The two roots at once: most of the time they wait for the network or for the disk."""
        found = {}
        trees = {"engine": self.engine_tree, "debian": self.image_tree}

        def work(name):
            found[name] = self.timed(f"Debian root {name}", trees[name].provision)

        threads = [threading.Thread(target=work, args=(name,)) for name in trees]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found.get("engine") or found.get("debian")

    @staticmethod
    def timed(name, work):
        began = time.monotonic()
        trouble = work()
        seconds = time.monotonic() - began
        if trouble or seconds > 1:
            print(f"provision: {name}{' failed' if trouble else ''}: {seconds:.0f} s", flush=True)
        return f"{name}: {trouble}" if trouble else None

    def make_images(self, with_debian):
        """Makes the archives unless they are there and made by the same programs from the same files."""
        command = [sys.executable, "-B", HERE / "images.py", self.images]
        recipe = [(HERE / name).read_text() for name in ("archive.py", "images.py")]
        if with_debian:
            command += ["--debian", self.image_tree.directory]
            recipe.append(self.image_tree.stamp.read_text())
            added = {"usr/src/program.tar.gz": self.image_tree.source(), "usr/local/bin/run-task": self.run_task()}
            for inside, path in added.items():
                if path:
                    command += ["--add", f"{inside}={path}"]
                    recipe.append(f"{inside} {path.stat().st_size}")
        stamp, wanted = self.images / "made-from", json.dumps(recipe)
        if stamp.exists() and stamp.read_text() == wanted:
            return None
        shutil.rmtree(self.images, ignore_errors=True)
        code, output = quiet(command, IMAGES_SECS)
        if code == 0:
            stamp.write_text(wanted)
        return output if code else None

    # Engines.

    def start(self):
        """Starts the three engines. Returns what went wrong, or None."""
        self.machine = Machine.now()
        self.directory = Path(tempfile.mkdtemp(prefix="tc-docker-"))
        # Who may use an engine says its socket.
        self.directory.chmod(0o711)
        # For the next run, in case that this one is killed before it can stop them.
        self.cache.mkdir(parents=True, exist_ok=True)
        with (self.cache / "running").open("a") as running:
            running.write(f"{os.getpid()} {self.directory}\n")
        disk = 0 if can_overlay(self.directory) else DISK_MIB
        try:
            for kind in KINDS:
                engine = self.engines[kind] = Engine(self.directory / kind)
                # One engine makes rules for packets, as engines do everywhere, unless another one of this machine does.
                rules = kind == "containerd" and not self.machine.has_engine_rules
                self.hosts[kind] = engine.start(kind, self.engine_tree.directory, disk, rules)
        except RuntimeError as error:
            return str(error)
        self.environment = {"TC_DOCKER_TREE": str(self.engine_tree.directory), "TC_DOCKER_DISK": str(disk)}
        return self.fill()

    def reason(self):
        """Why the engine of this machine cannot be taken, or None."""
        path = self.own_host.removeprefix("unix://")
        if path == self.own_host:
            return f"DOCKER_HOST is {self.own_host}, and only sockets in the file system are supported"
        if ask(path, "/_ping") is None:
            return f"no engine answers at {self.own_host} (tests/run --provision starts three)"
        lacking = packages.missing([entry for entry in packages.PROGRAMS if entry[0] in FOR_IMAGES])
        return f"{', '.join(lacking)} are missing" if lacking else None

    def no_big_image(self):
        """Why the tests of real programs have nothing to run in, or None."""
        there = (self.images / "debian.tar.zst").exists()
        return None if there else "there is no Debian image (tests/run --provision makes it)"

    def find(self):
        """Takes the engine of this machine. Returns why there is none, or None."""
        reason = self.reason()
        if reason:
            return reason
        host = self.own_host
        info = json.loads(ask(host.removeprefix("unix://"), "/info") or "{}")
        store = "io.containerd.snapshotter.v1" in json.dumps(info.get("DriverStatus"))
        classic = info.get("ServerVersion", "0").split(".")[0] == "20"
        self.hosts = {"classic" if classic else "containerd" if store else "graph": host}
        self.environment = {"TC_DOCKER_HOST": host}
        return self.make_images(with_debian=self.image_tree.stamp.exists()) or self.fill()

    def fill(self):
        """Gives the engines the image by whose name tests start containers: they pull it from a registry of our own."""
        self.directory = self.directory or Path(tempfile.mkdtemp(prefix="tc-docker-"))
        self.registry = Registry(self.directory / "registry")
        trouble = self.registry.start()
        if trouble:
            return trouble
        name = f"{self.registry.address}/{IMAGE_NAME}"
        hosts = list(self.hosts.values())
        steps = [(hosts[0], ["load", "--quiet", "--input", self.images / "busybox.tar"])]
        steps += [(hosts[0], ["tag", IMAGE_NAME, name]), (hosts[0], ["push", name]), (hosts[0], ["rmi", IMAGE_NAME, name])]
        steps += [(host, ["pull", "--quiet", name]) for host in hosts]
        # Only engines of our own are given a name that anybody might use.
        steps += [(host, ["tag", name, "busybox:latest"]) for host in hosts if self.engines]
        for host, words in steps:
            code, output = quiet(["docker", "-H", host, *words], LOAD_SECS)
            if code:
                return f"docker {words[0]}: {output}"
        self.environment["TC_DOCKER_REGISTRY"] = self.registry.address
        self.before = self.inventory()
        return None

    def variables(self):
        found = {KINDS[kind]: host for kind, host in self.hosts.items()}
        return {**found, **self.environment, "TC_DOCKER_IMAGES": str(self.images)}

    def inventory(self):
        """Containers, networks and volumes of each engine."""
        questions = {
            "container": ["ps", "--all", "--format", "{{.ID}} {{.Image}} {{.Names}}"],
            "network": ["network", "ls", "--format", "{{.Name}}"],
            "volume": ["volume", "ls", "--format", "{{.Name}}"],
        }
        return {
            (kind, what): set(quiet(["docker", "-H", host, *words], LOAD_SECS)[1].splitlines())
            for kind, host in self.hosts.items()
            for what, words in questions.items()
        }

    def leftovers(self):
        """What the tests left in the engines, one line each."""
        if self.before is None:
            return []
        now = self.inventory()
        return [f"{what} {line}, engine {kind}" for (kind, what), lines in now.items() for line in lines - self.before[kind, what]]

    def stop(self):
        """Ends the engines. Returns what they left on this machine, one line each."""
        if self.registry:
            if not self.engines:
                for host in self.hosts.values():
                    name = f"{self.registry.address}/{IMAGE_NAME}"
                    subprocess.run(["docker", "-H", host, "rmi", name], capture_output=True, timeout=LOAD_SECS)
            self.registry.stop()
        if not self.engines:
            if self.directory:
                remove(self.directory)
            return []
        ours = [str(self.directory)]
        for engine in self.engines.values():
            ours += engine.names()
            engine.stop()
        self.engines = {}
        remove(self.directory)
        self.sweep()
        return self.machine.changes(ours)

    def sweep(self):
        """Ends engines of earlier runs that were killed."""
        running, others = self.cache / "running", []
        for line in running.read_text().splitlines() if running.exists() else []:
            pid, _, directory = line.partition(" ")
            if alive(pid) and Path(directory) != self.directory:
                others.append(line)
                continue
            for kind in KINDS:
                Engine(Path(directory) / kind).stop()
            Registry(Path(directory) / "registry").stop()
            remove(Path(directory))
        if running.exists():
            running.write_text("".join(f"{line}\n" for line in others))


def remove(directory):
    """An engine's data may hold what takes several goes; nothing of it is needed any more."""
    for _ in range(3):
        shutil.rmtree(directory, ignore_errors=True)


def can_overlay(directory):
    """Whether the file system can hold the writable layers of containers."""
    names = {name: directory / "probe" / name for name in ("lower", "upper", "work", "merged")}
    for path in names.values():
        path.mkdir(parents=True)
    options = f"lowerdir={names['lower']},upperdir={names['upper']},workdir={names['work']}"
    code, _ = quiet(["unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", options, names["merged"]], LOAD_SECS)
    remove(directory / "probe")
    return code == 0
