"""urllib3 as Debian has it, with its own idea of retries: what retry.mjs does."""

import json
import sys
import time

import urllib3


class Noting(urllib3.Retry):
    """The retries that urllib3 uses by default; it notes what it was told."""

    refused = []

    def get_retry_after(self, response):
        seconds = super().get_retry_after(response)
        Noting.refused.append({"status": response.status, "retryAfter": response.headers.get("Retry-After")})
        return seconds


arg = json.loads(sys.argv[1])
pool = urllib3.PoolManager()
calls = []
while len(calls) < arg["most"] and not (calls and calls[-1]["refused"]):
    Noting.refused = []
    began = time.monotonic()
    response = pool.request("GET", arg["url"], headers=arg["headers"], retries=Noting(urllib3.Retry.DEFAULT.total))
    elapsed = (time.monotonic() - began) * 1000
    calls.append({"status": response.status, "ms": elapsed, "refused": Noting.refused})
print(json.dumps({"calls": calls, "version": urllib3.__version__}))
