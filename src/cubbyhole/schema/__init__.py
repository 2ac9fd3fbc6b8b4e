# SPDX-License-Identifier: Apache-2.0
"""Ready-made request and response types. They need pillow, so each module is imported by itself."""
