package volume

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"testing"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
	"github.com/strata-cloud/strata/internal/volume/block"
)

func TestBackups(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.volume(`"size":1`)
	w.node.Fill(id, "one")
	take := func(more string) string {
		b := w.do("owner", "3.70", "POST", "/backups", `{"backup":{"volume_id":"`+id+`"`+more+`}}`).want(202).in("backup")["id"].(string)
		w.settled()
		return b
	}
	w.do("owner", "3.70", "POST", "/backups", `{"backup":{"volume_id":"`+id+`","incremental":true}}`).want(400)
	full := take("")
	w.node.Fill(id, "two")
	inc := take(`,"incremental":true`)
	v := w.do("owner", "3.70", "GET", "/backups/"+inc, "").want(200).in("backup")
	if v["status"] != "available" || v["is_incremental"] != true || w.status(id) != block.Available {
		t.Errorf("the backup: %v, its volume %s", v, w.status(id))
	}
	w.do("owner", "3.0", "DELETE", "/backups/"+full, "").want(400)
	w.do("other", "3.0", "GET", "/backups/"+full, "").want(404)
	made := w.do("owner", "3.0", "POST", "/backups/"+full+"/restore", `{"restore":{}}`).want(202).in("restore")["volume_id"].(string)
	w.settled()
	if c, _ := w.node.Content(made); c != "one" || w.status(made) != block.Available {
		t.Errorf("a new volume has %q and is %s", c, w.status(made))
	}
	w.do("owner", "3.0", "POST", "/backups/"+full+"/restore", `{"restore":{"volume_id":"`+id+`"}}`).want(202)
	w.settled()
	if c, _ := w.node.Content(id); c != "one" || w.status(id) != block.Available {
		t.Errorf("over itself it has %q and is %s", c, w.status(id))
	}
	w.do("owner", "3.47", "POST", "/volumes", `{"volume":{"backup_id":"`+inc+`"}}`).want(202)
	w.settled()
	for _, b := range []string{inc, full} {
		w.do("owner", "3.0", "DELETE", "/backups/"+b, "").want(202)
		w.settled()
	}
	if left := w.node.Backups(); len(left)+w.svc.Backups.Len() != 0 {
		t.Errorf("left: %v", left)
	}
	w.clean(t)
}

// typed makes a volume type that encrypts.
func (w *world) encryptedType() string {
	w.t.Helper()
	id := w.do("admin", "3.70", "POST", "/types", `{"volume_type":{"name":"secret"}}`).want(200).in("volume_type")["id"].(string)
	w.do("admin", "3.70", "POST", "/types/"+id+"/encryption", `{"encryption":{"provider":"luks","control_location":"front-end","cipher":"aes-xts-plain64","key_size":256}}`).want(200)
	return id
}

func TestBackupOfEncryptedVolume(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.volume(`"size":1,"volume_type":"` + w.encryptedType() + `"`)
	w.node.Fill(id, "secret")
	b := w.do("owner", "3.70", "POST", "/backups", `{"backup":{"volume_id":"`+id+`"}}`).want(202).in("backup")["id"].(string)
	w.settled()
	w.do("owner", "3.0", "DELETE", "/volumes/"+id, "").want(202)
	w.settled()
	made := w.do("owner", "3.0", "POST", "/backups/"+b+"/restore", `{"restore":{}}`).want(202).in("restore")["volume_id"].(string)
	w.settled()
	if c, _ := w.node.Content(made); c != "secret" || w.status(made) != block.Available {
		t.Errorf("a new volume has %q and is %s", c, w.status(made))
	}
	plain := w.volume(`"size":1`)
	w.do("owner", "3.0", "POST", "/backups/"+b+"/restore", `{"restore":{"volume_id":"`+plain+`"}}`).want(400)
	w.do("owner", "3.47", "POST", "/volumes", `{"volume":{"backup_id":"`+b+`","volume_type":"__DEFAULT__"}}`).want(400)
}

