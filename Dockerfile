# The project with its environment: docker build --tag abalone . && docker run --rm abalone classify --epochs 5
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /abalone
COPY . .
RUN make .venv/.installed

ENV PATH="/abalone/.venv/bin:$PATH"
ENTRYPOINT ["python", "-m", "abalone"]
CMD ["--help"]
