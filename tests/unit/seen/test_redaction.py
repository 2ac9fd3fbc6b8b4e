# SPDX-License-Identifier: Apache-2.0
"""Hooks go by name, and a hook that cannot do its work shows nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.seen import hooks

import cubbyhole as ls
from cubbyhole.seen.payloads import Payload
from cubbyhole.seen.redaction import RedactionFailed, load_hook, redacted, spell_hook

if TYPE_CHECKING:
    from pathlib import Path

NAMED = "tests.unit.seen.hooks:hide_names"


def test_a_function_is_spelled_as_its_module_and_name() -> None:
    name, folder = spell_hook(hooks.hide_names)
    assert name == NAMED
    assert spell_hook(NAMED) == (name, folder)
    assert load_hook(name, folder) is hooks.hide_names
    assert spell_hook(None) == ("", "")


@pytest.mark.parametrize(
    "hook",
    [lambda payload: payload, "no_colon", "__main__:hook", "no.module:hook", "json:nothing", 5],
)
def test_a_hook_that_another_process_could_not_import_is_refused_at_the_start(hook: Any) -> None:
    with pytest.raises(ValueError, match="redact"):
        spell_hook(hook)


def test_a_module_beside_the_server_is_found_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "my_redaction_hooks.py").write_text("def hide(payload):\n    return None\n")
    with pytest.raises(RedactionFailed, match="hides"):
        redacted(Payload(id=1, request=b"x"), "my_redaction_hooks:hide", str(tmp_path))


def test_without_a_hook_a_payload_stays_as_it_is() -> None:
    payload = Payload(id=1, request=b"x")
    assert redacted(payload, "") is payload


@pytest.mark.parametrize("name", ["none", "raises", "wrong", "missing"])
def test_nothing_is_shown_where_the_hook_does_not_give_a_payload(name: str) -> None:
    with pytest.raises(RedactionFailed):
        redacted(Payload(id=1, request=b"x"), f"tests.unit.seen.hooks:{name}")


def test_the_server_takes_the_hook_and_the_page_as_options() -> None:
    server = ls.LitServer(ls.LitAPI(), redact=NAMED, inspector=0, inspector_key="k")
    assert server.settings.redact == NAMED
    assert server.settings.inspector is not None
    assert server.settings.inspector.host == "127.0.0.1"
    assert ls.LitServer(ls.LitAPI()).settings.inspector is None
    with pytest.raises(ValueError, match="without a key"):
        ls.LitServer(ls.LitAPI(), inspector=0, inspector_host="0.0.0.0")
    with pytest.raises(ValueError, match="empty"):
        ls.LitServer(ls.LitAPI(), inspector=0, inspector_key="")
    with pytest.raises(ValueError, match="port"):
        ls.LitServer(ls.LitAPI(), inspector=80)


def test_the_environment_starts_a_page_for_a_server_that_does_not_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUBBYHOLE_INSPECTOR", "8123")
    monkeypatch.setenv("CUBBYHOLE_INSPECTOR_KEY", "key")
    settings = ls.LitServer(ls.LitAPI()).settings.inspector
    assert settings is not None
    assert (settings.port, settings.key) == (8123, "key")
    assert ls.LitServer(ls.LitAPI(), inspector=None).settings.inspector is None
