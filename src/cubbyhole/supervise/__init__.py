# SPDX-License-Identifier: Apache-2.0
"""The supervisor: starts processes, watches them, reclaims what the dead held, drains. No HTTP, no model."""
