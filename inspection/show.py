"""``python -m stoker.inspection.show``, also ``stoker-show``: see ``inspection/showing/program.py``."""

from stoker.trainer.current_folder import leave


def main() -> None:
    """Runs the command line and exits with its code."""
    leave()
    from stoker.trainer.program import Program        # it imports more
    Program("stoker-show", "stoker.inspection.showing.program", "no file was written").main()


if __name__ == "__main__":
    main()
