"""This machine and this process: atomic files, the fingerprint, cgroups, GPUs, noise, user code, native libraries."""
