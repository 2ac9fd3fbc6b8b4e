# SPDX-License-Identifier: Apache-2.0
"""A virtual environment for each contender under `.bench/venvs`, made and filled by the bench itself.

The versions stand in one table, so that a run can be repeated; what all share (uvicorn, FastAPI, numpy) is the same
version everywhere. An environment is made anew when its list changes, Cubbyhole's whenever the source does.

Owns:  `.bench/venvs/`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".bench"

_STACK = ["uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0"]
_WEB = ["fastapi==0.165.0", "starlette==1.10.0", "pydantic==2.14.3", *_STACK]
_NUMPY = "numpy==2.4.6"

PINS: dict[str, list[str]] = {
    "cubbyhole": [str(ROOT), *_WEB, _NUMPY, "pyzmq==27.3.0"],
    "litserve": ["litserve==0.2.19", *_WEB, _NUMPY, "pyzmq==27.3.0"],
    "mosec": ["mosec==0.9.8", _NUMPY],
    "kserve": ["kserve==0.21.0"],
    # Its worker asks for the current event loop before there is one, which later versions of uvloop refuse: no model would load.
    "mlserver": ["mlserver==1.7.1", "uvloop==0.21.0"],
    "fastapi": [*_WEB, _NUMPY],
    "bare": [*_STACK, _NUMPY],
    "dicts": [
        "UltraDict==0.0.6",
        "atomics==1.0.3",
        "shared-memory-dict==0.7.2",
        "lmdb==3.0.0",
        "diskcache==5.6.3",
        "redis==8.1.0",
        _NUMPY,
    ],
}


def _source_hash() -> str:
    """Hash what Cubbyhole is built from."""
    digest = hashlib.sha256()
    names = ["pyproject.toml", "setup.py"]
    files = [ROOT / name for name in names if (ROOT / name).exists()]
    files += sorted(p for p in (ROOT / "src").rglob("*") if p.suffix in {".py", ".pyx", ".c", ".h"})
    for file in files:
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _wanted(name: str) -> list[str]:
    """Return what an environment must be: versions and declared dependencies, then the source."""
    pins = " ".join(pin for pin in PINS[name] if pin != str(ROOT))
    if name != "cubbyhole":
        return [pins, sys.version, "", ""]
    declared = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return [pins, sys.version, declared, _source_hash()]


def python_of(name: str) -> Path:
    """Return the python of a contender's environment."""
    return HOME / "venvs" / name / "bin" / "python"


def ensure(name: str) -> Path:
    """Make the environment if it is missing or old, and return its python."""
    home, python = HOME / "venvs" / name, python_of(name)
    stamp = home / "bench-stamp.json"
    wanted = _wanted(name)
    there = json.loads(stamp.read_text()) if stamp.exists() else []
    if there == wanted:
        return python
    print(f"bench: making the environment of {name} ...", file=sys.stderr, flush=True)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if there[:3] == wanted[:3]:  # only our source is another
        _install([*pip, "--force-reinstall", "--no-deps", str(ROOT)], name)
    else:
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        if name == "dicts":
            _install_each(pip, PINS[name])
        else:
            _install([*pip, *PINS[name]], name)
    stamp.write_text(json.dumps(wanted))
    return python


def _install(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"bench: pip could not fill the environment of {name}:\n{done.stderr[-3000:]}"
        )


def _install_each(pip: list[str], pins: list[str]) -> None:
    """Fill an environment of peers that need nothing of each other; one that cannot be had is named, the rest goes on."""
    done = subprocess.run([*pip, *pins], capture_output=True, text=True, check=False)
    if not done.returncode:
        return
    for pin in pins:
        done = subprocess.run([*pip, pin], capture_output=True, text=True, check=False)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            print(f"bench: {pin} cannot be installed here: {why}", file=sys.stderr)


def versions(name: str) -> dict[str, str]:
    """Return the packages that are installed for a contender."""
    command = [str(python_of(name)), "-m", "pip", "list", "--format", "json"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {item["name"]: item["version"] for item in json.loads(listed)}
