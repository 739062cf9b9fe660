"""The queue's artifacts, of every kind: as workers make them, and as people and programs get them."""

import asyncio
import gzip
import hashlib
import io
import socket
import urllib.parse

import taskcluster
from taskcluster import download, upload
from taskcluster.aio import download as aio_download
from taskcluster.aio import upload as aio_upload
from taskcluster.exceptions import TaskclusterArtifactError, TaskclusterFailure

from services.server import from_now, pages, refused

TEXT = "".join("line {} of an artifact\n".format(number) for number in range(5000)).encode()
EXPIRES = {"hours": 12}
PREFIX = "/api/queue/v1/task/"


def new(kind, content_type="text/plain", **more):
    return {"storageType": kind, "contentType": content_type, "expires": from_now(**EXPIRES), **more}


def put(s, answer, data, **headers):
    return s.http.put(answer["putUrl"], data=data, headers={"Content-Type": answer["contentType"], **headers}, timeout=60)


def fetched(s, task_id, name, **options):
    return s.get(s.url(PREFIX + task_id + "/artifacts/" + name), **options)


def downloaded(s, task_id, name, **options):
    data, content_type = download.downloadArtifactToBuf(taskId=task_id, name=name, queueService=s.queue, **options)
    return bytes(data), content_type


def files_are_put_behind_a_signed_url(s):
    s.task_id, s.worker = s.claimed(s.pool())
    answer = s.worker.createArtifact(s.task_id, 0, "public/log.txt", new("s3", contentLength=len(TEXT)))
    assert answer["storageType"] == "s3" and answer["expires"] and answer["contentType"] == "text/plain", answer
    assert put(s, answer, gzip.compress(TEXT), **{"Content-Encoding": "gzip"}).status_code == 200
    answer = s.worker.createArtifact(s.task_id, 0, "private/plain.bin", new("s3", "application/octet-stream"))
    assert put(s, answer, b"\0\1\2").status_code == 200
    empty = s.worker.createArtifact(s.task_id, 0, "public/empty", new("s3"))
    assert put(s, empty, b"").status_code == 200

    # The helper of the client removes the encoding, and so does whoever follows redirects.
    assert downloaded(s, s.task_id, "public/log.txt") == (TEXT, "text/plain")
    assert downloaded(s, s.task_id, "public/log.txt", runId=0)[0] == TEXT
    assert downloaded(s, s.task_id, "private/plain.bin") == (b"\0\1\2", "application/octet-stream")
    assert downloaded(s, s.task_id, "public/empty")[0] == b""
    assert fetched(s, s.task_id, "public/log.txt").content == TEXT
    redirect = fetched(s, s.task_id, "public/log.txt", allow_redirects=False)
    assert redirect.status_code == 303 and redirect.headers["x-taskcluster-artifact-storage-type"] == "s3", redirect.headers
    assert redirect.json()["url"] == redirect.headers["location"], redirect.json()
    stored = s.get(redirect.headers["location"])
    assert stored.headers["Content-Encoding"] == "gzip" and stored.content == TEXT, stored.headers

    assert s.queue.artifactInfo(s.task_id, 0, "public/log.txt")["contentType"] == "text/plain"
    assert s.queue.latestArtifactInfo(s.task_id, "private/plain.bin")["storageType"] == "s3"


def an_upload_is_what_it_was_announced_to_be(s):
    answer = s.worker.createArtifact(s.task_id, 0, "public/strict", new("s3"))
    assert s.http.put(answer["putUrl"], data=b"x", headers={"Content-Type": "text/html"}, timeout=60).status_code == 403
    changed = answer["putUrl"][:-2] + ("aa" if not answer["putUrl"].endswith("aa") else "bb")
    assert put(s, {**answer, "putUrl": changed}, b"x").status_code == 403
    assert s.get(answer["putUrl"]).status_code == 403
    # The same announcement again is no problem; another one under this name is.
    again = s.worker.createArtifact(s.task_id, 0, "public/strict", new("s3"))
    assert put(s, again, b"x").status_code == 200
    refused(409, "RequestConflict", s.worker.createArtifact, s.task_id, 0, "public/strict", new("s3", "text/html"))
    refused(400, "InputValidationError", s.worker.createArtifact, s.task_id, 0, "public/odd", new("tape"))
    late = {**new("s3"), "expires": from_now(days=300)}
    refused(400, "InputError", s.worker.createArtifact, s.task_id, 0, "public/late", late)
    refused(400, "InputError", s.worker.finishArtifact, s.task_id, 0, "public/strict", {"uploadId": taskcluster.slugId()})


