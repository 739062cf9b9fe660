"""Debian's `docker-registry` on loopback, where engines take it although it speaks no TLS."""

import http.client
import os
import signal
import socket
import subprocess
from pathlib import Path

from engine import first_number, until

START_SECS, STOP_SECS = 30, 10

CONFIG = """version: 0.1
log: {{accesslog: {{disabled: true}}, level: error}}
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


class Registry:
    """One registry that keeps everything in a directory."""

    def __init__(self, directory):
        self.directory, self.process, self.address = directory, None, None

    def start(self):
        """Returns what went wrong, or None."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        config = self.directory / "config.yml"
        config.write_text(CONFIG.format(root=self.directory / "data", port=port))
        log = self.directory / "log"
        # Left to itself it sends traces somewhere.
        environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                ["docker-registry", "serve", config],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment,
                start_new_session=True,
            )
        (self.directory / "pid").write_text(f"{self.process.pid}\n")
        if until(lambda: self.answers() or self.process.poll() is not None, START_SECS) and self.process.poll() is None:
            return None
        self.stop()
        return f"docker-registry did not start:\n{log.read_text(errors='replace')[-2000:]}"

    def answers(self):
        connection = http.client.HTTPConnection(self.address, timeout=5)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self):
        """Ends it, also one that an earlier run started."""
        pid = first_number(self.directory / "pid")
        if not self.process and pid and self.owns(pid):
            os.kill(pid, signal.SIGKILL)
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def owns(self, pid):
        """Whether a process serves this directory."""
        try:
            return str(self.directory).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
