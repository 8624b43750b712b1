"""The files below deploy: each accepted by its own program or schema, and by what dvctl itself accepts and serves."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from devicevault_cli.cli import metrics_server
from devicevault_cli.cli.app import run
from devicevault_cli.consumer import shutdown
from devicevault_cli.consumer.progress import Backlog, ConsumerProgress
from devicevault_cli.errors import ExitCode
from devicevault_cli.operations import topics
from devicevault_cli.output import metrics
from devicevault_cli.pipelines import PIPELINES, RESULTS
from tests.support.tools import checked

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "dvctl-consume@.service"
DROP_IN = DEPLOY / "systemd" / "dvctl-consume@.service.d" / "local.conf"
RULES, RULE_TESTS = DEPLOY / "prometheus" / "dvctl.rules.yml", DEPLOY / "prometheus" / "dvctl.rules.test.yml"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dvctl.json").read_text())
KUBERNETES = DEPLOY / "kubernetes"
KEDA_SCHEMA = Path(__file__).parents[1] / "data" / "schemas" / "keda.json"
KUBERNETES_VERSION = "1.34"
NO_PAGE = "DvctlLogLinesDropped"
"""A full disk under the log: no page says more than the alert."""
MOST_EXPOSED = 15
"""Of 100, as systemd-analyze security counts; it calls up to 20 OK."""


def settings(path: Path) -> list[tuple[str, str]]:
    """The assignments of a unit file, in order: a key may occur several times."""
    lines = [line for line in path.read_text().splitlines() if line and line[0] not in "#["]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def documents() -> list[dict[str, Any]]:
    """The Kubernetes objects."""
    return [
        document
        for path in sorted(KUBERNETES.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if path.name != "kustomization.yaml"
    ]


def object_of(kind: str) -> dict[str, Any]:
    return next(document for document in documents() if document["kind"] == kind)


# --- systemd


def verified_unit(directory: Path) -> Path:
    """A copy whose program exists: systemd-analyze looks for it."""
    program = directory / "dvctl"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in (UNIT, DROP_IN):
        copy = directory / path.relative_to(UNIT.parent)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(path.read_text().replace("/opt/dvctl/bin/dvctl", str(program)))
    return directory / UNIT.name


def test_systemd_accepts_the_unit_with_its_drop_in(tmp_path: Path) -> None:
    assert checked("systemd-analyze", "verify", "--recursive-errors=one", verified_unit(tmp_path)) == ""


def test_systemd_finds_the_unit_hardened(tmp_path: Path) -> None:
    threshold = f"--threshold={MOST_EXPOSED}"
    said = checked("systemd-analyze", "security", "--offline=true", threshold, verified_unit(tmp_path))
    assert "Overall exposure level" in said


def test_codes_that_a_restart_does_not_change_are_dvctls() -> None:
    found = dict(settings(UNIT))
    codes = {int(code) for code in found["RestartPreventExitStatus"].split()}
    assert codes == {ExitCode.USAGE, ExitCode.REFUSED, ExitCode.CONFIG}
    assert (found["Type"], found["Restart"]) == ("notify", "on-failure")


@pytest.mark.parametrize("path", [UNIT, DROP_IN])
def test_dvctl_understands_the_command_of_the_unit(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Up to the servers, of which none is configured here."""
    command = [value for name, value in settings(path) if name == "ExecStart"][-1]
    understood(shlex.split(command.replace("%i", "0"))[1:], capsys)


