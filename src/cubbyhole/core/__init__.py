# SPDX-License-Identifier: Apache-2.0
"""Words that all layers share: entries, errors, settings, clock, ids. No I/O."""
