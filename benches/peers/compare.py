#!/usr/bin/env python3
"""Nexmark, and clicks per user, on Waterclock and its peers, in one sitting, in turns.

    compare.py --events nexmark.ndjson --clicks clicks.ndjson --waterclock target/release/waterclock \\
        [--dbsp PEER_DBSP] [--flink DIRECTORY_OF_JARS] [--query q0,q5] [--rounds 3] [--workers 2]

`clicks` is the README's query, over a million clicks of ten thousand users at ten thousand a second.
Every engine reads the same file from the page cache and sends its rows nowhere. A figure is the
median of the rounds; the ratio beside a peer is how many times its rate, and its CPU time, ours is.
How to build the peers: docs/performance.md.
"""

import argparse
import functools
import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
DBSP = "q0 q1 q2 q3 q4 q5 q7 q8 q15 q16 q17 q19 q20 q22 clicks".split()
FLINK = "q0 q1 q2 q3 q4 q5 q7 q8 q11 q15 q16 q17 clicks".split()


def write_clicks(path):
    """Half of the clicks are of a hundredth of the users."""
    chance = random.Random(42)
    with open(path, "w") as file:
        for n in range(1_000_000):
            user, page = chance.randrange(chance.choice((100, 10_000))), chance.randrange(1000)
            click = {"user_id": f"u{user:06}", "page": f"/p/{page}", "click_time": 1_700_000_000_000 + n // 10}
            file.write(json.dumps(click, separators=(",", ":")) + "\n")


def file_of(args, query):
    return args.clicks if query == "clicks" else args.events


@functools.cache
def lines_of(path):
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def waterclock(args, query):
    command = [args.waterclock, "bench", "nexmark", "--json", "--file", args.events, "--query", query]
    if query == "clicks":
        command = [args.waterclock, "replay", "--output", "null", "--stream", f"clicks={args.clicks}"]
        command += ["--query", "clicks_per_user"]
    command += ["--workers", str(args.workers)]
    # What `replay` says of itself stands beside its rows.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}: {said}")
    figures = json.loads(said)
    if query == "clicks":
        return figures["seconds"], used.ru_utime + used.ru_stime, used.ru_maxrss
    # Its processor time is for a million events; its memory is beyond what it began with.
    cpu = figures["cpu_seconds"] * figures["events"] / 1e6
    return figures["seconds"], cpu, used.ru_maxrss


def told(command):
    """The lines of JSON that a peer prints."""
    run = subprocess.run(command, capture_output=True, text=True)
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    if run.returncode or not lines:
        sys.exit(f"{' '.join(command)}: {run.stdout}{run.stderr}")
    return lines


def dbsp(args, query):
    figures = told([args.dbsp, file_of(args, query), query])[-1]
    return figures["seconds"], figures["cpu_seconds"], figures["peak_kib"]


def flink(args, query):
    """The best of three runs in one JVM: the first ones compile."""
    command = ["java", "-cp", f"{args.flink}/*", HERE / "flink/Nexmark.java", file_of(args, query)]
    command += [HERE / "flink/queries.sql", query, "3"]
    best = min(told([str(part) for part in command]), key=lambda run: run["seconds"])
    return best["seconds"], best["cpu_seconds"], best["peak_kib"]


def medians(runs):
    return [statistics.median(figures) for figures in zip(*runs)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", required=True, metavar="FILE", help="NDJSON of the stream nexmark")
    parser.add_argument("--clicks", metavar="FILE", help="NDJSON of the stream clicks; made if it is not there")
    parser.add_argument("--waterclock", default="target/release/waterclock", metavar="BINARY")
    parser.add_argument("--dbsp", metavar="BINARY", help="the built package in benches/peers/dbsp")
    parser.add_argument("--flink", metavar="DIR", help="the jars of Flink")
    parser.add_argument("--query", help="separated by commas; all that a peer has are the default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()

    all_queries = {*DBSP, *FLINK} - (set() if args.clicks else {"clicks"})
    queries = args.query.split(",") if args.query else sorted(all_queries, key=lambda q: (len(q), q))
    if "clicks" in queries and not args.clicks:
        parser.error("the query clicks needs --clicks FILE")
    if args.clicks and not Path(args.clicks).exists():
        write_clicks(args.clicks)
    print("| query | engine | events/s | CPU s per million | peak MB | our rate to theirs | our CPU to theirs |")
    print("|---|---|---:|---:|---:|---:|---:|", flush=True)
    for query in queries:
        count = lines_of(file_of(args, query))
        engines = {"waterclock": waterclock}
        if args.dbsp and query in DBSP:
            engines["dbsp"] = dbsp
        if args.flink and query in FLINK:
            engines["Flink"] = flink
        runs = {engine: [] for engine in engines}
        for _ in range(args.rounds):
            for engine, run in engines.items():
                if engine != "Flink" or not runs["Flink"]:
                    runs[engine].append(run(args, query))
        ours = medians(runs["waterclock"])
        for engine in engines:
            seconds, cpu, peak = medians(runs[engine])
            beside = "| | |" if engine == "waterclock" else f"| {seconds / ours[0]:.2f} | {ours[1] / cpu:.2f} |"
            print(
                f"| {query} | {engine} | {count / seconds:,.0f} | {cpu / count * 1e6:.2f} "
                f"| {peak * 1024 / 1e6:.0f} {beside}",
                flush=True,
            )


if __name__ == "__main__":
    main()
