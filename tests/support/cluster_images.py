"""The images that the cluster tests run: `python -m tests.support.cluster_images [SERVING_IMAGE]`.

Builds them with Docker and prints their names, for `kind load docker-image` or what stands for it.
A SERVING_IMAGE that ends in `:test`, as by default, is built from the embedded model server.
Version 2 of the model has other labels, another size and another scaling; version 3 is version 1
with its variables cut off, version 4 with a warm-up request that fails.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
GATEWAY = "tensorgate-gateway:0.1.0"
MODEL = "clothing-model"
SECOND_LABELS = ["trousers", "dress", "other"]
SECOND = {
    "format": 1,
    "labels": SECOND_LABELS,
    "preprocessing": {
        "height": 96,
        "width": 128,
        "scaling": "torch",
        "resampling": "bilinear",
    },
}
MAKE_SECOND = """
import sys
import keras
keras.utils.set_random_seed(2)
picture = keras.Input((96, 128, 3), name="picture")
pooled = keras.layers.AveragePooling2D(16)(picture)
scores = keras.layers.Dense(3, name="scores")(keras.layers.Flatten()(pooled))
keras.Model(picture, scores).save(sys.argv[1])
"""
CUT_OFF = "truncate --size=100 /models/{name}/3/variables/variables.data-00000-of-00001"
BAD_WARM_UP = (
    'cd /opt/app && /opt/model/bin/python -c "import tensorflow as tf;'
    " from tensorflow_serving.apis import prediction_log_pb2 as p;"
    " log = p.PredictionLog(); log.predict_log.request.model_spec.name = '{name}';"
    " log.predict_log.request.inputs['nothing'].CopyFrom(tf.make_tensor_proto(1.0));"
    " w = tf.io.TFRecordWriter('/models/{name}/4/assets.extra/tf_serving_warmup_requests');"
    ' w.write(log.SerializeToString()); w.close()"'
)


def build(tag: str, dockerfile: str, context: Path = ROOT, **arguments: str) -> str:
    """Build one image.

    Raises:
        CalledProcessError: Docker's last words are on standard error.
    """
    network = os.environ.get("BUILD_NETWORK", "default")
    command = ["docker", "build", "--quiet", "--network", network]
    command += ["--file", dockerfile, "--tag", tag]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    subprocess.run([*command, str(context)], check=True, stdout=subprocess.DEVNULL)
    return tag


def build_second(serving: str) -> str:
    """Version 2: another model, built as a user builds one of their own."""
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        for name in ("model", "dependencies"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, context / name, ignore=ignored)
        shutil.copy(ROOT / "serve.dockerfile", context)
        (context / "model" / "second.json").write_text(json.dumps(SECOND))
        subprocess.run(
            [sys.executable, "-c", MAKE_SECOND, str(context / "model" / "second.keras")], check=True
        )
        return build(
            f"{MODEL}:2",
            str(context / "serve.dockerfile"),
            context,
            SERVING_IMAGE=serving,
            MODEL_VERSION="2",
            MODEL_FILE="model/second.keras",
            MODEL_CONTRACT="model/second.json",
        )


def build_damaged(version: int, damage: str) -> str:
    """Version 1 under another number, with something wrong."""
    moved = f"mv /models/{MODEL}/1 /models/{MODEL}/{version}"
    lines = [f"FROM {MODEL}:1", "USER root", f"RUN {moved} && {damage.format(name=MODEL)}"]
    with tempfile.TemporaryDirectory() as folder:
        dockerfile = Path(folder) / "dockerfile"
        dockerfile.write_text("\n".join([*lines, "USER 10001:10001", ""]))
        return build(f"{MODEL}:{version}", str(dockerfile), Path(folder))


def main() -> None:
    """Build them all."""
    serving = sys.argv[1] if len(sys.argv) > 1 else "tensorgate-model-server:test"
    build(GATEWAY, "gateway.dockerfile")
    if serving.endswith(":test"):
        build(serving, "model/server/dockerfile")
    build(f"{MODEL}:1", "serve.dockerfile", SERVING_IMAGE=serving, MODEL_VERSION="1")
    build_second(serving)
    build_damaged(3, CUT_OFF)
    build_damaged(4, BAD_WARM_UP)
    print(GATEWAY, serving, *(f"{MODEL}:{version}" for version in range(1, 5)))


if __name__ == "__main__":
    main()
