# SPDX-License-Identifier: Apache-2.0
"""The user's hook that takes out of a payload what nobody may see, applied wherever payloads are shown.

The viewer is another process than the server, so the hook goes by name: `LitServer(redact="package.module:function")` writes name and
folder into the server's description, and the viewer, a process of the same user, imports it. If it cannot be had, or raises, nothing
is shown: a hook that fails must not show what it was to hide.

Flow:  front/visibility.py -> **spell_hook** -> ServerDescription.redact;  viewer -> **load_hook** -> **redacted**
Owns:  nothing.
"""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cubbyhole.core.errors import CubbyholeError
from cubbyhole.seen.payloads import Payload

if TYPE_CHECKING:
    from collections.abc import Callable

    Hook: TypeAlias = "Callable[[Payload], Payload | None]"

logger = logging.getLogger(__name__)


class RedactionFailed(CubbyholeError):
    """The hook of `LitServer(redact=...)` cannot be imported, or did not do its work; so nothing is shown."""

    code = "redaction_failed"


def load_hook(name: str, folder: str = "") -> Hook:
    """Import a hook.

    Args:
        name: "package.module:function", also "module:Class.method".
        folder: Where its top-level module lies; looked at last.

    Raises:
        RedactionFailed: there is no such function.
    """
    module_name, _, path = name.partition(":")
    if folder and folder not in sys.path:
        sys.path.append(folder)
    try:
        found: Any = importlib.import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # user code: whatever its import raises
        raise RedactionFailed(
            f"Payloads stay hidden: the server's hook redact={name!r} cannot be imported here ({type(error).__name__}: {error})."
        ) from error
    if not callable(found):
        raise RedactionFailed(f"Payloads stay hidden: redact={name!r} is no function.")
    hook: Hook = found
    return hook


def redacted(payload: Payload, name: str, folder: str = "") -> Payload:
    """Return the payload as it may be shown; without a hook (`name` empty) as it is.

    Raises:
        RedactionFailed: the hook cannot be had, raised, hides all of it (None), or gave something else.
    """
    if not name:
        return payload
    hook = load_hook(name, folder)
    try:
        shown = hook(payload)
    except Exception as error:  # user code
        logger.exception("redaction failed: hook=%s request=%d", name, payload.id)
        raise RedactionFailed(
            f"Payloads stay hidden: redact={name!r} raised {type(error).__name__}; the viewer's log has its traceback."
        ) from error
    if shown is None:
        raise RedactionFailed(f"redact={name!r} hides this payload.")
    if not isinstance(shown, Payload):
        raise RedactionFailed(
            f"Payloads stay hidden: redact={name!r} returned {type(shown).__name__}; it must return a Payload or None."
        )
    return shown


def spell_hook(hook: Any) -> tuple[str, str]:
    """Return (name, folder) of a hook that is given by name or as the function itself; two empty texts for None.

    Raises:
        ValueError: another process could not import it.
    """
    if hook is None:
        return "", ""
    own_name = f"{getattr(hook, '__module__', '')}:{getattr(hook, '__qualname__', '')}"
    name = hook if isinstance(hook, str) else own_name
    module_name, _, path = name.partition(":")
    if not module_name or not path or module_name == "__main__" or "<" in path:
        raise ValueError(
            f'redact must be "package.module:function" or a function of a module, but got {hook!r}. '
            "The process that shows payloads imports it, so it cannot be in the main script or inside a function."
        )
    try:
        load_hook(name)
    except RedactionFailed as error:
        raise ValueError(
            f"redact={hook!r} cannot be imported: {error.__cause__ or error}"
        ) from error
    file = getattr(sys.modules[module_name.partition(".")[0]], "__file__", None)
    path_of = Path(file).resolve() if file else None
    if path_of is None:
        return name, ""
    return name, str(path_of.parent.parent if path_of.name == "__init__.py" else path_of.parent)
