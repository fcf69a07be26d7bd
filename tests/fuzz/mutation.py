"""Messages that are nearly valid: seeded mutations of valid ones, and garbage. A seed reproduces all of them."""

import copy
import random

import msgpack

#: Values of every type, and on both sides of the codec's limits.
VALUES = [None, True, False, 0, 1, -1, 2, 1024, 1025, 1 << 20, (1 << 20) + 1, (1 << 31) - 1, 1 << 31, (1 << 63) - 1,
          1 << 63, (1 << 64) - 1, -(1 << 63), 0.0, -0.0, 0.5, 1e9, float("nan"), float("inf"), -float("inf"),
          "", "r1", "x" * 64, "x" * 65, "x" * 301, "\udcff", "\u6f22", "uint8", "object", b"", b"\xff", [], [[]], {},
          {"a": 1}, [0] * 9, "hello", "produced", "failed", "returned", "leaving", "alive", "welcome", "refused",
          "lease", "revoked", "stop", "room", "need"]
RARE = ["x" * 65537, [[0, "", 0]] * 2000, b"\0" * 70000]     # large: rare, or they would take all the time
NUMBERS = [number.to_bytes(4, "little", signed=True) for number in (0, 1, 2, 3, 20, 21, -1, 1 << 30, -1 << 31)]
ONE_IN = 2000
DEPTHS = (10, 300, 700, 990, 1010, 2000)                     # around the depths that msgpack and Python can follow


class Mutator:
    """Draws messages from ``corpus``, a list of lists of frames, and mutates them."""

    def __init__(self, seed, corpus):
        self._random = random.Random(seed)
        self._draw = self._random.random
        from stoker.pipeline.protocol import unpacking  # not above: fuzz_codec.py imports it under atheris' eyes
        self._unpack = unpacking.unpack      # unlike msgpack 1.0.5, it leaks nothing
        self._corpus = [[bytes(frame) for frame in frames] for frames in corpus]

    def below(self, limit):
        """A number in [0, limit); several times quicker than ``randrange``."""
        return int(self._draw() * limit)

    def pick(self, items):
        """One of ``items``."""
        return items[int(self._draw() * len(items))]

    def message(self):
        """The frames of a message of the corpus: one time in ten as it is, else mutated."""
        frames = self.pick(self._corpus)
        return frames if self._draw() < 0.1 else self.mutated(frames)

    def mutated(self, frames):
        """``frames`` with one to three changes: of a value in the header, of the header's bytes, or of the frames."""
        frames = list(frames)
        for _ in range(1 + self.below(3) * self.below(2)):
            what = self._draw()
            if what < 0.55 and frames:
                frames[0] = self.changed_value(frames[0])
            elif what < 0.85 and frames:
                frames[0] = self.changed_bytes(frames[0])
            else:
                self._change_frames(frames)
        return frames

    def garbage(self):
        """Frames that have nothing to do with a message."""
        return [self._noise(60) for _ in range(self.below(4))]

    def changed_value(self, header):
        """``header`` with another value somewhere; with other bytes if it is no msgpack."""
        try:
            value = self._unpack(header, False)
            return msgpack.packb(self._changed(value), use_bin_type=True, unicode_errors="surrogateescape")
        except Exception:       # msgpack's errors have no common base; an earlier change broke the header
            return self.changed_bytes(header)

    def _changed(self, value):
        if type(value) is not list or not value or self._draw() < 0.1:
            if self.below(ONE_IN) == 0:
                return self.pick(RARE)
            if type(value) is int and self._draw() < 0.3:
                return value + self.pick((-1, 1, 256))
            return copy.copy(self.pick(VALUES))
        where, what = self.below(len(value)), self._draw()
        if what < 0.75:
            value[where] = self._changed(value[where])
        elif what < 0.82:
            del value[where]
        elif what < 0.9:
            value.insert(where, self.pick(value))
        else:
            value.append(copy.copy(self.pick(VALUES)))
        return value

    def changed_bytes(self, data):
        """``data`` with one place flipped, overwritten, removed, repeated, or cut off; rarely nested deep."""
        what, where = self._draw(), self.below(len(data) + 1)
        if what < 0.35 and where < len(data):
            return data[:where] + bytes((data[where] ^ 1 << self.below(8),)) + data[where + 1:]
        if what < 0.6:
            return data[:where] + bytes((self.below(256),)) + data[where + 1:]
        if what < 0.7:
            return data[:where] + data[where + 1 + self.below(4):]
        if what < 0.8:
            return data[:where] + self._noise(8) + data[where:]
        if what < 0.9:
            return data[:where] + data[self.below(len(data) + 1):]
        if self.below(ONE_IN // 20) == 0:
            return data[:where] + b"\x91" * self.pick(DEPTHS) + data[where:]
        return data[:where]

    def _change_frames(self, frames):
        what, where = self._draw(), self.below(len(frames) + 1)
        if what < 0.3 or not frames:
            frames.insert(where, self._noise(30))
        elif what < 0.5:
            del frames[where - 1]
        elif what < 0.65:
            frames[where - 1] += b"\0"
        elif what < 0.8:
            frames[where - 1] = frames[where - 1][1:]
        elif what < 0.9 and len(frames) > 1 and len(frames[-1]) >= 4:     # of a batch: a number in an array
            where = 1 + self.below(len(frames) - 1)
            place = 4 * self.below(len(frames[where]) // 4)
            frames[where] = frames[where][:place] + self.pick(NUMBERS) + frames[where][place + 4:]
        else:
            other = self.below(len(frames))
            frames[where - 1], frames[other] = frames[other], frames[where - 1]

    def _noise(self, most):
        length = self.below(most + 1)
        return self._random.getrandbits(8 * length).to_bytes(length, "little") if length else b""
