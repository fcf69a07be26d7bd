"""What the simulation plays with: class numbers of pictures, or own data. Own data are rows, partners, any order, and a
function of the user's that makes arrays whose sides differ, several rows of a sample, or none.

Workers make the arrays by the real code of ``workers/generators``. What must arrive is computed from plan and source.
"""

import random
import zlib
from functools import partial

import numpy as np

from stoker.pipeline.arrays import UpTo, framed
from stoker.pipeline.functions import Skip, batch, sample
from stoker.pipeline.options import JobOptions
from stoker.pipeline.orders import balanced, open_order, weighted
from stoker.pipeline.partners import open_partners
from stoker.pipeline.plan import Plan, sample_random
from stoker.pipeline.sources.dataset import Dataset, Splits
from stoker.pipeline.sources.packing import pack_rows
from stoker.pipeline.sources.table import Numbers, Table
from stoker.pipeline.storage.folder import BadFile
from stoker.workers.generators.batch import call_for_batches
from stoker.workers.generators.output import Output, check
from stoker.workers.generators.registry import Producer
from stoker.workers.generators.sample import call_for_samples

ARRAYS = {"digits": ("uint8", (UpTo(9, pad=255),)), "grid": ("float32", (UpTo(3), 2, UpTo(4))),
          "fact": ("int64", (4,)), "even": "bool"}
ROWS = 3
EMPTY = 0.08           # how likely a sample has no row


class Labels:
    """One epoch of pictures whose array of labels holds their indices."""
    batch_size = 2
    start = 0              # the first position

    def __init__(self, seed, steps):
        size = steps * self.batch_size - 1
        self.job = JobOptions(image_size=(1, 1), batch_size=self.batch_size)
        self.plan = Plan(size, self.batch_size, 1, seed)
        self.splits = Splits(Dataset("/data", ("a",), tuple("%d.jpg" % number for number in range(size)), (0,) * size,
                                     ()))

    def produce(self, job, lease):
        """The Output of a worker."""
        indices = np.array([[each.index] for each in lease.samples], np.int32)
        return Output((np.zeros((len(indices), 1, 1, 3), np.uint8), indices))

    def check_lease(self, lease):
        """Raises AssertionError unless the lease is what the plan says."""
        assert tuple(each.index for each in lease.samples) == self.plan.at(lease.position).indices

    def check_batch(self, effect):
        """Raises AssertionError unless the batch of a Deliver is what the plan says."""
        position, labels = effect.planned.position, tuple(effect.views[1].reshape(-1).tolist())
        assert labels == effect.used_indices == self.plan.at(position).indices


def is_bad(index):
    """Whether the sample's file is."""
    return index % 11 == 5


def made(index, epoch, training, row, partners, draw):
    """The rows of a sample, as dicts. ``partners``: [(index, row)]. ``draw``: returns a random number in [0, 1)."""
    if is_bad(index):
        error = BadFile("damaged")
        error.owner = index            # as a reader of the sample does
        raise error
    if draw() < EMPTY:
        return []
    return [{"digits": [index % 200] * int(10 * draw()),
             "grid": np.full((int(4 * draw()), 2, int(5 * draw())), draw(), np.float32),
             "fact": [index, 2 * epoch + training, number, zlib.crc32(repr([row] + partners).encode("ascii"))],
             "even": draw() < 0.5} for number in range(1 + int(ROWS * draw()))]


def _of(each, draw):
    return made(each.index, each.epoch, each.training, each.row, [(other.index, other.row) for other in each.partners],
                draw)


@sample(ARRAYS, rows=ROWS, setup=lambda job: job.seed)
def several(each, random):
    assert each.shared is not None
    return _of(each, random.random)


@sample(ARRAYS)
def one(each, random):
    rows = _of(each, random.random)
    if not rows:
        raise Skip("it has no row")
    return rows[0]


@batch(ARRAYS, may_skip=True)
def some(samples, random):
    rows = [row for each in samples for row in _of(each, random.random)[:1]]
    return {name: [row[name] for row in rows] for name in ARRAYS}


