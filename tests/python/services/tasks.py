"""The queue's tasks: graphs of them, their order, and what people do to them afterwards."""

import asyncio
import time

import taskcluster

from services.server import METADATA, from_now, pages, refused

LAYERS, WIDTH = 10, 10
SCHEDULER = "python-session"


def a_hundred_tasks_run_in_the_order_of_their_dependencies(s):
    pool, group = s.pool(), taskcluster.slugId()
    layers = [[taskcluster.slugId() for _ in range(WIDTH)] for _ in range(LAYERS)]

    async def create_all():
        async with s.async_client("Queue") as queue:
            for number, layer in enumerate(layers):
                before = layers[number - 1] if number else []
                definition = s.definition(pool, taskGroupId=group, schedulerId=SCHEDULER, dependencies=before)
                answers = await asyncio.gather(*[queue.createTask(task_id, definition) for task_id in layer])
                states = {answer["status"]["state"] for answer in answers}
                assert states == ({"unscheduled"} if before else {"pending"}), states

    asyncio.run(create_all())
    s.group, s.layers = group, layers
    for number, layer in enumerate(layers):
        counts = s.queue.taskQueueCounts(pool)
        assert (counts["pendingTasks"], counts["claimedTasks"]) == (WIDTH, 0), counts
        assert counts["taskQueueId"] == pool, counts
        # More than there are: only those whose dependencies are completed.
        claims = s.claim(pool, tasks=WIDTH + 5)
        assert sorted(claim["status"]["taskId"] for claim in claims) == sorted(layer), claims
        counts = s.queue.taskQueueCounts(pool)
        assert (counts["pendingTasks"], counts["claimedTasks"]) == (0, WIDTH), counts
        for claim in claims:
            if number + 1 < LAYERS:
                assert s.state(layers[number + 1][0]) == "unscheduled"
            worker = s.client("Queue", claim["credentials"])
            worker.reportCompleted(claim["status"]["taskId"], claim["runId"])
    assert s.queue.taskQueueCounts(pool)["pendingTasks"] == 0
    # What waited for nothing else was scheduled because its dependencies were resolved.
    run = s.queue.status(layers[1][0])["status"]["runs"][0]
    assert run["reasonCreated"] == "scheduled" and run["reasonResolved"] == "completed", run


def who_waits_for_work_gets_it_at_once(s):
    pool = s.pool()

    async def wait():
        async with s.async_client("Queue") as queue:
            claims = [
                asyncio.ensure_future(queue.claimWork(pool, {"workerGroup": "python", "workerId": worker, "tasks": 1}))
                for worker in ("first", "second")
            ]
            await queue.ping()
            task_id = taskcluster.slugId()
            await queue.createTask(task_id, s.definition(pool))
            done, waiting = await asyncio.wait(claims, timeout=60, return_when=asyncio.FIRST_COMPLETED)
            (claim,) = done
            assert [entry["status"]["taskId"] for entry in claim.result()["tasks"]] == [task_id]
            assert len(waiting) == 1, "a task was given away twice"
            for claim in waiting:
                claim.cancel()
            return time.monotonic()

    began = time.monotonic()
    # Less than an empty answer takes.
    assert asyncio.run(wait()) - began < 15


def a_group_is_listed_in_pages(s):
    everything = sorted(task_id for layer in s.layers for task_id in layer)
    tasks, count = pages(s.queue.listTaskGroup, s.group, key="tasks", limit=7)
    assert sorted(task["status"]["taskId"] for task in tasks) == everything
    assert count >= len(everything) // 7, count
    assert all(task["task"]["schedulerId"] == SCHEDULER and task["status"]["taskGroupId"] == s.group for task in tasks)
    # The client's own way to read pages.
    found = []
    s.queue.listTaskGroup(s.group, paginationLimit=33, paginationHandler=lambda page: found.append(len(page["tasks"])))
    assert sum(found) == len(everything) and max(found) == 33, found

    page = s.anonymous("Queue").listTaskGroup(s.group)
    assert (page["taskGroupId"], page["schedulerId"]) == (s.group, SCHEDULER) and page["expires"], page.keys()
    assert len(page["tasks"]) == len(everything) and "continuationToken" not in page
    refused(400, "InvalidRequestArguments", s.queue.listTaskGroup, s.group, query={"limit": "many"})
    refused(404, "ResourceNotFound", s.queue.listTaskGroup, taskcluster.slugId())


