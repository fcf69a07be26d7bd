"""The bytes of samples' files, as generators and readers get them: all that reads them calls ``read``."""

from typing import Optional, Tuple, Union

from stoker.pipeline.storage.folder import MAX_FILE_BYTES, SamplePath, read_file
from stoker.pipeline.storage.store import Version
from stoker.workers.stopwatch import timed


@timed("storage")
def read(path: Union[SamplePath, str, bytes], max_bytes: int = MAX_FILE_BYTES, advice: str = ""
         ) -> Tuple[bytes, Optional[Version]]:
    """The bytes at ``path`` and the version of the file: see ``read_file``, whose errors it raises."""
    return read_file(path, max_bytes, advice)
