# syntax=docker/dockerfile:1
# pullpass and the CA certificates, and nothing else. docs/image.md says how to build it and what is shown of it.

# The builder runs on its own architecture and compiles for the image's.
FROM --platform=$BUILDPLATFORM rust:1.95.0-slim-bookworm AS build
ARG TARGETARCH
WORKDIR /src
COPY scripts/build-static scripts/build-static
RUN scripts/build-static prepare "$TARGETARCH"
COPY . .
ARG SOURCE_DATE_EPOCH
RUN scripts/build-static build "$TARGETARCH" /image

FROM scratch
COPY --from=build /image /
# A number: the kubelet can't tell from a name that it is not root.
USER 65533:65533
# The webhook; metrics and probes.
EXPOSE 8443 8080
ENTRYPOINT ["/pullpass"]
CMD ["serve"]
