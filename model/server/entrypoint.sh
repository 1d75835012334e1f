#!/bin/bash
# Starts the embedded model server the way the official image's entry point starts its own.
cd /opt/app && exec /opt/model/bin/python -m model.server --port=8500 --rest_api_port=8501 \
  --model_name="${MODEL_NAME}" --model_base_path="${MODEL_BASE_PATH}/${MODEL_NAME}" "$@"
