"""Debian packages that a test bed needs, installed where they are missing."""

import os
import shutil
from pathlib import Path

from process import quiet

INSTALL_SECS = 600

# Program, and the package that has it.
PROGRAMS = (
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("docker-registry", "docker-registry"),
    ("debootstrap", "debootstrap"),
    ("busybox", "busybox-static"),
    ("zstd", "zstd"),
    ("lz4", "lz4"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("mkfs.ext4", "e2fsprogs"),
)

# Asked before a package starts a service. These packages would start one, and the tests start their own.
POLICY = Path("/usr/sbin/policy-rc.d")


def missing(programs=PROGRAMS):
    """Packages of programs that are not there."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return sorted({package for program, package in programs if not shutil.which(program, path=path)})


def install(packages):
    """Installs packages; returns what went wrong, or None."""
    if not packages:
        return None
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return f"cannot install {', '.join(packages)} here: that takes root and apt-get"
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        # A package list that cannot be renewed may still be good enough.
        quiet(["apt-get", "update", "--quiet"], INSTALL_SECS)
        install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
        code, output = quiet(install, INSTALL_SECS, env=environment)
        return output if code else None
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)
