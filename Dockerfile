# CPU:  docker build -t focaldistiller .
# GPU:  docker build -t focaldistiller:cuda --build-arg BASE=nvidia/cuda:13.0.0-devel-ubuntu24.04 \
#                    --build-arg FORCE_CUDA=1 --build-arg TORCH_CUDA_ARCH_LIST="8.0;9.0" .
#       docker run --gpus all --shm-size 16g -it -v /data/nuscenes:/focaldistiller/data/nuscenes focaldistiller:cuda
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

# The CUDA images come without Python; python:3.11-slim has its own, with headers, and does not need Debian's.
# Ubuntu's Python brings tzdata, which would ask where we are.
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git make \
    && { command -v python3 || apt-get install -y --no-install-recommends python3 python3-dev python3-venv; } \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /focaldistiller
ARG FORCE_CUDA=0
ARG TORCH_CUDA_ARCH_LIST=""
ENV FORCE_CUDA=${FORCE_CUDA} TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST}

# What set-up reads comes first, so that editing anything else does not compile again.
COPY Makefile pyproject.toml LICENSE ./
COPY requirements requirements
COPY tools/__init__.py tools/__init__.py
COPY tools/setup tools/setup
COPY projects/__init__.py projects/__init__.py
COPY projects/mmdet3d_plugin projects/mmdet3d_plugin
RUN make setup && rm -rf /root/.cache/pip
COPY . .

ENV PATH=/focaldistiller/.venv/bin:${PATH}
CMD ["bash"]
