"""The servers of stores, one of each for all tests. What this machine lacks for one is skipped, or a failure with
STOKER_REQUIRE_ENGINES=1: see tests/engines/needs.py."""

import os

import pytest

from tests.engines.conftest import pytest_configure, pytest_runtest_setup  # noqa: F401
from tests.engines.needs import lacking
from tests.integration.conftest import nothing_left, pictures, python36, worker_python  # noqa: F401
from tests.stores import servers


def _server(make, need, tmp_path_factory, name):
    reason = lacking(need)
    if reason:
        (pytest.fail if os.environ.get("STOKER_REQUIRE_ENGINES") == "1" else pytest.skip)(reason)
    server = make(tmp_path_factory.mktemp(name))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """SeaweedFS: see ``servers.S3``."""
    yield from _server(servers.S3, "environment stores", tmp_path_factory, "s3")


@pytest.fixture(scope="session")
def gcs(tmp_path_factory):
    """fake-gcs-server: see ``servers.Google``."""
    yield from _server(servers.Google, "environment stores", tmp_path_factory, "gcs")


@pytest.fixture(scope="session")
def web(tmp_path_factory):
    """nginx: see ``servers.Web``."""
    yield from _server(servers.Web, "nginx", tmp_path_factory, "web")
