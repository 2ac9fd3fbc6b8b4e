# SPDX-License-Identifier: Apache-2.0
"""HTTP: the app, its lanes, and the process that serves them. The front moves bytes and parses no body."""
