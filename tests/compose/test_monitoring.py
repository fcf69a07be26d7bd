"""The status page of a trainer in a container, and docker-compose.monitoring.yml with Debian's Prometheus in place of
the image. Grafana's image is not to be had: an image that only sleeps stands for it."""

import json
import os
import re
import shutil
import subprocess
import time

import pytest

from tests.compose.project import docker, wait_for
from tests.compose.test_readme import Shell
from tests.monitoring.prometheus import Api
from tests.support.asking import ask
from tests.support.documents import block
from tests.support.processes import ROOT, free_port

GUIDE, MONITORING = "docs/DOCKER.md", "docs/MONITORING.md"
FILES = ["-f", "docker-compose.yml", "-f", "docker-compose.monitoring.yml"]
PROMETHEUS = """\
FROM %s
COPY prometheus promtool /bin/
RUN install -d -o 65534 -g 65534 -m 775 /prometheus
USER 65534
VOLUME /prometheus
ENTRYPOINT ["/bin/prometheus"]
"""


def page_of(project):
    """((URL, token) of the status page, what stoker-top shows), by the commands of the document."""
    shell = Shell(project.clone, project.environment, os.path.join(project.runs, "..", "bin"))
    said = shell.run(block(GUIDE, "compose: look").replace(" exec ", " exec -T "))       # there is no terminal
    page, shown = said.split("\n", 1)
    return re.match(r"(http://\S+)/#token=([0-9a-f]{64})$", page).groups(), shown


def test_the_page(project):
    """the status page: on this host's loopback, with the token alone, which workers do not see and no log holds"""
    port = str(free_port())
    project.up("-d", STOKER_EPOCHS="1000", STATUS_PORT=port)
    project.wait_for_steps(1)
    (url, token), shown = page_of(project)
    assert all(container[:12] in shown for container in project.containers("worker")), shown
    assert url == "http://127.0.0.1:" + port and docker("port", project.trainer, "8265") == "127.0.0.1:" + port
    code, _, body = ask(url, token=token)
    assert code == 200 and json.loads(body.decode())["steps"] == 48000
    assert ask(url)[0] == ask(url, token=token[:-1])[0] == ask(url, "/metrics")[0] == 401
    assert b"\nstoker_step " in ask(url, "/metrics", token)[2]
    code, headers, body = ask(url, "/")
    assert code == 200 and headers["Content-Type"].startswith("text/html") and token.encode() not in body
    assert docker("exec", project.trainer, "stat", "-c", "%a %u", "/status/token") == "600 1000"
    assert "No such file" in docker("exec", project.containers("worker")[0], "ls", "/status", check=False)
    assert token not in project.log() + project.log("worker") and "stoker-page" in project.log()
    project.compose("restart", "-t", "10", "trainer", STATUS_PORT=port)
    wait_for(lambda: answers(url, token), "the page of the trainer's next start")
    assert page_of(project)[0] == (url, token)


