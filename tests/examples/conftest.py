"""The fixtures of the integration tests that the examples need."""

from tests.integration.conftest import nothing_left, python36, worker_python  # noqa: F401
