"""A text file of a user that is read from its beginning to its end: encoding, lines, errors and progress."""

import codecs
import contextlib
import io
import os
import stat
import sys
from typing import Any, Callable, Iterator, Optional, TextIO, Tuple

from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.sources.fields import fault_of
from stoker.pipeline.sources.remote import opened_file
from stoker.pipeline.sources.roots import Path, absolute, folder_of, is_url
from stoker.pipeline.storage.store import StoreError, Version
from stoker.pipeline.text import path_bytes, printable_path

LINES_PER_REPORT = 4096
REPORT_AFTER_S = 1.0
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class TextFile:
    """A text file, on this host or in a store. ``encoding``: None if it can be none but UTF-8. Raises ConfigError if
    ``file`` is no path or the ``encoding`` is unknown, DatasetError if there is no such file on this host. A byte order
    mark is no part of its text."""

    def __init__(self, file: Path, encoding: Optional[str] = None) -> None:
        if not isinstance(file, (str, os.PathLike)) or not isinstance(os.fspath(file), str) or not os.fspath(file):
            raise ConfigError("a file must be given as its path, not as %.80r" % (file,))
        self.path = os.fspath(file)
        self.name = printable_path(self.path)
        self._is_free = encoding is not None
        try:
            self._encoding = codecs.lookup(encoding or "utf-8").name
            "".encode(self._encoding)           # a LookupError for those that are not of text, such as 'hex'
        except (LookupError, TypeError):
            raise ConfigError("there is no encoding %.80r: Python has utf-8, latin-1, cp1252, utf-16 ..."
                              % (encoding,)) from None
        if self._encoding == "utf-8":
            self._encoding = "utf-8-sig"
        self._is_remote = is_url(self.path)
        self._version: Optional[Version] = None        # of a remote file, once it was opened
        if self._is_remote:
            folder_of(self.path)                # a ConfigError for what can be no file's URL
            return
        try:
            mode = os.stat(path_bytes(self.path)).st_mode
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error
        if not stat.S_ISREG(mode):
            raise DatasetError("%s is %s, and a file is needed here"
                               % (self.name, "a folder" if stat.S_ISDIR(mode) else "no regular file"))

    def root(self, root: Optional[Path]) -> str:
        """The root ``root``, or the folder of this file if it is None."""
        return folder_of(self.path) if root is None else absolute_root(root)

    def at(self, line: int) -> str:
        """The file and a line's number, from 1 on, for an error."""
        return "%s, line %d" % (self.name, line)

    @contextlib.contextmanager
    def opened(self, newline: Optional[str] = None, errors: str = "strict") -> Iterator[TextIO]:
        """The file's text while it is read. Raises DatasetError for text of another encoding."""
        file, self._size_bytes = self._opened()
        with io.TextIOWrapper(file, encoding=self._encoding, errors=errors, newline=newline) as text:
            try:
                start: Any = text.buffer
                if self._encoding == "utf-8-sig" and start.peek(2)[:2] in _UTF16:
                    raise UnicodeError("it begins as UTF-16 does")
                yield text
            except UnicodeError as error:
                raise self._undecodable(error) from None
            except StoreError as error:
                raise DatasetError(str(error)) from error

    def _opened(self) -> Tuple[Any, int]:
        """The file, to be read as bytes, and its size."""
        if self._is_remote:
            remote, version = opened_file(self.path)
            if self._version not in (None, version):
                raise DatasetError("%s has changed while it was read: start again when it changes no more" % self.name)
            self._version = version
            return remote, version.size
        try:
            file = open(path_bytes(self.path), "rb")
            return file, os.fstat(file.fileno()).st_size
        except OSError as error:
            raise self._unreadable(error) from error

    def lines(self, errors: str = "strict") -> Iterator[str]:
        """The lines without their ends, but not blank ones; ``self.line`` is the number of the last one."""
        self.line = 0
        with self.opened(errors=errors) as text, self.progress(text) as report:
            for self.line, line in enumerate(text, 1):
                if not self.line % LINES_PER_REPORT:
                    report()
                if not line.isspace():
                    yield line.rstrip("\n")

    @contextlib.contextmanager
    def progress(self, text: TextIO) -> Iterator[Callable[[], Any]]:
        """A function that shows on a terminal how far ``text`` was read, if that takes long."""
        try:
            if not sys.stderr.isatty():
                raise ImportError
            from tqdm import tqdm
        except (ImportError, AttributeError):     # no terminal, or none of the trainer's packages
            yield lambda: None
            return
        with tqdm(total=self._size_bytes, unit="B", unit_scale=True, desc=self.name, leave=False,
                  delay=REPORT_AFTER_S) as bar:
            yield lambda: bar.update(text.buffer.tell() - bar.n)

    def _unreadable(self, error: Exception) -> DatasetError:
        return DatasetError("%s cannot be read (%s): check its name, and whether this user may read it"
                            % (self.name, getattr(error, "strerror", None) or error))

    def _undecodable(self, error: UnicodeError) -> DatasetError:
        """The error for the first line that is not in the encoding."""
        decoder, number, start = codecs.getincrementaldecoder(self._encoding)(), 0, b""
        with self._opened()[0] as file:
            for line in file:
                number, start = number + 1, start or line
                try:
                    decoder.decode(line)
                except UnicodeError:
                    break
        likely = "utf-16" if start[:2] in _UTF16 else "latin-1"
        remedy = "give the file's encoding, such as encoding=%r" % likely
        if not self._is_free:
            remedy = "convert the file to UTF-8" + " from UTF-16" * (likely == "utf-16")
        fact = "byte 0x%02x" % error.object[error.start] if isinstance(error, UnicodeDecodeError) else str(error)
        name = self._encoding.replace("-sig", "")
        return DatasetError("%s is not %s (%s): %s" % (self.at(number), name, fact, remedy))


def absolute_root(root: Path) -> str:
    """The root that a user gave: the path of a folder, or the URL of one. Raises ConfigError if it is none."""
    if not isinstance(root, (str, os.PathLike)) or not isinstance(os.fspath(root), str) or not os.fspath(root):
        raise ConfigError("root must be the path of a folder, or a URL, not %.80r" % (root,))
    text = os.fspath(root)
    if fault_of(text):
        raise ConfigError("root must be the path of a folder, and %.80r %s" % (text, fault_of(text)))
    return absolute(text)
