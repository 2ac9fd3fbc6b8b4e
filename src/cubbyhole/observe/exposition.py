# SPDX-License-Identifier: Apache-2.0
"""Metric families as text: prometheus-client writes the lines once, and later scrapes put other numbers into them.

The library takes some ten microseconds for a line, mostly to check and escape names that are the same each time, and a scrape has
three hundred lines, made in the event loop.

Flow:  metrics.py -> **Exposition.text** -> the answer of `/metrics`
Owns:  the last text of each format, without its numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.metrics_core import Metric

    Names = list[tuple[str, ...]]  # of each sample, and its labels' values


FORMATS_MOST = 4  # whose lines are kept; a client may ask for any version of OpenMetrics


class _Once(Collector):
    """Families that were made, for an encoder that wants a registry."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


class Exposition:
    """Writes a server's families, which have the same samples in most scrapes."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Names, list[str]]] = {}  # by content type

    def text(self, families: Sequence[Metric], accept: str) -> tuple[bytes, str]:
        """Return the text, and its content type.

        Args:
            families: Without time stamps and exemplars.
            accept: As in the header: OpenMetrics where a scraper asks for it, else Prometheus' text format.
        """
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # "version=abc", which the library does not expect
            encode, content_type = choose_encoder("")
        samples = [sample for family in families for sample in family.samples]
        names: Names = [(sample.name, *sample.labels.values()) for sample in samples]
        values = [floatToGoString(sample.value) for sample in samples]  # type: ignore[no-untyped-call]
        known = self._known.get(content_type)
        if known is not None and known[0] == names:
            whole = [word for pair in zip(known[1], values, strict=False) for word in pair]
            return "".join((*whole, known[1][-1])).encode(), content_type
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Once(families))
        text = encode(registry)
        between = text_between(text.decode(), values)
        if between:
            if len(self._known) >= FORMATS_MOST:
                self._known.clear()
            self._known[content_type] = (names, between)
        return text, content_type


def text_between(text: str, values: Sequence[str]) -> list[str]:
    """Return what stands before, between and after the values; empty: they are not what the lines end with, one after another."""
    parts, begin, at = [], 0, 0
    for value in values:
        while text.startswith("#", at):
            at = text.index("\n", at) + 1
        end = text.find("\n", at)
        if end < 0 or text[at:end].rpartition(" ")[2] != value:
            return []
        parts.append(text[begin : end - len(value)])
        begin, at = end, end + 1
    return [*parts, text[begin:]]
