# Kubernetes without Docker: the components as processes of this machine, in a mount namespace of their own and a
# network namespace for each node, with no way out. All of them are in one control group, so that `down` ends exactly
# those, and their mounts vanish with them.
# shellcheck shell=bash disable=SC2154 # root, name, bin, state, here: set by ../bed

packages=(containerd runc containernetworking-plugins buildah iproute2 iptables conntrack socat openssl)
components=(coredns etcd kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubectl kubelet provisioner)
kubernetes=1.34.4
pause=localhost/pause:1

run_dir=/run/$name
group=/sys/fs/cgroup/pids/$name
network=10.123.0   # of the nodes; .N is node N
domain=cluster.local

tools() {
    install_packages
    build_programs
}

install_packages() {
    local missing=() package
    for package in "${packages[@]}"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    apt-get update -qq || die "apt-get update failed, and these packages are missing: ${missing[*]}"
    # No service of theirs is wanted: the tests start containerd themselves.
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        die "these packages cannot be installed: ${missing[*]}"
}

build_programs() {
    # A lock, as it may have been started in the background already.
    exec 9>"$bin/.lock"
    flock 9
    local wanted
    wanted=$(cat "$here"/bare/{*.go,go.mod,go.sum,pause/pause.c,provider.sh} | sha256sum)
    if [[ $(cat "$bin/.built" 2>/dev/null) != "$wanted" ]]; then
        local version=k8s.io/component-base/version
        (
            cd "$here/bare"
            go build -trimpath -buildvcs=false -o "$bin/kubernetes" \
                -ldflags "-s -w -X $version.gitVersion=v$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=34" .
            build_tools
            cc -static -Os -s -o "$bin/pause" pause/pause.c
        ) || die "the Kubernetes programs do not build"
        local component
        for component in "${components[@]}"; do
            ln -sf kubernetes "$bin/$component"
        done
        echo "$wanted" >"$bin/.built"
    fi
    flock -u 9
}

# --- up ---------------------------------------------------------------------------------------------------------

up() {
    local nodes=$1 node
    [[ -d /sys/fs/cgroup/pids ]] || die "the bare provider needs cgroup v1 with the pids controller: use PROVIDER=kind here"
    mkdir -p "$state"/{log,pki,conf,volumes,var-log-pods,var-log-containers,var-lib-cni} "$run_dir"
    make_groups "$nodes"
    make_networks "$nodes"
    make_namespace
    make_certificates "$nodes"
    pause_image &
    local image=$!
    for ((node = 1; node <= nodes; node++)); do
        start_containerd "$node"
    done
    start_control_plane
    wait "$image"
    for ((node = 1; node <= nodes; node++)); do
        start_node "$node"
    done
    kubectl_apply <"$here/bare/storage-class.yaml"
    until_true 120 "$nodes nodes are ready" all_ready "$nodes"
    echo "$state/kubeconfig"
}

