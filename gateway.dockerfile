# The gateway: Python, the packages of dependencies/gateway.txt and gateway/, nothing else.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
COPY dependencies/gateway.txt /tmp/gateway.txt
RUN python -m venv --without-pip /opt/gateway \
 && python -m pip --python /opt/gateway/bin/python install --no-cache-dir --no-deps \
      --disable-pip-version-check --require-hashes --only-binary :all: -r /tmp/gateway.txt
COPY gateway /opt/app/gateway
RUN /opt/gateway/bin/python -m compileall -q /opt/app

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/gateway /opt/gateway
COPY --from=build /opt/app /opt/app
WORKDIR /opt/app
# Addresses of a container's own; it writes nothing but worker files in /dev/shm.
ENV BIND=0.0.0.0:9696 METRICS_BIND=0.0.0.0:9697 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 9696 9697
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD \
  ["/opt/gateway/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9696/readyz', timeout=2)"]
ENTRYPOINT ["/opt/gateway/bin/python", "-m", "gateway"]
