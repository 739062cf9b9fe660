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

SERVICES = ["tasks", "artifacts", "index", "secrets", "purge_cache", "auth", "worker_manager"]


def nothing_is_left_behind(s):
    s.deployment.queue.check_alive()
    s.deployment.queue.signal(2)
    s.deployment.queue.wait(within=20)
    assert not s.deployment.processes(), s.deployment.processes()
    said = s.deployment.queue.err.read_text(errors="replace")
    assert "panicked" not in said, said[-4000:]
    assert s.access_token not in said, "the access token is in the server's log"


def main():
    failed = 0
    with tempfile.TemporaryDirectory(prefix="tc-services-") as directory:
        deployment = Deployment(os.environ["TC_WORKER_BIN"], directory)
        try:
            server = Server(deployment)
            for name in sys.argv[1:] or SERVICES:
                failed += run_all(importlib.import_module("services." + name).CHECKS, server)
            failed += run_all([nothing_is_left_behind], server)
        finally:
            deployment.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
