# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from cubbyhole.cli.discovery import TargetNotFound, load, pick
from cubbyhole.server import LitServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cubbyhole.server import LitServer as Server

HEAD = "import cubbyhole as ls\n"
FIRST = "class First(ls.LitAPI):\n    def predict(self, x):\n        return x\n"
SECOND = FIRST.replace("First", "Second")


@pytest.fixture
def find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """`find(source, name)`: write a file, load it and pick from it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def build(source: str, name: str = "", **options: object) -> Server:
        file = tmp_path / "found_by_test.py"
        file.write_text(HEAD + source)
        module, chosen = load(f"{file}:{name}" if name else str(file))
        return pick(module, chosen, **options)

    yield build
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_server_at_module_level_is_taken(find: Callable[..., Server]) -> None:
    server = find(
        FIRST + SECOND + "app = ls.LitServer(Second(api_path='/two'), accelerator='cpu')\n"
    )
    assert isinstance(server, LitServer)
    assert server.settings.endpoints[0].path == "/two"


def test_the_only_api_of_a_file_is_served(find: Callable[..., Server]) -> None:
    server = find(FIRST, workers_per_device=3)
    assert type(server.lit_api).__name__ == "First"
    assert server.settings.workers_total == 3


def test_a_base_class_is_not_meant(find: Callable[..., Server]) -> None:
    server = find(FIRST + "class Real(First):\n    pass\n")
    assert type(server.lit_api).__name__ == "Real"


def test_an_imported_api_is_not_meant(find: Callable[..., Server]) -> None:
    server = find("from cubbyhole.test_examples import SimpleLitAPI\n" + FIRST)
    assert type(server.lit_api).__name__ == "First"


def test_main_does_not_run(find: Callable[..., Server]) -> None:
    find(FIRST + "if __name__ == '__main__':\n    raise SystemExit('it ran')\n")


def test_classes_are_known_by_a_name_that_workers_can_import(find: Callable[..., Server]) -> None:
    assert type(find(FIRST).lit_api).__module__ == "found_by_test"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("Second", FIRST + SECOND),
        ("it", FIRST + SECOND + "it = Second()\n"),
        (
            "build",
            FIRST + SECOND + "def build():\n    return ls.LitServer(Second(), accelerator='cpu')\n",
        ),
        ("build", FIRST + SECOND + "def build():\n    return Second()\n"),
    ],
)
def test_a_name_chooses(find: Callable[..., Server], name: str, source: str) -> None:
    assert type(find(source, name).lit_api).__name__ == "Second"


@pytest.mark.parametrize(
    ("source", "name", "text"),
    [
        (
            FIRST + SECOND,
            "",
            "several to choose from: First, Second. Say which: cubbyhole serve found_by_test.py:First",
        ),
        ("", "", "has no LitServer and defines no LitAPI"),
        (FIRST, "Other", "has no 'Other'. It has: First."),
        ("x = 3\n", "x", "is a int, neither a LitServer nor a LitAPI"),
        (
            "class Needs(ls.LitAPI):\n    def __init__(self, path):\n        super().__init__()\n",
            "",
            "cannot be built without arguments",
        ),
    ],
)
def test_what_cannot_be_told_is_refused_with_what_to_do(
    find: Callable[..., Server], source: str, name: str, text: str
) -> None:
    with pytest.raises(TargetNotFound) as caught:
        find(source, name)
    assert text in str(caught.value)


def test_options_for_a_server_that_is_built_are_refused(find: Callable[..., Server]) -> None:
    with pytest.raises(
        TargetNotFound, match="built already; set workers_per_device where it is built"
    ):
        find(FIRST + "app = ls.LitServer(First(), accelerator='cpu')\n", workers_per_device=2)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(TargetNotFound, match=r"There is no file .*nothing\.py"):
        load(str(tmp_path / "nothing.py"))
    with pytest.raises(TargetNotFound, match="There is no file or module 'no_such_module_here'"):
        load("no_such_module_here:app")


@pytest.mark.parametrize("name", ["my.server.py", "json.py"])
def test_a_file_that_workers_could_not_import_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / name).write_text(HEAD + FIRST)
    with pytest.raises(TargetNotFound, match="Rename the file to a name of its own"):
        load(str(tmp_path / name))


def test_an_error_inside_the_users_module_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "needs_something.py").write_text("import no_such_library_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library_at_all"):
        load("needs_something")


def test_a_file_need_not_have_a_python_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my-server-3.py").write_text(HEAD + FIRST)
    module, _ = load(str(tmp_path / "my-server-3.py"))
    del sys.modules["my-server-3"]
    assert type(pick(module, None).lit_api).__module__ == "my-server-3"
