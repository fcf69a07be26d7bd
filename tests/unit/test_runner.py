"""answer_leases: whatever a generator does, every lease is answered once, and no wait is endless."""

import copy
import os
import queue
import sys
import threading
import time
from collections import namedtuple
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from stoker.pipeline import functions
from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.errors import ConfigError, UnfitWorker
from stoker.pipeline.options import WorkerOptions
from stoker.pipeline.protocol.codec import decode_from_worker, encode
from stoker.pipeline.protocol.messages import NO_SLOT, Failed, Hello, Job, Lease, Produced, Ready, Refused, Sample
from stoker.pipeline.protocol.messages import Skipped, Stop, Timings, Unfit, Welcome
from stoker.workers.generators.calls import Calls
from stoker.workers.generators.output import Output, batch_of
from stoker.workers.generators.pictures import CachedJob, with_cache
from stoker.workers.generators.registry import Producer, open_producer
from stoker.workers.generators.rows import FunctionError
from stoker.workers.generators.sample import call_for_samples
from stoker.workers.socket_thread import MAX_REST_S, SocketThread
from stoker.workers.quarantine import Quarantined
from stoker.workers.conversations import Conversations
from stoker.workers.effects import EXIT_DRAINED, EXIT_ENDED, Check, Work
from stoker.workers.runner import Checked, Finished, answer_leases
from stoker.workers.stopwatch import timed
from tests.support.processes import wait_for

JOB = Job("mine:make", (ArraySpec("numbers", "int32", (1,)),), 1, 0, "fast", "")
OTHER_JOB = replace(JOB, seed=1)
NOT_SHARING = Ready("run1", "", "it has --no-shared-memory")


def output(lease):
    return Output((np.array([[sample.index] for sample in lease.samples], np.int32),))


def good(leases, job):
    for lease in leases:
        yield output(lease)


def fails_at_every_second(leases, job):
    for number, lease in enumerate(leases):
        if number % 2:
            raise ValueError("odd")
        yield output(lease)


def one_shot(leases, job):
    yield output(next(leases))


def ends_before_the_batch(leases, job):
    next(leases)
    return
    yield


def asks_twice(leases, job):
    for lease in leases:
        next(leases)
        yield output(lease)


def yields_twice(leases, job):
    for lease in leases:
        yield output(lease)
        yield output(lease)


def yields_nonsense(leases, job):
    for _ in leases:
        yield "batch"


def breaks_when_the_leases_end(leases, job):
    for lease in leases:
        yield output(lease)
    raise ValueError("at the end")


def yields_more_when_the_leases_end(leases, job):
    for lease in leases:
        last = lease
        yield output(lease)
    yield output(last)


def no_trial(job, lease):
    raise AssertionError("nothing died of this lease")


def play(generator, jobs, isolate=no_trial, isolated=False, seen=lambda done: None):
    """(position, error or None) of every answer, for one lease a job."""
    items, answers = queue.Queue(), []
    for position, job in enumerate(jobs):
        items.put(Work(job, Lease(position + 1, position, 0, True, (Sample(position, "%d.jpg" % position, 0),), (),
                                  isolated)))
    items.put(None)

    def make(job):
        return Producer(generator, job)

    def finish(done):
        seen(done)
        if done.output is not None and not done.output.skipped:
            assert done.output.arrays[0].tolist() == [[done.lease.position]]
        answers.append((done.lease.position, done.error or None))
        assert len(answers) <= len(jobs), "a lease was answered twice"

    items_get = items.get
    items.get = lambda: items_get(timeout=5)     # instead of waiting for ever
    answer_leases(items.get, finish, make, isolate)
    return answers


@pytest.mark.parametrize("generator", [
    good, fails_at_every_second, one_shot, ends_before_the_batch, asks_twice, yields_twice, yields_nonsense,
    breaks_when_the_leases_end, yields_more_when_the_leases_end], ids=lambda generator: generator.__name__)
@pytest.mark.parametrize("jobs", [[JOB], [JOB] * 5, [JOB, OTHER_JOB], [JOB, JOB, OTHER_JOB, OTHER_JOB, JOB]],
                         ids=["one", "five", "two jobs", "three jobs"])
