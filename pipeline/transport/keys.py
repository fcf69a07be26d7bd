"""Who may take part: CURVE keys in folders, made by ``stoker-keys`` and read by trainer and workers.

    DIR/trainer.key_secret, DIR/trainer.key     the trainer's; DIR itself never leaves its host
    DIR/workers/NAME/worker.key_secret, worker.key, trainer.key     all that a worker's host gets

A worker knows its trainer by ``trainer.key``; the trainer lets in whoever has a folder in ``DIR/workers``. The files
are ZeroMQ's own certificates (zmq.auth).
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

import zmq
from zmq import auth

from stoker.pipeline.errors import ConfigError

TRAINER, WORKER, WORKERS = "trainer", "worker", "workers"
PUBLIC, SECRET = ".key", ".key_secret"
LOCAL = "STOKER_LOCAL_KEYS"     # in the environment of the trainer's own worker processes: their keys, no file's name
FAST_SINCE = (27, 3)            # pyzmq's wheels before it were built with CFLAGS that lack -O2, and libsodium with them
_KEY = re.compile(rb"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")   # of Z85, 32 bytes


class WorkerKeys(NamedTuple):
    """A worker's: the trainer that it talks to, and itself. Z85 text of 40 bytes each."""

    trainer: bytes
    public: bytes
    secret: bytes

    def __repr__(self) -> str:     # a secret is for no log
        return "WorkerKeys(public=%r)" % self.public


class TrainerKeys(NamedTuple):
    """The trainer's: itself, and the workers that it lets in, by their public keys. Z85 text of 40 bytes each."""

    public: bytes
    secret: bytes
    workers: Dict[bytes, str]

    def __repr__(self) -> str:
        return "TrainerKeys(public=%r, workers=%r)" % (self.public, sorted(self.workers.values()))


def load_trainer(folder: str) -> TrainerKeys:
    """The keys in ``folder``, as they are now. Raises ConfigError."""
    _check_library()
    if not os.path.exists(os.path.join(folder, TRAINER + SECRET)):
        if os.path.exists(os.path.join(folder, WORKER + SECRET)):
            raise ConfigError("keys: %r is the folder of a worker: the trainer wants the one that holds %s"
                              % (folder, TRAINER + SECRET))
        raise ConfigError("keys: there is no %s in %r: make the keys with: stoker-keys %s"
                          % (TRAINER + SECRET, folder, folder))
    public, secret = _load(os.path.join(folder, TRAINER + SECRET))
    workers = {}
    for name in worker_names(folder):
        workers[_load(os.path.join(folder, WORKERS, name, WORKER + PUBLIC))[0]] = name
    return TrainerKeys(public, secret, workers)


def load_worker(folder: str) -> WorkerKeys:
    """The keys in ``folder``. Raises ConfigError."""
    _check_library()
    if not os.path.exists(os.path.join(folder, WORKER + SECRET)):
        if os.path.exists(os.path.join(folder, TRAINER + SECRET)):
            raise ConfigError("keys: %r is the trainer's folder, whose secrets are no worker's business: take one of %s"
                              % (folder, ", ".join(os.path.join(folder, WORKERS, name)
                                                   for name in worker_names(folder)) or "those that stoker-keys makes"))
        raise ConfigError("keys: there is no %s in %r: copy the folder workers/NAME that stoker-keys made on the "
                          "trainer's host" % (WORKER + SECRET, folder))
    public, secret = _load(os.path.join(folder, WORKER + SECRET))
    return WorkerKeys(_load(os.path.join(folder, TRAINER + PUBLIC), secret=False)[0], public, secret)


def worker_names(folder: str) -> List[str]:
    """The workers that have a folder in ``folder``, sorted."""
    try:
        names = os.listdir(os.path.join(folder, WORKERS))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError("keys: cannot read %r: %s" % (error.filename, error.strerror)) from error
    return sorted(name for name in names if not name.startswith("."))


def make_local(trainer: TrainerKeys) -> WorkerKeys:
    """Fresh keys for the trainer's own worker processes, which ``trainer`` lets in from now on; in memory only."""
    public, secret = zmq.curve_keypair()
    trainer.workers[public] = "local"
    return WorkerKeys(trainer.public, public, secret)


def to_environment(keys: WorkerKeys) -> Dict[str, str]:
    """What a child process's environment must hold for ``from_environment``. Only its user can read it."""
    return {LOCAL: b" ".join(keys).decode("ascii")}


def from_environment(environment: Mapping[str, str]) -> Optional[WorkerKeys]:
    """The keys that this process was started with, if any. Raises ConfigError."""
    if LOCAL not in environment:
        return None
    _check_library()
    fields = environment[LOCAL].encode("utf-8", "replace").split(b" ")
    if len(fields) != 3 or not all(_KEY.fullmatch(field) for field in fields):
        raise ConfigError("%s holds no keys: it is for the trainer's own workers; unset it, and use --keys" % LOCAL)
    return WorkerKeys(*fields)


def advice() -> str:
    """How encryption would be several times as fast in this process; '' where it is not known to be slow."""
    try:
        with open("/proc/self/maps") as file:
            paths = {line.split(None, 5)[5] for line in file if "/libsodium" in line}
    except OSError:
        return ""
    if not paths or zmq.pyzmq_version_info()[:2] >= FAST_SINCE or not all("/pyzmq.libs/" in path for path in paths):
        return ""
    return ("encryption is slow, since the libsodium in this pyzmq (%s) was compiled without optimization: install the "
            "system's (Debian: libsodium23) and start with LD_PRELOAD=libsodium.so.23" % zmq.pyzmq_version())


