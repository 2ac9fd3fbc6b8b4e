# SPDX-License-Identifier: Apache-2.0
"""How entries travel between fronts and workers: one contract (`base`), several channels behind it (`registry`)."""