def test_every_lease_is_answered_once(generator, jobs):
    assert [position for position, _ in play(generator, jobs)] == list(range(len(jobs)))


def test_a_good_generator_fails_nothing():
    assert [error for _, error in play(good, [JOB, JOB, OTHER_JOB, JOB])] == [None] * 4


def test_a_failure_is_that_of_its_lease_and_the_generator_begins_anew():
    odd = "generator 'mine:make': ValueError: odd (test_runner.py, line %d)" % (
        fails_at_every_second.__code__.co_firstlineno + 3)
    assert play(fails_at_every_second, [JOB] * 4) == [(0, None), (1, odd), (2, None), (3, odd)]


def has_no_memory(leases, job):
    for _ in leases:
        raise MemoryError
    yield


def test_a_batch_tells_where_its_time_went(monkeypatch):
    clock, seen = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def take(seconds):
        clock[0] += seconds
    read, decode = timed("storage")(take), timed("decode")(take)

    def works(leases, job):
        for number, lease in enumerate(leases):
            read(2.0)
            decode(0.5)
            read(1.0)
            take(8.0)                  # the generator's own
            if number == 1:
                raise ValueError("that time counts for no batch")
            yield output(lease)
    play(works, [JOB] * 4, seen=seen.append)
    assert [done.timings for done in seen if done.output] == [Timings(3.0, 0.5)] * 2


def test_an_exception_without_words_is_told_by_its_name():
    (_, text), = play(has_no_memory, [JOB])
    assert text.startswith("generator 'mine:make': MemoryError (test_runner.py, line ")


def exits(leases, job):
    raise SystemExit("no data")
    yield


def test_an_exit_is_an_error_of_the_generator_and_not_the_end_of_the_worker():
    for _, text in play(exits, [JOB] * 2):
        assert text.startswith("generator 'mine:make': it called sys.exit('no data'): let it raise an error (test_")


def test_a_traceback_begins_with_the_users_first_frame_and_the_sentence_names_the_place_once():
    @functions.sample({"numbers": ("int32", (1,))})
    def mine(sample, random):
        return {}[sample.index]

    def raises_at_its_sample(leases, job):
        for lease in leases:
            yield batch_of(lease, job, lambda sample: {}[sample.index])
    for generator, name in ((partial(call_for_samples, mine), "function"), (raises_at_its_sample, "generator")):
        items, answers = queue.Queue(), []
        items.put(Work(JOB, Lease(1, 0, 0, True, (Sample(16, "", -1), Sample(17, "", -1)))))
        items.put(None)
        answer_leases(items.get, answers.append, partial(Producer, generator), no_trial)
        answer, = answers
        assert answer.error.startswith("%s 'mine:make', sample 16: KeyError: 16 (test_runner.py, line " % name)
        trace = answer.traceback.splitlines()
        assert trace[0] == "Traceback (most recent call last):" and "test_runner.py" in trace[1]
        assert trace[-1] == "KeyError: 16" and "FunctionError" not in answer.traceback and not answer.sample


@pytest.mark.parametrize("generator, sentence", [
    (one_shot, "ended without a batch for its lease"), (ends_before_the_batch, "ended without a batch for its lease"),
    (asks_twice, "asked for another lease before it yielded the batch of the first"),
    (yields_twice, "yielded more than one batch for a lease, and a generator over leases yields one for each; call an "
                   "old generator, which yields batches of its own, in a function that stoker.batch declares")],
    ids=lambda value: getattr(value, "__name__", ""))
def test_a_generator_that_breaks_the_rules_is_told_so(generator, sentence):
    errors = [error for _, error in play(generator, [JOB] * 2) if error]
    assert errors and all(sentence in error for error in errors)


def test_what_fails_at_the_end_of_a_job_is_not_put_down_to_the_next():
    for generator in (breaks_when_the_leases_end, yields_more_when_the_leases_end):
        assert play(generator, [JOB, OTHER_JOB, JOB]) == [(0, None), (1, None), (2, None)]