# A group for the components and one for each node: a kubelet ends what it does not know in its own.
make_groups() {
    local nodes=$1 controller node
    for controller in /sys/fs/cgroup/*/; do
        [[ -e $controller/cgroup.clone_children ]] || continue
        make_group "$controller" "$name"
        for ((node = 1; node <= nodes; node++)); do
            make_group "$controller" "$name/node-$node"
        done
    done
    mkdir -p "$group/components"
}

# make_group CONTROLLER NAME
make_group() {
    mkdir -p "$1/$2"
    # A cpuset group takes nothing from its parent by itself, and holds no process until it has both.
    if [[ -e $1/cpuset.cpus ]]; then
        cat "$1/cpuset.cpus" >"$1/$2/cpuset.cpus"
        cat "$1/cpuset.mems" >"$1/$2/cpuset.mems"
    fi
}

# Node 1 has a bridge with its own address; the others hang on it. (The kernel may have no dummy device; a bridge does.)
make_networks() {
    local node other nodes=$1
    for ((node = 1; node <= nodes; node++)); do
        ip netns add "$name-$node"
        in_node "$node" ip link set lo up
        if ((node == 1)); then
            in_node 1 ip link add nodes type bridge
        else
            in_node 1 ip link add "node$node" type veth peer name nodes netns "$name-$node"
            in_node 1 ip link set "node$node" master nodes up
        fi
        in_node "$node" ip address add "$network.$node/24" dev nodes
        in_node "$node" ip link set nodes up
        # Components look for the default route to find their own address; it leads nowhere.
        in_node "$node" ip route add default dev nodes
        in_node "$node" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
        for ((other = 1; other <= nodes; other++)); do
            ((other == node)) || in_node "$node" ip route add "10.244.$other.0/24" via "$network.$other"
        done
    done
}

# nsenter, not `ip netns exec`: that one mounts /sys anew, and the kubelet then finds no control groups.
in_node() {
    local node=$1
    shift
    nsenter --net="/run/netns/$name-$node" "$@"
}

# The mount namespace that all components share, held by a process that sleeps.
make_namespace() {
    local holder=$run_dir/holder
    rm -f "$holder"
    # shellcheck disable=SC2016
    in_group setsid unshare --mount --propagation private sh -c '
        set -e
        mount --make-rshared /
        mkdir -p /var/log/pods /var/log/containers /var/lib/cni /run/containerd
        mount --bind "$1/var-log-pods" /var/log/pods
        mount --bind "$1/var-log-containers" /var/log/containers
        mount --bind "$1/var-lib-cni" /var/lib/cni
        mount -t tmpfs none /run/containerd
        echo $$ >"$2.new"
        mv "$2.new" "$2"
        exec sleep infinity
    ' holder "$state" "$holder" </dev/null >"$state/log/holder" 2>&1 9>&- &
    until_true 30 "the mount namespace is there" test -s "$holder"
}

in_group() (
    echo "$BASHPID" >"$group/components/cgroup.procs"
    exec "$@"
)

# start NODE LOG COMMAND...: a component, in the background, in the namespaces.
start() {
    local node=$1 log=$state/log/$2
    shift 2
    in_group setsid nsenter --mount="/proc/$(cat "$run_dir/holder")/ns/mnt" --net="/run/netns/$name-$node" \
        "$@" </dev/null >"$log" 2>&1 9>&- &
    disown
}

# --- certificates -----------------------------------------------------------------------------------------------

make_certificates() {
    local nodes=$1 node
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=consulbed \
        -keyout "$state/pki/ca.key" -out "$state/pki/ca.crt" 2>/dev/null
    openssl ecparam -name prime256v1 -genkey -noout -out "$state/pki/accounts.key"
    certificate apiserver /CN=kube-apiserver \
        "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:10.96.0.1,IP:$network.1,IP:127.0.0.1"
    certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
    identity admin /O=system:masters/CN=admin
    identity kube-controller-manager /CN=system:kube-controller-manager
    identity kube-scheduler /CN=system:kube-scheduler
    identity kube-proxy /CN=system:kube-proxy
    for ((node = 1; node <= nodes; node++)); do
        identity "node-$node" "/O=system:nodes/CN=system:node:node-$node"
    done
    cp "$state/conf/admin.kubeconfig" "$state/kubeconfig"
}

# certificate NAME SUBJECT [ALTERNATIVE NAMES]
certificate() {
    local files=$state/pki/$1 extension="extendedKeyUsage=clientAuth,serverAuth"
    [[ -z ${3:-} ]] || extension+=$'\n'"subjectAltName=$3"
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" \
        -keyout "$files.key" -out "$files.csr" 2>/dev/null
    openssl x509 -req -in "$files.csr" -CA "$state/pki/ca.crt" -CAkey "$state/pki/ca.key" -CAcreateserial \
        -days 30 -out "$files.crt" -extfile <(echo "$extension") 2>/dev/null
}

# identity NAME SUBJECT: a certificate and a kubeconfig that uses it.
identity() {
    certificate "$1" "$2"
    cat >"$state/conf/$1.kubeconfig" <<EOF
apiVersion: v1
kind: Config
clusters: [{name: bed, cluster: {server: "https://$network.1:6443", certificate-authority: "$state/pki/ca.crt"}}]
users: [{name: "$1", user: {client-certificate: "$state/pki/$1.crt", client-key: "$state/pki/$1.key"}}]
contexts: [{name: bed, context: {cluster: bed, user: "$1"}}]
current-context: bed
EOF
}

# --- components -------------------------------------------------------------------------------------------------

start_control_plane() {
    local pki=$state/pki conf=$state/conf
    start 1 etcd "$bin/etcd" --data-dir "$state/etcd" --unsafe-no-fsync --log-level warn \
        --listen-peer-urls "http://127.0.0.1:2380" --initial-advertise-peer-urls "http://127.0.0.1:2380" \
        --initial-cluster "default=http://127.0.0.1:2380" \
        --listen-client-urls "http://127.0.0.1:2379" --advertise-client-urls "http://127.0.0.1:2379"
    start 1 kube-apiserver "$bin/kube-apiserver" --etcd-servers http://127.0.0.1:2379 \
        --advertise-address "$network.1" --service-cluster-ip-range 10.96.0.0/16 \
        --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged \
        --client-ca-file "$pki/ca.crt" --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
        --kubelet-client-certificate "$pki/kubelet-client.crt" --kubelet-client-key "$pki/kubelet-client.key" \
        --kubelet-preferred-address-types InternalIP \
        --service-account-issuer "https://kubernetes.default.svc.$domain" \
        --service-account-key-file "$pki/accounts.key" --service-account-signing-key-file "$pki/accounts.key"
    export KUBECONFIG=$state/kubeconfig
    until_true 120 "the API server is ready" in_node 1 kubectl get --raw /readyz
    start 1 kube-controller-manager "$bin/kube-controller-manager" --kubeconfig "$conf/kube-controller-manager.kubeconfig" \
        --use-service-account-credentials --service-account-private-key-file "$pki/accounts.key" \
        --root-ca-file "$pki/ca.crt" --leader-elect=false --node-monitor-grace-period 16s --node-monitor-period 2s
    start 1 kube-scheduler "$bin/kube-scheduler" --kubeconfig "$conf/kube-scheduler.kubeconfig" --leader-elect=false
    start 1 provisioner "$bin/provisioner" -kubeconfig "$state/kubeconfig" -root "$state/volumes"
    cat >"$conf/Corefile" <<EOF
. {
    errors
    kubernetes $domain in-addr.arpa {
        kubeconfig $state/kubeconfig
    }
}
EOF
    start 1 coredns "$bin/coredns" -conf "$conf/Corefile"
}

start_containerd() {
    local node=$1 conf=$state/conf/node-$1
    mkdir -p "$conf/cni" "$state/node-$node" "$run_dir/$node"
    cat >"$conf/cni/10-bed.conflist" <<EOF
{"cniVersion": "1.0.0", "name": "bed", "plugins": [
  {"type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$state/node-$node/addresses", "ranges": [[{"subnet": "10.244.$node.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
EOF
    # The machine may lack CAP_SYS_RESOURCE: without it nobody may lower a process's oom_score_adj.
    cat >"$conf/containerd.toml" <<EOF
version = 2
root = "$state/node-$node/containerd"
state = "$run_dir/$node/containerd"
[grpc]
  address = "$(socket "$node")"
[plugins."io.containerd.internal.v1.opt"]
  path = "$state/node-$node/opt"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "$pause"
  netns_mounts_under_state_dir = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$conf/cni"
EOF
    start "$node" "containerd-$node" containerd --config "$conf/containerd.toml" --log-level warn
}

socket() {
    echo "$run_dir/$1/containerd.sock"
}

start_node() {
    local node=$1 conf=$state/conf/node-$1 work=$state/node-$1
    until_true 60 "containerd of node $node answers" ctr -a "$(socket "$node")" version
    import "$node" "$state/pause.tar"
    cat >"$conf/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: "$state/pki/ca.crt"}}
authorization: {mode: Webhook}
containerRuntimeEndpoint: "unix://$(socket "$node")"
cgroupDriver: cgroupfs
cgroupRoot: "/$name/node-$node"
failSwapOn: false
failCgroupV1: false
clusterDNS: ["$network.1"]
clusterDomain: $domain
# Names outside the cluster lead nowhere, and no search domain of this machine is to reach the pods.
resolvConf: /dev/null
evictionHard: {memory.available: "50Mi", nodefs.available: "100Mi", imagefs.available: "100Mi", nodefs.inodesFree: "1%"}
imageGCHighThresholdPercent: 100
imageMinimumGCAge: 24h
maxPods: 200
volumePluginDir: "$work/plugins"
nodeStatusUpdateFrequency: 4s
# How soon a changed Secret is in the files of a running pod: a minute by default, which tests would wait for several times.
syncFrequency: 10s
EOF
    start "$node" "kubelet-$node" "$bin/kubelet" --config "$conf/kubelet.yaml" \
        --kubeconfig "$state/conf/node-$node.kubeconfig" --hostname-override "node-$node" --node-ip "$network.$node" \
        --root-dir "$work/kubelet" --cert-dir "$work/kubelet-pki"
    start "$node" "kube-proxy-$node" "$bin/kube-proxy" --kubeconfig "$state/conf/kube-proxy.kubeconfig" \
        --proxy-mode iptables --conntrack-max-per-core 0 --conntrack-tcp-timeout-established 0 \
        --conntrack-tcp-timeout-close-wait 0 --cluster-cidr 10.244.0.0/16 --hostname-override "node-$node" \
        --iptables-min-sync-period 100ms
}

all_ready() {
    local ready
    ready=$(in_node 1 kubectl get nodes -o 'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' | grep -c True)
    ((ready == $1))
}

kubectl_apply() {
    in_node 1 kubectl apply -f - >/dev/null
}

# --- images -----------------------------------------------------------------------------------------------------

# Builds an image from a Dockerfile: build_image TAG ARCHIVE DOCKERFILE CONTEXT [BUILDAH ARGUMENT...]
build_image() {
    local tag=$1 archive=$2 dockerfile=$3 context=$4
    shift 4
    rm -f "$archive"
    export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
    set -- --root "$root/target/kube/images" --runroot "$run_dir/images" bud --quiet -t "$tag" -f "$dockerfile" "$@" "$context"
    buildah "$@" >/dev/null || die "the image $tag cannot be built from $dockerfile"
    buildah --root "$root/target/kube/images" --runroot "$run_dir/images" push --quiet "$tag" "docker-archive:$archive:$tag" >/dev/null
}

pause_image() {
    local context=$state/pause
    mkdir -p "$context"
    cp "$bin/pause" "$context/"
    printf 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n' >"$context/Dockerfile"
    build_image "$pause" "$state/pause.tar" "$context/Dockerfile" "$context"
}

import() {
    ctr -a "$(socket "$1")" -n k8s.io images import "$2" >/dev/null || die "node $1 does not take the image archive $2"
}

load() {
    local archive node
    for archive in "$@"; do
        for node in "$run_dir"/[0-9]*; do
            import "${node##*/}" "$archive"
        done
    done
}

