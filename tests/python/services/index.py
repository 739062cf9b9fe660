"""The index: what is found under a name, and who comes first."""

import asyncio

import taskcluster

from services.server import from_now, pages, refused

NAMESPACE = "py.sessions"


def entry(task_id, rank=0, **more):
    return {"taskId": task_id, "rank": rank, "data": {}, "expires": from_now(hours=1), **more}


def the_highest_rank_is_found(s):
    s.index = s.client("Index")
    path = NAMESPACE + ".ranked.app"
    first, second, third = [taskcluster.slugId() for _ in range(3)]
    made = s.index.insertTask(path, entry(first, 5, data={"size": 1}))
    assert (made["namespace"], made["taskId"], made["rank"], made["data"]) == (path, first, 5, {"size": 1}), made
    s.index.insertTask(path, entry(second, 4))
    assert s.index.findTask(path)["taskId"] == first, "a lower rank does not replace a higher one"
    s.index.insertTask(path, entry(third, 5))
    assert s.anonymous("Index").findTask(path)["taskId"] == third, "the same rank does"
    refused(404, "ResourceNotFound", s.index.findTask, NAMESPACE + ".ranked.nothing")
    refused(404, "ResourceNotFound", s.index.findTask, NAMESPACE + ".ranked")
    s.index.insertTask(path + ".old", entry(first, expires=from_now(hours=-1)))
    refused(404, "ResourceNotFound", s.index.findTask, path + ".old")
    refused(400, "InvalidRequestArguments", s.index.findTask, "no..path")
    refused(400, "InputValidationError", s.index.insertTask, path, entry("no-slugid"))


def namespaces_and_tasks_are_listed_in_pages(s):
    expected = {}

    async def insert_all():
        async with s.async_client("Index") as index:
            for number in range(25):
                expected["{}.many.task-{:02}".format(NAMESPACE, number)] = taskcluster.slugId()
            below = {"{}.many.space-{}.{}".format(NAMESPACE, n, leaf): taskcluster.slugId() for n in range(6) for leaf in "ab"}
            everything = {**expected, **below}.items()
            await asyncio.gather(*[index.insertTask(path, entry(task_id)) for path, task_id in everything])

    asyncio.run(insert_all())
    tasks, count = pages(s.index.listTasks, NAMESPACE + ".many", key="tasks", limit=10)
    assert {task["namespace"]: task["taskId"] for task in tasks} == expected and len(tasks) == 25 and count >= 3, tasks
    spaces, count = pages(s.index.listNamespaces, NAMESPACE + ".many", key="namespaces", limit=4)
    assert [space["name"] for space in spaces] == ["space-{}".format(n) for n in range(6)] and count >= 2, spaces
    assert spaces[0]["namespace"] == NAMESPACE + ".many.space-0" and spaces[0]["expires"], spaces[0]
    assert s.index.listTasks(NAMESPACE + ".nothing")["tasks"] == []
    assert s.index.listNamespaces(NAMESPACE + ".nothing")["namespaces"] == []

    wanted = sorted(expected)[3:20]
    found, token = [], None
    while True:
        query = {"limit": 5, **({"continuationToken": token} if token else {})}
        page = s.index.findTasksAtIndex(payload={"indexes": wanted + [NAMESPACE + ".many.nothing"]}, query=query)
        assert len(page["tasks"]) <= 5, page
        found += page["tasks"]
        token = page.get("continuationToken")
        if not token:
            break
    assert {task["namespace"]: task["taskId"] for task in found} == {path: expected[path] for path in wanted}, found
    assert s.index.findTasksAtIndex({"indexes": []})["tasks"] == []


def an_entry_is_deleted(s):
    path = NAMESPACE + ".gone.task"
    s.index.insertTask(path, entry(taskcluster.slugId()))
    refused(403, "InsufficientScopes", s.limited("Index", "index:insert-task:*").deleteTask, path)
    s.limited("Index", "index:delete-task:" + NAMESPACE + ".gone.*").deleteTask(path)
    refused(404, "ResourceNotFound", s.index.findTask, path)


def routes_index_what_completes(s):
    pool, path = s.pool(), NAMESPACE + ".routed.app"
    routes = ["index." + path, "index." + path + "-too", "checks"]
    task_id = s.create(pool, routes=routes, extra={"index": {"rank": 7, "data": {"kind": "build"}}})
    (claim,) = s.claim(pool)
    refused(404, "ResourceNotFound", s.index.findTask, path)
    worker = s.client("Queue", claim["credentials"])
    new = {"storageType": "s3", "contentType": "text/plain", "expires": claim["task"]["expires"]}
    for name in ("public/app", "private/app"):
        answer = worker.createArtifact(task_id, 0, name, new)
        s.http.put(answer["putUrl"], data=name.encode(), headers={"Content-Type": "text/plain"}, timeout=60).raise_for_status()
    worker.reportCompleted(task_id, 0)
    for found in (s.index.findTask(path), s.index.findTask(path + "-too")):
        assert (found["taskId"], found["rank"], found["data"]) == (task_id, 7, {"kind": "build"}), found
        assert found["expires"] == claim["task"]["expires"], found
    failed = s.create(pool, routes=["index." + path + "-failed"])
    (claim,) = s.claim(pool)
    s.client("Queue", claim["credentials"]).reportFailed(failed, 0)
    refused(404, "ResourceNotFound", s.index.findTask, path + "-failed")

    # Artifacts by the name in the index: as people type it, and as programs ask.
    url = s.url("/api/index/v1/task/{}/artifacts/public/app".format(path))
    assert s.get(url).content == b"public/app"
    answer = s.index.findArtifactFromTask(path, "public/app")["response"]
    assert 300 <= answer.status_code < 400, answer.status_code
    assert s.get(answer.headers["location"]).content == b"public/app"
    refused(404, "ResourceNotFound", s.index.findArtifactFromTask, path + "-failed", "public/app")
    refused(403, "InsufficientScopes", s.anonymous("Index").findArtifactFromTask, path, "private/app")
    signed = s.index.buildSignedUrl("findArtifactFromTask", path, "private/app")
    assert s.get(signed).content == b"private/app"


def scopes_are_those_of_the_path(s):
    some = s.limited("Index", "index:insert-task:" + NAMESPACE + ".mine.*")
    task_id = taskcluster.slugId()
    some.insertTask(NAMESPACE + ".mine.a", entry(task_id))
    refused(403, "InsufficientScopes", some.insertTask, NAMESPACE + ".other.a", entry(task_id))
    refused(403, "InsufficientScopes", s.anonymous("Index").insertTask, NAMESPACE + ".mine.a", entry(task_id))


CHECKS = [
    the_highest_rank_is_found,
    namespaces_and_tasks_are_listed_in_pages,
    an_entry_is_deleted,
    routes_index_what_completes,
    scopes_are_those_of_the_path,
]
