# SPDX-License-Identifier: Apache-2.0
"""What can be seen from outside: log records, metrics, traces, a view of the segment."""
