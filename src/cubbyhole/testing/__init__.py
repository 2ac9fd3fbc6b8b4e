# SPDX-License-Identifier: Apache-2.0
"""For tests of code that uses or extends Cubbyhole."""
