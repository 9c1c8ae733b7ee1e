package container

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/docker/go-units"

	"github.com/strata-cloud/strata/internal/container/build"
	"github.com/strata-cloud/strata/internal/wait"
)

// A disk that is full makes containers fail that have nothing to do with it. Before that,
// what can be made again goes: the cache of builds first, as much as is missing, then
// images that have no name and that no container uses. What has a name, containers and
// volumes are people's, and stay.
const (
	pressureEvery = 20 * time.Second
	// Space is made when less than pressureLow percent of the disk are free, until
	// pressureGood are.
	pressureLow  = 10
	pressureGood = 15
)

// space is a disk's, in bytes.
type space struct{ free, total int64 }

func spaceOf(dir string) (space, error) {
	var fs syscall.Statfs_t
	err := syscall.Statfs(dir, &fs)
	return space{int64(fs.Bavail) * fs.Bsize, int64(fs.Blocks) * fs.Bsize}, err
}

// below tells whether less than so many percent are free.
func (s space) below(percent int64) bool { return s.free < s.total/100*percent }

// watchDisk makes space whenever the engine's disk is nearly full.
func (d *Daemon) watchDisk() {
	told := false
	for d.ctx.Err() == nil {
		s, err := spaceOf(d.cfg.Dir)
		low := err == nil && s.below(pressureLow)
		if low {
			s, err = d.makeSpace(d.ctx, s)
		}
		if (low || err != nil) && !told { // once, as long as nothing helps
			d.cfg.Log.Warn("the containers' disk is nearly full", "free", units.BytesSize(float64(s.free)), "err", err)
		}
		told = err != nil || s.below(pressureLow)
		wait.Pause(d.ctx, pressureEvery)
	}
}

// makeSpace removes what can be made again until the disk is good, and tells how it is then.
func (d *Daemon) makeSpace(ctx context.Context, s space) (space, error) {
	good := s.total / 100 * pressureGood
	if _, _, err := d.PruneBuilds(ctx, build.PruneOptions{All: true, MinFree: good}); err != nil {
		return s, fmt.Errorf("pruning the cache of builds: %w", err)
	}
	s, err := spaceOf(d.cfg.Dir)
	if err != nil || !s.below(pressureGood) {
		return s, err
	}
	if _, _, err := d.PruneImages(ctx, false, func(*Image) bool { return false }); err != nil {
		return s, fmt.Errorf("pruning images: %w", err)
	}
	return spaceOf(d.cfg.Dir)
}
