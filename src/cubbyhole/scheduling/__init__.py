# SPDX-License-Identifier: Apache-2.0
"""Policy without I/O: which entry is claimed first, who is let in, when it is too late."""
