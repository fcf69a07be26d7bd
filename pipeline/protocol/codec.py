"""Message <-> ZeroMQ frames: a msgpack header, then the raw bytes of each array.

Header: ``[PROTOCOL_VERSION, kind, [field, ...]]``. Only plain msgpack values travel, never pickle; every field is
checked against the table below before anything is built from it, and arrays stay untouched frames until
``check_arrays`` has compared their number, type and length with the job. Text is UTF-8 with surrogate escapes, so a
file name of any bytes survives the trip.

Errors are the peer's: ``ProtocolError``, with a text that names the message and the field.
"""

import re
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple, Type

import msgpack
import msgpack.fallback
import numpy as np

from stoker.pipeline.arrays import ITEM_BYTES, ArraySpec
from stoker.pipeline.errors import ProtocolError, VersionMismatch
from stoker.pipeline.plan import produced_indices
from stoker.pipeline.protocol.messages import MAX_REASON, MAX_TEXT, PROTOCOL_VERSION, Alive, Failed, Hello, Job, Lease
from stoker.pipeline.protocol.messages import Leaving, Produced, Refused, Returned, Revoked, Sample, Skipped, Stop
from stoker.pipeline.protocol.messages import Timings, Welcome, samples_of

#: A header holds text and numbers only; a lease of 1,000 long paths stays far below. For what the trainer says.
MAX_HEADER_BYTES = 16 << 20
MAX_NAME = 300
MAX_SAMPLES = 1 << 20
#: What may be a msgpack timestamp, or the middle of a text or number; and the longest header of a
#: worker, whoever that is, in which we look closer.
_TIMESTAMP = re.compile(b"[\xd4-\xd8]\xff|\xc7.\xff|\xc8..\xff|\xc9....\xff", re.DOTALL)
_CLOSER_LOOK_BYTES = 1 << 20
_INT64 = 1 << 63
_LABELS = 1 << 31

Check = Callable[[Any], Any]


_ON_THE_WIRE = {name: np.dtype(name).newbyteorder("<") for name in ITEM_BYTES}


def max_header_bytes(batch_size: int) -> int:
    """Of what a worker says: three texts of any characters, a reason for each sample and spare, and plenty besides."""
    return (256 << 10) + 3 * 4 * MAX_TEXT + 2 * (4 * MAX_REASON + 100) * batch_size


def _int(low: int, high: int = _INT64 - 1) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError("wants an integer in %d..%d, not %.80r" % (low, high, value))
        return value
    return check


def _seconds(value: Any) -> float:
    if type(value) is not float or not 0 <= value < 1e9:
        raise ValueError("wants seconds, not %.80r" % (value,))
    return value


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("wants true or false, not %.80r" % (value,))
    return value


def _text(most: int, least: int = 0) -> Check:
    def check(value: Any) -> str:
        if type(value) is not str or not least <= len(value) <= most:
            raise ValueError("wants a text of %d to %d characters, not %.80r" % (least, most, value))
        return value
    return check


def _dtype(value: Any) -> str:
    if type(value) is not str or value not in ITEM_BYTES:
        raise ValueError("wants one of %s, not %.80r" % (", ".join(sorted(ITEM_BYTES)), value))
    return value


def _list_of(check_item: Check, most: int) -> Check:
    def check(value: Any) -> Tuple[Any, ...]:
        if type(value) is not list or len(value) > most:
            raise ValueError("wants a list of at most %d, not %.80r" % (most, value))
        return tuple(check_item(item) for item in value)
    return check


def _record(make: Callable[..., Any], *checks: Check) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not list or len(value) != len(checks):
            raise ValueError("wants a list of %d fields, not %.80r" % (len(checks), value))
        return make(*[check_one(field) for check_one, field in zip(checks, value)])
    return check


_count = _int(0, MAX_SAMPLES)
_lease_id = _int(0)
_position = _int(0)
_run = _text(64, 1)
_spec = _record(ArraySpec, _text(MAX_NAME, 1), _dtype, _list_of(_int(1, 1 << 20), 8))
_job = _record(Job, _text(MAX_NAME, 1), _list_of(_spec, 16), _int(1, MAX_SAMPLES), _int(-_INT64), _text(MAX_NAME),
               _text(MAX_TEXT), _bool, _bool, _list_of(_text(MAX_TEXT), 16))
_sample = _record(Sample, _int(0), _text(MAX_TEXT), _int(0, _LABELS - 1))
_each_sample = _list_of(_sample, MAX_SAMPLES)
_skipped = _record(Skipped, _int(0), _text(MAX_REASON))
_timings = _record(Timings, _seconds, _seconds, _seconds, _seconds)


