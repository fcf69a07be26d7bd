"""Another user of this host, for tests that run as root."""

import contextlib
import os
import subprocess
import sys
import tempfile

import pytest

OTHER = 65534


@contextlib.contextmanager
def shared_folder(mode=0o1777):
    """The path of a folder that every user can reach; pytest's own are of this user alone."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, mode)
        yield folder


def as_other_user(call):
    """Calls ``call`` in a forked process of the user OTHER, without groups. Skips the test if that is impossible."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    process = os.fork()
    if not process:
        code = 1
        try:
            os.setgroups([])
            os.setgid(OTHER)
            os.setuid(OTHER)
            call()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(process, 0)[1] == 0


def run_as_other_user(arguments, **how):
    """The finished process of ``arguments``, of the user OTHER; see ``as_other_user``."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")

    def become():
        os.setgroups([])
        os.setgid(OTHER)
        os.setuid(OTHER)
    return subprocess.run([sys.executable, *arguments], preexec_fn=become, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True, timeout=60, **how)