def test_programs_that_look(project):
    """docs/DOCKER.md: stoker-show draws a step of the running training, stoker-check looks at its pictures"""
    project.up("-d", STOKER_EPOCHS="1000")
    project.wait_for_steps(120)
    shell = Shell(project.clone, project.environment, os.path.join(project.runs, "..", "bin"))
    said = shell.run(block(GUIDE, "compose: programs").replace(" exec ", " exec -T "))
    assert "THE PICTURES" in said and ", as in the audit /runs/audit.jsonl" in said
    out = os.path.join(project.clone, "runs")
    with open(os.path.join(out, "step-100.png"), "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    with open(os.path.join(out, "report.html")) as file:
        assert "480" in file.read()
    shutil.rmtree(out)
    project.wait_for_steps(project.steps() + 10)         # nothing has disturbed it


def test_two_trainings_on_one_host(project, clone, images, pictures, tmp_path):
    """the status page: a second training on this host takes a free port with STATUS_PORT=0"""
    project.up("-d", "trainer", STOKER_EPOCHS="1000")
    url = "http://" + project.compose("port", "trainer", "8265").strip()
    said = project.compose("exec", "-T", "trainer", "stoker-page")
    assert "docker-compose port trainer 8265  says the PORT" in said
    token = re.search("http://127.0.0.1:PORT/#token=([0-9a-f]{64})", said).group(1)
    wait_for(lambda: answers(url, token), "the page at the free port")
    port = url.rpartition(":")[2]
    second = type(project)(clone, images, str(tmp_path / "second"), DATA=pictures)
    try:
        assert "port is already allocated" in second.up("-d", "trainer", check=False, STATUS_PORT=port)
        second.up("-d", "trainer")
        assert second.compose("port", "trainer", "8265") != project.compose("port", "trainer", "8265")
    finally:
        second.remove()


def answers(url, token):
    try:
        return ask(url, token=token)[0] == 200
    except OSError:
        return False


def test_no_page(project):
    """the status page: STOKER_STATUS= switches it off"""
    said = project.compose("run", "--rm", "-T", "-e", "STOKER_STATUS=", "-e", "STOKER_EPOCHS=1", "trainer", "--workers",
                           "1", "--worker-python", "python")
    assert "done after step 48:" in said and "status:" not in said and "stoker-page" not in said
    assert "there is no status page" in project.compose("run", "--rm", "-T", "trainer", "page", check=False)


@pytest.fixture(scope="module")
def stand_ins(images, tmp_path_factory):
    """(an image with Debian's Prometheus, an image that sleeps), for those of the projects, which are not to be had."""
    found = subprocess.run(["sh", ".setup/debian-programs.sh", "prometheus"], cwd=ROOT, stdout=subprocess.PIPE,
                           universal_newlines=True)
    if found.returncode != 0:
        pytest.skip("Debian's Prometheus cannot be fetched here")
    folder = str(tmp_path_factory.mktemp("prometheus"))
    for name in ("prometheus", "promtool"):
        shutil.copy(os.path.join(found.stdout.strip(), "usr/bin", name), folder)
    base, names = os.environ["WORKER_PYTHON_IMAGE"], [images[0] + "-prometheus", images[0] + "-grafana"]
    for name, text in zip(names, (PROMETHEUS % base, "FROM %s\nUSER 472\nCMD [\"sleep\", \"86400\"]\n" % base)):
        with open(os.path.join(folder, "Dockerfile"), "w") as file:
            file.write(text)
        docker("build", "--quiet", "--tag", name, folder)
    yield names
    docker("image", "rm", "--force", *names, check=False)


def test_monitoring(project, stand_ins, tmp_path):
    """docs/MONITORING.md: Prometheus scrapes the trainer with its token, sees its end, and no key; only on loopback"""
    shell = Shell(project.clone, project.environment, str(tmp_path / "bin"))
    ports = {name: str(free_port()) for name in ("PROMETHEUS_PORT", "GRAFANA_PORT")}
    shell.environment.update(ports, PROMETHEUS_IMAGE=stand_ins[0], GRAFANA_IMAGE=stand_ins[1], STOKER_EPOCHS="8")
    try:
        shell.run(block(MONITORING, "compose: monitoring"))
        prometheus, grafana = (project.containers(name)[0] for name in ("prometheus", "grafana"))
        api = Api("http://127.0.0.1:" + ports["PROMETHEUS_PORT"])
        seen = "last_over_time(%s[10m])"                 # the run may be over by now
        wait_for(lambda: api.answers() and api.value(seen % "stoker_step") is not None,
                 "the trainer's figures in Prometheus")
        assert api.value("max_over_time(up[10m])") == 1 and api.value(seen % "stoker_steps") == 384
        assert api.alert_names() == {"StokerTrainerGone", "StokerStalled", "StokerWaitsForData", "StokerBadFiles",
                                     "StokerWorkersLost", "StokerTooFewWorkers"}
        for container in (prometheus, grafana):
            said = json.loads(docker("inspect", "--format", "{{json .HostConfig}}", container))
            assert said["ReadonlyRootfs"] and said["CapDrop"] == ["ALL"] and not said["Privileged"]
            published = [each["HostIp"] for each in sum(said["PortBindings"].values(), [])]
            assert published == ["127.0.0.1"] and "no-new-privileges:true" in said["SecurityOpt"]
        assert docker("exec", prometheus, "ls", "/status") == "token"
        assert "Read-only" in docker("exec", prometheus, "touch", "/status/token", check=False)
        assert "No such file" in docker("exec", prometheus, "ls", "/keys", check=False)
        assert "No such file" in docker("exec", grafana, "ls", "/status", check=False)
        assert docker("exec", grafana, "ls", "/etc/grafana/dashboards") == "stoker.json"
        for epochs in ("10", "12", None):
            project.wait_for_end()
            wait_for(lambda: api.value("up") == 0, "the trainer's end in Prometheus")
            if api.value(seen % "stoker_over") == 1 or epochs is None:
                break
            # it asks each 2 s, and the trainer waits for it 2.5 s: where one of them stands still, they miss each other
            project.up("-d", STOKER_EPOCHS=epochs)
        assert api.value(seen % "stoker_over") == 1
        time.sleep(12)                                   # longer than between two evaluations of the rules
        assert api.value("count(ALERTS{alertname=\"StokerTrainerGone\"})") is None
    finally:
        project.compose(*(FILES + ["logs", "prometheus"]), check=False)
        project.compose(*(FILES + ["down", "--volumes", "--timeout", "1"]), check=False)