func TestExportImport(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.volume(`"size":1`)
	w.node.Fill(id, "one")
	b := w.do("owner", "3.70", "POST", "/backups", `{"backup":{"volume_id":"`+id+`","name":"monday"}}`).want(202).in("backup")["id"].(string)
	w.settled()
	w.do("owner", "3.0", "GET", "/backups/"+b+"/export_record", "").want(403)
	rec := w.do("admin", "3.0", "GET", "/backups/"+b+"/export_record", "").want(200).in("backup-record")
	service, url := rec["backup_service"].(string), rec["backup_url"].(string)
	imports := func(who, service, url string) *answer {
		return w.do(who, "3.0", "POST", "/backups/import_record", `{"backup-record":{"backup_service":"`+service+`","backup_url":"`+url+`"}}`)
	}
	edited := func(key string, value any) string {
		raw, err := base64.StdEncoding.DecodeString(url)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		m[key] = value
		if raw, err = json.Marshal(m); err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(raw)
	}
	const fresh = "12345678-1234-4234-8234-123456789abc"
	imports("owner", service, edited("id", fresh)).want(403)
	for name, a := range map[string]*answer{"the same id": imports("admin", service, url), "no id": imports("admin", service, edited("id", "")), "a bad id": imports("admin", service, edited("id", "../x")),
		"another service": imports("admin", "cinder.backup.drivers.swift", edited("id", fresh)), "no base64": imports("admin", service, "!"), "no JSON": imports("admin", service, "AAAA"),
		"forged": imports("admin", service, edited("service_metadata", "forged")), "of nothing": imports("admin", service, edited("service_metadata", `{"Backup":"x"}`))} {
		if a.status != 400 {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
	if w.svc.Backups.Len() != 1 {
		t.Errorf("refused records left %d backups", w.svc.Backups.Len())
	}
	if got := imports("admin", service, edited("id", fresh)).want(201).in("backup"); got["id"] != fresh || got["name"] != "monday" {
		t.Errorf("imported: %v", got)
	}
	w.settled()
	w.do("owner", "3.0", "GET", "/backups/"+fresh, "").want(404) // it is the importer's
	w.do("owner", "3.0", "DELETE", "/backups/"+b, "").want(202)
	w.settled()
	made := w.do("admin", "3.0", "POST", "/backups/"+fresh+"/restore", `{"restore":{}}`).want(202).in("restore")["volume_id"].(string)
	w.settled()
	if c, _ := w.node.Content(made); c != "one" {
		t.Errorf("restored: %q", c)
	}
	imports("admin", service, url).want(400) // what it is about is gone from the vault
}

func TestSagaImport(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt)
		ref := nodeapi.VolumeRef{ID: "v"}
		for _, err := range []error{w.node.EnsureVolume(t.Context(), nodeapi.Volume{VolumeRef: ref, SizeGiB: 1}), second(w.node.MakeBackup(t.Context(), nodeapi.Backup{ID: "b", Volume: ref}))} {
			if err != nil {
				t.Fatal(err)
			}
		}
		note, err := json.Marshal(block.Backup{ID: "b", VolumeID: "v", SizeGiB: 1})
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := w.node.ExportBackup(t.Context(), "b", note)
		if err != nil {
			t.Fatal(err)
		}
		const id = "12345678-1234-4234-8234-123456789abc"
		raw, err := json.Marshal(map[string]string{"id": id, "service_metadata": sealed})
		if err != nil {
			t.Fatal(err)
		}
		body := `{"backup-record":{"backup_service":"cinder.backup.drivers.strata.VaultBackupDriver","backup_url":"` + base64.StdEncoding.EncodeToString(raw) + `"}}`
		return &sagatest.World{Engine: w.engine,
			Begin: func(context.Context) (string, error) {
				w.do("admin", "3.0", "POST", "/backups/import_record", body).want(201)
				return id, nil
			},
			Check: func(t *testing.T, end *saga.Record) {
				want := block.Available
				if end.Phase == saga.Failed {
					want = block.Errored
				}
				if b, err := w.svc.Backups.Get(id); err != nil || b.Status != want || b.Node == "" {
					t.Errorf("%s: %+v, %v", end.Phase, b, err)
				}
				if !slices.Contains(w.node.Backups(), "b") {
					t.Error("the exported backup is gone")
				}
			}}
	})
}

func second[T any](_ T, err error) error { return err }

func TestTransfer(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.volume(`"size":1`)
	offer := w.do("owner", "3.0", "POST", "/os-volume-transfer", `{"transfer":{"volume_id":"`+id+`"}}`).want(202).in("transfer")
	at, key := "/os-volume-transfer/"+offer["id"].(string), offer["auth_key"].(string)
	w.do("owner", "3.0", "POST", "/os-volume-transfer", `{"transfer":{"volume_id":"`+id+`"}}`).want(400)
	w.do("owner", "3.0", "DELETE", "/volumes/"+id, "").want(400)
	w.do("other", "3.0", "GET", at, "").want(404)
	w.do("other", "3.0", "POST", at+"/accept", `{"accept":{"auth_key":"wrong"}}`).want(400)
	w.do("other", "3.0", "POST", at+"/accept", `{"accept":{"auth_key":"`+key+`"}}`).want(202)
	w.do("owner", "3.0", "GET", "/volumes/"+id, "").want(404)
	if v := w.do("other", "3.0", "GET", "/volumes/"+id, "").want(200).in("volume"); v["status"] != "available" {
		t.Errorf("it is %v", v["status"])
	}
	w.do("other", "3.0", "GET", "/extensions", "").want(200)
	w.do("other", "3.33", "GET", "/resource_filters", "").want(200)
	w.do("other", "3.3", "GET", "/messages", "").want(200)
	for _, path := range []string{"/os-services", "/os-hosts", "/scheduler-stats/get_pools?detail=true", "/capabilities/node-1@volumes", "/qos-specs", "/os-availability-zone", "/limits"} {
		w.do("admin", "3.70", "GET", path, "").want(200)
	}
}
