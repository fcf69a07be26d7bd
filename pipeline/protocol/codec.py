"""Message <-> ZeroMQ frames: a msgpack header, then the raw bytes of each array.

The header is ``[PROTOCOL_VERSION, kind, [field, ...]]``, of plain msgpack values, never pickle. The tables below list
every field of every message with its check: a bad one raises ``ProtocolError`` with the names of message and field.
Arrays stay frames until ``check_arrays`` (``batch_arrays.py``) has compared them with the job. Text is UTF-8 with
surrogate escapes, so that file names of any bytes can travel.
"""

import gc
from dataclasses import fields as fields_of
from operator import attrgetter
from typing import Any, Callable, Dict, List, Sequence, Tuple, Type, TypeVar, Union

from stoker.pipeline.arrays import ITEM_BYTES, MAX_ARRAYS, MAX_AXES, MAX_SIDE, ArraySpec, Buffer, UpTo
from stoker.pipeline.errors import ConfigError, ProtocolError, VersionMismatch
from stoker.pipeline.formats import FORMATS
from stoker.pipeline.options import MAX_BATCH, MAX_BATCH_MB, MAX_TRAINERS
from stoker.pipeline.protocol.batch_arrays import frame_of
from stoker.pipeline.protocol.columns import columns_of, samples_from
from stoker.pipeline.protocol.messages import MAX_REASON, MAX_SKIPPED_PATH, MAX_SLOTS, MAX_TEXT, NO_SLOT
from stoker.pipeline.protocol.messages import PROTOCOL_VERSION, REMARKS
from stoker.pipeline.protocol.messages import Alive, Failed, FromTrainer, FromWorker, Hello, Job, Lease, Leaving
from stoker.pipeline.protocol.messages import Need, Produced, Ready, Refused, Remark, Returned, Revoked, Room
from stoker.pipeline.protocol.messages import Skipped, Stop, Timings, Unfit, Welcome
from stoker.pipeline.protocol.packing import pack
from stoker.pipeline.protocol.unpacking import LONG_BYTES, unpack
from stoker.pipeline.protocol.walking import check_cost

MAX_HEADER_BYTES = 16 << 20    # of a worker's message, where the job does not say less
MAX_LEASE_BYTES = 256 << 20    # of a trainer's message, whose job a worker does not know before: a million paths of 200
LEASE_COST_BYTES = int(MAX_BATCH_MB * 2**20) // 2      # see --max-batch-mb of the workers
MAX_NAME = 300
MAX_COLUMNS = 4096
_INT64 = 1 << 63

_ARRAYS_FIELD = list(Produced.__dataclass_fields__).index("arrays")

T = TypeVar("T")
#: Returns the value of a field, which may be anything that msgpack unpacks. Raises ValueError.
Check = Callable[[object], T]


def max_header_bytes(batch_size: int) -> int:
    """The limit for a worker's header: three of the longest texts and reasons for all samples and replacements."""
    return (256 << 10) + 3 * 4 * MAX_TEXT + 2 * (4 * (MAX_REASON + MAX_SKIPPED_PATH) + 100) * batch_size


def _int(low: int, high: int = _INT64 - 1) -> Check[int]:
    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError("must be an integer in %d..%d, not %.80r" % (low, high, value))
        return value
    return check


def _seconds(value: object) -> float:
    if type(value) is not float or not 0 <= value < 1e9:
        raise ValueError("must be seconds, not %.80r" % (value,))
    return value


def _bool(value: object) -> bool:
    if type(value) is not bool:
        raise ValueError("must be true or false, not %.80r" % (value,))
    return value


def _bytes(max_length: int) -> Check[bytes]:
    def check(value: object) -> bytes:
        if type(value) is not bytes or len(value) > max_length:
            raise ValueError("must be at most %d bytes, not %.80r" % (max_length, value))
        return value
    return check


