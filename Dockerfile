# bertjax as a command, installed as scripts/quickstart.sh installs it: from this checkout, pinned by constraints.txt.
#
#   docker build -t bertjax .
#   docker run --init --rm -v bertjax:/work bertjax finetune --out runs/trec
#   docker run --init --rm -v bertjax:/work -p 127.0.0.1:8000:8000 bertjax serve --model runs/trec/model --host 0.0.0.0
#
# The volume keeps runs, downloads and compiled programs. Inside its container the server listens on all addresses, since
# no other reaches it from outside; -p 127.0.0.1:8000:8000 publishes it on this machine alone. For a GPU build with
# --build-arg EXTRA=serve,cuda and run with --gpus all. compose.yaml has the same with MLflow.
FROM python:3.11-slim

ARG EXTRA=serve
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

RUN useradd --create-home --uid 1000 bertjax && mkdir /work && chown bertjax /work

WORKDIR /opt/bertjax
COPY . .
# The user that runs it may write neither code nor packages.
RUN --mount=type=cache,target=/root/.cache/pip \
    source scripts/environment.sh && install "$EXTRA" && .venv/bin/python -m compileall -q bertjax

ENV PATH=/opt/bertjax/.venv/bin:$PATH \
    XDG_CACHE_HOME=/work/.cache
USER 1000
WORKDIR /work
EXPOSE 8000
ENTRYPOINT ["bertjax"]
CMD ["finetune"]
