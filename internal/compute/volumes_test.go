package compute

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
)

// onNode lists the volumes that the server's instance shall have.
func (w *world) onNode(id string) []string {
	out := []string{}
	if i, err := w.nodes.Instances.Get(id); err == nil {
		for _, d := range i.Disks {
			if d.Role == "volume" {
				out = append(out, d.Volume.ID)
			}
		}
	}
	return out
}

// withVolume is a running server that has a volume, or is about to.
func (w *world) withVolume(t *testing.T, attached bool) (*Server, Device) {
	t.Helper()
	v := w.running(t.Context(), t)
	d := Device{ID: uuid.NewString(), VolumeID: w.vols.add(project1), Owner: project1, Boot: -1, Name: "/dev/vdb"}
	if err := w.svc.update(t.Context(), v.ID, func(v *Server) error { v.Devices = append(v.Devices, d); return nil }); err != nil {
		t.Fatal(err)
	}
	if attached {
		j := &job{Server: v.ID, Args: fmt.Appendf(nil, `{"device":%q}`, d.ID)}
		for _, step := range []func(context.Context, *job) error{w.svc.attachReserve, w.svc.attachConnect, w.svc.attachOrder, w.svc.deviceAwait, w.svc.attachComplete} {
			if err := step(t.Context(), j); err != nil {
				t.Fatal(err)
			}
		}
	}
	v, err := w.svc.servers.Get(v.ID)
	if err != nil {
		t.Fatal(err)
	}
	return v, d
}

func TestSagaAttach(t *testing.T) { sagaVolume(t, sagaAttach, false) }

func TestSagaDetach(t *testing.T) { sagaVolume(t, sagaDetach, true) }

// sagaVolume demands after every crash and failure that the server's record, the
// node and the volume service agree on who has the volume.
func sagaVolume(t *testing.T, kind string, before bool) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt)
		v, d := w.withVolume(t, before)
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) {
				return v.ID, w.begin(ctx, kind, kind, v, "", deviceArgs{d.ID})
			},
			Check: func(t *testing.T, end *saga.Record) {
				w.clean(t)
				got, err := w.svc.servers.Get(v.ID)
				if err != nil {
					t.Fatal(err)
				}
				has := (end.Phase == saga.Done) != before
				if end.Phase == saga.Failed && before {
					has = len(got.Devices) > 0 // once it is released there is no way back
				}
				status, claims, onNode, list := "available", 0, []string{}, 0
				if has {
					status, claims, onNode, list = "in-use", 1, []string{d.VolumeID}, 1
				}
				if w.vols.status(d.VolumeID) != status || len(w.vols.claimed()) != claims || !slices.Equal(w.onNode(v.ID), onNode) || len(got.volumes()) != list {
					t.Errorf("%s: the volume is %s with claims %v, the node has %v, the server %v", end.Phase, w.vols.status(d.VolumeID), w.vols.claimed(), w.onNode(v.ID), got.Devices)
				}
			}}
	})
}

// booting is a server to be started from a new volume, with a second one at hand.
func (w *world) booting() (*Server, string) {
	v, extra := w.newServer(), w.vols.add(project1)
	root := uuid.NewString()
	v.Devices = []Device{{ID: uuid.NewString(), VolumeID: root, Owner: project1, New: &NewVolume{ID: root, Image: imageID, SizeGiB: 1}, DeleteToo: true, Boot: 0, Name: "/dev/vda"},
		{ID: uuid.NewString(), VolumeID: extra, Owner: project1, Boot: -1, Name: "/dev/vdb"}}
	return v, extra
}

func TestSagaBootFromVolume(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt)
		v, extra := w.booting()
		root := v.Devices[0].VolumeID
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) {
				return v.ID, w.begin(ctx, sagaCreate, "create", v, Scheduling, nil)
			},
			Check: func(t *testing.T, end *saga.Record) {
				w.clean(t)
				if end.Phase == saga.Failed {
					if w.vols.status(root) != "absent" || w.vols.status(extra) != "available" || len(w.vols.claimed()) != 0 {
						t.Errorf("failed: root %s, extra %s, claims %v", w.vols.status(root), w.vols.status(extra), w.vols.claimed())
					}
					return
				}
				if w.vols.status(root) != "in-use" || w.vols.status(extra) != "in-use" || !slices.Equal(w.onNode(v.ID), []string{root, extra}) {
					t.Errorf("done: root %s, extra %s, on the node %v", w.vols.status(root), w.vols.status(extra), w.onNode(v.ID))
				}
			}}
	})
}

