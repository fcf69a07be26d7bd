"""``python -m stoker.packing.pack``, also ``stoker-pack``: see ``packing/program.py``."""

from stoker.trainer.current_folder import leave


def main() -> None:
    """Runs the command line and exits with its code."""
    leave()
    from stoker.trainer.program import Program        # it imports more
    Program("stoker-pack", "stoker.packing.program",
            "complete shards stay, and the same command goes on after them").main()


if __name__ == "__main__":
    main()
