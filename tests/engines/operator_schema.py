"""What a ServiceMonitor and a PrometheusRule of the Prometheus operator may contain, as far as Stoker's use it: a JSON
schema, after the reference of the operator (https://prometheus-operator.dev/docs/api-reference/api/).
"""

from tests.engines.keda_schema import METADATA, TEXT, a_list, closed

DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d|w|y))+$"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
ALERT = closed(["alert", "expr"], alert=TEXT, expr=TEXT, labels=TEXTS, annotations=TEXTS, **{"for": DURATION})
SCHEMAS = {
    "ServiceMonitor": closed(
        ["apiVersion", "kind", "metadata", "spec"], apiVersion={"const": "monitoring.coreos.com/v1"},
        kind={"const": "ServiceMonitor"}, metadata=METADATA,
        spec=closed(["selector", "endpoints"], selector=closed(["matchLabels"], matchLabels=TEXTS), endpoints=a_list(
            closed(["port"], port=TEXT, path=TEXT, interval=DURATION, scrapeTimeout=DURATION, authorization=closed(
                ["credentials"], type=TEXT, credentials=closed(["name", "key"], name=TEXT, key=TEXT)))))),
    "PrometheusRule": closed(
        ["apiVersion", "kind", "metadata", "spec"], apiVersion={"const": "monitoring.coreos.com/v1"},
        kind={"const": "PrometheusRule"}, metadata=METADATA,
        spec=closed(["groups"], groups=a_list(closed(["name", "rules"], name=TEXT, rules=a_list(ALERT))))),
}