func TestSagaDeleteWithVolumes(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt)
		v, d := w.withVolume(t, true)
		gone := w.vols.add(project1)
		if err := w.svc.update(t.Context(), v.ID, func(v *Server) error {
			v.Devices = append(v.Devices, Device{ID: uuid.NewString(), VolumeID: gone, Owner: project1, Boot: -1, Name: "/dev/vdc", DeleteToo: true})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) {
				return v.ID, w.begin(ctx, sagaDelete, "delete", v, Deleting, nil)
			},
			Check: func(t *testing.T, end *saga.Record) {
				w.clean(t)
				if w.vols.status(d.VolumeID) != "available" || w.vols.status(gone) != "absent" || len(w.vols.claimed()) != 0 {
					t.Errorf("%s: %s and %s, claims %v", end.Phase, w.vols.status(d.VolumeID), w.vols.status(gone), w.vols.claimed())
				}
			}}
	})
}

func TestAttachments(t *testing.T) {
	c := newClient(t)
	id, other := c.server("a", ""), c.server("b", "")
	vol := c.vols.add(project1)
	at := "/servers/" + id + "/os-volume_attachments"
	body := fmt.Sprintf(`{"volumeAttachment":{"volumeId":%q}}`, vol)

	a := c.do("member@2.79", "POST", at, fmt.Sprintf(`{"volumeAttachment":{"volumeId":%q,"tag":"data","delete_on_termination":false}}`, vol)).want(200)
	got := a.body["volumeAttachment"].(map[string]any)
	if got["device"] != "/dev/vdb" || got["id"] != vol || got["tag"] != "data" {
		t.Errorf("attached as %v", got)
	}
	c.settled()
	if c.vols.status(vol) != "in-use" {
		t.Errorf("the volume is %s", c.vols.status(vol))
	}
	c.do("member", "POST", "/servers/"+other+"/os-volume_attachments", body).want(400)
	c.do("member", "POST", at, body).want(400)
	c.do("member", "POST", at, fmt.Sprintf(`{"volumeAttachment":{"volumeId":%q}}`, uuid.NewString())).want(404)
	c.do("member", "POST", at, `{"volumeAttachment":{"volumeId":"x"}}`).want(400)
	c.do("member", "POST", at, fmt.Sprintf(`{"volumeAttachment":{"volumeId":%q,"tag":"early"}}`, vol)).want(400)
	c.do("admin", "PUT", at+"/"+vol, fmt.Sprintf(`{"volumeAttachment":{"volumeId":%q}}`, uuid.NewString())).want(400) // to swap with
	if list := c.do("member", "GET", at, "").want(200).body["volumeAttachments"].([]any); len(list) != 1 {
		t.Errorf("listed %v", list)
	}
	c.do("member", "GET", at+"/"+vol, "").want(200)
	c.do("member", "GET", at+"/"+uuid.NewString(), "").want(404)
	if att := c.do("member@2.89", "GET", at+"/"+vol, "").want(200).body["volumeAttachment"].(map[string]any); att["id"] != nil || att["bdm_uuid"] == nil {
		t.Errorf("2.89 shows %v", att)
	}
	c.do("member@2.85", "PUT", at+"/"+vol, fmt.Sprintf(`{"volumeAttachment":{"volumeId":%q,"delete_on_termination":true}}`, vol)).want(202)
	shown := c.do("member@2.3", "GET", "/servers/"+id, "").want(200).body["server"].(map[string]any)["os-extended-volumes:volumes_attached"]
	if fmt.Sprint(shown) != fmt.Sprintf("[map[delete_on_termination:true id:%s]]", vol) {
		t.Errorf("the server shows %v", shown)
	}
	c.do("member", "DELETE", at+"/"+vol, "").want(202)
	c.settled()
	c.do("member", "GET", at+"/"+vol, "").want(404)
	if c.vols.status(vol) != "available" || len(c.onNode(id)) != 0 {
		t.Errorf("after the detach the volume is %s, on the node %v", c.vols.status(vol), c.onNode(id))
	}
	c.do("member", "DELETE", at+"/"+vol, "").want(404)
}

