#!/usr/bin/env python3
"""Builds the images of the tests from Debian's own files, and archives of them in all the forms that there are.

    images.py DIRECTORY                     the small ones, from this system's busybox
    images.py DIRECTORY --debian TREE [--add PATH=FILE]...
                                            the big one, too, from a Debian root in TREE, with some files more

All but the big one take a second. `busybox` stands for any image of a few layers:

    busybox.tar                             layout, named tc-test/busybox:latest; also .gz .xz .bz2 .lz4 .zst
    legacy.tar kaniko.tar                   other forms of the same, with names of their own
    untagged.tar tagged.tar                 without a name; with three
    stacked.tar                             busybox with one more layer on top
    volume.tar user.tar entrypoint.tar health.tar
                                            with VOLUME, USER, ENTRYPOINT and CMD, HEALTHCHECK
    absolute.tar                            an absolute hard link, as kaniko makes them, and a symbolic link to nothing
    dangling.tar                            a hard link to a file of a layer below; engines refuse it
    lying.tar                               its diff ids are those of other layers
    truncated.tar.zst empty.tar notes.tar text.tar
                                            no images
    bomb.tar.zst                            zeros, as many as fit into 50 GB
    debian.tar.zst debian-legacy.tar.zst    the big one
"""

import argparse
import bz2
import gzip
import io
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from archive import FORMS, Image, Layer, Writer

BUSYBOX = Path("/bin/busybox")
BOMB_BYTES = 50 << 30
# How many layers the big image has; ten are of about the same size, one holds what changed last.
LAYERS = 11
# What every root has to have, and nothing that a machine would tell about itself.
LEFT_OUT = ("proc", "sys", "dev", "var/cache/apt", "var/lib/apt/lists", "var/log", "debootstrap")


def packed(arguments, source, out):
    """What a program makes of a file, into another file."""
    with open(source, "rb") as plain, open(out, "wb") as file:
        subprocess.run(arguments, stdin=plain, stdout=file, check=True, timeout=600)


