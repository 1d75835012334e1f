"""What is wrong with a request is said in a sentence, and is never a 500."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from gateway.app import create_app
from gateway.errors import InvalidRequest
from gateway.routes.multipart import read_files
from gateway.routes.strict_json import parse_object
from tests.support.fake_serving import FakeVersion, gray, one_server, parts, settings

URL = "https://pictures.example/7"
LIMITS = {"MAX_JSON_BYTES": "1024", "MAX_IMAGE_BYTES": "4096", "MAX_IMAGES": "3"}


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    made = parts(one_server(v1=FakeVersion()), first_start=None, **LIMITS)
    return create_app(settings(**LIMITS), made).test_client()


def refused(answer: Any) -> tuple[int, str, str]:
    """Status, slug and detail of an answer that must be a problem."""
    assert answer.content_type == "application/problem+json", answer.text
    document = answer.get_json(force=True)
    assert document["status"] == answer.status_code
    return answer.status_code, document["type"].rpartition(":")[2], document["detail"]


BODIES: list[tuple[str, bytes, str]] = [
    ("empty", b"", "not JSON"),
    ("text", b"url=https://pictures.example/7", "not JSON"),
    ("cut off", b'{"url": "https://pict', "not JSON"),
    ("two documents", b'{"url": "a"} {"url": "b"}', "not JSON"),
    ("single quotes", b"{'url': 'a'}", "not JSON"),
    ("trailing comma", b'{"url": "a",}', "not JSON"),
    ("control character", b'{"url": "a\nb"}', "not JSON"),
    ("byte order mark", b'\xef\xbb\xbf{"url": "a"}', "byte order mark"),
    ("UTF-16", '{"url": "a"}'.encode("utf-16"), "not UTF-8"),
    ("UTF-16 without mark", '{"url": "a"}'.encode("utf-16-le"), "not JSON"),
    ("latin-1", '{"url": "é"}'.encode("latin-1"), "not UTF-8"),
    ("a list", b'["a"]', "object"),
    ("a string", b'"a"', "object"),
    ("null", b"null", "object"),
    ("nested deeply", b"[" * 1000, "nested too deeply"),
    ("duplicate", b'{"url": "a", "url": "b"}', "'url' twice"),
    ("duplicate, escaped", b'{"url": "a", "\\u0075rl": "b"}', "'url' twice"),
    ("NaN", b'{"url": NaN}', "NaN"),
    ("infinity", b'{"url": -Infinity}', "-Infinity"),
    ("huge float", b'{"url": 1e999}', "1e999"),
    ("huge integer", b'{"top": ' + b"9" * 500 + b"}", "'url', 'urls' and 'image'"),
    ("lone surrogate", b'{"url": "\\ud800"}', "surrogate"),
    ("lone surrogate in a name", b'{"\\udfff": 1}', "surrogate"),
    ("lone surrogate in a list", b'{"urls": [["\\ud800"]]}', "surrogate"),
    ("no source", b"{}", "none"),
    ("two sources", b'{"url": "a", "image": "b"}', "url and image"),
    ("unknown field", b'{"url": "a", "tops": 3}', "'tops'"),
    ("prototype", b'{"url": "a", "__proto__": {}}', "'__proto__'"),
    ("url null", b'{"url": null}', "'url'"),
    ("url number", b'{"url": 1}', "'url'"),
    ("url list", b'{"url": []}', "'url'"),
    ("url object", b'{"url": {}}', "'url'"),
    ("url true", b'{"url": true}', "'url'"),
    ("url empty", b'{"url": ""}', "'url'"),
    ("urls string", b'{"urls": "a"}', "'urls'"),
    ("urls empty", b'{"urls": []}', "'urls'"),
    ("urls of numbers", b'{"urls": [1]}', "'urls'"),
    ("too many urls", b'{"urls": ["a", "b", "c", "d"]}', "at most 3"),
    ("image number", b'{"image": 5}', "'image'"),
    ("image empty", b'{"image": ""}', "'image'"),
    ("image not base64", b'{"image": "***"}', "base64"),
    ("image of one character", b'{"image": "A"}', "base64"),
    ("image with padding inside", b'{"image": "QQ==QQ=="}', "base64"),
    ("image beyond ASCII", '{"image": "QQé="}'.encode(), "base64"),
    ("data URL not base64", b'{"image": "data:image/png,abc"}', "base64"),
    ("data URL of nothing", b'{"image": "data:"}', "base64"),
    ("top zero", b'{"url": "a", "top": 0}', "'top' must be a whole number, 1 or more"),
    ("top fraction", b'{"url": "a", "top": 1.5}', "'top'"),
    ("top true", b'{"url": "a", "top": true}', "'top'"),
    ("top string", b'{"url": "a", "top": "3"}', "'top'"),
    ("top null", b'{"url": "a", "top": null}', "'top'"),
    ("probabilities 1", b'{"url": "a", "probabilities": 1}', "'probabilities'"),
    ("version string", b'{"url": "a", "version": "1"}', "'version'"),
    (
        "version negative",
        b'{"url": "a", "version": -1}',
        "'version' must be a whole number, 0 or more",
    ),
    ("version beyond int64", b'{"url": "a", "version": 9223372036854775808}', "'version'"),
    ("version and label", b'{"url": "a", "version": 1, "label": "b"}', "not both"),
    ("label too long", b'{"url": "a", "label": "' + b"x" * 257 + b'"}', "at most 256"),
    ("label number", b'{"url": "a", "label": 1}', "'label'"),
    ("model null", b'{"url": "a", "model": null}', "'model'"),
]


@pytest.mark.parametrize(
    ("body", "part"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES]
)
def test_a_wrong_json_body_is_told_what_is_wrong(
    client: FlaskClient, body: bytes, part: str
) -> None:
    answer = client.post("/predict", data=body, content_type="application/json")
    status, slug, detail = refused(answer)
    assert (status, slug) == (400, "invalid-request")
    assert part in detail


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_an_invalid_request(body: bytes) -> None:
    try:
        parse_object(body)
    except InvalidRequest:
        return


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_what_json_can_say_is_read_as_json_reads_it(document: dict[str, Any]) -> None:
    assert parse_object(json.dumps(document).encode()) == document
    assert parse_object(json.dumps(document, ensure_ascii=False).encode()) == document


def test_an_integer_of_5000_digits_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="digits"):
        parse_object(b'{"top": ' + b"9" * 5000 + b"}")


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_hundred_thousand_levels_are_refused(opening: bytes) -> None:
    with pytest.raises(InvalidRequest, match="deeply"):
        parse_object(opening * 100_000)


@pytest.mark.parametrize("extra", [0, 1])
def test_json_is_read_up_to_its_limit(client: FlaskClient, extra: int) -> None:
    body = b'{"url": "https://pictures.example/7"}'
    body += b" " * (1024 + extra - len(body))
    answer = client.post("/predict", data=body, content_type="application/json")
    assert answer.status_code == (413 if extra else 200)
    if extra:
        assert refused(answer)[:2] == (413, "content-too-large")


@pytest.mark.parametrize(
    "body",
    [
        b'{"image": "QQ==", "urls": [' + b'"a",' * 500 + b'"a"]}',
        b'{"x": [' + b"0," * 2000 + b'0], "image": "QQ=="}',
        b'{"url": "' + b"a" * 2000 + b'"}',
    ],
)
def test_beside_the_picture_json_has_its_limit(client: FlaskClient, body: bytes) -> None:
    answer = client.post("/predict", data=body, content_type="application/json")
    assert refused(answer)[0] == 413


def test_a_picture_in_base64_has_a_limit(client: FlaskClient) -> None:
    answer = client.post("/predict", json={"image": "A" * 6000})
    assert refused(answer)[:2] == (422, "image-too-large")


@pytest.mark.parametrize(
    "media",
    [
        None,
        "",
        "text/plain",
        "text/html",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "application/jsonp",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        "video/mp4",
        "nonsense",
    ],
)
def test_another_content_type_is_told_which_are_taken(
    client: FlaskClient, media: str | None
) -> None:
    answer = client.post("/predict", data=b'{"url": "a"}', content_type=media)
    status, slug, detail = refused(answer)
    assert (status, slug) == (415, "unsupported-media-type")
    assert "application/json" in detail


@pytest.mark.parametrize("media", ["application/json; charset=UTF-8", "Application/JSON ; x=y"])
def test_parameters_of_the_content_type_do_not_matter(client: FlaskClient, media: str) -> None:
    answer = client.post("/predict", data=b'{"url": "%s"}' % URL.encode(), content_type=media)
    assert answer.status_code == 200


def test_a_compressed_body_is_refused(client: FlaskClient) -> None:
    answer = client.post("/predict", json={"url": URL}, headers={"Content-Encoding": "gzip"})
    assert refused(answer)[0] == 415


def test_options_beside_a_json_body_go_in_it(client: FlaskClient) -> None:
    answer = client.post("/predict?top=3", json={"url": URL})
    assert refused(answer)[0] == 400


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("tops=3", "There is no option 'tops'"),
        ("url=a", "Send 'url' in a JSON body"),
        ("top=0", "'top'"),
        ("top=abc", "'top'"),
        ("top=-1", "'top'"),
        ("top=1&top=2", "twice"),
        ("top=%D9%A3", "'top'"),
        ("top=" + "9" * 30, "'top'"),
        ("probabilities=yes", "'probabilities'"),
        ("probabilities=1", "'probabilities'"),
        ("version=1.0", "'version'"),
        ("version=1&label=a", "not both"),
        ("model=", "'model'"),
    ],
)
def test_a_wrong_query_is_told_what_is_wrong(client: FlaskClient, query: str, part: str) -> None:
    answer = client.post(f"/predict?{query}", data=gray(1), content_type="image/png")
    status, slug, detail = refused(answer)
    assert (status, slug) == (400, "invalid-request")
    assert part in detail


@pytest.mark.parametrize(
    ("fields", "part"),
    [({"model": "shoes"}, "clothing-model"), ({"version": 7}, "7"), ({"label": "blue"}, "blue")],
)
def test_an_unknown_model_version_or_label_is_not_found(
    client: FlaskClient, fields: dict[str, Any], part: str
) -> None:
    status, slug, detail = refused(client.post("/predict", json={"url": URL, **fields}))
    assert (status, slug) == (404, "model-not-found")
    assert part in detail


def test_bytes_that_are_no_picture_are_refused(client: FlaskClient) -> None:
    answer = client.post("/predict", data=b"no picture", content_type="image/png")
    assert refused(answer)[:2] == (422, "undecodable-image")


def test_an_empty_upload_is_refused(client: FlaskClient) -> None:
    assert refused(client.post("/predict", data=b"", content_type="image/png"))[0] == 400


def test_an_upload_has_a_limit(client: FlaskClient) -> None:
    answer = client.post("/predict", data=b"x" * 4097, content_type="image/png")
    assert refused(answer)[:2] == (422, "image-too-large")


DISPOSITION = b'Content-Disposition: form-data; name="a"; filename="a"\r\n'
FILE = b"--xyz\r\n" + DISPOSITION + b"\r\ngray 1\r\n"


def form_with(head: bytes) -> bytes:
    return FILE.replace(DISPOSITION, head) + b"--xyz--\r\n"


FORMS: list[tuple[str, bytes, str]] = [
    ("empty", b"", "no file"),
    ("no file", b"--xyz--\r\n", "no file"),
    ("cut off", FILE[:-10], "broken or cut off"),
    ("without an end", FILE, "broken or cut off"),
    ("other boundary", FILE.replace(b"xyz", b"abc") + b"--abc--\r\n", "broken or cut off"),
    ("no disposition", b"--xyz\r\nA: b\r\n\r\ngray 1\r\n--xyz--\r\n", "broken or cut off"),
    ("two dispositions", form_with(DISPOSITION + DISPOSITION), "broken or cut off"),
    ("another disposition", form_with(DISPOSITION.replace(b"form-data", b"file")), "broken"),
    ("a folded disposition", form_with(DISPOSITION.replace(b" name", b"\r\n name")), "broken"),
    ("a header without a colon", form_with(DISPOSITION + b"a\r\n"), "broken or cut off"),
    ("a header in bare LF", form_with(DISPOSITION + b"a: b\n\n"), "broken or cut off"),
    ("nine headers", form_with(DISPOSITION + b"a: b\r\n" * 8), "broken or cut off"),
    ("a header of 8 KiB", form_with(DISPOSITION + b"a: " + b"b" * 8192 + b"\r\n"), "broken"),
    ("a part's other length", form_with(DISPOSITION + b"Content-Length: 5\r\n"), "broken"),
    ("not UTF-8", FILE.replace(b'"a"', b'"\xff"') + b"--xyz--\r\n", "broken or cut off"),
    ("a delimiter inside a line", b"-" + FILE + b"--xyz--\r\n", "broken or cut off"),
    ("only a delimiter inside a line", b"---xyz--\r\n", "broken or cut off"),
    ("a delimiter with more after it", FILE + b"--xyza\r\n--xyz--", "broken or cut off"),
    ("a head without an end", b"--xyz\r\n" + b"a: b\r\n" * 2000 + FILE, "broken or cut off"),
    ("a field", FILE.replace(b'; filename="a"', b"") + b"--xyz--\r\n", "'a' is not a file"),
    (
        "filename* alone",
        FILE.replace(b'filename="a"', b"filename*=utf-8''a") + b"--xyz--",
        "not a file",
    ),
    ("an empty file", FILE.replace(b"gray 1", b"") + b"--xyz--\r\n", "is empty"),
    ("an address", FILE.replace(b'; filename="a"', b"") + b"--xyz--\r\n", "goes in a JSON body"),
    ("too many files", FILE * 4 + b"--xyz--\r\n", "more than 3"),
]


@pytest.mark.parametrize(
    ("body", "part"), [row[1:] for row in FORMS], ids=[row[0] for row in FORMS]
)
def test_a_wrong_form_is_told_what_is_wrong(client: FlaskClient, body: bytes, part: str) -> None:
    answer = client.post("/predict", data=body, content_type="multipart/form-data; boundary=xyz")
    status, slug, detail = refused(answer)
    assert (status, slug) == (400, "invalid-request")
    assert part in detail


def test_a_form_cut_off_anywhere_is_refused() -> None:
    whole = FILE + form_with(DISPOSITION + b"Content-Type: image/png\r\n").removesuffix(b"\r\n")
    assert read_files(whole, "xyz", 2) == [b"gray 1", b"gray 1"]
    for size in range(len(whole)):
        with pytest.raises(InvalidRequest, match="broken or cut off"):
            read_files(whole[:size], "xyz", 2)


@pytest.mark.parametrize(
    "boundary",
    [
        "",
        "; boundary=",
        '; boundary=""',
        "; boundary=é",
        "; boundary*=UTF-8''%E2%82%AC",
        "; boundary*=UTF-8''%0A",
        "; boundary=" + "x" * 2000,
    ],
)
def test_a_form_without_a_usable_boundary_is_refused(client: FlaskClient, boundary: str) -> None:
    answer = client.post("/predict", data=FILE, content_type=f"multipart/form-data{boundary}")
    assert refused(answer)[0] == 400


@given(st.binary(max_size=300))
def test_any_form_is_answered(body: bytes) -> None:
    try:
        read_files(b"--xyz\r\n" + body, "xyz", 3)
    except InvalidRequest:
        return
