# SPDX-License-Identifier: Apache-2.0
"""Who can come by at an address, and whether a page that shows a server may be there.

Flow:  front/inspection.py, cli/inspector.py, inspector/guard.py -> **check_key**, **is_loopback**
Owns:  nothing.
"""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether an address or name reaches this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_key(host: str | None, key: str | None) -> None:
    """Refuse to listen where strangers come by without a key, and a key that guards nothing.

    Args:
        host: Address to listen on; None: a Unix socket, which has permissions.
        key: What was given; None: none.

    Raises:
        ValueError: the inspector must not start so.
    """
    if key is not None and not key.strip():
        raise ValueError(
            "The inspector's key is empty. Give it a value, or leave it out to serve without one on 127.0.0.1."
        )
    if host is not None and key is None and not is_loopback(host):
        raise ValueError(
            f"The inspector would listen on {host}, where others than this machine come by, without a key. "
            "Give it one (CUBBYHOLE_INSPECTOR_KEY, --key or inspector_key=), or keep to 127.0.0.1 and use `ssh -L`."
        )
