"""A stub of COLMAP's process: `python -m tests.sfm.stub_worker STAGE FOLDER THREADS PARENT CPU_SECONDS`."""

import os
import sys
import time
from pathlib import Path

from blocknerf.processes import limit_cpu

stage, folder, threads, parent, cpu_seconds = sys.argv[1:]
limit_cpu(int(cpu_seconds))
print("progress 0 4", flush=True)
if stage == "features":
    print("unreadable 000001.jpg", flush=True)
elif stage == "abort":
    os.abort()
elif stage == "fail":
    sys.exit("no room")
elif stage == "sleep":
    Path(folder, "pid").write_text(str(os.getpid()))
    time.sleep(60)
elif stage == "spin":
    while True:
        pass
print(f"threads {threads} {int(parent) == os.getppid()} {os.environ['OMP_NUM_THREADS']}", flush=True)
