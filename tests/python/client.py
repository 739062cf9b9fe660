"""A person at the official Python client: creates tasks, waits for them, reads their logs and artifacts."""

import datetime
import gzip

import requests
import taskcluster
from taskcluster.download import downloadArtifactToBuf
from taskcluster.exceptions import TaskclusterRestFailure

from deployment import PROVISIONER, WORKER_TYPE, wait_for

# So short that a task of a few seconds lives through a reclaim: it is due half-way.
CLAIM_TIMEOUT_SECS = 8
LOG = "public/logs/live_backing.log"


class Session:
    def __init__(self, deployment):
        self.deployment = deployment
        self.http = requests.Session()
        self.http.trust_env = False  # no proxy between us and loopback
        exports = deployment.start_queue(CLAIM_TIMEOUT_SECS)
        self.root_url = exports["TASKCLUSTER_ROOT_URL"]
        self.credentials = {
            "clientId": exports["TASKCLUSTER_CLIENT_ID"],
            "accessToken": exports["TASKCLUSTER_ACCESS_TOKEN"],
        }
        # The client changes the dictionary that it is given.
        self.queue = taskcluster.Queue({"rootUrl": self.root_url, "credentials": dict(self.credentials)})
        self.shared = deployment.directory / "shared"
        self.shared.mkdir()

    # What a person does at the client.

    def create(self, *commands, env=None, artifacts=(), max_run_time=120, retries=0, worker_type=WORKER_TYPE, **payload):
        """Creates a task whose commands are bash scripts, and returns its id."""
        payload = {
            "command": [["bash", "-c", command] for command in commands],
            "env": {"SHARED": str(self.shared), **(env or {})},
            "artifacts": list(artifacts),
            "maxRunTime": max_run_time,
            **payload,
        }
        return self.define(payload, retries=retries, workerType=worker_type)

    def define(self, payload, **definition):
        """Creates a task with this payload, and returns its id."""
        now = datetime.datetime.now(datetime.timezone.utc)
        task_id = taskcluster.slugId()
        definition = {
            "provisionerId": PROVISIONER,
            "workerType": WORKER_TYPE,
            "created": taskcluster.stringDate(now),
            "deadline": taskcluster.stringDate(now + datetime.timedelta(hours=1)),
            "expires": taskcluster.stringDate(now + datetime.timedelta(days=1)),
            "retries": 0,
            "metadata": {
                "name": "session",
                "description": "one task of the Python session",
                "owner": "nobody@example.com",
                "source": "https://example.com/",
            },
            "payload": payload,
            **definition,
        }
        status = self.queue.createTask(task_id, definition)["status"]
        # With dependencies it may have to wait; these are resolved already.
        assert status["state"] == "pending", status
        return task_id

    def status(self, task_id):
        return self.queue.status(task_id)["status"]

    def running(self, task_id):
        def probe():
            self.deployment.worker.check_alive()
            state = self.status(task_id)["state"]
            assert state in ("pending", "running"), f"already {state}"
            return state == "running"

        wait_for(f"task {task_id} runs", probe)

    def resolved(self, task_id, state, reason=None):
        """Waits for the end of a task, which has to be this one. Returns the task's status."""

        def probe():
            if self.deployment.worker.process.returncode is None:
                self.deployment.worker.check_alive()
            status = self.status(task_id)
            return status if status["state"] in ("completed", "failed", "exception") else None

        status = wait_for(f"task {task_id} is resolved", probe)
        last = status["runs"][-1]
        expected = (state, reason or state)
        actual = (status["state"], last["reasonResolved"])
        log = self.log(task_id) if actual != expected and self.has(task_id, LOG) else "(none)"
        assert actual == expected, f"{actual} instead of {expected}; log:\n{log}"
        return status

    def artifacts(self, task_id, run_id=None):
        if run_id is None:
            answer = self.queue.listLatestArtifacts(task_id)
        else:
            answer = self.queue.listArtifacts(task_id, run_id)
        return {artifact["name"]: artifact for artifact in answer["artifacts"]}

    def has(self, task_id, name):
        try:
            return name in self.artifacts(task_id)
        except TaskclusterRestFailure:
            return False

    def download(self, task_id, name, run_id=None):
        data, content_type = downloadArtifactToBuf(taskId=task_id, runId=run_id, name=name, queueService=self.queue)
        return bytes(data), content_type

    def stored(self, task_id, name):
        """The bytes as they are stored, with their headers: no content encoding is removed."""
        url = self.queue.latestArtifact(task_id, name)["url"]
        with self.http.get(url, stream=True, timeout=30) as answer:
            answer.raise_for_status()
            return answer.raw.read(decode_content=False), answer.headers

    def log(self, task_id):
        """The backing log of a resolved task, unpacked here."""
        data, headers = self.stored(task_id, LOG)
        assert headers["Content-Encoding"] == "gzip", headers
        assert headers["Content-Type"] == "text/plain; charset=utf-8", headers
        return gzip.decompress(data).decode()
