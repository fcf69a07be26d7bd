"""Locks of files, on file systems without them too."""

import errno
import fcntl
import os

import pytest

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring import locks
from stoker.pipeline.monitoring.audit import Audit
from stoker.pipeline.monitoring.bad_samples import BadSamples


@pytest.fixture
def flock_fails(monkeypatch):
    """A function that makes flock fail with an errno."""
    monkeypatch.setattr(locks, "_without", set())

    def fail(number):
        def flock(file, operation):
            raise OSError(number, os.strerror(number))
        monkeypatch.setattr(fcntl, "flock", flock)
    return fail


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF,
                                    errno.EIO, errno.EACCES])
def test_a_file_system_without_locks_is_one_warning(tmp_path, flock_fails, caplog, number):
    flock_fails(number)
    audit = Audit(str(tmp_path / "audit"), 0, lambda step, rank, ranks: [step])
    bad = BadSamples(str(tmp_path / "bad-samples.tsv"), 0)
    audit.begin(), bad.begin()
    audit.close(), bad.close()
    said, = [record.getMessage() for record in caplog.records]
    assert said.startswith("the file system of %s has no locks (%s), " % (tmp_path, os.strerror(number)))


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EAGAIN])
def test_only_another_process_is_an_error(tmp_path, flock_fails, caplog, number):
    flock_fails(number)
    with pytest.raises(ConfigError, match="another trainer writes it"):
        Audit(str(tmp_path / "audit"), 0, lambda step, rank, ranks: [step])
    assert not caplog.records


def test_real_locks(tmp_path):
    with open(str(tmp_path / "file"), "w") as first, open(str(tmp_path / "file"), "w") as second:
        assert locks.try_lock(first, "file")
        with pytest.raises(BlockingIOError):
            locks.try_lock(second, "file")
