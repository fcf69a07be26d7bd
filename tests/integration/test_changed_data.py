"""Data that cannot be used as it is: refused when the stream is opened, or gone on with as the checkpoint knows it."""

from dataclasses import replace

import pytest
from PIL import Image

import stoker
from stoker.pipeline.protocol.messages import Sample
from tests.support.processes import interpreter
from tests.support.training import arguments, audit, finished

OPTIONS = dict(image_size=8, batch_size=6, batch_timeout_s=60, worker_python=interpreter("STOKER_TEST_WORKER_PYTHON"))


@pytest.fixture
def photos(tmp_path):
    """12 pictures in two classes."""
    for index in range(12):
        place = tmp_path / "photos" / ("cat", "dog")[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (index * 20, 90, 200)).save(str(place / ("%02d.png" % index)))
    return str(tmp_path / "photos")


class Own:
    """A source of a user's own class."""
    classes, columns, has_paths = ("cat", "dog"), (), True

    def __init__(self, root, labels):
        self.root, self._found, self._labels = root, stoker.scan_folder(root), labels

    def __len__(self):
        return len(self._labels)

    def samples(self, indices):
        return [Sample(index, self._found.paths[index], self._labels[index]) for index in indices]

    def rows(self, indices):
        return [self._found.paths[index] for index in indices]

    def probes(self, count):
        return self._found.probes(count)

    def fingerprint(self):
        return "own"

    def row_hashes(self):
        return self._found.row_hashes()

    def summary(self):
        return "own"


def test_labels_that_are_no_classes_are_refused_before_a_worker_starts(photos):
    found = stoker.scan_folder(photos)
    for label in (0.37, -1, 2 ** 31):
        with pytest.raises(stoker.DatasetError, match="sample 3 .*: its label is %s" % label):
            stoker.open_stream(replace(found, labels=(0, 0, 1, label) + found.labels[4:]), **OPTIONS)
        with pytest.raises(stoker.DatasetError, match="sample 3: its label is %s" % label):
            stoker.open_stream(Own(photos, (0, 0, 1, label) + found.labels[4:]), **OPTIONS)


def test_labels_of_numpy_train(photos):
    import numpy as np
    found = stoker.scan_folder(photos)
    seen = []
    for data in (found, replace(found, labels=np.array(found.labels)), Own(photos, np.array(found.labels, np.uint8))):
        with stoker.open_stream(data, workers=1, **OPTIONS) as stream:
            seen.append([(batch.indices, batch.images.tobytes(), batch.labels.ravel().tolist()) for batch in stream])
    assert len(seen[0]) == 2 and seen[0] == seen[1] == seen[2]


# -------------------------------------------------------------------------------------------------- a resumed training

def trained(here, *more):
    given = dict(workers=1, batch_size=6, image_size=8, checkpoint_dir="ck", validation_split=0,
                 audit="audit.jsonl", on_bad_image="replace", worker_python=OPTIONS["worker_python"])
    return finished(here, "photos", *arguments(given), *more)


def ends_with_one_sentence(run, code):
    assert run.code == code and "Traceback" not in run.stderr + run.stdout, run
    return run.stderr.splitlines()[-1]


def used(here):
    return [(line["step"], line["indices"], line["skipped"], line.get("used")) for line in audit(here / "audit.jsonl")]


def test_a_training_goes_on_with_the_samples_that_it_knows(photos, tmp_path):
    assert trained(tmp_path, "--epochs", "1").code == 0
    gone = tmp_path / "photos" / "cat" / "02.png"
    content = gone.read_bytes()
    gone.unlink()
    (tmp_path / "photos" / "dog" / "99.png").write_bytes(content)
    before = {path.name: path.read_bytes() for path in (tmp_path / "ck").iterdir()}
    refused = trained(tmp_path, "--epochs", "2")
    last = ends_with_one_sentence(refused, 2)
    assert "was made: 1 is gone: cat/02.png; 1 is new: dog/99.png" in last and "--dataset-changed keep" in last
    assert {path.name: path.read_bytes() for path in (tmp_path / "ck").iterdir()} == before
    kept = trained(tmp_path, "--epochs", "2", "--dataset-changed", "keep")
    assert kept.code == 0 and "going on with the 12 samples that the checkpoint knows" in kept.stdout, kept
    assert "cat/02.png\tcat\tno longer among the data\t" in (tmp_path / "ck" / "bad-samples.tsv").read_text()
    lines = used(tmp_path)
    index = stoker.scan_folder(str(tmp_path / "photos")).paths.index("cat/04.png")      # it has the gone one's number
    skipped = [line for line in lines if line[2]]
    assert len(lines) == 4 and skipped and all(index == line[2][0] and line[0] >= 2 for line in skipped)
    assert all(index not in line[3] and len(line[3]) == 6 for line in skipped)
    # without a list
    (tmp_path / "ck" / "stoker-samples.gz").write_bytes(b"")
    last = ends_with_one_sentence(trained(tmp_path, "--epochs", "3"), 2)
    assert "data has changed" in last and "no list of its samples (it is damaged)" in last
