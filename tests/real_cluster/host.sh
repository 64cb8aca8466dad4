#!/usr/bin/env bash
# Make this process a host with one CPU that is reached by ssh; started by enter.sh in namespaces of its own.
# usage: host.sh NAME ADDRESS HOST_KEY CHECKOUT VENV
set -euo pipefail
name=$1 address=$2 host_key=$3 checkout=$4 venv=$5
hostname "$name"

# The code must come the way that the cluster file sends it; only the environment is there already.
mkdir -p /tmp/venv
mount --bind "$venv" /tmp/venv
mount -t tmpfs -o size=1m tmpfs "$checkout"
mkdir -p "$venv"
mount --move /tmp/venv "$venv"
rmdir /tmp/venv

# What Ray reads to count CPUs, as in a container.
mount -t tmpfs -o size=1m tmpfs /sys/fs/cgroup
echo "100000 100000" >/sys/fs/cgroup/cpu.max

key=$(<"$host_key")
mount -t tmpfs -o size=16m tmpfs /run # which hides the other hosts
mkdir -m 755 /run/sshd
(umask 077 && echo "$key" >/run/host_key)
exec "$(command -v sshd)" -D -e -f /dev/null -h /run/host_key -o "ListenAddress=$address" \
  -o PasswordAuthentication=no -o KbdInteractiveAuthentication=no -o UsePAM=no -o MaxStartups=50