def an_upload_that_ends_early_is_none(s):
    answer = s.worker.createArtifact(s.task_id, 0, "public/early", new("s3"))
    url = urllib.parse.urlsplit(answer["putUrl"])
    head = "PUT {}?{} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nonly this"
    with socket.create_connection((url.hostname, url.port), timeout=60) as stream:
        stream.sendall(head.format(url.path, url.query, url.netloc).encode())
        stream.shutdown(socket.SHUT_WR)
        assert b" 200 " not in stream.recv(4096).split(b"\r\n")[0]
    assert s.get(s.queue.latestArtifact(s.task_id, "public/early")["url"]).status_code == 404
    assert put(s, answer, b"all of it").status_code == 200
    assert downloaded(s, s.task_id, "public/early")[0] == b"all of it"


def references_links_and_errors_have_no_bytes(s):
    url = "https://example.com/elsewhere?a=b"
    s.worker.createArtifact(s.task_id, 0, "public/live.log", new("reference", url=url))
    assert s.queue.artifact(s.task_id, 0, "public/live.log") == {"storageType": "reference", "url": url}
    assert fetched(s, s.task_id, "public/live.log", allow_redirects=False).headers["location"] == url
    # A live log ends so: its name leads to the file.
    s.worker.createArtifact(s.task_id, 0, "public/live.log", new("link", artifact="public/log.txt"))
    assert s.queue.artifactInfo(s.task_id, 0, "public/live.log")["storageType"] == "link"
    assert downloaded(s, s.task_id, "public/live.log")[0] == TEXT
    assert fetched(s, s.task_id, "public/live.log").content == TEXT

    # A link to what only some may read is read by them only.
    s.worker.createArtifact(s.task_id, 0, "public/to-private", new("link", artifact="private/plain.bin"))
    assert fetched(s, s.task_id, "public/to-private").status_code == 403
    assert downloaded(s, s.task_id, "public/to-private")[0] == b"\0\1\2"
    s.worker.createArtifact(s.task_id, 0, "public/a", new("link", artifact="public/b"))
    s.worker.createArtifact(s.task_id, 0, "public/b", new("link", artifact="public/a"))
    assert 400 <= fetched(s, s.task_id, "public/a", allow_redirects=False).status_code < 500

    error = {"storageType": "error", "reason": "too-large-file-on-worker", "message": "too much", "expires": from_now(**EXPIRES)}
    s.worker.createArtifact(s.task_id, 0, "public/missing", error)
    answer = fetched(s, s.task_id, "public/missing")
    assert answer.status_code == 424 and answer.json()["reason"] == "too-large-file-on-worker", answer.text
    assert s.queue.artifact(s.task_id, 0, "public/missing")["storageType"] == "error"
    try:
        downloaded(s, s.task_id, "public/missing")
    except TaskclusterArtifactError as failure:
        assert failure.reason == "too-large-file-on-worker" and "too much" in str(failure), failure
    else:
        raise AssertionError("an error has no bytes")
    refused(404, "ResourceNotFound", s.queue.artifact, s.task_id, 0, "public/nothing")
    assert fetched(s, s.task_id, "public/nothing").status_code == 404


def announced(s, name, content_type, length):
    """An object, and a client that may upload it."""
    answer = s.worker.createArtifact(s.task_id, 0, name, new("object", content_type, contentLength=length))
    assert answer["storageType"] == "object" and answer["credentials"]["certificate"], answer.keys()
    # Like those of real deployments, its credentials are good for this object only.
    return answer, s.client("Object", answer["credentials"])


