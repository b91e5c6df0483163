# The image of the operator: the program and nothing else, as a user without rights.
#
#   deploy/image-context target/release/operator target/image/operator
#   docker build -f deploy/operator.Dockerfile target/image/operator
#
# On a base with a shell, for debugging: add `program-only` to the first line, `--build-arg BASE=debian:12-slim` to
# the second.
ARG BASE=scratch
FROM ${BASE}
COPY . /
USER 65532:65532
ENTRYPOINT ["/bin/operator"]
