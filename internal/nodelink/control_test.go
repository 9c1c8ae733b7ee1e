package nodelink

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"testing"
	"time"
)

// TestControlAlone speaks the control members' protocols with other certificates.
func TestControlAlone(t *testing.T) {
	w := newWorld(t)
	for _, proto := range []string{API, Council} {
		for unit, welcome := range map[string]bool{ControlUnit: true, NodeUnit: false, "": false} {
			conf := w.ca.conf(t, "n1", unit)
			if unit == "" {
				conf.Certificates = nil
			}
			conf.NextProtos = []string{proto}
			status, err := w.speaks(conf)
			if welcome && (err != nil || status != http.StatusTeapot) || !welcome && err == nil {
				t.Errorf("%s with a certificate of %q: %d, %v", proto, unit, status, err)
			}
		}
	}
}

// speaks sends a request and gives the answer's status.
func (w *world) speaks(conf *tls.Config) (int, error) {
	c, err := tls.Dial("tcp", w.addr, conf)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}
