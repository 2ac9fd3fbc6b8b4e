# SPDX-License-Identifier: Apache-2.0
"""The model process: claim, decode, predict, encode, publish."""
