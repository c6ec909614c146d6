# xMAE on a server: preparation, training, export, bench. PyTorch for CPUs by default; for CUDA take
# the wheels of PyPI, which bring its libraries; the host brings the driver:
#   docker build --tag xmae .
#   docker build --tag xmae:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .
#   docker run --rm --volume xmae-runs:/home/xmae/runs xmae demo
#   docker run --rm --gpus all --volume xmae-runs:/home/xmae/runs xmae:cuda pretrain STORE
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY xmae ./xmae
COPY quantize ./quantize
COPY export ./export
COPY benchmarks ./benchmarks
COPY firmware_sim ./firmware_sim
RUN python -m venv /opt/xmae \
    && /opt/xmae/bin/pip install --no-cache-dir --constraint constraints.txt --index-url "${TORCH_INDEX}" torch \
    && /opt/xmae/bin/pip install --no-cache-dir --constraint constraints.txt ".[edge,firmware]"

FROM python:${PYTHON}-slim-bookworm
RUN useradd --create-home --uid 1000 xmae && install --directory --owner xmae /home/xmae/runs
COPY --from=build /opt/xmae /opt/xmae
ENV PATH=/opt/xmae/bin:$PATH PYTHONUNBUFFERED=1
USER 1000
WORKDIR /home/xmae
ENTRYPOINT ["xmae"]
CMD ["--help"]
