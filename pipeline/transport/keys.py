"""CURVE keys in folders, made by the command ``stoker-keys`` and read by trainer and workers.

    DIR/trainer.key_secret, DIR/trainer.key                         the trainer's; DIR itself never leaves its host
    DIR/workers/NAME/worker.key_secret, worker.key, trainer.key     a worker's; only this folder goes to its host

A worker knows its trainer by ``trainer.key``; the trainer lets in every key that has a folder in ``DIR/workers``. The
files are ZeroMQ's certificates (zmq.auth). Only their owner can read them: a secret that others can read is refused,
and so is a folder to which others can add keys.
Each folder has a .gitignore, so that `git add .` adds no key.
"""

import argparse
import os
import re
import shlex
import shutil
import stat
import sys
import tempfile
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import zmq
from zmq import auth

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.output import protect
from stoker.pipeline.text import name_list, printable_path

TRAINER, TRAINER_PUBLIC, TRAINER_SECRET = "trainer", "trainer.key", "trainer.key_secret"
WORKERS, WORKER, WORKER_PUBLIC, WORKER_SECRET = "workers", "worker", "worker.key", "worker.key_secret"
LOCAL = "STOKER_LOCAL_KEYS"     # environment variable: the keys of the trainer's own worker processes
FAST_SINCE = (27, 3)            # older pyzmq wheels contain a libsodium that was compiled without -O2
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_KEY = re.compile(rb"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")   # 32 bytes as Z85 text


class WorkerKeys(NamedTuple):
    """The public key of the worker's trainer, and its own pair. Z85 text of 40 bytes each."""
    trainer: bytes
    public: bytes
    secret: bytes

    def __repr__(self) -> str:     # no secret may get into a log
        return "WorkerKeys(public=%r)" % self.public


class TrainerKeys(NamedTuple):
    """The trainer's pair, and the names of the workers that it lets in by their public keys. Z85 text of 40 bytes."""
    public: bytes
    secret: bytes
    workers: Dict[bytes, str]

    def __repr__(self) -> str:
        return "TrainerKeys(public=%r, workers=%r)" % (self.public, sorted(self.workers.values()))


def load_trainer(folder: str) -> TrainerKeys:
    """The keys in the trainer's ``folder``, as they are now. Raises ConfigError."""
    _check_library()
    if not _holds(folder, TRAINER_SECRET):
        if _holds(folder, WORKER_SECRET):
            raise ConfigError("keys: %r is the folder of a worker: the trainer needs the one that contains %s"
                              % (folder, TRAINER_SECRET))
        raise ConfigError("keys: there is no %s in %r: make the keys with: stoker-keys %s"
                          % (TRAINER_SECRET, folder, folder))
    pair = _load(os.path.join(folder, TRAINER_SECRET))
    _check_folders(folder)
    return TrainerKeys(*pair, {
        _load(os.path.join(folder, WORKERS, name, WORKER_PUBLIC))[0]: name for name in worker_names(folder)})


def load_worker(folder: str) -> WorkerKeys:
    """The keys in a worker's ``folder``. Raises ConfigError."""
    _check_library()
    if not _holds(folder, WORKER_SECRET):
        if _holds(folder, TRAINER_SECRET):
            own = name_list(os.path.join(folder, WORKERS, name) for name in worker_names(folder))
            raise ConfigError("keys: %r is the trainer's folder, whose secrets a worker must not have: use one of %s"
                              % (folder, own or "those that stoker-keys makes"))
        raise ConfigError("keys: there is no %s in %r: copy the folder workers/NAME that stoker-keys made on the "
                          "trainer's host" % (WORKER_SECRET, folder))
    pair = _load(os.path.join(folder, WORKER_SECRET))
    _check_folder(folder, _owner(os.path.join(folder, WORKER_SECRET)), [TRAINER_PUBLIC])
    return WorkerKeys(_load(os.path.join(folder, TRAINER_PUBLIC))[0], *pair)


def worker_names(folder: str) -> List[str]:
    """The workers that have keys in the trainer's ``folder``, sorted. Raises ConfigError."""
    try:
        names = os.listdir(os.path.join(folder, WORKERS))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError("keys: cannot read %r: %s" % (error.filename, error.strerror)) from error
    return sorted(name for name in names if not name.startswith("."))


def make_local(trainer: TrainerKeys) -> WorkerKeys:
    """New keys for the trainer's own worker processes, in memory only. ``trainer`` lets them in from now on."""
    public, secret = zmq.curve_keypair()
    trainer.workers[public] = "local"
    return WorkerKeys(trainer.public, public, secret)


def to_environment(keys: WorkerKeys) -> Dict[str, str]:
    """Environment variables of a child process for ``from_environment``. Only the process's user can read them."""
    return {LOCAL: b" ".join(keys).decode("ascii")}


