"""The sandbox of a worker: what a decoder that was taken over by a picture can still do.

The process gives up (``workers/landlock.py``) all but: reading its data, Python and libraries; writing its cache and
its health file; TCP to the trainer's port; starting Python, for the quarantine. For data at a URL it keeps the store's
ports and the clients' credential files, too (``workers/store_rights.py``). It does so before it has threads. If
only the job will tell where the data are, the main thread gives up reading elsewhere then, before it opens a picture.

The options of this host alone decide, never the trainer of another one. AUTO: on for Stoker's own generators. A user's
function may read elsewhere, so there it is off.

A good file must not become a bad one by this. A refusal of the sandbox has the number of a permission that is missing,
so each one is looked at (``_explain``). The rules hold for the folder that was there at the start: if another one has
its name, as after a new mount, this process leaves, and the supervisor starts one with new rules.
"""

import os
import socket
import struct
import sys
from contextlib import suppress
from typing import Dict, List, Optional, Sequence

from stoker.pipeline.errors import ConfigError, UnfitWorker
from stoker.pipeline.options import SANDBOX_OFF, SANDBOX_ON, WorkerOptions
from stoker.pipeline.storage import folder, urls
from stoker.pipeline.storage.folder import is_store
from stoker.pipeline.text import native, printable_path
from stoker.workers import copies, landlock, store_rights
from stoker.workers.launch import LAUNCH, PACKAGES

#: What Python and the C library read while they run: settings of names and time, of the loader, of OpenSSL.
SYSTEM_FILES = ["/etc/" + name for name in (
    "gai.conf group host.conf hosts ld.so.cache ld.so.preload localtime mime.types nsswitch.conf passwd protocols "
    "resolv.conf services timezone ssl/openssl.cnf pki/tls/openssl.cnf crypto-policies").split()]
SYSTEM_FOLDERS = ["/usr", "/lib", "/lib32", "/lib64", "/proc", "/sys/devices/system", "/sys/fs/cgroup",
                  "/sys/kernel/mm", "/run/systemd/resolve", "/run/nscd", "/var/lib/sss/mc"]
DEVICES = {"/dev/null": landlock.READ_FILE | landlock.WRITE_FILE | landlock.IOCTL_DEV,
           "/dev/zero": landlock.READ_FILE, "/dev/random": landlock.READ_FILE, "/dev/urandom": landlock.READ_FILE}
#: Files that other programs replace: a worker that finds no trainer for a while may need the new ones.
_RESOLVER = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")


def is_wanted(options: WorkerOptions) -> bool:
    """Whether workers with these options get a sandbox, where the kernel has one."""
    return options.sandbox == SANDBOX_ON or options.sandbox != SANDBOX_OFF and not options.allow_generators