def test_a_generator_runs_to_its_end_with_its_job_and_is_closed_at_once_after_a_failure():
    said = []

    def tells(leases, job):
        try:
            for number, lease in enumerate(leases):
                said.append(job.seed)
                yield output(lease) if (job.seed, number) != (1, 1) else "no batch"
            said.append("over")
        finally:
            said.append("closed")

    errors = [error for _, error in play(tells, [JOB, OTHER_JOB, OTHER_JOB, OTHER_JOB],
                                         seen=lambda done: said.append("answered"))]
    assert [bool(error) for error in errors] == [False, False, True, False]
    assert said == [0, "answered", "over", "closed", 1, "answered", 1, "closed", "answered",
                    1, "answered", "over", "closed"]


def test_a_failure_names_the_sample_that_was_taken_up_last():
    def raises_at_its_sample(leases, job):
        for lease in leases:
            for _ in lease.samples:
                raise error
        yield

    error, seen = ValueError("no"), []
    play(raises_at_its_sample, [JOB] * 2, seen=seen.append)
    assert ["sample '%d.jpg': ValueError: no (" % n in done.error for n, done in enumerate(seen)] == [True, True]
    error, seen = ConfigError("no"), []
    play(raises_at_its_sample, [JOB] * 2, seen=seen.append)
    assert [done.sample for done in seen] == ["0.jpg", "1.jpg"]


def test_a_failure_names_a_sample_without_a_path_by_its_number():
    @functions.sample({"numbers": ("int32", (1,))})
    def mine(sample, random):
        return [1] if sample.index == 16 else ["seventeen"]
    items, answers = queue.Queue(), []
    items.put(Work(JOB, Lease(1, 0, 0, True, (Sample(16, "", -1), Sample(17, "", -1), Sample(18, "", -1)))))
    items.put(None)
    answer_leases(items.get, answers.append, lambda job: Producer(partial(call_for_samples, mine), job), no_trial)
    answer, = answers
    assert not answer.sample and not answer.traceback, "the sentence says all"
    assert answer.error.startswith("function 'mine:make', sample 17: array 'numbers' has the text 'sevente")


@pytest.mark.parametrize("extra", [dict(rows=(2, 1)), dict(missing=1), {}])
def test_an_answer_has_the_rows_and_the_number_of_missing_samples(extra):
    def own(leases, job):
        for _ in leases:
            yield Output((np.zeros((3, 1), np.int32),), **extra)
    items, answers = queue.Queue(), []
    samples = tuple(Sample(index, "", -1) for index in range(len(extra.get("rows", "...")) + extra.get("missing", 0)))
    items.put(Work(replace(JOB, rows=2, may_skip=True), Lease(1, 0, 0, True, samples)))
    items.put(None)
    answer_leases(items.get, answers.append, lambda job: Producer(own, job), no_trial)
    answer, = answers
    assert answer.error == "" and answer.output._replace(arrays=()) == Output((), **extra)


@pytest.mark.parametrize("fresh", [False, True])
def test_arrays_that_stoker_made_itself_are_not_copied(fresh):
    made = []

    @functions.sample({"numbers": ("int32", (1,))})
    def mine(sample, random):
        return [1]

    def make(job):
        producer = Producer(partial(call_for_samples, mine) if fresh else good, job)
        produce = producer.produce
        producer.produce = lambda lease: made.append(produce(lease)) or made[-1]
        return producer
    items, answers = queue.Queue(), []
    items.put(Work(JOB, lease(1)))
    items.put(None)
    answer_leases(items.get, answers.append, make, no_trial)
    assert (answers[0].output.arrays[0] is made[0].arrays[0]) is fresh


def test_what_a_trial_finds_is_left_out_and_told():
    def trial(job, lease):
        assert lease.isolated
        if lease.position == 1:
            return Quarantined(replace(lease, samples=()), (Skipped(1, "kills"),))
        return Quarantined(lease, ())

    def as_many_as_there_are(leases, job):
        for lease in leases:
            yield Output((np.array([[sample.index] for sample in lease.samples], np.int32).reshape(-1, 1),))

    answers = []
    assert play(as_many_as_there_are, [JOB] * 3, trial, True, answers.append) == [(0, None), (1, None), (2, None)]
    assert [done.output.skipped for done in answers] == [(), (Skipped(1, "kills"),), ()]


