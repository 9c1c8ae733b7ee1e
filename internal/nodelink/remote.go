package nodelink

import (
	"context"
	"io"
	"net"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
)

// Remote is a node's agent as the control plane calls it.
type Remote struct{ Stub }

var (
	_ nodes.Conn    = Remote{}
	_ nodes.Storage = Remote{}
	_ nodes.Mover   = Remote{}

	_ nodes.Containers = Remote{}
)

// ConsoleLog implements nodes.Conn.
func (r Remote) ConsoleLog(ctx context.Context, instance string, lines int) ([]byte, error) {
	return ask[[]byte](ctx, r.Stub, "ConsoleLog", instance, lines)
}

// Console implements nodes.Conn.
func (r Remote) Console(ctx context.Context, instance, kind string) (net.Conn, error) {
	return r.dialled(ctx, "Console", instance, kind)
}

// Diagnostics implements nodes.Conn.
func (r Remote) Diagnostics(ctx context.Context, instance string) (*nodeapi.Diagnostics, error) {
	return ask[*nodeapi.Diagnostics](ctx, r.Stub, "Diagnostics", instance)
}

// Interrupt implements nodes.Conn.
func (r Remote) Interrupt(ctx context.Context, instance string) error {
	return r.call(ctx, nil, "Interrupt", instance)
}

// SetPassword implements nodes.Conn.
func (r Remote) SetPassword(ctx context.Context, instance, user, password string) error {
	return r.call(ctx, nil, "SetPassword", instance, user, password)
}

// ReadDisk implements nodes.Conn.
func (r Remote) ReadDisk(ctx context.Context, instance, disk string) (io.ReadCloser, error) {
	return r.reader(ctx, "ReadDisk", instance, disk)
}

// Pools implements nodes.Storage.
func (r Remote) Pools(ctx context.Context) ([]nodeapi.Pool, error) {
	return ask[[]nodeapi.Pool](ctx, r.Stub, "Pools")
}

// EnsureVolume implements nodes.Storage.
func (r Remote) EnsureVolume(ctx context.Context, v nodeapi.Volume) error {
	return r.call(ctx, nil, "EnsureVolume", v)
}

// DeleteVolume implements nodes.Storage.
func (r Remote) DeleteVolume(ctx context.Context, v nodeapi.VolumeRef) error {
	return r.call(ctx, nil, "DeleteVolume", v)
}

// ExtendVolume implements nodes.Storage.
func (r Remote) ExtendVolume(ctx context.Context, v nodeapi.VolumeRef, sizeGiB int) error {
	return r.call(ctx, nil, "ExtendVolume", v, sizeGiB)
}

// GrowAttached implements nodes.Storage.
func (r Remote) GrowAttached(ctx context.Context, volume string, sizeGiB int) error {
	return r.call(ctx, nil, "GrowAttached", volume, sizeGiB)
}

// EnsureSnapshot implements nodes.Storage.
func (r Remote) EnsureSnapshot(ctx context.Context, v nodeapi.VolumeRef, snapshot string) error {
	return r.call(ctx, nil, "EnsureSnapshot", v, snapshot)
}

// EnsureSnapshots implements nodes.Storage.
func (r Remote) EnsureSnapshots(ctx context.Context, list []nodeapi.VolumeSnapshot) error {
	return r.call(ctx, nil, "EnsureSnapshots", list)
}

// DeleteSnapshot implements nodes.Storage.
func (r Remote) DeleteSnapshot(ctx context.Context, v nodeapi.VolumeRef, snapshot string) error {
	return r.call(ctx, nil, "DeleteSnapshot", v, snapshot)
}

// RevertVolume implements nodes.Storage.
func (r Remote) RevertVolume(ctx context.Context, v nodeapi.VolumeRef, snapshot string) error {
	return r.call(ctx, nil, "RevertVolume", v, snapshot)
}

// ReadVolume implements nodes.Storage.
func (r Remote) ReadVolume(ctx context.Context, v nodeapi.VolumeRef, snapshot, format string) (io.ReadCloser, error) {
	return r.reader(ctx, "ReadVolume", v, snapshot, format)
}

