//! The container engine: namespaces, cgroups, overlayfs, seccomp