def objects_are_uploaded_by_the_helpers_of_the_client(s):
    # Small ones travel in the call itself, large ones to a URL.
    for name, data in (("public/small", b"a few bytes\n"), ("public/large", TEXT)):
        answer, service = announced(s, name, "text/plain", len(data))
        upload.uploadFromBuf(
            projectId=answer["projectId"],
            name=answer["name"],
            contentType="text/plain",
            contentLength=len(data),
            expires=answer["expires"],
            data=data,
            uploadId=answer["uploadId"],
            objectService=service,
        )
        # It is there when the worker says so.
        refused(404, "ResourceNotFound", s.queue.artifact, s.task_id, 0, name)
        refused(400, "InputError", s.worker.finishArtifact, s.task_id, 0, name, {"uploadId": taskcluster.slugId()})
        s.worker.finishArtifact(s.task_id, 0, name, {"uploadId": answer["uploadId"]})
        found = s.queue.artifact(s.task_id, 0, name)
        assert found["storageType"] == "object" and found["name"] == answer["name"], found.keys()
        assert downloaded(s, s.task_id, name) == (data, "text/plain")
        assert fetched(s, s.task_id, name).content == data

        reader = s.client("Object", found["credentials"])
        metadata = reader.object(found["name"])
        assert metadata["hashes"]["sha256"] == hashlib.sha256(data).hexdigest(), metadata
        file = io.BytesIO()
        assert download.downloadToFile(file, name=found["name"], objectService=reader) == "text/plain"
        assert file.getvalue() == data
        simple = reader.startDownload(found["name"], {"acceptDownloadMethods": {"simple": True}})
        assert s.get(simple["url"]).content == data
        redirect = reader.download(found["name"])["response"]
        assert s.get(redirect.headers["location"]).content == data


def objects_are_uploaded_by_many_at_once(s):
    contents = {"public/many/{}".format(number): TEXT[: 3000 * (number + 1)] for number in range(8)}

    async def one(name, data):
        async with s.async_client("Queue", s.worker.options["credentials"]) as queue:
            answer = await queue.createArtifact(s.task_id, 0, name, new("object", contentLength=len(data)))
            async with s.async_client("Object", answer["credentials"]) as service:
                await aio_upload.uploadFromBuf(
                    projectId=answer["projectId"],
                    name=answer["name"],
                    contentType="text/plain",
                    contentLength=len(data),
                    expires=answer["expires"],
                    data=data,
                    uploadId=answer["uploadId"],
                    objectService=service,
                )
            await queue.finishArtifact(s.task_id, 0, name, {"uploadId": answer["uploadId"]})
            found, _ = await aio_download.downloadArtifactToBuf(taskId=s.task_id, name=name, queueService=queue)
            assert bytes(found) == data, name

    async def everything():
        await asyncio.gather(*[one(name, data) for name, data in contents.items()])

    asyncio.run(everything())


def an_object_has_to_be_what_its_hashes_say(s):
    answer, service = announced(s, "public/hashed", "text/plain", 4)
    identity = {"projectId": answer["projectId"], "uploadId": answer["uploadId"]}
    method = {"dataInline": {"contentType": "text/plain", "objectData": "AAECAw=="}}
    upload_request = {**identity, "expires": answer["expires"], "proposedUploadMethods": method}
    refused(403, "InsufficientScopes", service.createUpload, answer["name"] + "x", upload_request)
    made = service.createUpload(answer["name"], upload_request)
    assert "dataInline" in made["uploadMethod"], made
    wrong = {"sha256": hashlib.sha256(b"something else").hexdigest()}
    refused(400, "InputError", service.finishUpload, answer["name"], {**identity, "hashes": wrong})
    right = {"sha256": hashlib.sha256(b"\0\1\2\3").hexdigest()}
    service.finishUpload(answer["name"], {**identity, "hashes": right})
    s.worker.finishArtifact(s.task_id, 0, "public/hashed", {"uploadId": answer["uploadId"]})
    assert downloaded(s, s.task_id, "public/hashed")[0] == b"\0\1\2\3"

    # Another number of bytes than was announced.
    answer, service = announced(s, "public/short", "text/plain", 20000)
    identity = {"projectId": answer["projectId"], "uploadId": answer["uploadId"]}
    method = {"putUrl": {"contentType": "text/plain", "contentLength": 20000}}
    made = service.createUpload(answer["name"], {**identity, "expires": answer["expires"], "proposedUploadMethods": method})
    way = made["uploadMethod"]["putUrl"]
    headers = {name: value for name, value in way["headers"].items() if name.lower() != "content-length"}
    for data in (b"not so many", b"x" * 20001):
        assert 400 <= s.http.put(way["url"], data=data, headers=headers, timeout=60).status_code < 500, len(data)
    refused(400, "InputError", service.finishUpload, answer["name"], identity)
    refused(404, "ResourceNotFound", s.queue.artifact, s.task_id, 0, "public/short")


