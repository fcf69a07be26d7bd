"""Runs a sample function, which ``stoker.sample`` declares: one call for each sample of a lease."""

from __future__ import generator_stop

from typing import Any, Iterable, Iterator, Optional

from stoker.pipeline.functions import SampleFunction, Skip
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.pipeline.storage.folder import BadFile, check_root
from stoker.workers.batch_memory import memory_of
from stoker.workers.generators.bad_files import cause_of
from stoker.workers.generators.calls import Calls, seeded
from stoker.workers.generators.output import Output, filled, judged, places_of
from stoker.workers.generators.pictures import readers_of
from stoker.workers.generators.rows import BatchRows, FunctionError, Misfit, described, in_order, text_fields
from stoker.workers.generators.user_sample import UserSample, name_of

NO_ROWS = "no rows"      # why a sample is left out of whose function returned an empty list


def call_for_samples(function: SampleFunction, leases: Iterable[Lease], job: Job) -> Iterator[Output]:
    """The batches that ``function`` makes sample by sample. A sample for which it raises Skip or BadFile is left out or
    replaced. Raises FunctionError if it breaks the rules or raises anything else."""
    check_root(job.data_root, job.probes)
    run = _Run(function, job)
    for lease in leases:
        yield run.output(lease)


class _Run:
    """The function in one job."""

    def __init__(self, function: SampleFunction, job: Job) -> None:
        self._function, self._job = function.__wrapped__, job      # type: ignore[attr-defined]
        self._readers, self._calls = readers_of(job), Calls(job.generator, job, function.setup)
        self._several = function.rows > 1

    def output(self, lease: Lease) -> Output:
        own = tuple(lease.samples)
        rows = BatchRows(self._job.arrays, len(own), self._several, memory_of(lease))
        counts = [1] * len(own)
        # all at once takes a third of the time that it takes between the calls, when other code is in the CPU's cache
        numbers = [self._calls.number(lease.epoch, sample) for sample in own]

        def put(place: int, sample: Sample) -> None:
            number = numbers[place] if sample is own[place] else self._calls.number(lease.epoch, sample)
            returned = self._call(sample, lease, number)
            rows.clear(place)            # of a sample that was in this place, and turned out to be bad in another one
            try:
                if self._several:
                    counts[place] = self._put_several(rows, place, returned)
                else:
                    rows.put(place, in_order(returned, self._job.arrays))
            except Misfit as error:
                raise FunctionError("function %r, %s: %s%s" % (
                    self._job.generator, name_of(sample), error, text_fields(error, (sample,), self._job))) from None
        content, skipped = filled(lease, judged(put))
        places = places_of(content)
        if not self._several:
            return Output(rows.finished(places), skipped)
        return Output(rows.finished(places), skipped,
                      tuple(counts if places is None else [counts[place] for place in places]))

    def _call(self, sample: Sample, lease: Lease, number: int) -> Any:
        given = UserSample(sample, lease.epoch, lease.training, self._calls.shared, self._job, self._readers)
        try:
            returned = self._function(given, seeded(number))
        except (BadFile, Skip):
            raise
        except BaseException as error:         # also SystemExit: it is the function's, and must not end the worker
            bad: Optional[BadFile] = cause_of(error, sample, self._job)
            raise bad or self._calls.error(error, name_of(sample), (sample,)) from error
        self._calls.check_threads()
        return returned

    def _put_several(self, rows: BatchRows, place: int, returned: Any) -> int:
        if not isinstance(returned, list):
            raise Misfit("it returned %s, must return a list of at most %d dicts, for it is declared with rows=%d"
                         % (described(returned), self._job.rows, self._job.rows))
        if len(returned) > self._job.rows:
            raise Misfit("it returned %d rows, declared are at most %d" % (len(returned), self._job.rows))
        if not returned:
            raise Skip(NO_ROWS)
        for row in returned:
            rows.put(place, in_order(row, self._job.arrays))
        return len(returned)
