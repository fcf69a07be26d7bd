"""Prometheus in tests: Debian's own, which .setup/debian-programs.sh unpacks, and a client of its HTTP API."""

import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request

from tests.support.processes import free_port, wait_for


def program(name):
    """The path of prometheus or promtool."""
    return os.path.join(os.environ["STOKER_TEST_PROMETHEUS"], "usr", "bin", name)


def promtool(*arguments):
    """(exit code, standard output and error)."""
    done = subprocess.run((program("promtool"),) + arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True, timeout=60)
    return done.returncode, done.stdout


class Api:
    """The HTTP API of the Prometheus at ``url``."""

    def __init__(self, url):
        self._url = url
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, path, **parameters):
        """The ``data`` of an answer, which has to be a success."""
        url = "%s/api/v1/%s?%s" % (self._url, path, urllib.parse.urlencode(parameters, doseq=True))
        try:
            with self._opener.open(url, timeout=30) as answer:
                said = json.loads(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError("%s: %s" % (url, error.read().decode())) from error
        assert said["status"] == "success" and not said.get("warnings"), said
        return said["data"]

    def answers(self):
        """It is ready."""
        try:
            return bool(self.ask("targets")["activeTargets"])
        except (AssertionError, OSError):        # it starts
            return False

    def query(self, expression):
        """The series of an instant vector: (labels, value) of each."""
        data = self.ask("query", query=expression)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        assert data["resultType"] == "vector", data
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]

    def value(self, expression):
        """The value of the one series; None if there is none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    def by(self, label, expression):
        """The values of the series, by this label of theirs."""
        return {labels[label]: value for labels, value in self.query(expression)}

    def target(self):
        """The state of the one target: ``health``, ``lastError`` ..."""
        target, = self.ask("targets")["activeTargets"]
        return target

    def alert_names(self):
        """The names of all alerts that the rules can raise."""
        return {rule["name"] for group in self.ask("rules")["groups"] for rule in group["rules"]}

    def alerts(self):
        """(name, state) of the alerts that are pending or firing."""
        return {(alert["labels"]["alertname"], alert["state"]) for alert in self.ask("alerts")["alerts"]}


class Prometheus(Api):
    """A Prometheus with these texts as its ``configuration`` and ``rules``, in ``folder``. To be used in a ``with``."""

    def __init__(self, folder, configuration, rules):
        self._folder = str(folder)
        for name, text in (("prometheus.yml", configuration), ("rules.yml", rules)):
            with open(os.path.join(self._folder, name), "w") as file:
                file.write(text)
        self._address = "127.0.0.1:%d" % free_port()
        super().__init__("http://" + self._address)

    def __enter__(self):
        self._log = open(os.path.join(self._folder, "log"), "w")
        self._process = subprocess.Popen(
            [program("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data",
             "--web.listen-address=" + self._address], cwd=self._folder, stdin=subprocess.DEVNULL, stdout=self._log,
            stderr=self._log)
        try:
            wait_for(lambda: self._process.poll() is not None or self.answers(), "Prometheus")
            assert self._process.poll() is None, self.log()
        except BaseException:
            self.__exit__()
            raise
        return self

    def log(self):
        with open(os.path.join(self._folder, "log")) as file:
            return file.read()

    def __exit__(self, *exc_info):
        self._process.kill()
        self._process.wait()
        self._log.close()