def lists_have_pages_and_names_are_what_they_are(s):
    for name in ("public/with space", "public/ü/ß", "public/a%2Fb", "public/per%cent", "public/plus+and&what?#"):
        answer = s.worker.createArtifact(s.task_id, 0, name, new("s3"))
        assert put(s, answer, name.encode()).status_code == 200
        assert downloaded(s, s.task_id, name)[0] == name.encode(), name
    for name in ("../escape", "public/../../escape", "/etc/passwd", "public//x"):
        # Whatever becomes of such a name, it is a name and no path.
        try:
            answer = s.worker.createArtifact(s.task_id, 0, name, new("s3"))
        except TaskclusterFailure as failure:
            assert 400 <= failure.status_code < 500, failure
            continue
        assert put(s, answer, name.encode()).status_code == 200
        assert downloaded(s, s.task_id, name)[0] == name.encode(), name
    everything = [entry["name"] for entry in s.queue.listArtifacts(s.task_id, 0)["artifacts"]]
    found, count = pages(s.queue.listArtifacts, s.task_id, 0, key="artifacts", limit=5)
    assert [entry["name"] for entry in found] == everything and count >= len(everything) // 5, (found, everything)
    found, _ = pages(s.anonymous("Queue").listLatestArtifacts, s.task_id, key="artifacts", limit=4)
    assert [entry["name"] for entry in found] == everything
    refused(404, "ResourceNotFound", s.queue.listArtifacts, s.task_id, 1)


def private_artifacts_are_for_those_who_may(s):
    nobody = s.anonymous("Queue")
    refused(403, "InsufficientScopes", nobody.latestArtifact, s.task_id, "private/plain.bin")
    assert nobody.latestArtifact(s.task_id, "public/log.txt")["storageType"] == "s3"
    refused(403, "InsufficientScopes", s.limited("Queue").getArtifact, s.task_id, 0, "private/plain.bin")
    some = s.limited("Queue", "queue:get-artifact:private/*")
    # A redirect is an answer of this client, not its content.
    assert some.latestArtifact(s.task_id, "private/plain.bin")["url"]
    signed = some.buildSignedUrl("getLatestArtifact", s.task_id, "private/plain.bin", expiration=60)
    assert s.get(signed).content == b"\0\1\2"
    assert s.get(signed.replace("plain.bin", "plain.bix")).status_code == 401
    old = some.buildSignedUrl("getLatestArtifact", s.task_id, "private/plain.bin", expiration=-3600)
    assert s.get(old).status_code == 401


def the_latest_run_has_artifacts_of_its_own(s):
    s.worker.reportFailed(s.task_id, 0)
    refused(409, "RequestConflict", s.worker.createArtifact, s.task_id, 0, "public/after", new("s3"))
    pool = s.queue.rerunTask(s.task_id)["status"]["taskQueueId"]
    (claim,) = s.claim(pool)
    worker = s.client("Queue", claim["credentials"])
    refused(403, "InsufficientScopes", worker.createArtifact, s.task_id, 0, "public/log.txt", new("s3"))
    answer = worker.createArtifact(s.task_id, 1, "public/log.txt", new("s3"))
    assert put(s, answer, b"the second run").status_code == 200
    assert downloaded(s, s.task_id, "public/log.txt")[0] == b"the second run"
    assert downloaded(s, s.task_id, "public/log.txt", runId=0)[0] == TEXT
    assert [entry["name"] for entry in s.queue.listLatestArtifacts(s.task_id)["artifacts"]] == ["public/log.txt"]
    worker.reportCompleted(s.task_id, 1)


CHECKS = [
    files_are_put_behind_a_signed_url,
    an_upload_is_what_it_was_announced_to_be,
    an_upload_that_ends_early_is_none,
    references_links_and_errors_have_no_bytes,
    objects_are_uploaded_by_the_helpers_of_the_client,
    objects_are_uploaded_by_many_at_once,
    an_object_has_to_be_what_its_hashes_say,
    lists_have_pages_and_names_are_what_they_are,
    private_artifacts_are_for_those_who_may,
    the_latest_run_has_artifacts_of_its_own,
]
