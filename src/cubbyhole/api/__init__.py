# SPDX-License-Identifier: Apache-2.0
"""What users subclass: `LitAPI` and `Callback`."""
