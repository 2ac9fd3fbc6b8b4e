# SPDX-License-Identifier: Apache-2.0
"""TLS from the environment: LIGHTNING_CERT_PEM and LIGHTNING_KEY_FILE, both base64 of PEM.

uvicorn wants paths. Where the system has anonymous files the key gets one, and so never reaches a disk.
"""

from __future__ import annotations

import base64
import os
import tempfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def _path_of(name: str, content: bytes) -> str:
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
        path = f"/proc/self/fd/{fd}"  # fronts are forked, so the number is theirs, too
    else:
        fd, path = tempfile.mkstemp(prefix=name)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    return path


def options_from_environment(
    options: dict[str, Any], environ: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Return uvicorn's options with the certificate of the environment, unless they name one.

    Raises:
        ValueError: a variable is not base64.
    """
    certificate, key = environ.get("LIGHTNING_CERT_PEM"), environ.get("LIGHTNING_KEY_FILE")
    if not certificate or not key or "ssl_certfile" in options or "ssl_keyfile" in options:
        return options
    return {
        **options,
        "ssl_certfile": _path_of("cubbyhole-cert", base64.b64decode(certificate)),
        "ssl_keyfile": _path_of("cubbyhole-key", base64.b64decode(key)),
    }
