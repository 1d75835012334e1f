"""The files of a multipart/form-data body (RFC 7578), in the order they were sent."""

from multipart import MultipartError, MultipartSegment, PushMultipartParser

from gateway.errors import InvalidRequest

_BROKEN = "The multipart/form-data body is broken or cut off."


def read_files(body: bytes, boundary: str, max_files: int) -> list[bytes]:
    """Each file's bytes, whatever its field's name.

    Raises:
        InvalidRequest: the body is broken or cut off, holds no file, too many, or a field that
            is no file.
    """
    files: list[bytes] = []
    try:
        with PushMultipartParser(boundary, strict=True) as parser:
            for event in parser.parse(body):
                if isinstance(event, MultipartSegment):
                    if len(files) == max_files:
                        raise InvalidRequest(f"The body holds more than {max_files} files.")
                    _check_file(event)
                    files.append(b"")
                elif event is not None:
                    files[-1] += event
    except MultipartError as error:
        raise InvalidRequest(_BROKEN, log_detail=str(error.args[0])) from error
    if not files:
        raise InvalidRequest("The multipart/form-data body holds no file.")
    return files


def _check_file(part: MultipartSegment) -> None:
    """Refuse a part whose head does not say, once, that it is a file."""
    if [name for name, _ in part.headerlist].count("Content-Disposition") != 1:
        raise InvalidRequest(_BROKEN)
    if part.filename is None:
        raise InvalidRequest(
            f"The form's field {str(part.name)[:80]!r} is not a file. Options go in the address, "
            "as in ?top=3; a picture's URL goes in a JSON body."
        )
