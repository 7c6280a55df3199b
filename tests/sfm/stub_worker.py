"""A stub of COLMAP's process: `python -m tests.sfm.stub_worker STAGE FOLDER THREADS PARENT`."""

import os
import sys
import time
from pathlib import Path

stage, folder, threads, parent = sys.argv[1:]
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
print(f"threads {threads} {int(parent) == os.getppid()} {os.environ['OMP_NUM_THREADS']}", flush=True)
