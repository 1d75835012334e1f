"""What tests of a failing model server ask of the gateway, and what they read of it."""

import base64
import io
import re

from PIL import Image

from tests.support.processes import Answer, Gateway


def picture() -> bytes:
    """A picture of one color, as PNG."""
    file = io.BytesIO()
    Image.new("RGB", (299, 299), (9, 99, 199)).save(file, "PNG")
    return file.getvalue()


UPLOAD = {"image": base64.b64encode(picture()).decode(), "top": 1}


def metric(of: Gateway, name: str, **labels: str) -> float:
    """A number of /metrics now; 0 where there is none yet."""
    written = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    sample = f"{name}{{{written}}} " if labels else f"{name} "
    lines = [line for line in of.metrics().splitlines() if line.startswith(sample)]
    return float(lines[0].removeprefix(sample)) if lines else 0.0


def circuit(of: Gateway, model: str = "clothing-model") -> str:
    """The state of the model's circuit."""
    sample = rf'^tensorgate_model_circuit{{model="{model}",state="([a-z-]+)"}} 1\.0$'
    (found,) = re.findall(sample, of.metrics(), re.MULTILINE)
    return str(found)


def times_opened(of: Gateway, model: str = "clothing-model") -> float:
    """How often the model's circuit has opened."""
    return metric(of, "tensorgate_model_circuit_opened_total", model=model)


def check(answer: Answer, status: int, slug: str) -> None:
    """The answer is that problem, says when to come back, and nothing of what is behind."""
    document = answer.json
    assert (answer.status, document["type"]) == (status, f"urn:tensorgate:problem:{slug}")
    assert answer.headers["content-type"] == "application/problem+json"
    assert ("retry-after" in answer.headers) == (status == 503)
    assert "127.0.0.1" not in answer.body.decode()
