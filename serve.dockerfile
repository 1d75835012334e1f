# A model in TensorFlow Serving. The build exports and checks it, so it needs only Docker:
#   docker build -f serve.dockerfile --build-arg MODEL_VERSION=1 -t clothing-model:1 .
# The image's tag carries MODEL_VERSION, and a version number is never used twice.
ARG PYTHON_IMAGE=python:3.11-slim
ARG SERVING_IMAGE=tensorflow/serving:2.19.1

FROM ${PYTHON_IMAGE} AS environment
COPY dependencies/model.txt /tmp/model.txt
RUN python -m venv --without-pip /opt/model \
 && python -m pip --python /opt/model/bin/python install --no-cache-dir --no-deps \
      --disable-pip-version-check --require-hashes --only-binary :all: -r /tmp/model.txt

FROM environment AS export
ARG MODEL_FILE=model/clothing/clothing.keras
ARG MODEL_CONTRACT=model/clothing/contract.json
ARG MODEL_NAME=clothing-model
ARG MODEL_VERSION=1
WORKDIR /build
COPY model model
COPY ${MODEL_FILE} source/
COPY ${MODEL_CONTRACT} source/contract.json
RUN /opt/model/bin/python -m model export "source/$(basename "${MODEL_FILE}")" \
      --contract source/contract.json \
      --name "${MODEL_NAME}" --version "${MODEL_VERSION}" --output /models \
 && /opt/model/bin/python -m model inspect --check "/models/${MODEL_NAME}/${MODEL_VERSION}"

FROM ${SERVING_IMAGE}
ARG MODEL_NAME=clothing-model
ENV MODEL_NAME=${MODEL_NAME}
COPY --from=export /models /models
USER 10001:10001
