"""The program of a process that indexes: started by its path, with nothing but the standard library before it knows
where Stoker is.

The first line of its standard input is JSON: where the trainer finds modules (``sys.path``), where its package
``stoker`` is, and its number. The trainer's folders are the same Python's, and so hold the same libraries.
"""

import importlib.util
import json
import os
import sys
import threading
import time


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone: it may be in the middle of a large file."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """Imports Stoker and does what ``index_process`` says."""
    start = json.loads(sys.stdin.buffer.readline().decode("ascii"))
    threading.Thread(target=_end_with, args=(start["parent"],), daemon=True).start()
    sys.path[:] = start["path"]
    spec = importlib.util.spec_from_file_location("stoker", os.path.join(start["stoker"], "__init__.py"),
                                                  submodule_search_locations=[start["stoker"]])
    assert spec is not None and spec.loader is not None
    sys.modules["stoker"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    process = importlib.import_module("stoker.pipeline.sources.records.index_process")
    process.serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