def understood(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A command line whose options and values are accepted: what is refused is only the URL that is added."""
    assert run([*words, "--redis-url", "none://"]) == ExitCode.CONFIG
    assert "the Redis URL" in capsys.readouterr().err


# --- Containers


DOCKERFILE = DEPLOY / "container" / "Dockerfile"


def instructions() -> list[str]:
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text())
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_hadolint_accepts_the_image() -> None:
    assert checked("hadolint", DOCKERFILE) == ""


def test_the_image_runs_as_nobody_in_particular_and_holds_no_secret() -> None:
    found = instructions()
    stages = [position for position, line in enumerate(found) if line.startswith("FROM")]
    assert len(stages) == 2
    final = found[stages[-1] :]
    (user,) = [line.split()[1] for line in final if line.startswith("USER")]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user), "a number: Kubernetes cannot see that a name is not root"
    assert not [line for line in final if line.startswith(("RUN", "ADD"))], "the final stage only copies"
    assert not re.search(r"PASSWORD|TOKEN|SECRET|://", "\n".join(found), re.IGNORECASE)


def test_the_command_of_the_image_is_dvctls(capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = [json.loads(line.partition(" ")[2]) for line in instructions() if line.startswith("CMD")]
    understood(command, capsys)


def test_what_the_image_is_built_from_suffices(tmp_path: Path) -> None:
    """The build gets no other files than the ones that Dockerfile.dockerignore lets through."""
    ignore = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    for name in [line[1:] for line in ignore if line.startswith("!")]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    code = "import hatchling.build; print(hatchling.build.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "requirements" / "constraints.txt").exists()


def test_compose_follows_its_schema_and_runs_read_only(capsys: pytest.CaptureFixture[str]) -> None:
    path = DEPLOY / "compose" / "compose.yaml"
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    service = yaml.safe_load(path.read_text())["services"]["consumer"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert (path.parent / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == DOCKERFILE
    understood(service["command"], capsys)


# --- Kubernetes


@pytest.mark.parametrize(
    "document", [one for one in documents() if "keda" not in one["apiVersion"]], ids=lambda one: one["kind"]
)
def test_kubernetes_accepts_the_objects(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)


def test_kustomize_builds_them() -> None:
    built = list(yaml.safe_load_all(checked("kubectl", "kustomize", KUBERNETES)))
    assert {document["kind"] for document in built} == {document["kind"] for document in documents()}
    assert {document["metadata"]["namespace"] for document in built} == {"devicevault"}


def test_the_pods_are_probed_where_dvctl_answers_and_may_do_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    pod = object_of("StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("liveness", "readiness", "startup")}
    assert probes == {"liveness": "/healthz", "readiness": "/readyz", "startup": "/healthz"}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp", "/var/lib/dvctl"}
    port = container["args"][container["args"].index("--metrics-port") + 1]
    assert [port] == [str(one["containerPort"]) for one in container["ports"]]
    understood(container["args"], capsys)


def test_a_pod_has_the_time_it_needs_to_end_and_keeps_its_name() -> None:
    pod = object_of("StatefulSet")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > shutdown.GRACE_S + shutdown.LAST_GRACE_S
    (container,) = pod["containers"]
    assert container["args"][container["args"].index("--retire-after") + 1] == "24h"
    labels = object_of("StatefulSet")["spec"]["selector"]["matchLabels"]
    budget = object_of("PodDisruptionBudget")["spec"]
    assert budget["selector"]["matchLabels"] == labels
    (spread,) = pod["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == labels


def test_nothing_that_is_referred_to_is_missing_or_secret() -> None:
    assert not [document for document in documents() if document["kind"] == "Secret"]
    container = object_of("StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    names = [reference for source in container["envFrom"] for reference in source.items()]
    assert ("configMapRef", {"name": object_of("ConfigMap")["metadata"]["name"]}) in names
    guide = (ROOT / "docs" / "deployment.md").read_text()
    secrets = {reference["name"] for kind, reference in names if kind == "secretRef"}
    secrets |= {one["name"] for one in object_of("TriggerAuthentication")["spec"]["secretTargetRef"]}
    for secret in secrets:
        assert f"kubectl create secret generic {secret} " in guide


def keda_says(objects: list[dict[str, Any]], folder: Path) -> str:
    """What its schema has against these objects; nothing where it accepts them."""
    paths = [folder / f"{number}.json" for number, _ in enumerate(objects)]
    for path, document in zip(paths, objects, strict=True):
        path.write_text(json.dumps(document))
    command = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(KEDA_SCHEMA), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def test_keda_accepts_its_objects_and_none_with_a_mistake(tmp_path: Path) -> None:
    objects = [document for document in documents() if "keda" in document["apiVersion"]]
    assert len(objects) == 2
    assert keda_says(objects, tmp_path) == ""
    number = [{**object_of("ScaledObject")}]
    number[0]["spec"] = object_of("ScaledObject")["spec"] | {"maxReplicaCount": "3"}
    assert "oneOf" in keda_says(number, tmp_path) or "is not valid" in keda_says(number, tmp_path)


def test_keda_scales_what_there_is_by_the_lag_of_the_group() -> None:
    spec = object_of("ScaledObject")["spec"]
    assert spec["scaleTargetRef"]["kind"] == "StatefulSet"
    assert spec["scaleTargetRef"]["name"] == object_of("StatefulSet")["metadata"]["name"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 3)
    assert "replicas" not in object_of("StatefulSet")["spec"]
    consumed = [PIPELINES[name] for name in object_of("ConfigMap")["data"]["DVCTL_PIPELINE"].split(",")]
    watched = [(one["metadata"]["stream"], one["metadata"]["consumerGroup"]) for one in spec["triggers"]]
    assert watched == [(pipeline.stream, pipeline.group) for pipeline in consumed]
    for trigger in spec["triggers"]:
        assert trigger["type"] == "redis-streams"
        assert "lagCount" in trigger["metadata"]
        assert "pendingEntriesCount" not in trigger["metadata"]
        assert all(isinstance(value, str) for value in trigger["metadata"].values()), "KEDA reads text only"
        assert trigger["authenticationRef"]["name"] == object_of("TriggerAuthentication")["metadata"]["name"]


def test_the_pages_a_deployed_file_names_exist() -> None:
    for path in DEPLOY.rglob("*"):
        for name in re.findall(r"[\w./-]+\.md\b", path.read_text()) if path.is_file() else ():
            assert (ROOT / name).is_file(), f"{path.name} names {name}"


def test_taking_over_starts_dvctl_as_the_deployed_files_do() -> None:
    page = (ROOT / "docs" / "take-over.md").read_text()
    (unit,), (compose,) = (
        re.findall(r"```ini\n(.*?)```", page, re.DOTALL),
        re.findall(r"```yaml\n(.*?)```", page, re.DOTALL),
    )
    there, here = dict(settings(UNIT)), dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
    for name in (
        "Type",
        "WatchdogSec",
        "TimeoutStopSec",
        "Restart",
        "RestartPreventExitStatus",
        "ProtectSystem",
        "UMask",
    ):
        assert here[name] == there[name], name
    deployed = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]["consumer"]
    service = yaml.safe_load(compose)["services"]["dvctl"]
    for name in ("stop_grace_period", "restart"):
        assert service[name] == deployed[name]
    image = re.findall(r"FROM (python\S+)", service["build"]["dockerfile_inline"])
    assert set(image) == set(re.findall(r"FROM (python\S+)", (DEPLOY / "container" / "Dockerfile").read_text()))


def test_an_operators_command_has_the_operators_rights_and_the_services_state() -> None:
    """Else the consumer's ACL refuses `status`, and a change cannot be undone: its snapshot has no place."""
    (line,) = re.findall(r"`(systemd-run [^`]*)`", (ROOT / "docs" / "deployment.md").read_text())
    given = dict(word.split("=", 1) for word in re.findall(r"-p (\S+)", line))
    unit = dict(settings(UNIT))
    for name in ("DynamicUser", "User", "StateDirectory", "CacheDirectory"):
        assert given[name] == unit[name]
    assert line.split()[-2:] == [unit["ExecStart"].split()[0], "status"]
    example = UNIT.parent / f"{Path(given['EnvironmentFile']).name}.example"
    user = re.findall(r"redis://([^:]+):", example.read_text())
    assert set(user) == set(re.findall(r"ACL SETUSER (\S*operator) ", (ROOT / "docs" / "operations.md").read_text()))


# --- Prometheus and Grafana


def served() -> set[str]:
    """The names of every metric that a consumer can serve, with those that Prometheus adds for a target."""
    progress = ConsumerProgress()
    progress.backlog = Backlog(1, 1, 1.0, 1, 1.0)
    collected = metrics.Metrics(lambda: metrics.Health(True, True))
    labels = {"pipeline": "results", "stream": "s", "group": "g"}
    progress.on_batch = collected.add_batches(labels)
    names = {"up"}
    for sample in metrics_server.samples_of(progress, RESULTS):
        suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[sample.kind]
        names |= {f"dvctl_{sample.name}{suffix}" for suffix in suffixes}
    for family in collected.registry.collect():
        names |= {sample.name for sample in family.samples}
    return names | {"dvctl_log_lines_dropped_total"}


def named(expression: str) -> set[str]:
    """The metrics that an expression reads."""
    return set(re.findall(r"\b(?:dvctl|process)_[a-z_]+\b|\bup\b", re.sub(r'"[^"]*"', "", expression)))


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    """What the panels of the dashboard show, its variables replaced."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    found = [expression.replace("$__rate_interval", "5m") for expression in found]
    return [re.sub(r"\$(pipeline|instance)", ".*", expression) for expression in found]


def test_alerts_and_panels_read_metrics_that_are_served() -> None:
    there = served()
    assert all(named(expression) for expression in expressions())
    variables = [one["query"]["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
    for expression in [*(rule["expr"] for rule in rules()), *expressions(), *variables]:
        assert named(expression) <= there, expression


def test_every_alert_has_a_test_a_severity_and_words() -> None:
    tested = {
        case["alertname"]
        for test in yaml.safe_load(RULE_TESTS.read_text())["tests"]
        for case in test["alert_rule_test"]
    }
    assert tested == {rule["alert"] for rule in rules()}
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) - {"runbook"} == {"summary", "description"}


def test_the_guide_says_what_to_do_about_every_alert() -> None:
    lines = (ROOT / "docs" / "deployment.md").read_text().splitlines()
    listed = {
        name: line for line in lines if line.startswith("| `Dvctl") for name in re.findall(r"`(Dvctl[A-Za-z]+)`", line)
    }
    assert set(listed) == {rule["alert"] for rule in rules()}
    for rule in rules():
        assert rule["annotations"].get("runbook", "") in listed[rule["alert"]]


def test_every_alert_names_a_runbook_that_dvctl_prints() -> None:
    commands = {rule["alert"]: rule["annotations"].get("runbook") for rule in rules()}
    assert [alert for alert, command in commands.items() if command is None] == [NO_PAGE]
    assert {str(command) for command in commands.values() if command} <= {
        f"dvctl help {name}" for name in topics.names()
    }


def test_prometheus_reads_the_consumers_that_the_guide_starts() -> None:
    """One more, and DvctlConsumerDown fires for a consumer that was never started."""
    (job,) = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    (started,) = re.findall(r"systemctl enable --now (.*)", (ROOT / "docs" / "deployment.md").read_text())
    instances = re.findall(r"dvctl-consume@(\d)", started)
    assert [target for group in job["static_configs"] for target in group["targets"]] == [
        f"127.0.0.1:946{instance}" for instance in instances
    ]


def test_promtool_accepts_the_rules_and_their_tests_pass() -> None:
    assert f"{len(rules())} rules found" in checked("promtool", "check", "rules", RULES)
    assert "SUCCESS" in checked("promtool", "test", "rules", RULE_TESTS)


def test_promtool_accepts_the_configuration_and_the_dashboards_expressions(tmp_path: Path) -> None:
    checked("promtool", "check", "config", "--syntax-only", DEPLOY / "prometheus" / "prometheus.yml")
    recorded = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(expressions())]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    assert f"{len(recorded)} rules found" in checked("promtool", "check", "rules", path)


def test_the_dashboard_can_be_imported() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids)) > 10
    variables = {one["name"] for one in DASHBOARD["templating"]["list"]}
    text = json.dumps(DASHBOARD)
    assert set(re.findall(r"\$\{?([a-z]+)", text)) <= variables
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        where = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(where["x"], where["x"] + where["w"])
            for y in range(where["y"], where["y"] + where["h"])
        }
        assert not cells & taken, f"{panel['title']} covers another panel"
        assert max(x for x, _ in cells) < 24
        taken |= cells


# --- Settings


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("*/*.env.example")), ids=lambda path: path.parent.name)
def test_the_examples_set_variables_that_dvctl_reads(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = ConfigParser(interpolation=None)
    reader.optionxform = str  # type: ignore[assignment,method-assign]
    reader.read_string(f"[env]\n{path.read_text()}")
    for name, value in reader["env"].items():
        monkeypatch.setenv(name, value)
    assert run(["config", "-o", "json"]) == 0
    found = {setting["detail"] for setting in json.loads(capsys.readouterr().out)["settings"]}
    for name in reader["env"]:
        assert any(name in (detail or "") for detail in found), name