def test_a_trial_that_fails_fails_its_lease():
    def trial(job, lease):
        raise RuntimeError("cannot be started")

    texts = [text for _, text in play(good, [JOB] * 2, trial, True)]
    assert len(texts) == 2 and all(text.startswith("RuntimeError: cannot be started (") for text in texts)


# --------------------------------------------------------------------------------- whether the worker can do the job

def answers_to(make, *items):
    waiting, answers = queue.Queue(), []
    for item in items + (None,):
        waiting.put(item)
    answer_leases(waiting.get, answers.append, make, no_trial)
    return answers


def test_a_check_opens_the_generator_that_the_leases_then_use():
    made = []

    def make(job):
        made.append(job)
        return Producer(good, job)
    first, second, third = answers_to(make, Check(JOB, "run1"), Work(JOB, lease(1)), Check(JOB, "run2"))
    assert (first, third) == (Checked("run1", ""), Checked("run2", "")) and second.output is not None
    assert made == [JOB]


def test_what_is_wrong_with_the_worker_is_told_and_tried_anew():
    errors = [ConfigError("no folder"), MemoryError("none left"), None]

    def make(job):
        error = errors.pop(0)
        if error is not None:
            raise error
        return Producer(good, job)
    found = answers_to(make, Check(JOB, "run1"), Check(JOB, "run1"), Check(JOB, "run1"))
    assert [one.reason.partition(" (")[0] for one in found] == ["no folder", "MemoryError: none left", ""]


def test_a_lease_of_a_worker_that_cannot_do_the_job_any_more_is_no_failure():
    def gone(leases, job):
        yield from map(raises(UnfitWorker("the folder is gone")), leases)

    def gone_in_a_function(leases, job):
        for _ in leases:
            try:
                raise UnfitWorker("the folder is gone")
            except UnfitWorker as error:
                raise FunctionError("function 'f', sample 1: the folder is gone") from error
            yield

    def no_setup(leases, job):
        Calls("f", job, lambda job: {}["x"])
        yield from good(leases, job)

    def fails(leases, job):
        yield from map(raises(ValueError("no")), leases)

    def raises(error):
        def function(lease):
            raise error
        return function
    found = [answers_to(partial(Producer, generator), Work(JOB, lease(1)))[0]
             for generator in (gone, gone_in_a_function, no_setup, fails)]
    assert [done.is_unfit for done in found] == [True, True, True, False]
    assert "its setup <lambda>: KeyError" in found[2].error and "KeyError" in found[2].traceback
    unfit, = answers_to(lambda job: 1 / 0, Work(JOB, lease(1)))
    assert unfit.is_unfit and unfit.error.startswith("ZeroDivisionError")


@pytest.mark.parametrize("module, shown", [
    ("1 / 0\n", True), ("import no_such_package\n", False), ("raise SystemExit(3)\n", True), ("x = 1\n", False)])
