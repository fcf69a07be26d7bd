"""The manifests of deploy/kubernetes: valid for a current Kubernetes, and as closed as docs/KUBERNETES.md says."""

import base64
import json
import os

import pytest

from tests.engines import keda_schema, manifests, operator_schema
from tests.engines.needs import python_of
from tests.support.documents import block, read
from tests.support.processes import ROOT

pytestmark = pytest.mark.needs("environment kube")

SUPPORTED = ["1.33", "1.37"]    # the oldest that is still maintained somewhere, and the newest
COMBINATIONS = [(), ("pvc",), ("bucket",), ("gpu",), ("status",), ("keda",), ("hpa",), ("status", "prometheus"),
                ("pvc", "gpu", "keda"), ("bucket", "gpu", "hpa"), ("keda", "prometheus")]
OPENS = {"status", "keda", "hpa"}         # the overlays that open the status address
CLOSED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
SCHEMAS = dict(keda_schema.SCHEMAS, **operator_schema.SCHEMAS)
BY_SCHEMA = ("import json, sys, jsonschema; schema, thing = json.load(sys.stdin); "
             "jsonschema.Draft7Validator.check_schema(schema); jsonschema.validate(thing, schema)")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """By the overlays: the manifests as (YAML text, objects)."""
    made = {}
    for overlays in COMBINATIONS:
        text = manifests.build(manifests.copy(str(tmp_path_factory.mktemp("built") / "kubernetes"), *overlays))
        made[overlays] = text, manifests.objects(text)
    return made


@pytest.fixture
def base(built):
    return built[()][1]


def validate(folder, version, *texts):
    """(exit code, what it said) of the strict validation of these manifests."""
    paths = [os.path.join(str(folder), "%d.yaml" % i) for i in range(len(texts))]
    for path, text in zip(paths, texts):
        with open(path, "w") as file:
            file.write(text)
    code, *said = manifests.run([manifests.tool("kubernetes-validate"), "--strict", "-k", version] + paths, check=False)
    return code, "".join(said)


def accepted(thing):
    """Whether KEDA or the Prometheus operator accept an object of theirs."""
    return manifests.run([python_of("kube"), "-c", BY_SCHEMA], json.dumps([SCHEMAS[thing["kind"]], thing]),
                         check=False)[0] == 0


def find(objects, kind, name):
    found = [each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name]
    assert len(found) == 1, "%d of %s %s" % (len(found), kind, name)
    return found[0]


def pods(objects):
    """Name -> template of the Pods."""
    return {each["metadata"]["name"]: each["spec"]["template"] for each in objects
            if each["kind"] in ("Job", "Deployment")}


def containers(template):
    return template["spec"]["initContainers"] + template["spec"]["containers"]


def test_valid(built, tmp_path):
    """Kubernetes: manifests are valid, strictly, for the oldest and newest Kubernetes of today, with each overlay"""
    objects = [each for _, objects in built.values() for each in objects]
    of_others = [each for each in objects if each["kind"] in SCHEMAS]
    assert len(of_others) == sum(2 * ("keda" in overlays) + ("prometheus" in overlays) for overlays in built)
    assert all(map(accepted, of_others))
    assert all(each["kind"] == "Namespace" or each["metadata"]["namespace"] == "stoker" for each in objects)
    for version in SUPPORTED:
        code, said = validate(tmp_path, version, *[text for text, _ in built.values()])
        assert code == 0 and said.count(" passed for resource ") == len(objects) - len(of_others), said
        assert said.count("WARN") == len(of_others), said   # it knows no schemas of KEDA and of the operator


def test_an_invalid_manifest_is_found(built, base, tmp_path):
    """Kubernetes: the validation finds a field that is misspelled, and a value of another type"""
    for change in ({"backofLimit": 1}, {"backoffLimit": "many"}):
        job = find(base, "Job", "trainer")
        broken = dict(job, spec=dict(job["spec"], **change))
        assert validate(tmp_path, "1.37", json.dumps(broken))[0] != 0
    scaled = find(built["keda",][1], "ScaledObject", "worker")
    assert accepted(scaled)
    assert not accepted(dict(scaled, spec=dict(scaled["spec"], maxReplicas=3)))


