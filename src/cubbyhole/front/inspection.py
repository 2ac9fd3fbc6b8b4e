# SPDX-License-Identifier: Apache-2.0
"""Options of `LitServer` for the inspector's page, and for what payloads pass before they are shown.

Flow:  LitServer(**options) -> **inspection_settings** -> `ServerSettings.inspector`, `redact`
Owns:  nothing.
See:   docs/guide/inspector.md

`CUBBYHOLE_INSPECTOR` (a port) and `CUBBYHOLE_INSPECTOR_KEY` do the same from outside, so that who runs a server need not touch its
code; `cubbyhole serve --inspector` sets the first. What the code says wins.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypedDict

from cubbyhole.core.settings import InspectorSettings
from cubbyhole.front.options import check_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PORT_VARIABLE = "CUBBYHOLE_INSPECTOR"
KEY_VARIABLE = "CUBBYHOLE_INSPECTOR_KEY"


class InspectionOptions(TypedDict, total=False):
    """Each may be left out.

    Attributes:
        inspector: Port of a page that shows the running server, in a process of its own; 0 takes a free one. None: no page.
        inspector_host: Address of that port; another than this machine's own loopback only with a key.
        inspector_key: What viewers of the page must give.
        inspector_payloads: Whether the page shows what requests carry.
        redact: What payloads pass before anything shows them (the page, `cubbyhole inspect --payload`): a function of a module, or
            its name "package.module:function". It gets a `cubbyhole.seen.payloads.Payload` and returns one, or None to hide it.
    """

    inspector: int | None
    inspector_host: str
    inspector_key: str | None
    inspector_payloads: bool
    redact: str | Callable[[Any], Any] | None


def inspection_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check the options and return the fields of `ServerSettings` that they stand for.

    Raises:
        ValueError: a port out of range, an address of others without a key, an empty key, a hook that cannot be imported.
    """
    from cubbyhole.seen.redaction import spell_hook

    name, folder = spell_hook(options.get("redact"))
    return {
        "inspector": _inspector(options),
        "redact": name,
        "redact_folder": folder,
    }


def _inspector(options: Mapping[str, Any]) -> InspectorSettings | None:
    port = options.get("inspector", os.environ.get(PORT_VARIABLE) or None)
    if port is None:
        return None
    from cubbyhole.seen.reach import check_key

    host = options.get("inspector_host", "127.0.0.1")
    key = options.get("inspector_key", os.environ.get(KEY_VARIABLE))
    check_key(host, key)
    return InspectorSettings(
        port=check_port(port),
        host=host,
        key=key,
        payloads=bool(options.get("inspector_payloads", False)),
    )
