# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from cubbyhole.supervise.devices import (
    choose_accelerator,
    count_cuda_devices,
    cpu_quota,
    device_identifiers,
    list_devices,
    usable_cores,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        "#!/bin/sh\necho 'GPU 0: A (UUID: x)'\necho '  MIG 1g.10gb'\necho 'GPU 1: B (UUID: y)'\n"
    )
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    fake = SimpleNamespace(backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: True)))
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.mark.usefixtures("two_gpus", "no_torch")
def test_auto_takes_a_gpu_only_for_torch() -> None:
    assert choose_accelerator("auto") == "cpu"
    assert choose_accelerator("gpu") == "cuda"


@pytest.mark.usefixtures("two_gpus", "torch")
def test_auto_takes_cuda_when_torch_is_there() -> None:
    assert choose_accelerator("auto") == "cuda"
    assert choose_accelerator(None) == "cuda"
    assert choose_accelerator("CPU") == "cpu"


@pytest.mark.usefixtures("no_gpu", "torch")
def test_mps_is_for_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert choose_accelerator("auto") == "mps"
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert choose_accelerator("auto") == "cpu"


@pytest.mark.usefixtures("no_gpu")
def test_gpu_without_cuda_means_mps() -> None:
    assert choose_accelerator("gpu") == "mps"


@pytest.mark.parametrize("name", ["tpu", "cuda:0", "", 7])
def test_an_unknown_accelerator_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match=f"accelerator must be one of .* Found: {name}"):
        choose_accelerator(name)


@pytest.mark.parametrize(
    ("accelerator", "devices", "expected"),
    [
        ("cpu", "auto", ["cpu"]),
        ("cpu", 4, ["cpu"]),
        ("cpu", [1, 2], ["cpu"]),
        ("cuda", 2, [["cuda:0"], ["cuda:1"]]),
        ("cuda", [1, 2], [["cuda:1"], ["cuda:2"]]),
        ("cuda", "auto", [["cuda:0"], ["cuda:1"]]),
        ("mps", "auto", [["mps:0"]]),
        ("mps", 1, [["mps:0"]]),
    ],
)
@pytest.mark.usefixtures("two_gpus")
def test_devices(accelerator: str, devices: Any, expected: Any) -> None:
    assert list_devices(accelerator, devices) == expected


@pytest.mark.parametrize("devices", ["2", 1.5, None, True])
def test_devices_of_another_type_are_refused(devices: Any) -> None:
    with pytest.raises(
        ValueError, match="devices must be an integer or a list of integers when using"
    ):
        list_devices("cuda", devices)


def test_device_identifiers() -> None:
    assert device_identifiers("cpu", [1, 2]) == ["cpu:1", "cpu:2"]
    assert device_identifiers("cuda", 2) == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize(
    ("visible", "count"),
    [("0", 1), ("0,1", 2), ("1,0", 2), ("", 0), ("-1", 0), ("0,7", 1), ("GPU-x", 1)],
)
@pytest.mark.usefixtures("two_gpus")
def test_hidden_gpus_are_not_counted(visible: str, count: int) -> None:
    assert count_cuda_devices({"CUDA_VISIBLE_DEVICES": visible}) == count


@pytest.mark.usefixtures("two_gpus")
def test_mig_instances_are_not_gpus() -> None:
    assert count_cuda_devices({}) == 2


def test_a_containers_quota_limits_the_cores(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cpu_quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert cpu_quota(tmp_path) == 0.5
    assert usable_cores(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("10000000 100000\n")
    assert usable_cores(tmp_path) <= (os.cpu_count() or 1)
