"""``python -m workers``, also ``stoker-worker``: worker processes for a trainer on this host or on another one."""

import sys
from typing import Optional, Sequence

from stoker.workers import launch


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns the exit code."""
    launch.repair_path()       # before the imports: ``python -m`` has put the current folder first
    try:
        from stoker.workers import cli
    except ImportError as error:   # usually the wrong interpreter: a traceback would not say so
        sys.exit("stoker-worker: error: %s cannot run workers (%s): pip install Stoker there, or name another "
                 "interpreter" % (sys.executable, error))
    return cli.main(argv)


if __name__ == "__main__":
    sys.exit(main())
