"""The cluster of the tests, and the table of cases at the end, which is that of the tests of the other engines."""

import os
import time

import pytest

from tests.engines.conftest import (  # noqa: F401
    figures, pytest_configure, pytest_runtest_makereport, pytest_runtest_setup, pytest_terminal_summary)
from tests.kube.cluster import Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory, figures):  # noqa: F811
    """A Kubernetes with one node, which has the images of trainer and worker."""
    if "STOKER_TEST_KUBERNETES" not in os.environ:
        pytest.skip("a Kubernetes must be built first: make kube-test")
    kubernetes, node, images = (os.path.abspath(os.environ["STOKER_TEST_KUBERNETES" + name])
                                for name in ("", "_NODE", "_IMAGES"))
    made = Cluster(tmp_path_factory.mktemp("cluster"), kubernetes, node,
                   [os.path.join(images, name + ".tar") for name in ("trainer", "worker")])
    figures("control plane: %(control plane).1f s, node with images: %(node).1f s" % made.started_s)
    yield made
    started_s = time.monotonic()
    made.end()
    figures("removed in %.1f s" % (time.monotonic() - started_s))
