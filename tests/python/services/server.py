"""A server under test, and clients of its services with the rights that a check wants them to have."""

import contextlib
import datetime
import json
import os

import requests
import taskcluster
import taskcluster.aio
from requests.adapters import HTTPAdapter
from taskcluster.exceptions import TaskclusterAuthFailure, TaskclusterRestFailure
from urllib3.util.retry import Retry

CLAIM_TIMEOUT_SECS = 60
NO_CREDENTIALS = {}
# More than a client does without being asked, since faults may come one after the other.
RETRIES = 8

# What roles of the clients file stand for. The second is for every project.
ROLES = {
    "py-sessions:reader": ["auth:current-scopes", "secrets:get:project/py-sessions/*"],
    "py-project:*": ["queue:route:index.py-project.<..>.*"],
}

METADATA = {
    "name": "session",
    "description": "one task of the Python sessions",
    "owner": "nobody@example.com",
    "source": "https://example.com/",
}


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def from_now(**delta):
    return taskcluster.stringDate(now() + datetime.timedelta(**delta))


class Server:
    """`tc-worker queue`, and who calls it."""

    def __init__(self, deployment, faults=(), claim_timeout=CLAIM_TIMEOUT_SECS, roles=ROLES):
        self.faults = list(faults)
        self.reader = {"clientId": "project/py-sessions/reader", "accessToken": taskcluster.slugId() + taskcluster.slugId()}
        roster = deployment.directory / "clients.json"
        roster.touch(0o600)
        roster.write_text(
            json.dumps(
                {
                    "clients": [{**self.reader, "scopes": ["assume:py-sessions:reader", "assume:py-project:one"]}],
                    "roles": [{"roleId": role, "scopes": scopes} for role, scopes in roles.items()],
                    "websocktunnelSecret": taskcluster.slugId() + taskcluster.slugId(),
                }
            )
        )
        options = [option for fault in self.faults for option in ("--fault", fault)]
        exports = deployment.start_queue(claim_timeout, "--clients", str(roster), *options)
        self.deployment = deployment
        # Without faults no retries, so that the first answer is what is seen.
        self.retries = RETRIES if faults else 0
        self.root_url = exports["TASKCLUSTER_ROOT_URL"]
        self.client_id, self.access_token = exports["TASKCLUSTER_CLIENT_ID"], exports["TASKCLUSTER_ACCESS_TOKEN"]
        self.http = requests.Session()
        self.http.trust_env = False  # no proxy between us and loopback
        retry = Retry(self.retries, backoff_factor=0.1, status_forcelist=[500, 502, 503, 504], allowed_methods=None)
        self.http.mount(self.root_url, HTTPAdapter(max_retries=retry))
        self.queue, self.auth = self.client("Queue"), self.client("Auth")

    def options(self, credentials=None, **options):
        if credentials is None:
            credentials = {"clientId": self.client_id, "accessToken": self.access_token}
        # The client changes the dictionary that it is given.
        return {"rootUrl": self.root_url, "maxRetries": self.retries, "credentials": dict(credentials), **options}

    def client(self, service, credentials=None, **options):
        """A client with all scopes, or with these credentials."""
        return getattr(taskcluster, service)(self.options(credentials, **options))

    def anonymous(self, service):
        return self.client(service, NO_CREDENTIALS)

    def limited(self, service, *scopes):
        """A client that uses these scopes only."""
        return self.client(service, authorizedScopes=list(scopes))

    @contextlib.asynccontextmanager
    async def async_client(self, service, credentials=None, **options):
        async with taskcluster.aio.createSession() as session:
            yield getattr(taskcluster.aio, service)(self.options(credentials, **options), session=session)

    def temporary(self, *scopes, name=None, **times):
        """Temporary credentials with these scopes, for an hour unless told otherwise."""
        start, expiry = times.get("start", {"minutes": -1}), times.get("expiry", {"hours": 1})
        made = taskcluster.createTemporaryCredentials(
            self.client_id,
            self.access_token,
            now() + datetime.timedelta(**start),
            now() + datetime.timedelta(**expiry),
            list(scopes),
            name,
        )
        # The client gives some of these as bytes.
        return {key: value.decode() if isinstance(value, bytes) else value for key, value in made.items()}

    def faults_met(self):
        """Those of its faults that requests met, as the server tells."""
        said = self.deployment.queue.err.read_text(errors="replace")
        return [fault for fault in self.faults if "fault `{}`".format(fault) in said]

    def get(self, url, **options):
        """Downloads something, several times if it has to be."""
        for retry in range(self.retries + 1):
            try:
                return self.http.get(url, timeout=60, **options)
            except requests.RequestException:
                if retry == self.retries:
                    raise

    def url(self, path):
        return self.root_url.rstrip("/") + path

    # Tasks, and somebody who works on them.

    def pool(self):
        """A task queue that nobody else uses."""
        return "py-sessions/pool-" + os.urandom(4).hex()

    def definition(self, pool, **more):
        return {
            "taskQueueId": pool,
            "created": from_now(),
            "deadline": from_now(hours=1),
            "expires": from_now(days=1),
            "payload": {},
            "metadata": METADATA,
            **more,
        }

    def create(self, pool, **more):
        task_id = taskcluster.slugId()
        status = self.queue.createTask(task_id, self.definition(pool, **more))["status"]
        assert status["taskId"] == task_id and status["taskQueueId"] == pool, status
        return task_id

    def claim(self, pool, tasks=1):
        return self.queue.claimWork(pool, {"workerGroup": "python", "workerId": "session", "tasks": tasks})["tasks"]

    def claimed(self, pool):
        """A new task with a client that has its credentials, as its worker has."""
        self.create(pool)
        (claim,) = self.claim(pool)
        return claim["status"]["taskId"], self.client("Queue", claim["credentials"])

    def state(self, task_id):
        return self.queue.status(task_id)["status"]["state"]

    def states(self, task_ids):
        return [self.state(task_id) for task_id in task_ids]


def refused(status, code, call, *arguments, **keywords):
    """The message of a call that has to be refused so, in the services' format."""
    try:
        answer = call(*arguments, **keywords)
    except (TaskclusterAuthFailure, TaskclusterRestFailure) as failure:
        body = failure.body
        assert (failure.status_code, body["code"]) == (status, code), (failure.status_code, body)
        assert body["requestInfo"]["method"] and body["requestInfo"]["time"], body
        return body["message"]
    raise AssertionError("{} was expected, not {!r}".format(code, answer))


def pages(call, *arguments, key, limit, **query):
    """All entries of a list, read in pages of at most this many, and how many pages there were."""
    entries, count, token = [], 0, None
    while True:
        count += 1
        assert count < 1000, "the list has no end"
        more = {"continuationToken": token} if token else {}
        page = call(*arguments, query={"limit": limit, **query, **more})
        assert len(page[key]) <= limit, len(page[key])
        entries += page[key]
        token = page.get("continuationToken")
        if not token:
            return entries, count
