"""Where the data lie: images per second, end to end, of the same photos as files, in record files and in stores; beside
tf.data of TensorFlow 1.9 on the same TFRecords; and with 30 ms for each read.

All take turns in one run, with one worker process for each core, into a placeholder of TensorFlow 1.9. nginx and
SeaweedFS serve from the page cache of the same machine, on the same cores. So their CPU time is missing to the workers,
which it would not be with servers on other hosts: it is a column of its own.
"""

import json
import os
import statistics
from contextlib import ExitStack
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import psutil

from benchmarks import packed
from benchmarks.alternation import Contender, Program, Result, alternate, disturbance
from benchmarks.contenders.protocol import marked
from benchmarks.end_to_end import MODES, PLAIN, pictures_made
from benchmarks.pictures import FOLDER
from benchmarks.servers import Nginx, Seaweed, Unavailable
from benchmarks.table import Goal, Say, Table, main
from benchmarks.wire import worker_python

TRAINER = os.path.join(".venv", "trainer", "bin", "python")
PHOTOS = os.path.abspath(os.path.join(FOLDER, "photos"))
PACKED = os.path.abspath(packed.FOLDER)
SERVED = {"photos": PHOTOS, "tfrecord": os.path.join(PACKED, "tfrecord")}
DELAY_S = 0.03
LEAST_FAR, LEAST_NEAR, LEAST_TFDATA = 0.9, 0.99, 1.1
ARRAYS = "pixels of that size: nothing to decode"
#: (way of ``contenders.trainer_1_9``, its quality) at each size; at 224 pixels no scaled decode fits
TFDATA = {64: (("tfrecord", "full decode, " + PLAIN),
               ("tfrecord-fast-dct", "full decode, less exact DCT, " + PLAIN),
               ("tfrecord-ratio-4", "scaled decode by 4, less exact DCT, " + PLAIN)),
          224: (("tfrecord", "full decode, " + PLAIN), ("tfrecord-fast-dct", "full decode, less exact DCT, " + PLAIN))}


class Group(NamedTuple):
    """Contenders that take turns, and for how long."""
    size: int
    rounds: int
    seconds: float
    contenders: List[Contender]


def stoker(name: str, form: str, root: str, size: int, decode: str = "fastest", remark: str = "",
           environment: Optional[Dict[str, str]] = None, **options: Any) -> Contender:
    """Stoker over the data ``form`` in ``root``; ``options``: of ``open_stream``."""
    way = json.dumps(dict(options, form=form, root=root, decode=decode, worker_python=worker_python()))
    return Contender(name, [TRAINER, "-m", "benchmarks.contenders.stored", way, PHOTOS, str(size)],
                     remark or MODES[decode], environment or {})


def tfdata(size: int) -> List[Contender]:
    return [Contender("tf.data, TF 1.9: TFRecord%s" % way[len("tfrecord"):].replace("-", ", ", 1),
                      [TRAINER, "-m", "benchmarks.contenders.trainer_1_9", way, os.path.join(PACKED, "tfrecord"),
                       str(size)], remark) for way, remark in TFDATA[size]]


def local(size: int, decodes: Sequence[str]) -> List[Contender]:
    """Files, and every kind of record file, on this disk; at 224 pixels, where decoding takes longer, the first two."""
    found = [stoker("folder, " + decode, "folder", PHOTOS, size, decode) for decode in decodes]
    found += [stoker("TFRecord, " + decode, "tfrecord", PACKED, size, decode) for decode in decodes]
    if size > 64:
        return found
    found += [stoker(form + ", fastest", form, PACKED, size) for form in ("tar", "zip")]
    return found + [stoker(form, form, PACKED, size, remark=ARRAYS) for form in ("npy", "hdf5")]


def stores(size: int, web: Optional[Nginx], bucket: Optional[Seaweed]) -> List[Contender]:
    """The same in a web server and in a bucket."""
    found = []
    if web is not None:
        found += [stoker("http: files, fastest", "files", web.url + "/photos", size),
                  stoker("http: TFRecord, fastest", "tfrecord", web.url, size)]
    if bucket is not None:
        found += [stoker("S3: folder, fastest", "folder", bucket.url + "/photos", size, environment=bucket.environment),
                  stoker("S3: TFRecord, fastest", "tfrecord", bucket.url, size, environment=bucket.environment)]
    return found


