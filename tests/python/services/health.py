"""What every service says about itself, and what is said of those that are not there."""

import taskcluster

from services.server import refused

SERVICES = ["Queue", "Index", "Object", "PurgeCache", "Secrets", "Auth", "WorkerManager"]


def services_are_alive_for_everybody(s):
    for service in SERVICES:
        for client in (s.anonymous(service), s.client(service)):
            answer = client.ping()
            assert answer["alive"] is True and answer["uptime"] >= 0, (service, answer)
            client.lbheartbeat()
            client.heartbeat()
            assert client.version()["version"], service


def what_is_not_offered_says_so(s):
    pool = s.pool()
    calls = [
        (s.auth.awsS3Credentials, "read-only", "bucket", "prefix/"),
        (s.auth.gcpCredentials, "project", "account"),
        (s.client("WorkerManager").listWorkerPoolLaunchConfigs, pool),
        (s.client("Hooks").listHookGroups,),
        (s.client("Notify").ping,),
        (s.client("Github").ping,),
    ]
    for call, *arguments in calls:
        message = refused(404, "ResourceNotFound", call, *arguments)
        assert "not offered" in message, message
    for path in ("/api/queue/v2/ping", "/api/queue/v1/nothing", "/api", "/", "/api/queue/v1/../../etc/passwd", "/api//v1/ping"):
        answer = s.get(s.url(path))
        assert answer.status_code == 404 and answer.json()["code"] == "ResourceNotFound", (path, answer.text)
    answer = s.http.delete(s.url("/api/queue/v1/ping"), timeout=60)
    assert answer.status_code in (404, 405) and answer.json()["code"], answer.text


def bodies_are_bounded_and_have_to_be_json(s):
    url = s.url("/api/queue/v1/task/" + taskcluster.slugId())
    for body in (b"{", b"\xff\xfe", b"[]", b"null", b'{"a": ' * 5000):
        answer = s.http.put(url, data=body, headers={"Content-Type": "application/json"}, timeout=60)
        assert 400 <= answer.status_code < 500 and answer.json()["message"], answer.text
    answer = s.http.put(url, data=b" " * (30 << 20), headers={"Content-Type": "application/json"}, timeout=60)
    assert answer.status_code == 413 and answer.json()["code"] == "InputTooLarge", answer.text


CHECKS = [
    services_are_alive_for_everybody,
    what_is_not_offered_says_so,
    bodies_are_bounded_and_have_to_be_json,
]
