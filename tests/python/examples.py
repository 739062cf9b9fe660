"""`tc-worker exec` with the small examples, and with files that it has to refuse. Needs the standard library only.

`tests/run` starts this with the binary's path in TC_WORKER_BIN; the lines are those of session.py.
"""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from checks import NotRun, run_each
from deployment import PATIENCE_SECS, Deployment, Program, wait_for

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"


class Exec:
    """Runs `exec` in a directory of its own."""

    def __init__(self, directory):
        self.deployment = Deployment(os.environ["TC_WORKER_BIN"], directory)
        self.directory = Path(directory)
        # What tasks leave in caches is to end with this test.
        self.deployment.environment["XDG_CACHE_HOME"] = str(self.directory / "cache")

    def needs_engine(self):
        """Finds the engine that `tests/run` knows of."""
        host = os.environ.get("TC_DOCKER_HOST") or os.environ.get("TC_DOCKER_CONTAINERD")
        if host is None:
            raise NotRun("there is no Docker engine")
        self.deployment.environment["DOCKER_HOST"] = host

    def arguments(self, *files):
        return [self.deployment.binary, "exec", *map(str, files), "--artifacts", str(self.directory / "artifacts")]

    def run(self, *files):
        return subprocess.run(
            self.arguments(*files),
            cwd=self.directory,
            env=self.deployment.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECS,
        )

    def file(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return path

    def artifact(self, label, name):
        path = self.directory / "artifacts" / label / name
        assert path.is_file(), f"{path} is not there: {sorted(map(str, self.directory.rglob('*')))}"
        return path


def expect(result, code):
    assert result.returncode == code, f"exit code {result.returncode} instead of {code}\n{result.stdout}\n{result.stderr}"


def hello_completes(e):
    result = e.run(EXAMPLES / "hello.yml")
    expect(result, 0)
    lines = result.stdout.splitlines()
    # The task's log, and nothing else, goes to standard output; in a pipe it has no colours.
    assert "Hello from a task." in lines and any("=== Task Finished ===" in line for line in lines), result.stdout
    assert "\x1b[" not in result.stdout + result.stderr
    assert re.search(r"^task [\w-]{22}, run 0, in /", result.stdout, re.MULTILINE), result.stdout
    assert "Hello from a task." not in result.stderr.splitlines(), result.stderr


def a_failing_task_gives_exit_code_1(e):
    result = e.run(EXAMPLES / "fails.yml")
    expect(result, 1)
    assert "about to fail" in result.stdout and "[taskcluster:error] exit status 3" in result.stdout, result.stdout
    assert e.artifact("fails", "public/report.txt").read_text() == "one test of three failed\n"


def artifacts_arrive_decoded(e):
    result = e.run(EXAMPLES / "artifacts.yml")
    expect(result, 0)
    assert e.artifact("artifacts", "public/results/notes.txt").read_text() == "written by the task\n"
    assert e.artifact("artifacts", "public/results/deep/table.csv").read_text() == "name,value\nlength,42\n"
    assert e.artifact("artifacts", "public/numbers").read_text() == "".join(f"{n}\n" for n in range(1, 100001))
    # The file was compressed by the task itself, so it stays so.
    assert gzip.decompress(e.artifact("artifacts", "public/notes.txt.gz").read_bytes()) == b"written by the task\n"
    assert e.artifact("artifacts", "public/stamp.txt").stat().st_size > 0
    assert not list((e.directory / "artifacts").glob("*/public/crash-dump.bin"))


def labels_name_the_directories_of_artifacts(e):
    payload = {
        "command": [["/bin/sh", "-c", "echo x > x"]],
        "maxRunTime": 60,
        "artifacts": [{"type": "file", "path": "x", "name": "public/x"}],
    }
    labelled = e.file("labelled.yml", json.dumps({"label": "build", "payload": payload}))
    plain = e.file("plain.yml", json.dumps(payload))
    (e.directory / "other").mkdir()
    same = e.file("other/plain.yml", json.dumps(payload))
    result = e.run(labelled, plain)
    expect(result, 0)
    assert sorted(path.name for path in (e.directory / "artifacts").iterdir()) == ["build", "plain"], result.stderr
    # Two files of the same name: the ids of the tasks tell them apart.
    result = e.run(labelled, plain, same)
    expect(result, 0)
    ids = {path.name for path in (e.directory / "artifacts").iterdir()} - {"build", "plain"}
    assert len(ids) == 2 and all(re.fullmatch(r"[\w-]{22}", name) for name in ids), ids


def a_file_that_cannot_be_read_gives_exit_code_2(e):
    result = e.run(e.directory / "nowhere.yml")
    expect(result, 2)
    assert "nowhere.yml" in result.stderr and not result.stdout, result.stdout + result.stderr
    broken = e.file("broken.yml", "command: [\n")
    result = e.run(broken)
    expect(result, 2)
    assert "broken.yml" in result.stderr, result.stderr


def an_invalid_payload_gives_exit_code_3_and_the_place(e):
    wrong = e.file("wrong.yml", "command:\n  - [echo, hi]\nmaxRunTime: soon\nsurprise: 1\n")
    result = e.run(wrong)
    expect(result, 3)
    # Both problems, each with file, line and column.
    assert re.search(r"wrong\.yml:3:\d+", result.stderr + result.stdout), result.stderr
    assert "maxRunTime" in result.stderr + result.stdout and "surprise" in result.stderr + result.stdout, result.stderr
    result = e.run(EXAMPLES / "fails.yml", wrong)
    expect(result, 3)


def ctrl_c_ends_the_task_and_leaves_nothing(e):
    task = e.file("long.yml", 'command:\n  - [bash, -c, "echo started; setsid sleep 3600 & sleep 3600"]\nmaxRunTime: 3000\n')
    program = Program("long", e.arguments(task), e.directory, e.deployment.environment)
    try:
        wait_for("the task has started", lambda: program.check_alive() or "\nstarted\n" in program.out.read_text())
        program.signal(signal.SIGINT)
        code = program.wait(within=20)
        assert code == 130, f"exit code {code} instead of 130:\n{program.err.read_text()}"
        assert not e.deployment.processes(), e.deployment.processes()
    finally:
        program.kill()


def a_container_task_finds_its_cache_again(e):
    e.needs_engine()
    for run in (1, 2):
        result = e.run(EXAMPLES / "container-task.yml")
        expect(result, 0)
        assert f"run {run - 1} was the last one" in result.stdout and "there is a terminal" in result.stdout, result.stdout
        assert e.artifact("container-task", "public/results/runs.txt").read_text() == f"{run}\n"
        assert e.artifact("container-task", "public/report.txt").read_text() == "a report\n"


def a_task_runs_in_the_image_that_another_one_built(e):
    e.needs_engine()
    # The other way round: it is the dependency that decides.
    try:
        result = e.run(EXAMPLES / "image-use.yml", EXAMPLES / "image-build.yml")
    finally:
        host = e.deployment.environment["DOCKER_HOST"]
        subprocess.run(["docker", "-H", host, "rmi", "example/greet:latest"], capture_output=True, timeout=PATIENCE_SECS)
    expect(result, 0)
    assert "Hello from an image that a task built, reader." in result.stdout, result.stdout
    assert e.artifact("image-build", "public/image.tar.gz").stat().st_size > 100_000


def a_user_whom_the_engine_admits_needs_no_other_rights(e):
    e.needs_engine()
    if os.geteuid() != 0:
        raise NotRun("it takes root to become another user")
    socket = os.stat(e.deployment.environment["DOCKER_HOST"].removeprefix("unix://"))
    # Some user that this machine does not know.
    user, directory = 64123, e.directory / "home"
    directory.mkdir()
    binary = directory / "tc-worker"
    shutil.copyfile(e.deployment.binary, binary)
    binary.chmod(0o755)
    shutil.copyfile(EXAMPLES / "container-task.yml", directory / "task.yml")
    os.chown(directory, user, user)
    e.directory.chmod(0o755)
    result = subprocess.run(
        [binary, "exec", "task.yml", "--cache-dir", directory / "cache"],
        cwd=directory,
        env={**e.deployment.environment, "HOME": str(directory), "TMPDIR": str(directory)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECS,
        user=user,
        group=user,
        extra_groups=[socket.st_gid],
    )
    expect(result, 0)
    report = next(directory.glob("artifacts/*/public/report.txt"))
    assert report.read_text() == "a report\n" and report.stat().st_uid == user


CHECKS = [
    hello_completes,
    a_failing_task_gives_exit_code_1,
    artifacts_arrive_decoded,
    labels_name_the_directories_of_artifacts,
    a_file_that_cannot_be_read_gives_exit_code_2,
    an_invalid_payload_gives_exit_code_3_and_the_place,
    ctrl_c_ends_the_task_and_leaves_nothing,
    a_container_task_finds_its_cache_again,
    a_task_runs_in_the_image_that_another_one_built,
    a_user_whom_the_engine_admits_needs_no_other_rights,
]


if __name__ == "__main__":
    sys.exit(run_each(CHECKS, Exec, prefix="tc-examples-"))
