"""Read the multipart body of an upload as a stream; each part is limited in size, text fields must be UTF-8."""

from collections.abc import AsyncGenerator, Callable

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from common.web.problems import Problem
from common.web.requests import check_body, too_large

_MAX_FIELDS = 10
_MAX_FIELD_BYTES = 64 * 1024  # of a field that is not a file


class _Parser(MultiPartParser):
    """Starlette's parser, which also rejects fields that are not UTF-8 and detects truncated bodies."""

    is_complete = False

    def on_part_end(self) -> None:
        part = self._current_part
        if part.file is None:
            try:
                part.data.decode()
            except UnicodeDecodeError as error:
                raise MultiPartException(
                    f"{part.field_name[:50]}: {error.reason} at byte {error.start}: send UTF-8"
                ) from None
        super().on_part_end()

    def on_end(self) -> None:
        self.is_complete = True


async def read_form(request: Request, max_bytes: int, take: Callable[[int], None]) -> FormData:
    """The fields of a body of up to `max_bytes`; a file is spooled to disk. The caller closes the form.

    `take` is called with the size of each piece, and may refuse it. Raises Problem 400, 413, 415, and what `take` does.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise Problem(415, "Not multipart", "send multipart/form-data (curl: -F, HTML form: enctype)")
    charset = options.get(b"charset", b"utf-8").lower()
    if charset not in (b"utf-8", b"utf8"):
        raise Problem(415, "Charset not supported", f"{charset.decode('latin-1')!r} is not supported: send UTF-8")
    check_body(request, max_bytes)
    parser = _Parser(
        request.headers,
        _bounded(request, max_bytes, take),
        max_files=1,
        max_fields=_MAX_FIELDS,
        max_part_size=_MAX_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Problem(400, "Multipart not understood", str(error.__cause__ or error.message)) from None
    if not parser.is_complete:
        await form.close()
        raise Problem(
            400, "Multipart not understood", "the body ends before its last boundary: was the upload cut off?"
        )
    return form


async def _bounded(request: Request, max_bytes: int, take: Callable[[int], None]) -> AsyncGenerator[bytes]:
    received = 0
    async for piece in request.stream():
        received += len(piece)
        if received > max_bytes:
            raise too_large(max_bytes)
        take(len(piece))
        yield piece
