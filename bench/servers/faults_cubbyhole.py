# SPDX-License-Identifier: Apache-2.0
"""A server that does what a request asks for, also the worst: Cubbyhole. LitServe's is the same file with another import."""

from __future__ import annotations

import sys

from fault_apis import serve

import cubbyhole as ls

if __name__ == "__main__":
    serve(ls, sys.argv[1], int(sys.argv[2]))
