"""``stoker-ray``: workers on a Ray cluster, as many as the trainers want. Ray puts them where there is room, starts
them elsewhere when a node dies, and makes its autoscaler add nodes for those that wait for room.

Each place is an actor (``workers/ray_place.py``) that has the ordinary worker as its child. ``Places`` decides, and
this module carries out. It alone imports Ray.
"""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import addresses_of
from stoker.pipeline.output import protect, survive_hangup
from stoker.pipeline.storage.safe_files import read_whole
from stoker.pipeline.text import printable
from stoker.pipeline.transport.keys import WorkerKeys, check_private, load_worker
from stoker.workers import cli, ray_place
from stoker.workers.effects import EXIT_CONFIG, EXIT_ENDED, EXIT_FAILED
from stoker.workers.places import Drain, Effect, Kill, Places, Start
from stoker.workers.ray_place import Place
from stoker.workers.status_client import StatusThread, ask, headers_of, split_status
from stoker.workers.trainers import Answer, Trainers

DRAIN_S = 12.0         # for a worker to finish its step; its supervisor kills it before
HOLD_S = 300.0         # by default
TURN_S = 0.2           # how long to wait for news of the places in each turn
RETRY_S = 0.5          # between two calls of a place that Ray is starting again
LAST_LINES = 10        # of a worker, for the sentence that says how it ended
MAX_TOKEN_BYTES = 1024
JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"      # in the environment of the program of a Ray Job
#: Of a working directory: what no worker needs, and secrets. Ray also reads .gitignore and .rayignore.
EXCLUDES = [".git", ".venv", "__pycache__", "*.key_secret"]

EPILOG = """\
examples:
  stoker-ray --status trainer:8265 --status-token-file token --keys keys/workers/ray -- --data /mnt/photos
  stoker-ray --status trainer:8265 --status-token-file token --keys keys/workers/ray --working-dir . -- \\
      --data /mnt/photos --allow-generator my_module:my_function
  ray job submit --working-dir . -- stoker-ray --status trainer:8265 ... -- --data /mnt/photos

Behind -- are options of stoker-worker, for every worker: what the trainer may read on the nodes, which functions of
yours it may use (only those that --allow-generator names here), a cache folder, the sandbox: stoker-worker --help.
It ends with the run. Ctrl-C or SIGTERM: each worker finishes the batch in work, then all leave; a second one: they
leave at once. Exit codes: 0 the run is over, or asked to stop; 1 an error; 2 wrong options, also of the workers; 3 the
trainer refuses the workers for good.
"""


def make_parser() -> argparse.ArgumentParser:
    """The command line, before the options of the workers."""
    parser = argparse.ArgumentParser(
        prog="stoker-ray", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EPILOG, allow_abbrev=False,
        usage="%(prog)s --status HOST:PORT [OPTION...] [-- WORKER-OPTION...]",
        description="Runs workers on a Ray cluster, as many as the trainer wants: it asks the trainer's status "
                    "address\n(stoker-train --status). Start it before or after the trainer, on a node of the cluster "
                    "or as a Ray Job.")
    add = parser.add_argument
    add("--status", action="append", required=True, metavar="HOST:PORT",
        help="status address of the trainer. Repeat it for several trainers: their wishes are added up")
    add("--status-token-file", metavar="FILE", help="file with the token that the status address needs")
    add("--connect", action="append", default=[], metavar="tcp://HOST:PORT", help="address at which workers reach the "
        "trainer. Repeat it for several (default: what its status address says)")
    add("--address", default=os.environ.get("RAY_ADDRESS") or "auto", metavar="HOST:PORT",
        help="address of the Ray cluster (default: RAY_ADDRESS, or the cluster of this node)")
    add("--cpus", type=float, default=1.0, metavar="N", help="CPUs that Ray reserves for each place (default: 1)")
    add("--keys", metavar="DIR", help="folder with the workers' keys, on this host: a folder workers/NAME that "
        "stoker-keys made. They are handed to the places, and are in no file and no command line there. If the folder "
        "is on each node instead: -- --keys DIR")
    add("--working-dir", metavar="DIR", help="folder with the modules of your functions. Ray copies it to the nodes, "
        "where it is the workers' current folder. Large things and secrets do not belong into it")
    add("--hold-s", type=float, default=HOLD_S, metavar="S",
        help="how long places stay while no trainer answers, such as one that is started again, in seconds; then it "
             "ends with an error (default: %(default)g)")
    return parser