def from_environment(environment: Mapping[str, str]) -> Optional[WorkerKeys]:
    """The keys that this process was started with, if any. Raises ConfigError."""
    if LOCAL not in environment:
        return None
    _check_library()
    fields = environment[LOCAL].encode("utf-8", "replace").split(b" ")
    if len(fields) != 3 or not all(_KEY.fullmatch(field) for field in fields):
        raise ConfigError("%s does not contain keys: it is for the trainer's own workers; unset it and use --keys"
                          % LOCAL)
    return WorkerKeys(*fields)


def advice() -> str:
    """How to make encryption several times as fast in this process; '' unless it is known to be slow."""
    try:
        with open("/proc/self/maps") as file:
            paths = {line.split(None, 5)[5] for line in file if "/libsodium" in line}
    except OSError:
        return ""
    if not paths or zmq.pyzmq_version_info()[:2] >= FAST_SINCE or not all("/pyzmq.libs/" in path for path in paths):
        return ""
    return ("encryption is slow, because the libsodium in this pyzmq (%s) was compiled without optimization: install "
            "the system's (Debian: libsodium23) and start with LD_PRELOAD=libsodium.so.23" % zmq.pyzmq_version())


def make(folder: str, names: Sequence[str] = ()) -> List[str]:
    """Makes the keys that are missing, and changes none that exist; returns the paths of the new ones. ``names``: the
    workers; if empty, the worker 'worker', unless there are workers already. Raises ConfigError."""
    _check_library()
    for name in names:
        if not re.match(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$", name):
            raise ConfigError("a worker's name consists of letters, digits, '_', '-' and '.', not %r" % name)
    if _holds(folder, WORKER_SECRET):
        raise ConfigError("%r is the folder of a worker: choose another one for the trainer's keys" % folder)
    made = []
    mask = os.umask(0o077)        # other users must not be able to read a key at any moment
    try:
        os.makedirs(os.path.join(folder, WORKERS), exist_ok=True)
        _check_folders(folder)
        _ignore(folder)
        # each is made beside its final place, because the workers' folder may be on another file system
        with tempfile.TemporaryDirectory(prefix=".making-", dir=folder) as new:
            if not _holds(folder, TRAINER_SECRET):
                auth.create_certificates(new, TRAINER)
                for file in (TRAINER_PUBLIC, TRAINER_SECRET):     # the secret last: if it exists, all is there
                    os.rename(os.path.join(new, file), os.path.join(folder, file))
                made.append(os.path.join(folder, TRAINER_SECRET))
        trainer = os.path.join(folder, TRAINER_PUBLIC)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=os.path.join(folder, WORKERS)) as new:
            for name in names or ([] if worker_names(folder) else [WORKER]):
                target, source = os.path.join(folder, WORKERS, name), os.path.join(new, name)
                if not os.path.exists(target):
                    os.mkdir(source)
                    _ignore(source)
                    auth.create_certificates(source, WORKER)
                    shutil.copy(trainer, source)
                    os.rename(source, target)
                    made.append(target)
                elif _load(os.path.join(target, TRAINER_PUBLIC))[0] != _load(trainer)[0]:
                    raise ConfigError("keys: %r belongs to another trainer than %r, so they cannot connect: remove it, "
                                      "make it again, and copy it to its host again" % (target, folder))
    except OSError as error:
        raise ConfigError("cannot make keys in %r: %s: %s" % (folder, error.filename, error.strerror)) from error
    finally:
        os.umask(mask)
    return made


def _ignore(folder: str) -> None:
    path = os.path.join(folder, ".gitignore")
    if not os.path.lexists(path):
        with open(path, "x") as file:
            file.write("# made by stoker-keys: keys are not for a repository\n*\n")


def _holds(folder: str, name: str) -> bool:
    return os.path.exists(os.path.join(folder, name))


def _check_library() -> None:
    if not zmq.has("curve"):
        raise ConfigError("keys: this libzmq (%s) was built without CURVE: install pyzmq from PyPI" % zmq.zmq_version())


