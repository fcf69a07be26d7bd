"""What is wrong with a stream, in the words for those who make batches of a recorded run again: they do not open the
stream, and give its folders by other arguments. Pure but for ``in_own_words``."""

import contextlib
import re
from typing import Iterator

from stoker.pipeline.errors import StokerError
from stoker.pipeline.text import printable_path

_MODULE = re.compile(r"start the worker in the folder of (\S+), or add that folder to its PYTHONPATH")
_NO_FOLDER = "for the run has no data folder: open the stream with root="
_LOST = "mount it, or name it with root=, or for a worker on another host with its --data"


def of_replay(sentence: str, below: str) -> str:
    """``sentence`` for a replay. ``below``: the folder in which the run had its data; '' if it had none."""
    sentence = _MODULE.sub(lambda found: "name the folder that has %s now (path=, --path DIR)" % found.group(1),
                           sentence)
    if below:
        sentence = sentence.replace(_NO_FOLDER, "for the data is no longer in %s: name the folder that has the files "
                                    "now (root=, --root DIR)" % printable_path(below))
    return sentence.replace(_LOST, "name the folder that has the files now (root=, --root DIR)")


@contextlib.contextmanager
def in_own_words(below: str) -> Iterator[None]:
    """For the length of a ``with``, errors say ``of_replay``."""
    try:
        yield
    except StokerError as error:
        error.args = tuple(of_replay(each, below) if isinstance(each, str) else each for each in error.args)
        raise
