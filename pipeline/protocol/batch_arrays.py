"""The arrays of a batch that came: compared with the job, as views of the frames of its message, or of a slot of shared
memory."""

from dataclasses import replace
from typing import Any, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from stoker.pipeline.arrays import ITEM_BYTES, SIZES, ArraySpec, Buffer, framed
from stoker.pipeline.errors import ProtocolError
from stoker.pipeline.plan import produced_indices
from stoker.pipeline.protocol.layout import ALIGNMENT, Layout, layout_of
from stoker.pipeline.protocol.messages import NO_SLOT, Job, Produced

_WIRE_DTYPES = {name: np.dtype(name).newbyteorder("<") for name in ITEM_BYTES}


class _Places(NamedTuple):
    """Where the arrays of a job lie in a slot, and what they are."""
    job: Optional[Job]
    layout: Layout
    are_plain: bool       # every byte of them is right, and no side differs
    plain: Sequence[Tuple[int, int, "np.dtype", Tuple[int, ...]]]      # start, bytes of a row, dtype, shape of a row


_last = _Places(None, Layout((), (), 0), False, ())      # a cache, replaced as a whole: a trainer has one job


def _places_of(job: Job) -> _Places:
    global _last
    found = _last
    if found.job is not job:
        layout = layout_of(job.arrays, job.batch_size, job.rows)
        found = _last = _Places(job, layout, not any(spec.upto or spec.dtype == "bool" for spec in job.arrays), [
            (start, spec.sample_bytes, _WIRE_DTYPES[spec.dtype], spec.shape)
            for start, spec in zip(layout.starts, job.arrays)])
    return found


def frame_of(array: "np.ndarray") -> Buffer:
    """The bytes of a C-contiguous array, not copied."""
    # some versions of numpy cannot export the buffer of an empty array
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def with_frames(produced: Produced, views: Sequence["np.ndarray"]) -> Produced:
    """``produced`` with the frames that it would have if its arrays, ``views``, were in no slot."""
    return produced if produced.slot == NO_SLOT else replace(produced, arrays=tuple(map(frame_of, views)))


def check_arrays(produced: Produced, job: Job, samples: Sequence[int], replacements: Sequence[int] = (),
                 slot: "Optional[np.ndarray]" = None) -> "Tuple[np.ndarray, ...]":
    """The arrays of a received batch: read-only views [count, ...] of its frames, or writable ones of ``slot``, uint8
    [slot_bytes], in the order, dtypes and shapes of ``framed(job.arrays)``. ``samples``, ``replacements``: the indices
    in the lease. Raises ProtocolError if number or length of the frames do not fit the job, or if the batch does not
    account for every sample. Sizes and bools, for which not every byte is right, are copied out of a slot before they
    are checked: the worker could change them later."""
    skipped = [skip.index for skip in produced.skipped]
    if skipped and (len(set(skipped)) != len(skipped) or not set(samples).union(replacements).issuperset(skipped)):
        raise ProtocolError("produced.skipped names samples that the lease does not have, or one of them twice")
    rows, missing = produced.rows, produced.missing
    if rows and (sum(rows) != produced.count or not 1 <= min(rows) <= max(rows) <= job.rows):
        raise ProtocolError("produced.rows are not 1 to %d for each sample, together %d" % (job.rows, produced.count))
    if missing and (rows or not job.may_skip):
        raise ProtocolError("produced.missing is %d, and the %s permits none" % (
            missing, "job" if not job.may_skip else "number of rows of each sample"))
    used = len(rows) if rows else produced.count + missing
    if produced_indices(samples, replacements, skipped, used) is None:
        raise ProtocolError("produced.count is %d with %d skipped%s: the lease has %d samples%s"
                            % (produced.count, len(skipped), missing and " and %d missing" % missing or "",
                               len(samples), " and %d replacements" % len(replacements) if replacements else ""))
    frames: Sequence[Any] = produced.arrays
    if slot is not None:
        if frames:
            raise ProtocolError("produced has %d arrays besides those in its slot" % len(frames))
        places = _places_of(job)
        if places.are_plain and 0 < produced.count <= job.batch_size * job.rows:
            count = (produced.count,)
            return tuple([slot[start:start + produced.count * row_bytes].view(dtype).reshape(count + shape)
                          for start, row_bytes, dtype, shape in places.plain])
        frames = [slot[start:start + size] for start, size in zip(places.layout.starts, places.layout.sizes)]
    specs = framed(job.arrays)
    if len(frames) != len(specs):
        raise ProtocolError("produced has %d arrays, the job %d" % (len(frames), len(specs)))
    view = _frame_view if slot is None else _slot_view
    pairs = list(zip(frames, specs))
    sizes = [view(frame, spec, (produced.count,) + spec.shape) for frame, spec in pairs[len(job.arrays):]]
    size = iter(sizes)
    views = [view(frame, spec, (produced.count,) + (_padded(spec, next(size)) if spec.upto else spec.shape))
             for frame, spec in pairs[:len(job.arrays)]]
    return tuple(views + sizes)


