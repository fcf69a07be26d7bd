"""The options of a stream: frozen, and checked when they are made.

``JobOptions`` decide what the batches are; they belong to a checkpoint. ``StreamOptions`` decide how they get here;
changing them changes no byte.
"""

import os
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from pipeline.errors import ConfigError
from pipeline.messages import ArraySpec

GENERATORS = ("numerical", "image", "augmented")
DECODERS = ("fast", "exact")
FEATURES = 10  # of a numerical record


def _whole(name: str, value: Any, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError("%s must be a whole number from %d to %d, not %r" % (name, least, most, value))


def _seconds(name: str, value: Any, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
        raise ConfigError("%s must be at least %g seconds, not %r" % (name, least, value))


@dataclass(frozen=True)
class JobOptions:
    """What the batches of a run are.

    ``generator``: one of GENERATORS, or ``module:function``. ``image_size``: (height, width) in pixels.
    ``decode``: 'fast' (JPEG decoded at reduced scale) or 'exact' (to the last bit what
    ``Image.open(f).resize(size).convert('RGB')`` gives). Raises ConfigError.
    """

    generator: str = "image"
    image_size: Tuple[int, int] = (64, 64)
    batch_size: int = 32
    seed: int = 0
    decode: str = "fast"

    def __post_init__(self) -> None:
        module, colon, function = self.generator.partition(":") if isinstance(self.generator, str) else ("", "", "")
        if self.generator not in GENERATORS and not (module and colon and function):
            raise ConfigError("generator must be one of %s, or your own as module:function, not %r"
                              % (", ".join(GENERATORS), self.generator))
        if not isinstance(self.image_size, tuple) or len(self.image_size) != 2:
            raise ConfigError("image_size must be (height, width), not %r" % (self.image_size,))
        for name, side in zip(("image height", "image width"), self.image_size):
            _whole(name, side, 1, 1 << 14)
        _whole("batch_size", self.batch_size, 1, 1 << 20)
        _whole("seed", self.seed, -(1 << 62), 1 << 62)
        if self.decode not in DECODERS:
            raise ConfigError("decode must be one of %s, not %r" % (", ".join(DECODERS), self.decode))

    @property
    def arrays(self) -> Tuple[ArraySpec, ...]:
        """Of a batch: inputs uint8 [n, height, width, 3] (numerical: float32 [n, 10]), labels int32 [n, 1]."""
        labels = ArraySpec("labels", "int32", (1,))
        if self.generator == "numerical":
            return ArraySpec("features", "float32", (FEATURES,)), labels
        return ArraySpec("images", "uint8", tuple(self.image_size) + (3,)), labels


@dataclass(frozen=True)
class StreamOptions:
    """How the batches get here; all times in seconds. Raises ConfigError.

    ``bind``: the trainer's ZeroMQ address; port ``*`` takes a free one. ``prefetch``: the most steps that are leased
    or buffered at once, which bounds the trainer's memory. ``lease_s``: a worker silent for so long loses its leases.
    ``worker_timeout_s``: with no worker at all for so long, the run ends. ``stall_s``: a wait of this length is
    reported. ``audit``: file that gets one JSON line per training step handed out.
    """

    bind: str = "tcp://127.0.0.1:*"
    prefetch: int = 32
    lease_s: float = 5.0
    worker_timeout_s: float = 120.0
    stall_s: float = 10.0
    audit: Optional[str] = None

    def __post_init__(self) -> None:
        if not isinstance(self.bind, str) or not self.bind.startswith("tcp://") or ":" not in self.bind[6:]:
            raise ConfigError("bind must look like tcp://0.0.0.0:5555, not %r" % (self.bind,))
        _whole("prefetch", self.prefetch, 1, 1 << 16)
        _seconds("lease_s", self.lease_s, 0.1)
        _seconds("worker_timeout_s", self.worker_timeout_s, 0.1)
        _seconds("stall_s", self.stall_s, 0.1)
        folder = os.path.dirname(os.path.abspath(self.audit)) if self.audit else os.curdir
        if not os.path.isdir(folder):
            raise ConfigError("audit: there is no folder %r to write %r in" % (folder, self.audit))

    @property
    def heartbeat_s(self) -> float:
        """How often both sides say that they are alive: a killed worker is noticed in half a second."""
        return min(0.5, self.lease_s / 4)


def fingerprint(job: JobOptions, dataset: str, validation_split: float) -> Dict[str, Any]:
    """What must be equal for a checkpoint to be continued: every option on which the numbering of steps depends."""
    return {"generator": job.generator, "image_size": list(job.image_size), "batch_size": job.batch_size,
            "seed": job.seed, "decode": job.decode, "dataset": dataset, "validation_split": validation_split}
