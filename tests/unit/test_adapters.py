"""The adapters without their frameworks: what each side of a stream hands out and when, and what Keras is given."""

import copy
import os
import pickle
import threading

import numpy as np
import pytest

from benchmarks.made import made_stream
from stoker.pipeline.arrays import UpTo, declared
from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.options import JobOptions
from stoker.pipeline.plan import Plan
from stoker.trainer.keras import keras
from stoker.trainer.sides import Side, check_parts

BATCH_SIZE, EPOCHS = 2, 3
TRAINING, VALIDATION = 6, 4        # an epoch: three training steps and two evaluation batches
ARRAYS = declared({"image": ("uint8", (2, 3)), "boxes": ("float32", (UpTo(4), 4)), "label": "int32"})
#: What a whole run hands out: T and E.
ORDER = "TTTEE" * EPOCHS


def arrays_of(planned):
    """The samples' indices are everywhere in the arrays."""
    rows = np.array(planned.indices)
    image = np.zeros((len(rows), 2, 3), np.uint8) + rows.astype(np.uint8)[:, None, None]
    return image, np.zeros((len(rows), 2, 4), np.float32), rows.astype(np.int32), np.full(len(rows), 2, np.int32)


def opened(start_step=0, validation=VALIDATION, make=arrays_of, training=True, **replaced):
    plan = Plan(TRAINING, BATCH_SIZE, EPOCHS if training else 1, 0, validation, training=training)
    return made_stream(make, JobOptions("my:function", batch_size=BATCH_SIZE, declared=ARRAYS), plan, start_step,
                       **replaced)


def kinds(*batches):
    return "".join("T" if batch.training else "E" for batch in batches)


# ------------------------------------------------------------------------------------------------------- the stream

def test_a_stream_knows_what_is_due_before_it_is_there():
    stream, found = opened(make=lambda planned: None), []
    assert (stream.due, stream.step) == (True, 0)
    stream = opened()
    for batch in stream:
        found.append((batch.training, batch.step))
    assert kinds(*opened()) == ORDER
    stream, known = opened(), []
    while stream.due is not None:
        known.append((stream.due, stream.step))
        next(stream)
    assert known == found
    assert stream.step == stream.plan.steps == 9


def test_two_threads_that_take_at_the_same_time_are_an_error():
    """The second one asks while the first one waits for its batch."""
    errors = []

    def second():
        with pytest.raises(RuntimeError, match="two threads .* workers=0") as caught:
            next(stream)
        errors.append(caught.value)

    def wait(condition, limit_s):
        assert not errors, "the first one's wait does not end"
        thread = threading.Thread(target=second, daemon=True)
        thread.start()
        thread.join(10)
        assert errors, "the second one waits too"
        stream.close()
    stream = opened(make=lambda planned: None, wait=wait)
    with pytest.raises(RuntimeError, match="closed"):        # the first one's wait ends with the stream
        next(stream)
    assert len(errors) == 1


@pytest.mark.parametrize("taken", [0, 3, EPOCHS * 5], ids=["at a training step", "at an evaluation", "at the end"])
def test_a_fork_that_takes_batches_is_an_error_and_one_that_closes_the_stream_changes_nothing(monkeypatch, taken):
    stream = opened()
    sides = Side(stream, True), Side(stream, False), keras(stream, "image", "label")["generator"]
    for _ in range(taken):
        next(stream)
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    for taker in (stream,) + sides:
        with pytest.raises(RuntimeError, match="process %d takes .* process %d opened.* workers=0 and use_multip"
                                               % (process + 1, process)):
            next(taker)
    with stream:
        stream.close()
    monkeypatch.undo()
    assert kinds(*stream) == ORDER[taken:]


