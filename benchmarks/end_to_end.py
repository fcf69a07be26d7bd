"""Images per second, end to end: Stoker, its peers, and the limits, on the same files, in alternation.

Same work for all: every file opened, decoded, resized to RGB of 64x64 or 224x224, in random order, in batches of 32,
into a placeholder of TensorFlow 1.9 where the contender is one for TensorFlow 1.9, or else handed over as an array. One
process or thread per core. Each row of the tables states differences in quality. Contenders are suspended while it is
not their turn, and count only the pictures produced during it (``benchmarks/contenders/protocol.py``). Rates compare
within one run, not from one run to the next.
"""

import functools
import os
import statistics
import subprocess
from typing import Any, Dict, List, NamedTuple, Sequence

from benchmarks.alternation import Contender, Result, alternate
from benchmarks.pictures import FOLDER
from benchmarks.table import Goal, Say, Table, main

EXACT = "bicubic, antialiased (Pillow's own resize)"
PLAIN = "bilinear, not antialiased"
MODES = {"exact": EXACT, "fast": "scaled decode to >= 2x the size, then bicubic, antialiased",
         "fastest": "scaled decode to >= the size, then bilinear, antialiased",
         "sampled": "scaled decode to >= 0.7x the size, then single pixels, not antialiased"}

TUTORIAL = "tutorial's generator"
TENSORPACK = ("tensorpack MultiProcessMapData", "tensorpack MultiProcessRunnerZMQ", "tensorpack RemoteDataZMQ")
TFDATA = "tf.data, TF 1.9"
TFDATA_FAST_DCT = "tf.data, TF 1.9, fast DCT"
RATIO = "tf.data, TF 1.9, fast DCT, ratio=%d"
TFDATA_2 = "tf.data, TF 2.21"
LIBJPEG = "limit: libjpeg-turbo + OpenCV"
LIMITED = (("fastest", "workers"), ("fastest", "workers-simd"), ("sampled", "workers"), ("sampled", "workers-simd"))
PYTHONS = {"trainer": "Python 3.6", "workers": "newest Python", "workers-simd": "pillow-simd"}


def stoker(mode: str, environment: str = "workers") -> str:
    return "Stoker %s, %s" % (mode, PYTHONS[environment])


def limit(mode: str, environment: str = "workers") -> str:
    return "limit: %s, %s" % (mode, PYTHONS[environment])


class Group(NamedTuple):
    """Contenders that are measured together, on one set of pictures at one size."""

    name: str
    pictures: str
    size: int
    rounds: int
    seconds: float
    contenders: List[Contender]


def contender(name: str, environment: str, module: str, way: str, pictures: str, size: int, remark: str) -> Contender:
    python = os.path.join(".venv", environment, "bin", "python")
    missing = ""
    if not os.path.exists(python):
        try:
            with open(os.path.join(".venv", environment + ".missing")) as file:
                missing = file.read().strip()
        except OSError:
            missing = "no environment .venv/%s: `sh .setup/bench.sh` makes it" % environment
    return Contender(name, [python, "-m", "benchmarks.contenders." + module, way, os.path.join(FOLDER, pictures),
                            str(size)], remark, missing=missing)


def few(pictures: str, size: int) -> List[Contender]:
    """Those that are of interest with every kind of picture."""
    make = functools.partial(contender, pictures=pictures, size=size)
    found = [make(TUTORIAL, "trainer", "trainer_1_9", "tutorial", remark=EXACT)]
    found += [make(name, "bench-tensorpack", "tensorpack_flows", way, remark=EXACT)
              for name, way in zip(TENSORPACK, ("map", "runner", "remote"))]
    found += [make(TFDATA, "trainer", "trainer_1_9", "tfdata", remark=PLAIN),
              make(TFDATA_FAST_DCT, "trainer", "trainer_1_9", "tfdata-fast-dct", remark="less exact DCT, " + PLAIN)]
    found += [_stoker(make, mode, environment) for mode, environment in
              (("exact", "workers"), ("fastest", "workers"), ("sampled", "workers"))]
    return found


def all_contenders(pictures: str, size: int, ratio: int) -> List[Contender]:
    """``ratio``: by what decode_jpeg of TF 1.9 can reduce these pictures for this size."""
    make = functools.partial(contender, pictures=pictures, size=size)
    found = few(pictures, size)[:-3]
    found.insert(1, make("tf.keras 1.9 OrderedEnqueuer", "trainer", "trainer_1_9", "keras", remark=EXACT))
    found.insert(5, make("tensorpack MultiProcessRunnerZMQ, OpenCV", "bench-tensorpack", "tensorpack_flows",
                         "runner-cv2", remark=PLAIN))
    if ratio > 1:
        found.append(make(RATIO % ratio, "trainer", "trainer_1_9", "tfdata-ratio-%d" % ratio,
                          remark="scaled decode by %d, less exact DCT, %s" % (ratio, PLAIN)))
    found += [make("PyTorch DataLoader", "bench-torch", "torch_loader", "exact", remark=EXACT),
              make("PyTorch DataLoader, draft", "bench-torch", "torch_loader", "draft",
                   remark="scaled decode to >= the size, then bicubic, antialiased"),
              make("grain", "bench-grain", "grain_loader", "exact", remark=EXACT),
              make(TFDATA_2, "bench-tensorflow", "trainer_2", "tfdata", remark=PLAIN),
              make("tf.data service, TF 2.21", "bench-tensorflow", "trainer_2", "service", remark=PLAIN)]
    found += [_stoker(make, mode, "trainer") for mode in ("exact", "fastest")]
    found += [_stoker(make, mode, environment) for environment in ("workers", "workers-simd") for mode in MODES]
    found += [make(limit(mode, environment), environment, "limit", mode, remark=MODES[mode])
              for mode, environment in LIMITED]
    libjpeg = make(LIBJPEG, "bench-limit", "limit", "libjpeg", remark="scaled decode to >= the size, then " + PLAIN)
    # the same as ``keep_freed_memory`` does for the others: no page faults for each picture
    found.append(libjpeg._replace(environment=dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"),
                                                            str(1 << 25))))
    return found


