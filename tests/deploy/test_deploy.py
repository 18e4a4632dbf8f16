"""What stands in deploy/ is held against the tools that will read it, and against the service that it starts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from compose_spec.models import ComposeSpecification

from peregrine.app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "peregrine"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
KNOWN = {str(field.alias) for field in Settings.model_fields.values()}
FOREIGN = {"PATH", "PIP_NO_CACHE_DIR", "PIP_DISABLE_PIP_VERSION_CHECK", "PYTHONUNBUFFERED"}
ON_REDIS = {"redis": {"host": "redis", "passwordSecret": "redis-password"}}


def strangers(names: set[str]) -> set[str]:
    """Those of *names* that are no setting of ours."""
    return {name for name in names if name.removesuffix("_FILE") not in KNOWN | FOREIGN}


# ── the image ────────────────────────────────────────────────────────────────────────────────────


def dockerfile() -> str:
    return (DEPLOY / "Dockerfile").read_text()


def test_the_image_definition_has_no_fault() -> None:
    judged = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )

    assert (judged.returncode, judged.stdout + judged.stderr) == (0, "")


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile(), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}

    allowed = {
        line[1:].removesuffix("/**") for line in (ROOT / ".dockerignore").read_text().splitlines() if "!" in line
    }
    assert sources == allowed
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_image_sets_nothing_unknown() -> None:
    texts = re.findall(r"^ENV (.+)$", dockerfile(), re.MULTILINE)

    assert strangers({name for text in texts for name in re.findall(r"(\w+)=", text)}) == set()


def test_a_wheel_holds_all_that_the_service_reads(tmp_path: Path) -> None:
    """The image installs a wheel; what only an editable install has would be missing there."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "peregrine", source / "peregrine", ignore=shutil.ignore_patterns("__pycache__"))

    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source],
        check=True,
        capture_output=True,
    )

    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("peregrine/")}
    wanted = {str(path.relative_to(source)) for path in (source / "peregrine").rglob("*") if path.is_file()}
    assert held == wanted


# ── compose ──────────────────────────────────────────────────────────────────────────────────────


def composed() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    return document


def test_the_compose_file_is_one() -> None:
    ComposeSpecification.model_validate(composed())


def test_each_instance_of_the_compose_file_is_complete() -> None:
    services, secrets, volumes = (composed()[name] for name in ("services", "secrets", "volumes"))
    ours = {name: one for name, one in services.items() if one["image"] == "peregrine"}

    assert len(ours) == 2
    for one in ours.values():
        assert strangers(set(one["environment"])) == set()
        assert set(one["secrets"]) <= set(secrets)
        assert {volume.partition(":")[0] for volume in one["volumes"]} <= set(volumes)
        assert set(one["depends_on"]) <= set(services)
        assert (DEPLOY / "compose" / one["build"]["context"] / one["build"]["dockerfile"]).resolve().exists()


# ── systemd ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_understood(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    here = tmp_path / unit.name.replace("@", "@8000")
    here.write_text(unit.read_text().replace("/opt/peregrine/bin/peregrine", "/bin/true"))

    judged = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True, check=False)

    assert [line for line in judged.stderr.splitlines() if here.name in line] == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_does_not_restart_what_was_refused(unit: Path) -> None:
    assert "RestartPreventExitStatus=2 78" in unit.read_text()


def test_the_environment_of_the_units_sets_nothing_unknown() -> None:
    texts = [unit.read_text() for unit in UNITS] + [(DEPLOY / "systemd" / "peregrine.env").read_text()]
    inline = [name for text in texts for line in re.findall(r"^Environment=(.+)$", text, re.MULTILINE)
              for name in re.findall(r"(\w+)=", line)]  # fmt: skip
    lines = re.findall(r"^#?([A-Z][A-Z_]+)=", texts[-1], re.MULTILINE)

    assert strangers({*inline, *lines}) == set()


# ── Helm ─────────────────────────────────────────────────────────────────────────────────────────


def rendered(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the cluster would be given, by kind."""
    with helm_python.Chart.load(str(CHART)) as chart:
        texts = chart.render(values, name="demo", namespace="prod")
    documents = [yaml.safe_load(text) for name, text in texts.items() if name.endswith(".yaml")]
    return {document["kind"]: document for document in documents if document}


def test_the_chart_has_no_fault() -> None:
    found = helm_python.lint(str(CHART))

    assert found["errors"] == []
    assert [message for message in found["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize(
    "values", [{}, ON_REDIS, {"tolerations": [{"operator": "Exists"}], "podAnnotations": {"a": "b"}}]
)
def test_the_chart_starts_the_service_as_it_wants_to_be_started(values: dict[str, Any]) -> None:
    made = rendered(values)

    pod = made["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert strangers({variable["name"] for variable in container["env"]}) == set()
    assert ("REDIS_HOST" in {variable["name"] for variable in container["env"]}) == bool(values.get("redis"))
    probes = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")]
    assert probes == ["/healthz", "/healthz", "/readyz"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    selector = made["Deployment"]["spec"]["selector"]["matchLabels"]
    assert selector == made["Service"]["spec"]["selector"]
    assert selector.items() <= made["Deployment"]["spec"]["template"]["metadata"]["labels"].items()


def test_one_replica_needs_no_disruption_budget() -> None:
    assert "PodDisruptionBudget" in rendered({"replicas": 3})
    assert "PodDisruptionBudget" not in rendered({"replicas": 1})


@pytest.mark.parametrize("wrong", [{"replicas": 0}, {"keysSecret": ""}, {"replica": 3}, {"settings": {"PORT": 8000}}])
def test_wrong_values_are_refused(wrong: dict[str, Any]) -> None:
    with helm_python.Chart.load(str(CHART)) as chart, pytest.raises(helm_python.errors.HelmValuesError):
        chart.validate_schema(wrong)


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)

    assert project is not None
    assert chart["appVersion"] == project[1]
