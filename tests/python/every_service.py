"""The official Python client drives each service of `tc-worker queue`, with this script as the worker.

`tests/run` starts this with the binary's path in TC_WORKER_BIN; the lines are those of session.py. Services can be named:
`every_service.py index secrets`.
"""

import importlib
import os
import sys
import tempfile

from checks import run_all
from deployment import Deployment
from services.server import Server

SERVICES = ["tasks", "artifacts", "index", "secrets", "purge_cache", "auth", "worker_manager", "health"]

# What a client has to get over: nothing of this may change what comes out. A claim whose answer is lost is lost with it, so
# these are refused only.
BAD_NETWORK = [
    "createTask: drop answer, 20%",
    "report*: drop answer, 20%",
    "createArtifact: late status 500, 20%",
    "insertTask: drop answer, 20%",
    "secrets.set: drop answer, 20%",
    "list*: half body, 10%",
    "GET artifact: cut after half, 20%",
    "PUT artifact: status 503, 20%",
    "*: drop request, 3%",
    "*: status 502, 3%",
    "*: delay 10ms, 10%",
]
# Those whose steps can be repeated; the others look at single requests.
REPEATABLE = ["tasks", "artifacts", "index", "secrets", "purge_cache"]


def nothing_is_left_behind(s):
    s.deployment.queue.check_alive()
    s.deployment.queue.signal(2)
    s.deployment.queue.wait(within=20)
    assert not s.deployment.processes(), s.deployment.processes()
    said = s.deployment.queue.err.read_text(errors="replace")
    assert "panicked" not in said, said[-4000:]
    assert s.access_token not in said, "the access token is in the server's log"
    # Most of the faults are met by each of the services.
    assert len(s.faults_met()) * 4 >= len(s.faults), s.faults_met()


def session(names, where="", **options):
    """Runs the checks of these services with a server of their own."""
    with tempfile.TemporaryDirectory(prefix="tc-services-") as directory:
        deployment = Deployment(os.environ["TC_WORKER_BIN"], directory)
        try:
            server = Server(deployment, **options)
            checks = [check for name in names for check in importlib.import_module("services." + name).CHECKS]
            return run_all(checks + [nothing_is_left_behind], server, where)
        finally:
            deployment.stop()


def main():
    names = sys.argv[1:] or SERVICES
    failed = session(names)
    repeated = [name for name in names if name in REPEATABLE]
    if repeated:
        failed += session(repeated, " over a bad network", faults=BAD_NETWORK)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
