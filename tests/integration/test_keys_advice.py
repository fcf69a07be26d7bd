"""The advice about a slow libsodium depends on the libraries of a process: each case has a process of its own."""

import ctypes
import glob
import os
import subprocess
import sys

import pytest
import zmq

from stoker.pipeline.transport import keys


def advice(**environment):
    """What a fresh process advises, with ``environment`` on top of this one's."""
    program = "from stoker.pipeline.transport import keys; print(keys.advice(), end='')"
    return subprocess.check_output([sys.executable, "-c", program], env=dict(os.environ, **environment),
                                   universal_newlines=True)


def test_a_process_with_the_slow_libsodium_is_told_what_helps():
    bundled = glob.glob(os.path.join(os.path.dirname(zmq.__file__), os.pardir, "pyzmq.libs", "libsodium*"))
    slow = any(not os.path.islink(path) for path in bundled) and zmq.pyzmq_version_info()[:2] < keys.FAST_SINCE
    assert ("LD_PRELOAD=libsodium.so.23" in advice(LD_PRELOAD="")) == slow
    try:
        ctypes.CDLL("libsodium.so.23")
    except OSError:
        pytest.skip("this machine has no libsodium of its own")
    assert advice(LD_PRELOAD="libsodium.so.23") == ""
