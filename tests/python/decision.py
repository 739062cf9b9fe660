"""A decision task: taskgraph runs in a task of ours, makes the tasks of a push at the queue, and our workers run them.

`tests/run` starts this with the binary's path in TC_WORKER_BIN; the lines are those of session.py.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile

import jsone
import taskcluster
import yaml

from checks import run_all
from client import LOG
from deployment import Deployment, wait_for
from examples import expect
from repository import BUILDS, BUNDLE, LABELS, PLATFORMS, TESTS, Repository, taskgraph
from services.server import Server

# What a push may do: make tasks of one priority in the pools of its level, and have them indexed.
MAY = [
    "queue:create-task:low:demo-1/*",
    "queue:create-task:project:none",
    "queue:scheduler-id:demo-level-1",
    "queue:route:checks",
    "queue:route:index.demo.*",
]
# The role that stands for all this, as the decision's task has it.
BRANCH = "repo:github.com/example/demo:branch:main"
ACTION = "assume:repo:github.com/example/demo:action:generic"
SCHEDULER = "demo-level-1"

# On a bad day requests and answers get lost, uploads and downloads end early, and claims are lost or run out under a worker.
# The decision is spared the last of these, since a second run of it would make its tasks again.
BAD_DAY = [
    "/api/queue/v1/claim-work/*tester: stolen, every 5th",
    "/api/queue/v1/claim-work/*tester: drop answer, every 7th",
    "claimWork: status 503, 10%",
    "createTask: drop answer, 20%",
    "report*: drop answer, 20%",
    "reclaimTask: status 503, 20%",
    "createArtifact: late status 500, 10%",
    "PUT artifact: cut after half, 10%",
    "GET artifact: cut after half, 10%",
    "findTasksAtIndex: half body, first 1",
    "*: status 502, 2%",
]
# Claims that got lost are given to others after this time.
BAD_DAY_CLAIM_SECS = 5

# Tasks of a graph run one after the other, with a start of Python among them.
GRAPH_SECS = 180


class Project:
    """The project, a server, and a worker for each of its pools."""

    def __init__(self, deployment, **options):
        self.options = options
        self.repository = Repository(deployment.directory)
        self.deployment = deployment
        self.rights = deployment.directory / "rights.sh"
        # What tasks find in their environment. Credentials are no part of it: whoever may use them reads the file.
        deployment.environment.update(self.repository.environment)
        deployment.environment.update({"CREDENTIALS": str(self.rights)})

    def start(self):
        self.deployment.environment["TASKGRAPH"] = str(taskgraph())
        self.server = Server(self.deployment, roles={BRANCH: MAY}, **self.options)
        # The artifacts of one of them go to the object service.
        for worker_type, objects in (("builder", False), ("tester", True)):
            place = self.deployment.directory / worker_type
            self.deployment.start_worker(
                2,
                provisionerId="demo-1",
                workerType=worker_type,
                workerId=worker_type + "-1",
                createObjectArtifacts=objects,
                tasksDir=str(place / "tasks"),
                cachesDir=str(place / "caches"),
                downloadsDir=str(place / "downloads"),
            )

    def may(self, *scopes):
        """Gives the next decision these rights. They are what taskcluster-proxy would add to its calls."""
        credentials = self.server.temporary(*scopes, name="project/demo/decision")
        variables = {
            "TASKCLUSTER_CLIENT_ID": credentials["clientId"],
            "TASKCLUSTER_ACCESS_TOKEN": credentials["accessToken"],
            "TASKCLUSTER_CERTIFICATE": credentials["certificate"],
        }
        lines = ["export {}={}\n".format(name, shlex.quote(value)) for name, value in variables.items()]
        self.rights.write_text("".join(lines))
        return variables

    def push(self):
        """Makes the tasks that `.taskcluster.yml` says a push has, as Taskcluster does for GitHub; there is one."""
        ids = {}
        context = {
            "tasks_for": "github-push",
            "event": self.repository.push(),
            "as_slugid": lambda name: ids.setdefault(name, taskcluster.slugId()),
        }
        template = yaml.safe_load((self.repository.path / ".taskcluster.yml").read_text())
        (definition,) = jsone.render(template, context)["tasks"]
        task_id = definition.pop("taskId")
        self.server.queue.createTask(task_id, definition)
        return task_id

    def ended(self, task_id, state):
        """Waits for the end of a task, which has to be this one."""

        def probe():
            self.deployment.worker.check_alive()
            return self.server.state(task_id) not in ("unscheduled", "pending", "running")

        wait_for("task {} ends".format(task_id), probe, within=GRAPH_SECS)
        assert self.server.state(task_id) == state, "{}\n{}".format(self.server.queue.status(task_id), self.log(task_id))

    def artifact(self, task_id, name):
        answer = self.server.get(self.server.url("/api/queue/v1/task/{}/artifacts/{}".format(task_id, name)))
        answer.raise_for_status()
        return answer.text

    def log(self, task_id):
        return self.artifact(task_id, LOG)

    def labels(self, decision):
        """Which task stands for a label."""
        return json.loads(self.artifact(decision, "public/label-to-taskid.json"))

    def group(self, decision):
        """The tasks of a push, except for its decision, by their labels."""
        entries = []
        self.server.queue.listTaskGroup(decision, paginationHandler=lambda page: entries.extend(page["tasks"]))
        found = {entry["task"]["metadata"]["name"]: entry for entry in entries if entry["status"]["taskId"] != decision}
        assert len(found) == len(entries) - 1, "two tasks have one label"
        return found


def expect_everything(p, tasks):
    version = (p.repository.path / "version.txt").read_text().strip()
    for platform in PLATFORMS:
        for part in ("1", "2"):
            report = p.artifact(tasks["test-{}-{}".format(platform, part)], "public/report.txt")
            assert report == "app {} for {}\npart {} of {}: ok\n".format(version, platform, part, platform), report
    apps = p.artifact(tasks[BUNDLE], "public/bundle/apps.txt")
    assert sorted(apps.splitlines()) == ["app {} for {}".format(version, platform) for platform in PLATFORMS], apps


def a_decision_makes_a_graph_and_workers_run_it(p):
    p.start()
    p.may("assume:" + BRANCH)
    p.first = p.push()
    p.ended(p.first, "completed")
    p.tasks = p.labels(p.first)
    assert sorted(p.tasks) == LABELS, p.tasks
    for label in LABELS:
        p.ended(p.tasks[label], "completed")
    expect_everything(p, p.tasks)
    for label, name, kind in (("build-arm64", "public/build/app", "s3"), ("test-arm64-1", "public/report.txt", "object")):
        assert p.server.queue.latestArtifactInfo(p.tasks[label], name)["storageType"] == kind, label
    built = "built by: {} for {} in {}\n".format(p.tasks["build-arm64"], p.tasks["test-arm64-1"], p.first)
    assert built in p.log(p.tasks["test-arm64-1"]), built
    group = p.group(p.first)
    assert {label: entry["status"]["taskId"] for label, entry in group.items()} == p.tasks, group.keys()
    for label, entry in group.items():
        assert entry["task"]["schedulerId"] == SCHEDULER and entry["task"]["taskGroupId"] == p.first, entry["task"]
        assert entry["task"]["dependencies"], label
        started = entry["status"]["runs"][0]["started"]
        for dependency in entry["task"]["dependencies"]:
            assert p.server.queue.status(dependency)["status"]["runs"][-1]["resolved"] <= started, label
    # Builds wait for the decision, so that nothing runs of a graph that was not made as a whole.
    assert all(group[label]["task"]["dependencies"] == [p.first] for label in BUILDS)


def what_the_decision_wrote_is_good_for_the_next_ones(p):
    # By the id of the decision, and by the name that the project has in the index.
    for parameters in ("task-id=" + p.first, "project=demo"):
        graph = p.repository.generate("target-graph", p.server.root_url, parameters)
        assert sorted(graph) == LABELS, graph.keys()
    for name in ("actions.json", "full-task-graph.json", "parameters.yml", "run-task", "target-tasks.json"):
        assert p.artifact(p.first, "public/" + name), name


def the_graph_of_a_decision_runs_on_a_laptop(p):
    graph = p.deployment.directory / "task-graph.json"
    graph.write_text(p.artifact(p.first, "public/task-graph.json"))
    assert sorted(json.loads(graph.read_text())) == sorted(p.tasks.values())
    out = p.deployment.directory / "laptop"
    result = subprocess.run(
        [p.deployment.binary, "exec", graph, "--artifacts", out, "--no-cache"],
        cwd=p.deployment.directory,
        env=p.deployment.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=GRAPH_SECS,
    )
    expect(result, 0)
    apps = (out / BUNDLE / "public/bundle/apps.txt").read_text()
    assert apps == p.artifact(p.tasks[BUNDLE], "public/bundle/apps.txt"), apps


def the_next_push_uses_builds_from_the_index(p):
    p.repository.write("docs.txt", "No build needs this.\n")
    p.repository.commit("words")
    p.may("assume:" + BRANCH)
    decision = p.push()
    p.ended(decision, "completed")
    tasks = p.labels(decision)
    replaced = {label for label in tasks if tasks[label] == p.tasks[label]}
    assert replaced == set(BUILDS), replaced
    for label in TESTS + [BUNDLE]:
        p.ended(tasks[label], "completed")
    expect_everything(p, tasks)
    assert sorted(p.group(decision)) == sorted(TESTS + [BUNDLE])


def a_decision_makes_only_what_it_may(p):
    p.repository.write("src/words.txt", "The index does not know these.\n")
    p.repository.commit("sources")
    # Builds are to be indexed, and that is not allowed.
    p.may(*[scope for scope in MAY if "index" not in scope])
    decision = p.push()
    p.ended(decision, "failed")
    log = p.log(decision)
    assert "InsufficientScopes" in log and "queue:route:index.demo." in log, log[-4000:]
    # What was made nevertheless waits for the decision, which failed.
    states = {entry["status"]["state"] for entry in p.group(decision).values()}
    assert states <= {"unscheduled"}, states


def actions_rerun_and_cancel(p):
    p.repository.write("src/broken", "arm64\n")
    p.repository.commit("break one platform")
    p.may("assume:" + BRANCH)
    decision = p.push()
    p.ended(decision, "completed")
    tasks = p.labels(decision)
    p.ended(tasks["build-arm64"], "failed")
    for label in ("test-linux32-1", "test-linux32-2", "test-linux64-1", "test-linux64-2"):
        p.ended(tasks[label], "completed")
    group = "{}/{}".format(SCHEDULER, decision)
    act(p, decision, "rerun", ["queue:rerun-task:" + group + "/*"], ACTION_TASK_ID=json.dumps(tasks["build-arm64"]))
    status = p.server.queue.status(tasks["build-arm64"])["status"]
    assert [run["reasonCreated"] for run in status["runs"]] == ["scheduled", "rerun"], status
    p.ended(tasks["build-arm64"], "failed")

    waiting = ["test-arm64-1", "test-arm64-2", BUNDLE]
    assert {p.server.state(tasks[label]) for label in waiting} == {"unscheduled"}
    act(p, decision, "cancel-all", ["queue:cancel-task:" + group + "/*"])
    for label in waiting:
        (run,) = p.server.queue.status(tasks[label])["status"]["runs"]
        assert run["reasonResolved"] == "canceled", run
    assert p.server.state(tasks["test-linux64-1"]) == "completed"


def act(p, decision, callback, scopes, **environment):
    """Runs an action of taskgraph for the tasks of a decision, as its hook would."""
    variables = p.may(ACTION, "auth:current-scopes", *scopes)
    p.repository.run(
        taskgraph(),
        "action-callback",
        TASKCLUSTER_ROOT_URL=p.server.root_url,
        ACTION_TASK_GROUP_ID=decision,
        ACTION_CALLBACK=callback,
        **variables,
        **environment,
    )


def nothing_is_left_behind(p):
    # A worker ends a task whose claim was taken from it when it hears of that.
    ours = {program.process.pid for program in p.deployment.programs}
    wait_for("no process of a task is left", lambda: p.deployment.processes().keys() <= ours)
    for program in reversed(p.deployment.programs):
        program.check_alive()
        # A worker that was asked to go would first hear the end of its claim.
        program.kill()
    assert not p.deployment.processes(), p.deployment.processes()


CHECKS = [
    a_decision_makes_a_graph_and_workers_run_it,
    what_the_decision_wrote_is_good_for_the_next_ones,
    the_graph_of_a_decision_runs_on_a_laptop,
    the_next_push_uses_builds_from_the_index,
    a_decision_makes_only_what_it_may,
    actions_rerun_and_cancel,
    nothing_is_left_behind,
]


def the_day_was_bad(p):
    met = p.server.faults_met()
    assert len(met) * 2 >= len(BAD_DAY), met


BAD_DAY_CHECKS = [
    a_decision_makes_a_graph_and_workers_run_it,
    the_next_push_uses_builds_from_the_index,
    the_day_was_bad,
    nothing_is_left_behind,
]


def session(checks, where="", **options):
    """Runs checks with a project of their own."""
    with tempfile.TemporaryDirectory(prefix="tc-decision-") as directory:
        deployment = Deployment(os.environ["TC_WORKER_BIN"], directory)
        try:
            failed = run_all(checks, Project(deployment, **options), where)
            for program in deployment.programs if failed else ():
                said = program.err.read_text(errors="replace")[-6000:]
                print("\nthe last lines of {}:\n{}".format(program.name, said), file=sys.stderr)
            return failed
        finally:
            deployment.stop()


def main():
    failed = session(CHECKS)
    failed += session(BAD_DAY_CHECKS, " on a bad day", faults=BAD_DAY, claim_timeout=BAD_DAY_CLAIM_SECS)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
