"""The options of a stream, with their defaults: frozen, and checked when they are made.

``JobOptions`` decide the content of the batches, so a checkpoint is tied to them. ``StreamOptions`` decide how the
batches are transported; they do not change a byte of a batch.
"""

import ipaddress
import json
import os
import re
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional, Tuple, Union

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.checks import AUTO as AUTO, check as check, check_flag as check_flag, check_number as check_number
from stoker.pipeline.checks import check_read_ahead, check_whole as check_whole, is_number as is_number
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.formats import FORMATS, checked
from stoker.pipeline.text import native

GENERATORS = ("numerical", "image", "augmented")
DECODERS = EXACT, FAST, FASTEST, SAMPLED = ("exact", "fast", "fastest", "sampled")     # see workers/images.py
BAD_IMAGE = ("skip", "replace", "raise")
SANDBOX = SANDBOX_AUTO, SANDBOX_ON, SANDBOX_OFF = ("auto", "on", "off")     # of workers: see workers/sandbox.py
TRUNCATED = TRUNCATED_BAD, TRUNCATED_USE = ("bad", "use")
MAX_PIXELS = 64000000    # of a picture, by default, against decompression bombs
MAX_FILE_MB = 128        # of a picture's file, in 2**20 bytes, by default
MAX_TEXT_MB = 1          # of a text in a PNG, in 2**20 bytes, by default: PIL's own limit
SIGNS_OF_LIFE = 4000     # that all workers of a trainer send in a second, before they send fewer
PICTURE_CPU_S = 60.0     # of CPU time for one picture, by default
#: Memory for one picture, by default: this, its file, and what the most expensive format takes for each pixel.
PICTURE_MEMORY_MB, PICTURE_PIXEL_BYTES = 128, 20
#: What a checkpoint means that does not have the option: it is of a release without it, or with this default.
FORMER: Dict[str, Any] = {"max_pixels": 178956970, "max_file_mb": 1024, "formats": FORMATS}
MAX_PARTNERS = 64        # of one sample: their rows travel with its lease
MAX_BATCH = 1 << 20      # samples of a batch, and rows of its arrays
PATHS = "keys", "data", "cache", "health_file", "shared_memory_folder"     # of WorkerOptions
LISTS = "allow_generators", "allow_data", "roots", "allow_read"  # of WorkerOptions: tuples of texts
DEFAULT_CACHE_GB = 10.0  # size limit of a cache of decoded samples, in 2**30 bytes
MAX_CACHE_GB = 1000.0    # the largest such limit
MAX_PREFETCH = 1 << 16   # steps that are leased or buffered at once
MAX_TRAINERS = 64        # that one worker serves
MAX_BATCH_MB = 1024.0    # most memory for a batch that a worker lets a trainer ask for, by default, in 2**20 bytes


def check_address(name: str, value: object, free_port: bool = False) -> None:
    """Raises ConfigError unless ``value`` is like tcp://HOST:5555. ``free_port``: the port may also be *."""
    match = re.match(r"tcp://[^/\s]+:(\*|\d{1,5})$", value) if isinstance(value, str) else None
    port = match.group(1) if match else "0"
    check(free_port if port == "*" else 1 <= int(port) <= 65535, name,
          "must look like tcp://%s, with a port from 1 to 65535" % ("0.0.0.0:5555" if free_port else "HOST:5555")
          + " or *" * free_port, value)


def addresses_of(name: str, value: object) -> Tuple[str, ...]:
    """The addresses of trainers in ``value``: one like tcp://HOST:5555, or tcp://HOST:5555-5558 for four ports, several
    with commas between, or a list of such. Raises ConfigError, also for one that is there twice."""
    texts = [value] if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else [None]
    found: List[str] = []
    for text in [part.strip() for each in texts for part in (each.split(",") if isinstance(each, str) else [""])]:
        match = re.match(r"(tcp://[^/\s]+:)(\d{1,5})-(\d{1,5})$", text)
        first, last = (int(match.group(2)), int(match.group(3))) if match else (0, 0)
        check(first <= last, name, "must have the lower port first", text)
        for address in ["%s%d" % (match.group(1), port) for port in range(first, last + 1)] if match else [text]:
            check_address(name, address if "," not in text else value)
            check(address not in found, name, "must name each trainer once", address)
            found.append(address)
            check(len(found) <= MAX_TRAINERS, name, "must name at most %d trainers" % MAX_TRAINERS, value)
    check(bool(found), name, "must name a trainer", value)
    return tuple(found)


