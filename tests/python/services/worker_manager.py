"""The worker manager: machines that somebody else starts get credentials and a configuration, and say what goes wrong."""

import taskcluster

from services.server import from_now, pages, refused

# What a static worker proves itself with has this length.
SECRET, WRONG_SECRET = [taskcluster.slugId() + taskcluster.slugId() for _ in range(2)]
CONFIG = {"genericWorker": {"config": {"idleTimeoutSecs": 60}}}


def definition(**more):
    return {
        "providerId": "static",
        "description": "machines of the Python sessions",
        "owner": "nobody@example.com",
        "emailOnError": False,
        "config": {"workerConfig": CONFIG},
        **more,
    }


def registration(pool, worker_id, **more):
    return {
        "workerPoolId": pool,
        "providerId": "static",
        "workerGroup": "python",
        "workerId": worker_id,
        "workerIdentityProof": {"staticSecret": SECRET},
        **more,
    }


def a_pool_is_made_and_read(s):
    s.manager = s.client("WorkerManager")
    s.machines = s.pool()
    assert "static" in [provider["providerId"] for provider in s.manager.listProviders()["providers"]]
    made = s.manager.createWorkerPool(s.machines, definition())
    assert (made["workerPoolId"], made["config"]["workerConfig"]) == (s.machines, CONFIG), made
    assert s.manager.workerPool(s.machines)["owner"] == "nobody@example.com"
    changed = s.manager.updateWorkerPool(s.machines, definition(description="others"))
    assert changed["description"] == "others" and changed["created"] == made["created"], changed
    refused(404, "ResourceNotFound", s.manager.workerPool, "py-sessions/nowhere")
    refused(400, "InputError", s.manager.createWorkerPool, s.pool(), definition(providerId="some-cloud"))
    some = s.limited("WorkerManager", "worker-manager:manage-worker-pool:other/*", "worker-manager:provider:*")
    refused(403, "InsufficientScopes", some.createWorkerPool, s.machines, definition())


def a_machine_with_its_secret_is_a_worker(s):
    stranger = registration(s.machines, "machine-1")
    refused(400, "InputError", s.anonymous("WorkerManager").registerWorker, stranger)
    s.manager.createWorker(
        s.machines, "python", "machine-1", {"expires": from_now(days=1), "capacity": 2, "providerInfo": {"staticSecret": SECRET}}
    )
    assert s.manager.worker(s.machines, "python", "machine-1")["state"] == "requested"
    wrong = registration(s.machines, "machine-1", workerIdentityProof={"staticSecret": WRONG_SECRET})
    refused(400, "InputError", s.anonymous("WorkerManager").registerWorker, wrong)
    # Nobody is known before this call, so it has no signature.
    s.registered = s.anonymous("WorkerManager").registerWorker(registration(s.machines, "machine-1"))
    assert s.registered["workerConfig"] == CONFIG and s.registered["secret"] and s.registered["expires"], s.registered.keys()
    worker = s.manager.worker(s.machines, "python", "machine-1")
    assert worker["state"] == "running" and worker["capacity"] == 2, worker
    assert SECRET not in str(worker) and s.registered["secret"] not in str(worker), "a secret is told to everybody"


