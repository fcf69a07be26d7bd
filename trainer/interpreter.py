"""Asks the interpreter that is to run local workers whether it can, before it is used."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any, Dict, Optional, Sequence, Tuple

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.requirements import ANSWER, LEAST_PYTHON, complaint, lacking_features, missing

ANSWER_WITHIN_S = 60.0        # from a slow network disk
MAX_ANSWER = 1 << 16          # bytes
NEW_PILLOW = (3, 9)           # below it, Python has no Pillow newer than 9.5
_VERSION = "import sys; sys.stdout.write('python %d.%d\\n' % sys.version_info[:2])"     # for any Python, 2 too
_REFUSED = "cannot start workers with %r: "


def check(python: Optional[str], launch: str, environment: Dict[str, str]) -> None:
    """Raises ConfigError, a sentence, unless ``python`` (None: this one) can run workers by ``launch`` in this
    environment."""
    if python is None or python == sys.executable:
        why_not = complaint(sys.executable, missing(), lacking_features())
        if why_not:
            raise ConfigError(why_not)
        return
    text, returncode = _run([python, launch, "stoker.pipeline.requirements"], environment)
    answer = _line_of(text, ANSWER)
    if answer is None:
        version, _ = _run([python, "-E", "-S", "-c", _VERSION], environment)
        raise ConfigError(_reason(python, _line_of(version, "python "), text, returncode))
    found = json.loads(answer)
    why_not = complaint(python, found["missing"], found["features"])
    if why_not:
        raise ConfigError(why_not)


def advice(python: Optional[str], environments: str, version: Tuple[int, int] = sys.version_info[:2]
           ) -> Optional[str]:
    """A line if workers run by this Python, an old one, although ``make`` made an environment for them in the folder
    ``environments``. The figures are those of docs/BENCHMARKS.md."""
    newer = os.path.join(environments, "workers", "bin", "python")
    if python is not None or version >= NEW_PILLOW or not os.access(newer, os.X_OK):
        return None
    if os.path.realpath(os.path.dirname(newer)) == os.path.realpath(os.path.dirname(sys.executable)):
        return None
    shown = newer if os.path.relpath(newer).startswith(os.pardir) else os.path.relpath(newer)
    return ("the workers run Python %d.%d and its old Pillow; --worker-python %s (worker_python=) makes them 1.2 to "
            "1.7 times as fast, with a newer Pillow, which decodes a little differently" % (version + (shown,)))


def _reason(python: str, version: Optional[str], text: str, returncode: Optional[int]) -> str:
    """Why it cannot, if it did not answer. Pure."""
    if version is None:
        how = ("it did not end within %g s" % ANSWER_WITHIN_S if returncode is None else
               "it ended with exit code %d" % returncode)
        return (_REFUSED + "it is no Python interpreter (%s)") % (python, how)
    try:
        number: Tuple[int, ...] = tuple(int(part) for part in version.split("."))
    except ValueError:
        number = ()
    if number < LEAST_PYTHON:
        return (_REFUSED + "it runs Python %s, and workers need %d.%d or newer") % ((python, version) + LEAST_PYTHON)
    last = [line.strip() for line in text.splitlines() if line.strip()][-1:] or ["without a word"]
    return (_REFUSED + "it fails at its start: %s") % (python, last[0][:300])


def _line_of(text: str, beginning: str) -> Optional[str]:
    for line in text.splitlines():
        if line.startswith(beginning):
            return line[len(beginning):]
    return None


def _run(command: Sequence[str], environment: Dict[str, str]) -> Tuple[str, Optional[int]]:
    """The beginning of what it prints, and its exit code; None if it did not end. Raises ConfigError if it cannot be
    started."""
    try:
        process: Any = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, env=environment, start_new_session=True)
    except (OSError, ValueError) as error:
        raise ConfigError((_REFUSED + "%s") % (command[0], _not_started(command[0], error))) from error
    timer = threading.Timer(ANSWER_WITHIN_S, _kill, [process])
    timer.daemon = True
    timer.start()
    try:
        text = process.stdout.read(MAX_ANSWER)
        is_whole = len(text) < MAX_ANSWER          # otherwise it prints without end
        if is_whole:
            process.wait()
    finally:
        timer.cancel()
        _kill(process)
        process.stdout.close()
        process.wait()
    return text.decode("utf-8", "replace"), process.returncode if is_whole and process.returncode != -9 else None


def _kill(process: Any) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _not_started(python: str, error: Exception) -> str:
    if os.path.isdir(python):
        inside = os.path.join(python, "bin", "python")
        return "it is a folder: name the interpreter in it%s" % (", " + inside if os.path.exists(inside) else "")
    if isinstance(error, PermissionError):
        return "it is not executable for this user"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
