package volume

import (
	"testing"

	"github.com/strata-cloud/strata/internal/saga"
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
	for _, path := range []string{"/os-services", "/os-hosts", "/scheduler-stats/get_pools?detail=true", "/capabilities/node-1@local", "/qos-specs", "/os-availability-zone", "/limits"} {
		w.do("admin", "3.70", "GET", path, "").want(200)
	}
}
