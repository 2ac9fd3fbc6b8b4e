# SPDX-License-Identifier: Apache-2.0
"""`Client` and `AsyncClient`: ask a server from Python, with arrays as arrays. Needs httpx (`pip install 'cubbyhole[client]'`).

    client = cubbyhole.Client("http://127.0.0.1:8000")
    client.predict(np.zeros((4, 224), "float32"))       # sent as npy, its answer is an array where the API allows it
    for chunk in client.stream({"prompt": "hello"}): ...

Flow:  value -> messages.py (body, headers) -> httpx -> messages.py (answer, error) -> value;  retrying.py: whether again, and when
Owns:  an httpx client, and with it its connections.
See:   docs/guide/clients.md; local.py for clients on the same machine, which need neither HTTP nor httpx
"""

from __future__ import annotations

from cubbyhole.client.asynchronous import AsyncClient as AsyncClient
from cubbyhole.client.blocking import Client as Client
from cubbyhole.client.local import LocalClient as LocalClient

__all__ = ["AsyncClient", "Client", "LocalClient"]
