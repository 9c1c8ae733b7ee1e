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

# A backup whose volume and record are gone comes back by its exported record.
o volume backup create secret --name sealed >/dev/null
await "volume backup" sealed available
id=$(o volume backup show sealed -f value -c id)
record=$(o volume backup record export sealed -f json)
service=$(jq -r .backup_service <<<"$record") url=$(jq -r .backup_url <<<"$record")
other=$(cat /proc/sys/kernel/random/uuid)
copy=$(base64 -d <<<"$url" | jq -c --arg id "$other" '.id = $id' | base64 -w0)
! o volume backup record import "$service" "$url" 2>/dev/null # it is there
o volume backup record import "$service" "$copy" >/dev/null
await "volume backup" "$other" available
o volume backup delete "$id"
while o volume backup show "$id" >/dev/null 2>&1; do :; done
cinder backup-restore --name back "$other" >/dev/null
await volume back available
o volume backup delete "$other"
say "backup of an encrypted volume, exported and imported"

# Two pools: moved there and back by migration and by type, and encrypted on the way.
host=$(o volume show blank -f value -c os-vol-host-attr:host)
node=${host%@*} there=$node@second#second here=$node@local#local
[ "$host" = "$here" ] || { there=$here here=$host; }
# placed VOLUME HOST
placed() {
  for _ in $(seq 60); do
    [ "$(o volume show "$1" -f value -c os-vol-host-attr:host -c status | sort | paste -sd' ')" = "$(printf '%s\n' "$2" available | sort | paste -sd' ')" ] && return
  done
  o volume show "$1" >&2
  return 1
}
o volume migrate clone --host "$there"
placed clone "$there"
o volume type create here --property volume_backend_name="${here#*#}" >/dev/null
o volume set clone --type here --retype-policy on-demand
placed clone "$here"
o volume set clone --type luks --retype-policy on-demand
placed clone "$here"
[ "$(o volume show clone -f value -c encrypted)" = True ]
! o volume migrate blank --host "$there" 2>/dev/null # it has a snapshot
say "volumes moved and encrypted"

# A group: its snapshots are taken together, and a group made of them has what they had.
# The client's own "volume group show" fails in this version, so that lists tell the status.
g() { openstack --os-volume-api-version 3.38 volume group "$@"; }
c() { cinder --os-volume-api-version 3.38 "$@"; }
# listed KIND NAME: waits until it is available and prints its id
listed() {
  for _ in $(seq 60); do
    local now
    now=$(g $1 list -f value -c ID -c Name -c Status | grep " $2\b")
    case $now in *" available"*) echo "${now%% *}"; return ;; *error*) break ;; esac
  done
  echo "$now" >&2
  return 1
}
g type create together >/dev/null
g type set together --property consistent_group_snapshot_enabled='<is> True' >/dev/null
c group-create --name pair together __DEFAULT__ >/dev/null
pair=$(listed "" pair)
for n in left right; do
  c create 1 --name $n --volume-type __DEFAULT__ --group-id "$pair" >/dev/null
  await volume $n available
done
! o volume delete left 2>/dev/null # it is in a group
g snapshot create pair --name both >/dev/null 2>&1 || [ -n "$(g snapshot list -f value -c ID)" ]
both=$(listed snapshot both)
[ "$(o volume snapshot list --name both -f value -c ID | wc -l)" = 2 ]
c group-create-from-src --name again --group-snapshot "$both" >/dev/null
listed "" again >/dev/null
c group-update pair --name couple --remove-volumes "$(o volume show right -f value -c id)" >/dev/null
c group-show couple | grep -q available
! g delete couple 2>/dev/null # it has snapshots
g snapshot delete both
while [ -n "$(g snapshot list -f value -c ID)" ]; do :; done
c group-delete --delete-volumes couple again
while [ -n "$(g list -f value -c ID)" ]; do :; done
g type delete together
o volume delete right
say "group, its snapshots, a group of them"

cinder freeze-host "${here%#*}"
! o volume delete copy 2>/dev/null
cinder thaw-host "${here%#*}"
say "frozen and thawed"

cinder unmanage copy
while o volume show copy >/dev/null 2>&1; do :; done
name=$(cinder --os-volume-api-version 3.8 manageable-list "$here" | grep -o 'volume-[0-9a-f-]*' | while read -r n; do o volume show "${n#volume-}" >/dev/null 2>&1 || echo "$n"; done)
[ -n "$name" ]
cinder manage --name copy "$here" "$name" >/dev/null
await volume copy available
! cinder manage --name worse "$here" ../volumes 2>/dev/null
say "unmanaged and managed"

for b in more kept; do o volume backup delete "$b"; while o volume backup show "$b" >/dev/null 2>&1; do :; done; done
o volume snapshot delete snap
while o volume snapshot show snap >/dev/null 2>&1; do :; done
o volume delete blank copy clone root secret back
while [ -n "$(o volume list -f value -c ID)" ]; do :; done
say "all deleted"
