"""Images per second, end to end: Stoker, its peers, and the limits, on the same files, in alternation.

Same work for all: every file opened, decoded, resized to RGB of 64x64 or 224x224, in random order, in batches of 32,
into a placeholder of TensorFlow 1.9 where the contender is one for TensorFlow 1.9, or else handed over as an array. One
process or thread per core. Contenders that make pictures of one class of quality are a group, with the limit of that
class. Contenders are suspended while it is not their turn, and count only the pictures produced during it
(``benchmarks/contenders/protocol.py``). Rates compare within one run, not from one run to the next.
"""

import functools
import os
import subprocess
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from benchmarks.alternation import TRIES, Contender, Result, alternate, disturbance, ratio
from benchmarks.pictures import FOLDER
from benchmarks.table import Goal, Say, Table, main

EXACT = "bicubic, antialiased (Pillow's own resize)"
PLAIN = "bilinear, not antialiased"
MODES = {"exact": EXACT, "fast": "scaled decode to >= 2x the size, then bicubic, antialiased",
         "fastest": "scaled decode to >= the size, then bilinear, antialiased",
         "sampled": "scaled decode to >= 0.7x the size, then single pixels, not antialiased"}
#: The classes of quality: pictures of one class are alike, and the work for them is the same.
FULL, SCALED, NOT_ANTIALIASED = "antialiased, exact", "scaled decode, antialiased", "not antialiased"
CLASSES = {FULL: "exact", SCALED: "fastest", NOT_ANTIALIASED: "sampled"}      # and Stoker's way to make them

TUTORIAL = "tutorial's generator"
KERAS = "tf.keras 1.9 OrderedEnqueuer"
TENSORPACK = ("tensorpack MultiProcessMapData", "tensorpack MultiProcessRunnerZMQ", "tensorpack RemoteDataZMQ")
TFDATA = "tf.data, TF 1.9"
RATIO = "tf.data, TF 1.9, fast DCT, ratio=%d"
TFDATA_2 = "tf.data, TF 2.21"
LIBJPEG = "limit: libjpeg-turbo + OpenCV"
PYTHONS = {"trainer": "Python 3.6", "workers": "newest Python", "workers-simd": "pillow-simd"}

OFTEN = [("exact", "workers")] + [(mode, environment) for mode in ("fastest", "sampled")
                                  for environment in ("workers", "workers-simd")]
RARELY = 3      # rounds for one turn of a contender that no goal is about
#: size -> (mode, environment) -> the least share of the limit, which is the same decoding without a pipeline
SHARES = {"64": {("fastest", "workers"): 0.93, ("fastest", "workers-simd"): 0.90, ("sampled", "workers"): 0.90},
          "224": {("fastest", "workers"): 0.96, ("fastest", "workers-simd"): 0.93, ("sampled", "workers"): 0.90}}
#: size -> (mode, environment) -> the least ratio to tf.data of TF 1.9, which decodes in full and does not antialias
OVER_TFDATA = {"64": {("fastest", "workers"): 1.15},
               "224": {("fastest", "workers"): 1.15, ("fastest", "workers-simd"): 1.5}}


def stoker(mode: str, environment: str = "workers") -> str:
    return "Stoker %s, %s" % (mode, PYTHONS[environment])


def limit(mode: str, environment: str = "workers") -> str:
    return "limit: %s, %s" % (mode, PYTHONS[environment])


def least(mode: str, environment: str = "workers") -> str:
    """The least that any pipeline into TensorFlow 1.9 does besides decoding: ``contenders/handover.py``."""
    return "limit, fed to TF 1.9: %s, %s" % (mode, PYTHONS[environment])


class Group(NamedTuple):
    """Contenders that are measured together, on one set of pictures at one size."""

    name: str
    pictures: str
    size: int
    rounds: int
    seconds: float
    contenders: List[Contender]


def contender(name: str, environment: str, module: str, way: str, pictures: str, size: int, remark: str,
              kind: str = "") -> Contender:
    python = os.path.join(".venv", environment, "bin", "python")
    missing = ""
    if not os.path.exists(python):
        try:
            with open(os.path.join(".venv", environment + ".missing")) as file:
                missing = file.read().strip()
        except OSError:
            missing = "no environment .venv/%s: `sh .setup/bench.sh` makes it" % environment
    return Contender(name, [python, "-m", "benchmarks.contenders." + module, way, os.path.join(FOLDER, pictures),
                            str(size)], remark, missing=missing, kind=kind)