# Runs a command where the API server can be reached.
at_api() {
    in_node 1 "$@"
}

# node_ctr NODE ARGUMENT...: containerd's own client on a node, by the node's name in Kubernetes.
node_ctr() {
    local node=${1#node-}
    shift
    ctr -a "$(socket "$node")" "$@"
}

run() {
    [[ -s $state/kubeconfig ]] || die "there is no cluster: bed up makes one"
    export KUBECONFIG=$state/kubeconfig
    in_node 1 "$@"
}

# --- down -------------------------------------------------------------------------------------------------------

down() {
    kill_group
    local directory netns
    for directory in /sys/fs/cgroup/*/"$name"; do
        [[ -d $directory ]] || continue
        find "$directory" -depth -type d -exec rmdir {} +
    done
    for netns in /run/netns/"$name"-*; do
        [[ ! -e $netns ]] || ip netns delete "${netns##*/}"
    done
    rm -rf "$run_dir"
    rm -rf "$state"
}

# Ends every process of the group, the pods' too: they are all ours, and nobody else's is in there.
kill_group() {
    [[ -d $group ]] || return 0
    local limit=$((SECONDS + 60)) pids
    while pids=$(find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null) && [[ -n $pids ]]; do
        ((SECONDS < limit)) || die "these processes do not end: $pids"
        # shellcheck disable=SC2086
        kill -KILL $pids 2>/dev/null || true
        sleep 0.1
    done
}