def its_credentials_are_those_of_this_worker(s):
    credentials = s.registered["credentials"]
    queue = s.client("Queue", credentials)
    task_id = s.create(s.machines)
    mine = {"workerGroup": "python", "workerId": "machine-1", "tasks": 1}
    refused(403, "InsufficientScopes", queue.claimWork, s.machines, {**mine, "workerId": "machine-2"})
    refused(403, "InsufficientScopes", queue.claimWork, s.pool(), mine)
    (claim,) = queue.claimWork(s.machines, mine)["tasks"]
    assert claim["status"]["taskId"] == task_id
    s.client("Queue", claim["credentials"]).reportCompleted(task_id, 0)

    manager = s.client("WorkerManager", credentials)
    answer = manager.shouldWorkerTerminate(s.machines, "python", "machine-1")
    assert answer["terminate"] is False and answer["reason"], answer
    refused(403, "InsufficientScopes", manager.shouldWorkerTerminate, s.machines, "python", "machine-2")
    # Each renewal takes the secret of the one before, once.
    renewal = {"workerPoolId": s.machines, "workerGroup": "python", "workerId": "machine-1"}
    renewed = manager.reregisterWorker({**renewal, "secret": s.registered["secret"]})
    assert renewed["secret"] != s.registered["secret"] and renewed["credentials"]["accessToken"], renewed.keys()
    refused(400, "InputError", manager.reregisterWorker, {**renewal, "secret": s.registered["secret"]})
    again = s.client("WorkerManager", renewed["credentials"]).reregisterWorker({**renewal, "secret": renewed["secret"]})
    s.worker_credentials = again["credentials"]


def workers_complain_and_people_read_it(s):
    manager = s.client("WorkerManager", s.worker_credentials)
    complaint = {
        "workerGroup": "python",
        "workerId": "machine-1",
        "kind": "worker-error",
        "title": "Disk is full",
        "extra": {"left": 0},
    }
    for number in range(5):
        made = manager.reportWorkerError(s.machines, {**complaint, "description": "number {}".format(number)})
        assert made["errorId"] and made["workerPoolId"] == s.machines, made
    errors, count = pages(s.manager.listWorkerPoolErrors, s.machines, key="workerPoolErrors", limit=2)
    assert sorted(error["description"] for error in errors) == ["number {}".format(n) for n in range(5)], errors
    assert count >= 3 and all(error["title"] == "Disk is full" for error in errors), (count, errors)
    other = {**complaint, "description": "d", "workerId": "machine-2"}
    refused(403, "InsufficientScopes", manager.reportWorkerError, s.machines, other)
    refused(403, "InsufficientScopes", manager.reportWorkerError, s.pool(), {**complaint, "description": "d"})


def pools_and_workers_are_listed_in_pages(s):
    requested = {"expires": from_now(days=1), "capacity": 1}
    names = ["machine-{}".format(number) for number in range(2, 7)]
    for name in names:
        s.manager.createWorker(s.machines, "python", name, {**requested, "providerInfo": {"staticSecret": WRONG_SECRET}})
    workers, count = pages(s.manager.listWorkersForWorkerPool, s.machines, key="workers", limit=2)
    assert sorted(worker["workerId"] for worker in workers) == ["machine-1"] + names and count >= 3, workers
    workers, _ = pages(s.manager.listWorkersForWorkerGroup, s.machines, "python", key="workers", limit=4)
    assert len(workers) == 6 and s.manager.listWorkersForWorkerGroup(s.machines, "nobody")["workers"] == []
    others = ["{}-{}".format(s.machines[:30], number) for number in range(3)]
    for other in others:
        s.manager.createWorkerPool(other, definition())
    pools, count = pages(s.manager.listWorkerPools, key="workerPools", limit=2)
    assert {s.machines, *others} <= {pool["workerPoolId"] for pool in pools} and count >= 2, pools


def a_worker_that_is_removed_is_to_end(s):
    s.manager.removeWorker(s.machines, "python", "machine-1")
    assert s.manager.worker(s.machines, "python", "machine-1")["state"] == "stopped"
    answer = s.manager.shouldWorkerTerminate(s.machines, "python", "machine-1")
    assert answer["terminate"] is True, answer
    refused(404, "ResourceNotFound", s.manager.worker, s.machines, "python", "machine-unknown")
    # Until its workers are gone, a pool that is deleted is one in which nothing is started.
    assert s.manager.deleteWorkerPool(s.machines)["providerId"] == "null-provider"


CHECKS = [
    a_pool_is_made_and_read,
    a_machine_with_its_secret_is_a_worker,
    its_credentials_are_those_of_this_worker,
    workers_complain_and_people_read_it,
    pools_and_workers_are_listed_in_pages,
    a_worker_that_is_removed_is_to_end,
]
