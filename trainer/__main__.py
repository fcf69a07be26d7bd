"""``python -m trainer``, also ``stoker-train``: see ``trainer/cli.py``.

This module only makes sure that Ctrl-C ends everything quickly and quietly at any moment, also while TensorFlow is
being imported or computes: so it imports next to nothing before it has a handler for it.
"""

import os
import signal
import sys
import time

EXIT_INTERRUPTED = 128 + signal.SIGINT
LEAVE_WITHIN_S = 1.8   # after Ctrl-C; the orderly way usually takes a tenth of it
FAREWELL = "\nstoker-train: stopped by Ctrl-C; started again, it goes on from the last checkpoint, if there is one\n"


def _leave(signum: int = 0, frame: object = None) -> None:
    """Ends this process now. Also the handler of SIGINT until ``trainer/cli.py`` starts workers: there is nothing
    to put in order yet, and a KeyboardInterrupt amid numpy's or TensorFlow's import becomes another error, or is lost.
    """
    os.write(2, FAREWELL.encode())
    os._exit(EXIT_INTERRUPTED)


def _watch(read_fd: int) -> None:
    """Leaves ``LEAVE_WITHIN_S`` after a SIGINT, even if the main thread is deep inside a call that cannot be
    interrupted. Worker processes follow, because their lifeline ends with this process."""
    while signal.SIGINT not in os.read(read_fd, 64):
        pass
    time.sleep(LEAVE_WITHIN_S)
    _leave()


def main() -> None:
    """Runs the command line, and leaves with its exit code."""
    code = _run()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)   # TensorFlow's own threads may take their time otherwise


def _run() -> int:
    signal.signal(signal.SIGINT, _leave)
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
        sys.stderr.write(FAREWELL)
        sys.stderr.flush()
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    main()
