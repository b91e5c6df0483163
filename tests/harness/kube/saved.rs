use serde_json::{Value, json};

use super::{Path, Scene, wait_for};

impl Path {
    /// ConsulSnapshots.
    pub const SNAPSHOTS: Self = Self::new("apis/consulcluster.dev/v1alpha1", "consulsnapshots");
    /// ConsulSnapshotSchedules.
    pub const SCHEDULES: Self =
        Self::new("apis/consulcluster.dev/v1alpha1", "consulsnapshotschedules");
    /// ConsulRestores.
    pub const RESTORES: Self = Self::new("apis/consulcluster.dev/v1alpha1", "consulrestores");
    /// Jobs.
    pub const JOBS: Self = Self::new("apis/batch/v1", "jobs");
}

impl Scene {
    /// Makes a resource that is about saved states.
    ///
    /// # Panics
    /// When it is refused for good.
    pub fn make(&self, of: Path, kind: &str, name: &str, spec: &Value) {
        let object = json!({
            "apiVersion": "consulcluster.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
        });
        wait_for(&format!("{kind} {name} is taken"), || {
            self.kube.create(&of.list(&self.namespace), &object)
        });
    }

    /// Makes a claim for saved states.
    ///
    /// # Panics
    /// When it is refused.
    pub fn claim(&self, name: &str) {
        let object = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        });
        let list = Path::CLAIMS.list(&self.namespace);
        self.kube.create(&list, &object).expect("a claim");
    }

    /// Waits until the `status.phase` of an object is that one; its status.
    ///
    /// # Panics
    /// When it never is.
    #[track_caller]
    pub fn wait_phase_of(&self, of: Path, name: &str, phase: &str) -> Value {
        wait_for(&format!("{name} is {phase}"), || {
            let object = self.kube.get(&of.one(&self.namespace, name));
            let status = object.map_err(|e| e.to_string())?["status"].clone();
            (status["phase"] == phase)
                .then(|| status.clone())
                .ok_or(status.to_string())
        })
    }
}