def dependents_are_listed_in_pages(s):
    first = s.layers[0][0]
    tasks, count = pages(s.queue.listDependentTasks, first, key="tasks", limit=3)
    assert sorted(task["status"]["taskId"] for task in tasks) == sorted(s.layers[1]) and count >= 4, count
    page = s.queue.listDependentTasks(first)
    assert page["taskId"] == first and len(page["tasks"]) == WIDTH
    assert all(first in task["task"]["dependencies"] for task in page["tasks"])
    assert s.queue.listDependentTasks(s.layers[-1][0])["tasks"] == []
    refused(404, "ResourceNotFound", s.queue.listDependentTasks, taskcluster.slugId())


def many_tasks_are_asked_for_at_once(s):
    wanted = [task_id for layer in s.layers for task_id in layer][:30]
    unknown = taskcluster.slugId()

    def ask(call, key):
        found, token = [], None
        while True:
            query = {"limit": 11, **({"continuationToken": token} if token else {})}
            page = call(payload={"taskIds": wanted + [unknown]}, query=query)
            found += [entry["taskId"] for entry in page[key]]
            token = page.get("continuationToken")
            if not token:
                return found

    assert ask(s.queue.tasks, "tasks") == wanted
    assert ask(s.queue.statuses, "statuses") == wanted


def a_task_waits_for_success_or_for_any_end(s):
    pool = s.pool()
    first = s.create(pool)
    strict = s.create(pool, dependencies=[first])
    lax = s.create(pool, dependencies=[first], requires="all-resolved")
    (claim,) = s.claim(pool)
    s.client("Queue", claim["credentials"]).reportFailed(first, 0)
    assert s.states([first, strict, lax]) == ["failed", "unscheduled", "pending"]
    # Somebody decides that it shall run nevertheless.
    status = s.queue.scheduleTask(strict)["status"]
    assert status["state"] == "pending" and status["runs"][0]["reasonCreated"] == "scheduled", status
    assert s.queue.scheduleTask(strict)["status"]["runs"] == status["runs"], "it is scheduled once"
    s.queue.cancelTask(strict), s.queue.cancelTask(lax)


def a_task_that_was_rerun_lets_others_begin(s):
    pool = s.pool()
    first = s.create(pool, retries=3)
    later = s.create(pool, dependencies=[first])
    (claim,) = s.claim(pool)
    status = s.client("Queue", claim["credentials"]).reportException(first, 0, {"reason": "worker-shutdown"})["status"]
    assert status["state"] == "pending" and status["retriesLeft"] == 2, status
    (claim,) = s.claim(pool)
    s.client("Queue", claim["credentials"]).reportFailed(first, 1)
    assert s.states([first, later]) == ["failed", "unscheduled"]

    status = s.queue.rerunTask(first)["status"]
    assert status["state"] == "pending" and status["retriesLeft"] == 3, status
    assert [run["reasonCreated"] for run in status["runs"]] == ["scheduled", "retry", "rerun"], status
    assert len(s.queue.rerunTask(first)["status"]["runs"]) == 3, "it is pending, so nothing is to be done"
    (claim,) = s.claim(pool)
    assert claim["runId"] == 2, claim["runId"]
    s.client("Queue", claim["credentials"]).reportCompleted(first, 2)
    assert s.states([first, later]) == ["completed", "pending"]
    s.queue.cancelTask(later)


