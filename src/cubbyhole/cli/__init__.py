# SPDX-License-Identifier: Apache-2.0
"""The command line. It prints and sets exit codes; nothing below it does."""
