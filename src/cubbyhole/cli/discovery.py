# SPDX-License-Identifier: Apache-2.0
"""Find the server in a user's file or module: `FILE.py[:NAME]` or `PACKAGE.MODULE[:NAME]`.

Flow:  serve.py -> load() -> pick() -> a LitServer
Owns:  nothing; puts the file's folder on `sys.path`, where spawned workers find it again.

Workers are spawned and unpickle the user's classes by module and name. So a file is imported under its own name from its own
folder (which the workers inherit on their path), not as `__main__`: `if __name__ == "__main__":` does not run.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubbyhole.core.errors import CubbyholeError

if TYPE_CHECKING:
    from types import ModuleType

    from cubbyhole.server import LitServer


class TargetNotFound(CubbyholeError):
    """What to serve cannot be found, or cannot be told from others."""

    code = "target_not_found"


def load(target: str) -> tuple[ModuleType, str | None]:
    """Import the module that `target` names.

    Returns:
        The module, and NAME if the target has one.

    Raises:
        TargetNotFound: no such file or module, or a file that workers could not import.
    """
    place, _, name = target.partition(":")
    path = Path(place)
    if path.suffix == ".py" or path.is_file():
        module = _load_file(path)
    else:
        sys.path.insert(0, str(Path.cwd()))
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name is None or not (place + ".").startswith(error.name + "."):
                raise  # the module is there, something that it imports is not
            raise TargetNotFound(
                f"There is no file or module {place!r} here ({Path.cwd()}). Give a path that ends in .py, or a module's dotted name."
            ) from error
    return module, name or None


def _load_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise TargetNotFound(
            f"There is no file {path}. Give the path of the Python file with your LitAPI."
        )
    sys.path.insert(0, str(path.parent))
    importlib.invalidate_caches()
    found = None if "." in path.stem else importlib.util.find_spec(path.stem)
    if found is None or found.origin is None or Path(found.origin).resolve() != path:
        other = f" (that name means {found.origin})" if found else ""
        raise TargetNotFound(
            f"Workers cannot import {path.name} as a module called {path.stem!r}{other}. "
            "Rename the file to a name of its own without dots, such as my_server.py."
        )
    return importlib.import_module(path.stem)


def pick(module: ModuleType, name: str | None, **options: Any) -> LitServer:
    """Return the module's server, or build one from its only LitAPI.

    Args:
        module: From `load`.
        name: A LitServer, a LitAPI (class or instance), or a function without arguments that returns a LitServer.
        options: Arguments of `LitServer`, used if it is built here.

    Raises:
        TargetNotFound: none or several to choose from, or options for a server that is built already.
    """
    if name is not None:
        if not hasattr(module, name):
            raise TargetNotFound(f"{module.__name__} has no {name!r}. {_offer(module)}")
        return _as_server(getattr(module, name), f"{module.__name__}:{name}", options)
    for kind in (_servers, _instances, _classes):
        found = kind(module)
        if len(found) > 1:
            names = ", ".join(found)
            raise TargetNotFound(
                f"{module.__name__} has several to choose from: {names}. Say which: cubbyhole serve {_spelled(module)}:{next(iter(found))}"
            )
        if found:
            chosen, value = next(iter(found.items()))
            return _as_server(value, f"{module.__name__}:{chosen}", options)
    raise TargetNotFound(
        f"{module.__name__} has no LitServer and defines no LitAPI. Subclass LitAPI in it, or say which function "
        f"builds the server: cubbyhole serve {_spelled(module)}:make_server"
    )


def _as_server(value: Any, label: str, options: dict[str, Any]) -> LitServer:
    from cubbyhole.api.lit_api import LitAPI
    from cubbyhole.server import LitServer

    if isinstance(value, type) and issubclass(value, LitAPI):
        try:
            value = value()
        except TypeError as error:
            raise TargetNotFound(
                f"{label} cannot be built without arguments ({error}). Put an instance or a LitServer into the module."
            ) from error
    elif callable(value) and not isinstance(value, (LitAPI, LitServer)):
        value = value()
    if isinstance(value, LitAPI):
        return LitServer(value, **options)
    if not isinstance(value, LitServer):
        raise TargetNotFound(
            f"{label} is a {type(value).__name__}, neither a LitServer nor a LitAPI."
        )
    if options:
        names = ", ".join(sorted(options))
        raise TargetNotFound(
            f"{label} is a LitServer that is built already; set {names} where it is built."
        )
    return value


def _servers(module: ModuleType) -> dict[str, Any]:
    from cubbyhole.server import LitServer

    return _unique(
        {name: value for name, value in vars(module).items() if isinstance(value, LitServer)}
    )


def _instances(module: ModuleType) -> dict[str, Any]:
    from cubbyhole.api.lit_api import LitAPI

    return _unique(
        {name: value for name, value in vars(module).items() if isinstance(value, LitAPI)}
    )


def _classes(module: ModuleType) -> dict[str, Any]:
    from cubbyhole.api.lit_api import LitAPI

    own = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, LitAPI)
        and value.__module__ == module.__name__
    }
    bases = {base for value in own.values() for base in value.__mro__[1:]}
    return _unique(
        {name: value for name, value in own.items() if value not in bases}
    )  # a base is not meant


def _unique(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in found.items()
        if value not in [v for n, v in found.items() if n < name]
    }


def _offer(module: ModuleType) -> str:
    names = [*_servers(module), *_instances(module), *_classes(module)]
    return f"It has: {', '.join(names)}." if names else "It has no LitServer and no LitAPI."


def _spelled(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    return Path(file).name if file and "." not in module.__name__ else module.__name__
