"""Limits on uploads: file size, and one file at a time, enforced before viser buffers them."""

from collections.abc import Callable
from typing import Any

import viser
from viser import _messages

MAX_FILE_BYTES = 32 << 20
"""Largest uploaded file, in bytes."""
MAX_PARTS = MAX_FILE_BYTES >> 18
"""Most parts of an upload; a page sends parts of 0.5 MiB."""


_TAKEN = viser.UploadedFile(name="", content=b"")


def limit_uploads(client: viser.ClientHandle, on_refused: Callable[[], None]) -> None:
    """Let a client upload one file at a time, no larger than announced and than `MAX_FILE_BYTES`.

    viser itself buffers every upload until it is complete, whatever its size. `on_refused` is called for a file with a
    too large announced size. A file that exceeds its announced size is dropped.
    """
    gui, connection = client.gui, client._websock_connection
    uploads: dict[str, Any] = gui._current_file_upload_states

    def start(client_id: Any, message: _messages.FileTransferStartUpload) -> None:
        uploads.clear()  # the newest upload wins
        if 0 <= message.size_bytes <= MAX_FILE_BYTES and 0 <= message.part_count <= MAX_PARTS:
            return gui._handle_file_transfer_start(client_id, message)
        connection.queue_message(_acknowledge_all(message))
        on_refused()

    def receive_part(client_id: Any, message: _messages.FileTransferPart) -> None:
        state = uploads.get(message.transfer_uuid)
        if state is not None and state["transferred_bytes"] + len(message.content) > state["total_bytes"]:
            uploads.clear()
        gui._handle_file_transfer_part(client_id, message)

    for kind, handler in ((_messages.FileTransferStartUpload, start), (_messages.FileTransferPart, receive_part)):
        connection.unregister_handler(kind)
        connection.register_handler(kind, handler)  # type: ignore[arg-type]


def take_upload(button: viser.GuiUploadButtonHandle) -> bytes | None:
    """Return the file uploaded last and free its memory; None if it was taken before."""
    file, button._impl.value = button.value, _TAKEN
    return None if file is _TAKEN else file.content


def _acknowledge_all(message: _messages.FileTransferStartUpload) -> _messages.FileTransferPartAck:
    """End the page's progress bar: the protocol has acknowledgements but no refusal."""
    return _messages.FileTransferPartAck(
        source_component_uuid=message.source_component_uuid,
        transfer_uuid=message.transfer_uuid,
        transferred_bytes=message.size_bytes,
        total_bytes=message.size_bytes,
    )
