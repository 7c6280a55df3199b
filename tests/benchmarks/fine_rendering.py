"""Renderings of the sample town at four times the training size, with and without the footprint floor.

    python -m tests.benchmarks.fine_rendering [RUN] [--out FOLDER]

RUN is a trained run of `data_samples/mini_city` (default: that of `make demo`). Seven held-out views are compared with
the town itself at that size. Grain is the standard deviation of the high-pass of brightness in flat tiles, relative to
that of the town; a tile is flat if the town has less detail there than in three quarters of all opaque tiles. Pixels of
moving cars are left out. Codes are fitted on the left half of the held-out image, as in `blocknerf evaluate`. Times are
at the training size and at the fine one.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from blocknerf.kernels.threads import set_num_threads

THREADS = set_num_threads()  # before torch, which reads the wait policy on import

import torch  # noqa: E402
from jaxtyping import Float  # noqa: E402
from torch import Tensor  # noqa: E402

from blocknerf.capture.capture_file import read_capture  # noqa: E402
from blocknerf.city.cache import LoadedBlock, block_loader  # noqa: E402
from blocknerf.city.manifest import read_city  # noqa: E402
from blocknerf.city.renderer import CityRenderer  # noqa: E402
from blocknerf.city.run_folder import RunFolder  # noqa: E402
from blocknerf.images import to_uint8, write_image  # noqa: E402
from blocknerf.metrics import psnr, ssim  # noqa: E402
from blocknerf.town.town import RaycastResult, Town  # noqa: E402
from blocknerf.town.views import SampleSpec, plan_views, render_view  # noqa: E402
from pipelines.evaluate import EvalImage, evenly_spaced, fit_codes  # noqa: E402

VIEWS, ROUNDS, SCALE, TILE, BLUR, FLAT_FRACTION = 7, 3, 4, 16, 9, 0.25
REQUIRED = {"psnr": 24.7, "ssim": 0.73, "grain": 1.2}


def main() -> None:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", nargs="?", type=Path, default=Path("runs/mini_city"))
    parser.add_argument("--out", type=Path, help="folder for PNG files of the town and the renderings")
    options = parser.parse_args()
    run = RunFolder(options.run)
    city = read_city(run.city)
    loaders = {name: block_loader(run, city, sharp=name == "sharp") for name in ("sharp", "floor")}
    print(json.dumps(compare(run, loaders, options.out) | {"required": REQUIRED, "threads": THREADS}))


def compare(
    run: RunFolder, loaders: dict[str, Callable[[str], LoadedBlock]], out: Path | None
) -> dict[str, dict[str, float]]:
    """Return the mean scores and times of each loader's renderings, and print those of each view."""
    capture, city = read_capture(run.capture), read_city(run.city)
    renderers = {name: CityRenderer(run, city=city, load=load) for name, load in loaders.items()}
    spec = SampleSpec()
    fine, town = replace(spec, width=SCALE * spec.width, height=SCALE * spec.height), Town.build()
    planned = plan_views(spec)
    views = {view.name: view for view in planned}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in loaders}
    for index in evenly_spaced([i for i in range(len(capture)) if city.is_test_frame(i)], VIEWS):
        image = EvalImage.of(capture, index, 1)
        truth = render_view(town, views[Path(capture.frames[index].image).stem], fine)
        first = next(iter(renderers.values()))
        codes = fit_codes(first, image, [block.name for block in first.select(image.camera) if block.rendered])
        images, seconds = render_all(renderers, image, codes)
        for name, color in images.items():
            rows[name].append(scores(color, truth) | seconds[name])
            figures = "".join(f"{key} {value:<8.3f}" for key, value in rows[name][-1].items())
            print(f"{image.name:<36}{name:<8}{figures}", file=sys.stderr, flush=True)
        if out is not None:
            for name, color in {"town": truth.color, **images}.items():
                write_image(out / f"{index:03d}_{name}.png", to_uint8(color))
    return {
        name: {key: round(sum(row[key] for row in part) / len(part), 4) for key in part[0]}
        for name, part in rows.items()
    }


def render_all(
    renderers: dict[str, CityRenderer], image: EvalImage, codes: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, dict[str, float]]]:
    """Return the fine renderings, and the shortest times at both sizes, alternately taken."""
    images: dict[str, Tensor] = {}
    cameras = {"seconds": image.camera, "seconds_fine": image.camera.scaled(SCALE)}
    seconds = {name: dict.fromkeys(cameras, math.inf) for name in renderers}
    for renderer in renderers.values():
        renderer.render(image.camera, frame=image.name, codes=codes)  # loads the blocks and compiles
    for _ in range(ROUNDS):
        for name, renderer in renderers.items():
            for key, camera in cameras.items():
                start = time.perf_counter()
                images[name] = renderer.render(camera, frame=image.name, codes=codes).color
                seconds[name][key] = min(seconds[name][key], time.perf_counter() - start)
    return images, seconds


def scores(color: Float[Tensor, "height width 3"], truth: RaycastResult) -> dict[str, float]:
    """Return PSNR of static pixels, SSIM, and grain of a rendering."""
    static = psnr(color, truth.color.float(), ~truth.moving)
    assert static is not None
    true_grain, grain = (tile_grain(image) for image in (truth.color.float(), color))
    opaque = tiles(truth.depth.isfinite() & ~truth.moving).all(-1)
    flat = opaque & (true_grain <= true_grain[opaque].quantile(FLAT_FRACTION))
    ratio = float(grain[flat].square().mean().sqrt() / true_grain[flat].square().mean().sqrt())
    return {"psnr": static, "ssim": ssim(color, truth.color.float()), "grain": ratio}


def tile_grain(image: Float[Tensor, "height width 3"]) -> Float[Tensor, "tiles"]:
    """Return the standard deviation of the high-pass of brightness in each tile."""
    gray = image.mean(-1)[None]
    padded = torch.nn.functional.pad(gray, (BLUR // 2,) * 4, mode="reflect")
    return tiles((gray - torch.nn.functional.avg_pool2d(padded, BLUR, 1))[0]).square().mean(-1).sqrt()


def tiles(image: Tensor) -> Tensor:
    """Return the pixels of each tile; incomplete tiles at the border are left out."""
    height, width = (size // TILE * TILE for size in image.shape)
    return image[:height, :width].unfold(0, TILE, TILE).unfold(1, TILE, TILE).reshape(-1, TILE * TILE)


if __name__ == "__main__":
    main()
