# SPDX-License-Identifier: Apache-2.0
"""Ask a Triton server for digits by HTTP; written as for any Triton. See examples/triton_digits.py.

python examples/clients/triton_http.py -u localhost:8000
"""

import argparse
import sys

import numpy as np
import tritonclient.http as httpclient
from sklearn.datasets import load_digits
from tritonclient.utils import InferenceServerException

parser = argparse.ArgumentParser()
parser.add_argument(
    "-u", "--url", default="localhost:8000", help="host:port (default: %(default)s)"
)
parser.add_argument("-m", "--model", default="digits")
parser.add_argument("-v", "--verbose", action="store_true")
flags = parser.parse_args()

client = httpclient.InferenceServerClient(url=flags.url, verbose=flags.verbose)
if not (
    client.is_server_live() and client.is_server_ready() and client.is_model_ready(flags.model)
):
    sys.exit(f"{flags.model} at {flags.url} is not ready")
print("inputs:", client.get_model_metadata(flags.model)["inputs"])

images, labels = load_digits(return_X_y=True)
pixels = images[:8].astype(np.float32)

inputs = [httpclient.InferInput("pixels", list(pixels.shape), "FP32")]
inputs[0].set_data_from_numpy(pixels, binary_data=True)
outputs = [
    httpclient.InferRequestedOutput("digit", binary_data=True),
    httpclient.InferRequestedOutput("scores", binary_data=False),
]
result = client.infer(flags.model, inputs, outputs=outputs, request_id="1")
digits = result.as_numpy("digit").ravel()
print("digits:", *digits)
print("labels:", *labels[:8])
print("best scores:", *result.as_numpy("scores").max(axis=1).round(1))

# Four requests at once, on the client's own threads.
pending = [client.async_infer(flags.model, inputs, outputs=outputs[:1]) for _ in range(4)]
same = [(one.get_result().as_numpy("digit").ravel() == digits).all() for one in pending]
print("four at once, the same answer:", all(same))

wrong = httpclient.InferInput("pixels", [1, 3], "FP32")
wrong.set_data_from_numpy(np.zeros((1, 3), np.float32))
try:
    client.infer(flags.model, [wrong])
except InferenceServerException as error:
    print("refused:", error.message())
