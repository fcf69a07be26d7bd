"""``python -m trainer``, also ``stoker-train``: see ``trainer/cli.py``.

Ctrl-C ends the program quickly and without a traceback at any moment, even while TensorFlow is imported or computes.
Therefore the signal handler is installed before anything large is imported.
"""

import os
import signal
import sys
import time

EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_WITHIN_S = 1.8   # after Ctrl-C; closing the stream usually takes a tenth of it
FAREWELL = "\nstoker-train: stopped by Ctrl-C; run it again to resume from the last checkpoint, if there is one\n"


def _exit(signum: int = 0, frame: object = None) -> None:
    """Ends this process now: the handler of SIGINT until ``trainer/cli.py`` starts workers. A KeyboardInterrupt during
    the import of numpy or TensorFlow may become another error, or get lost."""
    os.write(2, FAREWELL.encode())
    os._exit(EXIT_INTERRUPTED)


def _watch(read_fd: int) -> None:
    """Ends this process ``EXIT_WITHIN_S`` after a SIGINT, even if the main thread cannot be interrupted. The workers
    end too, because their pipe from this process closes."""
    while signal.SIGINT not in os.read(read_fd, 64):
        pass
    time.sleep(EXIT_WITHIN_S)
    _exit()


def main() -> None:
    """Runs the command line and exits with its code."""
    code = _run()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)   # does not wait for TensorFlow's threads


def _run() -> int:
    signal.signal(signal.SIGINT, _exit)
    import threading
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd)
    threading.Thread(target=_watch, args=(read_fd,), name="stoker-ctrl-c", daemon=True).start()
    try:
        from stoker.pipeline.errors import StokerError
        try:
            from stoker.trainer import cli
            return cli.run()
        except StokerError as error:
            print("stoker-train: error: %s" % error, file=sys.stderr, flush=True)
            return error.exit_code
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print(FAREWELL, end="", file=sys.stderr, flush=True)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    main()