def test_the_traceback_of_a_module_is_told_if_its_sentence_does_not_say_all(tmp_path, monkeypatch, module, shown):
    (tmp_path / "importing.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "importing", raising=False)
    options = WorkerOptions("tcp://127.0.0.1:5555", allow_generators=("importing:f",))
    found, = answers_to(lambda job: open_producer(job, options), Check(replace(JOB, generator="importing:f"), "run1"))
    assert "importing:f" in found.reason
    assert ("importing.py\", line 1" in found.traceback) == shown, found
    assert "stoker" not in found.traceback


# ----------------------------------------------------------------------------- what the generator's thread sends itself

class Ends:
    """Connection and waker: what was sent, what waits to be received, and how often the other thread was woken."""

    def __init__(self):
        self.lock, self.sent, self.waiting, self.wakes = threading.RLock(), [], [], 0

    def send(self, frames):
        self.sent.append(decode_from_worker(frames))
        return True

    def receive(self):
        return encode(self.waiting.pop(0)) if self.waiting else None

    def wake(self):
        self.wakes += 1

    def __len__(self):
        return 1

    def __iter__(self):
        return iter([self])

    def has_input(self):
        return bool(self.waiting)

    def descriptors(self):
        return []

    def poll(self, now):
        return ""

    refusal = trouble = lambda self: ""

    def has_reconnected(self):
        return False

    def __getitem__(self, number):
        return self

    def leave(self):
        pass


def lease(number):
    return Lease(number, number, 0, True, (Sample(number, "%d" % number, 0),))


Memory = namedtuple("Memory", "slot")


def socket_thread(once=False):
    """Not started; two leases came, the first of which is in work."""
    ends, items = Ends(), queue.Queue()
    session = Conversations(Hello("host/0", 1, "python 3.13.0", 2, ""), ["tcp://127.0.0.1:1"], once, time.monotonic())
    options = WorkerOptions("tcp://127.0.0.1:1", shared_memory=False)
    thread = SocketThread(ends, ends, session, options, items, os.getppid(), lambda: None, lambda *texts: None)
    ends.waiting = [Welcome("run1", JOB, 0.5)]
    thread._receive(time.monotonic(), [0])
    assert items.get_nowait() == Check(JOB, "run1")
    ends.waiting = [lease(1), lease(2)]
    thread.finish(Checked("run1", ""))
    assert ends.sent == [NOT_SHARING]
    return thread, ends, items


def test_a_second_folder_of_data_is_refused_while_another_trainer_is_served_and_starts_a_new_process_later():
    """A worker in its sandbox reads the folder of one job."""
    class OneFolder:
        def outdated(self, data_root=""):
            return "its sandbox is for the data in /data" if data_root == "/other" else ""

    ends, items, other = Ends(), queue.Queue(), replace(JOB, data_root="/other")
    addresses = "tcp://127.0.0.1:1-2"
    options = WorkerOptions(addresses)
    session = Conversations(Hello("host/0", 1, "python 3.13.0", 2, ""), options.addresses, False, time.monotonic())
    thread = SocketThread(ends, ends, session, options, items, 0, lambda: None, lambda *texts: None,
                           sandbox=OneFolder())
    ends.waiting = [Welcome("run0", JOB, 0.5)]
    thread._receive(time.monotonic(), [0])
    thread.finish(Checked("run0", "", trainer=items.get_nowait().trainer))
    ends.waiting = [Welcome("run1", other, 0.5)]
    thread._receive(time.monotonic(), [1])
    said = ends.sent[-1]
    assert isinstance(said, Unfit) and "/data, which another trainer" in said.reason and "--allow-data" in said.reason
    assert items.empty() and thread.code is None
    ends.waiting = [Stop("done")]
    thread._receive(time.monotonic(), [0])
    ends.waiting = [Welcome("run2", other, 0.5)]
    thread._receive(time.monotonic(), [1])
    assert thread.code == EXIT_DRAINED                 # the supervisor starts another one


def finished(one):
    return Finished(one, output(one), "", "", "", 0.1)


def test_a_batch_is_sent_and_the_next_lease_taken_without_the_other_thread():
    thread, ends, items = socket_thread()
    assert items.get_nowait()[1] == lease(1) and items.empty()
    ends.waiting = [lease(3)]
    thread.finish(finished(lease(1)))
    assert isinstance(ends.sent[-1], Produced) and ends.sent[-1].lease == 1
    assert items.get_nowait()[1] == lease(2) and not ends.waiting and not ends.wakes
    thread.finish(Finished(lease(2), None, "ValueError: bad", "", "", 0.0))
    assert isinstance(ends.sent[-1], Failed) and items.get_nowait()[1] == lease(3)


def test_what_lies_in_a_slot_is_told_and_travels_only_if_the_trainer_has_that_memory_no_more():
    thread, ends, items = socket_thread()
    shared = []
    thread._memory.of = lambda trainer, job, one: "memory of %d" % one.lease
    thread._memory.has = shared.__contains__
    memory = Memory(slot=5)
    thread.finish(finished(lease(1))._replace(memory=memory))
    assert ends.sent[-1].slot == NO_SLOT and len(ends.sent[-1].arrays) == 1
    assert [items.get_nowait().memory for _ in range(2)] == [None, "memory of 2"]     # lease 1 came before
    shared.append(memory)
    thread.finish(finished(lease(2))._replace(memory=memory))
    assert (ends.sent[-1].lease, ends.sent[-1].slot, ends.sent[-1].arrays, ends.sent[-1].count) == (2, 5, (), 1)


def test_the_socket_s_thread_rests_while_the_main_thread_works_or_reads():
    thread, ends, items = socket_thread()
    now = time.monotonic()
    assert 0 < thread._rest_s(now) <= MAX_REST_S
    assert thread._rest_s(now + 0.49) <= 0.011                  # it must say that it is alive
    thread._main_reads = True
    assert MAX_REST_S < thread._rest_s(now) <= 0.5
    thread._main_reads = False
    thread.finish(finished(lease(1)))
    thread.finish(finished(lease(2)))
    assert thread._rest_s(now) == 0 and not thread._rests       # it waits at the socket
    thread, ends, items = socket_thread()
    thread._wanted = 4                                          # threads of ``fetching`` want to know of each lease
    assert thread._rest_s(now) == 0


def test_the_socket_s_thread_is_woken_when_the_main_thread_reads_no_more():
    """Else it would see Stop, and say what is to be said, only after its long rest."""
    thread, ends, items = socket_thread()
    thread._main_reads = True
    assert thread._rest_s(time.monotonic()) > MAX_REST_S
    assert thread.next_item().lease == lease(1) and ends.wakes == 1
    thread._rest_s(time.monotonic())
    thread.finish(finished(lease(1)))
    assert thread.next_item().lease == lease(2) and ends.wakes == 1       # it rests for a moment only


def test_the_main_thread_reads_the_next_lease_itself():
    thread, ends, items = socket_thread()
    thread._rest_s(time.monotonic())
    for number in (1, 2, 3, 4):
        assert thread.next_item().lease == lease(number) and not thread._main_reads
        if number == 2:
            assert items.empty()
            ends.waiting = [lease(3)]
        if number == 3:
            threading.Timer(0.05, lambda: (ends.waiting.append(lease(4)), thread._main_wait.wake())).start()
        thread.finish(finished(lease(number)))
    assert not ends.wakes


def test_a_main_thread_that_reads_ends_with_the_socket_s_thread():
    thread, ends, items = socket_thread()
    thread._rest_s(time.monotonic())
    for _ in range(2):
        thread.finish(finished(thread.next_item().lease))

    def end():
        wait_for(lambda: thread._main_reads, "the main thread to read")
        with ends.lock:
            thread.code = EXIT_DRAINED
            items.put(None)
            thread._main_wait.wake()
    ending = threading.Thread(target=end)
    ending.start()
    assert thread.next_item() is None and ends.wakes
    ending.join()


def test_a_socket_that_was_closed_as_the_main_thread_began_to_read_is_no_failure(capsys):
    thread, ends, items = socket_thread()
    thread._rest_s(time.monotonic())
    for _ in range(2):
        thread.finish(finished(thread.next_item().lease))

    def ended():                             # the other thread read Stop, and closed the socket, just before this
        thread.code = EXIT_DRAINED
        items.put(None)
        raise OSError("not a socket")
    ends.has_input = ended
    assert thread.next_item() is None and thread.code == EXIT_DRAINED and ends.wakes
    assert not capsys.readouterr().err


def test_a_bug_while_the_main_thread_reads_ends_the_process(capsys):
    thread, ends, items = socket_thread()
    thread._rest_s(time.monotonic())
    for _ in range(2):
        thread.finish(finished(thread.next_item().lease))
    thread._run_once = lambda: 1 / 0
    ends.waiting = [lease(3)]
    woken = threading.Thread(target=lambda: (wait_for(lambda: ends.wakes, "the end"), items.put(None)))
    woken.start()                                               # the socket's thread, which is woken
    assert thread.next_item() is None and thread.code == 1 and ends.wakes
    woken.join()
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_that_one_of_several_trainers_refuses_for_good_is_an_error_for_the_user():
    addresses, noted = ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2"), []
    ends = Ends()
    session = Conversations(Hello("host/0", 1, "python 3.13.0", 2, ""), addresses, False, time.monotonic())
    thread = SocketThread(ends, ends, session, WorkerOptions(addresses), queue.Queue(), 0, lambda: None,
                           lambda *note: noted.append(note))
    ends.waiting = [Refused("another release", True)]
    thread._receive(time.monotonic(), [1])
    assert noted == [("tcp://127.0.0.1:2: the trainer refuses this worker: another release", True)]
    assert thread.code is None


def test_a_run_that_ends_meanwhile_is_left_at_once():
    thread, ends, items = socket_thread()
    ends.waiting = [Stop("done")]
    thread.finish(finished(lease(1)))
    assert ends.wakes and thread.code is None      # to say Hello to the next trainer
    thread, ends, items = socket_thread(once=True)
    ends.waiting = [Stop("done")]
    thread.finish(finished(lease(1)))
    assert ends.wakes and thread.code == EXIT_ENDED
    sent = len(ends.sent)
    thread.finish(finished(lease(2)))              # the socket may be closed by now
    assert len(ends.sent) == sent


def test_a_bug_in_sending_is_not_the_generator_s(capsys):
    thread, ends, items = socket_thread()
    ends.send = lambda frames: 1 / 0
    thread.finish(finished(lease(1)))
    assert thread.code == 1 and ends.wakes and "ZeroDivisionError" in capsys.readouterr().err
    del ends.send
    thread.finish(finished(lease(1)))              # the socket may be closed by now
    assert ends.sent == [NOT_SHARING]


def test_a_message_that_cannot_be_read_is_told_to_the_trainer():
    thread, ends, _ = socket_thread()
    ends.receive = iter([[b"\x93\x05"], None]).__next__
    thread._receive(time.monotonic(), [0])
    assert isinstance(ends.sent[-1], Unfit) and "not valid msgpack" in ends.sent[-1].reason


@pytest.mark.parametrize("cache", [None, object()])
def test_a_generator_is_started_once_for_a_job_also_with_a_cache(cache):
    """Its code before and after the loop over the leases runs once."""
    jobs, items, answers = [], queue.Queue(), []

    def counted(leases, job):
        jobs.append(job)
        yield from good(leases, job)

    for position in range(5):
        items.put(Work(JOB, Lease(position + 1, position, 0, True, (Sample(position, "%d.jpg" % position, 0),))))
    items.put(None)
    answer_leases(items.get, answers.append, lambda job: Producer(counted, job, cache), no_trial)
    assert [answer.error for answer in answers] == [""] * 5
    assert [type(job) for job in jobs] == [Job if cache is None else CachedJob]


def test_a_copy_of_the_job_that_a_generator_gets_is_without_the_cache():
    """It may be sent to a process of the generator's own, or copied."""
    assert type(copy.deepcopy(with_cache(JOB, threading.Lock()))) is Job
    assert copy.deepcopy(with_cache(JOB, threading.Lock())) == JOB


def test_jobs_of_several_trainers_keep_their_generators():
    """As many as there are trainers; the limits of a job are applied again before its generator goes on."""
    made, ended, resumed, items, answers = [], [], [], queue.Queue(), []

    def counted(leases, job):
        made.append(job.seed)
        yield from good(leases, job)
        ended.append(job.seed)

    jobs = [replace(JOB, seed=seed) for seed in range(3)]
    position = 0
    for seed in (0, 1, 0, 1, 1, 2, 1, 0):
        position += 1
        items.put(Check(jobs[seed], "run", seed))
        items.put(Work(jobs[seed], Lease(position, position, 0, True, (Sample(1, "1.jpg", 0),))))
    items.put(None)
    answer_leases(items.get, answers.append, lambda job: Producer(counted, job), no_trial,
                  lambda job: resumed.append(job.seed), 2)
    assert [answer.trainer for answer in answers[::2]] == [0, 1, 0, 1, 1, 2, 1, 0]
    assert [answer.error for answer in answers[1::2]] == [""] * 8
    assert made == [0, 1, 2, 0] and resumed == [0, 1, 1]
    assert ended[:2] == [0, 2] and sorted(ended[2:]) == [0, 1]
