"""The dashboard of deploy/monitoring, its queries as Grafana sends them, and the names of metrics in them."""

import json
import os
import re

from tests.support.processes import ROOT

FOLDER = os.path.join(ROOT, "deploy", "monitoring")
#: What Grafana puts in the place of its variables.
VARIABLES = {"$__rate_interval": "10s", "$instance": ".+"}


def load():
    with open(os.path.join(FOLDER, "grafana", "dashboards", "stoker.json"), encoding="utf-8") as file:
        return json.load(file)


def queries(dashboard):
    """Title of the panel -> its queries, ready to be sent; with those of the annotations."""
    found = {panel["title"]: [target["expr"] for target in panel["targets"]]
             for panel in dashboard["panels"] if panel["type"] != "row"}
    for annotation in dashboard["annotations"]["list"]:
        found["annotation " + annotation["name"]] = [annotation["expr"]]
    return {title: [_filled(query) for query in of_panel] for title, of_panel in found.items()}


def _filled(query):
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


def metrics(text):
    """The names of Stoker's metrics in a text."""
    return set(re.findall(r"\bstoker_\w+", text))