// MakeBackup implements nodes.Storage.
func (r Remote) MakeBackup(ctx context.Context, b nodeapi.Backup) (nodeapi.BackupResult, error) {
	return ask[nodeapi.BackupResult](ctx, r.Stub, "MakeBackup", b)
}

// Restore implements nodes.Storage.
func (r Remote) Restore(ctx context.Context, backup string, key []byte, v nodeapi.VolumeRef) error {
	return r.call(ctx, nil, "Restore", backup, key, v)
}

// DeleteBackup implements nodes.Storage.
func (r Remote) DeleteBackup(ctx context.Context, backup string) error {
	return r.call(ctx, nil, "DeleteBackup", backup)
}

// ExportBackup implements nodes.Storage.
func (r Remote) ExportBackup(ctx context.Context, backup string, note []byte) (string, error) {
	return ask[string](ctx, r.Stub, "ExportBackup", backup, note)
}

// ReadRecord implements nodes.Storage.
func (r Remote) ReadRecord(ctx context.Context, record, as string) (nodeapi.BackupRecord, error) {
	return ask[nodeapi.BackupRecord](ctx, r.Stub, "ReadRecord", record, as)
}

// ImportBackup implements nodes.Storage.
func (r Remote) ImportBackup(ctx context.Context, backup, record string) (nodeapi.BackupResult, error) {
	return ask[nodeapi.BackupResult](ctx, r.Stub, "ImportBackup", backup, record)
}

// MoveVolume implements nodes.Storage.
func (r Remote) MoveVolume(ctx context.Context, from, to nodeapi.VolumeRef) error {
	return r.call(ctx, nil, "MoveVolume", from, to)
}

// ForeignVolumes implements nodes.Storage.
func (r Remote) ForeignVolumes(ctx context.Context, driver, pool string) ([]nodeapi.Foreign, error) {
	return ask[[]nodeapi.Foreign](ctx, r.Stub, "ForeignVolumes", driver, pool)
}

// ForeignSnapshots implements nodes.Storage.
func (r Remote) ForeignSnapshots(ctx context.Context, v nodeapi.VolumeRef) ([]nodeapi.Foreign, error) {
	return ask[[]nodeapi.Foreign](ctx, r.Stub, "ForeignSnapshots", v)
}

// AdoptVolume implements nodes.Storage.
func (r Remote) AdoptVolume(ctx context.Context, v nodeapi.VolumeRef, name string) error {
	return r.call(ctx, nil, "AdoptVolume", v, name)
}

// ReleaseVolume implements nodes.Storage.
func (r Remote) ReleaseVolume(ctx context.Context, v nodeapi.VolumeRef, name string) error {
	return r.call(ctx, nil, "ReleaseVolume", v, name)
}

// ReceiveMove implements nodes.Mover.
func (r Remote) ReceiveMove(ctx context.Context, inst nodeapi.Instance, live bool) (*nodeapi.MoveTarget, error) {
	return ask[*nodeapi.MoveTarget](ctx, r.Stub, "ReceiveMove", inst, live)
}

// SendMove implements nodes.Mover.
func (r Remote) SendMove(ctx context.Context, instance string, to nodeapi.MoveTarget, live bool) error {
	return r.call(ctx, nil, "SendMove", instance, to, live)
}

// MoveProgress implements nodes.Mover.
func (r Remote) MoveProgress(ctx context.Context, instance string) (nodeapi.MoveProgress, error) {
	return ask[nodeapi.MoveProgress](ctx, r.Stub, "MoveProgress", instance)
}

// ForceMove implements nodes.Mover.
func (r Remote) ForceMove(ctx context.Context, instance string) error {
	return r.call(ctx, nil, "ForceMove", instance)
}

// EndMove implements nodes.Mover.
func (r Remote) EndMove(ctx context.Context, instance string) error {
	return r.call(ctx, nil, "EndMove", instance)
}

// EnsureContainer implements nodes.Containers.
func (r Remote) EnsureContainer(ctx context.Context, c nodeapi.Container) ([]string, error) {
	return ask[[]string](ctx, r.Stub, "EnsureContainer", c)
}

// DockerAPI implements nodes.Containers.
func (r Remote) DockerAPI(ctx context.Context) (net.Conn, error) {
	return r.dialled(ctx, "DockerAPI")
}
