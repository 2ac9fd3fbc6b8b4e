# SPDX-License-Identifier: Apache-2.0
"""MCP under LitServe's import path. It is kept in specs/mcp.py."""

from __future__ import annotations

from cubbyhole.specs.mcp import MCP, ToolEndpointType
from cubbyhole.specs.schemas import extract_input_schema

__all__ = ["MCP", "ToolEndpointType", "extract_input_schema"]
