"""Web viewer of one run: a page for each client, one render scheduler for all."""

import contextlib
import secrets
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from blocknerf.cameras import Cameras
from blocknerf.city.cache import block_loader, live_block_loader
from blocknerf.city.manifest import City, Weighting, read_city, with_rendering
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import capture_with_images
from blocknerf.errors import printable
from blocknerf.kernels.devices import Device, resolve_device
from blocknerf.kernels.threads import set_num_threads
from blocknerf.options import check_positive, check_whole
from blocknerf.processes import end_with
from viewer.access import check_binding
from viewer.client_camera import LOOK_AT_DISTANCE, field_of_view
from viewer.inner import import_viser, open_inner, stop_inner

if TYPE_CHECKING:
    from viewer.auth_proxy import AuthProxy

GIB = 1 << 30
LAST_PORT = (1 << 16) - 1


def view(
    run: Path,
    *,
    capture: Path | None = None,
    port: int = 8080,
    host: str = "127.0.0.1",
    token: str | None = None,
    watch: bool = False,
    parent_pid: int | None = None,
    block_cache_gb: float = 2.0,
    weighting: Weighting | None = None,
    power: float | None = None,
    selection_radius: float | None = None,
    visibility_threshold: float | None = None,
    sharp: bool = False,
    threads: int | None = None,
    device: Device = "auto",
) -> None:
    """Serve an interactive viewer of a trained city until interrupted.

    Args:
        run: Run folder with trained blocks.
        capture: Current folder of the capture, if the run or the capture was moved. It is remembered.
        port: Port of the page; 0 chooses a free one.
        host: Address to listen on. Any address other than loopback needs a token.
        token: Secret that visitors need. The printed URL contains it.
        watch: Reload blocks while they train; the run may have no trained block yet.
        parent_pid: Process ID of the parent. The viewer exits when that process ends, even if it was killed.
        block_cache_gb: Memory for loaded blocks, in GiB. Blocks used least recently are evicted.
        weighting: Initial blend weighting of the blocks; the panel can change it. Default: from city.json.
        power: Initial exponent of the inverse distance; the panel can change it. Default: from city.json.
        selection_radius: Consider a block if the camera is within this many block radii. Default: from city.json.
        visibility_threshold: Initial threshold; blocks with a lower mean predicted visibility are culled. The panel can
            change it. Default: from city.json.
        sharp: Sample finer than the training images saw a place too; shows grain. Default: never finer.
        threads: CPU threads. Default: all cores.
        device: Render device: auto, cpu, cuda or cuda:1. auto uses a GPU if there is one.

    Raises:
        BackendError: There is no such device.
        OptionError: A number is out of range.
        RunError: No block is trained, a file is broken, the port is in use, or a public address has no token.
    """
    check_positive(block_cache_gb=block_cache_gb)
    check_whole(parent_pid=parent_pid)
    check_binding(host, token)
    end_with(parent_pid)
    set_num_threads(threads)
    torch_device = resolve_device(device)
    cache_bytes = int(block_cache_gb * GIB)
    folder = RunFolder(run)
    if capture is not None:
        capture_with_images(folder, capture)
    city = with_rendering(
        read_city(folder.city),
        weighting=weighting,
        power=power,
        selection_radius=selection_radius,
        visibility_threshold=visibility_threshold,
    )
    with serve(
        folder,
        city=city,
        port=port,
        host=host,
        token=token,
        watch=watch,
        cache_bytes=cache_bytes,
        device=torch_device,
        threads=threads,
        sharp=sharp,
    ) as proxy:
        print(printable(f"{run}: {proxy.url}"), flush=True)
        print("Stop with Ctrl-C.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(1.0)


@contextmanager
def serve(
    run: RunFolder,
    *,
    city: City | None = None,
    port: int = 0,
    host: str = "127.0.0.1",
    token: str | None = None,
    watch: bool = False,
    cache_bytes: int = 2 * GIB,
    device: torch.device | str = "cpu",
    threads: int | None = None,
    sharp: bool = False,
) -> Iterator["AuthProxy"]:
    """Run the viewer of a run inside a context; yields its proxy.

    `city` is the run's city with the initial rendering settings of the panel. Videos are rendered on the same device
    with the same number of threads, and are `sharp` if the pages are.

    Raises:
        OptionError, RunError: As in `view`.
    """
    check_whole(least=0, most=LAST_PORT, port=port)
    check_binding(host, token)
    import_viser()
    from viewer.auth_proxy import AuthProxy
    from viewer.block_files import RunWatcher
    from viewer.render_jobs import RenderQueue
    from viewer.request_renderer import RequestRenderer
    from viewer.run_contents import RunContents
    from viewer.scheduler import RenderScheduler
    from viewer.session import ClientSession

    contents = RunContents.of(run, city, watch=watch)
    for fault in contents.faults:
        print(printable(f"view: not used: {fault}"), file=sys.stderr, flush=True)
    city = contents.city
    load = (live_block_loader if watch else block_loader)(run, city, device, sharp=sharp)
    city_renderer = CityRenderer(run, city=city, load=load, cache_bytes=cache_bytes, device=device, allow_missing=True)
    renderer = RequestRenderer(city_renderer)
    if not watch:
        renderer.warm_up(contents)
    options = [
        f"--device={device}",
        *([] if threads is None else [f"--threads={threads}"]),
        *(["--sharp"] if sharp else []),
    ]
    scheduler, render_queue, sessions = RenderScheduler(renderer.render), RenderQueue(run, *options), {}

    def reload_blocks(names: Iterable[str]) -> None:
        renderer.invalidate(names)
        scheduler.rerender_all()

    secret = secrets.token_urlsafe(32)
    server = open_inner(secret)
    proxy = AuthProxy(host, port, server.get_port(), token, secret)
    server.gui.configure_theme(show_logo=False, show_share_button=False)
    _set_initial_camera(server.initial_camera, contents.image(contents.path[0]), contents.scene_scale)

    @server.on_client_connect
    def _(client: Any) -> None:
        sessions[client.client_id] = ClientSession(client, contents, scheduler, render_queue)
        if client.client_id not in server.get_clients():  # it left while its session was set up
            disconnect(client)

    @server.on_client_disconnect
    def disconnect(client: Any) -> None:
        session = sessions.pop(client.client_id, None)
        if session is not None:
            session.close()

    watcher = RunWatcher(run, city, reload_blocks) if watch else None
    try:
        with proxy:
            yield proxy
    finally:
        if watcher is not None:
            watcher.close()
        for session in list(sessions.values()):
            session.close()
        render_queue.close()
        scheduler.close()
        stop_inner(server)


def _set_initial_camera(initial: Any, camera: Cameras, scale: float) -> None:
    """Set the initial camera of new pages."""
    initial.position = (scale * camera.centers[0]).numpy()
    initial.look_at = (scale * (camera.centers[0] + LOOK_AT_DISTANCE * camera.camera_to_world[0, :, 2])).numpy()
    initial.fov = field_of_view(camera)