class Fleet:
    """Carries out what ``Places`` decides, with the actors of ``ray``. ``arguments``: the workers' options, without the
    addresses; ``say`` prints a line."""

    def __init__(self, ray: Any, places: Places, cpus: float, arguments: Sequence[str], keys: Optional[WorkerKeys],
                 say: Callable[[str], None]) -> None:
        self._ray, self._places, self._arguments, self._keys, self._say = ray, places, list(arguments), keys, say
        # Ray itself starts an actor again whose node died. A call under way then fails, and is made again here.
        self._actor = ray.remote(num_cpus=cpus, max_restarts=-1, max_task_retries=0, max_concurrency=4)(Place)
        self._actors: Dict[int, Any] = {}
        self._connect: Dict[int, Tuple[str, ...]] = {}
        self._calls: Dict[Any, int] = {}           # reference of an answer that is to come -> its place
        self._retries: Dict[int, float] = {}       # place -> when to call ``start`` again
        self._seen: Dict[int, Optional[int]] = {}  # place -> lines that were printed; None: its start is under way
        self._where: Dict[int, str] = {}
        self._last: Dict[int, List[str]] = {}      # place -> the last lines of its worker

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """In their order."""
        for effect in effects:
            if isinstance(effect, Start):
                self._actors[effect.place] = self._actor.remote()
                self._connect[effect.place] = effect.connect
                self._call_start(effect.place)
            elif isinstance(effect, Drain):
                self._actors[effect.place].drain.remote()
            elif isinstance(effect, Kill):
                self._forget(effect.place)
            else:
                self._say(effect.text)

    def turn(self) -> None:
        """Waits up to TURN_S for news of the places, and hands them on."""
        now = time.monotonic()
        for number in [number for number, due_s in self._retries.items() if now >= due_s]:
            del self._retries[number]
            self._call_start(number)
        if not self._calls:
            time.sleep(TURN_S)
            return
        ready, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=TURN_S)
        if ready:
            ready, _ = self._ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        for reference in ready:
            if reference in self._calls:           # else its place was killed meanwhile
                self._answered(self._calls.pop(reference), reference)

    def end(self) -> None:
        """Kills what is left."""
        for number in list(self._actors):
            self._forget(number)

    def _call_start(self, number: int) -> None:
        connect = [word for address in self._connect[number] for word in ("--connect", address)]
        self._seen[number] = None
        self._calls[self._actors[number].start.remote(connect + self._arguments, self._keys)] = number

    def _answered(self, number: int, reference: Any) -> None:
        errors, now = self._ray.exceptions, time.monotonic()
        try:
            answer = self._ray.get(reference, timeout=TURN_S)
        except (errors.ActorUnavailableError, errors.GetTimeoutError):
            self._retries[number] = now + RETRY_S
            self.carry_out(self._places.lost(number))
            return
        except errors.RayError as error:
            self.carry_out(self._places.failed(number, _in_a_line(error), now))
            return
        if self._seen[number] is None:             # it is the answer of ``start``
            self._seen[number], self._where[number], self._last[number] = 0, answer, []
            self.carry_out(self._places.started(number, answer, now))
        else:
            lines, self._seen[number], code = answer
            for line in lines:
                self._say("place %d on %s: %s" % (number, self._where[number], line))
            self._last[number] = (self._last[number] + lines)[-LAST_LINES:]
            if code is not None:
                self.carry_out(self._places.ended(number, code, self._last[number], now))
                return
        if number in self._actors:
            self._calls[self._actors[number].poll.remote(self._seen[number])] = number

    def _forget(self, number: int) -> None:
        actor = self._actors.pop(number)
        for known in (self._connect, self._retries, self._seen, self._where, self._last):
            known.pop(number, None)
        for reference in [reference for reference, owner in self._calls.items() if owner == number]:
            del self._calls[reference]
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor, no_restart=True)     # the worker's lifeline ends with it


def _in_a_line(error: Exception) -> str:
    return " ".join(printable(str(error), lines=True).split())[:1000] or type(error).__name__


