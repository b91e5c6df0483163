{{/* What the operator may do in a namespace that it looks after: what `operator rbac` prints. */}}
{{- define "operator.rules" -}}
- apiGroups: [consulcluster.dev]
  resources: [consulclusters]
  verbs: [get, list, watch]
- apiGroups: [consulcluster.dev]
  resources: [consulclusters/status, consulclusters/finalizers]
  verbs: [update]
# Saved states. A schedule makes snapshots, and deletes those whose file it has deleted; restoreFrom makes a restore.
# Credentials of storages are read by the pods of the jobs only.
- apiGroups: [consulcluster.dev]
  resources: [consulsnapshots]
  verbs: [get, list, watch, create, delete]
- apiGroups: [consulcluster.dev]
  resources: [consulsnapshotschedules]
  verbs: [get, list, watch]
- apiGroups: [consulcluster.dev]
  resources: [consulrestores]
  verbs: [get, list, watch, create]
- apiGroups: [consulcluster.dev]
  resources:
    - consulsnapshots/status
    - consulsnapshotschedules/status
    - consulrestores/status
    - consulsnapshots/finalizers
    - consulrestores/finalizers
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [statefulsets, daemonsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, delete]
# A server is replaced by an eviction, which draws on the same budget as the drain of a node.
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
# Never deleted.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
# Keys, certificates and tokens of the clusters, and those that a spec names. Never listed, watched or deleted.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# What the StatefulSet controller was refused is only said there.
- apiGroups: [""]
  resources: [events]
  verbs: [list]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