def _padded(spec: ArraySpec, sizes: "np.ndarray") -> Tuple[int, ...]:
    """The shape of one padded sample in a batch with these true ``sizes``, int32 [n] or [n, k]."""
    longest = sizes.reshape(-1, len(spec.upto))
    shape = [int(side) for side in spec.shape]
    for axis, column in zip(spec.upto, longest.T):
        least, most = (int(column.min()), int(column.max())) if len(column) else (0, 0)
        if least < 0 or most > shape[axis]:
            raise ProtocolError("produced.%s.sizes has %d, the job permits 0 to %d"
                                % (spec.name, least if least < 0 else most, shape[axis]))
        shape[axis] = most
    return tuple(shape)


def _frame_view(frame: Buffer, spec: ArraySpec, shape: Tuple[int, ...]) -> "np.ndarray":
    expected_bytes = ITEM_BYTES[spec.dtype]
    for side in shape:
        expected_bytes *= side
    if len(frame) != expected_bytes:
        raise ProtocolError("produced.%s has %d bytes instead of %d" % (spec.name, len(frame), expected_bytes))
    if not expected_bytes:
        return np.empty(shape, _WIRE_DTYPES[spec.dtype])
    if spec.dtype == "bool" and np.frombuffer(frame, np.uint8).max() > 1:
        raise ProtocolError("produced.%s is of bool and has another byte than 0 and 1" % spec.name)
    return np.frombuffer(frame, _WIRE_DTYPES[spec.dtype]).reshape(shape)


def _slot_view(part: "np.ndarray", spec: ArraySpec, shape: Tuple[int, ...]) -> "np.ndarray":
    """``part``: uint8, all that the array may take of the slot."""
    used_bytes = ITEM_BYTES[spec.dtype]
    for side in shape:
        used_bytes *= side
    if used_bytes > part.size:
        raise ProtocolError("produced.%s has %d bytes, and its place in the slot %d"
                            % (spec.name, used_bytes, part.size))
    if not used_bytes:
        return np.empty(shape, _WIRE_DTYPES[spec.dtype])
    part = part[:used_bytes]
    if spec.dtype == "bool" or spec.name.endswith(SIZES):
        part = _aligned_copy(part)
        if spec.dtype == "bool" and part.max() > 1:
            raise ProtocolError("produced.%s is of bool and has another byte than 0 and 1" % spec.name)
    return part.view(_WIRE_DTYPES[spec.dtype]).reshape(shape)


def _aligned_copy(part: "np.ndarray") -> "np.ndarray":
    block = np.empty(part.size + ALIGNMENT, np.uint8)
    start = -block.__array_interface__["data"][0] % ALIGNMENT
    block[start:start + part.size] = part
    return block[start:start + part.size]
