//! `operator crd`.

/// Prints the manifest.
pub(super) fn run() -> anyhow::Result<()> {
    super::print(&crate::crd::manifest()?)
}
