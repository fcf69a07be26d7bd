"""Where a run begins, from what is in its checkpoint folder."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.trainer import state
from stoker.trainer.state import Start, named_step, newest, to_remove, traces


def files(*steps):
    """The files of these checkpoints."""
    return [name % step for step in steps for name in (
        "model.ckpt-%d.data-00000-of-00001", "model.ckpt-%d.index", "model.ckpt-%d.meta")]


OTHERS = ["bad-samples.tsv", "events.out.tfevents.1.host", "stoker-rows.npy", "stoker-run.json", "stoker.json",
          "stoker.lock"]


def found(names, damaged=(), named=None, saving=()):
    """The start, and which checkpoints were read for it. ``damaged``: steps of those that cannot be restored."""
    read = []

    def problem_of(step):
        read.append(step)
        return "model.ckpt-%d: torn" % step if step in damaged else None
    return newest(names, saving, named, problem_of), read


def test_a_folder_without_traces_is_a_beginning():
    assert traces(OTHERS) == ()
    assert found(OTHERS) == (Start(), [])


def test_each_file_of_a_checkpoint_is_a_trace():
    for name in ["checkpoint"] + files(4) + ["model.ckpt-4.index.damaged", "model.ckpt"]:
        assert traces(OTHERS + [name]) == (name,)


def test_the_newest_by_its_number_whatever_the_file_checkpoint_says():
    for named in (None, 2, 4, 10):
        start, read = found(OTHERS + files(2, 10, 4), named=named)
        assert start == Start(10, "model.ckpt-10") and read == [10]     # only as many are read as necessary
        assert start.notice("ck") is None


def test_an_older_one_if_the_newest_are_damaged():
    start, read = found(files(2, 4, 6, 8), damaged=(8, 6))
    assert (start.step, start.checkpoint, read) == (4, "model.ckpt-4", [8, 6, 4])
    assert start.notice("runs/x") == (
        "the newest checkpoint in runs/x cannot be restored (and 1 more): model.ckpt-8: torn; the newest one that can "
        "is of step 4, so steps 4 to 7 are done again")


def test_one_step_that_is_done_again():
    start, _ = found(files(4, 5), damaged=(5,))
    assert start.notice("ck").endswith("is of step 4, so step 4 is done again")


def test_parts_that_are_gone():
    for gone, reason in (("model.ckpt-8.index", "model.ckpt-8.index is gone"),):
        start, _ = found([name for name in files(4, 8) if name != gone], named=8)
        assert start.step == 4 and start.damaged[0].reason == reason
    start, _ = found(files(4), named=8)
    assert start.step == 4
    assert start.damaged[0].reason == "the files of model.ckpt-8, which the file checkpoint names, are gone"
    # the graph of a checkpoint is of no use to a resume
    start, _ = found([name for name in files(4, 8) if name != "model.ckpt-8.meta"], named=8)
    assert start == Start(8, "model.ckpt-8")


def test_none_that_is_whole():
    start, _ = found(["checkpoint"] + files(4, 8), damaged=(4, 8), named=8)
    assert start.checkpoint is None and [each.step for each in start.damaged] == [8, 4]
    assert found(["checkpoint"])[0] == Start()       # with the trace, an error: see require_whole


def test_a_save_that_was_killed_is_no_damage():
    """The files are moved from the folder where they are written, the index last."""
    moved = ["model.ckpt-4.data-00000-of-00001", "model.ckpt-4.meta"]
    assert traces(moved, ["model.ckpt-4.index"]) == ()
    assert found(moved, saving=["model.ckpt-4.index"]) == (Start(), [])
    assert found(files(2) + moved, saving=["model.ckpt-4.index"]) == (Start(2, "model.ckpt-2"), [2])
    # an older Stoker, or TensorFlow, was killed
    assert traces(["model.ckpt-0_temp_0a1b"]) == ()


def test_what_the_file_checkpoint_names():
    assert named_step('model_checkpoint_path: "model.ckpt-12"\nall_model_checkpoint_paths: "model.ckpt-9"\n') == 12
    assert named_step('model_checkpoint_path: "/some/where/model.ckpt-12"\n') == 12
    for text in ("", "model_checkpoint_path: \"model.ck", 'model_checkpoint_path: "other-3"', "\0" * 50,
                 'model_checkpoint_path: "model.ckpt-%s"' % ("9" * 40)):
        assert named_step(text) is None


def test_as_many_stay_as_are_to_be_kept():
    for keep, gone in ((1, (2, 4, 6)), (2, (2, 4)), (3, (2,)), (9, ())):
        assert sorted(to_remove(OTHERS + files(2, 4, 6, 8), 8, keep)) == sorted(files(*gone))


def test_what_else_is_removed_after_a_save():
    # steps of another past, which are done again; and what was put aside, once the training has passed it
    names = files(2, 4, 9) + ["model.ckpt-3.index.damaged", "model.ckpt-8.index.damaged", "model.ckpt-4_temp_0a"]
    assert sorted(to_remove(names, 4, 2)) == sorted(files(9) + ["model.ckpt-3.index.damaged", "model.ckpt-4_temp_0a"])
    # a checkpoint of step 0 holds nothing that was trained, and may be of another configuration
    assert sorted(to_remove(files(0, 4), 4, 2)) == sorted(files(0))
    # a part without an index is no checkpoint
    assert to_remove(files(4, 5) + ["model.ckpt-2.meta"], 5, 2) == ("model.ckpt-2.meta",)


@given(st.lists(st.sampled_from(OTHERS + ["checkpoint", "model.ckpt-3_temp_1"] + files(0, 3, 5, 12))),
       st.sampled_from([0, 3, 5, 12]), st.integers(1, 4))
def test_a_checkpoint_is_removed_from_its_index_on(names, step, keep):
    removed = to_remove(names, step, keep)
    indices = [name.endswith(".index") for name in removed]
    assert indices == sorted(indices, reverse=True)
    assert set(removed) <= set(names) - set(OTHERS) - {"checkpoint"}
    assert not {state.step_of(name) for name in removed} & {step}


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)), st.one_of(st.none(), st.integers(0, 30)))
def test_always_the_newest_whole_one(steps, damaged, named):
    start, read = found(files(*steps), damaged, named)
    whole = steps - damaged
    assert start.checkpoint == ("model.ckpt-%d" % max(whole) if whole else None)
    assert start.step == max(whole, default=0)
    assert [each.step for each in start.damaged] == sorted(
        (step for step in steps | ({named} - {None}) if not whole or step > max(whole)), reverse=True)
    assert read == sorted(read, reverse=True)
