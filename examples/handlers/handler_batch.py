#!/usr/bin/env python3
# For very short jobs: takes all lines that have come, and answers them in one write.
import json, os

def answer(job):
    try:
        return {"id": job["id"], "ok": {"double": job["payload"]["n"] * 2}}
    except Exception as error:
        return {"id": job["id"], "error": repr(error)}

rest = b""
while chunk := os.read(0, 65536):
    *lines, rest = (rest + chunk).split(b"\n")
    if lines:
        print("\n".join(json.dumps(answer(json.loads(line))) for line in lines), flush=True)
