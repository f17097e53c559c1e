# The web service without TensorFlow:
#   docker build -t gtsrb:0.1.0 . && docker run --rm --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 gtsrb:0.1.0
# GTSRB_* (12_api) and UVICORN_* set it up; WEB_CONCURRENCY starts several processes, which share their metrics under /tmp. One that has died
# is missed after two seconds (UVICORN_TIMEOUT_WORKER_HEALTHCHECK), not five.

FROM python:3.12.12-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY gtsrb gtsrb
# The same cv2 without windows: it needs no system library. Only one of the two may be installed.
RUN python -m venv /app && \
    /app/bin/pip install --no-cache-dir . && \
    /app/bin/pip uninstall --yes opencv-python && \
    /app/bin/pip install --no-cache-dir 'opencv-python-headless>=4.11'
# What a request would otherwise pay for: the byte code, since the container writes none. And a first answer, before there is an image.
RUN /app/bin/python -m compileall -q /app/lib && \
    /app/bin/python -c "from gtsrb.predict import Predictor; from gtsrb.signs import legend_png; assert Predictor().predict([legend_png(14)])[0].class_id == 14" && \
    /app/bin/pip uninstall --yes pip

FROM python:3.12.12-slim-bookworm
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 UVICORN_HOST=0.0.0.0 UVICORN_PORT=8000 UVICORN_TIMEOUT_WORKER_HEALTHCHECK=2
WORKDIR /tmp
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['UVICORN_PORT']), timeout=4); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
# Python is process 1 and gets SIGTERM itself: /readyz says 503 for GTSRB_DRAIN_S, then what was begun is answered.
CMD ["uvicorn", "gtsrb.api:app"]
