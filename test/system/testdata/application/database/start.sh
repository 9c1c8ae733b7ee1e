#!/bin/sh
# Makes the database in an empty volume, and is it from then on.
set -e
bin=/usr/lib/postgresql/15/bin
home=/var/lib/postgresql
data=$home/data
if [ ! -e $data/made ]; then
	rm -rf $data
	umask 077
	echo "$PASSWORD" > $home/password
	$bin/initdb --no-sync -D $data -U shop --locale=C -E UTF8 -A scram-sha-256 --pwfile=$home/password
	rm $home/password
	echo "host all all all scram-sha-256" >> $data/pg_hba.conf
	echo "CREATE DATABASE shop" | $bin/postgres --single -D $data postgres
	echo > $data/made
fi
exec $bin/postgres -D $data -c listen_addresses='*' -k $home
