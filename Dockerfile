# A static binary, alone in its image:
#
#   docker build -t onnxseal .
#   docker run --rm -v "$PWD:/work:ro" onnxseal verify --require-protected .
#
# A static binary loads no library, ONNX Runtime's neither, so it is built without `assess` and `rank`.
#
# With a shell, as GitLab and others want it: docker build --target ci -t onnxseal:ci .
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends musl-tools && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN rustup target add "$(uname -m)-unknown-linux-musl" \
    && cargo build --release --locked --no-default-features --features aws-lc --target "$(uname -m)-unknown-linux-musl" \
    && cp "target/$(uname -m)-unknown-linux-musl/release/onnxseal" /onnxseal

FROM alpine:3.22 AS ci
COPY --from=build /onnxseal /usr/local/bin/onnxseal
WORKDIR /work

FROM scratch
COPY --from=build /onnxseal /onnxseal
WORKDIR /work
ENTRYPOINT ["/onnxseal"]