class Own:
    """A run of own data that is a function of ``seed``: any source, order, partners and function, of one trainer or of
    one of several ranks."""

    def __init__(self, seed):
        chance = random.Random("own %d" % seed)
        self.batch_size, self.seed = 3, seed
        self.kind = chance.choice(("several", "one", "some"))
        function = {"several": several, "one": one, "some": some}[self.kind]
        call = call_for_batches if self.kind == "some" else call_for_samples
        training, size = chance.random() < 0.85, chance.randint(20, 60)
        validation = chance.choice((0, 3, 4, 5)) if training else 0
        on_bad_image = chance.choice(("skip", "replace"))
        ranks = chance.choice((1, 2, 3)) if on_bad_image == "skip" else 1
        if ranks > 1:
            size += (1 - size) % self.batch_size       # the last batch has one sample: most of its parts are empty
        columns = chance.choice(((), ("number", "name", "more")))
        self.splits = Splits(*(self._source(chance, count, columns) for count in (size, max(1, validation))))
        if not training:
            self.splits = Splits(self.splits.training, self.splits.training)
        source = self.splits.training
        order = chance.choice(("shuffled", "sequential", balanced(lambda row: str(row)[-1:]), weighted(
            [chance.random() for _ in range(size)]), lambda epoch, random: [
                random.randrange(size) for _ in range(size + 3)]))
        partners = chance.choice((0, 0, 1, 3, lambda index, random: [(index + 1) % 3] * random.randrange(3)))
        self.plan = Plan(size, self.batch_size, chance.choice((1, 2)) if training else 1, seed, validation,
                         order=open_order(order, source, self.batch_size, seed), drop_last=chance.random() < 0.3,
                         training=training, partners=tuple(open_partners(partners, each) for each in self.splits),
                         rank=chance.randrange(ranks), ranks=ranks)
        self.job = JobOptions("own:f", (1, 1), self.plan.part_size, seed, on_bad_image=on_bad_image,
                              labels=False, declared=function.arrays, rows=getattr(function, "rows", 1),
                              may_skip=self.kind == "some")
        self.start = self.plan.position_of(chance.choice((0, chance.randrange(self.plan.steps))))     # resumed
        self._generator, self._producer = partial(call, function), None

    @staticmethod
    def _source(chance, size, columns):
        if not columns and chance.random() < 0.3:
            return Numbers(size)
        rows = [[number, chance.choice("ab"), [None, 0.5, {"x": "y" * chance.randint(0, 9)}]] for number in range(size)]
        if not columns:
            return Table.of([tuple(row) if chance.random() < 0.5 else {"all": row} for row in rows], "")
        packed, offsets = pack_rows(rows, str)
        return Table.packed(packed, offsets, "", columns, "rows")

    def produce(self, job, lease):
        """The Output of a worker."""
        if self._producer is None:         # one for all workers, which are alike
            self._producer = Producer(self._generator, job)
        assert job == self._producer.job
        return check(self._producer.produce(lease), lease, job, self._producer.makes_fresh)

    def check_lease(self, lease):
        """Raises AssertionError unless the lease is what plan and source say."""
        planned, source = self._planned(lease.position)
        assert (lease.epoch, lease.training) == (planned.epoch, planned.training)
        for got, places in ((lease.samples, _places(planned.indices, planned.repeats)), (
                lease.replacements, _places(planned.replacements, planned.replacement_repeats))):
            assert [(each.index, each.repeat) for each in got] == places
            for each in got:
                assert each.packed == source.samples([each.index])[0].packed
                assert [other.index for other in each.partners] == list(self._partners(planned, each.index,
                                                                                       each.repeat))

    def check_batch(self, effect):
        """Raises AssertionError unless the batch of a Deliver is what plan and source say, to the last byte."""
        planned, source = self._planned(effect.planned.position)
        used, rows, skipped, counts = self._wanted(planned, source)
        message = effect.message
        assert {each.index for each in message.skipped} == skipped and len(message.skipped) == len(skipped)
        assert all(each.chosen != is_bad(each.index) for each in message.skipped) and effect.used_indices == used
        assert message.rows == counts and message.count == len(rows)
        assert message.missing == (len(used) - len(rows) if self.kind == "some" else 0)
        assert message.aligned == (self.kind != "some" or not planned.indices)
        assert (effect.worker == "") == (not planned.indices)
        views = dict(zip([spec.name for spec in framed(self.job.arrays)], effect.views))
        assert len(views) == 6 and all(len(view) == len(rows) for view in views.values())
        for number, row in enumerate(rows):
            for spec in self.job.arrays:
                wanted = np.array(row[spec.name], spec.dtype)
                if spec.upto:
                    sizes = views[spec.name + ".sizes"][number].reshape(-1).tolist()
                    assert sizes == [wanted.shape[axis] for axis in spec.upto]
                    padded = np.full(views[spec.name].shape[1:], spec.pad, spec.dtype)
                    padded[tuple(slice(side) for side in wanted.shape)] = wanted
                    wanted = padded
                assert np.array_equal(views[spec.name][number], wanted), spec.name
        if self.kind != "some":            # the rows that users join by are those of the arrays
            assert [index for index, *_ in views["fact"].tolist()] == list(used)

    def _planned(self, position):
        planned = self.plan.at(position, self.job.on_bad_image == "replace")
        return planned, self.splits.training if planned.training else self.splits.validation

    def _partners(self, planned, index, repeat):
        return self.plan.partners_of(planned.training, planned.epoch, index, repeat)

    def _wanted(self, planned, source):
        """(used indices, rows, skipped indices, rows of each sample)."""
        def of(index, repeat, draw=None):
            partners = self._partners(planned, index, repeat)
            return made(index, planned.epoch, planned.training, source.rows([index])[0],
                        list(zip(partners, source.rows(partners))),
                        draw or sample_random(self.seed, planned.epoch, index, repeat).random)
        several = self.kind != "some"
        own = _places(planned.indices, planned.repeats)
        skipped = {index for index, repeat in own if is_bad(index) or several and not of(index, repeat)}
        content, others = [], iter(_places(planned.replacements, planned.replacement_repeats))
        for place in own:
            if place[0] in skipped:
                for place in others:
                    if not is_bad(place[0]) and not (several and not of(*place)):
                        break
                    skipped.add(place[0])
                else:
                    continue
            content.append(place)
        if not own:
            return (), [], set(), ()
        if not several:
            draw = sample_random(self.seed, planned.epoch, *own[0]).random
            return tuple(index for index, _ in content), [
                row for place in content for row in of(*place, draw)[:1]], skipped, ()
        rows = [of(*place)[:ROWS if self.kind == "several" else 1] for place in content]
        return (tuple(index for (index, _), made_of in zip(content, rows) for _ in made_of),
                [row for made_of in rows for row in made_of], skipped,
                tuple(map(len, rows)) if self.kind == "several" else ())


def _places(indices, repeats):
    return list(zip(indices, repeats or (0,) * len(indices)))
