"""What a ScaledObject and a TriggerAuthentication of KEDA 2.13 or newer may contain, as far as Stoker's use it: a JSON
schema, after the reference of KEDA (https://keda.sh/docs/latest/reference/scaledobject-spec/, the pages of the trigger
metrics-api and of TriggerAuthentication). An unknown field is an error, as it is in the schemas of Kubernetes.
"""

TEXT, COUNT = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}


def closed(required=(), **properties):
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


def a_list(of):
    return {"type": "array", "minItems": 1, "items": of}


METADATA = closed(["name"], name=TEXT, namespace=TEXT)
POLICIES = a_list(closed(["type", "value", "periodSeconds"], type={"enum": ["Percent", "Pods"]}, value=COUNT,
                         periodSeconds={"type": "integer", "minimum": 1, "maximum": 1800}))
RULES = closed(stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600}, policies=POLICIES,
               selectPolicy={"enum": ["Max", "Min", "Disabled"]})
METRICS_API = closed(["url", "valueLocation", "targetValue"], url=TEXT, valueLocation=TEXT, targetValue=TEXT,
                     activationTargetValue=TEXT, format={"enum": ["json", "xml", "yaml", "prometheus"]},
                     authMode={"enum": ["apiKey", "basic", "tls", "bearer"]}, unsafeSsl={"enum": ["true", "false"]})
SCHEMAS = {
    "ScaledObject": closed(
        ["apiVersion", "kind", "metadata", "spec"], apiVersion={"const": "keda.sh/v1alpha1"},
        kind={"const": "ScaledObject"}, metadata=METADATA,
        spec=closed(
            ["scaleTargetRef", "triggers"],
            scaleTargetRef=closed(["name"], apiVersion=TEXT, kind=TEXT, name=TEXT, envSourceContainerName=TEXT),
            pollingInterval=COUNT, cooldownPeriod=COUNT, initialCooldownPeriod=COUNT, idleReplicaCount=COUNT,
            minReplicaCount=COUNT, maxReplicaCount=COUNT,
            fallback=closed(["failureThreshold", "replicas"], failureThreshold=COUNT, replicas=COUNT),
            advanced=closed(restoreToOriginalReplicaCount={"type": "boolean"}, horizontalPodAutoscalerConfig=closed(
                name=TEXT, behavior=closed(scaleUp=RULES, scaleDown=RULES))),
            triggers=a_list(closed(["type", "metadata"], type={"const": "metrics-api"}, name=TEXT, metadata=METRICS_API,
                                   metricType={"enum": ["AverageValue", "Value"]}, useCachedMetrics={"type": "boolean"},
                                   authenticationRef=closed(["name"], name=TEXT, kind=TEXT))))),
    "TriggerAuthentication": closed(
        ["apiVersion", "kind", "metadata", "spec"], apiVersion={"const": "keda.sh/v1alpha1"},
        kind={"const": "TriggerAuthentication"}, metadata=METADATA,
        spec=closed(["secretTargetRef"], secretTargetRef=a_list(closed(
            ["parameter", "name", "key"], parameter={"enum": ["token"]}, name=TEXT, key=TEXT)))),
}
