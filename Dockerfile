# docker build -t nearward . && mkdir -p nearward-demo
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/nearward-demo:/home/nearward/nearward-demo" nearward
# A small image: --build-arg PIP_EXTRA_INDEX_URL=… with PyTorch's index of CPU wheels.
FROM python:3.12-slim
# libgomp1 has the version of the base image's release.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --no-install-recommends --yes libgomp1 && rm -rf /var/lib/apt/lists/*
ARG PIP_EXTRA_INDEX_URL
COPY . /src
RUN pip install --no-cache-dir /src && rm -rf /src
RUN useradd --create-home --uid 1000 nearward
USER 1000
ENV MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /home/nearward
CMD ["nearward", "demo"]
