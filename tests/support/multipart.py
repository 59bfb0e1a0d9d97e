"""Uploads to /create in chunks, also malformed ones that no client library would send."""

from collections.abc import Iterable, Iterator

HEADER = b"Contact Name,Phone Number\n"
ROW = b"Bo,0401234567\n"


def field(name: str, value: bytes, more: bytes = b"") -> bytes:
    """A form field; the boundary is B."""
    return b'--B\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (name.encode(), more, value)


def form(file: Iterable[bytes] = (HEADER, ROW), end: bytes = b"\r\n--B--\r\n", **fields: bytes) -> Iterator[bytes]:
    """The chunks of an upload."""
    workspace = b"00000000-0000-7000-8000-000000000001"
    for name, value in {"name": b"bad", "message": b"Hi", "workspace_id": workspace, **fields}.items():
        yield field(name, value)
    yield b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
    yield from file
    yield end
