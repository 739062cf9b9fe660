"""Processes that the runner starts, and that it ends with everything they started."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


class Command:
    """One process in a process group of its own, so that it can be ended with everything that it started."""

    alive = set()
    # Once the runner was told to end, nothing more is started by whoever has not heard of it yet.
    closed = False

    def __init__(self, arguments, limit, env=None, cwd=ROOT, **options):
        if Command.closed:
            # Silent in a thread, unlike other exceptions.
            raise SystemExit(130)
        self.process = subprocess.Popen(
            [str(argument) for argument in arguments],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
            errors="replace",
            **options,
        )
        Command.alive.add(self)
        self.late = False
        self.timer = threading.Timer(limit, self.expire)
        self.timer.daemon = True
        self.timer.start()

    def expire(self):
        self.late = True
        self.end()

    def end(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def lines(self, see):
        """Shows each line of its output as it comes, and lets `see` look at it. Returns the exit code."""
        for line in self.process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            see(line.rstrip("\n"))
        return self.wait()

    def wait(self):
        code = self.process.wait()
        self.timer.cancel()
        Command.alive.discard(self)
        return code


def quiet(arguments, limit, **options):
    """Exit code and output of a short command."""
    command = Command(arguments, limit, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    output = command.process.stdout.read()
    return command.wait(), output


def end_all():
    """Ends what runs, and lets nothing more be started."""
    Command.closed = True
    for command in list(Command.alive):
        command.end()
