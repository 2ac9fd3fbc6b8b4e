# SPDX-License-Identifier: Apache-2.0
"""`client.py`: a request to try a server with, written on demand."""

from __future__ import annotations

from pathlib import Path

CLIENT_FILE = """# A request to try the server with. Written by `LitServer.generate_client_file`, and kept if it exists.

import requests

response = requests.post("http://127.0.0.1:{port}/predict", json={{"input": 4.0}})
print(f"Status: {{response.status_code}}\\nResponse:\\n {{response.text}}")
"""


def write_client_file(port: str | int) -> None:
    """Write `client.py` into the current folder, unless there is one."""
    path = Path("client.py")
    if not path.exists():
        path.write_text(CLIENT_FILE.format(port=port), encoding="utf-8")
