# SPDX-License-Identifier: Apache-2.0
"""The native core: C11 atomics in `cbh_*.[ch]`, thin Cython bindings. Only `channels.shm` and `dictionary` import it.

`_lines` is none of it, but compiled as well: lines of the access log, for `observe.notes`.
"""
