# Kubernetes in Docker containers, by kind.
# shellcheck shell=bash disable=SC2154 # root, name, bin, state, here: set by ../bed

kind=v0.30.0

tools() {
    command -v go >/dev/null || die "Go 1.24 or later is missing: https://go.dev/doc/install"
    docker info >/dev/null 2>&1 || die "Docker does not answer: install it, or start it (https://docs.docker.com/engine/install)"
    [[ -x $bin/kind ]] || GOBIN=$bin go install -trimpath sigs.k8s.io/kind@$kind
    [[ -x $bin/kubectl && ! -L $bin/kubectl ]] || (
        cd "$here/bare"
        rm -f "$bin/kubectl"
        go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$bin/kubectl" k8s.io/kubernetes/cmd/kubectl
    )
    (cd "$here/bare" && build_tools)
}

up() {
    local nodes=$1
    mkdir -p "$state"
    {
        printf 'kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n'
        for ((; nodes > 1; nodes--)); do
            printf -- '- role: worker\n'
        done
    } >"$state/kind.yaml"
    "$bin/kind" create cluster --name "$name" --config "$state/kind.yaml" --kubeconfig "$state/kubeconfig" --wait 5m >&2
    echo "$state/kubeconfig"
}

build_image() {
    local tag=$1 archive=$2 dockerfile=$3 context=$4
    shift 4
    docker build --quiet -t "$tag" -f "$dockerfile" "$@" "$context" >/dev/null
    docker save -o "$archive" "$tag"
}

load() {
    local archive
    for archive in "$@"; do
        "$bin/kind" load image-archive --name "$name" "$archive"
    done
}

# Runs a command where the API server can be reached.
at_api() {
    "$@"
}

# node_ctr NODE ARGUMENT...: containerd's own client on a node, by the node's name in Kubernetes.
node_ctr() {
    local node=$1
    shift
    docker exec "$node" ctr "$@"
}

run() {
    [[ -s $state/kubeconfig ]] || die "there is no cluster: bed up makes one"
    export KUBECONFIG=$state/kubeconfig
    exec "$@"
}

down() {
    [[ ! -x $bin/kind ]] || "$bin/kind" delete cluster --quiet --name "$name"
    rm -rf "$state"
}
