"""How workers on other hosts join a run: the address, and the command that starts them."""

import os
import re
import shlex
import socket
from typing import Any, Sequence

from stoker.pipeline.options import is_loopback
from stoker.pipeline.storage.urls import is_url


def connect_address(address: str) -> str:
    """``address``, with this host's name if it is one of all interfaces."""
    return re.sub(r"//(0\.0\.0\.0|\[::\]|\*):", "//%s:" % socket.gethostname(), address)


def worker_command(address: str, keys: Any, own_functions: Sequence[str], root: Any = "") -> str:
    """The command that starts workers on another host. ``keys``: the trainer's folder of keys, or None. ``root``: of
    the data; a URL is the same on each host."""
    own = "".join(" --allow-generator " + shlex.quote(name) for name in own_functions)
    if root and is_url(root):
        own += " --data " + shlex.quote(root)
    else:
        own += "" if is_loopback(address) else " --data DIR"
    return "python -m workers --connect " + connect_address(address) + own + ("" if keys is None else (
        " --keys NAME (a copy of %s)" % os.path.join(keys, "workers", "NAME")))
