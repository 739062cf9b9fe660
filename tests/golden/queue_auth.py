"""Writes queue_auth.json: requests signed by clients that we did not write (PyPI `mohawk` and `taskcluster`), at a fixed date.

The embedded queue has to accept each of them as it is, and none of them with anything changed.
"""

import datetime
import json
import pathlib

import mohawk
import mohawk.bewit
import taskcluster
import taskcluster.utils
from taskcluster.client import createTemporaryCredentials



NOW = 1900000000
CLIENT = {"clientId": "test/root", "accessToken": "no-real-secret-8c1d5e0f7a"}
ISSUED = createTemporaryCredentials(
    CLIENT["clientId"],
    CLIENT["accessToken"],
    datetime.datetime.fromtimestamp(NOW - 900, datetime.timezone.utc),
    datetime.datetime.fromtimestamp(NOW + 900, datetime.timezone.utc),
    ["queue:cancel-task:*"],
    name="test/named",
)
UNNAMED = createTemporaryCredentials(
    CLIENT["clientId"],
    CLIENT["accessToken"],
    datetime.datetime.fromtimestamp(NOW - 900, datetime.timezone.utc),
    datetime.datetime.fromtimestamp(NOW + 900, datetime.timezone.utc),
    ["queue:cancel-task:*", "queue:x"],
)


def ext(credentials, authorized=None):
    content = {}
    if "certificate" in credentials:
        content["certificate"] = json.loads(credentials["certificate"])
    if authorized is not None:
        content["authorizedScopes"] = authorized
    encoded = taskcluster.utils.encodeStringForB64Header(taskcluster.utils.dumpJson(content))
    return (encoded.decode() if isinstance(encoded, bytes) else encoded) if content else None


def key(credentials):
    return {"id": credentials["clientId"], "key": credentials["accessToken"], "algorithm": "sha256"}


def header(name, credentials, method, url, **more):
    authorized = more.pop("authorized", None)
    signed_ext = ext(credentials, authorized)
    sender = mohawk.Sender(
        key(credentials), url, method, _timestamp=NOW, nonce="n0nce1", ext=signed_ext, always_hash_content=False, content="", content_type=""
    )
    return {"name": name, "method": method, "url": url, "authorization": sender.request_header, **more}


def bewit(name, credentials, url, **more):
    resource = mohawk.base.Resource(
        credentials=key(credentials), method="GET", nonce="", timestamp=NOW + 60, url=url, ext=ext(credentials), always_hash_content=False
    )
    signed = mohawk.bewit.get_bewit(resource)
    return {"name": name, "method": "GET", "url": f"{url}{'&' if '?' in url else '?'}bewit={signed}", "authorization": None, **more}


BASE = "http://127.0.0.1:8080/api/queue/v1"
ALL = {"client": CLIENT["clientId"], "has": ["anything"]}
cases = [
    header("plain", CLIENT, "GET", f"{BASE}/ping", **ALL),
    header("query", CLIENT, "GET", f"{BASE}/task/x/artifacts?limit=2&continuationToken=a%2Fb", **ALL),
    header("encoded segment", CLIENT, "POST", f"{BASE}/claim-work/a%2Fb", **ALL),
    header("default port", CLIENT, "GET", "http://queue.example/api/queue/v1/ping", **ALL),
    header("restricted", CLIENT, "GET", f"{BASE}/ping", authorized=["a:b"], client=CLIENT["clientId"], has=["a:b"], hasNot=["a:c"]),
    header("named", ISSUED, "POST", f"{BASE}/task/x/cancel", client="test/named", has=["queue:cancel-task:z"], hasNot=["queue:x"]),
    header("unnamed", UNNAMED, "POST", f"{BASE}/task/x/cancel", client=CLIENT["clientId"], has=["queue:x"], hasNot=["queue:y"]),
    header(
        "named and restricted",
        ISSUED,
        "POST",
        f"{BASE}/task/x/cancel",
        authorized=["queue:cancel-task:y", "queue:status:1"],
        client="test/named",
        has=["queue:cancel-task:y"],
        hasNot=["queue:cancel-task:z"],
    ),
    bewit("bewit", CLIENT, f"{BASE}/task/x/artifacts/private%2Fy", **ALL),
    bewit("bewit and query", CLIENT, f"{BASE}/task/x/artifacts?limit=2", **ALL),
    bewit("bewit, named", ISSUED, f"{BASE}/task/x/artifacts/private%2Fy", client="test/named", has=["queue:cancel-task:z"], hasNot=["queue:x"]),
]
target = pathlib.Path(__file__).with_suffix(".json")
target.write_text(json.dumps({"now": NOW, "client": CLIENT, "cases": cases}, indent=1) + "\n")
