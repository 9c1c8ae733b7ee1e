package cloud

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/strata-cloud/strata/internal/wait"
)

// Key is an SSH key pair.
type Key struct {
	Signer  ssh.Signer
	Public  string // authorized_keys line
	Private []byte // PEM
}

// NewKey makes a key pair.
func NewKey(t testing.TB) Key {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "test")
	if err != nil {
		t.Fatal(err)
	}
	return Key{signer, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))), pem.EncodeToMemory(block)}
}

// Guest is a log-in to a server.
type Guest struct {
	t testing.TB
	*ssh.Client
}

// SSH logs in, waiting until the server lets it.
func SSH(t testing.TB, ctx context.Context, addr string, k Key) *Guest {
	t.Helper()
	conf := &ssh.ClientConfig{User: "strata", Auth: []ssh.AuthMethod{ssh.PublicKeys(k.Signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 5 * time.Second}
	var client *ssh.Client
	var last error
	err := wait.Until(ctx, "SSH to "+addr, 200*time.Millisecond, func(ctx context.Context) (bool, error) {
		client, last = ssh.Dial("tcp", net.JoinHostPort(addr, "22"), conf)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%v (last: %v)", err, last)
	}
	t.Cleanup(func() { client.Close() })
	return &Guest{t, client}
}

// Run runs a command in the guest and gives its output.
func (g *Guest) Run(command string) (string, error) {
	s, err := g.NewSession()
	if err != nil {
		return "", err
	}
	defer s.Close()
	out, err := s.CombinedOutput(command)
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", command, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// Must is Run for commands that have to succeed.
func (g *Guest) Must(command string) string {
	g.t.Helper()
	out, err := g.Run(command)
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}
