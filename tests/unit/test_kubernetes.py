"""Scaling a Deployment: its name, when what is sent, and what the user is told."""

import pytest

from stoker.pipeline.errors import ConfigError
from stoker.trainer.fleet_options import FleetOptions
from stoker.trainer.kubernetes import (FIRST_RETRY_S, LAST_RETRY_S, REPEAT_S, ApiServer, Deployment, Tries, parse,
                                       status_of)

WORKER = Deployment("ml", "worker")


@pytest.mark.parametrize("text, parts", [("worker", (None, "worker")), ("ml/worker-2.a", ("ml", "worker-2.a"))])
def test_names(text, parts):
    assert parse(text) == parts


@pytest.mark.parametrize("text", ["", "/", "ml/", "/worker", "a/b/c", "Worker", "worker?dryRun=All", "../secrets", "-a",
                                  5, "worker\n", "a" * 300, "wörker", "worker/scale/../.."])
def test_names_that_are_none(text):
    """None of them gets into the path of a request."""
    with pytest.raises(ConfigError, match="scale_deployment must be the name of a Deployment"):
        FleetOptions(scale_deployment=text)


def test_outside_of_a_pod():
    with pytest.raises(ConfigError, match="does not run in a Pod .KUBERNETES_SERVICE_HOST is not set.: .* --status"):
        ApiServer({})


def test_a_pod_without_a_service_account(tmp_path):
    with pytest.raises(ConfigError, match="cannot read namespace in .*: No such file or directory. The Pod needs a "
                                          "service account, and automountServiceAccountToken must not be false"):
        ApiServer({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, str(tmp_path))


def test_a_number_is_sent_at_once_and_again_later():
    tries = Tries()
    assert tries.is_due(1, 100.0)
    assert tries.succeeded(1, 100.0)                      # news
    assert not tries.is_due(1, 100.0 + REPEAT_S - 0.1) and tries.is_due(1, 100.0 + REPEAT_S)
    assert not tries.succeeded(1, 100.0 + REPEAT_S)
    assert tries.is_due(2, 100.1)


def test_after_failures_it_waits_ever_longer_but_not_at_the_end():
    tries, now, waits = Tries(), 100.0, []
    for _ in range(12):
        tries.failed("no answer", now)
        before = now
        while not tries.is_due(1, now):
            now += 0.25
        waits.append(now - before)
    assert waits[0] == FIRST_RETRY_S and waits[3] == 8 * FIRST_RETRY_S and waits[-1] == LAST_RETRY_S
    tries.failed("no answer", now)
    assert not tries.is_due(0, now)
    tries.hurry()
    assert tries.is_due(0, now)


def test_each_kind_of_failure_is_news_once_and_so_is_the_end_of_it():
    tries = Tries()
    assert tries.succeeded(3, 0.0)
    assert [tries.failed(why, 1.0) for why in ("403", "403", "500", "500", "403")] == [True, False, True, False, True]
    assert tries.succeeded(3, 2.0)
    assert not tries.succeeded(3, 3.0)


def test_a_refusal_names_the_role_that_is_missing():
    assert status_of(WORKER, 403, "") == (
        "the API server does not let this Pod's service account scale it (403): bind a Role in the namespace ml to it "
        "with the rule {apiGroups: [apps], resources: [deployments/scale], resourceNames: [worker], verbs: [patch]}, "
        "as deploy/kubernetes does")
    assert "no such Deployment (404)" in status_of(WORKER, 404, "")
    assert "does not know this Pod's service account any more (401)" in status_of(WORKER, 401, "")
    assert status_of(WORKER, 500, "etcd is gone") == "the API server answered 500 etcd is gone"
