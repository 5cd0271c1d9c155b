"""Runs `onnxseal batch` or `onnxseal assess` on a Ray cluster: parts as tasks, retries, progress, one report.

    python ray_zoo.py report.json -- batch protect s3://zoo/models/ --out s3://zoo/sealed/ -r age1...
    python ray_zoo.py report.json -- batch rotate s3://zoo/sealed/ --out s3://zoo/new/ -i /keys/id.txt -r age1...
    python ray_zoo.py report.json -- assess s3://zoo/models/ --preset full --no-public-base

Each task runs the command on a part of the models, on any node with a free slot. Nodes need the command with
object stores, `setpriv` (util-linux), the store's credentials, and the files that the command names, at these paths.
Ray keeps and shows arguments of tasks: give keys as files of the nodes, never as words or variables of the job.

Run it again after any end: with `--out`, parts resume by the records there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import ray

# docs/COMMAND.md
CLASSES = {2: "usage", 3: "malformed", 4: "authentication", 5: "no_matching_key", 6: "policy_not_met", 7: "io"}
IO = 7


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="JSON file for the result of each model; replaced if it exists")
    parser.add_argument("--parts", type=int, help="how many tasks [default: 4 for each that runs at once]")
    parser.add_argument("--cpus", type=float, default=1, help="cores that Ray reserves for a task [default: 1]")
    parser.add_argument("--tries", type=int, default=3, help="how often a part may run [default: 3]")
    parser.add_argument("--onnxseal", default="onnxseal", help="the command on the nodes [default: onnxseal]")
    parser.add_argument("command", nargs="+", help="`batch` with its options, or `assess`, a source and options")
    args = parser.parse_args()
    began = time.monotonic()
    ray.init(log_to_driver=False)
    n = args.parts or max(1, int(4 * ray.cluster_resources()["CPU"] / args.cpus))
    if args.command[0] == "assess":
        _, source, *options = args.command
        models = find(args.onnxseal, source)
        parts = [models[i::n] for i in range(min(n, len(models)))]
        task, operation = task_of(assess, args.cpus), "assess"
        tasks = [lambda part=part: task.remote(args.onnxseal, part, options) for part in parts]
    else:
        command = [args.onnxseal, *args.command, "--quiet"]
        # With records, a part that runs again does what is missing. Changes in place and `verify` have none.
        if any(word.startswith(("--out", "-o")) for word in command) and "--resume" not in command:
            command.append("--resume")
        task, operation = task_of(batch, args.cpus), args.command[1]
        tasks = [lambda i=i: task.remote([*command, "--shard", f"{i}/{n}"]) for i in range(n)]
    reports, lost, retries = run(tasks, args.tries)
    report = merge(operation, reports, lost) | {"retries": retries}
    report["totals"]["seconds"] = time.monotonic() - began
    draft = args.report.with_name(f".{args.report.name}.{os.getpid()}")
    draft.write_text(json.dumps(report, indent=2) + "\n")
    draft.replace(args.report)
    say("{models} models: {done} done, {skipped} skipped, {failed} failed, in {seconds:.1f} s".format(**report["totals"]))
    sys.exit(exit_code(report))


def task_of(function, cpus):
    """A task that Ray itself does not try again: `run` does, for more reasons than a lost worker."""
    return ray.remote(num_cpus=cpus, max_retries=0)(function)


def run(tasks, tries):
    """Runs all tasks: their reports, the numbers of those that were lost in every try, and how many were repeated."""
    running, tried, reports, lost, shaken = {}, Counter(), {}, [], set()

    def start(i):
        tried[i] += 1
        running[tasks[i]()] = i

    for i in range(len(tasks)):
        start(i)
    while running:
        (finished,), _ = ray.wait(list(running))
        i = running.pop(finished)
        try:
            report, code, said = ray.get(finished)
        except ray.exceptions.RayTaskError:
            raise  # A fault of this program, or a node without the command.
        except ray.exceptions.RayError as error:
            report, code, said = None, IO, f"the worker was lost: {type(error).__name__}"
            shaken.add(i)
        if report is None and code != IO:
            sys.exit(said)
        failed = [row for row in report["models"] if row["outcome"] == "failed"] if report else []
        # The last request of a lost worker may reach the store when the next try has already looked there, and is in
        # its way. The try after that finds the model done.
        unlucky = [row for row in failed if i in shaken or row["error"]["class"] == "io"]
        if (report is None or unlucky) and tried[i] < tries:
            say(f"part {i}: {said.strip() or f'{len(unlucky)} models failed'}: once more")
            start(i)
        elif report is None:
            lost.append(i)
            say(f"part {i}: {said.strip()}: given up")
        else:
            reports[i] = report
            n_models = sum(len(report["models"]) for report in reports.values())
            say(f"{len(reports)} of {len(tasks)} parts, {n_models} models; in the last one {len(failed)} failed")
    return [reports[i] for i in sorted(reports)], sorted(lost), sum(tried.values()) - len(tasks)


def batch(command):
    """A task: one part of a batch. Returns its report, or None, with the exit code and what the command said."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.json")
        done = call([*command, "--report", path])
        report = json.loads(path.read_text()) if path.exists() else None
    return report, done.returncode, done.stderr


def assess(onnxseal, models, options):
    """A task: assesses models one after the other. Returns what `batch` does."""
    rows = []
    for model in models:
        began = time.monotonic()
        done = call([onnxseal, "assess", model, "--json", "--quiet", *options])
        row = {"source": model, "outcome": "failed", "seconds": time.monotonic() - began}
        if done.stdout:
            row |= {"outcome": "done", "assessment": json.loads(done.stdout)}
            row["bytes"] = row["assessment"]["model_bytes"]
        else:
            row["error"] = {"class": CLASSES.get(done.returncode, "internal"), "message": done.stderr.strip()}
        rows.append(row)
    return {"models": rows, "stopped": False}, 0, ""


def call(command):
    # If the worker is killed, the command is too, with every version of Ray: else it would go on beside the next try.
    command = ["setpriv", "--pdeathsig", "KILL", *command]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def find(onnxseal, source):
    """The models of a source, as `verify` finds them; it says so of plain models, too."""
    done = subprocess.run([onnxseal, "verify", "--json", source], capture_output=True, text=True)
    if not done.stdout:
        sys.exit(done.stderr)
    found = json.loads(done.stdout)
    return [row["model"] for row in found.get("models", [found])]


def merge(operation, reports, lost):
    """One report, as docs/JSON.md describes that of a batch; `lost_parts` were lost with their rows."""
    rows = sorted((row for report in reports for row in report["models"]), key=lambda row: row["source"])
    n = Counter(row["outcome"] for row in rows)
    totals = {"models": len(rows)} | {name: n[name] for name in ("done", "skipped", "failed", "pending")}
    totals["bytes"] = sum(row.get("bytes", 0) for row in rows if row["outcome"] == "done")
    merged = {"operation": operation, "stopped": bool(lost) or any(report["stopped"] for report in reports)}
    if any("synced" in report for report in reports):
        merged["synced"] = all(report.get("synced", True) for report in reports)
    return merged | ({"lost_parts": lost} if lost else {}) | {"totals": totals, "models": rows}


def exit_code(report):
    """That of the failed models' class, or 1 for several classes and lost parts."""
    classes = {row["error"]["class"] for row in report["models"] if row["outcome"] == "failed"}
    if not classes:
        return int(report["stopped"])
    codes = {name: code for code, name in CLASSES.items()}
    return codes.get(classes.pop(), 1) if len(classes) == 1 and not report["stopped"] else 1


def say(line):
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
