"""A session of the official Python client with the embedded queue, as its own worker.

Needs PyPI `taskcluster` and the TASKCLUSTER_* variables that `tc-worker queue` prints, with a claim timeout of 3 seconds at most.
Every step asserts; the last line is `queue session: ok`.
"""

import datetime
import gzip
import json
import os
import threading
import time
import urllib.parse

import requests
import taskcluster
from taskcluster import download
from taskcluster.exceptions import TaskclusterArtifactError, TaskclusterAuthFailure, TaskclusterRestFailure

ROOT = os.environ["TASKCLUSTER_ROOT_URL"]
POOL = f"proj-test/py-{os.urandom(4).hex()}"
OPTIONS = taskcluster.optionsFromEnvironment()
queue = taskcluster.Queue(OPTIONS)
nobody = taskcluster.Queue({"rootUrl": ROOT, "maxRetries": 0})


def from_now(**delta):
    return taskcluster.stringDate(datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**delta))


def definition(**more):
    return {
        "taskQueueId": POOL,
        "created": from_now(),
        "deadline": from_now(hours=1),
        "expires": from_now(hours=2),
        "payload": {"command": [["true"]], "maxRunTime": 60},
        "metadata": {"name": "n", "description": "d", "owner": "o@example.com", "source": "https://example.com/"},
        **more,
    }


def create(**more):
    task_id = taskcluster.slugId()
    status = queue.createTask(task_id, definition(**more))["status"]
    assert status["taskId"] == task_id
    return task_id


def claim(tasks=1):
    return queue.claimWork(POOL, {"workerGroup": "g", "workerId": "w", "tasks": tasks})["tasks"]


def as_task(claimed):
    return taskcluster.Queue({"rootUrl": ROOT, "credentials": claimed["credentials"], "maxRetries": 0})


