"""``python -m trainer``, also ``stoker-train``: see ``trainer/cli.py``."""

from stoker.trainer.program import Program


def main() -> None:
    """Runs the command line and exits with its code."""
    Program("stoker-train", "stoker.trainer.cli",
            "run it again to resume from the last checkpoint, if there is one").main()


if __name__ == "__main__":
    main()