# -------------------------------------------------------------------------------------------------------------- tables

def rows_of(group: Group, results: Dict[str, Result], first: str) -> List[List[Any]]:
    """A row for each contender: its rates, by that of ``first``, and who used which CPU time."""
    rows = []       # type: List[List[Any]]
    reference = results[first].rate
    for each in group.contenders:
        result = results[each.name]
        if result.rate is None:
            rows.append([each.name] + [None] * 7 + [result.error[:100] or each.remark])
            continue
        served = is_served(each)
        rows.append([each.name, result.rate.median, result.rate.least, result.rate.most,
                     result.rate.median / reference.median if reference else None,
                     sum(result.cpu) / len(result.cpu), per_cpu_s(result),
                     statistics.median(result.others) if served else None, each.remark])
    return rows


def is_served(contender: Contender) -> bool:
    """A server has its data, whose CPU time is other work on this machine."""
    return "http" in contender.name or contender.name.startswith("S3")


def notes_of(group: Group, results: Dict[str, Result]) -> List[str]:
    notes = ["Medians of %d rounds of %g s, with the slowest and the fastest round; cores: CPU seconds per second of "
             "all processes of the contender, and of the server on the same cores." % (group.rounds, group.seconds)]
    return notes + disturbance({each.name: results[each.name] for each in group.contenders
                                if not is_served(each)})


COLUMNS = ["source", "images/s", "least", "most", "x folder", "cores busy", "per CPU second", "server's cores",
           "quality"]


def per_cpu_s(result: Result) -> float:
    """Images per CPU second of the contender's processes: other work on the machine counts less in it."""
    return statistics.median(rate / max(1e-9, cpu) for rate, cpu in zip(result.rates, result.cpu))


def ratio(results: Dict[str, Result], one: str, other: str) -> float:
    """Of the medians; 0 if one of them failed."""
    rates = [results[name].rate if name in results else None for name in (one, other)]
    return rates[0].median / rates[1].median if rates[0] and rates[1] else 0.0


def table_of_sources(group: Group, results: Dict[str, Result], fact: str) -> Table:
    names = [each.name for each in tfdata(group.size)]
    pairs = [("TFRecord, fastest", names[0]), ("TFRecord, sampled", names[-1])]
    goals = [Goal("%s over %s at %d pixels" % (one, other, group.size), ratio(results, one, other), LEAST_TFDATA)
             for one, other in pairs]
    return Table("sources-%d" % group.size, "Sources and stores at %dx%d: %s" % (group.size, group.size, fact),
                 COLUMNS, rows_of(group, results, "folder, fastest"), notes_of(group, results), goals, "bars",
                 "images/s", ("least", "most"))


def far(web: Nginx, seconds: float, rounds: int) -> Group:
    """Files and TFRecords behind a delay, beside the local folder, by the way to decode."""
    found = []
    for decode in ("fastest", "exact"):
        found += [stoker("local folder, " + decode, "folder", PHOTOS, 64, decode),
                  stoker("http, 30 ms: files, " + decode, "files", web.far_url + "/photos", 64, decode),
                  stoker("http, 30 ms: TFRecord, " + decode, "tfrecord", web.far_url, 64, decode),
                  Contender(least(decode), [TRAINER, "-m", "benchmarks.contenders.handover", "%s:%s:%s" % (
                      decode, worker_python(), web.far_url + "/photos"), PHOTOS, "64"], MODES[decode])]
    found.append(stoker("http, 30 ms: files, fastest, no reading ahead", "files", web.far_url + "/photos", 64,
                        read_ahead=0))
    return Group(64, rounds, seconds, found)


def least(decode: str) -> str:
    """The least that any pipeline into TensorFlow 1.9 does besides decoding and reading by HTTP."""
    return "limit, fed to TF 1.9: http, 30 ms: files, " + decode


