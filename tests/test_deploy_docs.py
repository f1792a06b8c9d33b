"""docs/deploy: what the image would run is run, in an environment with the export's requirements alone."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import tyro
import yaml
from conftest import ROOT
from test_exported import bare_python, run  # noqa: F401  (fixtures)

from src.deploy.server.flags import ServeFlags

FOLDER = ROOT / "docs" / "deploy"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Without the proxy that keeps tests from the network."""
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def instructions() -> list[tuple[str, str]]:
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word.isupper()]


@pytest.fixture
def image(run: Path, tmp_path: Path) -> Path:  # noqa: F811
    """A folder with what the Dockerfile copies, where it copies it."""
    workdir = dict(instructions())["WORKDIR"]
    for word, rest in instructions():
        if word != "COPY":
            continue
        source, target = rest.replace("${EXPORT}", str(run / "export" / "onnx")).split()
        to = tmp_path / (target if target.startswith("/") else f"{workdir}/{target}").lstrip("/")
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, to)
    return tmp_path


@pytest.fixture
def served(image: Path, bare_python: Path) -> Iterator[str]:  # noqa: F811
    """The address at which the image's entry point answers."""
    workdir = dict(instructions())["WORKDIR"].lstrip("/")
    words = json.loads(dict(instructions())["ENTRYPOINT"])
    words = [str(image / "model") if word == "/model" else word for word in words]
    words[0], words[words.index("--port") + 1] = str(bare_python), "0"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    process = subprocess.Popen(
        words, cwd=image / workdir, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        lines = iter(process.stdout.readline, "")
        line = next((line for line in lines if line.startswith("address")), "")
        assert line, process.stderr and process.stderr.read()
        found = re.search(r":(\d+)", line)
        assert found
        yield f"http://127.0.0.1:{found[1]}"
        assert process.poll() is None, process.stderr and process.stderr.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def status_of(address: str) -> int:
    """Return the status of an answer, once the model is loaded."""
    while True:
        try:
            with DIRECT.open(address) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            if error.code != 503:
                return error.code
            time.sleep(0.1)


def test_the_image_has_all_that_it_runs(served: str, run: Path) -> None:  # noqa: F811
    assert status_of(f"{served}/health/ready") == 200
    examples = json.loads((run / "export/onnx/examples/examples.json").read_text())["examples"]
    body = json.dumps(examples[0]["input"]).encode()
    request = urllib.request.Request(f"{served}/predict", body, {"content-type": "application/json"})
    with DIRECT.open(request) as answer:
        found = json.loads(answer.read())
    assert found["probabilities"]["small"] == pytest.approx(examples[0]["outputs"]["prob"][1], abs=1e-5)


def test_the_image_sees_neither_data_nor_environments() -> None:
    lines = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines, "all is left out that is not named"
    assert {line for line in lines if line.startswith("!")} == {"!src", "!scripts", "!runs/*/*/export/onnx"}
    assert dict(instructions())["USER"] != "root"


def test_the_unit_starts_what_there_is() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    unit.read(FOLDER / "leyden.service", encoding="utf-8")
    _, script, *flags = shlex.split(unit["Service"]["ExecStart"])
    assert (ROOT / script).is_file()
    parsed = tyro.cli(ServeFlags, args=flags)
    assert int(unit["Service"]["TimeoutStopSec"]) > parsed.drain
    assert unit["Service"]["KillSignal"] == "SIGTERM"
    if analyze := shutil.which("systemd-analyze"):
        done = subprocess.run([analyze, "verify", FOLDER / "leyden.service"], capture_output=True, text=True)
        assert "Unknown" not in done.stderr


def test_the_probes_ask_for_what_there_is(served: str) -> None:
    deployment, service = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text(encoding="utf-8"))
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    flags = tyro.cli(ServeFlags, args=["/model", *container["args"]])
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > flags.drain + pause
    port = int(dict(instructions())["EXPOSE"])
    assert [part["containerPort"] for part in container["ports"]] == [port]
    assert service["spec"]["ports"][0]["targetPort"] == port
    for probe in PROBES:
        assert container[probe]["httpGet"]["port"] == port
        assert status_of(served + container[probe]["httpGet"]["path"]) == 200
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    with DIRECT.open(served + annotations["prometheus.io/path"]) as answer:
        assert b"# TYPE" in answer.read()
