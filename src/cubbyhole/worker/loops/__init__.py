# SPDX-License-Identifier: Apache-2.0
"""The loops: how a worker takes entries and in which order it works on them."""
