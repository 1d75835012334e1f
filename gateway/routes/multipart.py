"""The files of a multipart/form-data body, in memory and in the order they were sent."""

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder

from gateway.errors import InvalidRequest


def read_files(body: bytes, boundary: str, max_files: int) -> list[bytes]:
    """Each file's bytes, whatever its field's name.

    Raises:
        InvalidRequest: the body is broken or cut off, holds no file, too many, or a field that
            is no file.
    """
    try:
        files = _read(body, boundary, max_files)
    except RequestEntityTooLarge as error:
        raise InvalidRequest(f"The body holds more than {max_files} files.") from error
    except (ValueError, UnicodeError) as error:
        raise InvalidRequest("The multipart/form-data body is broken or cut off.") from error
    if not files:
        raise InvalidRequest("The multipart/form-data body holds no file.")
    return files


def _read(body: bytes, boundary: str, max_files: int) -> list[bytes]:
    decoder = MultipartDecoder(boundary.encode("latin-1"), max_parts=max_files)
    decoder.receive_data(body)
    decoder.receive_data(None)
    files: list[bytes] = []
    while not isinstance(event := decoder.next_event(), Epilogue):
        if isinstance(event, Field):
            raise InvalidRequest(
                f"The form's field {event.name!r} is not a file; options go in the query: ?top=3."
            )
        if isinstance(event, File):
            files.append(b"")
        elif isinstance(event, Data):
            files[-1] += event.data
    return files