def _side(value: object) -> int:
    """A side of a shape, or [the most, pad] of one that differs from sample to sample."""
    if type(value) is list and len(value) == 2 and type(value[1]) in (bool, int, float):
        return UpTo(_int(1, MAX_SIDE)(value[0]), value[1])
    return _int(1, MAX_SIDE)(value)


def _text(max_length: int, min_length: int = 0) -> Check[str]:
    def check(value: object) -> str:
        if type(value) is not str or not min_length <= len(value) <= max_length:
            raise ValueError("must be a text of %d to %d characters, not %.80r" % (min_length, max_length, value))
        return value
    return check


def _one_of(choices: Sequence[str]) -> Check[str]:
    def check(value: object) -> str:
        if type(value) is not str or value not in choices:
            raise ValueError("must be one of %s, not %.80r" % (", ".join(choices), value))
        return value
    return check


def _list_of(check_item: Check[T], max_length: int) -> Check[Tuple[T, ...]]:
    def check(value: object) -> Tuple[T, ...]:
        if type(value) is not list or len(value) > max_length:
            raise ValueError("must be a list of at most %d, not %.80r" % (max_length, value))
        return tuple([check_item(item) for item in value]) if value else ()
    return check


def _record(make: Callable[..., T], *checks: Check[object]) -> Check[T]:
    def check(value: object) -> T:
        if type(value) is not list or len(value) != len(checks):
            raise ValueError("must be a list of %d fields, not %.80r" % (len(checks), value))
        return make(*[check_field(field) for check_field, field in zip(checks, value)])
    return check


_count = _int(0, MAX_BATCH)
_lease_id = _position = _int(0)
_run = _text(64, 1)
_slot = _int(NO_SLOT, MAX_SLOTS - 1)
_spec = _record(ArraySpec, _text(MAX_NAME, 1), _one_of(sorted(ITEM_BYTES)), _list_of(_side, MAX_AXES))
_height_width = _record(lambda *size: size, _int(1, 1 << 14), _int(1, 1 << 14))
_JOB = dict(generator=_text(MAX_TEXT, 1), arrays=_list_of(_spec, MAX_ARRAYS), batch_size=_int(1, MAX_BATCH),
            seed=_int(-_INT64), decode=_text(MAX_NAME), data_root=_text(MAX_TEXT), exif_rotate=_bool,
            follow_links=_bool, probes=_list_of(_text(MAX_TEXT), 16), image_size=_height_width,
            columns=_list_of(_text(MAX_TEXT), MAX_COLUMNS), rows=_int(1, MAX_BATCH), may_skip=_bool,
            augment=_text(MAX_TEXT), trainer_root=_text(MAX_TEXT), max_pixels=_int(1),
            max_file_mb=_int(1, 1 << 15), max_text_mb=_int(1), truncated=_text(MAX_NAME), picture_cpu_s=_seconds,
            picture_memory_mb=_int(0, 1 << 20), formats=_list_of(_one_of(FORMATS), len(FORMATS)))
_job = _record(Job, *_JOB.values())
_skip = _record(Skipped, _int(0), _text(MAX_REASON), _text(MAX_SKIPPED_PATH), _bool, _bool)
_skipped = _list_of(_skip, MAX_BATCH)
_remarks = _list_of(_record(Remark, _one_of(REMARKS), _text(MAX_SKIPPED_PATH)), len(REMARKS))
_timings_one_by_one = _record(Timings, _seconds, _seconds, _seconds, _seconds, _seconds)


def _timings(value: object) -> Timings:
    """As ``_timings_one_by_one``, in a third of the time: each batch has them."""
    if type(value) is list and len(value) == 5 and set(map(type, value)) == {float} and (
            min(value) >= 0 and sum(value) < 1e9):       # the sum of one that is no number is none
        return Timings._make(value)
    return _timings_one_by_one(value)


def _values_of(names: List[str]) -> Callable[[Any], Tuple[Any, ...]]:      # Any: a message that has these fields
    return attrgetter(*names) if len(names) > 1 else lambda message: (getattr(message, names[0]),)


