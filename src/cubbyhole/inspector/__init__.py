# SPDX-License-Identifier: Apache-2.0
"""The inspector: a page in the browser that shows a running server, from a process of its own that only looks."""
