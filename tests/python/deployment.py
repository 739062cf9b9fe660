"""A queue and a worker, each a process of the binary under test, and what can be seen of them from outside."""

import json
import os
import re
import signal
import subprocess
import threading
import time
import uuid
from pathlib import Path

# How long a step may take before it counts as hung. Generous, since the machine may be busy.
PATIENCE_SECS = 60

PROVISIONER, WORKER_TYPE = "test-provisioner", "python-session"


def wait_for(what, probe, within=PATIENCE_SECS):
    """The first truthy answer of `probe`; a named failure when there is none in time."""
    until = time.monotonic() + within
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > until:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(0.05)


class Program:
    """One process of the binary. What it prints goes to files, so that it never waits for a reader."""

    def __init__(self, name, arguments, directory, environment):
        self.name = name
        self.out, self.err = directory / f"{name}.out", directory / f"{name}.err"
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=directory, env=environment
            )

    def check_alive(self):
        assert self.process.poll() is None, (
            f"{self.name} ended with {self.process.returncode}:\n{self.err.read_text(errors='replace')[-4000:]}"
        )

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, within=PATIENCE_SECS):
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {within} s of being asked") from None

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Deployment:
    """`tc-worker queue` and `tc-worker run`, in a directory of their own."""

    def __init__(self, binary, directory):
        self.binary, self.directory = str(Path(binary).resolve()), Path(directory)
        # Every process below these two inherits this, so that one left behind can be told from all others.
        self.mark = f"session-{uuid.uuid4()}"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("TASKCLUSTER_")}
        self.environment["TC_SESSION_MARK"] = self.mark
        self.queue = self.worker = None
        # Everything that was started, in this order.
        self.programs = []
        self.workers_started = 0

    def start_queue(self, claim_timeout, *options):
        env_file = self.directory / "queue.env"
        self.queue = Program(
            "queue",
            [self.binary, "queue", "--port", "0", "--claim-timeout", str(claim_timeout), "--env-file", str(env_file), *options],
            self.directory,
            self.environment,
        )
        self.programs.append(self.queue)

        def exports():
            self.queue.check_alive()
            lines = re.findall(r"^export (TASKCLUSTER_\w+)=(.*)\n", self.queue.out.read_text(), re.MULTILINE)
            found = {name: value.strip("'\"") for name, value in lines}
            wanted = {"TASKCLUSTER_ROOT_URL", "TASKCLUSTER_CLIENT_ID", "TASKCLUSTER_ACCESS_TOKEN"}
            return found if wanted <= found.keys() else None

        self.exports = wait_for("the queue prints its export lines", exports)
        text = env_file.read_text()
        for name, value in self.exports.items():
            assert name in text and value in text, f"--env-file lacks {name}"
        return self.exports

    def start_worker(self, capacity, **settings):
        """Starts a worker, with some settings more."""
        self.workers_started += 1
        key = self.directory / f"key-{self.workers_started}"
        made = subprocess.run(
            [self.binary, "new-ed25519-keypair", "--file", str(key)], capture_output=True, text=True, timeout=PATIENCE_SECS
        )
        assert made.returncode == 0, made.stderr
        config = {
            "rootURL": self.exports["TASKCLUSTER_ROOT_URL"],
            "clientId": self.exports["TASKCLUSTER_CLIENT_ID"],
            "accessToken": self.exports["TASKCLUSTER_ACCESS_TOKEN"],
            "provisionerId": PROVISIONER,
            "workerType": WORKER_TYPE,
            "workerGroup": "python",
            "workerId": "session-1",
            "ed25519SigningKeyLocation": str(key),
            "capacity": capacity,
            "tasksDir": str(self.directory / "tasks"),
            "cachesDir": str(self.directory / "caches"),
            "downloadsDir": str(self.directory / "downloads"),
            "requiredDiskSpaceMegabytes": 64,
            "tcWorker": {"cancelPollSecs": 1},
            **settings,
        }
        path = self.directory / f"worker-{self.workers_started}.json"
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        # The credentials are in the worker's environment, too, as a careless service file would have them: no task may see
        # them there.
        environment = {**self.environment, **self.exports, "TC_SESSION_HARMLESS": "inherited"}
        name = f"worker-{self.workers_started}"
        self.worker = Program(name, [self.binary, "run", "--config", str(path)], self.directory, environment)
        self.programs.append(self.worker)

    def processes(self):
        """Ids and command lines of all live processes that descend from this deployment."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    environment = (entry / "environ").read_bytes()
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                    if self.mark.encode() in environment and state != "Z":
                        found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    pass  # it ended while we looked, or belongs to somebody else
        return found

    def task_directories(self):
        tasks = self.directory / "tasks"
        return sorted(path.name for path in tasks.iterdir()) if tasks.is_dir() else []

    def stop(self):
        """The end of a session that went wrong: nothing that it started survives it."""
        for program in reversed(self.programs):
            program.kill()
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


class Tail(threading.Thread):
    """Reads a live log while its task runs. What has arrived so far is in `text`."""

    def __init__(self, session, url):
        super().__init__(daemon=True)
        self.session, self.url = session, url
        self.text, self.type, self.ended, self.trouble = "", None, False, None
        self.start()

    def run(self):
        try:
            with self.session.get(self.url, stream=True, timeout=PATIENCE_SECS) as answer:
                answer.raise_for_status()
                self.type = answer.headers["Content-Type"]
                for chunk in answer.iter_content(None):
                    self.text += chunk.decode()
            self.ended = True
        except Exception as error:  # shown by whoever waits for the text
            self.trouble = error
