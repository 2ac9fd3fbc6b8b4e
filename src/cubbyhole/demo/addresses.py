# SPDX-License-Identifier: Apache-2.0
"""The paths of the demo's server, which the server, its client and its page agree on."""

READ_PATH = "/read"
SEGMENT_PATH = "/demo/segment"
SAMPLES_PATH = "/demo/samples"