class Sandbox:
    """Of this process. ``enter`` before it has threads, ``enter_job`` in the thread that works, before each job."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._is_on = is_wanted(options)
        self._roots = options.known_roots   # where it may read data; None: not known yet
        self._known: Dict[str, Optional[landlock.Identity]] = {}      # what paths led to when the rules were made
        self.summary = ""                   # what was done, in a line; "" if it is off

    def enter(self) -> None:
        """Raises ConfigError if the options demand a sandbox, and the kernel has none; or if they name what is not
        there, which would be found out by the first file that cannot be read."""
        if not self._is_on:
            return
        for path in self._options.allow_read:
            if not os.path.lexists(path.encode("utf-8", "surrogateescape")):
                raise ConfigError("--allow-read %s: there is no such file or folder on %s"
                                  % (printable_path(path), socket.gethostname()))
        landlock.drop_privileges()
        options, may_read_all = self._options, self._options.follow_links
        handled = landlock.ALL & ~(landlock.READ if may_read_all or self._roots is None else 0)
        ports = sorted({int(address.rpartition(":")[2]) for address in options.addresses})
        of_stores = store_rights.ports(self._roots or (), _environment(self._roots or ()))
        if options.allow_generators:
            copies.prepare()                    # it can make no folder later
        rights = _rights(options)
        rights.update((root, landlock.READ) for root in self._roots or () if not is_store(root))
        try:
            done = landlock.restrict(handled, rights, sorted({*ports, *of_stores}), scoped=True)
        except landlock.Unavailable as error:
            self._is_on = False
            if options.sandbox == SANDBOX_ON:
                raise ConfigError("--sandbox on: this kernel lets no process of this user have a sandbox (Landlock: "
                                  "%s); --sandbox auto goes without one" % error.strerror) from error
            self.summary = "no sandbox: Landlock is not available (%s)" % error.strerror
            return
        self._known.update(done.paths)
        folder.explain_refusal = self._explain
        python = "Python and the folders of modules" if options.allow_generators else "Python"
        reads = ("everything (links may lead out of the data: --follow-links)" if may_read_all else
                 python + ", the data of its job" if self._roots is None else
                 ", ".join(list(map(printable_path, self._roots)) + [python]))
        meeting = options.shared_memory_folder if options.shared_memory else None
        written = options.cache, options.health_file, copies.folder(), meeting
        writes = ", ".join(map(printable_path, filter(None, written))) or "nothing"
        more = "".join(", " + printable_path(path) for path in options.allow_read)
        if of_stores:
            more += ", the credentials of its store's client"
        to = _listed(ports) + " alone" + (", and to %s for its store" % _listed(of_stores) if of_stores else "")
        self.summary = "a sandbox: reads %s%s; writes %s; starts no program but Python; %s (Landlock %d)" % (
            reads, more, writes, "connects by TCP to %s" % to if done.port
            else "connects anywhere, since this kernel is too old", done.version)

    def enter_job(self, data_root: str) -> None:
        """The data are in ``data_root``. Takes reading elsewhere from this thread, if that was not known before. Raises
        UnfitWorker if it was taken: another trainer's job came first."""
        why = self.outdated(data_root)
        if why:
            raise UnfitWorker(why)
        if self._is_on and is_store(data_root):
            if not any(root == data_root or urls.is_below(data_root, root) for root in self._roots or ()):
                shown = printable_path(data_root)
                raise UnfitWorker("the run reads files in %s, and the sandbox of this worker on %s does not connect to "
                                  "it: start it with --data %s" % (shown, socket.gethostname(), shown))
            return
        if not self._is_on or self._options.follow_links or self._roots is not None or not data_root:
            return
        data_root = native(data_root)
        rights = _rights(self._options)
        rights[data_root] = landlock.READ
        self._known.update(landlock.restrict(landlock.READ, rights).paths)
        self._roots = (data_root,)

    def outdated(self, data_root: str = "") -> str:
        """Why this process cannot do its work any more, and another one with new rules could; '' if it can.
        ``data_root``: of the job."""
        if not self._is_on or self._options.follow_links or is_store(data_root):
            return ""
        if data_root and self._options.known_roots is None and self._roots is not None and not any(
                _is_below(native(data_root), root) for root in self._roots):       # else ``bounds`` says what may be
            return "its sandbox is for the data in %s" % ", ".join(map(printable_path, self._roots))
        return next(("%s is another folder than when its sandbox was made" % printable_path(root)
                     for root in self._roots or () if self._has_changed(root)), "")

    def outdated_resolver(self) -> bool:
        """Whether the files changed by which names of hosts are found. It reads them no more."""
        return self._is_on and not self._options.follow_links and any(map(self._has_changed, _RESOLVER))

    def _has_changed(self, path: str) -> bool:
        now = landlock.identity(path)
        return now is not None and path in self._known and now != self._known[path]

    def _explain(self, path: folder.SamplePath) -> None:
        """Called for a file that may not be opened. Returns if the sandbox is not the reason."""
        known = [self._known.get(root) for root in self._roots or ()]
        real = os.path.realpath(bytes(path))
        if _is_within(os.path.dirname(real), [one for one in known if one is not None]):
            return
        _check_link(path, real)
        raise UnfitWorker(self.outdated() or "the sandbox refuses to read %s: start the worker with --allow-read DIR, "
                          "or with --sandbox off" % printable_path(os.fsdecode(real)))


def leave_to_worker() -> None:
    """For the quarantine, which has the worker's sandbox, and does not know its rules."""
    def explain(path: folder.SamplePath) -> None:
        _check_link(path, os.path.realpath(bytes(path)))
        raise UnfitWorker("this file may not be opened: the worker finds out why")
    folder.explain_refusal = explain


def _check_link(path: folder.SamplePath, real: bytes) -> None:
    """Raises BadFile, as without a sandbox, if links lead out of the data to the file ``real``, which can be read;
    returns if they lead to one that cannot, for which the reason is its permission."""
    root = path.root
    if root is not None and not real.startswith(os.path.join(os.path.realpath(root), b"")):
        if os.access(real, os.R_OK):
            raise folder.BadFile(folder.LINK_OUT)
        raise folder.BadFile(PermissionError.__name__, folder.DENIED)


