"""What a long lease will cost a worker in memory: found out before anything of it is built.

A byte of msgpack may become an object of 64 bytes, so 256 MB of a hostile trainer could take 16 GB. A message of up to
SHORT_BYTES is harmless. A longer one is walked through, which takes some microseconds for each sample: it must have the
form of a lease, and its samples are counted.
"""

from typing import Any

import msgpack

from stoker.pipeline.arrays import Buffer
from stoker.pipeline.errors import ProtocolError
from stoker.pipeline.protocol.columns import COLUMNS

SAMPLE_BYTES = 400             # more than a sample takes as an object, and meanwhile as a list, besides texts and row
SHORT_BYTES = 4 << 20          # of any message; the job of a table with 4096 columns is shorter
FIELDS = 12                    # of a Lease: four numbers, samples, replacements, two flags, the known, needs, the slot
KNOWN_FIELDS = 5               # of a Skipped
_LISTS = frozenset(range(0x80, 0xa0)) | frozenset(range(0xdc, 0xe0))      # first bytes of lists and maps in msgpack


def check_cost(header: Buffer, limit_bytes: int) -> None:
    """Raises ProtocolError if the message of this ``header`` is a lease that would take more than ``limit_bytes`` of
    memory, or neither a lease nor short."""
    if len(header) <= SHORT_BYTES:
        return
    try:
        walk = _Walk(header)
        walk.list_of(3)
        walk.scalar()
        kind = walk.scalar_value()
        if kind != "lease":
            raise ProtocolError("a message %.40r has %d bytes (limit %d)" % (kind, len(header), SHORT_BYTES))
        walk.list_of(FIELDS)
        for _ in range(4):
            walk.scalar()
        walk.most = max(0, limit_bytes - len(header)) // SAMPLE_BYTES
        walk.samples()
        walk.samples()
        walk.scalar()
        walk.scalar()
        walk.known()
        for _ in range(3):
            walk.scalar()
    except OverflowError:
        raise ProtocolError("the samples of a lease would take more than %d MB of memory, half of what this worker "
                            "permits for both of its leases (--max-batch-mb)" % (limit_bytes >> 20)) from None
    except ProtocolError:
        raise
    except Exception as error:      # msgpack's errors have no common base
        raise ProtocolError("a header of %d bytes is not in the form of a lease (%s)"
                            % (len(header), type(error).__name__)) from error


class _Walk:
    """A place in a header, from which it goes on. Raises what msgpack raises; ValueError for another form than asked
    for, OverflowError from the sample on that is one too many."""

    def __init__(self, header: Buffer) -> None:
        self._header = header
        self._unpacker = msgpack.Unpacker(max_buffer_size=len(header), read_size=len(header), raw=False)
        self._unpacker.feed(header)
        self.most = 0

    def list_of(self, length: int) -> None:
        """Enters a list."""
        if self._unpacker.read_array_header() != length:
            raise ValueError("a list of another length")

    def scalar(self) -> None:
        """Passes a value that is neither a list nor a map."""
        if self._header[self._unpacker.tell()] in _LISTS:
            raise ValueError("a list in place of a value")
        self._unpacker.skip()

    def scalar_value(self) -> Any:       # whatever the bytes mean to msgpack
        """As ``scalar``."""
        if self._header[self._unpacker.tell()] in _LISTS:
            raise ValueError("a list in place of a value")
        return self._unpacker.unpack()

    def known(self) -> None:
        """Passes a list of samples that are known to kill, and counts them."""
        for _ in range(self._count()):
            self.list_of(KNOWN_FIELDS)
            self._scalars(KNOWN_FIELDS)

    def samples(self, have_partners: bool = True) -> None:
        """Passes the columns of samples, and counts these. Partners are samples that have none."""
        columns = self._unpacker.read_array_header()
        if not columns:
            return
        if columns != COLUMNS:
            raise ValueError("another number of columns")
        count = self._count()
        self._scalars(count)
        for _ in range(COLUMNS - 2):
            self._scalars(self._length(count))
        for _ in range(self._length(count if have_partners else 0)):
            self.samples(False)

    def _length(self, count: int) -> int:
        """Enters a column: as long as the others, or empty."""
        length: int = self._unpacker.read_array_header()
        if length not in (0, count):
            raise ValueError("a column of another length")
        return length

    def _scalars(self, count: int) -> None:
        for _ in range(count):
            self.scalar()

    def _count(self) -> int:
        """Enters a list of samples; how many they are."""
        count: int = self._unpacker.read_array_header()
        self.most -= count
        if self.most < 0:
            raise OverflowError
        return count