def is_loopback(address: str) -> bool:
    """Whether only this host can reach the valid address tcp://HOST:PORT."""
    host = address[len("tcp://"):].rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:      # a name, an interface, or *
        return False


@dataclass(frozen=True)
class JobOptions:
    """The content of the batches of a run: ``JobOptions("augmented", (48, 64), seed=7)``. Raises ConfigError.

    ``image_size`` is (height, width) in pixels. ``generator``: one of GENERATORS, or ``module:function``; ``decode``:
    one of DECODERS; ``on_bad_image``: one of BAD_IMAGE; ``truncated``: one of TRUNCATED. ``max_file_mb`` and
    ``max_text_mb`` count 2**20 bytes. ``stoker-train --help`` explains them."""
    generator: str = "image"
    image_size: Tuple[int, int] = (64, 64)
    batch_size: int = 32
    seed: int = 0
    decode: str = "fastest"
    on_bad_image: str = "skip"
    exif_rotate: bool = False
    follow_links: bool = False
    labels: bool = True                        # the source has labels
    declared: Tuple[ArraySpec, ...] = ()       # arrays of the user's own function; (): those of ``image``
    rows: int = 1                              # most rows of a batch from one sample
    may_skip: bool = False                     # a batch function may return fewer rows than it got samples
    augment: Optional[str] = None              # the user's module:function that varies pictures
    max_pixels: int = MAX_PIXELS
    max_file_mb: int = MAX_FILE_MB
    max_text_mb: int = MAX_TEXT_MB
    truncated: str = TRUNCATED_BAD
    formats: Tuple[str, ...] = ()              # some of FORMATS; (): all whose library is safe on the worker

    def __post_init__(self) -> None:
        is_own = isinstance(self.generator, str) and re.match("[^:]+:.", self.generator) is not None
        check(is_own or self.generator in GENERATORS, "generator",
              "must be one of %s, or your own as module:function" % ", ".join(GENERATORS), self.generator)
        check(isinstance(self.image_size, tuple) and len(self.image_size) == 2,
              "image_size", "must be (height, width)", self.image_size)
        size = tuple(check_whole(name, side, 1, 1 << 14)
                     for name, side in zip(("image height", "image width"), self.image_size))
        object.__setattr__(self, "image_size", size)    # the way to set a field of a frozen dataclass
        object.__setattr__(self, "batch_size", check_whole("batch_size", self.batch_size, 1, MAX_BATCH))
        object.__setattr__(self, "seed", check_whole("seed", self.seed, -(1 << 62), 1 << 62))
        object.__setattr__(self, "max_pixels", check_whole("max_pixels", self.max_pixels, 1, 1 << 40))
        object.__setattr__(self, "formats", checked(self.formats))
        object.__setattr__(self, "max_file_mb", check_whole("max_file_mb", self.max_file_mb, 1, 1 << 15))
        object.__setattr__(self, "max_text_mb", check_whole("max_text_mb", self.max_text_mb, 1, 1 << 10))
        for name, choices in (("decode", DECODERS), ("on_bad_image", BAD_IMAGE), ("truncated", TRUNCATED)):
            check(getattr(self, name) in choices, name, "must be one of " + ", ".join(choices), getattr(self, name))
        for name in ("exif_rotate", "follow_links", "labels", "may_skip"):
            object.__setattr__(self, name, check_flag(name, getattr(self, name)))
        check(self.batch_size * self.rows <= MAX_BATCH, "rows", "times batch_size must be at most %d" % MAX_BATCH,
              self.rows)
        check(self.augment is None or isinstance(self.augment, str) and re.match("[^:]+:.", self.augment) is not None,
              "augment", "must be a function, or its name as module:function", self.augment)
        check(self.augment is None or self.generator == "image", "augment",
              "must be None for the generator %s (it varies the pictures of image)" % self.generator, self.augment)
        check(is_own or not self.declared, "arrays", "are declared for your own functions, not for the generator "
              + str(self.generator), [spec.name for spec in self.declared])

    @property
    def arrays(self) -> Tuple[ArraySpec, ...]:
        """Of a batch: those of the user's function; else inputs uint8 [n, height, width, 3] (numerical: float32
        [n, 10]) and, if the source has labels, labels int32 [n, 1]."""
        if self.declared:
            return self.declared
        labels = (ArraySpec("labels", "int32", (1,)),) if self.labels else ()
        if self.generator == "numerical":
            return (ArraySpec("features", "float32", (10,)),) + labels
        return (ArraySpec("images", "uint8", self.image_size + (3,)),) + labels

    @property
    def own_functions(self) -> Tuple[str, ...]:
        """The names of the user's functions, which workers import."""
        return tuple(name for name in (self.generator, self.augment) if name and name not in GENERATORS)

    @property
    def batch_bytes(self) -> int:
        """The most bytes of the arrays of a batch."""
        return self.batch_size * self.rows * sum(spec.sample_bytes for spec in self.arrays)


