"""Posts a click and reads the answer that includes it: python3 client.py [URL]"""
import sys

import requests

service = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
click = {"user_id": "u1", "click_time": "2022-01-01 10:00:00"}
posted = requests.post(f"{service}/v1/streams/clicks", json=click)
posted.raise_for_status()
read = {"prefix": "u1", "after": posted.json()["token"]}
answer = requests.get(f"{service}/v1/queries/clicks_per_user", params=read)
answer.raise_for_status()
for row in answer.json()["rows"]:
    print(row["key"], row["value"])
