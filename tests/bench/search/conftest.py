"""A PostgreSQL for the tests that want one, skipped loudly where none is installed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import postgres_cluster
import pytest
from postgres_cluster import Cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    programs = postgres_cluster.programs()
    if programs is None:
        pytest.skip("no PostgreSQL here: a search in a database of a team is NOT checked (install postgresql)")
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("no setpriv here, and PostgreSQL does not run as root: a team's database is NOT checked")
    root = Path(tempfile.mkdtemp(prefix="adma-postgres-"))
    cluster = Cluster(programs, root)
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(root, ignore_errors=True)