def table_of_far(group: Group, results: Dict[str, Result], memory: Dict[str, float]) -> Table:
    goals = []
    for decode in ("fastest", "exact"):
        most = ratio(results, least(decode), "local folder, " + decode)
        for form in ("files", "TFRecord"):
            goal = Goal("http, 30 ms: %s, %s over the local folder" % (form, decode), ratio(
                results, "http, 30 ms: %s, %s" % (form, decode), "local folder, " + decode), LEAST_FAR)
            goals.append(goal if not 0 < most < LEAST_FAR else goal._replace(
                text="%s (%.2f is more than the least pipeline by HTTP reaches)" % (goal.text, LEAST_FAR), wanted=most))
    return Table("sources-far", "30 ms for each read, at 64x64: photos by HTTP beside a local folder", COLUMNS,
                 rows_of(group, results, "local folder, fastest"), notes_of(group, results) + [
                     "Limit, fed to TF 1.9: the least that a pipeline does that reads by HTTP, and no more (benchmarks/"
                     "contenders/handover.py).", "--read-ahead auto. Memory of a worker process: %s." % ", ".join(
                         "%s %.0f MB" % pair for pair in sorted(memory.items()))], goals)


def near(seconds: float, rounds: int) -> Group:
    """Reading ahead on a local disk: chosen by itself, and off."""
    return Group(64, rounds, seconds, [stoker("local %s, %s" % (form, name), form, root, 64, read_ahead=ahead)
                                       for form, root in (("folder", PHOTOS), ("tfrecord", PACKED))
                                       for name, ahead in (("auto", "auto"), ("0", 0))])


def table_of_near(group: Group, results: Dict[str, Result]) -> Table:
    rows, goals = [], []        # type: List[List[Any]], List[Goal]
    for form in ("folder", "tfrecord"):
        auto, off = (results["local %s, %s" % (form, name)] for name in ("auto", "0"))
        if auto.rate and off.rate:
            shares = [one / other for one, other in zip(auto.rates, off.rates)]
            work = per_cpu_s(auto) / per_cpu_s(off)
            rows.append([form, auto.rate.median, off.rate.median, statistics.median(shares), min(shares), max(shares),
                         work])
            goals.append(Goal("--read-ahead auto on a local %s, times 0, per CPU second" % form, work, LEAST_NEAR))
    return Table("sources-near", "Reading ahead where reads are fast, at 64x64",
                 ["data", "images/s, auto", "images/s, 0", "auto over 0", "least", "most", "per CPU second"], rows,
                 notes_of(group, results) + ["Auto over 0: the median of the ratios of each round."], goals)


def memory_of(contender: Contender) -> float:
    """MB of a worker's process, at the end of a turn: what it does not share with other processes."""
    program = Program(contender)
    try:
        program.wait_until_ready()
        program.turn(2.0)
        found = []
        for pid in marked(program.mark):
            process = psutil.Process(pid)
            if "stoker.workers.process" in process.cmdline():
                found.append(process.memory_full_info().uss / 1e6)
        return max(found)
    finally:
        program.end()


def run(quick: bool, say: Say) -> List[Table]:
    fact = pictures_made(say)["photos"]
    say("writing record files in %s where they are missing" % packed.FOLDER)
    packed.make()
    tables = []
    with ExitStack() as stack:
        web = _started(stack, lambda: Nginx(SERVED, DELAY_S), say)
        bucket = _started(stack, lambda: Seaweed(SERVED), say)
        sizes = [(64, ("fastest", "sampled", "exact"))] if quick else [(64, ("fastest", "sampled", "exact")),
                                                                      (224, ("fastest", "sampled"))]
        for size, decodes in sizes:
            rounds = 1 if quick else 5 if size == 64 else 3
            group = Group(size, rounds, 0.4 if quick else 1.2, local(size, decodes) + (
                stores(size, web, bucket) if size == 64 else []) + tfdata(size))
            say("sources at %d pixels" % size)
            tables.append(table_of_sources(group, alternate(group.contenders, group.rounds, group.seconds, say), fact))
        if web is not None:
            group = far(web, 0.4 if quick else 1.5, 1 if quick else 5)
            say("30 ms for each read")
            results = alternate(group.contenders, group.rounds, group.seconds, say)
            memory = {each.name: memory_of(each) for each in group.contenders[:3]} if not quick else {}
            tables.append(table_of_far(group, results, memory))
        group = near(0.4 if quick else 1.5, 1 if quick else 7)
        say("reading ahead on a local disk")
        tables.append(table_of_near(group, alternate(group.contenders, group.rounds, group.seconds, say)))
    return tables


def _started(stack: ExitStack, start: Any, say: Say) -> Any:
    """The server; None if it cannot run here."""
    try:
        return stack.enter_context(start())
    except Unavailable as error:
        say("left out: %s" % error)
        return None


if __name__ == "__main__":
    main(run, __doc__)
