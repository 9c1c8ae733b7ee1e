#!/bin/bash
# A load balancer's life with the unmodified openstack command (python3-octaviaclient).
# Needs OS_* of an administrator. Prints "step: seconds"; the first failure ends it.
set -euo pipefail
export PYTHONWARNINGS=ignore
began=$SECONDS
say() { echo "$1: $((SECONDS - began))s"; }
o() { openstack "$@"; }
lb() { o loadbalancer "$@"; }
# then_active COMMAND...: does it, and waits until the load balancer has it; --wait looks once in 5 seconds.
then_active() {
  lb "$@" >/dev/null
  for _ in $(seq 60); do [ "$(lb list -f value -c provisioning_status)" = ACTIVE ] && return; done
  echo "after $*: $(lb list -f value)" >&2
  return 1
}
# is WANT COMMAND...: the command prints exactly that.
is() {
  local want=$1 have
  shift
  have=$("$@")
  [ "$have" = "$want" ] || { echo "$*: $have, not $want" >&2; return 1; }
}
# refused WORDS COMMAND...: the command fails and says so.
refused() {
  local words=$1 said
  shift
  if said=$("$@" 2>&1); then echo "$*: it is accepted: $said" >&2; return 1; fi
  grep -qF "$words" <<<"$said" || { echo "$*: it says: $said" >&2; return 1; }
}

lb provider list -f value -c name | grep -qx strata
is "" lb flavor list -f value
o network create lb-net >/dev/null
o subnet create lb-sub --network lb-net --subnet-range 10.78.0.0/24 >/dev/null
say "network"

o subnet create lb-six --network lb-net --ip-version 6 --subnet-range fd00:78::/64 >/dev/null
lb create --name both --vip-subnet-id lb-sub --additional-vip subnet-id=lb-six,ip-address=fd00:78::7 --wait >/dev/null
is fd00:78::7 jq -r '.additional_vips[0].ip_address' <<<"$(lb show both -f json)"
refused "Duplicate VIP subnet" lb create --vip-subnet-id lb-sub --additional-vip subnet-id=lb-sub
lb delete both --wait
o subnet delete lb-six
say "two IP versions"

lb create --name lb1 --vip-subnet-id lb-sub --description "of the script" --tag blue --wait >/dev/null
is ACTIVE lb show lb1 -f value -c provisioning_status
is ONLINE lb show lb1 -f value -c operating_status
port=$(lb show lb1 -f value -c vip_port_id)
is "$(lb show lb1 -f value -c vip_address)" jq -r '.fixed_ips[0].ip_address' <<<"$(o port show "$port" -f json)"
is lb1 lb list --vip-port-id "$port" -f value -c name
say "load balancer"

lb listener create --name web --protocol TCP --protocol-port 80 --connection-limit 100 --allowed-cidr 10.0.0.0/8 --timeout-client-data 60000 --wait lb1 >/dev/null
refused "Another Listener" lb listener create --name twice --protocol TCP --protocol-port 80 lb1
refused "does not support" lb listener create --name seven --protocol HTTP --protocol-port 81 lb1
is 100 lb listener show web -f value -c connection_limit
then_active listener set web --connection-limit 200 --name web80
then_active listener unset web80 --allowed-cidrs
is 200 lb listener show web80 -f value -c connection_limit
say "listener"

lb pool create --name servers --listener web80 --protocol TCP --lb-algorithm ROUND_ROBIN --session-persistence type=SOURCE_IP --wait >/dev/null
then_active pool set servers --lb-algorithm LEAST_CONNECTIONS
then_active pool unset servers --session-persistence
is LEAST_CONNECTIONS lb pool show servers -f value -c lb_algorithm
say "pool"

for n in 11 12; do then_active member create --name "m$n" --address 10.78.0.$n --protocol-port 8080 --subnet-id lb-sub servers; done
then_active member set servers m12 --weight 5
is 5 lb member show servers m12 -f value -c weight
then_active member unset servers m12 --weight
is NO_MONITOR lb member show servers m12 -f value -c operating_status
is $'m11\nm12' lb member list servers -f value -c name --sort-column name
say "members"

lb healthmonitor create --name pulse --type HTTP --delay 2 --timeout 1 --max-retries 1 --max-retries-down 1 --url-path /healthz --expected-codes 200-204 --wait servers >/dev/null
then_active healthmonitor set pulse --delay 3 --url-path /
is 3 lb healthmonitor show pulse -f value -c delay
for _ in $(seq 30); do [ "$(lb member show servers m11 -f value -c operating_status)" = ERROR ] && break; done
is ERROR lb member show servers m11 -f value -c operating_status # nobody is there
is "ERROR HTTP" jq -r '.loadbalancer as $l | $l.operating_status + " " + $l.listeners[0].pools[0].health_monitor.type' <<<"$(lb status show lb1)"
say "health monitor"

is 0 lb stats show lb1 -f value -c total_connections
is 0 lb listener stats show web80 -f value -c bytes_in
lb failover lb1 --wait
is ACTIVE lb show lb1 -f value -c provisioning_status
then_active set lb1 --name lb2 --disable
is OFFLINE lb show lb2 -f value -c operating_status
then_active set lb2 --enable --tag green
is $'blue\ngreen' sort <<<"$(lb show lb2 -f value -c tags)"
then_active unset lb2 --description
say "statistics, failover, changes"

# What is not there says so.
refused "404" lb amphora list
refused "404" lb l7policy list
say "what is absent"

project=$(o token issue -f value -c project_id)
lb quota set "$project" --loadbalancer 1 >/dev/null
is 1 lb quota show "$project" -f value -c load_balancer
refused "Quota" lb create --name lb3 --vip-subnet-id lb-sub
lb quota unset "$project" --loadbalancer
lb quota reset "$project"
lb quota defaults show -f value -c load_balancer >/dev/null
lb quota list -f value >/dev/null
say "quotas"

refused "children" lb delete lb2
then_active healthmonitor delete pulse
then_active member delete servers m11
lb delete lb2 --cascade --wait
is "" lb list -f value
is "" lb listener list -f value
is "" lb pool list -f value
refused "No Port" o port show "$port"
o network delete lb-net
say "deleted"