def make(folder: str, names: Sequence[str] = ()) -> List[str]:
    """Makes what is missing, changes nothing that is there; returns what was made, as paths.

    ``names``: the workers; none: the one called 'worker', unless there are some already. Raises ConfigError.
    """
    _check_library()
    for name in names:
        if not re.match(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$", name):
            raise ConfigError("a worker's name is made of letters, digits, '_', '-' and '.', not %r" % name)
    if os.path.exists(os.path.join(folder, WORKER + SECRET)):
        raise ConfigError("%r is the folder of a worker: choose another one for the trainer's keys" % folder)
    made = []
    mask = os.umask(0o077)        # nothing is readable for others at any moment
    try:
        os.makedirs(os.path.join(folder, WORKERS), exist_ok=True)
        # each made beside its place: the workers' folder may be on a file system of its own
        with tempfile.TemporaryDirectory(prefix=".making-", dir=folder) as place:
            if not os.path.exists(os.path.join(folder, TRAINER + SECRET)):
                auth.create_certificates(place, TRAINER)
                for suffix in (PUBLIC, SECRET):     # the secret last: with it, all is there
                    os.rename(os.path.join(place, TRAINER + suffix), os.path.join(folder, TRAINER + suffix))
                made.append(os.path.join(folder, TRAINER + SECRET))
        with tempfile.TemporaryDirectory(prefix=".making-", dir=os.path.join(folder, WORKERS)) as place:
            for name in names or ([] if worker_names(folder) else [WORKER]):
                target = os.path.join(folder, WORKERS, name)
                if os.path.exists(target):
                    _check_trainer(folder, target)
                    continue
                source = os.path.join(place, name)
                os.mkdir(source)
                auth.create_certificates(source, WORKER)
                shutil.copy(os.path.join(folder, TRAINER + PUBLIC), source)
                os.rename(source, target)
                made.append(target)
    except OSError as error:
        raise ConfigError("cannot make keys in %r: %s: %s" % (folder, error.filename, error.strerror)) from error
    finally:
        os.umask(mask)
    return made


def _check_trainer(folder: str, worker: str) -> None:
    """Raises ConfigError if the keys in ``worker`` are for another trainer than the one with those in ``folder``."""
    theirs, ours = [_load(os.path.join(place, TRAINER + PUBLIC), secret=False)[0] for place in (worker, folder)]
    if theirs != ours:
        raise ConfigError("keys: %r is of another trainer than %r, and neither would talk to the other: remove it, "
                          "make it again, and copy it to its host again" % (worker, folder))


def _check_library() -> None:
    if not zmq.has("curve"):
        raise ConfigError("keys: this libzmq (%s) was built without CURVE: install the pyzmq of PyPI"
                          % zmq.zmq_version())


def _load(path: str, secret: Optional[bool] = None) -> Any:
    """(public, secret) of a certificate; ``secret`` None: as its name says."""
    secret = path.endswith(SECRET) if secret is None else secret
    try:
        found = auth.load_certificate(path)
    except ValueError as error:     # before OSError: neither is the other's, but a decoding error is this one
        raise ConfigError("keys: %r holds no key: %s" % (path, error)) from error
    except OSError as error:
        raise ConfigError("keys: cannot read %r: %s. Copy it again from where stoker-keys made it"
                          % (path, error.strerror or error)) from error
    if not all(key is not None and _KEY.fullmatch(key) for key in found[:1 + secret]):
        raise ConfigError("keys: %r holds no %s: copy it again from where stoker-keys made it"
                          % (path, "pair of keys" if secret else "public key"))
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stoker-keys", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Makes the keys of a trainer and of its workers. With them, nobody else is let in, and all that\n"
                    "travels is encrypted. Nothing that is there is changed: run it again to add workers.",
        epilog="example:\n"
               "  stoker-keys keys alpha beta                                       once, on the trainer's host\n"
               "  stoker-train photos/ --keys keys --bind tcp://0.0.0.0:5555        there\n"
               "  stoker-worker --connect tcp://TRAINER:5555 --keys alpha           on a host that has got the folder\n"
               "                                                                    keys/workers/alpha\n"
               "One name may serve many workers. To lock one out, remove keys/workers/NAME and start the trainer\n"
               "again. The folder itself stays on the trainer's host.")
    parser.add_argument("folder", metavar="DIR", help="where the keys are, or will be")
    parser.add_argument("names", metavar="NAME", nargs="*", help="a worker, or a group of them (default: worker)")
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        made = make(args.folder, args.names)
        names = worker_names(args.folder)
    except ConfigError as error:
        print("stoker-keys: error: %s" % error, file=sys.stderr)
        return error.exit_code
    for path in made:
        print("made %s" % path)
    if not made:
        print("nothing to make: %s has keys of the trainer and of %s" % (args.folder, ", ".join(names)))
    installed = os.path.basename(sys.argv[0]) == "stoker-keys"      # else the other commands are not, either
    print("the trainer:  %s DATA --bind tcp://0.0.0.0:5555 --keys %s"
          % ("stoker-train" if installed else "python -m trainer", args.folder))
    for name in args.names or names:
        print("a worker:     %s --connect tcp://HOST:5555 --keys %s"
              % ("stoker-worker" if installed else "python -m workers", os.path.join(args.folder, WORKERS, name)))
    print("Copy only a worker's own folder to its host, over a channel that you trust.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