def a_cancelled_task_can_be_run_again(s):
    pool = s.pool()
    first = s.create(pool)
    later = s.create(pool, dependencies=[first])
    status = s.queue.cancelTask(later)["status"]
    (run,) = status["runs"]
    assert (status["state"], run["reasonCreated"], run["reasonResolved"]) == ("exception", "exception", "canceled"), status
    assert s.queue.cancelTask(later)["status"] == status, "it is cancelled once"
    assert s.queue.scheduleTask(later)["status"]["state"] == "exception", "what is resolved is not scheduled"
    # Whatever its dependencies are like.
    status = s.queue.rerunTask(later)["status"]
    assert status["state"] == "pending" and status["runs"][1]["reasonCreated"] == "rerun", status
    (one, two) = s.claim(pool, tasks=2)
    s.queue.cancelTask(first)
    refused(409, "RequestConflict", s.client("Queue", one["credentials"]).reclaimTask, first, 0)
    s.client("Queue", two["credentials"]).reportCompleted(later, 1)
    assert s.queue.cancelTask(later)["status"]["state"] == "completed", "what is over stays so"


def priorities_decide_who_is_first(s):
    pool, group = s.pool(), taskcluster.slugId()

    def create(priority, **more):
        return s.create(pool, priority=priority, **more)

    low, high, medium = create("low"), create("high"), create("medium")
    later = create("low", taskGroupId=group, schedulerId=SCHEDULER)
    assert s.queue.changeTaskPriority(low, {"newPriority": "highest"})["status"]["taskId"] == low
    assert s.queue.task(low)["priority"] == "highest"
    answer = s.queue.changeTaskGroupPriority(group, {"newPriority": "very-high"})
    assert (answer["taskGroupId"], answer["tasksAffected"], answer["taskIds"]) == (group, 1, [later]), answer
    order = [claim["status"]["taskId"] for claim in s.claim(pool, tasks=4)]
    assert order == [low, later, high, medium], order
    refused(400, "InputValidationError", s.queue.changeTaskPriority, low, {"newPriority": "urgent"})
    refused(404, "ResourceNotFound", s.queue.changeTaskPriority, taskcluster.slugId(), {"newPriority": "low"})
    for task_id in order:
        s.queue.cancelTask(task_id)


def a_group_has_one_scheduler_and_an_end(s):
    pool, group = s.pool(), taskcluster.slugId()
    member = {"taskGroupId": group, "schedulerId": SCHEDULER}
    done = s.create(pool, **member)
    (claim,) = s.claim(pool)
    s.client("Queue", claim["credentials"]).reportCompleted(done, 0)
    waiting = s.create(pool, **member)
    unscheduled = s.create(pool, dependencies=[waiting], **member)
    stranger = s.definition(pool, taskGroupId=group, schedulerId="somebody-else")
    refused(409, "RequestConflict", s.queue.createTask, taskcluster.slugId(), stranger)
    refused(409, "RequestConflict", s.queue.cancelTaskGroup, group)

    before = s.queue.getTaskGroup(group)
    assert "sealed" not in before and before["schedulerId"] == SCHEDULER, before
    sealed = s.queue.sealTaskGroup(group)
    assert sealed["sealed"] and s.queue.sealTaskGroup(group) == sealed, "it is sealed once"
    assert s.queue.getTaskGroup(group)["sealed"] == sealed["sealed"]
    refused(409, "RequestConflict", s.queue.createTask, taskcluster.slugId(), s.definition(pool, **member))

    answer = s.queue.cancelTaskGroup(group)
    assert (answer["taskGroupSize"], answer["cancelledCount"]) == (3, 2), answer
    assert sorted(answer["taskIds"]) == sorted([waiting, unscheduled]), answer
    assert s.states([done, waiting, unscheduled]) == ["completed", "exception", "exception"]
    refused(404, "ResourceNotFound", s.queue.getTaskGroup, taskcluster.slugId())


