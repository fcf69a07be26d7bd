"""The dataset of the numerical generator: records that it computes from their numbers."""

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.sources.dataset import Dataset


def generated(size: int) -> Dataset:
    """``size`` records of two classes; workers compute both their features and their labels. Raises ConfigError."""
    if size < 1:
        raise ConfigError("a generated dataset needs at least 1 record, not %r" % (size,))
    return Dataset("", ("0", "1"), tuple(map(str, range(size))), (0,) * size, ())
