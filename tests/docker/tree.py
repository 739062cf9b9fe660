"""Debian roots beside the system: one for the newest engine, one from which the big image is made."""

import json
import shutil

from process import quiet

DEBOOTSTRAP_SECS, SOURCE_SECS = 900, 300

# The suite with the newest engine in Debian, newer than the debootstrap that reads it: its script is that of `sid`.
ENGINE = {"suite": "forky", "include": ["docker.io", "iptables", "ca-certificates"], "source": None}

# What builds need. The source package is compiled and tested by a task.
IMAGE = {
    "suite": "bookworm",
    "include": ["python3", "git", "gcc", "make", "libc6-dev", "ca-certificates", "file", "patch", "bzip2", "xz-utils"],
    "source": "bzip2",
}


class Tree:
    """One root, kept between runs together with the recipe from which it was made."""

    def __init__(self, directory, recipe):
        self.directory, self.recipe = directory, recipe
        self.stamp = directory.with_suffix(".made-from")

    def source(self):
        """The file with the original source, if the recipe has one."""
        found = sorted((self.directory / "usr" / "src").glob("*.orig.tar.*"))
        return next((path for path in found if path.suffix != ".asc"), None)

    def provision(self):
        """Makes it unless it is there; returns what went wrong, or None."""
        wanted = json.dumps(self.recipe)
        if self.stamp.exists() and self.stamp.read_text() == wanted:
            return None
        self.stamp.unlink(missing_ok=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(self.recipe['include'])}"]
        # No mirror is named: debootstrap has one of its own.
        command += [self.recipe["suite"], self.directory, "", "sid"]
        code, output = quiet(command, DEBOOTSTRAP_SECS)
        if code:
            log = self.directory / "debootstrap" / "debootstrap.log"
            more = "\n".join(log.read_text(errors="replace").splitlines()[-20:]) if log.exists() else ""
            return f"{output[-2000:]}\n{more}"
        if self.recipe["source"]:
            trouble = self.fetch(self.recipe["source"])
            if trouble:
                return trouble
        self.stamp.write_text(wanted)
        return None

    def fetch(self, package):
        """Downloads a source package with the root's own apt, which checks it, into its `/usr/src`."""
        sources = (self.directory / "etc" / "apt" / "sources.list").read_text()
        kinds = self.directory / "etc" / "apt" / "sources.list.d" / "source.list"
        kinds.write_text("".join(line.replace("deb ", "deb-src ", 1) + "\n" for line in sources.splitlines() if line.startswith("deb ")))
        script = f"apt-get update --quiet && cd /usr/src && apt-get source --download-only --quiet {package}"
        code, output = quiet(["chroot", self.directory, "sh", "-c", script], SOURCE_SECS)
        kinds.unlink()
        return output if code else None