def test_pods_have_no_rights(built):
    """Kubernetes: no root, nothing to write to but volumes, no capabilities, limits of memory, no tokens for workers"""
    for overlays, (_, objects) in built.items():
        for name, template in pods(objects).items():
            spec = template["spec"]
            assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 1000
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert not set(spec) & {"hostNetwork", "hostPID", "hostIPC"}
            assert not any("hostPath" in volume for volume in spec["volumes"])
            scales = name == "trainer" and not {"keda", "hpa"} & set(overlays)
            assert spec["automountServiceAccountToken"] == scales
            for container in containers(template):
                assert container["securityContext"] == CLOSED
                assert {"cpu", "memory"} <= set(container["resources"]["requests"])
                assert "memory" in container["resources"]["limits"]
                writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
                assert container in spec["initContainers"] or writable <= {"/tmp", "/runs"}


def test_the_role_permits_one_thing(base):
    """Kubernetes: the trainer's Role is for the scale of the workers' Deployment, and for nothing else"""
    assert find(base, "Role", "scale-worker")["rules"] == [
        {"apiGroups": ["apps"], "resources": ["deployments/scale"], "resourceNames": ["worker"],
         "verbs": ["patch"]}]
    assert find(base, "Deployment", "worker") and not any(each["kind"].startswith("Cluster") for each in base)
    binding = find(base, "RoleBinding", "trainer-scales-worker")
    assert [(each["kind"], each["name"], each["namespace"]) for each in binding["subjects"]] == [
        ("ServiceAccount", "trainer", "stoker")]
    assert "replicas" not in find(base, "Deployment", "worker")["spec"]     # or each apply would set it back


def test_selectors(base):
    """Kubernetes: Service, NetworkPolicies and PodDisruptionBudget select the Pods that they are for"""
    labels = {name: template["metadata"]["labels"] for name, template in pods(base).items()}

    def selected(selector):
        wanted = selector.get("matchLabels", selector).items()
        return {name for name in labels if wanted <= labels[name].items()}
    assert selected(find(base, "Service", "trainer")["spec"]["selector"]) == {"trainer"}
    assert selected(find(base, "PodDisruptionBudget", "worker")["spec"]["selector"]) == {"worker"}
    for name in labels:
        policy = find(base, "NetworkPolicy", name)["spec"]
        assert selected(policy["podSelector"]) == {name} and policy["policyTypes"] == ["Ingress", "Egress"]
    worker, trainer = (find(base, "NetworkPolicy", name)["spec"] for name in ("worker", "trainer"))
    to_trainer, dns = worker["egress"]
    assert "ingress" not in worker and selected(to_trainer["to"][0]["podSelector"]) == {"trainer"}
    assert to_trainer["ports"] == [{"protocol": "TCP", "port": 5555}]
    assert {each["port"] for each in dns["ports"]} == {53}
    assert len(trainer["ingress"]) == 1 and len(trainer["ingress"][0]["from"]) == 1
    assert selected(trainer["ingress"][0]["from"][0]["podSelector"]) == {"worker"}


def test_secrets(built):
    """Kubernetes: the trainer's secret key is in no Secret of the workers, and no secret in a ConfigMap"""
    for _, objects in built.values():
        secrets = {each["metadata"]["name"].rpartition("-keys-")[0]: {
            name: base64.b64decode(value).decode() for name, value in each["data"].items()} for each in objects
            if each["kind"] == "Secret" and "-keys-" in each["metadata"]["name"]}
        assert set(secrets["trainer"]) == {"trainer.key", "trainer.key_secret", "worker.key"}
        assert set(secrets["worker"]) == {"trainer.key", "worker.key", "worker.key_secret"}
        assert secrets["trainer"]["trainer.key"] == secrets["worker"]["trainer.key"]
        assert secrets["trainer"]["worker.key"] == secrets["worker"]["worker.key"]
        for template in pods(objects).values():
            mounted = {volume["secret"]["secretName"] for volume in template["spec"]["volumes"] if "secret" in volume}
            labels = template["metadata"]["labels"]
            other = "worker-keys" if labels["app.kubernetes.io/component"] == "trainer" else "trainer"
            assert not any(name.startswith(other) for name in mounted)


