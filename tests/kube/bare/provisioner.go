package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// provisionerName is what the StorageClass names.
const provisionerName = "consulcluster.dev/folders"

// folders provisions volumes that are folders of this machine. They are of the kind `local`, as the kubelet gives such
// a volume to the pod's fsGroup; the built-in host-path provisioner's volumes stay root's, and no pod that passes the
// restricted Pod Security level could write to them.
type folders struct {
	root string
}

func provision(arguments []string) error {
	flags := flag.NewFlagSet("provisioner", flag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "", "how to reach the API server")
	root := flags.String("root", "", "folder in which the volumes' folders are made")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *root == "" {
		return errors.New("-root is missing: the folder in which the volumes' folders are made")
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx := context.Background()
	go grow(ctx, client)
	controller.NewProvisionController(ctx, client, provisionerName, folders{*root}, controller.LeaderElection(false)).Run(ctx)
	return nil
}

// grow gives claims the size that they ask for, as a resizer of a storage driver would. A folder has no size: the claim's and
// its volume's word are all that there is.
func grow(ctx context.Context, client kubernetes.Interface) {
	for ; ; time.Sleep(time.Second) {
		claims, err := client.CoreV1().PersistentVolumeClaims("").List(ctx, meta.ListOptions{})
		if err != nil {
			continue
		}
		for _, claim := range claims.Items {
			asked := claim.Spec.Resources.Requests[core.ResourceStorage]
			has, bound := claim.Status.Capacity[core.ResourceStorage]
			if !bound || asked.Cmp(has) <= 0 {
				continue
			}
			if err := resize(ctx, client, &claim, asked); err != nil {
				fmt.Fprintf(os.Stderr, "claim %s/%s does not grow: %v\n", claim.Namespace, claim.Name, err)
			}
		}
	}
}

// resize sets the volume's size, then the claim's: nobody else sees a claim that is larger than its volume.
func resize(
	ctx context.Context, client kubernetes.Interface, claim *core.PersistentVolumeClaim, size resource.Quantity,
) error {
	volume, err := client.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, meta.GetOptions{})
	if err != nil {
		return err
	}
	volume.Spec.Capacity[core.ResourceStorage] = size
	if _, err := client.CoreV1().PersistentVolumes().Update(ctx, volume, meta.UpdateOptions{}); err != nil {
		return err
	}
	claim.Status.Capacity[core.ResourceStorage] = size
	_, err = client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, claim, meta.UpdateOptions{})
	return err
}

// Provision makes the folder.
func (f folders) Provision(
	_ context.Context, options controller.ProvisionOptions,
) (*core.PersistentVolume, controller.ProvisioningState, error) {
	if options.SelectedNodeName == "" {
		return nil, controller.ProvisioningFinished, errors.New("the StorageClass must wait for the first consumer: a folder is on one node")
	}
	folder := filepath.Join(f.root, options.PVName)
	if err := os.Mkdir(folder, 0o770); err != nil && !os.IsExist(err) {
		return nil, controller.ProvisioningFinished, fmt.Errorf("cannot make the volume's folder: %w", err)
	}
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: options.PVName},
		Spec: core.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   options.PVC.Spec.AccessModes,
			Capacity: core.ResourceList{
				core.ResourceStorage: options.PVC.Spec.Resources.Requests[core.ResourceStorage],
			},
			PersistentVolumeSource: core.PersistentVolumeSource{
				Local: &core.LocalVolumeSource{Path: folder},
			},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{
				NodeSelectorTerms: []core.NodeSelectorTerm{{
					MatchExpressions: []core.NodeSelectorRequirement{{
						Key:      core.LabelHostname,
						Operator: core.NodeSelectorOpIn,
						Values:   []string{options.SelectedNodeName},
					}},
				}},
			}},
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes the folder and what is in it.
func (f folders) Delete(_ context.Context, volume *core.PersistentVolume) error {
	return os.RemoveAll(filepath.Join(f.root, volume.Name))
}
