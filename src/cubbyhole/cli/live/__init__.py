# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole top` as a screen to work with (Textual). `reading.py` knows the server, the rest knows the screen."""
