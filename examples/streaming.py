# SPDX-License-Identifier: Apache-2.0
"""An answer that comes piece by piece: prime numbers, one line of JSON for each, as they are found.

python examples/streaming.py
curl -N http://127.0.0.1:8000/primes -H "Content-Type: application/json" -d '{"how_many": 10}'
"""

import os

from fastapi import HTTPException

import cubbyhole as ls


class Primes(ls.LitAPI):
    def decode_request(self, request):
        how_many = request["how_many"]
        if not 0 < how_many <= 10_000:
            raise HTTPException(422, f"how_many is {how_many}, but 1 to 10,000 are allowed.")
        return how_many

    def predict(self, how_many):
        found = []
        candidate = 2
        while len(found) < how_many:
            if all(candidate % prime for prime in found):
                found.append(candidate)
                yield candidate  # goes out at once; a slow client slows this generator, and no other
            candidate += 1

    def encode_response(self, output):
        for prime in output:
            yield {"prime": prime}


if __name__ == "__main__":
    server = ls.LitServer(Primes(api_path="/primes", stream=True))
    server.run(port=int(os.environ.get("PORT", "8000")))