#: For each kind on the wire: the message's class, and its fields in order with their checks. The arrays of Produced are
#: not fields, but frames of their own.
_Table = Dict[str, Tuple[Type[T], Dict[str, Check[object]]]]
_FROM_WORKER: _Table[FromWorker] = {
    "hello": (Hello, dict(worker=_text(MAX_NAME, 1), pid=_int(0), versions=_text(MAX_NAME), capacity=_int(0, 1024),
                          last_exit=_text(MAX_NAME), cores=_int(1, 1 << 16), sandbox=_text(MAX_TEXT),
                          trainers=_int(1, MAX_TRAINERS))),
    "ready": (Ready, dict(run=_run, socket=_text(MAX_NAME), no_memory=_text(MAX_NAME))),
    "unfit": (Unfit, dict(run=_text(64), reason=_text(MAX_TEXT), traceback=_text(MAX_TEXT))),
    "produced": (Produced, dict(run=_run, lease=_lease_id, position=_position, count=_count, skipped=_skipped,
                                produce_s=_seconds, timings=_timings, rows=_list_of(_count, MAX_BATCH),
                                missing=_count, aligned=_bool, remarks=_remarks, slot=_slot)),
    "failed": (Failed, dict(run=_run, lease=_lease_id, position=_position, error=_text(MAX_TEXT),
                            traceback=_text(MAX_TEXT), sample=_text(MAX_TEXT), unreadable=_list_of(_skip, 1),
                            hopeless=_bool, starved=_bool)),
    "returned": (Returned, dict(run=_run, lease=_lease_id)),
    "room": (Room, dict(run=_run, leases=_int(0, 1024))),
    "leaving": (Leaving, dict(run=_run, lease=_int(-1), reason=_text(MAX_TEXT))),
    "alive": (Alive, dict(run=_run)),
}
_FROM_TRAINER: _Table[FromTrainer] = {
    "welcome": (Welcome, dict(run=_run, job=_job, heartbeat_s=_seconds)),
    "refused": (Refused, dict(reason=_text(MAX_TEXT), final=_bool)),
    "lease": (Lease, dict(lease=_lease_id, position=_position, epoch=_int(0), training=_bool, samples=samples_from,
                          replacements=samples_from, isolated=_bool, unproven=_bool, known=_skipped,
                          wanted=_count, slack_s=_seconds, slot=_slot)),
    "revoked": (Revoked, dict(lease=_lease_id)),
    "alive": (Alive, dict(run=_run)),
    "need": (Need, dict(wanted=_count, slack_s=_seconds)),
    "stop": (Stop, dict(reason=_text(MAX_TEXT))),
}
_FIELDS = {make: (kind, _values_of(list(checks)))
           for table in (_FROM_WORKER, _FROM_TRAINER) for kind, (make, checks) in table.items()}
_SAMPLES_FIELD = list(_FROM_TRAINER["lease"][1]).index("samples")     # ``replacements`` is the next one


def encode(message: Union[FromWorker, FromTrainer]) -> List[Buffer]:
    """The frames of ``message``: header bytes, then the buffers of Produced's arrays, not copied. Raises ConfigError if
    the rows of a Lease are too large together."""
    kind, values_of = _FIELDS[type(message)]
    fields = values_of(message)
    if isinstance(message, Lease):
        fields = (fields[:_SAMPLES_FIELD] + (columns_of(message.samples), columns_of(message.replacements))
                  + fields[_SAMPLES_FIELD + 2:])
    header = pack([PROTOCOL_VERSION, kind, fields], _plain)
    if len(header) > MAX_LEASE_BYTES and isinstance(message, Lease):     # no worker would read it
        raise ConfigError(too_long(len(header)))
    return [header, *map(frame_of, message.arrays)] if isinstance(message, Produced) else [header]


def too_long(lease_bytes: int) -> str:
    """A sentence for a lease of so many bytes, which is more than MAX_LEASE_BYTES."""
    return ("the paths and rows of one batch have %d bytes when they are packed, and a lease has at most %d: use a "
            "smaller batch_size, or put large values into files" % (lease_bytes, MAX_LEASE_BYTES))


