#!/usr/bin/env python3
import json, sys, traceback

def work(job):
    return {"double": job["payload"]["n"] * 2}

for line in sys.stdin:
    job = json.loads(line)
    try:
        answer = {"id": job["id"], "ok": work(job)}
    except Exception as error:
        answer = {"id": job["id"], "error": repr(error), "detail": traceback.format_exc()}
    print(json.dumps(answer), flush=True)
