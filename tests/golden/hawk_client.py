"""Writes hawk_client.json: what clients that we did not write (PyPI `mohawk` and `taskcluster`) sign, at a fixed date.

The worker's own signer has to give the same signatures, and the same `ext` for the same credentials. Temporary credentials have a
random seed, so each run of this script makes other ones.
"""

import base64
import datetime
import json
import pathlib
import re

import mohawk
import mohawk.bewit
import taskcluster
from taskcluster.client import createTemporaryCredentials

NOW = 1900000000
PERMANENT = {"clientId": "test/root@x.example|a_b-c", "accessToken": "no-real-secret-91c0aa3e"}


def temporary(name=None):
    return createTemporaryCredentials(
        PERMANENT["clientId"],
        PERMANENT["accessToken"],
        datetime.datetime.fromtimestamp(NOW - 900, datetime.timezone.utc),
        datetime.datetime.fromtimestamp(NOW + 900, datetime.timezone.utc),
        ["queue:reclaim-task:x/0", "assume:\u00e4"],
        name=name,
    )


def own_ext(credentials, scopes):
    """What the official client puts into `ext`, as an object."""
    options = {"rootUrl": "https://tc.example.com", "credentials": credentials}
    if scopes is not None:
        options["authorizedScopes"] = scopes
    return json.loads(base64.urlsafe_b64decode(taskcluster.Queue(options).makeHawkExt()))


def case(name, credentials, method, url, scopes=None):
    content = own_ext(credentials, scopes)
    ext = base64.b64encode(json.dumps(content, separators=(",", ":")).encode()).decode() if content else ""
    key = {"id": credentials["clientId"], "key": credentials["accessToken"], "algorithm": "sha256"}
    sender = mohawk.Sender(key, url, method, nonce="n0nce1", ext=ext or None, always_hash_content=False, _timestamp=NOW)
    fields = dict(re.findall(r'(\w+)="([^"]*)"', sender.request_header))
    assert "hash" not in fields
    resource = mohawk.base.Resource(
        credentials=key, method="GET", nonce="", timestamp=NOW + 60, url=url, ext=ext, always_hash_content=False
    )
    return {
        "name": name,
        "credentials": credentials,
        "authorizedScopes": scopes,
        "method": method,
        "url": url,
        "extObject": content,
        "header": fields,
        "bewit": mohawk.bewit.get_bewit(resource),
    }


QUEUE = "https://tc.example.com/api/queue/v1"
cases = [
    case("plain", PERMANENT, "GET", f"{QUEUE}/ping"),
    case("post", PERMANENT, "POST", f"{QUEUE}/claim-work/a%2Fb"),
    case("query", PERMANENT, "GET", "https://tc.example.com/api/purge-cache/v1/purge-cache/a%2Fb?since=2026-01-01T00%3A00%3A00.000Z"),
    case("port", PERMANENT, "PUT", "http://127.0.0.1:8080/api/queue/v1/task/x"),
    case("http", PERMANENT, "GET", "http://tc.example.com/api/queue/v1/ping"),
    case("odd name", PERMANENT, "POST", f"{QUEUE}/task/x/runs/0/artifacts/public%2Fa%20b%2B%25%C3%A4%27%21"),
    case("restricted", PERMANENT, "GET", f"{QUEUE}/ping", ["a:b", "c:*"]),
    case("restricted to nothing", PERMANENT, "GET", f"{QUEUE}/ping", []),
    case("temporary", temporary(), "POST", f"{QUEUE}/task/x/runs/0/reclaim"),
    case("named", temporary("test/named"), "POST", f"{QUEUE}/task/x/runs/0/completed"),
    case("named and restricted", temporary("test/named"), "GET", f"{QUEUE}/ping", ["queue:reclaim-task:x/0"]),
]
target = pathlib.Path(__file__).with_suffix(".json")
target.write_text(json.dumps({"now": NOW, "nonce": "n0nce1", "cases": cases}, indent=1, default=bytes.decode) + "\n")
