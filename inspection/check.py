"""``python -m stoker.inspection.check``, also ``stoker-check``: see ``inspection/checking/program.py``."""

from stoker.trainer.current_folder import leave


def main() -> None:
    """Runs the command line and exits with its code."""
    leave()
    from stoker.trainer.program import Program        # it imports more
    Program("stoker-check", "stoker.inspection.checking.program", "no file was written").main()


if __name__ == "__main__":
    main()
