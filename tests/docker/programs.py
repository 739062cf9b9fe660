"""Real programs in containers: a build from Debian's sources, and taskgraph's `run-task`, driven by the Python client.

`tests/run` starts this with the binary's path in TC_WORKER_BIN and the variables of bed.py; the lines are those of checks.py.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))

from checks import run_all
from client import Session
from deployment import Deployment

IMAGES = Path(os.environ["TC_DOCKER_IMAGES"])
HOST = os.environ.get("TC_DOCKER_HOST") or os.environ["TC_DOCKER_CONTAINERD"]
CACHE = "test-checkouts"

BUILD = """
set -eux
mkdir -p /builds/worker/src && cd /builds/worker/src
tar xf /usr/src/program.tar.gz --strip-components=1
make -j2 bzip2 libbz2.a bzip2recover
make test
mkdir /builds/worker/out && cp bzip2 libbz2.a sample1.rb2 /builds/worker/out
./bzip2 --version < /dev/null 2>&1 | head -1
"""


def docker(*words):
    done = subprocess.run(["docker", "-H", HOST, *words], stdout=subprocess.PIPE, text=True, check=True, timeout=120)
    return set(done.stdout.splitlines())


def inventory():
    return docker("ps", "--all", "--quiet") | docker("network", "ls", "--quiet") | docker("volume", "ls", "--quiet")


def run_task(s, command, **more):
    """Creates a task that calls run-task as taskgraph does."""
    payload = {
        "image": s.image,
        "command": ["/usr/local/bin/run-task", "--", "bash", "-cx", command],
        "env": {
            "TASKCLUSTER_CACHES": "/builds/worker/checkouts",
            "TASKCLUSTER_VOLUMES": "/builds/worker/checkouts;/builds/worker/workspace",
        },
        "cache": {CACHE: "/builds/worker/checkouts"},
        "onExitStatus": {"retry": [72], "purgeCaches": [72]},
        "maxRunTime": 300,
        **more,
    }
    return s.define(payload, dependencies=[s.publisher], scopes=[f"docker-worker:cache:{CACHE}"], retries=2)


# The checks, in the order in which they run. Each finds the session as the one before left it.


def a_task_publishes_the_image(s):
    s.before = inventory()
    s.images = docker("images", "--quiet", "--no-trunc")
    names = ["debian.tar.zst", "debian-legacy.tar.zst"]
    artifacts = [{"type": "file", "path": name, "name": f"public/{name}"} for name in names]
    s.publisher = s.create(f"cp {' '.join(str(IMAGES / name) for name in names)} .", artifacts=artifacts)
    s.deployment.start_worker(capacity=2, d2gConfig={"enableD2G": True})
    s.resolved(s.publisher, "completed")
    s.image = {"type": "task-image", "taskId": s.publisher, "path": "public/debian.tar.zst"}


def a_program_is_built_and_tested_in_it(s):
    task_id = s.define(
        {
            "image": s.image,
            "command": ["bash", "-c", BUILD],
            "artifacts": {"public/build": {"type": "directory", "path": "/builds/worker/out"}},
            "maxRunTime": 300,
        },
        dependencies=[s.publisher],
    )
    s.resolved(task_id, "completed")
    log = s.log(task_id)
    # The last word of its own tests.
    assert "\r\ncmp sample3.tst sample3.ref\r\n" in log, log
    program = s.deployment.directory / "bzip2"
    program.write_bytes(s.download(task_id, "public/build/bzip2")[0])
    program.chmod(0o755)
    # It is real: what it unpacks here is what went in there.
    packed, _ = s.download(task_id, "public/build/sample1.rb2")
    unpacked = subprocess.run([program, "-d"], input=packed, stdout=subprocess.PIPE, check=True, timeout=60).stdout
    assert len(unpacked) > len(packed), (len(unpacked), len(packed))
    assert s.download(task_id, "public/build/libbz2.a")[0].startswith(b"!<arch>\n")


def the_older_form_of_the_image_works_as_well(s):
    image = {**s.image, "path": "public/debian-legacy.tar.zst"}
    task_id = s.define(
        {"image": image, "command": ["python3", "-c", "print(6 * 7)"], "maxRunTime": 300}, dependencies=[s.publisher]
    )
    s.resolved(task_id, "completed")
    assert "\r\n42\r\n" in s.log(task_id) or "\n42\r\n" in s.log(task_id), s.log(task_id)


def run_task_finds_an_empty_cache_and_fills_it(s):
    first = run_task(s, "cd /builds/worker && id -un && echo kept > checkouts/kept && touch workspace/scratch")
    s.resolved(first, "completed")
    log = s.log(first)
    assert "cache /builds/worker/checkouts is empty; writing requirements" in log, log
    assert "changing ownership of volume /builds/worker/workspace" in log, log
    assert "] worker\r\n" in log, log


def run_task_takes_the_cache_again(s):
    second = run_task(s, "cd /builds/worker && cat checkouts/kept && ls -A workspace | wc -l")
    s.resolved(second, "completed")
    log = s.log(second)
    assert "cache /builds/worker/checkouts exists; requirements: gid=1000 uid=1000 version=1" in log, log
    assert "] kept\r\n" in log and "] 0\r\n" in log, log


def a_poisoned_cache_is_purged_and_the_task_retried(s):
    poison = s.define(
        {
            "image": s.image,
            "command": ["rm", "-f", "/builds/worker/checkouts/.cacherequires"],
            "cache": {CACHE: "/builds/worker/checkouts"},
            "maxRunTime": 60,
        },
        dependencies=[s.publisher],
        scopes=[f"docker-worker:cache:{CACHE}"],
    )
    s.resolved(poison, "completed")
    third = run_task(s, "ls -A /builds/worker/checkouts")
    status = s.resolved(third, "completed")
    reasons = [run["reasonResolved"] for run in status["runs"]]
    assert reasons == ["intermittent-task", "completed"], reasons
    assert "is empty; writing requirements" in s.log(third), s.log(third)


def nothing_is_left_in_the_engine(s):
    s.deployment.worker.signal(2)
    code = s.deployment.worker.wait()
    assert code == 71, f"exit code {code} instead of 71"
    left = inventory() - s.before
    assert not left, left


CHECKS = [
    a_task_publishes_the_image,
    a_program_is_built_and_tested_in_it,
    the_older_form_of_the_image_works_as_well,
    run_task_finds_an_empty_cache_and_fills_it,
    run_task_takes_the_cache_again,
    a_poisoned_cache_is_purged_and_the_task_retried,
    nothing_is_left_in_the_engine,
]


def main():
    failed = 0
    os.environ["DOCKER_HOST"] = HOST
    with tempfile.TemporaryDirectory(prefix="tc-programs-") as directory:
        deployment = Deployment(os.environ["TC_WORKER_BIN"], directory)
        session = Session(deployment)
        try:
            failed = run_all(CHECKS, session)
            if failed and deployment.worker:
                last = deployment.worker.err.read_text(errors="replace")[-6000:]
                print(f"\nthe worker's last lines:\n{last}", file=sys.stderr)
        finally:
            deployment.stop()
            for image in docker("images", "--quiet", "--no-trunc") - getattr(session, "images", set()):
                subprocess.run(["docker", "-H", HOST, "rmi", "--force", image], stdout=subprocess.DEVNULL, timeout=120)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
