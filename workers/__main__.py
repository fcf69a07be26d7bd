"""``python -m workers``, also ``stoker-worker``: worker processes for a trainer on this host or on another one."""

import sys
from typing import Optional, Sequence

from stoker.workers import launch


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns the exit code."""
    return launch.main(["stoker.workers.cli"] + list(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    sys.exit(main())
