"""The index of a zip file: where the bytes of its stored entries are. Compressed entries have no bytes of a picture."""

from typing import Any, BinaryIO, Dict

from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.records.file_index import FileIndex
from stoker.pipeline.sources.records.member_names import FOLDER, Member, shown
from stoker.pipeline.sources.records.members import Members
from stoker.pipeline.sources.records.zip_directory import STORED, data_offset, directory, entries

_METHODS = {8: "deflate", 9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz"}


def index(file: BinaryIO, size: int, options: Dict[str, Any]) -> FileIndex:
    """The samples of a zip file, in the order of its directory: see ``stoker.zip`` for ``options``. Folders and hidden
    entries are left out. Raises DatasetError, without the file's name; ConfigError."""
    members = Members(file, {"label": FOLDER, **options})
    where = directory(file, size)
    for entry in entries(file, where):
        if entry.name.endswith("/") or not members.is_wanted(entry.name):
            continue
        if entry.is_encrypted:
            raise DatasetError("the entry %s is encrypted, and workers have no password: unpack the file, and give the "
                               "folder" % shown(entry.name))
        if entry.method != STORED:
            raise DatasetError(
                "the entry %s is compressed (%s), so that its bytes cannot be read at their place: unpack the file "
                "(unzip) and give the folder, pack it again without compression (zip -0 -r NEW.zip FOLDER), or write "
                "tars of it with stoker-pack"
                % (shown(entry.name), _METHODS.get(entry.method, "method %d" % entry.method)))
        members.add(Member(entry.name, data_offset(file, entry, where), entry.length))
    return members.index()
