"""A private PostgreSQL: made in a folder of its own, on a free port of the loopback interface, stopped at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path

USER, PASSWORD = "adma", "not-a-secret"


class Cluster:
    """A PostgreSQL server that a test may stop and start.

    Args:
        programs: the folder of initdb and pg_ctl.
        root: of its data and sockets; PostgreSQL refuses to run as root, so there it belongs to the user postgres.
    """

    def __init__(self, programs: Path, root: Path) -> None:
        self._programs, self._root = programs, root
        self._prefix: list[str] = []
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(root, account.pw_uid, account.pw_gid)
            groups = ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
            self._prefix = ["setpriv", *groups]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        secret = root / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run(
            "initdb", "--auth=scram-sha-256", f"--username={USER}", f"--pwfile={secret}", "--no-sync",
            "--encoding=UTF8", "--no-locale",
        )  # fmt: skip
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._prefix, str(self._programs / program), "-D", str(self._root / "data"), *arguments]
        done = subprocess.run(command, cwd=self._root, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        log = self._root / "log"
        settings = f"-p {self.port} -k {self._root} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=30"
        command = [*self._prefix, str(self._programs / "pg_ctl"), "-D", str(self._root / "data"), "-w", "-l", str(log)]
        # the server keeps what it inherits open: no pipes
        done = subprocess.run(
            [*command, "-o", settings, "start"], cwd=self._root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, log.read_text() if log.exists() else "pg_ctl wrote no log"

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def url(self, password: str = PASSWORD, database: str = "postgres") -> str:
        return f"postgresql+psycopg://{USER}:{password}@127.0.0.1:{self.port}/{database}"


def programs() -> Path | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    found = str(folders[-1]) if folders else shutil.which("initdb")
    return Path(found).parent if found else None