def few(pictures: str, size: int) -> List[Contender]:
    """Those that are of interest with every kind of picture."""
    make = functools.partial(contender, pictures=pictures, size=size)
    exact = functools.partial(make, remark=EXACT, kind=FULL)
    return [exact(TUTORIAL, "trainer", "trainer_1_9", "tutorial"),
            exact(KERAS, "trainer", "trainer_1_9", "keras"),
            exact(TENSORPACK[1], "bench-tensorpack", "tensorpack_flows", "runner"),
            _stoker(make, "exact", "workers"), _stoker(make, "fastest", "workers"),
            make(TFDATA, "trainer", "trainer_1_9", "tfdata", remark=PLAIN, kind=NOT_ANTIALIASED),
            _stoker(make, "sampled", "workers")]


def all_contenders(pictures: str, size: int, ratio: int) -> List[Contender]:
    """By class, and each limit after what it limits. ``ratio``: by what decode_jpeg of TF 1.9 can reduce these pictures
    for this size."""
    make = functools.partial(contender, pictures=pictures, size=size)
    exact = functools.partial(make, remark=EXACT, kind=FULL)
    plain = functools.partial(make, remark=PLAIN, kind=NOT_ANTIALIASED)
    found = few(pictures, size)[:2]
    found += [exact(name, "bench-tensorpack", "tensorpack_flows", way)
              for name, way in zip(TENSORPACK, ("map", "runner", "remote"))]
    found += [exact("PyTorch DataLoader", "bench-torch", "torch_loader", "exact"),
              exact("grain", "bench-grain", "grain_loader", "exact")]
    found += _with_limits(make, "exact", ("workers", "workers-simd"))
    found += [make("PyTorch DataLoader, draft", "bench-torch", "torch_loader", "draft", kind=SCALED,
                   remark="scaled decode to >= the size, then bicubic, antialiased"),
              _stoker(make, "fastest", "trainer"), _stoker(make, "fast", "workers")]
    found += _with_limits(make, "fastest", ("workers", "workers-simd"))
    found += [plain("tensorpack MultiProcessRunnerZMQ, OpenCV", "bench-tensorpack", "tensorpack_flows", "runner-cv2"),
              plain(TFDATA, "trainer", "trainer_1_9", "tfdata")]
    if ratio > 1:
        found.append(make(RATIO % ratio, "trainer", "trainer_1_9", "tfdata-ratio-%d" % ratio, kind=NOT_ANTIALIASED,
                          remark="scaled decode by %d, less exact DCT, %s" % (ratio, PLAIN)))
    found += [plain(TFDATA_2, "bench-tensorflow", "trainer_2", "tfdata"),
              plain("tf.data service, TF 2.21", "bench-tensorflow", "trainer_2", "service")]
    found += _with_limits(make, "sampled", ("workers", "workers-simd"))
    libjpeg = make(LIBJPEG, "bench-limit", "limit", "libjpeg", kind=NOT_ANTIALIASED,
                   remark="scaled decode to >= the size, then " + PLAIN)
    # the same as ``keep_freed_memory`` does for the others: no page faults for each picture
    found.append(libjpeg._replace(environment=dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"),
                                                            str(1 << 25))))
    often = [TFDATA, RATIO % ratio, TFDATA_2, "PyTorch DataLoader", "PyTorch DataLoader, draft"]
    often += [name(*each) for each in OFTEN for name in (stoker, limit, least)]
    return [each if each.name in often else each._replace(every=RARELY) for each in found]


def _with_limits(make: Any, mode: str, environments: Sequence[str]) -> List[Contender]:
    found = []
    for environment in environments:
        found += [_stoker(make, mode, environment),
                  make(limit(mode, environment), environment, "limit", mode, remark=MODES[mode], kind=_class(mode))]
        if (mode, environment) in SHARES["64"]:
            python = os.path.abspath(os.path.join(".venv", environment, "bin", "python"))
            found.append(make(least(mode, environment), "trainer" if os.path.exists(python) else environment,
                              "handover", "%s:%s" % (mode, python), remark=MODES[mode], kind=_class(mode)))
    return found


