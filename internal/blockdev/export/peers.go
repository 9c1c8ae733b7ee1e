package export

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/blockdev/qemu"
)

// hasStrangers tells whether more connections come from some address than there
// are users there, or unsure, when that cannot be found out.
func (e *export) hasStrangers(users map[string]User, unsure bool) bool {
	host, port, err := net.SplitHostPort(e.remote.addr)
	if err != nil {
		return unsure
	}
	own, err := netip.ParseAddr(host)
	if err != nil {
		return unsure
	}
	allowed := map[netip.Addr]int{}
	for _, u := range users {
		a, err := netip.ParseAddr(u.Addr)
		if err != nil {
			return unsure
		}
		allowed[a]++
	}
	for _, pid := range qemu.Workers(e.dir) {
		peers, err := peersOf(pid, port)
		if err != nil {
			return unsure
		}
		for _, p := range peers {
			if allowed[p]--; p != own && allowed[p] < 0 {
				return true
			}
		}
	}
	return false
}

// peersOf lists who is connected to a port in the network namespace of a process.
func peersOf(pid int, port string) ([]netip.Addr, error) {
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "net", table))
		if errors.Is(err, os.ErrNotExist) && table == "tcp6" {
			continue
		} else if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if p, ok := peerIn(lines.Text(), n); ok {
				out = append(out, p)
			}
		}
		if err := errors.Join(lines.Err(), f.Close()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// established is the state of a connection in /proc/net/tcp.
const established = "01"

// peerIn reads a line of /proc/net/tcp: local and remote address, as 32-bit words
// in the host's order of bytes, which is taken to be little-endian.
func peerIn(line string, port int) (netip.Addr, bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 || fields[3] != established {
		return netip.Addr{}, false
	}
	_, local, _ := strings.Cut(fields[1], ":")
	addr, _, _ := strings.Cut(fields[2], ":")
	at, err := strconv.ParseUint(local, 16, 16)
	raw, herr := hex.DecodeString(addr)
	if err != nil || herr != nil || int(at) != port || len(raw)%4 != 0 {
		return netip.Addr{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	a, ok := netip.AddrFromSlice(raw)
	return a.Unmap(), ok
}

const (
	// expelRounds is how often connections are ended that nobody should have: one
	// that showed its key just before that was taken from it may get through once.
	expelRounds = 3
	expelPause  = 100 * time.Millisecond
)

// expel ends the connections of whoever is no user, or may be none after users
// became less: the export ends and begins anew, and who has a key connects again.
func (e *export) expel(ctx context.Context, users map[string]User, less bool) error {
	u := user{e.dir}
	for range expelRounds {
		if !e.hasStrangers(users, less) {
			return nil
		}
		if err := errors.Join(u.disconnect(ctx), serve(context.WithoutCancel(ctx), e.dir)); err != nil {
			return err
		}
		select {
		case <-time.After(expelPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
