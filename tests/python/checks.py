"""How a script tells `tests/run` what it checked: one line per check on standard output, the rest on standard error."""

import sys
import tempfile
import time
import traceback
from pathlib import Path


class NotRun(Exception):
    """The machine lacks what a check needs."""


def run_all(checks, subject, where=""):
    """Runs each check on the subject, whatever became of the one before, and returns how many failed. `where` is for checks
    that run in several places."""
    failed = 0
    for check in checks:
        began, name = time.monotonic(), check.__name__.replace("_", " ") + where
        try:
            check(subject)
            verdict = "ok"
        except NotRun as reason:
            print(f"NOT RUN {name}: {reason}", flush=True)
            continue
        except Exception:
            verdict, failed = "FAILED", failed + 1
            traceback.print_exc(file=sys.stderr)
        print(f"{verdict} {time.monotonic() - began:.2f} {name}", flush=True)
    return failed


def run_each(checks, make, prefix):
    """Runs each check on a subject of its own, made in a directory of its own. Returns the exit code for all."""
    failed = 0
    for check in checks:
        with tempfile.TemporaryDirectory(prefix=prefix) as directory:
            subject = make(Path(directory))
            try:
                failed += run_all([check], subject)
            finally:
                subject.deployment.stop()
    return 1 if failed else 0
