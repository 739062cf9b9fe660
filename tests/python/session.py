"""A session of the official Python client against `tc-worker queue`, while `tc-worker run` works on it with capacity 4.

The client is the PyPI package `taskcluster`, which shares no code with this project. `tests/run` starts this script with the
binary's path in TC_WORKER_BIN and reads one line per check from its standard output: `ok SECONDS NAME` or
`FAILED SECONDS NAME`; everything else goes to standard error.
"""

import datetime
import gzip
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

import taskcluster
from taskcluster.exceptions import TaskclusterArtifactError, TaskclusterRestFailure

from checks import run_all
from client import CLAIM_TIMEOUT_SECS, LOG, Session
from deployment import PROVISIONER, WORKER_TYPE, Deployment, Tail, wait_for

LIVE = "public/logs/live.log"
STAMP = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def parse_date(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def pid_in(text):
    return int(re.search(r"pid=(\d+)", text)[1])


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# The checks, in the order in which they run. Each finds the session as the one before left it.


def the_client_and_the_queue_agree_on_who_may_do_what(s):
    # Of another pool, so our worker never takes it.
    s.foreign = s.create("true", worker_type="another-pool")
    stranger = taskcluster.Queue(
        {"rootUrl": s.root_url, "credentials": {**s.credentials, "accessToken": "not-the-token"}, "maxRetries": 0}
    )
    try:
        stranger.cancelTask(s.foreign)
    except taskcluster.exceptions.TaskclusterAuthFailure as error:
        assert error.status_code == 401, error
    else:
        raise AssertionError("a wrong access token was accepted")
    try:
        s.queue.status(taskcluster.slugId())
    except TaskclusterRestFailure as error:
        assert error.status_code == 404, error
    else:
        raise AssertionError("a task that nobody created has a status")


def a_task_waits_until_a_worker_comes(s):
    s.first = s.create(
        "echo hello from $TASK_ID; echo on stderr >&2",
        "mkdir -p out/deep; echo plain > out/a.txt; seq 1 2000 > out/deep/numbers.txt; printf '\\0\\377' > blob.bin",
        'env; test "$RUN_ID" = 0 && test "$PWD" = "$TASK_WORKDIR"',
        env={"FROM_PAYLOAD": "yes"},
        artifacts=[
            {"type": "directory", "path": "out", "name": "public/out"},
            {"type": "file", "path": "blob.bin", "name": "public/blob", "contentEncoding": "identity"},
            {"type": "file", "path": "core", "name": "public/core", "optional": True},
        ],
    )
    # The lease of this one is renewed while the checks between here and there run.
    s.long = s.create('until [ -e "$SHARED/release" ]; do sleep 0.1; done')
    assert s.status(s.first)["state"] == "pending"
    s.deployment.start_worker(capacity=4)
    s.resolved(s.first, "completed")


def the_log_has_the_lines_that_programs_read(s):
    text = s.log(s.first)
    lines = text.splitlines()
    assert re.fullmatch(rf"\[taskcluster {STAMP}\] Worker Type \({PROVISIONER}/{WORKER_TYPE}\) settings:", lines[0]), lines[0]
    assert text.endswith("\n")
    told = [re.sub(rf"^\[taskcluster {STAMP}\] ?", "", line) for line in lines if line.startswith("[taskcluster ")]
    for wanted in (f"Task ID: {s.first}", "=== Task Starting ===", "=== Task Finished ==="):
        assert told.count(wanted) == 1, f"{wanted!r} is there {told.count(wanted)} times:\n{text}"
    assert told.index("=== Task Starting ===") < told.index("=== Task Finished ===")
    assert re.fullmatch(r"Task Duration: [0-9.hmµns]+", told[told.index("=== Task Finished ===") + 1]), text
    for index in range(3):
        assert any(line.startswith(f"Executing command {index}: bash -c ") for line in told), text
    for label, value in (("Exit Code", "0"), ("Result", "SUCCEEDED")):
        assert told.count(f"{label:>32}: {value}") == 3, text
    # Output of commands is there as it was written, without a prefix.
    assert f"hello from {s.first}" in lines and "on stderr" in lines, text
    assert "[taskcluster:error]" not in text, text


def the_environment_of_a_task_has_no_credentials(s):
    environment = dict(line.split("=", 1) for line in s.log(s.first).splitlines() if re.match(r"[A-Z_]+=", line))
    assert environment["FROM_PAYLOAD"] == "yes" and environment["TC_SESSION_HARMLESS"] == "inherited", environment
    assert environment["TASKCLUSTER_ROOT_URL"] == s.root_url, environment
    assert environment["TASK_ID"] == s.first and environment["TASK_GROUP_ID"], environment
    for name in ("TASKCLUSTER_ACCESS_TOKEN", "TASKCLUSTER_CLIENT_ID", "TASKCLUSTER_CERTIFICATE"):
        assert name not in environment, f"{name} reached the task"
    assert s.credentials["accessToken"] not in s.log(s.first)


def artifacts_are_listed_and_downloaded(s):
    listed = s.artifacts(s.first)
    assert {name: artifact["storageType"] for name, artifact in listed.items()} == {
        "public/out/a.txt": "s3",
        "public/out/deep/numbers.txt": "s3",
        "public/blob": "s3",
        "public/core": "error",
        LOG: "s3",
        LIVE: "link",
    }, listed
    assert s.artifacts(s.first, run_id=0).keys() == listed.keys()
    # The client removes the content encoding.
    assert s.download(s.first, "public/out/a.txt") == (b"plain\n", "text/plain")
    numbers = "".join(f"{n}\n" for n in range(1, 2001)).encode()
    assert s.download(s.first, "public/out/deep/numbers.txt", run_id=0)[0] == numbers
    stored, headers = s.stored(s.first, "public/out/deep/numbers.txt")
    assert headers["Content-Encoding"] == "gzip" and gzip.decompress(stored) == numbers, headers
    stored, headers = s.stored(s.first, "public/blob")
    assert stored == b"\0\377" and headers["Content-Encoding"] in (None, "identity"), headers
    # The name of the live log leads to the backing log once the task is over.
    assert s.download(s.first, LIVE)[0].decode() == s.log(s.first)
    try:
        s.download(s.first, "public/core")
    except TaskclusterArtifactError as error:
        assert error.reason == "file-missing-on-worker", error.reason
    else:
        raise AssertionError("an artifact that was never made could be downloaded")


def a_lease_is_renewed_while_its_task_runs(s):
    def held_secs():
        run = s.status(s.long)["runs"][0]
        return (parse_date(run["takenUntil"]) - parse_date(run["started"])).total_seconds()

    s.running(s.long)
    wait_for("the lease is renewed", lambda: held_secs() > CLAIM_TIMEOUT_SECS + 1)
    (s.shared / "release").touch()
    status = s.resolved(s.long, "completed")
    assert len(status["runs"]) == 1, status


def four_tasks_run_at_once(s):
    # Each waits until it sees all four, so they end only if none has to wait for another's end.
    script = 'touch "$SHARED/here-$TASK_ID"; until [ "$(ls "$SHARED" | grep -c here-)" = 4 ]; do sleep 0.1; done'
    for task_id in [s.create(script, max_run_time=60) for _ in range(4)]:
        s.resolved(task_id, "completed")


def failures_say_what_failed(s):
    exit_code = s.create("echo about to fail; exit 3", "echo never")
    missing = s.create("true", artifacts=[{"type": "file", "path": "nowhere", "name": "public/nowhere"}])
    unknown = s.create("true", surprise=1)
    slow = s.create("sleep 600", max_run_time=1)
    s.resolved(exit_code, "failed")
    text = s.log(exit_code)
    assert text.splitlines()[-1] == "[taskcluster:error] exit status 3", text
    assert "never" not in text.replace("echo never", ""), text
    assert any(line.endswith("Result: FAILED") for line in text.splitlines()), text

    s.resolved(missing, "failed")
    assert s.artifacts(missing)["public/nowhere"]["storageType"] == "error"
    assert "file-missing-on-worker" in s.log(missing)

    s.resolved(unknown, "exception", "malformed-payload")
    assert "surprise" in s.log(unknown) and LIVE not in s.artifacts(unknown)

    s.resolved(slow, "failed")
    assert s.log(slow).splitlines()[-1] == "[taskcluster:error] task aborted - max run time exceeded"


def an_intermittent_failure_is_tried_again(s):
    task_id = s.create('echo "run $RUN_ID"; [ "$RUN_ID" = 1 ] || exit 7', retries=1, onExitStatus={"retry": [7]})
    status = s.resolved(task_id, "completed")
    assert [run["reasonResolved"] for run in status["runs"]] == ["intermittent-task", "completed"], status
    first, _ = s.download(task_id, LOG, run_id=0)
    assert "exit code 7 found in task payload.onExitStatus list" in first.decode()


def nothing_of_a_task_outlives_it(s):
    task_id = s.create("setsid sleep 3600 & echo pid=$!; (trap '' TERM; sleep 3601) & echo done")
    s.resolved(task_id, "completed")
    assert not is_alive(pid_in(s.log(task_id))), "a process in its own session outlived its task"
    left = [line for line in s.deployment.processes().values() if line.startswith("sleep")]
    assert not left, left


def a_cancelled_task_is_stopped_at_once(s):
    task_id = s.create("echo pid=$$; for i in 1 2 3; do echo line $i; done; exec sleep 3600", max_run_time=3000)
    s.running(task_id)
    wait_for("the live log is published", lambda: s.has(task_id, LIVE))
    live = s.queue.latestArtifact(task_id, LIVE)
    assert live["storageType"] == "reference" and "/log/" in live["url"], live["storageType"]
    tail, late = Tail(s.http, live["url"]), None
    try:
        wait_for("the live log shows the output", lambda: tail.trouble or "line 3" in tail.text)
        assert tail.trouble is None, tail.trouble
        assert tail.type == "text/plain; charset=utf-8", tail.type
        assert tail.text.startswith("[taskcluster ") and f"Task ID: {task_id}" in tail.text, "not from the first byte"
        late = Tail(s.http, live["url"])
        wait_for("a second reader gets the whole log", lambda: late.trouble or "line 3" in late.text)
        wrong = s.http.get(live["url"][:-4] + "xxxx", timeout=10)
        assert wrong.status_code in (401, 404), wrong.status_code

        pid = pid_in(tail.text)
        assert is_alive(pid)
        status = s.queue.cancelTask(task_id)["status"]
        assert (status["state"], status["runs"][0]["reasonResolved"]) == ("exception", "canceled"), status
        wait_for("the worker ends the cancelled task's process", lambda: not is_alive(pid), within=15)
        wait_for("the readers of the live log are told its end", lambda: tail.ended and late.ended, within=15)
    finally:
        tail.join(1)
    # The worker changes nothing about a task that was cancelled.
    assert s.status(task_id)["runs"][0]["reasonResolved"] == "canceled"


def the_slot_of_a_cancelled_task_is_used_again(s):
    for task_id in [s.create(f"echo {n}") for n in range(8)]:
        s.resolved(task_id, "completed")
    wait_for("no directory of a task is left", lambda: not s.deployment.task_directories())


def sigint_lets_the_running_task_finish(s):
    task_id = s.create('touch "$SHARED/started"; until [ -e "$SHARED/go" ]; do sleep 0.1; done; echo finished')
    wait_for("the task has started", (s.shared / "started").exists)
    worker = s.deployment.worker
    worker.signal(signal.SIGINT)
    # A task that is created now is not for this worker any more. Claims that were under way, two at most, may still bring it;
    # then the worker gives it back.
    s.later = s.create("true", retries=2)
    (s.shared / "go").touch()
    code = worker.wait()
    assert code == 71, f"exit code {code} instead of 71"
    s.resolved(task_id, "completed")
    assert "finished" in s.log(task_id)
    status = s.status(s.later)
    given_back = [run["reasonResolved"] for run in status["runs"][:-1]]
    assert status["state"] == "pending" and set(given_back) <= {"worker-shutdown"}, status


def sigterm_aborts_the_running_task(s):
    s.deployment.start_worker(capacity=4)
    s.resolved(s.later, "completed")
    task_id = s.create("echo pid=$$ > $SHARED/victim; exec sleep 3600", retries=0)
    victim = s.shared / "victim"
    wait_for("the task has started", lambda: victim.exists() and victim.read_text().endswith("\n"))
    s.deployment.worker.signal(signal.SIGTERM)
    code = s.deployment.worker.wait()
    assert code == 72, f"exit code {code} instead of 72"
    s.resolved(task_id, "exception", "worker-shutdown")
    assert not is_alive(pid_in(victim.read_text()))


def nothing_is_left_behind(s):
    assert s.status(s.foreign)["state"] == "pending", "a worker took a task of another pool"
    s.deployment.queue.check_alive()
    s.deployment.queue.signal(signal.SIGINT)
    s.deployment.queue.wait(within=10)
    assert not s.deployment.processes(), s.deployment.processes()
    assert not s.deployment.task_directories(), s.deployment.task_directories()
    secret = s.credentials["accessToken"]
    for log in s.deployment.directory.glob("worker*.err"):
        assert secret not in log.read_text(errors="replace"), f"the access token stands in {log.name}"


CHECKS = [
    the_client_and_the_queue_agree_on_who_may_do_what,
    a_task_waits_until_a_worker_comes,
    the_log_has_the_lines_that_programs_read,
    the_environment_of_a_task_has_no_credentials,
    artifacts_are_listed_and_downloaded,
    a_lease_is_renewed_while_its_task_runs,
    four_tasks_run_at_once,
    failures_say_what_failed,
    an_intermittent_failure_is_tried_again,
    nothing_of_a_task_outlives_it,
    a_cancelled_task_is_stopped_at_once,
    the_slot_of_a_cancelled_task_is_used_again,
    sigint_lets_the_running_task_finish,
    sigterm_aborts_the_running_task,
    nothing_is_left_behind,
]


def main():
    failed = 0
    with tempfile.TemporaryDirectory(prefix="tc-session-") as directory:
        deployment = Deployment(os.environ["TC_WORKER_BIN"], directory)
        try:
            failed = run_all(CHECKS, Session(deployment))
            if failed and deployment.worker:
                last = deployment.worker.err.read_text(errors="replace")[-6000:]
                print(f"\nthe worker's last lines:\n{last}", file=sys.stderr)
        finally:
            deployment.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
