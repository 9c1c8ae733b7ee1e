#!/bin/bash
# The main job with the unmodified openstack command, as the tutorial tells it.
# Needs OS_* of an administrator, IMAGE (a bootable qcow2), KERNEL and RAMDISK.
# Prints "step: seconds"; the first failure ends it.
set -euo pipefail
export PYTHONWARNINGS=ignore
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
began=$SECONDS
say() { echo "$1: $((SECONDS - began))s"; }
o() { openstack "$@"; }

project=$(o project create story -f value -c id)
o user create author --password Sesame-42 --project story >/dev/null
o role add member --user author --project story
o role assignment list --user author --project story --names -f value | grep -q member
say "project, user and role"

export OS_USERNAME=author OS_PASSWORD=Sesame-42 OS_PROJECT_NAME=story
kernel=$(o image create kernel --disk-format aki --container-format aki --file "$KERNEL" -f value -c id)
ramdisk=$(o image create ramdisk --disk-format ari --container-format ari --file "$RAMDISK" -f value -c id)
image=$(o image create own --disk-format qcow2 --file "$IMAGE" --property kernel_id="$kernel" --property ramdisk_id="$ramdisk" --property os_command_line="$CMDLINE" -f value -c id)
[ "$(o image show own -f value -c status)" = active ]
say "image"

o network create net >/dev/null
o subnet create sub --network net --subnet-range 10.79.0.0/24 --dns-nameserver 198.18.255.1 >/dev/null
o router create r >/dev/null
o router set r --external-gateway public
o router add subnet r sub
o security group create ssh >/dev/null
o security group rule create ssh --protocol tcp --dst-port 22 >/dev/null
o security group rule create ssh --protocol icmp >/dev/null
o keypair create key >"$work/key"
chmod 600 "$work/key"
say "network"

printf '#!/bin/sh\necho told-by-user-data >/tmp/told\n' >"$work/user-data"
o server create hero --flavor m1.nano --image own --network net --security-group ssh --key-name key \
  --user-data "$work/user-data" --property role=hero --wait >/dev/null
say "server"
address=$(o floating ip create public -f value -c floating_ip_address)
o server add floating ip hero "$address"

shell() { ssh -i "$work/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=3 "strata@$address" "$@"; }
await_ssh() { for _ in $(seq 60); do shell true 2>/dev/null && return; read -rt 1 <> <(:) || :; done; echo "no SSH to $address" >&2; o console log show hero | tail -30 >&2; return 1; }
await_status() { for _ in $(seq 240); do [ "$(o server show hero -f value -c status)" = "$1" ] && return; done; echo "hero is not $1" >&2; return 1; }
await_ssh
say "SSH"
[ "$(shell hostname)" = hero ]
[ "$(shell cat /tmp/told)" = told-by-user-data ]
shell curl -s http://169.254.169.254/openstack/latest/meta_data.json | grep -q '"role": *"hero"'
ping -c 2 -W 2 "$address" >/dev/null
o console log show hero | grep -q login
say "guest"

o server pause hero; await_status PAUSED
o server unpause hero; await_status ACTIVE
o server suspend hero; await_status SUSPENDED
o server resume hero; await_status ACTIVE
o server reboot hero --wait >/dev/null
o server stop hero; await_status SHUTOFF
o server start hero; await_status ACTIVE
o server reboot hero --hard --wait >/dev/null
await_ssh
say "power"
o server event list hero -f value -c Action | sort -u | tr '\n' ' '; echo

o server remove floating ip hero "$address"
o floating ip delete "$address"
o server delete hero --wait
o keypair delete key
o router remove subnet r sub
o router unset r --external-gateway
o router delete r
o network delete net
o security group delete ssh
o image delete own kernel ramdisk
say "deleted"
export OS_USERNAME=$ADMIN_USERNAME OS_PASSWORD=$ADMIN_PASSWORD OS_PROJECT_NAME=$ADMIN_PROJECT
o user delete author
o project delete "$project"
say "done"
