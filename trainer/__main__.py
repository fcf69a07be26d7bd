"""``python -m trainer``, also ``stoker-train``: see ``trainer/cli.py``."""

from stoker.trainer.current_folder import leave


def main() -> None:
    """Runs the command line and exits with its code."""
    leave()
    from stoker.trainer.program import Program        # it imports more
    Program("stoker-train", "stoker.trainer.cli",
            "run it again to resume from the last checkpoint, if there is one").main()


if __name__ == "__main__":
    main()