def _load(path: str) -> Tuple[bytes, bytes]:
    """(public, secret) of the file ``path``; secret is empty in a file that contains only the public key."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("it is no regular file")
        (check_private if path.endswith("_secret") else _check_writers)(path)
        public, secret = auth.load_certificate(path)
    except ValueError as error:     # also a UnicodeDecodeError
        raise ConfigError("keys: %r contains no key: %s" % (path, error)) from error
    except OSError as error:
        raise ConfigError("keys: cannot read %r: %s. Copy it again from where stoker-keys made it"
                          % (path, error.strerror or error)) from error
    if not _KEY.fullmatch(public) or not _KEY.fullmatch(secret or b"") and path.endswith("_secret"):
        raise ConfigError("keys: %r contains no key: copy it again from where stoker-keys made it" % path)
    return public, secret or b""


def check_private(path: str, name: str = "keys", remedy: str = "make new keys") -> None:
    """Raises ConfigError if other users of this host can read the secret, OSError if it is not there. ``name``: of the
    option that names the file; ``remedy``: if others have read it."""
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError("%s: other users of this host may read %r (its mode is %03o): run  chmod 600 %s  or, if it "
                          "is a mounted secret, mount it with the mode 0400; if others may have read it, %s"
                          % (name, path, mode, shlex.quote(path), remedy))


def _check_writers(path: str) -> None:
    """Raises ConfigError if other users of this host can change the public key, OSError if it is not there."""
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & OTHERS_WRITE:
        raise ConfigError("keys: other users of this host may write %r (its mode is %03o), and so put in a key of "
                          "theirs: make new keys if they may have done so, else run  chmod go-w %s"
                          % (path, mode, shlex.quote(path)))


def _check_folders(folder: str) -> None:
    """Raises ConfigError if other users of this host can add workers to the trainer's ``folder``."""
    secret = os.path.join(folder, TRAINER_SECRET)
    owner = _owner(secret) if os.path.exists(secret) else os.geteuid()
    workers = os.path.join(folder, WORKERS)
    _check_folder(folder, owner, [TRAINER_PUBLIC, WORKERS])
    names = worker_names(folder)
    _check_folder(workers, owner, names)
    for name in names:
        _check_folder(os.path.join(workers, name), owner, [WORKER_PUBLIC])


def _check_folder(folder: str, owner: int, names: Sequence[str]) -> None:
    """Raises ConfigError if other users of this host can put keys into ``folder``. In one with the sticky bit, such as
    that of a Docker volume, other users cannot replace what is there; then those of ``names`` that are there must be of
    the user ``owner``, of this process's user or of root."""
    try:
        mode = stat.S_IMODE(os.stat(folder).st_mode)
        if not mode & OTHERS_WRITE:
            return
        if mode & stat.S_ISVTX:
            for path in (os.path.join(folder, name) for name in names):
                if os.path.lexists(path) and os.lstat(path).st_uid not in (0, os.geteuid(), owner):
                    raise ConfigError("keys: %r is of another user (%d), and other users of this host may add keys to "
                                      "%r: remove it, or move the keys into a folder of your own"
                                      % (path, os.lstat(path).st_uid, folder))
            return
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError("keys: cannot read %r: %s" % (error.filename, error.strerror)) from error
    raise ConfigError("keys: other users of this host may add keys to the folder %r (its mode is %03o): remove those "
                      "that you do not know, and run  chmod go-w %s" % (folder, mode, shlex.quote(folder)))


def _owner(path: str) -> int:
    try:
        return os.stat(path).st_uid
    except OSError as error:
        raise ConfigError("keys: cannot read %r: %s" % (path, error.strerror)) from error


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="stoker-keys",
        description="Makes the keys of a trainer and its workers, and prints the commands that use them. With keys, "
                    "the trainer lets in only these workers, and all traffic is encrypted. Existing keys are not "
                    "changed: run it again to add workers. Many workers may share a name.",
        epilog="To lock a worker out, remove DIR/workers/NAME and restart the trainer.")
    parser.add_argument("folder", metavar="DIR", help="the folder for the keys")
    parser.add_argument("names", metavar="NAME", nargs="*", help="a worker, or a group of workers (default: worker)")
    protect()
    args = parser.parse_args(argv)
    try:
        made = make(args.folder, args.names)
        names = worker_names(args.folder)
    except ConfigError as error:
        print("stoker-keys: error: %s" % error, file=sys.stderr)
        return error.exit_code
    for path in made:
        print("made %s" % printable_path(path))
    if not made:
        print("nothing to make: %s has the keys of the trainer and of %s" % (
            printable_path(args.folder), name_list(names)))
    is_installed = os.path.basename(sys.argv[0]) == "stoker-keys"      # and so are the other two commands
    trainer, worker = ("stoker-train", "stoker-worker") if is_installed else ("python -m trainer", "python -m workers")
    folder = shlex.quote(printable_path(args.folder))
    print("the trainer:  %s DATA --bind tcp://0.0.0.0:5555 --keys %s" % (trainer, folder))
    for name in args.names or names:
        print("a worker:     %s --connect tcp://HOST:5555 --data DIR --keys %s/%s/%s" % (worker, folder, WORKERS, name))
    print("Copy only a worker's own folder to its host, over a channel that you trust.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
