"""A trainer that scales a Deployment, with an API server over TLS: each answer that it may give."""

import shutil
import socket
import threading
import time

import pytest

from stoker.trainer import kubernetes
from stoker.trainer.kubernetes import DeploymentScaler
from tests.support.api_server import api_server, make_certificates, seen_by_a_pod
from tests.support.processes import Log, opened, wait_for

PATH = "/apis/apps/v1/namespaces/ml/deployments/worker/scale"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


class Wish:
    """What a trainer wants."""

    def __init__(self):
        self.number, self.over = 1, False

    def wanted(self):
        return (0, "the run is over") if self.over else (self.number, "because")

    def is_over(self):
        return self.over


@pytest.fixture
def scaling(certificates, tmp_path, monkeypatch):
    """A function that begins to scale: (server, wish, scaler, log)."""
    monkeypatch.setattr(kubernetes, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(kubernetes, "LAST_RETRY_S", 0.2)
    account = tmp_path / "account"
    account.mkdir()
    begun = []
    with api_server(certificates, account) as server, Log() as log:
        def begin(*answers, name="worker"):
            server.answers += answers
            wish = Wish()
            scaler = DeploymentScaler(name, wish.wanted, wish.is_over, 1, seen_by_a_pod(server, account))
            begun.append(scaler)
            return server, wish, scaler, log
        begin.account = account
        yield begin
        server.release.set()
        for scaler in begun:
            scaler.stop()
            scaler._thread.join()


def test_it_follows_the_wish_and_ends_with_0(scaling):
    server, wish, scaler, log = scaling()
    wait_for(lambda: server.requests, "the first request")
    assert server.requests == [(PATH, 1, "Bearer first", "application/merge-patch+json")]
    wish.number = 3
    wait_for(lambda: server.numbers == [1, 3], "the wish")
    log.wait_for("scaled the Deployment ml/worker to 3: because")
    wish.over = True
    wait_for(lambda: server.numbers == [1, 3, 0], "the end of the run")
    scaler.stop()
    assert server.numbers == [1, 3, 0] and not log.having("could not be scaled")
    assert not [line for line in log.lines if "first" in line]           # no token is logged


def test_another_namespace(scaling):
    server, _, _, _ = scaling(name="other/worker")
    wait_for(lambda: server.requests, "the first request")
    assert server.requests[0][0] == PATH.replace("/ml/", "/other/")


def test_a_run_that_ends_early_leaves_the_least_number(scaling):
    server, wish, scaler, _ = scaling()
    wish.number = 5
    wait_for(lambda: 5 in server.numbers, "the wish")
    scaler.stop()
    assert server.numbers[-1] == 1
    scaler.stop()


def test_the_token_is_read_anew(scaling):
    server, wish, _, _ = scaling()
    wait_for(lambda: server.requests, "the first request")
    shutil.rmtree(str(scaling.account / "..data"))
    (scaling.account / "..data").mkdir()
    (scaling.account / "..data" / "token").write_text("second")
    wish.number = 2
    wait_for(lambda: 2 in server.numbers, "the wish")
    assert server.requests[-1][2] == "Bearer second"


def test_a_token_with_a_line_break_is_not_logged(scaling):
    (scaling.account / "..data" / "token").write_text("fir\nst\n")
    server, _, _, log = scaling()
    log.wait_for("scaled the Deployment ml/worker to 1: because")
    assert server.requests[0][2] == "Bearer first"
    assert not [line for line in log.lines if "fir" in line]


@pytest.mark.parametrize("code, sentence", [
    (401, "does not know this Pod's service account any more (401)"),
    (403, "resources: [deployments/scale], resourceNames: [worker], verbs: [patch]}"),
    (404, "there is no such Deployment (404)"), (409, "the API server answered 409 the message"),
    (500, "the API server answered 500 the message"), (301, "the API server answered 301 the message")])
def test_what_the_api_server_refuses_is_logged_once_and_tried_again(scaling, code, sentence):
    server, _, _, log = scaling(code, code, code)
    log.wait_for("scaled the Deployment ml/worker to 1: because")
    assert server.numbers == [1] * 4
    refused, = log.having("the Deployment ml/worker cannot be scaled to 1: ")
    assert sentence in refused


def test_an_api_server_that_does_not_answer_holds_up_nothing(scaling, monkeypatch):
    monkeypatch.setattr(kubernetes, "REQUEST_S", 0.3)
    server, wish, scaler, log = scaling()
    wait_for(lambda: server.requests, "the first request")
    server.release.clear()
    wish.number = 2
    log.wait_for("cannot be scaled to 2: cannot ask the API server at 127.0.0.1:")
    begun = time.monotonic()
    scaler.stop()
    assert time.monotonic() - begun < 30
    assert log.having("the Deployment ml/worker could not be scaled to 1 within 1 s: scale it yourself: kubectl -n ml "
                      "scale deployment worker --replicas=1")


def test_an_api_server_that_has_gone_and_comes_back(scaling, monkeypatch):
    server, wish, _, log = scaling()
    wait_for(lambda: server.requests, "the first request")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        wish.number = 2
        scaler = DeploymentScaler("worker", wish.wanted, wish.is_over, 1, seen_by_a_pod(server, scaling.account))
        port, scaler._server._port = scaler._server._port, closed.getsockname()[1]
        try:
            log.wait_for("cannot ask the API server at 127.0.0.1:%d: Connection refused" % closed.getsockname()[1])
            scaler._server._port = port
            log.wait_for("scaled the Deployment ml/worker to 2: because", 2)
        finally:
            scaler.stop()


def test_an_api_server_of_another_ca_gets_no_token(scaling, certificates, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    make_certificates(other)
    shutil.copy(str(other / "ca.crt"), str(scaling.account))
    server, _, _, log = scaling()
    log.wait_for("the Deployment ml/worker cannot be scaled to 1: cannot ask the API server at ")
    assert server.requests == []
    shutil.copy(str(certificates / "ca.crt"), str(scaling.account))
    wait_for(lambda: server.requests, "a request with the right CA")


def test_a_stream_scales_at_its_start_and_at_its_end(certificates, pictures, tmp_path, worker_python, monkeypatch):
    account = tmp_path / "account"
    account.mkdir()
    with api_server(certificates, account) as server:
        host, port = server.server_address
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
        monkeypatch.setattr(kubernetes, "ACCOUNT", str(account))
        options = dict(image_size=32, batch_size=8, workers=1, worker_python=worker_python, min_workers=2,
                       scale_deployment="worker")
        with opened(pictures, tmp_path / "audit", **options) as run:
            run.take(3)
            wait_for(lambda: server.numbers == [2], "the least number")
            run.take_all()
            wait_for(lambda: server.numbers == [2, 0], "the end of the run")
        assert server.numbers == [2, 0]
        with opened(pictures, tmp_path / "second", **options) as run:
            run.take(3)
            wait_for(lambda: server.numbers == [2, 0, 2], "the least number")
        assert server.numbers[3:] in ([], [2])                 # it stays
    assert not [thread for thread in threading.enumerate() if thread.name == "stoker-scaler"]
