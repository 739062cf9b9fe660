"""What was run, and what came of it."""


class Report:
    """Collects results while the groups run."""

    def __init__(self):
        self.passed, self.failed, self.not_run, self.not_required = [], [], [], []

    def result(self, name, ok, seconds):
        (self.passed if ok else self.failed).append((seconds, name))

    def close(self, require_all):
        """Prints the end of the run and returns the exit code. The last line is for programs."""
        print()
        for title, entries in (("not required", self.not_required), ("not run", self.not_run)):
            for name, reason in entries:
                print(f"{title}: {name} because {reason}")
        for _, name in self.failed:
            print(f"failed: {name}")
        timed = [entry for entry in self.passed + self.failed if entry[0] is not None]
        if timed:
            seconds, name = max(timed)
            print(f"slowest: {name}, {seconds:.1f} s")
        missing = require_all and self.not_run
        if missing:
            print("--require-all: what was not run counts as a failure")
        print(f"{len(self.passed)} passed, {len(self.failed)} failed, {len(self.not_run) + len(self.not_required)} skipped")
        return 1 if self.failed or missing or not self.passed else 0
