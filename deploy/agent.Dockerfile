# The image of the agent: the program and nothing else, as a user without rights.
#
#   deploy/image-context target/release/agent target/image/agent
#   docker build -f deploy/agent.Dockerfile target/image/agent
#
# On a base with a shell, for debugging: add `program-only` to the first line, `--build-arg BASE=debian:12-slim` to
# the second.
ARG BASE=scratch
FROM ${BASE}
COPY . /
USER 65532:65532
ENTRYPOINT ["/bin/agent"]
