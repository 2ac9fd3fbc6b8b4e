# SPDX-License-Identifier: Apache-2.0
"""Accelerators and devices under LitServe's import path. They are kept in supervise/devices.py."""

from __future__ import annotations

from cubbyhole.supervise.devices import choose_accelerator, device_identifiers, list_devices

__all__ = ["choose_accelerator", "device_identifiers", "list_devices"]
