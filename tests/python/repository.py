"""A small project with a taskgraph: a repository made from `tests/fixtures/taskgraph`, and what taskgraph generates from it."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from checks import NotRun

FIXTURE = Path(__file__).resolve().parent.parent / "fixtures" / "taskgraph"
# Where the project seems to be. Nothing is fetched from there: git is told to look at home.
URL = "https://github.com/example/demo"
NOBODY = "0" * 40

GENERATE_SECS = 120

PLATFORMS = ["arm64", "linux32", "linux64"]
BUILDS = ["build-" + platform for platform in PLATFORMS]
TESTS = ["test-{}-{}".format(platform, part) for platform in PLATFORMS for part in (1, 2)]
BUNDLE = "bundle-everything"
LABELS = sorted(BUILDS + TESTS + [BUNDLE])


def taskgraph():
    """The program, beside the Python that has the package."""
    program = Path(sys.executable).parent / "taskgraph"
    if importlib.util.find_spec("taskgraph") is None or not program.exists():
        raise NotRun("the Python package `taskcluster-taskgraph` is not installed")
    if shutil.which("git") is None:
        raise NotRun("git is not installed")
    return program


class Repository:
    """The project, in a directory of its own."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.path = self.directory / "demo"
        shutil.copytree(FIXTURE, self.path)
        config = self.directory / "gitconfig"
        config.write_text(
            '[url "{}"]\n\tinsteadOf = {}\n[user]\n\tname = nobody\n\temail = nobody@example.com\n'.format(self.path, URL)
        )
        # Whoever has this in the environment finds the project at its address, and has no other settings of git.
        self.environment = {"GIT_CONFIG_GLOBAL": str(config), "GIT_CONFIG_NOSYSTEM": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        self.before = NOBODY
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("the first version")

    def run(self, *arguments, **environment):
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("TASKCLUSTER_", "GIT_"))}
        result = subprocess.run(
            [str(argument) for argument in arguments],
            cwd=self.path,
            env={**variables, **self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=GENERATE_SECS,
        )
        assert result.returncode == 0, "{} ended with {}:\n{}".format(arguments, result.returncode, result.stderr[-4000:])
        return result.stdout

    def git(self, *arguments):
        return self.run("git", *arguments).strip()

    def write(self, name, text):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self, message):
        """Commits everything; what was there before is the base of the push."""
        if (self.path / ".git" / "refs" / "heads" / "main").exists():
            self.before = self.revision()
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def revision(self):
        return self.git("rev-parse", "HEAD")

    def push(self):
        """What GitHub tells about the last commit, as far as this project's `.taskcluster.yml` wants to know."""
        return {
            "ref": "refs/heads/main",
            "before": self.before,
            "after": self.revision(),
            "repository": {"name": "demo", "full_name": "example/demo", "html_url": URL, "clone_url": URL + ".git"},
        }

    def generate(self, kind, root_url="http://127.0.0.1:9", parameters="parameters.json"):
        """A graph as `taskgraph KIND --json` prints it. Kinds with keys that are ids of tasks need a deployment's index."""
        parameters_file = self.directory / "parameters.json"
        parameters_file.write_text(
            json.dumps(
                {
                    "base_repository": URL,
                    "head_repository": URL,
                    "level": "1",
                    "owner": "nobody@example.com",
                    "project": "demo",
                    "repository_type": "git",
                    "tasks_for": "github-push",
                }
            )
        )
        if parameters == "parameters.json":
            parameters = str(parameters_file)
        output = self.run(
            taskgraph(), kind, "--json", "--parameters", parameters, TASKCLUSTER_ROOT_URL=root_url, TASKGRAPH_SERIAL="1"
        )
        return json.loads(output)
