"""``python -m stoker.inspection.top``, also ``stoker-top``: see ``inspection/terminal/program.py``."""

import sys

from stoker.trainer.current_folder import leave


def main() -> int:
    """Runs the command line; returns the exit code."""
    leave()
    from stoker.inspection.terminal import program as top_program
    return top_program.main()


if __name__ == "__main__":
    sys.exit(main())
