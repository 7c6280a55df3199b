"""Kills of workers and of a node while the sample town trains on a Ray cluster of two nodes.

    python -m tests.benchmarks.cluster [--kills 10] [--steps 400]

Both nodes are on this machine, in a network namespace with loopback alone. Every 20 seconds a random task is killed;
once a whole node vanishes, and a new one joins. Fields and occupancy grids must equal those of a training on this
machine without kills, byte for byte.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from blocknerf.city.run_folder import RunFolder

CAPTURE = Path(__file__).parents[2] / "data_samples" / "mini_city"
SECONDS_BETWEEN_KILLS = 20.0
TASK = b"ray::_train_block"
"""Title that Ray sets for the process of a task."""


def blocknerf(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipelines", *arguments]


def tasks() -> list[int]:
    """Return the processes that run a task now."""
    return [int(process.name) for process in Path("/proc").glob("[0-9]*") if title(process).startswith(TASK)]


def title(process: Path) -> bytes:
    """Return the title of a process; empty if it has ended."""
    with suppress(OSError):
        return (process / "cmdline").read_bytes()
    return b""


def train_with_kills(run: Path, steps: int, kills: int, seed: int) -> dict[str, Any]:
    """Train on two nodes; return how often tasks and nodes were killed, and the seconds."""
    from ray.cluster_utils import Cluster

    rng, started = random.Random(seed), time.monotonic()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    command = blocknerf("train", str(run), "--engine", "ray", "--address", cluster.address, "--cpus-per-block", "1")
    process = subprocess.Popen([*command, "--steps", str(steps)])
    killed = nodes = 0
    while process.poll() is None:
        time.sleep(SECONDS_BETWEEN_KILLS * rng.uniform(0.5, 1.5))
        if killed < kills and (running := tasks()):
            os.kill(rng.choice(running), signal.SIGKILL)
            killed += 1
            print(f"killed a task, {killed} of {kills}", flush=True)
        if killed >= kills // 2 and not nodes:
            cluster.remove_node(node, allow_graceful=False)
            node, nodes = cluster.add_node(num_cpus=1), 1
            print("a node vanished, and a new one joined", flush=True)
    cluster.shutdown()
    return {"code": process.returncode, "kills": killed, "nodes": nodes, "seconds": time.monotonic() - started}


def compare(run: RunFolder, local: RunFolder) -> dict[str, bool]:
    """Return for each file of each block whether it is the same in both runs."""
    files = [path(name) for name in local.trained_blocks() for path in (local.field, local.occupancy)]
    others = [run.path / file.relative_to(local.path) for file in files]
    return {
        str(file.relative_to(local.path)): other.exists() and file.read_bytes() == other.read_bytes()
        for file, other in zip(files, others, strict=True)
    }


def main(kills: int, steps: int, seed: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        run, local = RunFolder(Path(folder) / "cluster"), RunFolder(Path(folder) / "local")
        subprocess.run(blocknerf("ingest", str(CAPTURE), str(run.path)), check=True)
        subprocess.run(blocknerf("partition", str(run.path)), check=True)
        shutil.copytree(run.path, local.path)
        result = train_with_kills(run.path, steps, kills, seed)
        subprocess.run(blocknerf("train", str(local.path), "--steps", str(steps), "-j", "2"), check=True)
        equal = compare(run, local)
        left = [str(path.name) for path in run.blocks.rglob("*.part*")]
    passed = result["code"] == 0 and all(equal.values()) and len(equal) == 8 and not left
    print(json.dumps({"benchmark": "cluster", **result, "equal": equal, "left_over": left, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        sys.exit(main(options.kills, options.steps, options.seed))
    arguments = [sys.executable, "-m", "tests.benchmarks.cluster", "--inside", *sys.argv[1:]]
    namespace = ["unshare", "--net", "--map-root-user", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    sys.exit(subprocess.run([*namespace, *arguments]).returncode)
