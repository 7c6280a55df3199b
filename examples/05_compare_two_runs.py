"""Compare the scores of two runs of one capture on the test images that both were evaluated on.

python examples/05_compare_two_runs.py runs/first runs/second
"""

import argparse
from statistics import mean

import blocknerf
from pipelines.evaluation_file import read_evaluation

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("first", help="run folder, evaluated")
parser.add_argument("second", help="run folder, evaluated")
options = parser.parse_args()

first, second = (
    {image.name: image.metrics.psnr for image in read_evaluation(blocknerf.load_run(path).folder.evaluation).frames}
    for path in (options.first, options.second)
)
shared = sorted(first.keys() & second.keys(), key=lambda name: second[name] - first[name])
if not shared:
    raise SystemExit("the runs were evaluated on different images")
for name in shared:
    print(f"{name}: {first[name]:.2f} -> {second[name]:.2f} dB ({second[name] - first[name]:+.2f})")
print(f"mean of {len(shared)} images: {mean(first[n] for n in shared):.2f} -> {mean(second[n] for n in shared):.2f} dB")
