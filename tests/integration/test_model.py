"""The built-in models compute the same as those of the tutorial; and what a user's model function may return."""

import numpy as np
import pytest

from stoker.pipeline.arrays import ArraySpec, UpTo
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import JobOptions

tf = pytest.importorskip("tensorflow")

from stoker.trainer import classifier, model  # noqa: E402


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        yield


def built(classes=2, **options):
    return model.build(JobOptions(**options).arrays, classifier.classifier(classes))


def fed(built, *arrays):
    return dict(zip(built.arrays.values(), arrays))


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
        got = session.run(classifier.scaled(placeholder), {placeholder: images})
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
        _, loss, accuracy, step = session.run([cnn.train, cnn.loss, cnn.metrics["accuracy"], cnn.global_step],
                                              fed(cnn, images, labels))
        assert np.isfinite(loss) and 0 <= accuracy <= 1
        assert session.run(cnn.global_step) == 1


@pytest.mark.parametrize("classes", [2, 3])
def test_it_learns_a_few_pictures_by_heart(classes):
    cnn = built(classes, image_size=(8, 8))
    images, labels = pictures(9, classes=classes)
    feed = fed(cnn, images, labels)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        first = session.run(cnn.loss, feed)
        assert abs(first - np.log(classes)) < 0.5      # it begins with a guess
        for _ in range(100):
            session.run(cnn.train, feed)
        loss, accuracy, scores = session.run([cnn.loss, cnn.metrics["accuracy"], cnn.predictions], feed)
    assert accuracy == 1
    assert loss < first / 4
    assert scores.shape == (9, classes) and scores.argmax(axis=1).tolist() == labels[:, 0].tolist()
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_accuracy_is_the_share_of_samples_classified_correctly(classes):
    cnn = built(classes, image_size=(8, 8))
    images, _ = pictures(6)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        right = [session.run(cnn.metrics["accuracy"], fed(cnn, images, np.full((6, 1), label, np.int32)))
                 for label in range(classes)]
    np.testing.assert_allclose(sum(right), 1)     # every picture is of one class


def test_numerical_records_get_logistic_regression():
    regression = built(generator="numerical")
    assert shapes() == [(10, 1), (1,)]
    assert list(regression.arrays) == ["features", "labels"]
    features = regression.arrays["features"]
    assert features.dtype == tf.float32 and features.shape.as_list() == [None, 10]
    assert regression.summaries is None
    random = np.random.RandomState(0)
    features = random.normal(size=(64, 10)).astype(np.float32)
    labels = (features.sum(axis=1, keepdims=True) > 0).astype(np.int32)
    feed = fed(regression, features, labels)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        weights, bias = session.run(tf.trainable_variables())
        logits = features.dot(weights) + bias
        losses = np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))
        first, accuracy = session.run([regression.loss, regression.metrics["accuracy"]], feed)
        np.testing.assert_allclose(first, losses.mean(), rtol=1e-5)
        np.testing.assert_allclose(accuracy, np.mean((logits > 0) == labels))
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


# ------------------------------------------------------------------------------------------------- a model of one's own

SPECS = (ArraySpec("x", "float32", (3,)), ArraySpec("boxes", "int16", (UpTo(20), 4)),
         ArraySpec("odd name!", "bool", ()))
X = np.arange(12, dtype=np.float32).reshape(4, 3)


def given(arrays, **returned):
    """What a model function may return, with ``returned`` instead; an x that is None is left out."""
    outputs = tf.layers.dense(arrays["x"], 1)[:, 0]
    whole = dict({"loss": tf.reduce_mean(outputs ** 2)}, **returned)
    return {name: value for name, value in whole.items() if value is not None}


def test_the_arrays_have_the_declared_shapes_and_names():
    seen = {}

    def own(arrays, training):
        seen.update(arrays, training=training)
        return given(arrays)
    built = model.build(SPECS, own)
    assert list(built.arrays) == ["x", "boxes", "odd name!", "boxes.sizes"]
    assert [(tensor.dtype.name, tensor.shape.as_list()) for tensor in built.arrays.values()] == [
        ("float32", [None, 3]), ("int16", [None, None, 4]), ("bool", [None]), ("int32", [None])]
    assert seen == dict(built.arrays, training=built.training)
    assert built.training.dtype == tf.bool and built.metrics == {} and built.predictions is None
    with tf.Session() as session:
        assert not session.run(built.training)
        assert session.run(built.training, {built.training: True})


def trained(own, steps=3, training=True):
    """(model, variables by name, global_step) after some steps."""
    built = model.build(SPECS, own, "own:own")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(steps):
            session.run(built.train, {built.arrays["x"]: X, built.training: training})
        values = dict(zip([variable.name for variable in tf.global_variables()],
                          session.run(tf.global_variables())))
        return built, values, values["global_step:0"]


def test_without_a_train_op_it_is_adam_after_the_update_ops():
    def own(arrays, training):
        outputs = tf.layers.batch_normalization(tf.layers.dense(arrays["x"], 2), training=training, name="norm")
        return {"loss": tf.reduce_mean(outputs)}
    _, values, step = trained(own)
    assert step == 3 and values["beta1_power:0"] == pytest.approx(0.9 ** 4)
    assert (values["norm/moving_mean:0"] != 0).all()        # only UPDATE_OPS change it


def with_train(make):
    def own(arrays, training):
        whole = given(arrays)
        optimizer = tf.train.GradientDescentOptimizer(0.1)
        return dict(whole, train=make(optimizer, whole["loss"], tf.train.get_global_step()))
    return own


