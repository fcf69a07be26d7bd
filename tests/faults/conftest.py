"""The fixtures of the integration tests."""

from tests.integration.conftest import nothing_left, own_generators, pictures  # noqa: F401
