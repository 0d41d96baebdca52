# bertjax as a command, installed as scripts/quickstart.sh installs it: from this checkout, pinned by constraints.txt.
#
#   docker build -t bertjax .
#   docker run --init --rm -v bertjax:/data bertjax finetune --out runs/trec
#   docker run --init --rm -v bertjax:/data -p 127.0.0.1:8000:8000 bertjax serve --model runs/trec/model --host 0.0.0.0
#
# The volume keeps runs, downloads and compiled programs. Inside its container the server listens on all addresses, since
# no other reaches it from outside; -p 127.0.0.1:8000:8000 publishes it on this machine alone. For a GPU build with
# --build-arg EXTRA=serve,cuda and run with --gpus all. compose.yaml has the same with MLflow.
FROM python:3.11-slim

ARG EXTRA=serve
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

RUN useradd --create-home --uid 1000 bertjax && mkdir /data && chown bertjax /data

WORKDIR /opt/bertjax
COPY . .
# The user that runs it may write neither code nor packages.
RUN --mount=type=cache,target=/var/cache/pip \
    export PIP_CACHE_DIR=/var/cache/pip && source scripts/environment.sh && install "$EXTRA" && .venv/bin/python -m compileall -q bertjax

ENV PATH=/opt/bertjax/.venv/bin:$PATH \
    XDG_CACHE_HOME=/data/.cache
USER 1000
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["bertjax"]
CMD ["finetune"]
