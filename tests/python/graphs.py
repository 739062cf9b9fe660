"""Graphs that the real taskgraph generates from a small project, looked at by `tc-worker check` and run by `tc-worker exec`.

`tests/run` starts this with the binary's path in TC_WORKER_BIN; the lines are those of session.py.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from checks import run_each
from deployment import PATIENCE_SECS
from examples import Exec, expect
from repository import BUNDLE, LABELS, PLATFORMS, TESTS, Repository, taskgraph

# taskgraph writes no `retries`, so a task that never succeeds is run six times.
RUNS = 6


class Graphs(Exec):
    """`exec` in a directory of its own, and the project beside it."""

    def __init__(self, directory):
        super().__init__(directory)
        self.repository = Repository(directory)
        self.deployment.environment.update(self.repository.environment)

    def graph(self, kind="target-graph", **options):
        return self.file(kind + ".json", json.dumps(self.repository.generate(kind, **options), indent=2))

    def check(self, *arguments):
        return subprocess.run(
            [self.deployment.binary, "check", *map(str, arguments)],
            cwd=self.directory,
            env=self.deployment.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECS,
        )

    def piped(self, text, *options):
        return subprocess.run(
            self.arguments(*options, "-"),
            cwd=self.directory,
            env=self.deployment.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECS,
        )

    def lines(self, label, result):
        """What a task said, in the log of all of them."""
        start = label + " | "
        return [line[len(start) :] for line in result.stdout.splitlines() if line.startswith(start)]


WORDS = {"completed": "completed", "failed": "failed", "not_run": "not run", "intermittent": "intermittent-task"}


def outcomes(result):
    """How tasks ended, by their labels, as the end of `exec` tells it."""
    told = re.findall(r"^(\S(?:\S| (?! ))*?) {2,}(\S+)(?= |$)", result.stderr, re.MULTILINE)
    return {label: outcome for outcome, label in told if label in LABELS}


def expect_outcomes(result, code, **expected):
    """The exit code, and each task's outcome: outcome=[labels]."""
    expect(result, code)
    wanted = {label: WORDS[outcome] for outcome, labels in expected.items() for label in labels}
    assert outcomes(result) == wanted, "{}\n{}".format(outcomes(result), result.stderr)


def expect_everything(case):
    """What a graph leaves that ran to its end: each task used what those before it made."""
    version = (case.repository.path / "version.txt").read_text().strip()
    said = {platform: "app {} for {}\n".format(version, platform) for platform in PLATFORMS}
    for platform in PLATFORMS:
        assert "for " + platform in case.artifact("build-" + platform, "public/build/app").read_text()
        for part in ("1", "2"):
            report = case.artifact("test-{}-{}".format(platform, part), "public/report.txt").read_text()
            assert report == said[platform] + "part {} of {}: ok\n".format(part, platform), report
    collected = case.artifact(BUNDLE, "public/bundle/apps.txt").read_text()
    assert sorted(collected.splitlines(True)) == sorted(said.values()), collected


def a_graph_by_labels_runs_to_its_end(e):
    graph = e.graph()
    assert sorted(json.loads(graph.read_text())) == LABELS
    result = e.run(graph)
    expect_outcomes(result, 0, completed=LABELS)
    expect_everything(e)
    # References stand for what there is here: the ids of other tasks, and addresses at the queue that runs them.
    for label in TESTS:
        said = "\n".join(e.lines(label, result))
        app = re.search(r"^app: (\S+) at (\S+)$", said, re.MULTILINE)
        build, own = re.search(r"^built by: (\S+) for (\S+) in \S+$", said, re.MULTILINE).groups()
        assert app[1] == "{}/api/queue/v1/task/{}/artifacts/public/build/app".format(app[2].rstrip("/"), build), said
        assert re.search("Task ID: " + own + "$", said, re.MULTILINE), said
    # A test is begun when its build is over, and not before.
    order = [line.split(" | ")[0] for line in result.stdout.splitlines() if line.endswith("=== Task Starting ===")]
    for platform in PLATFORMS:
        for part in ("-1", "-2"):
            assert order.index("build-" + platform) < order.index("test-" + platform + part), order
    assert order[-1] == BUNDLE, order


def a_part_of_a_graph_runs(e):
    graph = e.graph("full")
    result = e.run("--only", "^build-linux", graph)
    expect_outcomes(result, 0, completed=["build-linux32", "build-linux64"])
    assert not (e.directory / "artifacts" / "build-arm64").exists()
    result = e.run("--with-deps", "^test-arm64-2$", graph)
    expect_outcomes(result, 0, completed=["build-arm64", "test-arm64-2"])
    assert e.artifact("test-arm64-2", "public/report.txt").read_text().endswith("part 2 of arm64: ok\n")
    # The same from a pipe.
    result = e.piped(graph.read_text(), "--with-deps", "^test-linux64-1$")
    expect_outcomes(result, 0, completed=["build-linux64", "test-linux64-1"])


def what_depends_on_a_failed_build_is_not_run(e):
    e.repository.write("src/broken", "arm64\n")
    e.repository.commit("break one platform")
    result = e.run(e.graph())
    not_run = ["test-arm64-1", "test-arm64-2", BUNDLE]
    completed = sorted(set(LABELS) - set(not_run) - {"build-arm64"})
    expect_outcomes(result, 1, failed=["build-arm64"], not_run=not_run, completed=completed)
    assert "src/app.in: no such processor: arm64" in e.lines("build-arm64", result), result.stdout
    # Its log is there, and nothing of those that were not run.
    assert e.artifact("build-arm64", "public/logs/live_backing.log").is_file()
    for label in not_run:
        assert not (e.directory / "artifacts" / label).exists(), label


