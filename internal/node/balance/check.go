package balance

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// target is how a member is watched.
type target struct {
	monitor nodeapi.LBMonitor
	addr    netip.Addr
	port    int
}

// check watches one member.
type check struct {
	target
	ns      *netns.NS
	changed func() // called when state has changed

	mu    sync.Mutex
	said  string // what state gives
	run   int    // successes, or failures (negative), one after the other
	ended func()
}

func (c *check) state() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said
}

// begin sets what is known already.
func (c *check) begin(state string) { c.said = state }

func (c *check) start(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	c.ended = func() { cancel(); <-done }
	go func() {
		defer close(done)
		c.work(ctx)
	}()
}

func (c *check) stop() { c.ended() }

func (c *check) work(ctx context.Context) {
	delay := max(time.Duration(c.monitor.Delay)*time.Second, time.Second)
	tick := time.NewTicker(delay)
	defer tick.Stop()
	for {
		err := c.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if c.note(err == nil) {
			c.changed()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// note takes a result, and tells whether the state has changed: the first result decides,
// later ones when enough of them agree.
func (c *check) note(well bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case well:
		c.run = max(c.run, 0) + 1
	default:
		c.run = min(c.run, 0) - 1
	}
	now := c.said
	switch {
	case c.said == "" && well, c.run >= c.monitor.Rise:
		now = nodeapi.LBMemberUp
	case c.said == "" && !well, -c.run >= c.monitor.Fall:
		now = nodeapi.LBMemberDown
	}
	changed := now != c.said
	c.said = now
	return changed
}

// once looks at the member; an error says what is wrong with it.
func (c *check) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(time.Duration(c.monitor.Timeout)*time.Second, time.Second))
	defer cancel()
	switch c.monitor.Type {
	case "HTTP", "HTTPS":
		return c.http(ctx)
	case "PING":
		return c.ping(ctx)
	case "UDP-CONNECT":
		return c.udp(ctx)
	}
	conn, err := c.stream(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}

// dial connects from within the load balancer's namespace: a socket stays in the namespace
// that it was made in.
func (c *check) dial(ctx context.Context, network string) (conn net.Conn, err error) {
	err = c.ns.Do(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, netip.AddrPortFrom(c.addr, uint16(c.port)).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	if at, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(at); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}

// stream connects by TCP, and speaks TLS when the monitor does. As upstream's, it trusts
// every certificate: what is asked is whether the member answers.
func (c *check) stream(ctx context.Context) (net.Conn, error) {
	conn, err := c.dial(ctx, "tcp")
	if err != nil || c.monitor.Type != "HTTPS" && c.monitor.Type != "TLS-HELLO" {
		return conn, err
	}
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: c.monitor.Domain})
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secure, nil
}

// http asks by hand, since HTTP 1.0 is what upstream speaks unless told otherwise.
func (c *check) http(ctx context.Context) error {
	conn, err := c.stream(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	m := c.monitor
	request := m.Method + " " + m.Path + " HTTP/1.0\r\n"
	if m.HTTPVersion == "1.1" {
		host := m.Domain
		if host == "" {
			host = netip.AddrPortFrom(c.addr, uint16(c.port)).String()
		}
		request = m.Method + " " + m.Path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return err
	}
	// What comes after the status is nothing to us; a member must not fill our memory.
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, 64<<10)), nil)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if !expected(m.Codes, resp.StatusCode) {
		return fmt.Errorf("it answers %d, not %s", resp.StatusCode, m.Codes)
	}
	return nil
}

// expected tells whether a status is among "200", "200,202" or "200-204".
func expected(codes string, status int) bool {
	if lo, hi, isRange := strings.Cut(codes, "-"); isRange {
		a, err1 := strconv.Atoi(lo)
		b, err2 := strconv.Atoi(hi)
		return err1 == nil && err2 == nil && a <= status && status <= b
	}
	for code := range strings.SplitSeq(codes, ",") {
		if n, err := strconv.Atoi(strings.TrimSpace(code)); err == nil && n == status {
			return true
		}
	}
	return false
}

// udp is well unless the member says that nobody listens.
func (c *check) udp(ctx context.Context) error {
	conn, err := c.dial(ctx, "udp")
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{0}); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// Types of ICMP messages.
const (
	echo4, reply4 = 8, 0
	echo6, reply6 = 128, 129
)

// ping sends an echo request and waits for its answer.
func (c *check) ping(ctx context.Context) error {
	network, ask, answer := "ip4:icmp", byte(echo4), byte(reply4)
	if c.addr.Is6() {
		network, ask, answer = "ip6:ipv6-icmp", echo6, reply6
	}
	var conn *net.IPConn
	err := c.ns.Do(func() (err error) {
		conn, err = net.DialIP(network, nil, &net.IPAddr{IP: c.addr.AsSlice()})
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	if at, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(at); err != nil {
			return err
		}
	}
	id, seq := uint16(os.Getpid()), uint16(time.Now().UnixNano())
	msg := []byte{ask, 0, 0, 0, byte(id >> 8), byte(id), byte(seq >> 8), byte(seq)}
	if c.addr.Is4() { // the kernel fills it in for IPv6
		binary.BigEndian.PutUint16(msg[2:], checksum(msg))
	}
	if _, err := conn.Write(msg); err != nil {
		return err
	}
	for buf := make([]byte, 1500); ; {
		n, _, err := conn.ReadFrom(buf) // without the header, which Read leaves
		if err != nil {
			return err
		}
		if got := buf[:n]; n >= 8 && got[0] == answer && binary.BigEndian.Uint16(got[4:]) == id && binary.BigEndian.Uint16(got[6:]) == seq {
			return nil
		}
	}
}

// checksum is the Internet's (RFC 1071).
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