@pytest.mark.parametrize("send", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_stream_cannot_be_sent_to_another_process(send):
    with pytest.raises(TypeError, match="a stream cannot be sent to another process.* in the process that opened it"):
        send(opened())


def test_threads_may_take_turns():
    stream, found = opened(), []
    for _ in ORDER:
        thread = threading.Thread(target=lambda: found.append(next(stream)))
        thread.start()
        thread.join()
    assert kinds(*found) == ORDER


# -------------------------------------------------------------------------------------------------------- its sides

def test_each_side_hands_out_its_own_and_together_they_hand_out_all():
    stream = opened()
    sides = {"T": Side(stream, True), "E": Side(stream, False)}
    steps = [next(sides[kind]).step for kind in ORDER]
    assert steps == [batch.step for batch in opened()]
    for side in sides.values():
        with pytest.raises(StopIteration):
            next(side)


def test_a_side_that_is_not_due_says_what_is_and_takes_nothing():
    stream = opened()
    training, evaluation = Side(stream, True), Side(stream, False)
    with pytest.raises(RuntimeError, match="an evaluation batch was asked for, but training step 0 is due"):
        next(evaluation)
    for _ in range(3):
        next(training)
    with pytest.raises(RuntimeError, match="the evaluation after epoch 1 is due: take its 2 batches"):
        next(training)
    assert kinds(*stream) == ORDER[3:]


@pytest.mark.parametrize("first, expected", [(True, "TTTEETTTEE"), (False, "EETTTEETTTEE")])
def test_a_resumed_stream_evaluates_again_unless_training_is_first(first, expected):
    stream = opened(start_step=3)
    sides = {True: Side(stream, True), False: Side(stream, False)}
    found = [next(sides[first])]
    while stream.due is not None:
        found.append(next(sides[stream.due]))
    assert kinds(*found) == expected


def test_a_side_is_read_up_to_the_border():
    stream = opened()
    sides = [Side(stream, True), Side(stream, False)]
    for _ in range(EPOCHS):
        assert [kinds(*side.until_border()) for side in sides] == ["TTT", "EE"]
    assert [kinds(*side.until_border()) for side in sides] == ["", ""]


def test_a_border_is_passed_only_by_the_other_side():
    side = Side(opened(), True)
    assert kinds(*side.until_border()) == "TTT"
    with pytest.raises(RuntimeError, match="the evaluation after epoch 1 is due"):
        next(side.until_border())


def test_without_evaluation_there_is_no_border():
    assert kinds(*Side(opened(validation=0), True).until_border()) == "TTT" * EPOCHS


def test_a_stream_that_was_interrupted_ends():
    stream = opened()
    found = []
    for batch in Side(stream, True).until_border():
        found.append(batch)
        stream.interrupt()
    assert kinds(*found) == "T"


# ------------------------------------------------------------------------------------------------------------ Keras

def test_keras_gets_the_steps_and_an_iterator_for_each_side():
    arguments = keras(opened(), x=["image"], y=["label"])
    training, evaluation = arguments.pop("generator"), arguments.pop("validation_data")
    assert arguments == {"steps_per_epoch": 3, "epochs": 3, "initial_epoch": 0, "validation_steps": 2, "workers": 0}
    for wanted in opened():
        x, y = next(training if wanted.training else evaluation)
        np.testing.assert_array_equal(x, wanted["image"])
        np.testing.assert_array_equal(y, wanted["label"])


def test_keras_without_an_evaluation():
    arguments = keras(opened(validation=0), x=["image"])
    del arguments["generator"]
    assert arguments == {"steps_per_epoch": 3, "epochs": 3, "initial_epoch": 0, "workers": 0}


def test_keras_of_a_stream_that_does_not_train():
    arguments = keras(opened(validation=0, training=False), x=["image"])
    generator = arguments.pop("generator")
    assert arguments == {"steps": 3, "workers": 0}
    assert len(list(generator)) == 3


def test_names_give_an_array_a_list_or_a_dict():
    def first(x, y=None, weights=None):
        return next(keras(opened(), x, y, weights)["generator"])
    wanted = next(opened())
    for x in ("image", ["image"], ("image",)):
        assert first(x)[0].dtype == np.uint8 and first(x)[0].shape == (2, 2, 3)
    several, _ = first(["image", "boxes", "boxes.sizes"])
    assert isinstance(several, list) and [array.shape for array in several] == [(2, 2, 3), (2, 2, 4), (2,)]
    named, targets = first({"input_1": "image", "input_2": "boxes.sizes"}, {"a": "label"})
    np.testing.assert_array_equal(named["input_1"], wanted["image"])
    assert named["input_2"].tolist() == [2, 2] and list(targets) == ["a"]
    assert len(first("image", "label")) == 2
    _, _, weights = first("image", "label", "label")
    np.testing.assert_array_equal(weights, wanted["label"])


def test_no_targets_are_zeros_or_nothing():
    _, zeros = next(keras(opened(), "image")["generator"])
    assert zeros.dtype == np.float32 and zeros.tolist() == [[0], [0]]
    assert next(keras(opened(), "image", y=[])["generator"])[1] is None


def test_keras_gets_the_batchs_own_memory():
    made = []

    def make(planned):
        made.append(arrays_of(planned))
        return made[-1]
    x, y = next(keras(opened(make=make), ["image"], ["label"])["generator"])
    assert x is made[0][0] and y is made[0][2]


@pytest.mark.parametrize("argument", ["x", "y", "weights"])
def test_a_name_that_is_not_there_is_a_sentence_with_those_that_are(argument):
    names = dict({"x": ["image"]}, **{argument: ["label", "steering"]})
    with pytest.raises(ConfigError, match="^%s: there is no array 'steering'.* image, boxes, label, boxes.sizes$" %
                       argument):
        keras(opened(), **names)


@pytest.mark.parametrize("names", [None, 3, [3], {"a": None}, b"image"])
def test_names_that_are_none_are_a_sentence_too(names):
    with pytest.raises(ConfigError, match="^x must be a name, a list of names or a dict of names, not .*; the batches "
                                          "have image, boxes"):
        keras(opened(), names)


def test_keras_resumes_at_the_end_of_an_epoch_only():
    assert keras(opened(start_step=6), "image")["initial_epoch"] == 2
    assert keras(opened(start_step=9), "image")["initial_epoch"] == 3
    with pytest.raises(ConfigError, match="step 4, in the middle of an epoch.* from step 3 or 6"):
        keras(opened(start_step=4), "image")


def test_an_empty_batch_is_an_error_with_a_remedy():
    def make(planned):
        return tuple(array[:0] if planned.step == 1 else array for array in arrays_of(planned))
    generator = keras(opened(make=make), "image")["generator"]
    next(generator)
    with pytest.raises(DatasetError, match="step 1 in epoch 1 is empty.* Keras .* drop_last=True"):
        next(generator)


# ------------------------------------------------------------------------------------------------------------- ranks

def of_rank(rank, ranks, train_size=7, validation=4, batch_size=4, make=arrays_of, **options):
    plan = Plan(train_size, batch_size, 2, 0, validation, rank=rank, ranks=ranks, **options)
    return made_stream(make, JobOptions("my:function", batch_size=batch_size, declared=ARRAYS), plan)


def test_keras_gets_the_same_steps_on_all_ranks_and_each_its_part():
    several = [keras(of_rank(rank, 3), "image", "label") for rank in range(3)]
    assert {arguments["steps_per_epoch"] for arguments in several} == {2}
    assert {arguments["validation_steps"] for arguments in several} == {1}
    whole = keras(of_rank(0, 1), "image", "label")
    for _ in range(2):
        for side, steps in (("generator", 2), ("validation_data", 1)):
            for _ in range(steps):
                parts, one = [next(arguments[side]) for arguments in several], next(whole[side])
                for of_parts, of_one in zip(zip(*parts), one):
                    np.testing.assert_array_equal(np.concatenate(of_parts), of_one)


@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize("sizes, where", [({}, "an epoch"), ({"train_size": 8, "validation": 5}, "an evaluation")])
def test_a_part_that_will_be_empty_is_an_error_at_once_and_on_all_ranks(rank, sizes, where):
    stream = of_rank(rank, 4, **sizes)
    with pytest.raises(ConfigError, match="last batch of %s has fewer samples than there are ranks .4.* drop_last=True"
                                          % where):
        keras(stream, "image")
    assert keras(of_rank(rank, 4, drop_last=True, **sizes), "image")["steps_per_epoch"] == (2 if sizes else 1)


def test_parts_are_checked_by_the_number_of_ranks():
    check_parts(Plan(7, 4, 1, 0, rank=0, ranks=3), True, "Keras")
    with pytest.raises(ConfigError, match="an epoch"):
        check_parts(Plan(5, 4, 1, 0, rank=0, ranks=3, training=False), False, "Keras")


def test_the_remedy_for_bad_files_of_a_part_names_no_replacements():
    stream = of_rank(0, 2, make=lambda planned: tuple(array[:0] for array in arrays_of(planned)))
    with pytest.raises(DatasetError, match="step 0 in epoch 1 is empty.* remove the bad files, or use a larger"):
        next(keras(stream, "image")["generator"])
