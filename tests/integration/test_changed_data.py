"""Data that cannot be used as it is: refused when the stream is opened, or gone on with as the checkpoint knows it."""

from dataclasses import replace

import pytest
from PIL import Image

import stoker
from stoker.pipeline.protocol.messages import Sample
from tests.support.processes import interpreter

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
