# SPDX-License-Identifier: Apache-2.0
"""Ask a Triton server for digits by gRPC, also as a stream; written as for any Triton. See examples/triton_digits.py.

python examples/clients/triton_grpc.py -u localhost:8001
"""

import argparse
import queue
import sys

import numpy as np
import tritonclient.grpc as grpcclient
from sklearn.datasets import load_digits

parser = argparse.ArgumentParser()
parser.add_argument(
    "-u", "--url", default="localhost:8001", help="host:port (default: %(default)s)"
)
parser.add_argument("-m", "--model", default="digits")
flags = parser.parse_args()

client = grpcclient.InferenceServerClient(url=flags.url)
if not (client.is_server_live() and client.is_model_ready(flags.model)):
    sys.exit(f"{flags.model} at {flags.url} is not ready")

images, labels = load_digits(return_X_y=True)


def batch(start, size):
    pixels = images[start : start + size].astype(np.float32)
    tensor = grpcclient.InferInput("pixels", list(pixels.shape), "FP32")
    tensor.set_data_from_numpy(pixels)
    return [tensor]


result = client.infer(flags.model, batch(0, 8), client_timeout=10)
print("digits:", *result.as_numpy("digit").ravel())
print("labels:", *labels[:8])

answers: queue.Queue = queue.Queue()
client.start_stream(callback=lambda result, error: answers.put((result, error)))
for start in range(0, 200, 50):
    client.async_stream_infer(flags.model, batch(start, 50), request_id=str(start))
right = 0
for start in range(0, 200, 50):
    result, error = answers.get(timeout=10)
    if error is not None:
        sys.exit(f"request {start} failed: {error}")
    right += int((result.as_numpy("digit").ravel() == labels[start : start + 50]).sum())
client.stop_stream()
print(f"stream: {right} of 200 right")
