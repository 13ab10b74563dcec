# syntax=docker/dockerfile:1
# The operator's image: one binary, the helper that it brings into pods, and the few files of glibc that it needs. For amd64 and arm64:
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=0.3.0 -t REGISTRY/bonafide:0.3.0 --push .

FROM docker.io/library/rust:1.95-slim-bookworm AS build
WORKDIR /src
ENV CARGO_TERM_COLOR=never
# rust-toolchain.toml stays away: the image's own toolchain is that release, without the components for people.
# Dependencies alone first: this layer lasts until Cargo.toml, Cargo.lock or the helper change. The third member of the
# workspace is for tests; Cargo only wants to see that it exists.
COPY Cargo.toml Cargo.lock ./
COPY localcluster/Cargo.toml localcluster/
COPY helper helper
RUN mkdir -p src localcluster/src \
 && echo 'fn main() {}' | tee src/main.rs > localcluster/src/main.rs && touch src/lib.rs localcluster/src/lib.rs
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked cp "$(helper/build.sh)" /bonafide-helper
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    cargo build --profile shipping --locked --package bonafide --bin bonafide
COPY src src
COPY engines engines
# Cargo compares times: what was copied has to be newer than what was built.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    find src -name '*.rs' -exec touch {} + && cargo build --profile shipping --locked --package bonafide --bin bonafide

FROM docker.io/library/debian:bookworm-slim AS files
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates libgcc-s1 && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/shipping/bonafide /rootfs/bonafide
COPY --from=build /bonafide-helper /rootfs/bonafide-helper
# The loader stands where the binary looks for it (/lib64 on amd64, /lib on arm64), libraries where the loader does. ldd names
# what the binary is linked with; the resolver's modules are opened by name at run time.
RUN set -eu; cd /rootfs; mkdir -p etc/ssl/certs tmp; chmod 1777 tmp; \
    libs="$(dirname "$(ldconfig -p | sed -n 's/.*libc\.so\.6 .*=> //p' | head -n 1)")"; \
    ldd bonafide | sed -n 's#^[^/]*\(/[^ ]*\) (0x.*#\1#p' > /files; \
    for name in libc.so.6 libm.so.6 libgcc_s.so.1 libresolv.so.2 libnss_dns.so.2 libnss_files.so.2; do echo "$libs/$name"; done >> /files; \
    sort -u /files | while read -r file; do mkdir -p ".$(dirname "$file")"; cp -L "$file" ".$file"; done; \
    cp /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/; \
    echo 'hosts: files dns' > etc/nsswitch.conf; \
    echo 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin' > etc/passwd; \
    echo 'nonroot:x:65532:' > etc/group; \
    chroot /rootfs /bonafide --version; chroot /rootfs /bonafide-helper 2>&1 | grep --quiet usage

FROM scratch
ARG VERSION=0.3.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bonafide" \
      org.opencontainers.image.description="Serves open-weight AI models on Kubernetes, and only those whose weights are signed by somebody a policy trusts" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=files /rootfs /
USER 65532:65532
ENTRYPOINT ["/bonafide"]
