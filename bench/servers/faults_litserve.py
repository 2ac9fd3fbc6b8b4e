# SPDX-License-Identifier: Apache-2.0
"""A server that does what a request asks for, also the worst: LitServe."""

from __future__ import annotations

import sys

import litserve as ls
from fault_apis import serve

if __name__ == "__main__":
    serve(ls, sys.argv[1], int(sys.argv[2]))