def _samples(value: Any) -> Tuple[Any, ...]:
    """The same as ``_each_sample``, which is asked where something is wrong: every lease has as many samples as its
    batch, and looked at column by column they cost a third."""
    if type(value) is list and 0 < len(value) <= MAX_SAMPLES and set(map(type, value)) == {list} and (
            set(map(len, value)) == {3}):
        indices, paths, labels = zip(*value)
        if (set(map(type, indices)) == {int} and min(indices) >= 0 and max(indices) < _INT64
                and set(map(type, paths)) == {str} and max(map(len, paths)) <= MAX_TEXT
                and set(map(type, labels)) == {int} and min(labels) >= 0 and max(labels) < _LABELS):
            return samples_of(value)
    return _each_sample(value)


class _Shape(NamedTuple):
    make: Type[Any]
    checks: Tuple[Tuple[str, Check], ...]


# kind on the wire -> the message and its fields, in order. Produced's arrays are the frames behind the header.
_FROM_WORKER: Dict[str, _Shape] = {
    "hello": _Shape(Hello, (("worker", _text(MAX_NAME, 1)), ("pid", _int(0)), ("versions", _text(MAX_NAME)),
                            ("capacity", _int(1, 1024)), ("last_exit", _text(MAX_NAME)), ("cores", _int(1, 1 << 16)))),
    "produced": _Shape(Produced, (("run", _run), ("lease", _lease_id), ("position", _position), ("count", _count),
                                  ("skipped", _list_of(_skipped, MAX_SAMPLES)), ("produce_s", _seconds),
                                  ("timings", _timings))),
    "failed": _Shape(Failed, (("run", _run), ("lease", _lease_id), ("position", _position),
                              ("error", _text(MAX_TEXT)), ("traceback", _text(MAX_TEXT)),
                              ("sample", _text(MAX_TEXT)))),
    "returned": _Shape(Returned, (("run", _run), ("lease", _lease_id))),
    "leaving": _Shape(Leaving, (("run", _run), ("lease", _int(-1)), ("reason", _text(MAX_TEXT)))),
    "alive": _Shape(Alive, (("run", _run),)),
}
_FROM_TRAINER: Dict[str, _Shape] = {
    "welcome": _Shape(Welcome, (("run", _run), ("job", _job), ("heartbeat_s", _seconds))),
    "refused": _Shape(Refused, (("reason", _text(MAX_TEXT)), ("final", _bool))),
    "lease": _Shape(Lease, (("lease", _lease_id), ("position", _position), ("epoch", _int(0)), ("training", _bool),
                            ("samples", _samples), ("replacements", _samples), ("isolated", _bool))),
    "revoked": _Shape(Revoked, (("lease", _lease_id),)),
    "alive": _FROM_WORKER["alive"],
    "stop": _Shape(Stop, (("reason", _text(MAX_TEXT)),)),
}
_KINDS = {shape.make: (kind, shape)
          for table in (_FROM_WORKER, _FROM_TRAINER) for kind, shape in table.items()}


def _plain(value: Any) -> Any:
    """What msgpack makes of a value that it does not know: the list of a record's fields. Tuples, samples among them,
    are lists to it by themselves."""
    if isinstance(value, (ArraySpec, Job)):
        return [getattr(value, name) for name in value.__dataclass_fields__]
    raise TypeError("%r is nothing that travels" % (value,))


def encode(message: Any) -> List[Any]:
    """The frames of ``message``: header bytes, then (Produced only) the array buffers themselves, not copied."""
    kind, shape = _KINDS[type(message)]
    fields = [getattr(message, name) for name, _ in shape.checks]
    header = msgpack.packb([PROTOCOL_VERSION, kind, fields], default=_plain, use_bin_type=True,
                           unicode_errors="surrogateescape")
    if not isinstance(message, Produced):
        return [header]
    # an empty array has no buffer to export on every numpy; its frame is simply empty
    return [header] + [array.reshape(-1).view(np.uint8).data if array.size else b"" for array in message.arrays]


def decode_from_worker(frames: Sequence[Any], most_bytes: int = MAX_HEADER_BYTES) -> Any:
    """The message a worker sent. ``frames``: bytes-like objects; ``most_bytes``: of the header. Raises ProtocolError,
    VersionMismatch."""
    return _decode(frames, _FROM_WORKER, most_bytes, _CLOSER_LOOK_BYTES)


def decode_from_trainer(frames: Sequence[Any]) -> Any:
    """The message the trainer sent. ``frames``: bytes-like objects. Raises ProtocolError, VersionMismatch."""
    return _decode(frames, _FROM_TRAINER, MAX_HEADER_BYTES, MAX_HEADER_BYTES)