def dependencies_have_to_be_there(s):
    pool = s.pool()
    own, missing = taskcluster.slugId(), taskcluster.slugId()
    message = refused(400, "InputError", s.queue.createTask, own, s.definition(pool, dependencies=[missing]))
    assert missing in message, message
    twice = s.create(pool)
    refused(400, "InputValidationError", s.queue.createTask, own, s.definition(pool, dependencies=[twice, twice]))
    refused(400, "InputValidationError", s.queue.createTask, own, s.definition(pool, dependencies=["no-slugid"]))
    # One that waits for itself waits for somebody to schedule it.
    waits = s.queue.createTask(own, s.definition(pool, dependencies=[own]))["status"]
    assert waits["state"] == "unscheduled" and waits["runs"] == [], waits
    assert s.queue.scheduleTask(own)["status"]["state"] == "pending"
    s.queue.cancelTask(own), s.queue.cancelTask(twice)


def a_task_queue_shows_what_waits_and_what_runs(s):
    pool = s.pool()
    task_ids = [s.create(pool) for _ in range(7)]
    refused(400, "InputValidationError", s.queue.claimWork, pool, {"workerGroup": "g", "workerId": "w", "tasks": 0})
    s.claim(pool, tasks=3)
    waiting, count = pages(s.queue.listPendingTasks, pool, key="tasks", limit=2)
    assert [entry["taskId"] for entry in waiting] == task_ids[3:] and count >= 2, waiting
    assert all(entry["runId"] == 0 and entry["inserted"] and entry["task"]["metadata"] == METADATA for entry in waiting)
    running, count = pages(s.queue.listClaimedTasks, pool, key="tasks", limit=2)
    assert sorted(entry["taskId"] for entry in running) == sorted(task_ids[:3]) and count >= 2, running
    assert all((entry["workerGroup"], entry["workerId"]) == ("python", "session") for entry in running), running
    assert s.queue.pendingTasks(pool)["pendingTasks"] == 4

    queues, _ = pages(s.queue.listTaskQueues, key="taskQueues", limit=1)
    assert pool in [queue["taskQueueId"] for queue in queues]
    assert s.queue.getTaskQueue(pool)["taskQueueId"] == pool
    refused(404, "ResourceNotFound", s.queue.getTaskQueue, "py-sessions/nowhere")
    provisioner, worker_type = pool.split("/")
    worker = s.queue.getWorker(provisioner, worker_type, "python", "session")
    assert sorted(run["taskId"] for run in worker["recentTasks"]) == sorted(task_ids[:3]), worker
    workers = s.queue.listWorkers(provisioner, worker_type)["workers"]
    assert [(worker["workerGroup"], worker["workerId"]) for worker in workers] == [("python", "session")], workers
    assert provisioner in [entry["provisionerId"] for entry in s.queue.listProvisioners()["provisioners"]]
    assert s.queue.getProvisioner(provisioner)["provisionerId"] == provisioner
    assert worker_type in [entry["workerType"] for entry in s.queue.listWorkerTypes(provisioner)["workerTypes"]]
    assert s.queue.getWorkerType(provisioner, worker_type)["workerType"] == worker_type
    for task_id in task_ids:
        s.queue.cancelTask(task_id)


