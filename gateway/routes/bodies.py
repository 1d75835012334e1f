"""What a caller of `POST /predict` asks, read from whichever form of body was sent."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.wrappers import Request

from gateway.errors import ImageTooLarge, InvalidRequest, ModelNotFound
from gateway.model_client.client import ModelSpec
from gateway.routes.base64_picture import read_picture
from gateway.routes.multipart import read_files
from gateway.routes.strict_json import parse_object
from gateway.scoring.parts import URL, Picture
from gateway.settings import Settings

SOURCES = ("url", "urls", "image")
OPTIONS = ("model", "version", "label", "top", "probabilities")

_LARGEST = 2**63 - 1
_LONGEST_LABEL = 256
"""TensorFlow Serving repeats a label that it does not know in a header, which has 8 KiB."""
_IMAGE_FIELD = re.compile(rb'"image"\s*:\s*"([^"]*)"')


@dataclass(frozen=True)
class Question:
    """Pictures to score, by which model, and how the scores are wanted.

    listed: whether the answer is a list under "predictions" rather than one flat object.
    """

    pictures: tuple[Picture, ...]
    listed: bool
    spec: ModelSpec
    top: int | None
    probabilities: bool


def read_question(request: Request, settings: Settings) -> Question:
    """What the request asks.

    Raises:
        InvalidRequest: a part of it is malformed, missing or unknown.
        ModelNotFound: it names a model that the settings do not.
        HTTPException: 413 and 415.
    """
    media = request.mimetype
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body as it is, without a Content-Encoding.")
    if media == "application/json":
        return _read_json(request, settings)
    if media.startswith("image/"):
        return _read_upload([_whole_picture(request, settings)], request, settings)
    if media == "multipart/form-data":
        boundary = request.mimetype_params.get("boundary", "")
        if not boundary:
            raise InvalidRequest("The Content-Type multipart/form-data names no boundary.")
        files = read_files(request.get_data(cache=False), boundary, settings.max_images)
        if not all(files):
            raise InvalidRequest("A file in the form is empty; send pictures' files.")
        return _read_upload(files, request, settings)
    raise UnsupportedMediaType(
        f"The body's Content-Type is {media[:80] or 'missing'}; send application/json, a picture "
        "as image/jpeg, image/png or another image type, or multipart/form-data with files."
    )


def _whole_picture(request: Request, settings: Settings) -> bytes:
    body = request.get_data(cache=False)
    if not body:
        raise InvalidRequest("The body is empty; send a picture's file.")
    if len(body) > settings.max_image_bytes:
        raise ImageTooLarge(f"The picture has more than {settings.max_image_bytes} bytes.")
    return body


def _read_upload(files: list[bytes], request: Request, settings: Settings) -> Question:
    options = _query_options(request.args)
    return _question(tuple(files), len(files) > 1, options, settings)


def _read_json(request: Request, settings: Settings) -> Question:
    if request.mimetype_params.get("charset", "utf-8").lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise UnsupportedMediaType("JSON is UTF-8: send application/json without another charset.")
    if request.args:
        raise InvalidRequest(
            'With a JSON body everything goes in it: write {"top": 3} there, not ?top=3.'
        )
    body = request.get_data(cache=False)
    _check_size(body, settings.max_json_bytes)
    fields = parse_object(body)
    unknown = next((name for name in fields if name not in (*SOURCES, *OPTIONS)), None)
    if unknown is not None:
        raise InvalidRequest(_unknown("field", unknown, (*SOURCES, *OPTIONS)))
    pictures, listed = _sources(fields, settings)
    return _question(pictures, listed, fields, settings)


def _check_size(body: bytes, limit: int) -> None:
    """Only the text of `image` may be long: nothing else is parsed beyond the limit."""
    size = len(body)
    if size > limit and (image := _IMAGE_FIELD.search(body)) is not None:
        size -= image.end(1) - image.start(1)
    if size > limit:
        raise RequestEntityTooLarge(
            f"The JSON body is larger than {limit} bytes, the picture in 'image' not counted."
        )


def _sources(fields: Mapping[str, Any], settings: Settings) -> tuple[tuple[Picture, ...], bool]:
    """The pictures and whether they are a list."""
    given = [name for name in SOURCES if name in fields]
    if len(given) != 1:
        raise InvalidRequest(
            f"Send one of 'url', 'urls' and 'image'; the body has {' and '.join(given) or 'none'}."
        )
    if given == ["url"]:
        return (URL(_string(fields, "url")),), False
    if given == ["image"]:
        return (read_picture(_string(fields, "image"), settings.max_image_bytes),), False
    urls = fields["urls"]
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        raise InvalidRequest("'urls' must be a list of at least one string.")
    if len(urls) > settings.max_images:
        raise InvalidRequest(f"'urls' holds {len(urls)}; send at most {settings.max_images}.")
    return tuple(URL(url) for url in urls), True


def _question(
    pictures: tuple[Picture, ...], listed: bool, options: Mapping[str, Any], settings: Settings
) -> Question:
    model = _string(options, "model") if "model" in options else settings.models[0]
    if model not in settings.models:
        known = ", ".join(settings.models)
        raise ModelNotFound(f"There is no model {model[:80]!r} here; there is {known}.")
    version = _whole_number(options, "version", 0)
    label = _string(options, "label") if "label" in options else None
    if label is not None and len(label) > _LONGEST_LABEL:
        raise InvalidRequest(f"'label' must have at most {_LONGEST_LABEL} characters.")
    if version is not None and label is not None:
        raise InvalidRequest("Send 'version' or 'label', not both.")
    probabilities = options.get("probabilities", False)
    if not isinstance(probabilities, bool):
        raise InvalidRequest("'probabilities' must be true or false.")
    top = _whole_number(options, "top", 1)
    return Question(pictures, listed, ModelSpec(model, version, label), top, probabilities)


def _query_options(query: "MultiDict[str, str]") -> dict[str, Any]:
    """The options of an address, as JSON would have them."""
    options: dict[str, Any] = {}
    for name, values in query.lists():
        if name not in OPTIONS:
            raise InvalidRequest(_unknown("option", name, OPTIONS) + _hint(name))
        if len(values) > 1:
            raise InvalidRequest(f"The address names {name!r} twice.")
        options[name] = _from_query(name, values[0])
    return options


def _from_query(name: str, text: str) -> Any:
    if name in ("version", "top") and text.isascii() and text.isdigit() and len(text) < 20:
        return int(text)
    if name == "probabilities" and text in ("true", "false"):
        return text == "true"
    return text


def _string(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{name!r} must be a string that is not empty.")
    return value


def _whole_number(fields: Mapping[str, Any], name: str, low: int) -> int | None:
    value = fields.get(name)
    if name not in fields:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= _LARGEST:
        raise InvalidRequest(f"{name!r} must be a whole number, {low} or more.")
    return value


def _unknown(kind: str, name: str, known: tuple[str, ...]) -> str:
    return f"There is no {kind} {name[:80]!r}; there are {', '.join(known)}."


def _hint(name: str) -> str:
    return f" Send {name!r} in a JSON body." if name in SOURCES else ""