def _unpack(header: Any, closer_look_bytes: int) -> Any:
    """The value of a header. msgpack below 1.2, the last for Python 3.6 among them, never frees the lists inside of
    what it fails to unpack (its pull request 671), so nothing is built here that could fail later."""
    size = len(header) or 1
    unpacker = msgpack.Unpacker(max_buffer_size=size, read_size=size)
    unpacker.feed(header)
    unpacker.skip()                              # complete, and not too deep; builds nothing
    if unpacker.tell() != len(header):
        raise ValueError("more than one value")
    options = dict(raw=False, use_list=True, unicode_errors="surrogateescape", strict_map_key=False,
                   object_pairs_hook=tuple,      # maps have no place here, and as a tuple any key will do
                   ext_hook=lambda code, data: None)     # nor have these, and a negative code would be an error
    if not _TIMESTAMP.search(header):
        return msgpack.unpackb(header, **options)
    if len(header) > closer_look_bytes:
        raise ValueError("may hold a timestamp")
    return msgpack.fallback.unpackb(header, **options)     # slower, and frees


def _decode(frames: Sequence[Any], table: Dict[str, _Shape], most_bytes: int,
            closer_look_bytes: int) -> Any:
    if not frames:
        raise ProtocolError("an empty message")
    if len(frames[0]) > most_bytes:
        raise ProtocolError("a header of %d bytes (limit %d)" % (len(frames[0]), most_bytes))
    try:
        header = _unpack(frames[0], closer_look_bytes)
    except Exception as error:  # msgpack documents no common base: ValueError, UnpackException, TypeError ...
        raise ProtocolError("a header that is no msgpack (%s)" % type(error).__name__) from error
    if type(header) is not list or len(header) != 3 or type(header[1]) is not str or type(header[2]) is not list:
        raise ProtocolError("a header that is no [version, kind, fields]")
    version, kind, fields = header
    if version != PROTOCOL_VERSION and kind != "refused":
        raise VersionMismatch(version if type(version) is int else "?", PROTOCOL_VERSION)
    if kind not in table:
        raise ProtocolError("a message of unknown kind %.40r" % kind)
    shape = table[kind]
    if len(fields) != len(shape.checks):
        raise ProtocolError("%s: %d fields instead of %d" % (kind, len(fields), len(shape.checks)))
    values = []
    for (name, check), value in zip(shape.checks, fields):
        try:
            values.append(check(value))
        except ValueError as error:
            raise ProtocolError("%s.%s %s" % (kind, name, error)) from error
        except RecursionError:  # printing what came, which may be nested deeper than Python goes
            raise ProtocolError("%s.%s is nested too deep" % (kind, name)) from None
    if shape.make is Produced:
        values.insert(-1, tuple(frames[1:]))
    elif len(frames) > 1:
        raise ProtocolError("%s: %d frames behind the header, wants none" % (kind, len(frames) - 1))
    return shape.make(*values)


def check_arrays(produced: Produced, job: Job, samples: Sequence[int],
                 replacements: Sequence[int] = ()) -> Tuple["np.ndarray", ...]:
    """Read-only views [count, ...] on the frames of ``produced``, after they were found to be this step's batch.

    ``samples``: the indices of the step; ``spares``: those that its lease offered for bad ones. Dtype and shape come
    from the job, so nothing of the peer's is interpreted.
    Raises ProtocolError if number or length of the frames, or the samples accounted for, are not the job's.
    """
    skipped = [skip.index for skip in produced.skipped]
    if skipped and (len(set(skipped)) != len(skipped) or not set(samples).union(replacements).issuperset(skipped)):
        raise ProtocolError("produced.skipped names samples that the lease does not hold, or one twice")
    if produced_indices(samples, replacements, skipped, produced.count) is None:
        raise ProtocolError("produced.count is %d with %d skipped: the lease holds %d samples%s"
                            % (produced.count, len(skipped), len(samples),
                               " and %d replacements" % len(replacements) if replacements else ""))
    if len(produced.arrays) != len(job.arrays):
        raise ProtocolError("produced has %d arrays, the job %d" % (len(produced.arrays), len(job.arrays)))
    for frame, spec in zip(produced.arrays, job.arrays):
        wanted = produced.count * spec.sample_bytes
        if len(frame) != wanted:
            raise ProtocolError("produced.%s has %d bytes, the job wants %d" % (spec.name, len(frame), wanted))
    views = []
    for frame, spec in zip(produced.arrays, job.arrays):
        dtype = _ON_THE_WIRE[spec.dtype]
        shape = (produced.count,) + spec.shape
        views.append(np.frombuffer(frame, dtype).reshape(shape) if produced.count else np.empty(shape, dtype))
    return tuple(views)