def say(text: str) -> None:
    """Prints lines for the user."""
    print("stoker-ray: %s" % printable(text, lines=True), file=sys.stderr, flush=True)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns the exit code. Exits with code 2 if an option is wrong."""
    protect()
    words = list(sys.argv[1:] if argv is None else argv)
    split = words.index("--") if "--" in words else len(words)
    parser = make_parser()
    args, worker_arguments = parser.parse_args(words[:split]), words[split + 1:]
    try:
        statuses = [split_status(address) for address in args.status]
        for address in args.connect:
            addresses_of("--connect", address)
        _check_worker_options(worker_arguments)
        token = None if args.status_token_file is None else _read_token(args.status_token_file)
        keys = None if args.keys is None else load_worker(args.keys)
        if args.working_dir is not None and not os.path.isdir(args.working_dir):
            raise ConfigError("--working-dir: there is no folder %r" % args.working_dir)
    except ConfigError as error:
        parser.error(str(error))
    if not args.cpus > 0 or not args.hold_s > 0:
        parser.error("--cpus and --hold-s must be above 0")
    try:
        import ray
    except ImportError as error:
        say("error: Ray cannot be imported by %s (%s): pip install 'stoker[ray]', with the version of Ray that the "
            "cluster has" % (sys.executable, error))
        return EXIT_CONFIG
    survive_hangup("stoker-ray: the terminal is gone (SIGHUP), the workers go on; to end them: kill -TERM %d\n"
                   % os.getpid())
    signal.signal(signal.SIGTERM, signal.default_int_handler)       # until there are places
    try:
        with tempfile.TemporaryDirectory(prefix="stoker-ray-") as folder:      # Ray has read it when it is removed
            ray.init(address=args.address, namespace="stoker", log_to_driver=False, logging_level="ERROR",
                     runtime_env=_runtime_env(folder, args.working_dir, (args.keys, args.status_token_file)))
    except KeyboardInterrupt:
        return EXIT_ENDED
    except Exception as error:          # Ray raises many kinds
        say("error: cannot join the Ray cluster at %s: %s" % (args.address, _in_a_line(error)))
        return EXIT_FAILED
    try:
        places = Places(DRAIN_S)
        fleet = Fleet(ray, places, args.cpus, worker_arguments, keys, say)
        return _run(fleet, places, Trainers(args.status, args.hold_s, time.monotonic(), args.connect), statuses, token)
    except ray.exceptions.RayError as error:
        say("error: the Ray cluster at %s fails: %s" % (args.address, _in_a_line(error)))
        return EXIT_FAILED
    finally:
        ray.shutdown()


def _run(fleet: Fleet, places: Places, trainers: Trainers, statuses: Sequence[Tuple[str, int]],
         token: Optional[str]) -> int:
    signals: List[int] = []
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda signum, frame: signals.append(signum))
    lock = threading.Lock()         # of ``trainers``

    def answered(i: int, answer: Answer) -> None:
        with lock:
            said = trainers.answered(i, answer, time.monotonic())
        for text in said:
            say(text)

    def unanswered(i: int, problem: str) -> None:
        with lock:
            trainers.unanswered(i, problem)

    headers = headers_of("stoker-ray", token)
    threads = [StatusThread(partial(ask, host, port, headers), partial(answered, i), partial(unanswered, i))
               for i, (host, port) in enumerate(statuses)]
    try:
        stopped = 0
        while places.exit_code is None:
            now = time.monotonic()
            while stopped < len(signals):
                stopped += 1
                fleet.carry_out(places.stop(now))
            try:
                with lock:
                    said, need = trainers.check(now), trainers.need(now)
            except ConfigError as error:
                said, need = ([] if places.is_stopping else ["error: %s" % error]), None
                fleet.carry_out([] if places.is_stopping else places.stop(now, EXIT_FAILED))
            for text in said:
                say(text)
            fleet.carry_out(places.want(need, now) if need is not None else [])
            fleet.carry_out(places.tick(now))
            if places.exit_code is None:
                fleet.turn()
        return places.exit_code
    finally:
        for thread in threads:
            thread.end()
        fleet.end()


def _check_worker_options(arguments: Sequence[str]) -> None:
    """Ends the program with code 2 if ``stoker-worker`` would not take them anywhere; whether folders exist is known
    only on the nodes. Raises ConfigError if they are of this program."""
    for own in ("--connect", "--processes", "--lifeline", "--once"):
        if any(word == own or word.startswith(own + "=") for word in arguments):
            raise ConfigError("%s does not belong behind --: %s" % (own, {
                "--connect": "give it to stoker-ray itself", "--processes": "a place has one, and the trainer says how "
                "many places there are"}.get(own, "stoker-ray itself decides when the workers end")))
    cli.make_parser().parse_args(["--connect", "tcp://127.0.0.1:1", *arguments])


def _read_token(path: str) -> str:
    try:
        check_private(path, "--status-token-file")
        return read_whole(path, MAX_TOKEN_BYTES, links=True).strip().decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("--status-token-file: cannot read %r: %s" % (path, getattr(error, "strerror", error))
                          ) from error


def _runtime_env(folder: str, working_dir: Optional[str], secrets: Sequence[Optional[str]]) -> Dict[str, Any]:
    """What Ray brings to the nodes: this copy of Stoker, unless the Ray Job brings modules of its own, and the user's
    modules, without the paths ``secrets``. ``folder``: for a copy of Stoker's modules alone, because in a checkout they
    are links."""
    job = json.loads(os.environ.get(JOB_CONFIG) or "{}").get("runtime_env") or {}
    environment: Dict[str, Any] = {}
    if not job.get("py_modules"):
        package = os.path.dirname(os.path.dirname(os.path.abspath(ray_place.__file__)))
        copy = os.path.join(folder, "stoker")
        shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "Dockerfile", "*.sh"))
        environment["py_modules"] = [copy]
    if working_dir is not None:
        environment.update(working_dir=os.path.abspath(working_dir),
                           excludes=EXCLUDES + _patterns(working_dir, [path for path in secrets if path]))
    return environment


def _patterns(folder: str, paths: Sequence[str]) -> List[str]:
    """Of those of ``paths`` that are in ``folder``, also as a link, which Ray follows: as in .gitignore."""
    found = [os.path.join(real(os.path.dirname(path)), os.path.basename(path)) for path in map(os.path.abspath, paths)
             for real in (os.path.abspath, os.path.realpath)] + list(map(os.path.realpath, paths))
    inside = [os.path.relpath(path, real(folder)) for path in found for real in (os.path.abspath, os.path.realpath)]
    return ["/" + re.sub(r"([^\w/.-])", r"\\\1", path) for path in dict.fromkeys(inside)
            if path.split(os.sep)[0] != os.pardir]


if __name__ == "__main__":
    sys.exit(main())
