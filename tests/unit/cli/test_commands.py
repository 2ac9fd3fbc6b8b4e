# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from cubbyhole.cli import doctor
from cubbyhole.cli.main import COMMANDS, build

if TYPE_CHECKING:
    from pathlib import Path


def invoke(*words: str) -> Any:
    return CliRunner().invoke(build(), list(words))


def test_help_shows_every_command() -> None:
    shown = invoke("--help").output
    for name in ("serve", "doctor", "demo"):
        assert name in COMMANDS
        assert name in shown


def test_each_command_explains_itself_with_an_example() -> None:
    assert "cubbyhole serve server.py:MyAPI --workers 4" in invoke("serve", "--help").output
    assert "cubbyhole doctor --json" in invoke("doctor", "--help").output


def test_without_a_command_it_helps() -> None:
    result = invoke()
    assert result.exit_code == 2
    assert "Usage" in result.output


def test_serving_nothing_helps() -> None:
    assert "FILE_OR_MODULE" in invoke("serve").output


def test_a_missing_file_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    result = invoke("serve", str(tmp_path / "none.py"))
    assert result.exit_code == 1
    assert "There is no file" in result.output
    assert "Traceback" not in result.output


def test_doctor_as_json_lists_checks_with_their_verdicts() -> None:
    result = invoke("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(result.stdout)}
    assert {"python", "fastapi", "native core", "memfd", "memory", "cores", "devices"} <= set(
        checks
    )
    assert {check["verdict"] for check in checks.values()} <= {"ok", "warning", "missing"}
    assert all(check["advice"] for check in checks.values() if check["verdict"] != "ok")


def test_doctor_says_in_words_that_all_is_there() -> None:
    result = invoke("doctor")
    assert result.exit_code == 0
    assert "Ready to serve." in result.output


def test_a_missing_package_is_told_and_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "msgspec":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "pip install msgspec" in result.output
    assert "Needed and missing: msgspec." in result.output


def test_a_channel_that_does_not_work_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server runs without it, over sockets."""
    from cubbyhole.channels import registry
    from cubbyhole.core.errors import NativeCoreMissing

    def create(*_: object) -> None:
        raise NativeCoreMissing("no compiler was here")

    monkeypatch.setattr(registry, "create_channel", create)
    (check,) = doctor.check_channel()
    assert (check.verdict, check.found) == ("warning", "no compiler was here")
    assert "sockets" in check.advice


@pytest.mark.parametrize(
    ("file", "text", "limit"),
    [
        ("memory.max", "max\n", None),
        ("memory.max", "536870912\n", 536870912),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),
        ("memory/memory.limit_in_bytes", "1048576\n", 1048576),
    ],
)
def test_a_containers_memory_limit_is_read(
    tmp_path: Path, file: str, text: str, limit: int | None
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert doctor.memory_limit_bytes(tmp_path) == limit


def test_few_descriptors_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 4096))
    (check,) = doctor.check_descriptors()
    assert check.verdict == "warning"
    assert "ulimit -n" in check.advice
