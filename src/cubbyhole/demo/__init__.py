# SPDX-License-Identifier: Apache-2.0
"""`cubbyhole demo`: a real model, real images, and a look at what every request did in shared memory.

Flow:  cli/demo.py -> show.py (terminal) + serving.py (LitServer, routes) -> reader.py (the model, in the worker)
Owns:  assets/: the page and three images with known text (samples.py); draw.py is what drew them.
See:   README.md
"""