def test_commands(base):
    """Kubernetes: commands and settings of the Pods are those of this release"""
    with open(os.path.join(ROOT, "docs", "OPTIONS.md")) as file:
        options = file.read()
    for name, section in (("trainer", "Trainer"), ("worker", "Workers")):
        known = options.split("## %s\n" % section)[1].split("\n## ")[0]
        main = pods(base)[name]["spec"]["containers"][0]
        settings = [each for each in base if each["kind"] == "ConfigMap" and each["metadata"]["name"].startswith(
            name + "-settings-")]
        assert len(settings) == 1
        names = [each["name"] for each in main.get("env", [])] + list(settings[0]["data"])
        flags = [each for each in main["args"] if each.startswith("--")] + [
            "--" + each[len("STOKER_"):].lower().replace("_", "-") for each in names if each.startswith("STOKER_")]
        assert len(flags) > 3 and not [flag for flag in flags if "| `%s" % flag not in known]
        for container in containers(pods(base)[name]):
            assert container["image"] == "registry.example.com/me/stoker-%s:0.1.0" % name
        health_file = main["args"][main["args"].index("--health-file") + 1]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert main.get(probe, main["readinessProbe"])["exec"]["command"] == [
                "python", "-m", "stoker.pipeline.monitoring.health", health_file]


def test_overlays(built):
    """Kubernetes: overlays change what they are for: the pictures' volume, the GPU, who scales"""
    for overlays, (_, objects) in built.items():
        for name, template in pods(objects).items():
            volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
            init = {container["name"]: container for container in template["spec"]["initContainers"]}
            main = template["spec"]["containers"][0]
            assert ("persistentVolumeClaim" in volumes["data"]) == ("pvc" in overlays)
            assert ("emptyDir" in volumes["data"]) == ("pvc" not in overlays) and "keys" in init
            assert ("pictures" in init) == ("pvc" not in overlays)
            data = [mount for mount in main["volumeMounts"] if mount["mountPath"] == "/data"]
            assert [mount.get("subPath") for mount in data] == [None if "pvc" in overlays else "pictures"]
            if "bucket" in overlays:
                assert init["pictures"]["command"][:4] == ["rclone", "copy", "$(BUCKET)", "/volume/pictures"]
            has_gpu = main["resources"]["limits"].get("nvidia.com/gpu") == "1"
            assert has_gpu == (name == "trainer" and "gpu" in overlays) == ("stoker-trainer-gpu:" in main["image"])
            names = {each["name"] for each in main.get("env", [])}
            by_the_cluster = bool({"keda", "hpa"} & set(overlays))
            if name == "trainer":
                assert ("STOKER_SCALE_DEPLOYMENT" in names) != by_the_cluster
                status = [each["value"] for each in main["env"] if each["name"] == "STOKER_STATUS"]
                is_open = bool(OPENS & set(overlays))
                assert status == ["0.0.0.0:8265" if is_open else "127.0.0.1:8265"]
                assert ("STOKER_STATUS_TOKEN_FILE" in names) == is_open
        assert any(each["kind"] == "Role" for each in objects) != bool({"keda", "hpa"} & set(overlays))


def test_the_operator_of_prometheus(built):
    """Kubernetes: the ServiceMonitor names the Service, its port and the token; the alerts as the operator has them"""
    objects = built["status", "prometheus"][1]
    monitor, service = find(objects, "ServiceMonitor", "trainer")["spec"], find(objects, "Service", "trainer")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    endpoint, = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    secret = find(objects, "Secret", endpoint["authorization"]["credentials"]["name"])
    assert endpoint["authorization"]["credentials"]["key"] in secret["data"]
    commands = block("docs/MONITORING.md", "monitoring: rules for the operator")
    assert commands.count("| kubectl -n stoker apply -f -\n") == 1
    rule, = manifests.objects(manifests.run(["sh", "-ec", "cd '%s'; %s" % (
        ROOT, commands.replace("| kubectl -n stoker apply -f -", ""))])[1])
    assert accepted(rule) and not accepted(dict(rule, spec={}))
    assert rule["spec"] == manifests.objects(read("deploy/monitoring/rules.yml"))[0]
