# docker build -t nearward . && docker run --rm -v "$PWD/nearward-demo:/work/nearward-demo" nearward
FROM python:3.12-slim
RUN apt-get update && apt-get install --no-install-recommends --yes libgomp1 && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu /src && rm -rf /src
RUN useradd --create-home nearward && mkdir /work && chown nearward /work
USER nearward
WORKDIR /work
CMD ["nearward", "demo"]
