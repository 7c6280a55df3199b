"""The web viewer of one run: a page for each visitor, one painter for all."""

import contextlib
import secrets
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from blocknerf.cameras import Cameras
from blocknerf.city.cache import live_block_loader
from blocknerf.city.manifest import City, Weighting, read_city, with_rendering
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import capture_with_images
from blocknerf.kernels.devices import Device, resolve_device
from blocknerf.kernels.threads import set_num_threads
from blocknerf.options import check_positive, check_whole
from blocknerf.printable import printable
from blocknerf.processes import end_with
from viewer.auth_proxy import AuthProxy, check_binding
from viewer.client_camera import LOOK_AT_DISTANCE, field_of_view
from viewer.inner import import_viser, open_inner, stop_inner

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
    threads: int | None = None,
    device: Device = "auto",
) -> None:
    """Show a trained city in the browser, until interrupted.

    Args:
        run: The run folder, with trained blocks.
        capture: Where the images are now, if the run or the capture was moved: the capture's folder; remembered.
        port: Of the page; 0 takes any that is free.
        host: Address to listen at; another than this machine's own needs a token.
        token: Word that visitors must know; the address that is printed has it.
        watch: Show blocks as they train, and before any is trained.
        parent_pid: Number of the process that started this one; the page ends when that is gone, even if it was killed.
        block_cache_gb: Memory that loaded blocks may take, in GiB; others leave when it is full.
        weighting: How blocks share the picture at first; by default as city.json says. The panel changes it.
        power: Exponent of the inverse distance at first; by default as city.json says. The panel changes it.
        selection_radius: Take a block while the camera is within this many of its radii; by default as city.json says.
        visibility_threshold: Leave out blocks whose mean predicted visibility is below, at first; by default as
            city.json says. The panel changes it.
        threads: Processor threads; by default every core.
        device: Where to render: auto, cpu, cuda, or cuda:1; auto takes a GPU where there is one.

    Raises:
        BackendError: there is no such device.
        OptionError: a number is out of range.
        RunError: no block is trained, a file is broken, the port is taken, or anybody could look in.
    """
    check_positive(block_cache_gb=block_cache_gb)
    check_whole(parent_pid=parent_pid)
    check_binding(host, token)
    end_with(parent_pid)
    set_num_threads(threads)
    place = resolve_device(device)
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
        device=place,
        threads=threads,
    ) as gate:
        print(printable(f"{run}: {gate.url}"), flush=True)
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
) -> Iterator[AuthProxy]:
    """The viewer of a run, at work; gives its door.

    `city` is the run's, with the settings of rendering that panels begin with. Videos are rendered on the same device
    with as many threads.

    Raises:
        OptionError, RunError: as `view` does.
    """
    check_whole(least=0, most=LAST_PORT, port=port)
    check_binding(host, token)
    import_viser()
    from viewer.render_jobs import RenderQueue
    from viewer.request_renderer import RequestRenderer
    from viewer.run_contents import RunContents
    from viewer.run_watcher import RunWatcher
    from viewer.scheduler import RenderScheduler
    from viewer.session import ClientSession

    stock = RunContents.of(run, city, follow=watch)
    for fault in stock.faults:
        print(printable(f"view: not used: {fault}"), file=sys.stderr, flush=True)
    load = live_block_loader(run, stock.city, device) if watch else None
    renderer = CityRenderer(run, city=stock.city, load=load, cache_bytes=cache_bytes, device=device, allow_missing=True)
    gallery = RequestRenderer(renderer)
    if not watch:
        gallery.warm_up(stock)
    alike = [f"--device={device}", *([] if threads is None else [f"--threads={threads}"])]
    painter, studio, sessions = RenderScheduler(gallery.render), RenderQueue(run, *alike), {}

    def renew(names: Iterable[str]) -> None:
        gallery.invalidate(names)
        painter.rerender_all()

    secret = secrets.token_urlsafe(32)
    server = open_inner(secret)
    gate = AuthProxy(host, port, server.get_port(), token, secret)
    server.gui.configure_theme(show_logo=False, show_share_button=False)
    _set_initial_camera(server.initial_camera, stock.image(stock.path[0]), stock.scene_scale)

    @server.on_client_connect
    def _(client: Any) -> None:
        sessions[client.client_id] = ClientSession(client, stock, painter, studio)
        if client.client_id not in server.get_clients():  # gone before all was ready
            leave(client)

    @server.on_client_disconnect
    def leave(client: Any) -> None:
        session = sessions.pop(client.client_id, None)
        if session is not None:
            session.close()

    follower = RunWatcher(run, stock.city, renew) if watch else None
    try:
        with gate:
            yield gate
    finally:
        if follower is not None:
            follower.close()
        for session in list(sessions.values()):
            session.close()
        studio.close()
        painter.close()
        stop_inner(server)


def _set_initial_camera(initial: Any, camera: Cameras, scale: float) -> None:
    """Where a page begins, the world's z axis up."""
    initial.position = (scale * camera.centers[0]).numpy()
    initial.look_at = (scale * (camera.centers[0] + LOOK_AT_DISTANCE * camera.camera_to_world[0, :, 2])).numpy()
    initial.fov = field_of_view(camera)