def an_exception_counts_more_than_a_failure(e):
    e.repository.write("src/busy", "")
    e.repository.write("src/broken", "linux64\n")
    e.repository.commit("something is in use")
    graph = json.loads(e.graph().read_text())
    # Only this one asks to be tried again.
    del graph["build-linux64"]["task"]["payload"]["onExitStatus"]
    result = e.run("--only", "^build-linux", e.file("busy.json", json.dumps(graph)))
    expect_outcomes(result, 3, failed=["build-linux64"], intermittent=["build-linux32"])
    runs = [line for line in e.lines("build-linux32", result) if line == "building for linux32"]
    assert len(runs) == RUNS, result.stdout


def an_invalid_payload_of_a_graph_has_its_place(e):
    kind = e.repository.path / "taskcluster" / "kinds" / "bundle" / "kind.yml"
    kind.write_text(kind.read_text().replace("max-run-time: 600", "max-run-time: 0"))
    e.repository.commit("no time at all")
    result = e.run(e.graph())
    expect(result, 3)
    assert re.search(r"target-graph\.json:\d+:\d+: maxRunTime: Must be greater than or equal to 1", result.stderr), result.stderr
    assert not (e.directory / "artifacts" / BUNDLE / "public" / "bundle").exists()


def a_graph_by_ids_runs_to_its_end(e):
    # Whoever replaces builds by what the index knows needs an index.
    exports = e.deployment.start_queue(60)
    graph = e.graph("optimized", root_url=exports["TASKCLUSTER_ROOT_URL"])
    nodes = json.loads(graph.read_text())
    assert sorted(node["label"] for node in nodes.values()) == LABELS
    result = e.run(graph)
    expect_outcomes(result, 0, completed=LABELS)
    expect_everything(e)
    # The ids are the graph's.
    for task_id, node in nodes.items():
        said = "\n".join(e.lines(node["label"], result))
        assert re.search("Task ID: " + task_id + "$", said, re.MULTILINE), said



def what_taskgraph_writes_is_without_problems(e):
    template = e.repository.path / ".taskcluster.yml"
    for path in (e.graph("full"), e.graph("target-graph"), template):
        result = e.check(path)
        expect(result, 0)
        assert "no problems" in result.stdout + result.stderr, result.stdout + result.stderr


def problems_of_a_graph_have_their_places(e):
    graph = json.loads(e.graph().read_text())
    graph[BUNDLE]["task"]["payload"]["maxRunTime"] = 0
    graph["test-arm64-1"]["dependencies"]["build"] = "build-nothing"
    graph["test-arm64-2"]["task"]["payload"]["env"]["X"] = {"task-reference": "<nothing>"}
    path = e.file("broken.json", json.dumps(graph, indent=2))
    result = e.check("--output", "json", path)
    expect(result, 1)
    problems = [json.loads(line) for line in result.stdout.splitlines()]
    found = {(problem["rule"], problem["task"], problem["severity"]) for problem in problems}
    assert found == {
        ("payload/schema", BUNDLE, "error"),
        ("dependency/dangling", "test-arm64-1", "error"),
        ("dependency/reference", "test-arm64-2", "error"),
    }, problems
    lines = path.read_text().splitlines()
    (schema,) = [problem for problem in problems if problem["rule"] == "payload/schema"]
    assert lines[schema["line"] - 1][schema["column"] - 1 :].startswith("0"), schema
    # The same for people.
    text = e.check(path)
    expect(text, 1)
    assert "broken.json:{}:{}: ".format(schema["line"], schema["column"]) in text.stdout + text.stderr, text.stdout


def a_template_is_rendered_and_its_decision_makes_a_graph(e):
    template = e.repository.path / ".taskcluster.yml"
    rendered = (template, "--tasks-for", "github-push", "--event", e.file("push.json", json.dumps(e.repository.push())))
    result = e.check(*rendered)
    expect(result, 0)
    assert result.stdout == "no problems in 1 file\n", result.stdout + result.stderr
    result = e.run(*rendered, "--list")
    expect(result, 0)
    assert re.search(r"^Decision Task +[\w-]{22} +demo-1/builder ", result.stdout, re.MULTILINE), result.stdout
    # Nobody gave it the right to make tasks, so that it fails at the end. Its graph is there, and can be run.
    e.deployment.environment.update({"TASKGRAPH": str(taskgraph()), "CREDENTIALS": str(e.file("none.sh", ""))})
    result = e.run(*rendered)
    expect(result, 1)
    assert "InsufficientScopes" in result.stdout, result.stdout
    (graph,) = (e.directory / "artifacts").glob("*/public/task-graph.json")
    result = e.run(graph)
    expect_outcomes(result, 0, completed=LABELS)
    expect_everything(e)


CHECKS = [
    what_taskgraph_writes_is_without_problems,
    problems_of_a_graph_have_their_places,
    a_graph_by_labels_runs_to_its_end,
    a_part_of_a_graph_runs,
    what_depends_on_a_failed_build_is_not_run,
    an_exception_counts_more_than_a_failure,
    an_invalid_payload_of_a_graph_has_its_place,
    a_graph_by_ids_runs_to_its_end,
    a_template_is_rendered_and_its_decision_makes_a_graph,
]


if __name__ == "__main__":
    sys.exit(run_each(CHECKS, Graphs, prefix="tc-graphs-"))
