# SPDX-License-Identifier: Apache-2.0
"""Names of formats, their media types, and which of them a header asks for.

Owns:  the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

JSON, FORM, RAW = "json", "form", "raw"
NPY, SAFETENSORS, MSGPACK, ARROW = "npy", "safetensors", "msgpack", "arrow"
IMAGE = "image"

# The first is what we send; all of them are understood.
MEDIA_TYPES: dict[str, tuple[str, ...]] = {
    JSON: ("application/json",),
    FORM: ("multipart/form-data", "application/x-www-form-urlencoded"),
    RAW: ("application/octet-stream",),
    NPY: ("application/x-npy",),
    SAFETENSORS: ("application/x-safetensors", "application/vnd.safetensors"),
    MSGPACK: ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack"),
    ARROW: ("application/vnd.apache.arrow.stream",),
    IMAGE: ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/tiff"),
}
_FORMATS = {media: name for name, medias in MEDIA_TYPES.items() for media in medias}
BODY_FORMATS = frozenset(MEDIA_TYPES)
ANSWER_FORMATS = BODY_FORMATS - {FORM, IMAGE}
_LONGEST_ACCEPT = 64  # parts of an Accept header that are looked at


def media_type(name: str) -> str:
    """Return the media type in which a format is sent."""
    return MEDIA_TYPES[name][0]


def bare(content_type: str) -> str:
    """Return a content type in lower case, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def format_of(content_type: str) -> str | None:
    """Return the format of a content type; none at all is JSON, as LitServe takes it. None: not one of ours."""
    return _FORMATS.get(bare(content_type)) if content_type else JSON


def check_formats(name: str, formats: Sequence[str], known: frozenset[str]) -> tuple[str, ...]:
    """Return what an API declares.

    Raises:
        ValueError: it names a format that there is not, or none.
    """
    wrong = [one for one in formats if one not in known]
    if wrong or not formats or isinstance(formats, str):
        raise ValueError(
            f"{name} is {formats!r}. Give a tuple of one or more of: {', '.join(sorted(known))}."
        )
    return tuple(formats)


def choose_format(accept: str, allowed: Sequence[str]) -> str | None:
    """Return the format that a client likes best among those that an API allows; the API's first where it has no wish.

    Args:
        accept: The Accept header (RFC 9110, 12.5.1); empty: anything.
        allowed: Names, the API's favourite first.

    Returns:
        None where the header excludes all of them: 406.
    """
    if not accept.strip():
        return allowed[0]
    qualities = _qualities(accept)
    best, best_quality = None, 0.0
    for name in allowed:
        quality = max(_quality_of(media, qualities) for media in MEDIA_TYPES[name])
        if quality > best_quality:
            best, best_quality = name, quality
    return best


def _qualities(accept: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in accept.split(",")[:_LONGEST_ACCEPT]:
        media, *parameters = part.split(";")
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                try:
                    quality = min(max(float(value), 0.0), 1.0)
                except ValueError:
                    quality = 0.0
        found[media.strip().lower()] = quality
    return found


def _quality_of(media: str, qualities: dict[str, float]) -> float:
    kind = media.partition("/")[0]
    for pattern in (media, f"{kind}/*", "*/*"):  # the most specific one counts
        if pattern in qualities:
            return qualities[pattern]
    return 0.0
