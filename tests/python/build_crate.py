"""`tc-worker exec examples/build-crate.yml`: a task builds ripgrep and runs its tests. Needs cargo and its registry.

`tests/run` starts this with the binary's path in TC_WORKER_BIN; the lines are those of session.py.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time

from checks import run_all
from examples import EXAMPLES, Exec, expect

# The task itself may take 20 minutes; two cores take about one.
BUILD_SECS = 900


def a_real_crate_is_built_and_tested_by_a_task(e):
    began = time.monotonic()
    result = subprocess.run(
        e.arguments(EXAMPLES / "build-crate.yml"),
        cwd=e.directory,
        env=e.deployment.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_SECS,
    )
    expect(result, 0)
    print(f"exec took {time.monotonic() - began:.1f} s", file=sys.stderr)

    # The log has what cargo said, command by command.
    log = result.stdout
    assert "Finished `release` profile" in log and log.count("Result: SUCCEEDED") == 5, log[-4000:]

    # The report is what the tests printed, and none failed.
    report = e.artifact("build-crate", "public/test-report.txt").read_text()
    passed = [int(count) for count in re.findall(r"^test result: ok\. (\d+) passed; 0 failed", report, re.MULTILINE)]
    assert sum(passed) > 400 and "test result: FAILED" not in report, report[-2000:]

    # The binary is the one that was built: it runs, and finds what is in the report.
    rg = e.directory / "rg"
    shutil.copy(e.artifact("build-crate", "public/rg"), rg)
    rg.chmod(0o755)
    version = subprocess.run([rg, "--version"], capture_output=True, text=True, timeout=60)
    assert version.stdout.startswith("ripgrep 15.2.0"), version
    found = subprocess.run([rg, "--count", r"^test .* ok$"], input=report, capture_output=True, text=True, timeout=60)
    assert int(found.stdout) == sum(passed), found


def nothing_is_left_behind(e):
    assert not e.deployment.processes(), e.deployment.processes()


def main():
    with tempfile.TemporaryDirectory(prefix="tc-build-") as directory:
        case = Exec(directory)
        try:
            return 1 if run_all([a_real_crate_is_built_and_tested_by_a_task, nothing_is_left_behind], case) else 0
        finally:
            case.deployment.stop()


if __name__ == "__main__":
    sys.exit(main())
