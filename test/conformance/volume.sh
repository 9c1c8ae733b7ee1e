#!/bin/bash
# A volume's life with the unmodified openstack command, without a server.
# Needs OS_* of an administrator and IMAGE, the name of an active image.
# Prints "step: seconds"; the first failure ends it.
set -euo pipefail
export PYTHONWARNINGS=ignore
began=$SECONDS
say() { echo "$1: $((SECONDS - began))s"; }
o() { openstack "$@"; }
# await KIND NAME STATUS
await() {
  local kind=$1 name=$2 status=$3
  for _ in $(seq 60); do
    local now
    now=$(o $kind show "$name" -f value -c status)
    [ "$now" = "$status" ] && return
    case $now in error*) break ;; esac
  done
  echo "$kind $name is $now, not $status" >&2
  o $kind show "$name" >&2
  return 1
}

[ "$(o volume type list --default -f value -c Name)" = __DEFAULT__ ]
o volume service list -f value -c Binary | grep -q cinder-volume
say "service and type"

o volume create blank --size 1 --property a=b >/dev/null
await volume blank available
o volume set blank --size 2
await volume blank available
[ "$(o volume show blank -f value -c size)" = 2 ]
o volume list -f value -c Name | grep -qx blank
say "blank volume, grown"

o volume snapshot create snap --volume blank >/dev/null
await "volume snapshot" snap available
o volume create copy --snapshot snap >/dev/null
await volume copy available
o volume create clone --source copy >/dev/null
await volume clone available
say "snapshot, volume of it, clone"

o volume create root --size 1 --image "$IMAGE" >/dev/null
await volume root available
[ "$(o volume show root -f value -c bootable)" = true ]
say "volume of an image"

o volume backup create blank --name kept >/dev/null
await "volume backup" kept available
o volume backup create blank --name more --incremental >/dev/null
await "volume backup" more available
say "backups"

o volume type create luks --encryption-provider luks --encryption-control-location front-end >/dev/null
o volume create secret --size 1 --type luks >/dev/null
await volume secret available
say "encrypted volume"

for b in more kept; do o volume backup delete "$b"; while o volume backup show "$b" >/dev/null 2>&1; do :; done; done
o volume snapshot delete snap
while o volume snapshot show snap >/dev/null 2>&1; do :; done
o volume delete blank copy clone root secret
while [ -n "$(o volume list -f value -c ID)" ]; do :; done
say "all deleted"
