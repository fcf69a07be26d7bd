"""The models compute the same as those of the tutorial."""

import numpy as np
import pytest

from stoker.pipeline.options import JobOptions

tf = pytest.importorskip("tensorflow")

from stoker.trainer import model  # noqa: E402


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        yield


def built(classes=2, **options):
    return model.build(JobOptions(**options).arrays, classes)


def shapes():
    return [tuple(variable.shape.as_list()) for variable in tf.trainable_variables()]


def pictures(count, height=8, width=8, classes=2):
    random = np.random.RandomState(0)
    return (random.randint(0, 256, (count, height, width, 3)).astype(np.uint8),
            (np.arange(count) % classes).astype(np.int32)[:, None])


def test_scaling_is_the_tutorials_to_the_last_bit():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    with tf.Session() as session:
        # fed, as in a run: the optimizer would compute the result of a constant in another way
        placeholder = tf.placeholder(tf.uint8, (None, None, None, 1))
        got = session.run(model.scaled(placeholder), {placeholder: images})
    wanted = np.float32(images / 255.0)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got.view(np.uint32), wanted.view(np.uint32))


@pytest.mark.parametrize("classes, outputs", [(2, 1), (3, 3), (7, 7)])
def test_the_cnn_has_the_tutorials_layers(classes, outputs):
    built(classes, image_size=(64, 48))
    assert shapes() == [(3, 3, 3, 32), (32,), (3, 3, 32, 64), (64,), (16 * 12 * 64, 128), (128,),
                        (128, outputs), (outputs,)]


@pytest.mark.parametrize("size, pooled", [((1, 1), 1), ((7, 5), 2 * 2), ((24, 32), 6 * 8), ((1, 33), 9)])
@pytest.mark.parametrize("classes", [2, 3])
def test_any_size_trains(size, pooled, classes):
    cnn = built(classes, image_size=size)
    assert shapes()[4] == (pooled * 64, 128)
    images, labels = pictures(5, *size, classes=classes)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        _, loss, correct, step = session.run([cnn.train, cnn.loss, cnn.correct, cnn.global_step],
                                             {cnn.inputs: images, cnn.labels: labels})
        assert np.isfinite(loss) and 0 <= correct <= 5
        assert session.run(cnn.global_step) == 1


@pytest.mark.parametrize("classes", [2, 3])
def test_it_learns_a_few_pictures_by_heart(classes):
    cnn = built(classes, image_size=(8, 8))
    images, labels = pictures(9, classes=classes)
    feed = {cnn.inputs: images, cnn.labels: labels}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        first = session.run(cnn.loss, feed)
        assert abs(first - np.log(classes)) < 0.5      # it begins with a guess
        for _ in range(100):
            session.run(cnn.train, feed)
        loss, correct = session.run([cnn.loss, cnn.correct], feed)
    assert correct == 9
    assert loss < first / 4


def test_correct_counts_the_samples_classified_correctly():
    cnn = built(3, image_size=(8, 8))
    images, _ = pictures(6)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        right = [session.run(cnn.correct, {cnn.inputs: images, cnn.labels: np.full((6, 1), label, np.int32)})
                 for label in range(3)]
    assert sum(right) == 6     # every picture is of one class


def test_numerical_records_get_logistic_regression():
    regression = built(generator="numerical")
    assert shapes() == [(10, 1), (1,)]
    assert regression.inputs.dtype == tf.float32 and regression.inputs.shape.as_list() == [None, 10]
    assert regression.pictures is None
    random = np.random.RandomState(0)
    features = random.normal(size=(64, 10)).astype(np.float32)
    labels = (features.sum(axis=1, keepdims=True) > 0).astype(np.int32)
    feed = {regression.inputs: features, regression.labels: labels}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        weights, bias = session.run(tf.trainable_variables())
        logits = features.dot(weights) + bias
        losses = np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))
        first, correct = session.run([regression.loss, regression.correct], feed)
        np.testing.assert_allclose(first, losses.mean(), rtol=1e-5)
        assert correct == np.sum((logits > 0) == labels)
        for _ in range(300):
            session.run(regression.train, feed)
        assert session.run(regression.loss, feed) < first


def test_a_step_without_samples_only_increments_the_step():
    cnn = built(image_size=(8, 8))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        before = session.run(tf.trainable_variables())
        session.run(cnn.pass_over)
        assert session.run(cnn.global_step) == 1
        for old, new in zip(before, session.run(tf.trainable_variables())):
            np.testing.assert_array_equal(old, new)
