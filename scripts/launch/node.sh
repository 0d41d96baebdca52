#!/usr/bin/env bash
# Makes a machine a node of a Ray cluster: mounts the folder that all nodes share, and installs bertjax as it is pinned.
#   bash scripts/launch/node.sh EXTRAS NFS_EXPORT      such as: cuda,cluster 10.0.0.2:/export
set -euo pipefail
extras="${1:?give the extras to install, such as cuda,cluster}" export="${2:?give the NFS export that all nodes share}"
cd "$(dirname "$0")/../.."
# A new machine may still be updating itself.
apt() { sudo DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq "$@"; }

if ! mountpoint -q /shared; then
  command -v mount.nfs >/dev/null || { apt update && apt install nfs-common; }
  sudo mkdir -p /shared
  sudo mount -t nfs "$export" /shared
  [ -w /shared ] || sudo chown "$(id -u):$(id -g)" /shared
fi

# Every node of a Ray cluster must have the same Python.
command -v python3.11 >/dev/null || { apt update && apt install python3.11 python3.11-venv; }
source scripts/environment.sh
PYTHON=python3.11 install "$extras"
