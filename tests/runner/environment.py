"""The Python environment of the tests, below the target directory."""

import hashlib
import importlib.util
import shutil
import sys

import packages
from process import ROOT, quiet

MAKE_SECS, PROBE_SECS = 600, 60
REQUIREMENTS = ROOT / "tests" / "python" / "requirements.txt"


class Environment:
    """A virtual environment with the packages that `requirements.txt` names."""

    def __init__(self, directory):
        self.directory = directory

    def python(self):
        """A Python that has the client: ours, else the one that runs this script."""
        own = self.directory / "bin" / "python"
        if own.exists() and quiet([own, "-c", "import taskcluster"], PROBE_SECS)[0] == 0:
            return own
        return sys.executable if importlib.util.find_spec("taskcluster") else None

    def file(self, package, name):
        """A file of an installed package, or None."""
        found = sorted(self.directory.glob(f"lib/python3*/site-packages/{package}/{name}"))
        return found[0] if found else None

    def provision(self):
        """Makes it, unless it is there and made from the same requirements. Returns what went wrong, or None."""
        digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
        stamp = self.directory / "made-from"
        if stamp.exists() and stamp.read_text() == digest:
            return None
        shutil.rmtree(self.directory, ignore_errors=True)
        python = [sys.executable, "-m", "venv", self.directory]
        code, output = quiet(python, MAKE_SECS)
        if code and packages.install(["python3-venv"]) is None:
            # Debian keeps the part of Python that makes environments in a package of its own.
            shutil.rmtree(self.directory, ignore_errors=True)
            code, output = quiet(python, MAKE_SECS)
        if code == 0:
            pip = [self.directory / "bin" / "python", "-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS]
            code, output = quiet(pip, MAKE_SECS)
        if code:
            return output
        stamp.write_text(digest)
        return None