def check_job(job: Job) -> None:
    """Raises ConfigError, which names the field, if workers would refuse to read ``job``."""
    for name, check in _JOB.items():
        value = getattr(job, name)
        try:
            check(unpack(pack(value, _plain), True))
        except (ValueError, TypeError, OverflowError) as error:      # UnicodeEncodeError is a ValueError
            fact = "is not valid Unicode: %.80r" % (value,) if isinstance(error, UnicodeError) else error
            raise ConfigError("%s of the run cannot be sent to workers: it %s" % (name, fact)) from error


def _plain(value: Any) -> List[object]:
    """The fields of a Job or an ArraySpec, which msgpack cannot pack itself."""
    if isinstance(value, ArraySpec):
        return [value.name, value.dtype, [[int(side), side.pad] if isinstance(side, UpTo) else side
                                          for side in value.shape]]
    if isinstance(value, Job):
        return [getattr(value, field.name) for field in fields_of(Job)]
    raise TypeError("a message cannot hold a %s" % type(value).__name__)


def decode_from_worker(frames: Sequence[Buffer], header_limit_bytes: int = MAX_HEADER_BYTES) -> FromWorker:
    """The message that a worker sent. Raises ProtocolError, VersionMismatch."""
    return _decode(frames, _FROM_WORKER, header_limit_bytes, False)


def decode_from_trainer(frames: Sequence[Buffer], lease_cost_bytes: int = LEASE_COST_BYTES) -> FromTrainer:
    """The message that the trainer sent. Raises ProtocolError, VersionMismatch. ``lease_cost_bytes``: most memory that
    a lease may take."""
    if frames and len(frames[0]) <= MAX_LEASE_BYTES:
        check_cost(frames[0], lease_cost_bytes)
    pauses = gc.isenabled() and sum(map(len, frames)) > LONG_BYTES
    if pauses:
        gc.disable()        # the garbage collector would take two thirds of the time
    try:
        return _decode(frames, _FROM_TRAINER, MAX_LEASE_BYTES, True)
    finally:
        if pauses:
            gc.enable()


def _decode(frames: Sequence[Buffer], table: _Table[T], header_limit_bytes: int, may_leak: bool) -> T:
    if not frames:
        raise ProtocolError("the message is empty")
    if len(frames[0]) > header_limit_bytes:
        raise ProtocolError("the header has %d bytes (limit %d)" % (len(frames[0]), header_limit_bytes))
    try:
        header = unpack(frames[0], may_leak)
    except Exception as error:  # msgpack's errors have no common base: ValueError, UnpackException, TypeError ...
        raise ProtocolError("the header is not valid msgpack (%s)" % type(error).__name__) from error
    if type(header) is not list or len(header) != 3 or type(header[1]) is not str or type(header[2]) is not list:
        raise ProtocolError("the header is not [version, kind, fields]")
    version, kind, fields = header
    if version != PROTOCOL_VERSION and kind != "refused":
        raise VersionMismatch(version if type(version) is int else "?", PROTOCOL_VERSION)
    if kind not in table:
        raise ProtocolError("the message is of unknown kind %.40r" % kind)
    make, checks = table[kind]
    if len(fields) != len(checks):
        raise ProtocolError("%s has %d fields instead of %d" % (kind, len(fields), len(checks)))
    values: List[object] = []
    try:
        for check, value in zip(checks.values(), fields):
            values.append(check(value))
    except ValueError as error:
        raise ProtocolError("%s.%s %s" % (kind, list(checks)[len(values)], error)) from error
    except RecursionError:  # the error's text shows the value, which may be nested deeper than Python can follow
        raise ProtocolError("%s.%s is nested too deep" % (kind, list(checks)[len(values)])) from None
    if kind == "produced":
        values.insert(_ARRAYS_FIELD, tuple(frames[1:]))
    elif len(frames) > 1:
        raise ProtocolError("%s has %d frames behind the header instead of none" % (kind, len(frames) - 1))
    return make(*values)