def _stoker(make: Any, mode: str, environment: str) -> Contender:
    python = os.path.abspath(os.path.join(".venv", environment, "bin", "python"))
    return make(stoker(mode, environment), "trainer" if os.path.exists(python) else environment, "stoker",
                "%s:%s" % (mode, python), remark=MODES[mode])


def groups(quick: bool) -> List[Group]:
    if quick:       # each contender and each kind of picture once
        some = (TUTORIAL, TFDATA, stoker("fastest"))
        return [Group("64", "photos", 64, 1, 0.4, all_contenders("photos", 64, 4))] + [
            Group(name, pictures, 224, 1, 0.4, [each for each in few(pictures, 224) if each.name in some])
            for name, pictures in (("224", "photos"), ("large", "large"), ("png", "png"))]
    return [Group("64", "photos", 64, 5, 1.5, all_contenders("photos", 64, 4)),
            Group("224", "photos", 224, 5, 1.5, all_contenders("photos", 224, 1)),
            Group("large", "large", 224, 3, 1.5, few("large", 224)), Group("png", "png", 224, 3, 1.0, few("png", 224))]


# --------------------------------------------------------------------------------------------------------------- goals

def goals_of(group: Group, rates: Dict[str, float]) -> List[Goal]:
    """The claims on the group's median rates. A failed one counts as not reached; one that was not tried is left
    out."""
    if group.name not in ("64", "224"):
        return []
    names = [each.name for each in group.contenders]
    tutorial, tensorpack, tfdata, tfdata_simd, share = {"64": (9.0, 4.5, 1.25, 1.35, 0.90),
                                                        "224": (4.3, 2.0, 1.25, 2.2, 0.95)}[group.name]
    ours, simd = stoker("fastest"), stoker("fastest", "workers-simd")
    sampled = _best(rates, [stoker("sampled", environment) for environment in PYTHONS])
    tensorpack_best = _best(rates, TENSORPACK)
    peer_best = _best(rates, [name for name in names if not name.startswith(("Stoker", "limit:"))])
    wanted = [(ours, TUTORIAL, tutorial), (ours, tensorpack_best, tensorpack), (ours, TFDATA, tfdata),
              (simd, TFDATA, tfdata_simd)]
    wanted += [(simd, TFDATA_2, 1.0)] * (group.name == "64")
    wanted += [(sampled, peer_best, 1.0)]
    wanted += [(stoker(*each), limit(*each), share) for each in LIMITED]
    wanted += [(simd, LIBJPEG, 0.7)]
    return [Goal("%s over %s" % (one, other), rates.get(one, 0.0) / rates[other] if rates.get(other) else 0.0, least)
            for one, other, least in wanted if one in names and other in names]


def _best(rates: Dict[str, float], names: Sequence[str]) -> str:
    return max(names, key=lambda name: rates.get(name, 0.0))


# --------------------------------------------------------------------------------------------------------------- table

def table_of(group: Group, results: Dict[str, Result], title: str) -> Table:
    rows = []       # type: List[List[Any]]
    first = results[group.contenders[0].name].rate
    for each in group.contenders:
        result = results[each.name]
        if result.rate is None:
            rows.append([each.name, None, None, None, None, None, each.remark, result.error])
            continue
        rows.append([each.name, result.rate.median, result.rate.least, result.rate.most,
                     result.rate.median / first.median if first else None,
                     sum(result.cpu) / len(result.cpu), each.remark, ""])
    columns = ["contender", "images/s", "least", "most", "x tutorial", "cores busy", "quality", "failed"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    notes = ["Medians of %d rounds of %g s, with the slowest and the fastest round; cores busy: CPU seconds of all "
             "processes per second." % (group.rounds, group.seconds)]
    if any(name.startswith("limit") for name in results):
        notes.append("Limits have no pipeline: a process per core decodes its share, and the pictures are dropped.")
    others = statistics.median([share for result in results.values() for share in result.others] or [0.0])
    if others > 0.1:
        notes.append("DISTURBED: other work kept %.2f cores busy meanwhile, so these figures are not valid." % others)
    rates = {name: result.rate.median for name, result in results.items() if result.rate is not None}
    return Table("end-to-end-" + group.name, title, columns, rows,
                 notes, goals_of(group, rates), "bars", "images/s", ("least", "most"))


def run(quick: bool, say: Say) -> List[Table]:
    facts = pictures_made(say)
    tables = []
    for group in groups(quick):
        say("%s at %d pixels" % (facts[group.pictures], group.size))
        results = alternate(group.contenders, group.rounds, group.seconds, say)
        tables.append(table_of(group, results, "End to end at %dx%d: %s" % (group.size, group.size,
                                                                             facts[group.pictures])))
    return tables


def pictures_made(say: Say) -> Dict[str, str]:
    """Makes the pictures if they are missing. Returns the description of each set."""
    python = os.path.join(".venv", "bench-pictures", "bin", "python")
    say("making the pictures in %s where they are missing" % FOLDER)
    subprocess.run([python, "-m", "benchmarks.pictures"], check=True)
    from benchmarks.pictures import facts
    return facts(FOLDER)


if __name__ == "__main__":
    main(run, __doc__)
