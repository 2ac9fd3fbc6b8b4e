# SPDX-License-Identifier: Apache-2.0
"""Arrays in and out without JSON and without copies between processes.

The annotation `memoryview` asks for the body itself: here a view of shared memory, where the front put what came from the
network. `bytes`, a buffer or a view as the answer is sent as it is.

python examples/raw_arrays.py
python - <<'END'
import numpy as np, urllib.request
image = np.random.default_rng(0).random((512, 512), dtype=np.float32)
request = urllib.request.Request("http://127.0.0.1:8000/normalise", image.tobytes(), {"Content-Type": "application/octet-stream"})
answer = np.frombuffer(urllib.request.urlopen(request).read(), np.float32)
print(answer.mean(), answer.std())
END
"""

import os

import numpy as np
from fastapi import HTTPException

import cubbyhole as ls


class Normalise(ls.LitAPI):
    def decode_request(self, request: memoryview):
        if not request.nbytes or request.nbytes % 4:
            raise HTTPException(
                400, f"{request.nbytes} bytes are no float32 array: send 4 for each."
            )
        return np.frombuffer(request, np.float32)  # 0 copies, read-only

    def predict(self, x):
        # float32, shape (n,): mean 0 and standard deviation 1
        return (x - x.mean()) / max(x.std(), 1e-12)

    def encode_response(self, output):
        return memoryview(output)  # sent as it lies there


if __name__ == "__main__":
    server = ls.LitServer(Normalise(api_path="/normalise"), max_payload_size=256 << 20)
    server.run(port=int(os.environ.get("PORT", "8000")))