def refused(status, code, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except (TaskclusterAuthFailure, TaskclusterRestFailure) as failure:
        assert failure.status_code == status, (failure.status_code, failure.body)
        assert failure.body["code"] == code, failure.body
        assert failure.body["requestInfo"]["method"], failure.body
        return failure.body["message"]
    raise AssertionError(f"{status} {code} was expected")


def test_tasks():
    task_id = create(scopes=["a:b*"], tags={"kind": "test"}, extra={"x": 1})
    status = nobody.status(task_id)["status"]
    assert status["state"] == "pending" and status["runs"][0]["reasonCreated"] == "scheduled", status
    task = nobody.task(task_id)
    assert f"{task['provisionerId']}/{task['workerType']}" == POOL and task["extra"] == {"x": 1}, task
    body = {key: task[key] for key in task}
    assert queue.createTask(task_id, body)["status"]["taskId"] == task_id, "repeating is allowed"
    refused(409, "RequestConflict", queue.createTask, task_id, {**body, "extra": {}})
    refused(400, "InputValidationError", queue.createTask, taskcluster.slugId(), {**body, "retries": 50})
    refused(400, "InvalidRequestArguments", queue.createTask, "not-a-slugid", body)
    refused(403, "InsufficientScopes", nobody.createTask, taskcluster.slugId(), body)
    refused(404, "ResourceNotFound", nobody.status, taskcluster.slugId())
    assert [s["taskId"] for s in nobody.statuses({"taskIds": [task_id, taskcluster.slugId()]})["statuses"]] == [task_id]
    wrong = taskcluster.Queue({"rootUrl": ROOT, "maxRetries": 0, "credentials": {"clientId": OPTIONS["credentials"]["clientId"], "accessToken": "x"}})
    refused(401, "AuthenticationFailed", wrong.status, task_id)
    less = taskcluster.Queue({**OPTIONS, "authorizedScopes": ["queue:cancel-task:other/*"]})
    refused(403, "InsufficientScopes", less.cancelTask, task_id)

    (claimed,) = claim()
    assert claimed["status"]["taskId"] == task_id and claimed["runId"] == 0 and claimed["task"] == task
    credentials = claimed["credentials"]
    assert credentials["clientId"].startswith(f"task-client/{task_id}/0/on/g/w/until/"), credentials["clientId"]
    assert "a:b*" in json.loads(credentials["certificate"])["scopes"]
    worker = as_task(claimed)
    renewed = worker.reclaimTask(task_id, 0)
    assert renewed["takenUntil"] >= claimed["takenUntil"] and renewed["credentials"]["clientId"] != ""
    other = create()
    refused(403, "InsufficientScopes", worker.cancelTask, other)
    refused(403, "InsufficientScopes", worker.reclaimTask, other, 0)
    assert queue.cancelTask(other)["status"]["runs"][0]["reasonResolved"] == "canceled"
    worker = as_task(renewed)
    assert worker.reportCompleted(task_id, 0)["status"]["state"] == "completed"
    assert worker.reportCompleted(task_id, 0)["status"]["state"] == "completed", "repeating is allowed"
    refused(409, "RequestConflict", worker.reportFailed, task_id, 0)
    refused(409, "RequestConflict", worker.reclaimTask, task_id, 0)


def test_long_poll():
    started = time.monotonic()
    answers = []
    thread = threading.Thread(target=lambda: answers.extend(claim()))
    thread.start()
    time.sleep(0.5)
    task_id = create()
    thread.join(5)
    took = time.monotonic() - started
    assert [a["status"]["taskId"] for a in answers] == [task_id] and took < 3, took
    as_task(answers[0]).reportException(task_id, 0, {"reason": "malformed-payload"})
    assert nobody.status(task_id)["status"]["state"] == "exception"


def test_priority_and_retries():
    low, high = create(priority="low"), create(priority="high", retries=1)
    first, second = claim(2)
    assert [first["status"]["taskId"], second["status"]["taskId"]] == [high, low]
    status = as_task(first).reportException(high, 0, {"reason": "worker-shutdown"})["status"]
    assert status["state"] == "pending" and status["retriesLeft"] == 0 and status["runs"][1]["reasonCreated"] == "retry", status
    (again,) = claim()
    assert again["runId"] == 1
    deadline = time.monotonic() + 30
    while nobody.status(high)["status"]["state"] == "running":
        assert time.monotonic() < deadline, "the claim should have expired"
        time.sleep(0.1)
    run = nobody.status(high)["status"]["runs"][1]
    assert run["reasonResolved"] == "claim-expired", run
    queue.cancelTask(low)


def test_artifacts():
    task_id = create()
    (claimed,) = claim()
    worker = as_task(claimed)
    expires = claimed["task"]["expires"]
    text = ("hello, artifact\n" * 5000).encode()

    def put(answer, data, **headers):
        return requests.put(answer["putUrl"], data=data, headers={"Content-Type": answer["contentType"], **headers})

    new = {"storageType": "s3", "contentType": "text/plain", "contentLength": len(text), "expires": expires}
    answer = worker.createArtifact(task_id, 0, "public/logs/my log.txt", new)
    assert put(answer, gzip.compress(text), **{"Content-Encoding": "gzip"}).status_code == 200
    assert requests.put(answer["putUrl"], data=b"x", headers={"Content-Type": "text/html"}).status_code == 403
    assert requests.get(answer["putUrl"]).status_code == 403
    worker.createArtifact(task_id, 0, "public/logs/my log.txt", new)
    refused(409, "RequestConflict", worker.createArtifact, task_id, 0, "public/logs/my log.txt", {**new, "contentType": "text/html"})
    private = worker.createArtifact(task_id, 0, "private/data.bin", {**new, "contentType": "application/octet-stream"})
    assert put(private, b"\0\1\2").status_code == 200
    url = "https://example.com/x?a=b"
    worker.createArtifact(task_id, 0, "public/live.log", {"storageType": "reference", "contentType": "text/plain", "url": url, "expires": expires})
    assert queue.artifact(task_id, 0, "public/live.log") == {"storageType": "reference", "url": url}
    link = {"storageType": "link", "contentType": "text/plain", "artifact": "public/logs/my log.txt", "expires": expires}
    worker.createArtifact(task_id, 0, "public/live.log", link)
    error = {"storageType": "error", "reason": "file-missing-on-worker", "message": "no such file", "expires": expires}
    worker.createArtifact(task_id, 0, "public/missing", error)
    refused(400, "InputError", worker.createArtifact, task_id, 0, "public/late", {**error, "expires": from_now(days=300)})
    refused(403, "InsufficientScopes", queue_without_scopes().createArtifact, task_id, 0, "public/x", error)

    data, content_type = download.downloadArtifactToBuf(taskId=task_id, name="public/live.log", queueService=nobody)
    assert bytes(data) == text and content_type == "text/plain", (len(data), content_type)
    data, _ = download.downloadArtifactToBuf(taskId=task_id, runId=0, name="private/data.bin", queueService=queue)
    assert bytes(data) == b"\0\1\2"
    refused(403, "InsufficientScopes", nobody.latestArtifact, task_id, "private/data.bin")
    try:
        download.downloadArtifactToBuf(taskId=task_id, name="public/missing", queueService=nobody)
        raise AssertionError("an error artifact has no content")
    except TaskclusterArtifactError as failure:
        assert failure.reason == "file-missing-on-worker", failure.reason

    # What browsers and curl do: a redirect for content, 424 for an error artifact, plain slashes in the path.
    plain = f"{ROOT}/api/queue/v1/task/{task_id}/runs/0/artifacts/public/live.log"
    response = requests.get(plain, allow_redirects=False)
    assert response.status_code == 303 and response.headers["x-taskcluster-artifact-storage-type"] == "s3", response.headers
    assert requests.get(plain).content == text
    response = requests.get(plain.replace("live.log", "missing"))
    assert response.status_code == 424 and response.json()["reason"] == "file-missing-on-worker"
    signed = queue.buildSignedUrl("getArtifact", task_id, "0", "private/data.bin")
    assert requests.get(signed).content == b"\0\1\2"
    assert requests.get(signed.replace("data.bin", "data.bi_")).status_code == 401

    names, token = [], None
    while True:
        query = {"limit": 2, **({"continuationToken": token} if token else {})}
        page = queue.listArtifacts(task_id, 0, query=query)
        assert len(page["artifacts"]) <= 2
        names += [artifact["name"] for artifact in page["artifacts"]]
        token = page.get("continuationToken")
        if token is None:
            break
    assert names == ["private/data.bin", "public/live.log", "public/logs/my log.txt", "public/missing"], names
    assert len(nobody.listLatestArtifacts(task_id)["artifacts"]) == 4
    assert queue.artifactInfo(task_id, 0, "public/live.log")["storageType"] == "link"
    worker.reportFailed(task_id, 0)
    refused(409, "RequestConflict", worker.createArtifact, task_id, 0, "public/after", error)


def queue_without_scopes():
    return taskcluster.Queue({**OPTIONS, "authorizedScopes": []})


def test_short_uploads():
    task_id = create()
    (claimed,) = claim()
    new = {"storageType": "s3", "contentType": "text/plain", "expires": claimed["task"]["expires"]}
    answer = as_task(claimed).createArtifact(task_id, 0, "public/short", new)
    url = urllib.parse.urlsplit(answer["putUrl"])
    if url.scheme == "http":
        import socket

        with socket.create_connection((url.hostname, url.port)) as stream:
            head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nonly this"
            stream.sendall(head.encode())
            stream.shutdown(socket.SHUT_WR)
            answered = stream.recv(4096)
        assert b"200" not in answered.split(b"\r\n")[0], answered
    found = nobody.latestArtifact(task_id, "public/short")
    assert requests.get(found["url"]).status_code == 404
    queue.cancelTask(task_id)


def test_other_places():
    assert nobody.ping()["alive"] is True
    index = taskcluster.Index({"rootUrl": ROOT, "maxRetries": 0})
    assert "not offered" in refused(404, "ResourceNotFound", index.findTask, "some.namespace")


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            started = time.monotonic()
            test()
            print(f"{name}: ok, {time.monotonic() - started:.1f} s", flush=True)
    print("queue session: ok")
