package compute

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
)

func (s *Service) snapshotRoutes() []rest.Route {
	const at = "/servers/{id}/action"
	return []rest.Route{
		{Method: "POST", Path: at, Action: "createImage", Policy: "os_compute_api:servers:create_image", Handle: s.createImage,
			Body: wire.Body("createImage", `{"type":"object","properties":{"name":`+wire.Name+`,"metadata":`+metadataSchema+`},"required":["name"],"additionalProperties":false}`)},
		{Method: "POST", Path: at, Action: "createBackup", Policy: "os_compute_api:os-create-backup", Handle: s.createBackup,
			Body: wire.Body("createBackup", `{"type":"object","properties":{"name":`+wire.Name+`,"backup_type":{"type":"string"},"rotation":{"type":["integer","string"],"pattern":"^[0-9]+$","minimum":0},"metadata":`+metadataSchema+
				`},"required":["name","backup_type","rotation"],"additionalProperties":false}`)},
		{Method: "POST", Path: at, Action: "trigger_crash_dump", Policy: "os_compute_api:servers:trigger_crash_dump", Min: rest.V(2, 17), Handle: s.crashDump,
			Body: wire.Body("trigger_crash_dump", `{"type":"null"}`)},
	}
}

// imageArgs are of the sagas that make an image of a server.
type imageArgs struct {
	Image    NewImage `json:"image"`
	Backup   string   `json:"backup,omitempty"` // kind of the backup; "": none
	Rotation int      `json:"rotation"`         // how many backups of the kind stay
	// Snapshots are of a volume-backed server's volumes: the image is made of them.
	Snapshots []NewSnapshot `json:"snapshots,omitempty"`
}

func (s *Service) registerSnapshot() {
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaImage, Failed: s.imageFailed, Steps: []saga.Step[job]{
		{Name: "record", Do: s.imageRecord, Undo: s.imageDiscard},
		{Name: "fill", Do: s.imageFill, Undo: s.imageDiscard},
		{Name: "rotate", Do: s.imageRotate},
	}})
}

// imageOf is the image that a server's disk becomes, with the properties that
// nova gives a snapshot (nova/compute/utils.py, create_image).
func imageOf(v *Server, name, project, user, kind string, more map[string]string) NewImage {
	props := maps.Clone(v.Image.Properties)
	if props == nil {
		props = map[string]string{}
	}
	for k := range props { // what held for the base's own data, or for one upload
		if strings.HasPrefix(k, "img_signature") || strings.HasPrefix(k, "os_glance_") || k == "cache_in_nova" || k == "bittorrent" {
			delete(props, k)
		}
	}
	base := v.Image.ID
	if b := v.Image.Properties["base_image_ref"]; b != "" {
		base = b
	}
	maps.Copy(props, map[string]string{"instance_uuid": v.ID, "user_id": user, "owner_id": project, "image_type": kind,
		"base_image_ref": base, "image_state": "available", "image_location": "snapshot"})
	maps.Copy(props, more)
	return NewImage{ID: uuid.NewString(), Name: name, ProjectID: project, MinDisk: max(v.Image.MinDisk, v.Flavor.Disk), MinRAM: v.Image.MinRAM, Properties: props}
}

func (s *Service) createImage(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Create struct {
			Name     string            `json:"name"`
			Metadata map[string]string `json:"metadata"`
		} `json:"createImage"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	from := []VMState{Active, Stopped, Paused, Suspended}
	return s.beginImage(ctx, r, "createImage", from, Snapshotting, func(v *Server) (imageArgs, error) {
		return imageArgs{Image: imageOf(v, strings.TrimSpace(b.Create.Name), r.Creds.ProjectID, r.Creds.UserID, "snapshot", b.Create.Metadata)}, s.limitItems(v, b.Create.Metadata)
	})
}

// createBackup is createImage that keeps only the newest images of its kind.
func (s *Service) createBackup(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Create struct {
			Name     string            `json:"name"`
			Kind     string            `json:"backup_type"`
			Rotation any               `json:"rotation"`
			Metadata map[string]string `json:"metadata"`
		} `json:"createBackup"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := &b.Create
	more := map[string]string{"backup_type": in.Kind}
	maps.Copy(more, in.Metadata)
	from := []VMState{Active, Stopped, Paused, Suspended}
	return s.beginImage(ctx, r, "createBackup", from, BackingUp, func(v *Server) (imageArgs, error) {
		return imageArgs{Image: imageOf(v, strings.TrimSpace(in.Name), r.Creds.ProjectID, r.Creds.UserID, "backup", more), Backup: in.Kind, Rotation: wire.Number(in.Rotation)},
			s.limitItems(v, in.Metadata)
	})
}

func (s *Service) limitItems(v *Server, meta map[string]string) error {
	return s.limitMetadata(&Server{ProjectID: v.ProjectID, Metadata: meta})
}