def _is_within(inner: bytes, folders: Sequence[landlock.Identity]) -> bool:
    """Whether ``inner`` is one of these folders, or below one, through mounts, as Landlock looks at it."""
    with suppress(OSError):
        fd, before = os.open(inner, os.O_PATH | os.O_DIRECTORY), None
        try:
            while True:
                status = os.fstat(fd)
                now = status.st_dev, status.st_ino
                if now in folders or now == before:
                    return now in folders
                outer = os.open("..", os.O_PATH | os.O_DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd, before = outer, now
        finally:
            os.close(fd)
    return False


def _listed(ports: Sequence[int]) -> str:
    return "port%s %s" % ("s" * (len(ports) > 1), ", ".join(map(str, ports)))


def _is_below(path: str, root: str) -> bool:
    return os.path.join(os.path.normpath(path), "").startswith(os.path.join(os.path.normpath(root), ""))


# ---------------------------------------------------------------------------------------------------- what it may do

def _rights(options: WorkerOptions) -> Dict[str, int]:
    """All but the data."""
    rights = dict.fromkeys(SYSTEM_FOLDERS + SYSTEM_FILES + _python() + list(options.allow_read), landlock.READ)
    # users' modules may import others at any time; otherwise folders are searched for modules that are in ``_python``
    search = landlock.READ if options.allow_generators else landlock.READ_DIR
    rights.update((entry, search | rights.get(entry, 0)) for entry in sys.path if entry)
    rights.update(DEVICES)
    for program in _programs():
        rights[program] = rights.get(program, 0) | landlock.READ | landlock.EXECUTE
    roots = options.known_roots or ()
    for path in store_rights.files(roots, _environment(roots), os.path.expanduser("~")):
        rights[path] = rights.get(path, 0) | landlock.READ
    for folder_of_its_own in filter(None, (copies.folder(),)):
        rights[folder_of_its_own] = landlock.READ | landlock.WRITE
    if options.cache is not None:
        rights[options.cache] = landlock.READ | landlock.WRITE
    if options.shared_memory and options.shared_memory_folder is not None:
        rights[options.shared_memory_folder] = landlock.READ_DIR | landlock.MAKE_SOCK | landlock.REMOVE_FILE
    if options.health_file is not None:
        rights[options.health_file] = landlock.READ_FILE | landlock.WRITE_FILE | landlock.TRUNCATE
    return rights


def _environment(roots: Sequence[str]) -> Dict[str, str]:
    """The variables of this process, and what ~/.aws says in their place, if one of the roots is in S3."""
    found = dict(os.environ)
    if any(root.startswith("s3://") for root in roots):
        from stoker.pipeline.storage.clients import aws_settings        # no other worker needs it
        with suppress(ConfigError):         # the client tells what is wrong with it
            settings = aws_settings.settings()
            found.update((name, value) for name, value in (
                ("AWS_ENDPOINT_URL_S3", settings.endpoint), ("AWS_CA_BUNDLE", settings.authorities)) if value)
    return found


def _python() -> List[str]:
    """Where the interpreter, its packages, Stoker and all modules that are loaded have their files, and the libraries
    that are mapped. Other folders of ``sys.path``, such as that of the program, may hold anything."""
    folders = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, os.path.dirname(LAUNCH)}
    folders.update(entry for entry in sys.path if PACKAGES & set(entry.split(os.sep)) or entry.endswith(".zip"))
    have = tuple(os.path.join(each, "") for each in folders.union(map(os.path.realpath, folders), SYSTEM_FOLDERS))
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and os.path.isabs(file) and not file.startswith(have):
            folders.add(os.path.realpath(os.path.dirname(file) if hasattr(module, "__path__") else file))
    with suppress(OSError), open("/proc/self/maps", errors="surrogateescape") as maps:
        paths = {line.split(None, 5)[5].rstrip("\n") for line in maps if ".so" in line and " /" in line}
        folders.update(path for path in paths if not path.startswith(have))
    return sorted(folders)


def _programs() -> List[str]:
    """The files of the interpreter that the quarantine starts, and of the loader that the kernel starts for it."""
    python = os.path.realpath(sys.executable)
    with suppress(OSError, struct.error, ValueError), open(python, "rb") as file:
        return [python, os.path.realpath(_loader(file.read(1 << 12)))]
    return [python]


def _loader(head: bytes) -> str:
    """The path of the loader that a program names in the ``head`` of its file (ELF)."""
    if head[4:5] != b"\2":
        return "/lib"           # 32 bits: all loaders
    order = "<" if head[5:6] == b"\1" else ">"
    begin, = struct.unpack_from(order + "Q", head, 32)
    size, count = struct.unpack_from(order + "HH", head, 54)
    for place in range(begin, begin + size * count, size):
        kind, _, at, _, _, length = struct.unpack_from(order + "IIQQQQ", head, place)
        if kind == 3:           # PT_INTERP
            return head[at:at + length].rstrip(b"\0").decode("ascii")
    raise ValueError("it names none")
