"""Shards of a stoker-pack that was interrupted: they are whole files, and a training on them would miss the rest of the
samples without a word. The file that stoker-pack keeps beside them says whether it has finished."""

import os
from contextlib import suppress
from typing import Any, Dict, Iterable, List

from stoker.pipeline.errors import DatasetError
from stoker.pipeline.storage.checked_json import MAX_RECORD_BYTES, loads
from stoker.pipeline.storage.safe_files import read_whole
from stoker.pipeline.text import native, printable_path

NAME = "stoker-pack.json"


def refuse_unfinished(root: str, paths: Iterable[str]) -> None:
    """Raises DatasetError if one of the files ``paths`` below the folder ``root`` is a shard of an unfinished pack."""
    folders: Dict[str, List[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, []).append(name)
    for folder, names in folders.items():
        manifest = _manifest(os.path.join(root, folder, NAME))
        if manifest.get("finished") is not False or "stoker_pack" not in manifest:
            continue
        options = manifest.get("options")
        prefix = options.get("prefix") if isinstance(options, dict) else None
        shard = next((name for name in names if isinstance(prefix, str) and name.endswith(".tar")
                      and name.startswith(prefix + "-")), None)
        if shard is not None:
            place = os.path.join(root, folder)
            raise DatasetError("%s is a shard of a pack that is not finished, so samples are missing: run the same "
                               "stoker-pack command again, which goes on where it stopped (%s says how far it is)" % (
                                   printable_path(os.path.join(place, shard)),
                                   printable_path(os.path.join(place, NAME))))


def _manifest(path: str) -> Dict[str, Any]:
    """What stoker-pack says; {} if there is no such file, or one that stoker-pack did not write."""
    with suppress(OSError, ValueError):
        found = loads(read_whole(native(path), MAX_RECORD_BYTES))
        if isinstance(found, dict):
            return found
    return {}