func TestMapping(t *testing.T) {
	c := newClient(t)
	have := c.vols.add(project1)
	server := func(version, fields string) *answer {
		return c.do("member@"+version, "POST", "/servers", `{"server":{"name":"v","flavorRef":"42",`+fields+`}}`)
	}
	root := `{"boot_index":0,"source_type":"image","destination_type":"volume","uuid":"` + imageID + `","volume_size":1,"delete_on_termination":true}`
	for name, bad := range map[string]string{
		"no size":        `"block_device_mapping_v2":[{"boot_index":0,"source_type":"image","destination_type":"volume","uuid":"` + imageID + `"}]`,
		"no uuid":        `"block_device_mapping_v2":[{"boot_index":0,"source_type":"volume"}]`,
		"no such volume": `"block_device_mapping_v2":[{"boot_index":0,"source_type":"volume","uuid":"` + uuid.NewString() + `"}]`,
		"no root":        `"block_device_mapping_v2":[{"source_type":"blank","destination_type":"volume","volume_size":1}]`,
		"a gap":          `"block_device_mapping_v2":[` + root + `,{"boot_index":2,"source_type":"blank","destination_type":"volume","volume_size":1}]`,
		"two roots":      `"block_device_mapping_v2":[` + root + `,` + root + `]`,
		"blank, no size": `"block_device_mapping_v2":[` + root + `,{"source_type":"blank","destination_type":"volume"}]`,
		"big swap":       `"block_device_mapping_v2":[` + root + `,{"source_type":"blank","destination_type":"local","guest_format":"swap","volume_size":1}]`,
		"early type":     `"block_device_mapping_v2":[{"boot_index":0,"source_type":"image","destination_type":"volume","uuid":"` + imageID + `","volume_size":1,"volume_type":"x"}]`,
		"both forms":     `"block_device_mapping_v2":[` + root + `],"block_device_mapping":[{"volume_id":"` + have + `","device_name":"vda"}]`,
		"shared volume":  `"max_count":2,"min_count":2,"block_device_mapping_v2":[{"boot_index":0,"source_type":"volume","uuid":"` + have + `"}]`,
		"nothing":        `"key_name":null`,
	} {
		if a := server("2.1", bad); a.status != 400 {
			t.Errorf("%s: answered %d %v", name, a.status, a.body)
		}
	}
	server("2.1", `"block_device_mapping_v2":[{"boot_index":0,"source_type":"blank","destination_type":"volume","volume_size":1}]`).want(202)
	c.settled()
	id := server("2.1", `"block_device_mapping_v2":[`+root+`,{"source_type":"volume","uuid":"`+have+`"},{"source_type":"blank","destination_type":"volume","volume_size":2}]`).want(202).body["server"].(map[string]any)["id"].(string)
	c.settled()
	v := c.do("member", "GET", "/servers/"+id, "").want(200).body["server"].(map[string]any)
	if v["image"] != "" || v["status"] != "ACTIVE" || len(v["os-extended-volumes:volumes_attached"].([]any)) != 3 {
		t.Errorf("booted from a volume: %v", v)
	}
	rec, err := c.svc.servers.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	c.do("member", "DELETE", "/servers/"+id+"/os-volume_attachments/"+rec.Devices[0].VolumeID, "").want(403)
	c.do("member", "DELETE", "/servers/"+id, "").want(204)
	c.settled()
	if c.vols.status(rec.Devices[0].VolumeID) != "absent" || c.vols.status(have) != "available" || c.vols.status(rec.Devices[2].VolumeID) != "available" {
		t.Errorf("afterwards: %s, %s, %s", c.vols.status(rec.Devices[0].VolumeID), c.vols.status(have), c.vols.status(rec.Devices[2].VolumeID))
	}
	legacy := server("2.1", `"block_device_mapping":[{"volume_id":"`+have+`","device_name":"vda","delete_on_termination":"1"}]`).want(202).body["server"].(map[string]any)["id"].(string)
	c.settled()
	if !slices.Equal(c.onNode(legacy), []string{have}) {
		t.Errorf("the older form gave %v", c.onNode(legacy))
	}
}