// beginImage checks the server's state and begins the saga; the answer names the image.
func (s *Service) beginImage(ctx context.Context, r *rest.Request, name string, from []VMState, task TaskState, args func(*Server) (imageArgs, error)) (*rest.Response, error) {
	v, err := s.changeable(r)
	if err != nil {
		return nil, err
	}
	var a imageArgs
	err = s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.servers.TxUpdate(tx, v.ID, func(v *Server) error {
			if err := v.allows(name, from, nil); err != nil {
				return err
			}
			if a, err = args(v); err != nil {
				return err
			}
			if v.volumeBacked() {
				if name == "createBackup" {
					return errs.Invalidf("It is not possible to back up a volume-backed instance.")
				}
				if err := v.imageOfVolumes(&a); err != nil {
					return err
				}
			}
			v.TaskState, v.Updated = task, wire.Now()
			return nil
		})
		if err != nil {
			return err
		}
		return s.begin(tx, r.ID, r.Creds, sagaImage, name, v, a)
	})
	if err != nil {
		return nil, err
	}
	// The record is there when the answer is: clients ask for it at once. If this
	// fails, the saga makes it.
	if err := s.Images.Begin(ctx, a.Image); err != nil {
		s.Log.Warn("the record of a server's image comes late", "server", v.ID, "err", err)
	}
	if name == "createBackup" && a.Rotation == 0 {
		return rest.Empty(202), nil // none stays
	}
	if r.AtLeast(2, 45) {
		return rest.JSON(202, map[string]string{"image_id": a.Image.ID}), nil
	}
	return rest.Empty(202).With("Location", r.Base()+"/image/v2/images/"+a.Image.ID), nil
}

func imageArgsOf(j *job) (imageArgs, error) {
	var a imageArgs
	if err := json.Unmarshal(j.Args, &a); err != nil {
		return a, fmt.Errorf("image saga of %s: %w", j.Server, err)
	}
	return a, nil
}

func (s *Service) imageRecord(ctx context.Context, j *job) error {
	a, err := imageArgsOf(j)
	if err != nil {
		return err
	}
	if a.Image.ID == "" {
		return nil
	}
	return s.Images.Begin(ctx, a.Image)
}

func (s *Service) imageDiscard(ctx context.Context, j *job) error {
	a, err := imageArgsOf(j)
	if err != nil || a.Image.ID == "" {
		return err
	}
	return s.Images.Discard(ctx, a.Image.ID)
}

// imageFill copies the root disk, as it is at one moment, into the image.
func (s *Service) imageFill(ctx context.Context, j *job) error {
	a, err := imageArgsOf(j)
	if err != nil || a.Image.ID == "" {
		return err
	}
	v, err := s.servers.Get(j.Server)
	if err != nil {
		return err
	}
	if err := s.update(ctx, v.ID, func(v *Server) error {
		if v.TaskState == Snapshotting || v.TaskState == BackingUp {
			v.TaskState = Uploading
		}
		return nil
	}); err != nil {
		return err
	}
	if len(a.Snapshots) > 0 {
		return s.snapVolumes(ctx, v, &a)
	}
	return s.fillFrom(ctx, v, a.Image.ID)
}

func (s *Service) fillFrom(ctx context.Context, v *Server, id string) (err error) {
	conn, err := s.Nodes.Conn(v.Host)
	if err != nil {
		return err
	}
	data, err := conn.ReadDisk(ctx, v.ID, v.rootDisk())
	if err != nil {
		return fmt.Errorf("reading the disk of server %s: %w", v.ID, err)
	}
	defer func() {
		if e := data.Close(); err == nil {
			err = e
		}
	}()
	return s.Images.Fill(ctx, id, data)
}

// rootDisk is the disk that an image of the server is made of: not a CD that it starts from.
func (v *Server) rootDisk() string {
	own := v.ownDisks(v.DiskSet)
	if own[0].ReadOnly && len(own) > 1 {
		return own[1].Name
	}
	return own[0].Name
}

func (s *Service) imageRotate(ctx context.Context, j *job) error {
	a, err := imageArgsOf(j)
	if err != nil {
		return err
	}
	if a.Backup != "" {
		have := s.Images.Backups(a.Image.ProjectID, j.Server, a.Backup)
		for _, id := range have[min(a.Rotation, len(have)):] {
			if err := s.Images.Discard(ctx, id); err != nil {
				return err
			}
		}
	}
	return s.update(ctx, j.Server, func(v *Server) error { v.doing(""); return nil })
}

// imageFailed leaves the server as it is; the action's log says why there is no image.
func (s *Service) imageFailed(ctx context.Context, j *job, _ error) error {
	err := s.update(ctx, j.Server, func(v *Server) error { v.doing(""); return nil })
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// crashDump interrupts a guest so that it writes a dump of itself.
func (s *Service) crashDump(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.changeable(r)
	if err != nil {
		return nil, err
	}
	if err := v.allows("trigger_crash_dump", []VMState{Active, Paused, Rescued, Resized, Errored}, nil); err != nil {
		return nil, err
	}
	conn, err := s.Nodes.Conn(v.Host)
	if err != nil {
		return nil, errs.Conflictf("Instance %s is not ready", v.ID)
	}
	return rest.Empty(202), conn.Interrupt(ctx, v.ID)
}
