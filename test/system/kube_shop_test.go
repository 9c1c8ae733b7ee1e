//go:build kube

package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/test/cloud"
)

// shopImages are those of testdata/kube/shop.yaml, made of Debian's packages.
func shopImages(t *testing.T) []image {
	base := suiteLayer(t, smallBase)
	return []image{
		{name: "localhost/shop/db:1", layers: []*layer{base, suiteLayer(t, shopDatabase)}, user: "999", entry: []string{"/start"}},
		{name: "localhost/shop/api:1", layers: []*layer{base, suiteLayer(t, shopAPI)}, user: "999", entry: []string{"/bin/httpd", "-f", "-p", "8080", "-h", "/www"}},
		{name: "localhost/shop/web:1", layers: []*layer{base, suiteLayer(t, suiteNginx), suiteLayer(t, shopWeb)}, entry: []string{"nginx", "-g", "daemon off;"}},
	}
}

// The programs of PostgreSQL, where it looks for what it needs beside them.
const postgresBin = "usr/lib/postgresql/15/bin"

// shopDatabase makes its tables where there are none yet, as a whole or not at all.
func shopDatabase(t *testing.T, root string) {
	packages := cloud.Debian(t, "postgresql-15", "postgresql-client-15")
	for _, program := range []string{"postgres", "initdb"} {
		putWithLibraries(t, filepath.Join(packages, postgresBin, program), root, filepath.Join(postgresBin, program))
	}
	for _, dir := range []string{"usr/lib/postgresql/15/lib", "usr/share/postgresql/15"} {
		directory(t, filepath.Join(root, filepath.Dir(dir)))
		if out, err := exec.Command("cp", "-r", filepath.Join(packages, dir), filepath.Join(root, dir)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for _, compiler := range []string{"bitcode", "llvmjit.so", "llvmjit_types.bc"} { // which it does without, and is most of it
		if err := os.RemoveAll(filepath.Join(root, "usr/lib/postgresql/15/lib", compiler)); err != nil {
			t.Fatal(err)
		}
	}
	shopUser(t, root)
	script(t, filepath.Join(root, "start"), `PATH=/`+postgresBin+`:$PATH
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	rm -rf "$PGDATA.new"
	printf %s "$PASSWORD" > /tmp/password
	initdb -D "$PGDATA.new" -U shop --pwfile=/tmp/password --no-locale -E UTF8 --auth=scram-sha-256
	echo 'host all all all scram-sha-256' >> "$PGDATA.new/pg_hba.conf"
	echo 'create table visits (id bigserial primary key, at timestamptz not null default now())' | postgres --single -j -D "$PGDATA.new" postgres
	mv "$PGDATA.new" "$PGDATA"
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp -c shared_buffers=16MB -c authentication_timeout=300`)
}

// shopAPI writes each visit, and tells its number.
func shopAPI(t *testing.T, root string) {
	putWithLibraries(t, filepath.Join(cloud.Debian(t, "postgresql-client-15"), postgresBin, "psql"), root, "usr/bin/psql")
	shopUser(t, root)
	write(t, filepath.Join(root, "www/index.html"), "ready\n")
	script(t, filepath.Join(root, "www/cgi-bin/visit"), `n=$(PGCONNECT_TIMEOUT=280 psql -qtAX -h db -U shop -d postgres -c 'insert into visits default values returning id') || {
	printf 'Status: 503 No database\r\n\r\n'
	exit 0
}
printf 'Content-Type: text/plain\r\n\r\n%s %s\n' "$RELEASE" "$n"`)
}

// shopWeb passes visits on.
func shopWeb(t *testing.T, root string) {
	write(t, filepath.Join(root, "etc/nginx/nginx.conf"), `worker_processes 1;
error_log stderr;
events {}
http {
	access_log off;
	server {
		listen 80;
		location = /ready { return 200 ready; }
		location / {
			proxy_pass http://api/cgi-bin/visit;
			proxy_read_timeout 300s;
		}
	}
}
`)
}

// shopUser gives the user of the shop's programs a name, which PostgreSQL wants.
func shopUser(t *testing.T, root string) {
	write(t, filepath.Join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nshop:x:999:999::/tmp:/bin/sh\n")
}

// script writes a program of the shell that ends with its first error.
func script(t *testing.T, path, text string) {
	t.Helper()
	write(t, path, "#!/bin/sh\nset -e\n"+strings.TrimSpace(text)+"\n")
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
}
