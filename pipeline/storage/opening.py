"""The store of a root: a folder, or by the first word of a URL, with the client that this Python has for it."""

import logging
import os
import threading
from typing import Callable, Dict, Optional, Tuple

from stoker.pipeline.storage import folder
from stoker.pipeline.storage.folder_store import FolderStore
from stoker.pipeline.storage.retries import seldom
from stoker.pipeline.storage.retrying import Client, RetryingStore
from stoker.pipeline.storage.store import Store
from stoker.pipeline.storage.urls import is_url, normal, split

__all__ = ["is_url", "open_store"]
log = logging.getLogger("stoker")
MAX_CLIENTS = 64
_clients: Dict[Tuple[int, str], Client] = {}        # of this process
_lock = threading.Lock()
log_wait = seldom(lambda line: log.warning("%s", line))


def open_store(root: str, note: Optional[Callable[[str], None]] = None) -> Store:
    """The store of ``root``, a folder or a URL; for a file, the folder or URL above it. Its client is kept for this
    process, and may be used by several threads. ``note`` gets one line when a call has been tried for a second;
    by default a worker prints it, and other programs log it, one line in a while.
    Example: ``open_store("s3://photos/train").read("cats/1.jpg")``.

    Raises ConfigError if the URL cannot be used, or the client for it is not installed.
    """
    client = _clients.get((os.getpid(), root))      # the usual way: a worker asks for each sample
    if client is None:
        if not is_url(root):
            return FolderStore(root)
        form = normal(root)
        with _lock:
            client = _clients.get((os.getpid(), form)) or _client(form)
            if len(_clients) >= MAX_CLIENTS:
                _clients.clear()
            _clients[os.getpid(), form] = _clients[os.getpid(), root] = client
    return RetryingStore(client, note or folder.note_of_store or log_wait)


def forget() -> None:
    """Makes the next stores with new clients, by the settings of that moment."""
    with _lock:
        _clients.clear()


def _client(root: str) -> Client:
    scheme = split(root).scheme
    if scheme in ("http", "https"):
        from stoker.pipeline.storage.clients.http_store import HttpClient
        return HttpClient(root)
    from stoker.pipeline.storage.clients.buckets import bucket_client
    return bucket_client(root)
