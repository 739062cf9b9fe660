"""How a script tells `tests/run` what it checked: one line per check on standard output, the rest on standard error."""

import sys
import time
import traceback


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
