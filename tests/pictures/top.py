# SPDX-License-Identifier: Apache-2.0
"""Make docs/top.svg, the screen of `cubbyhole top`: `just pictures`, or

    PYTHONPATH=src python -m tests.pictures.top [SECONDS] [FOLDER]

The same server and load as for the inspector's pictures; one worker is stopped at the end, so that something is stuck.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

from tests.pictures.inspector import DOCS, SECONDS, STOPPED_WORKER, STUDIO, load

from cubbyhole.cli.live.app import TopApp
from cubbyhole.seen.attached import AttachedServer, attach
from cubbyhole.testing.serving import serving

FONT = re.compile(r"@font-face \{.*?\}", re.DOTALL)
SIZE = (150, 36)
STUCK_S = 4.0


async def take_pictures(seen: AttachedServer, seconds: float, folder: Path) -> None:
    """Look for a while, then keep what is on the screen."""
    app = TopApp(seen, 1.0)
    worker = seen.roster.pid(seen.roster.worker_cell(STOPPED_WORKER))
    async with app.run_test(size=SIZE):
        await asyncio.sleep(seconds)
        os.kill(worker, signal.SIGSTOP)
        try:
            await asyncio.sleep(STUCK_S)
            drawn = app.export_screenshot(title="cubbyhole top")
            # Without its fonts, which would be loaded from elsewhere: any of one width does.
            (folder / "top.svg").write_text(FONT.sub("", drawn))
        finally:
            os.kill(worker, signal.SIGCONT)


def main(seconds: float = SECONDS, folder: Path = DOCS) -> None:
    with serving(f"{STUDIO}:make_server") as server, attach(server.pid) as seen, load(server.url):
        asyncio.run(take_pictures(seen, seconds, folder))


if __name__ == "__main__":
    main(
        float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS,
        Path(sys.argv[2]) if len(sys.argv) > 2 else DOCS,
    )