@dataclass(frozen=True)
class StreamOptions:
    """How the batches of a run are transported, and what one picture may cost: ``StreamOptions(prefetch=64)``. Raises
    ConfigError.

    ``_s`` stands for seconds, ``_mb`` for 2**20 bytes. After a wait of ``stall_s`` for a batch, the log gets a line.
    ``bad_samples`` is a file that gets one line per bad file; ``killers`` is one that keeps the samples that end
    workers, so that no run tries them again. ``stoker-train --help`` explains the other fields."""
    bind: str = "tcp://127.0.0.1:*"
    prefetch: int = 32
    prefetch_mb: float = 1024.0
    lease_s: float = 5.0
    worker_timeout_s: float = 120.0
    batch_timeout_s: float = 900.0
    stall_s: float = 10.0
    audit: Optional[str] = None
    bad_samples: Optional[str] = None
    killers: Optional[str] = None
    health_file: Optional[str] = None
    keys: Optional[str] = None
    insecure: bool = False
    verify: float = 0.0
    picture_cpu_s: float = PICTURE_CPU_S
    picture_memory_mb: Optional[int] = None
    shared_memory: bool = True
    shared_memory_folder: Optional[str] = None

    def __post_init__(self) -> None:
        check_address("bind", self.bind, free_port=True)
        check(self.keys is None or isinstance(self.keys, (str, os.PathLike)) and os.fspath(self.keys) != "",
              "keys", "must be the folder that stoker-keys made", self.keys)
        object.__setattr__(self, "insecure", check_flag("insecure", self.insecure))
        object.__setattr__(self, "shared_memory", check_flag("shared_memory", self.shared_memory))
        if self.keys is not None and self.insecure:
            raise ConfigError("keys and insecure exclude each other: with keys, only workers that have one may connect")
        if self.keys is None and not self.insecure and not is_loopback(self.bind):
            raise ConfigError("bind %s is open to other hosts: make keys (stoker-keys DIR) and give keys='DIR' (--keys "
                              "DIR), or insecure=True (--insecure) on a network that you trust" % self.bind)
        object.__setattr__(self, "prefetch", check_whole("prefetch", self.prefetch, 1, MAX_PREFETCH))
        megabytes = self.prefetch_mb
        object.__setattr__(self, "prefetch_mb", check_number(
            "prefetch_mb", megabytes, is_number(megabytes) and 0 < megabytes < float("inf"),
            "must be a number of megabytes above 0"))
        object.__setattr__(self, "verify", check_number(
            "verify", self.verify, is_number(self.verify) and 0 <= self.verify <= 1,
            "must be a share of the steps from 0 to 1, such as 0.01"))
        for name in ("lease_s", "worker_timeout_s", "batch_timeout_s", "stall_s"):
            seconds = getattr(self, name)
            object.__setattr__(self, name, check_number(
                name, seconds, is_number(seconds) and seconds >= 0.1, "must be at least 0.1 seconds"))
        seconds = self.picture_cpu_s
        object.__setattr__(self, "picture_cpu_s", check_number(
            "picture_cpu_s", seconds, is_number(seconds) and (seconds == 0 or 0.1 <= seconds <= 1e6),
            "must be 0 (no limit) or 0.1 to 1,000,000 seconds"))
        if self.picture_memory_mb is not None:
            object.__setattr__(self, "picture_memory_mb", check_whole(
                "picture_memory_mb", self.picture_memory_mb, 0, 1 << 20))
        folder = self.shared_memory_folder
        if folder is not None:
            check(isinstance(folder, (str, os.PathLike)) and os.path.isdir(folder), "shared_memory_folder",
                  "must be a folder that exists", folder)
            object.__setattr__(self, "shared_memory_folder", os.path.abspath(native(os.fspath(folder))))
        for name in ("audit", "bad_samples", "killers", "health_file", "keys"):
            path = getattr(self, name)
            if isinstance(path, (str, os.PathLike)) and isinstance(os.fspath(path), str):
                path = native(os.fspath(path))
                object.__setattr__(self, name, path)
            check(name == "keys" or not path or os.path.isdir(os.path.dirname(os.path.abspath(path))),
                  name, "must be a file in a folder that exists", path)

    def prefetch_of(self, job: JobOptions) -> int:
        """The most steps at once, by ``prefetch`` and ``prefetch_mb``. Raises ConfigError if that is less than one."""
        fits = int(self.prefetch_mb * 2**20 // job.batch_bytes)
        if fits < 1:
            most = "up to " * any(spec.upto for spec in job.arrays)
            raise ConfigError("prefetch_mb %g is too small: one batch takes %s%.3g MB, and two per worker should fit"
                              % (self.prefetch_mb, most, job.batch_bytes / 2**20))
        return min(self.prefetch, fits)

    def memory_mb_of(self, job: JobOptions) -> int:
        """The most memory that decoding one picture may take, in 2**20 bytes; 0: any."""
        if self.picture_memory_mb is not None:
            return self.picture_memory_mb
        return min(1 << 20, PICTURE_MEMORY_MB + job.max_file_mb + (PICTURE_PIXEL_BYTES * job.max_pixels >> 20))

    @property
    def heartbeat_s(self) -> float:
        """The interval between two signs of life of either side. A killed worker is noticed within 0.5 s."""
        return min(0.5, self.lease_s / 4)

    def heartbeat_of(self, members: int) -> float:
        """The interval between two signs of life of a worker that joins ``members`` others: longer in a large fleet,
        whose signs would take most of the trainer's time."""
        return max(self.heartbeat_s, min(self.lease_s / 4, members / SIGNS_OF_LIFE))


@dataclass(frozen=True)
class WorkerOptions:
    """The options of worker processes, from the command line or the trainer to each process. Raises ConfigError.
    ``stoker-worker --help`` explains them. All paths are absolute; ``cache_gb`` counts 2**30 bytes."""
    connect: Union[str, Tuple[str, ...]]        # see ``addresses``
    keys: Optional[str] = None
    data: Optional[str] = None
    allow_generators: Tuple[str, ...] = ()
    follow_links: bool = False
    cache: Optional[str] = None
    cache_gb: float = DEFAULT_CACHE_GB
    health_file: Optional[str] = None
    once: bool = False
    quiet: bool = False
    allow_data: Tuple[str, ...] = ()
    max_batch_mb: float = MAX_BATCH_MB
    roots: Optional[Tuple[str, ...]] = None     # of the data, where the trainer that starts the workers knows them
    sandbox: str = SANDBOX_AUTO
    allow_read: Tuple[str, ...] = ()
    read_ahead: Union[int, str] = AUTO
    shared_memory: bool = True
    shared_memory_folder: Optional[str] = None

    def __post_init__(self) -> None:
        check_read_ahead("--read-ahead", self.read_ahead)
        addresses_of("--connect", self.connect)
        check_number("--max-batch-mb", self.max_batch_mb, self.max_batch_mb > 0, "must be a number above 0")
        check(self.sandbox in SANDBOX, "--sandbox", "must be one of " + ", ".join(SANDBOX), self.sandbox)

    @property
    def addresses(self) -> Tuple[str, ...]:
        """Of the trainers that these workers serve."""
        return addresses_of("--connect", self.connect)

    @property
    def data_folders(self) -> Tuple[str, ...]:
        """The folders below which the trainer may choose the dataset's, if ``data`` does not name that. By default all
        for a trainer on this host, whose user is this worker's, and none for others."""
        return self.allow_data or (("/",) if all(map(is_loopback, self.addresses)) else ())

    @property
    def known_roots(self) -> Optional[Tuple[str, ...]]:
        """The folders in which all data of all jobs lie; None if only a job will tell."""
        if self.data is not None:
            return (self.data,)
        return self.roots if self.roots is not None or "/" in self.data_folders else self.data_folders

    def to_json(self) -> str:
        """One line of ASCII, for the command line of a process. Holds no secret."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "WorkerOptions":
        """The options that ``to_json`` made ``text`` of. Raises ConfigError if it did not."""
        try:
            fields = dict(json.loads(text))
            fields.update((name, native(fields[name])) for name in PATHS if fields[name] is not None)
            if isinstance(fields["connect"], list):
                fields["connect"] = tuple(fields["connect"])
            for name in LISTS:
                fields[name] = None if fields[name] is None else tuple(map(native, fields[name]))
            return cls(**fields)
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError("the options of a worker process are damaged: %r" % error) from error
