package system

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// sight is where a server's processes were seen.
type sight struct {
	at    time.Time
	hosts string
}

// watch samples on which hosts the server has processes until the function returned
// is called, and demands that no server ever has them on two.
func (f *failing) watch() (stop func() []sight) {
	done, out := make(chan struct{}), make(chan []sight)
	go func() {
		var list []sight
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			all := f.everywhere()
			for id, on := range all {
				if len(on) > 1 {
					f.Errorf("server %s has processes on %v at one time", id, on)
				}
			}
			if now := strings.Join(all[f.server], " "); len(list) == 0 || list[len(list)-1].hosts != now {
				list = append(list, sight{time.Now(), now})
			}
			select {
			case <-done:
				out <- list
				return
			case <-tick.C:
			}
		}
	}()
	return func() []sight { close(done); return <-out }
}

// everywhere names the hosts on which each server has processes.
func (f *failing) everywhere() map[string][]string {
	out := map[string][]string{}
	for _, h := range f.All {
		for _, line := range f.machines(h.DataDir) {
			_, id, _ := strings.Cut(line, " ")
			if !slices.Contains(out[id], h.Name) {
				out[id] = append(out[id], h.Name)
			}
		}
	}
	return out
}

// tell logs what was seen since the fault.
func tell(t *testing.T, since time.Time, seen []sight) {
	t.Helper()
	for _, s := range seen[1:] {
		where := s.hosts
		if where == "" {
			where = "nowhere"
		}
		t.Logf("after %5.1f s: it runs %s", s.at.Sub(since).Seconds(), where)
	}
}