class Small:
    """The images made from busybox."""

    def __init__(self, out, scratch):
        self.out, self.scratch = Path(out), Path(scratch)

    def layer(self, name, fill):
        path = self.scratch / f"{name}.layer"
        with path.open("wb") as file:
            writer = Writer(file)
            fill(writer)
            writer.close()
        return Layer(path)

    def root(self, writer):
        for directory in ("bin", "etc", "builds", "dev", "proc", "root", "sys", "usr", "var"):
            writer.directory(directory)
        writer.directory("tmp", 0o1777)
        writer.directory("builds/worker", 0o755, uid=1000, gid=1000)
        writer.file("bin/busybox", BUSYBOX, 0o755)
        applets = subprocess.run([BUSYBOX, "--list"], stdout=subprocess.PIPE, text=True, check=True, timeout=60)
        for applet in sorted(set(applets.stdout.split()) - {"busybox"}):
            writer.link(f"bin/{applet}", "busybox")
        for name, target in (("sbin", "bin"), ("usr/bin", "../bin"), ("usr/sbin", "../bin")):
            writer.link(name, target)
        writer.data("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1000::/builds/worker:/bin/sh\n")
        writer.data("etc/group", "root:x:0:\nworker:x:1000:\n")

    def details(self, writer):
        writer.directory("srv")
        writer.data("srv/notes.txt", "of the second layer\n")
        writer.link("srv/link", "notes.txt")
        # Files that are there already once a volume lies over them.
        writer.directory("data")
        writer.data("data/from-the-image", "found below a volume\n")
        writer.data("bin/entry", '#!/bin/sh\necho "entry: $# arguments: $*"\nexec "$@"\n', 0o755)

    def save(self, name, image, form="layout"):
        path = self.out / f"{name}.tar"
        with path.open("wb") as file:
            FORMS[form](image, file)
        return path

    def build(self):
        base, details = self.layer("root", self.root), self.layer("details", self.details)
        layers = [base, details]
        busybox = Image(layers, ["tc-test/busybox:latest"], {"Cmd": ["sh"]})
        plain = self.save("busybox", busybox)
        self.compress(plain)
        for form in ("legacy", "kaniko"):
            self.save(form, Image(layers, [f"tc-test/{form}:latest"], {"Cmd": ["sh"], "Labels": {"form": form}}), form)
        self.save("untagged", Image(layers, [], {"Cmd": ["sh"], "Labels": {"names": "0"}}))
        names = ["tc-test/tagged:one", "tc-test/tagged:two", "tc-test/other:three"]
        self.save("tagged", Image(layers, names, {"Cmd": ["sh"], "Labels": {"names": "3"}}))
        top = self.layer("top", lambda writer: writer.data("srv/top.txt", "of the third layer\n"))
        self.save("stacked", Image([*layers, top], ["tc-test/stacked:latest"], {"Cmd": ["sh"]}))
        for name, config in {
            "volume": {"Volumes": {"/data": {}, "/builds/worker/checkouts": {}}},
            "user": {"User": "worker", "WorkingDir": "/builds/worker", "Env": ["PATH=/bin", "FROM_IMAGE=yes", "TASK_ID=image"]},
            "entrypoint": {"Entrypoint": ["/bin/entry"], "Cmd": ["echo", "from", "CMD"]},
            "health": {"Healthcheck": {"Test": ["CMD", "false"], "Interval": 10**9, "Retries": 1}},
        }.items():
            self.save(name, Image(layers, [f"tc-test/{name}:latest"], {"Cmd": ["sh"], **config}))
        self.links(layers)
        self.bad(layers, self.out / "busybox.tar.zst")

    def compress(self, plain):
        data = plain.read_bytes()
        for ending, pack in ((".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)):
            Path(f"{plain}{ending}").write_bytes(pack(data))
        packed(["zstd", "-q", "-3", "-c"], plain, f"{plain}.zst")
        packed(["lz4", "-q", "-c"], plain, f"{plain}.lz4")

    def links(self, layers):
        def absolute(writer):
            writer.directory("opt")
            writer.data("opt/one", "one file, two names\n")
            writer.link("opt/two", "/opt/one", tarfile.LNKTYPE)
            writer.link("opt/nowhere", "/not/there")

        self.save("absolute", Image([*layers, self.layer("absolute", absolute)], ["tc-test/absolute:latest"]), "kaniko")
        below = self.layer("below", lambda writer: writer.link("srv/again.txt", "/srv/notes.txt", tarfile.LNKTYPE))
        self.save("dangling", Image([*layers, below], ["tc-test/dangling:latest"]), "kaniko")

    def bad(self, layers, good):
        swapped = [f"sha256:{layer.digest}" for layer in reversed(layers)]
        self.save("lying", Image(layers, ["tc-test/lying:latest"], diff_ids=swapped))
        data = good.read_bytes()
        (self.out / "truncated.tar.zst").write_bytes(data[: len(data) // 2])
        (self.out / "empty.tar").write_bytes(bytes(10240))
        (self.out / "text.tar").write_text("this is no archive\n" * 1000)
        with (self.out / "notes.tar").open("wb") as file:
            writer = Writer(file)
            writer.data("notes.txt", "an archive, and no image\n")
            writer.close()
        self.bomb()

    def bomb(self):
        """A frame of zeros, found out once and then repeated: the result is a few megabytes, and takes no time to make."""
        zeros = subprocess.run(
            ["zstd", "-q", "-19", "-c"], input=bytes(256 << 20), stdout=subprocess.PIPE, check=True, timeout=600
        ).stdout
        header = io.BytesIO()
        tar = tarfile.open(fileobj=header, mode="w", format=tarfile.GNU_FORMAT)
        info = tarfile.TarInfo(f"{'0' * 64}/layer.tar")
        info.size = BOMB_BYTES
        tar.addfile(info, None)
        first = subprocess.run(
            ["zstd", "-q", "-c"], input=header.getvalue()[:512], stdout=subprocess.PIPE, check=True, timeout=60
        ).stdout
        with (self.out / "bomb.tar.zst").open("wb") as file:
            file.write(first)
            for _ in range(BOMB_BYTES // (256 << 20)):
                file.write(zeros)


class Debian:
    """The big image: a Debian root in layers."""

    NAME = "tc-test/debian:latest"

    def __init__(self, tree, out, scratch, added):
        self.tree, self.out, self.scratch, self.added = Path(tree), Path(out), Path(scratch), added

    def files(self):
        """All that belongs in the image with its size, in one order always."""
        found = []
        for directory, names, files in os.walk(self.tree):
            inside = os.path.relpath(directory, self.tree)
            inside = "" if inside == "." else f"{inside}/"
            names[:] = sorted(name for name in names if f"{inside}{name}" not in LEFT_OUT)
            links = [name for name in names if os.path.islink(os.path.join(directory, name))]
            if inside:
                found.append((inside[:-1], 0))
            for name in sorted([*files, *links]):
                status = os.lstat(os.path.join(directory, name))
                found.append((f"{inside}{name}", status.st_size))
        return found

    def build(self):
        files = self.files()
        share = sum(size for _, size in files) // (LAYERS - 1) + 1
        layers, at, filled = [[] for _ in range(LAYERS - 1)], 0, 0
        for name, size in files:
            if filled > share * (at + 1) and at < LAYERS - 2:
                at += 1
            layers[at].append(name)
            filled += size
        made = [self.layer(number, names) for number, names in enumerate(layers)]
        made.append(self.last())
        image = Image(made, [self.NAME], {"Cmd": ["bash"], "WorkingDir": "/", "Volumes": {"/builds/worker/workspace": {}}})
        for name, form in (("debian", "layout"), ("debian-legacy", "legacy")):
            path = self.out / f"{name}.tar.zst"
            with path.open("wb") as file:
                zstd = subprocess.Popen(["zstd", "-q", "-T0", "-3", "-c"], stdin=subprocess.PIPE, stdout=file)
                FORMS[form](image, zstd.stdin)
                zstd.stdin.close()
                if zstd.wait(600):
                    sys.exit("zstd failed")
        (self.out / "debian.size").write_text(f"{sum(layer.size for layer in made)}\n")

    def layer(self, number, names):
        path, seen = self.scratch / f"debian-{number}.layer", {}
        with path.open("wb") as file:
            writer = Writer(file)
            for name in names:
                writer.copy(name, self.tree / name, seen)
            writer.close()
        return Layer(path)

    def last(self):
        path = self.scratch / "debian-last.layer"
        with path.open("wb") as file:
            writer = Writer(file)
            for name in ("proc", "sys", "dev", "builds"):
                writer.directory(name)
            writer.directory("builds/worker", 0o755, uid=1000, gid=1000)
            with open(self.tree / "etc/passwd") as passwd, open(self.tree / "etc/group") as group:
                writer.data("etc/passwd", passwd.read() + "worker:x:1000:1000::/builds/worker:/bin/bash\n")
                writer.data("etc/group", group.read() + "worker:x:1000:\n")
            for name, file in self.added:
                writer.file(name, file, 0o755)
            writer.close()
        return Layer(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--debian", metavar="TREE", type=Path)
    parser.add_argument("--add", metavar="PATH=FILE", action="append", default=[])
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    for program in (BUSYBOX, "zstd", "lz4"):
        if not shutil.which(program):
            sys.exit(f"images.py: {program} is missing (Debian: busybox-static, zstd, lz4)")
    with tempfile.TemporaryDirectory(prefix="layers-", dir=options.directory) as scratch:
        Small(options.directory, scratch).build()
        if options.debian:
            added = [entry.partition("=")[::2] for entry in options.add]
            Debian(options.debian, options.directory, scratch, added).build()
    return 0


if __name__ == "__main__":
    sys.exit(main())