def _stoker(make: Any, mode: str, environment: str) -> Contender:
    python = os.path.abspath(os.path.join(".venv", environment, "bin", "python"))
    return make(stoker(mode, environment), "trainer" if os.path.exists(python) else environment, "stoker",
                "%s:%s" % (mode, python), remark=MODES[mode], kind=_class(mode))


def _class(mode: str) -> str:
    return {"exact": FULL, "sampled": NOT_ANTIALIASED}.get(mode, SCALED)


def groups(quick: bool) -> List[Group]:
    if quick:       # each contender and each kind of picture once
        some = (TUTORIAL, TFDATA, stoker("fastest"))
        return [Group("64", "photos", 64, 1, 0.4, all_contenders("photos", 64, 4))] + [
            Group(name, pictures, 224, 1, 0.4, [each for each in few(pictures, 224) if each.name in some])
            for name, pictures in (("224", "photos"), ("large", "large"), ("png", "png"))]
    return [Group("64", "photos", 64, 7, 1.0, all_contenders("photos", 64, 4)),
            Group("224", "photos", 224, 7, 1.0, all_contenders("photos", 224, 1)),
            Group("large", "large", 224, 3, 1.0, few("large", 224)), Group("png", "png", 224, 3, 1.0, few("png", 224))]


# --------------------------------------------------------------------------------------------------------------- goals

def goals_of(group: Group, results: Dict[str, Result]) -> List[Goal]:
    """The claims on the group. A contender that failed reaches nothing; one that was not tried is left out."""
    shares = SHARES.get(group.name, {})
    goals = [_share(results, each, share) for each, share in shares.items()]
    for each, over in OVER_TFDATA.get(group.name, {}).items():
        goals.append(within_limit(results, _goal(results, stoker(*each), TFDATA, over), TFDATA, limit(*each),
                                  shares[each]))
    for kind, mode in CLASSES.items() if shares else ():
        peers = [each.name for each in group.contenders
                 if each.kind == kind and not each.name.startswith(("Stoker", "limit"))]
        best = best_of(results, peers)
        if best:
            goals.append(within_limit(results, _goal(results, stoker(mode), best, 1.0, ", the best peer of its class"),
                                      best, limit(mode), shares.get((mode, "workers"), 0.9)))
    return [goal._replace(text="%s, at %d pixels" % (goal.text, group.size)) for goal in goals if goal is not None]


def _goal(results: Dict[str, Result], one: str, other: str, wanted: float, remark: str = "") -> Optional[Goal]:
    if one not in results or other not in results:
        return None
    return Goal("%s over %s%s" % (one, other, remark), ratio(results[one], results[other]), wanted)


def _share(results: Dict[str, Result], each: Tuple[str, str], share: float) -> Optional[Goal]:
    """Of the limit; if not even the least pipeline around it reaches ``share``, what that one reaches, and why."""
    goal = _goal(results, stoker(*each), limit(*each), share)
    most = ratio(results[least(*each)], results[limit(*each)]) if goal and least(*each) in results else 0.0
    if goal is None or not 0 < most < share:
        return goal
    return goal._replace(text="%s (%.2f is more than the least pipeline into TensorFlow 1.9 reaches)" % (
        goal.text, share), wanted=most)


def within_limit(results: Dict[str, Result], goal: Optional[Goal], peer: str, bound: str, share: float
                 ) -> Optional[Goal]:
    """``goal``, or if that would need more than ``share`` of the measured limit ``bound``: that share, and why. No
    pipeline around the same decoding could be faster than the decoding."""
    if goal is None or bound not in results:
        return goal
    most = share * ratio(results[bound], results[peer])
    if not 0 < most < goal.wanted:
        return goal
    return goal._replace(text="%s (%.2f would be above %g of the limit of this decoding)" % (
        goal.text, goal.wanted, share), wanted=most)


def best_of(results: Dict[str, Result], names: Sequence[str]) -> str:
    """The fastest of those that ran; '' if none did."""
    rates = {name: results[name].rate for name in names if name in results}
    ran = {name: rate.median for name, rate in rates.items() if rate is not None}
    return max(ran, key=lambda name: ran[name]) if ran else ""


# -------------------------------------------------------------------------------------------------------------- tables