def a_worker_in_quarantine_gets_nothing(s):
    pool = s.pool()
    worker = [*pool.split("/"), "python", "session"]
    refused(404, "ResourceNotFound", s.queue.quarantineWorker, *worker, {"quarantineUntil": from_now(hours=1)})
    # It is known since it asked for work.
    s.claimed(pool)
    s.queue.quarantineWorker(*worker, {"quarantineUntil": from_now(hours=1), "quarantineInfo": "a check"})
    seen = s.queue.getWorker(*worker)
    assert seen["quarantineUntil"] and seen["quarantineDetails"][0]["quarantineInfo"] == "a check", seen
    listed = s.queue.listWorkers(*worker[:2], query={"quarantined": "true"})["workers"]
    assert [entry["workerId"] for entry in listed] == ["session"], listed
    assert s.queue.listWorkers(*worker[:2], query={"quarantined": "false"})["workers"] == []

    async def claim():
        async with s.async_client("Queue") as queue:
            first = asyncio.ensure_future(queue.claimWork(pool, {"workerGroup": "python", "workerId": "session", "tasks": 1}))
            # This one has waited for longer, and does not get it.
            await queue.ping()
            await queue.ping()
            task_id = taskcluster.slugId()
            await queue.createTask(task_id, s.definition(pool))
            other = await queue.claimWork(pool, {"workerGroup": "python", "workerId": "another", "tasks": 1})
            assert [entry["status"]["taskId"] for entry in other["tasks"]] == [task_id], other
            assert not first.done() or (await first)["tasks"] == []
            first.cancel()

    asyncio.run(claim())
    s.queue.quarantineWorker(*worker, {"quarantineUntil": from_now(hours=-1), "quarantineInfo": "it is over"})
    task_id = s.create(pool)
    assert [entry["status"]["taskId"] for entry in s.claim(pool)] == [task_id]


def scopes_decide_who_may_do_what(s):
    pool, group = s.pool(), taskcluster.slugId()
    provisioner = pool.split("/")[0]
    definition = s.definition(pool, taskGroupId=group, schedulerId=SCHEDULER, priority="low")
    enough = [
        "queue:create-task:low:" + provisioner + "/*",
        "queue:scheduler-id:" + SCHEDULER,
        "queue:create-task:project:none",
    ]
    task_id = taskcluster.slugId()
    refused(403, "InsufficientScopes", s.anonymous("Queue").createTask, task_id, definition)
    for left_out in enough:
        less = s.limited("Queue", *[scope for scope in enough if scope != left_out])
        refused(403, "InsufficientScopes", less.createTask, task_id, definition)
    some = s.limited("Queue", *enough)
    refused(403, "InsufficientScopes", some.createTask, task_id, {**definition, "priority": "high"})
    refused(403, "InsufficientScopes", some.createTask, task_id, {**definition, "routes": ["index.x"]})
    message = refused(403, "InsufficientScopes", some.createTask, task_id, {**definition, "scopes": ["other:scope"]})
    assert "other:scope" in message, message
    assert some.createTask(task_id, definition)["status"]["state"] == "pending"

    whole = "{}/{}".format(SCHEDULER, group)
    calls = [
        ("scheduleTask", "queue:schedule-task:" + whole + "/" + task_id, [task_id]),
        ("cancelTask", "queue:cancel-task:" + whole + "/" + task_id, [task_id]),
        ("rerunTask", "queue:rerun-task:" + whole + "/*", [task_id]),
        ("sealTaskGroup", "queue:seal-task-group:" + whole, [group]),
        ("cancelTaskGroup", "queue:cancel-task-group:" + SCHEDULER + "/*", [group]),
    ]
    for name, scope, arguments in calls:
        refused(403, "InsufficientScopes", getattr(some, name), *arguments)
        getattr(s.limited("Queue", scope), name)(*arguments)
    assert s.state(task_id) == "exception"


CHECKS = [
    a_hundred_tasks_run_in_the_order_of_their_dependencies,
    who_waits_for_work_gets_it_at_once,
    a_group_is_listed_in_pages,
    dependents_are_listed_in_pages,
    many_tasks_are_asked_for_at_once,
    a_task_waits_for_success_or_for_any_end,
    a_task_that_was_rerun_lets_others_begin,
    a_cancelled_task_can_be_run_again,
    priorities_decide_who_is_first,
    a_group_has_one_scheduler_and_an_end,
    dependencies_have_to_be_there,
    a_task_queue_shows_what_waits_and_what_runs,
    a_worker_in_quarantine_gets_nothing,
    scopes_decide_who_may_do_what,
]
