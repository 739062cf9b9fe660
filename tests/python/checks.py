"""How a script tells `tests/run` what it checked: one line per check on standard output, the rest on standard error."""

import sys
import time
import traceback


class NotRun(Exception):
    """The machine lacks what a check needs."""


def run_all(checks, subject):
    """Runs each check on the subject, whatever became of the one before, and returns how many failed."""
    failed = 0
    for check in checks:
        began = time.monotonic()
        try:
            check(subject)
            verdict = "ok"
        except NotRun as reason:
            print(f"NOT RUN {check.__name__.replace('_', ' ')}: {reason}", flush=True)
            continue
        except Exception:
            verdict, failed = "FAILED", failed + 1
            traceback.print_exc(file=sys.stderr)
        print(f"{verdict} {time.monotonic() - began:.2f} {check.__name__.replace('_', ' ')}", flush=True)
    return failed
