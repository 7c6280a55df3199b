"""Files from visitors: how large, and one at a time, before viser holds them."""

from collections.abc import Callable
from typing import Any

import viser
from viser import _messages

MAX_FILE_BYTES = 32 << 20
"""Bytes of a file that a visitor may load."""
MAX_PARTS = MAX_FILE_BYTES >> 18
"""Pieces that it may come in; a page makes them of half a mebibyte."""


_TAKEN = viser.UploadedFile(name="", content=b"")


def limit_uploads(client: viser.ClientHandle, refused: Callable[[], None]) -> None:
    """Let a visitor send one file at a time, and no more of it than they said and than is allowed.

    Viser itself keeps all that is sent until a file is whole, however large. `refused` is called for a file that is
    said to be too large; one that becomes larger than it was said to be is dropped.
    """
    gui, connection = client.gui, client._websock_connection
    held: dict[str, Any] = gui._current_file_upload_states

    def begin(number: Any, message: _messages.FileTransferStartUpload) -> None:
        held.clear()  # the newest is the one that is wanted
        if 0 <= message.size_bytes <= MAX_FILE_BYTES and 0 <= message.part_count <= MAX_PARTS:
            return gui._handle_file_transfer_start(number, message)
        connection.queue_message(_all_arrived(message))
        refused()

    def go_on(number: Any, message: _messages.FileTransferPart) -> None:
        state = held.get(message.transfer_uuid)
        if state is not None and state["transferred_bytes"] + len(message.content) > state["total_bytes"]:
            held.clear()
        gui._handle_file_transfer_part(number, message)

    for kind, handler in ((_messages.FileTransferStartUpload, begin), (_messages.FileTransferPart, go_on)):
        connection.unregister_handler(kind)
        connection.register_handler(kind, handler)  # type: ignore[arg-type]


def take_upload(button: viser.GuiUploadButtonHandle) -> bytes | None:
    """The file that a visitor loaded last, which is held no longer; None where it was taken before."""
    file, button._impl.value = button.value, _TAKEN
    return None if file is _TAKEN else file.content


def _all_arrived(message: _messages.FileTransferStartUpload) -> _messages.FileTransferPartAck:
    """Ends the page's waiting: it counts what has arrived, and knows no refusal."""
    return _messages.FileTransferPartAck(
        source_component_uuid=message.source_component_uuid,
        transfer_uuid=message.transfer_uuid,
        transferred_bytes=message.size_bytes,
        total_bytes=message.size_bytes,
    )
