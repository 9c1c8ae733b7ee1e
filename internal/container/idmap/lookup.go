package idmap

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"

	"github.com/strata-cloud/strata/internal/errs"
)

// Default stands for the ranges of DefaultUser, who need not exist.
const (
	Default     = "default"
	DefaultUser = "dockremap"
)

// Flag is what an operator says it by.
const Flag = "--containers-userns-remap"

// Check tells whether Lookup can make sense of what an operator says.
func Check(s string) error {
	parts := strings.Split(s, ":")
	if len(parts) > 2 || slices.Contains(parts, "") || len(parts) == 2 && parts[0] == Default {
		return errs.Invalidf("%s %q is none of default, USER and USER:GROUP", Flag, s)
	}
	return nil
}

// Files have the ranges of ids that users may give away.
type Files struct{ SubUID, SubGID string }

// Host are the machine's.
var Host = Files{"/etc/subuid", "/etc/subgid"}

// Lookup finds the ids of USER[:GROUP], or of DefaultUser. As in dockerd both lists are the
// user's (moby's daemon/daemon_unix.go: parseRemappedRoot), and a group only has to exist.
func (f Files) Lookup(s string) (*Map, error) {
	if err := Check(s); err != nil {
		return nil, err
	}
	who, err := owner(s)
	if err != nil {
		return nil, err
	}
	m := &Map{}
	for _, l := range []struct {
		path string
		to   *[]user.IDMap
	}{{f.SubUID, &m.UIDMaps}, {f.SubGID, &m.GIDMaps}} {
		if *l.to, err = ranges(l.path, who); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// owner is whose ranges are meant.
func owner(s string) (user.User, error) {
	name, group, grouped := strings.Cut(s, ":")
	if name == Default {
		return user.User{Name: DefaultUser, Uid: -1}, nil
	}
	u, err := user.LookupUser(name)
	if uid, bad := strconv.Atoi(name); err != nil && bad == nil {
		u, err = user.LookupUid(uid)
	}
	if err != nil {
		return u, errs.Invalidf("%s %s: there is no user %s: make it (useradd --system %s), or take %s", Flag, s, name, name, Default)
	}
	if u.Uid == 0 {
		return u, errs.Invalidf("%s %s: root of containers cannot stand for root of the host: leave the flag out, or name another user", Flag, s)
	}
	if !grouped {
		return u, nil
	}
	_, err = user.LookupGroup(group)
	if gid, bad := strconv.Atoi(group); err != nil && bad == nil {
		_, err = user.LookupGid(gid)
	}
	if err != nil {
		return u, errs.Invalidf("%s %s: there is no group %s: make it (groupadd --system %s)", Flag, s, group, group)
	}
	return u, nil
}

// usual is how many ids a user gets, beginning at first.
const (
	usual = 65536
	first = 100000
	most  = 340 // that the kernel takes
)

// ranges reads those of a user.
func ranges(path string, who user.User) ([]user.IDMap, error) {
	all, err := user.ParseSubIDFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	var own []user.SubID
	free := int64(first)
	for _, r := range all {
		if r.Name == who.Name || r.Name == strconv.Itoa(who.Uid) {
			own = append(own, r)
		}
		free = max(free, r.SubID+r.Count)
	}
	if len(own) == 0 {
		return nil, errs.Invalidf("%s: %s has no range for %s: give it ids that no one else has (echo %s:%d:%d >> %s)", Flag, path, who.Name, who.Name, free, usual, path)
	}
	if err := sound(own); err != nil {
		return nil, errs.Invalidf("%s: %s: the ranges of %s %s", Flag, path, who.Name, err)
	}
	var out []user.IDMap
	var next int64
	for _, r := range own {
		out = append(out, user.IDMap{ID: next, ParentID: r.SubID, Count: r.Count})
		next += r.Count
	}
	return out, nil
}

// sound tells what the kernel would refuse, and what would give root away.
func sound(list []user.SubID) error {
	if len(list) > most {
		return fmt.Errorf("are %d, and the kernel takes %d", len(list), most)
	}
	sorted := slices.SortedFunc(slices.Values(list), func(a, b user.SubID) int { return cmp.Compare(a.SubID, b.SubID) })
	var end int64
	for _, r := range sorted {
		switch {
		case r.SubID == 0:
			return errors.New("begin with root of the host")
		case r.Count < 1 || r.SubID < 0 || r.Count >= math.MaxUint32 || r.SubID+r.Count > math.MaxUint32:
			return fmt.Errorf("have one, of %d ids from %d on, that there cannot be", r.Count, r.SubID)
		case r.SubID < end:
			return fmt.Errorf("overlap at %d", r.SubID)
		}
		end = r.SubID + r.Count
	}
	return nil
}
