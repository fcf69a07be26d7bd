"""An open folder of a run, with the records that Stoker keeps in it: a folder of checkpoints, or one that was given to
``open_stream(record=)``. Imports no TensorFlow."""

import os
from contextlib import suppress
from typing import Any, Iterable, List, Optional

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage.safe_files import kind_of, read_whole
from stoker.pipeline.text import native, printable_path
from stoker.trainer.files import reason, remedy

LOCK = "stoker.lock"
BAD_SAMPLES, KILLERS = "bad-samples.tsv", "killers.jsonl"
NOTHING = (LOCK, BAD_SAMPLES)           # if they are empty


class RunFolder:
    """The folder at ``path``. Attributes:

    path: as it was given, for people. open_path: one that holds when the folder is renamed. is_shared: other processes,
    the ranks of one run, may write the same files at the same time.
    """
    noun, remedy = "folder of the run", "choose another folder"       # in errors
    is_shared = False

    def __init__(self, path: str, make: bool = False) -> None:
        """``make``: makes the folder if it is not there. Raises ConfigError if the folder cannot be used."""
        self.path = native(path)
        try:
            self._made = make and not os.path.isdir(self.path)
            if make:
                os.makedirs(self.path, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            raise self.unusable(error) from error
        self.open_path = "/proc/self/fd/%d" % self._fd
        if not os.path.isdir(self.open_path):
            self.open_path = self.path

    def at(self, *names: str) -> str:
        """The path of a file in the folder, which also holds when the folder is moved."""
        return os.path.join(self.open_path, *names)

    def unusable(self, error: BaseException, name: Optional[str] = None) -> ConfigError:
        """An error that says what ``error`` was, and where: the folder, or its file ``name``."""
        where = "%s in the %s %r" % (name, self.noun, self.path) if name else "%s %r" % (self.noun, self.path)
        return ConfigError("%s cannot be used: %s; %s" % (where, reason(error), remedy(reason(error), self.remedy)))

    def names(self, folder: str = "") -> List[str]:
        """The names in the folder, or in one below it; [] if that is not there. Raises ConfigError."""
        try:
            return sorted(os.listdir(self.at(folder)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise self.unusable(error) from error

    def check_files(self, names: Iterable[str]) -> None:
        """Raises ConfigError if one of these names is that of a folder, a link, a pipe or the like, so that no file can
        be written there, or read."""
        for name in names:
            with suppress(OSError):
                kind = kind_of(os.lstat(self.at(name)).st_mode)
                if kind:
                    raise ConfigError("%s is %s, and Stoker needs that name for a file of its own: %s" % (
                        printable_path(os.path.join(self.path, name)), kind,
                        "put the file itself there, or remove it" if kind == "a link" else "remove it"))

    def read(self, name: str, max_bytes: int) -> bytes:
        """The content of a file of Stoker. Raises OSError, also if it is larger, or no regular file."""
        return read_whole(self.at(name), max_bytes)

    def close(self) -> None:
        """Frees the descriptor: ``open_path`` can be used no more."""
        os.close(self._fd)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, kind: Any, *exc_info: Any) -> None:
        """A folder that was made, and holds nothing, is removed after an error."""
        if kind is not None and self._made:
            with suppress(OSError):
                if all(name in NOTHING and not os.path.getsize(self.at(name)) for name in os.listdir(self.at())):
                    for name in os.listdir(self.at()):
                        os.remove(self.at(name))
                    os.rmdir(self.path)
        self.close()

    @property
    def is_gone(self) -> bool:
        """Whether the folder was removed while it is open."""
        return os.fstat(self._fd).st_nlink == 0