def table_of(group: Group, results: Dict[str, Result], title: str) -> Table:
    first = results[group.contenders[0].name].rate
    rows: List[List[Any]] = []
    for each in group.contenders:
        result = results[each.name]
        if result.rate is None:
            rows.append([each.kind, each.name, None, None, None, None, None, each.remark, result.error])
            continue
        rows.append([each.kind, each.name, result.rate.median, result.rate.least, result.rate.most,
                     result.rate.median / first.median if first else None,
                     sum(result.cpu) / len(result.cpu), each.remark, ""])
    columns = ["class", "contender", "images/s", "least", "most", "x tutorial", "cores busy", "quality", "failed"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    notes = ["Medians of %d rounds of %g s (of %d, where no goal depends on it), with the slowest and the fastest "
             "round; cores busy: CPU seconds of all processes per second. The ratio of a goal is the "
             "median of the rounds' ratios." % (
                 group.rounds, group.seconds, -(-group.rounds // RARELY))]
    if any(name.startswith("limit") for name in results):
        notes.append("Limits have no pipeline: a process per core reads and decodes its share with the same calls, and "
                     "no checks, and the pictures are dropped. Fed to TF 1.9: the least that a pipeline does besides, "
                     "which is to decode into shared memory, to say so with a byte in a pipe, and to feed a session "
                     "from there; it has no order, no checks, one host, and hangs if a process dies.")
    return Table("end-to-end-" + group.name, title, columns, rows, notes + disturbance(results),
                 goals_of(group, results), "bars", "images/s", ("least", "most"), "contender", "class")


#: What users have, or would have -> the contenders of which the fastest counts.
SUMMARY = {"a generator in the training process": (TUTORIAL,), "tf.keras `OrderedEnqueuer`": (KERAS,),
           "tensorpack, the best of its ways that antialias": TENSORPACK,
           "tf.data of TF 1.9, full decode, not antialiased": (TFDATA,),
           "tf.data of TF 1.9, scaled decode (`ratio=4`), not antialiased": (RATIO % 4,),
           "Stoker, `exact`: bit for bit as the first three": (stoker("exact"),),
           "**Stoker with its defaults**, antialiased": (stoker("fastest"),),
           "Stoker with pillow-simd (`SIMD=1`), antialiased": (stoker("fastest", "workers-simd"),),
           "Stoker, `sampled`: not antialiased": (stoker("sampled"),)}
SUMMARY_COLUMNS = {"64": "JPEG 500x375 to 64x64", "224": "JPEG 500x375 to 224x224",
                   "large": "JPEG 2304x1728 to 224x224", "png": "PNG 500x375 to 224x224"}


def summary(by_group: Dict[str, Dict[str, Result]]) -> Table:
    """The table that a user wants: Stoker beside what they have, on their kind of pictures."""
    rows: List[List[Any]] = []
    for label, names in SUMMARY.items():
        row: List[Any] = [label]
        for name in SUMMARY_COLUMNS:
            results = by_group.get(name, {})
            best = best_of(results, names)
            rate = results[best].rate if best else None
            row.append(rate.median if rate else None)
        if any(cell is not None for cell in row[1:]):
            rows.append(row)
    return Table("summary", "Images per second", ["images/s"] + list(SUMMARY_COLUMNS.values()), rows,
                 ["Two cores or as many as the machine has, shared by trainer and workers. All but tf.data feed a "
                  "placeholder of TensorFlow 1.9."], plot="panels")


def run(quick: bool, say: Say) -> List[Table]:
    facts = pictures_made(say)
    tables, by_group = [], {}
    for group in groups(quick):
        say("%s at %d pixels" % (facts[group.pictures], group.size))
        results = by_group[group.name] = alternate(group.contenders, group.rounds, group.seconds, say,
                                                     1 if quick else TRIES)
        tables.append(table_of(group, results, "End to end at %dx%d: %s" % (group.size, group.size,
                                                                             facts[group.pictures])))
    return [summary(by_group)] + tables


def pictures_made(say: Say) -> Dict[str, str]:
    """Makes the pictures if they are missing. Returns the description of each set."""
    python = os.path.join(".venv", "bench-pictures", "bin", "python")
    say("making the pictures in %s where they are missing" % FOLDER)
    subprocess.run([python, "-m", "benchmarks.pictures"], check=True)
    from benchmarks.pictures import facts
    return facts(FOLDER)


if __name__ == "__main__":
    main(run, __doc__)
