# SPDX-License-Identifier: Apache-2.0
"""A running server as it is seen from outside, read-only: what the command line and the inspector's page both show."""
