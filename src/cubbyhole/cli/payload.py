# SPDX-License-Identifier: Apache-2.0
"""What a request carries, in a terminal: for `cubbyhole inspect ID --payload`.

Flow:  AttachedServer.payload -> the server's redaction hook -> seen/contents.py -> **payload_parts** -> **print_parts**
Owns:  nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cubbyhole.seen.contents import describe_payload
from cubbyhole.seen.redaction import redacted

if TYPE_CHECKING:
    from cubbyhole.seen.attached import AttachedServer
    from cubbyhole.seen.contents import Content


def payload_parts(
    attached: AttachedServer, request_id: int, *, statistics: bool = False
) -> dict[str, Content]:
    """Return what an entry holds, by "request" and "result"; empty: nothing (any more).

    Raises:
        RedactionFailed: the server's hook hides it.
    """
    payload = attached.payload(request_id)
    if payload is None:
        return {}
    about = attached.description
    shown = redacted(payload, about.redact, about.redact_folder)
    return describe_payload(shown, statistics=statistics)


def print_parts(parts: dict[str, Content]) -> None:
    """Print them."""
    if not parts:
        typer.echo("\npayload: gone; an entry holds it only while the request is under way")
    for name, content in parts.items():
        typer.echo(f"\n{name}: {content.content_type}, {content.size_bytes:,} bytes")
        for tensor in content.tensors:
            numbers = (tensor.least, tensor.most, tensor.mean)
            shown = "" if tensor.mean is None else "  least {}  most {}  mean {}".format(*numbers)
            typer.echo(f"{tensor.name or 'array'}  {tensor.dtype}  {list(tensor.shape)}{shown}")
        if content.kind == "image":
            typer.echo("an image: the inspector's page shows it")
        if content.text:
            typer.echo(content.text)
        if content.cut:
            typer.echo("... and more")
