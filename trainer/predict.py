"""``python -m trainer.predict``, also ``stoker-predict``: see ``trainer/prediction.py``."""

from stoker.trainer.program import Program


def main() -> None:
    """Runs the command line and exits with its code."""
    Program("stoker-predict", "stoker.trainer.prediction", "no file was written").main()


if __name__ == "__main__":
    main()
