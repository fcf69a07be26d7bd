"""Many small batches: how many a second, and what each costs on both sides, where nothing but Stoker takes time.

Two real workers on this host, whose batch is ready, into a consumer that does nothing; and the generator ``numerical``,
which computes its records.
"""

from typing import Any, Dict, List

from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.sources.generated import generated
from stoker.pipeline.stream import BatchStream
from benchmarks.table import Goal, Say, Table, main, spread
from benchmarks.wire import Measured, paced, programs, quiet

WORKERS = 2
#: Each kind of batch: its generator, its samples, and the side of its pictures.
KINDS = {
    "1 KB, ready": ("image", 16, 4), "16 KB, ready": ("image", 32, 13), "64 KB, ready": ("image", 32, 26),
    "1 KB, numerical": ("numerical", 24, 1),
}
LEAST_S = 3000.0             # batches of 1 KB that are ready


def measured(kind: str, seconds: float) -> Measured:
    """One round."""
    generator, batch_size, side = KINDS[kind]
    samples = generated(1000 * batch_size)
    stream = BatchStream(Plan(len(samples), batch_size, 1000000, 0), Splits(samples),
                         JobOptions(generator, (side, side), batch_size), StreamOptions())
    with stream, programs(WORKERS, ["worker", stream.address]) as pids:
        return paced(lambda: next(stream), pids, seconds)


def run(quick: bool, say: Say) -> List[Table]:
    quiet()
    rounds, seconds = (1, 0.4) if quick else (7, 1.5)
    found: Dict[str, List[Measured]] = {kind: [] for kind in KINDS}
    for number in range(rounds):
        say("small batches, round %d of %d" % (number + 1, rounds))
        for kind, results in found.items():
            results.append(measured(kind, seconds))
    return [table_of(found)]


def table_of(found: Dict[str, List[Measured]]) -> Table:
    rows: List[List[Any]] = []
    for kind, results in found.items():
        rates, trainer, workers = [spread(values) for values in zip(*results)]
        rows.append([kind, rates.median, rates.least, rates.most, trainer.median * 1e6, workers.median * 1e6])
    return Table("small", "Many small batches: two workers on this host, a consumer that does nothing", [
        "batch", "batches/s", "least", "most", "trainer CPU us/batch", "workers CPU us/batch"], rows,
        notes=["Ready: the workers' batch lies in its slot already; what is measured is Stoker itself. Numerical "
               "computes 24 records for each batch."],
        goals=[Goal("batches a second of 1 KB that are ready", rows[0][1], LEAST_S)],
        plot="bars", value_column="batches/s", spread_columns=("least", "most"))


if __name__ == "__main__":
    main(run, __doc__)