def conditional(optimizer, loss, step):
    return tf.cond(loss > -1, lambda: tf.group(optimizer.minimize(loss, step)), lambda: tf.no_op())


@pytest.mark.parametrize("make", [
    lambda optimizer, loss, step: optimizer.minimize(loss),
    lambda optimizer, loss, step: optimizer.minimize(loss, global_step=step),
    lambda optimizer, loss, step: [optimizer.minimize(loss), tf.no_op()],
    lambda optimizer, loss, step: (optimizer.minimize(loss, step), tf.constant(1)),
    lambda optimizer, loss, step: tf.group(tf.no_op(), optimizer.minimize(loss, step)),
    lambda optimizer, loss, step: tf.assign_add(step, 1),
    conditional,
], ids=["without", "with", "list", "tuple", "group", "tensor", "cond"])
def test_a_train_op_of_its_own_increments_the_step_once(make):
    built, _, step = trained(with_train(make))
    assert step == 3
    assert isinstance(built.train, (tf.Operation, tf.Tensor))


def test_its_own_summaries_are_merged():
    def own(arrays, training):
        tf.summary.scalar("mean", tf.reduce_mean(arrays["x"]))
        return given(arrays)
    built = model.build(SPECS, own)
    with tf.Session() as session:
        assert b"mean" in session.run(built.summaries, {built.arrays["x"]: X})


def divides(arrays, training):
    return 1 / 0


def reads_labels(arrays, training):
    return arrays["labels"]


def asks_training(arrays, training):
    return arrays["x"] if training else None


@pytest.mark.parametrize("own, sentence", [
    (lambda arrays, training: None, r'must return a dict such as {"loss": loss}, not None'),
    (lambda arrays, training: {}, "returned no loss"),
    (lambda arrays, training: given(arrays, loss=None, metrics={}), "returned no loss"),
    (lambda arrays, training: given(arrays, loss=arrays["x"]), r"the loss of .* has the shape \(\?, 3\)"),
    (lambda arrays, training: given(arrays, loss=0.5), "the loss of .* must be a scalar tensor, not 0.5"),
    (lambda arrays, training: given(arrays, loss=tf.constant(1)), "the loss .* is int32: it must be a float"),
    (lambda arrays, training: given(arrays, losses=1, b=2), "unknown 'b', 'losses': it may return loss, metrics"),
    (lambda arrays, training: given(arrays, metrics=[1]), "metrics .* must be a dict of scalars"),
    (lambda arrays, training: given(arrays, metrics={"loss": tf.constant(1.0)}), "none of them called loss"),
    (lambda arrays, training: given(arrays, metrics={"mean": arrays["x"]}), "metric 'mean' .* has the shape"),
    (lambda arrays, training: given(arrays, metrics={"mean": tf.metrics.mean(arrays["x"])}),
     "metric 'mean' .* is a tuple: .* nothing of tf.metrics"),
    (lambda arrays, training: given(arrays, predictions=tf.constant(1)), "predictions .* a row for each sample"),
    (lambda arrays, training: given(arrays, predictions={"a": 1}), "predictions .* must be a tensor"),
    (lambda arrays, training: given(arrays, train="minimize"), "train .* must be an op, such as"),
    (lambda arrays, training: given(arrays, train=[]), "train .* must be an op, such as"),
    (lambda arrays, training: {"loss": tf.reduce_mean(arrays["x"])}, "has no trainable variables"),
    (lambda arrays, training: given(arrays, loss=tf.reduce_mean(arrays["x"])), "cannot be minimized: No gradients"),
    (lambda arrays: None, r"failed in its call model\(arrays, training\): TypeError"),
    (divides, r"failed in .*test_model.py, line \d+: ZeroDivisionError: division by zero$"),
    (reads_labels, "KeyError: 'labels'; the arrays are x, boxes, odd name!, boxes.sizes$"),
    (asks_training, r"but training is a tensor: use tf.cond\(training"),
])
def test_what_is_no_model_is_one_sentence(own, sentence):
    with pytest.raises(ConfigError, match=sentence) as failed:
        model.build(SPECS, own, "own:own")
    assert "own:own" in str(failed.value) and "\n" not in str(failed.value)


def test_the_built_in_model_serves_what_it_can_train_on():
    assert classifier.serves(JobOptions().arrays, 2) and classifier.serves(JobOptions("numerical").arrays, 2)
    assert not classifier.serves(JobOptions().arrays, 1)
    assert not classifier.serves(JobOptions(labels=False).arrays, 2)
    assert not classifier.serves(SPECS, 2)
    labels = ArraySpec("labels", "int32", (1,))
    for other in (ArraySpec("images", "float32", (8, 8, 3)), ArraySpec("images", "uint8", (UpTo(8), 8, 3)),
                  ArraySpec("images", "uint8", (8, 8)), ArraySpec("image", "uint8", (8, 8, 3))):
        assert not classifier.serves((other, labels), 2), other


@pytest.mark.parametrize("name, sentence", [
    ("nosuch:model", "importing nosuch failed"), ("math:nosuch", "has no nosuch"), ("math:pi", "pi is no function"),
    ("decimal:Decimal", "Decimal is no function"), ("model", "write module:function"),
])
def test_a_model_that_cannot_be_loaded_is_one_sentence(name, sentence):
    with pytest.raises(ConfigError, match=sentence):
        model.load(name)
