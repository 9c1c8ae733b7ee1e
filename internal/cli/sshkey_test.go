package cli

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func TestKeyIsMadeOnce(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	a := &app{dataDir: t.TempDir()}
	if _, err := a.sshKey("", false); err == nil || !strings.Contains(err.Error(), "--key") {
		t.Errorf("without a key: %v", err)
	}
	first, err := a.sshKey("", true)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(first.file); err != nil || fi.Mode().Perm() != 0o600 || filepath.Dir(first.file) != a.path(keysDir) {
		t.Errorf("%s: %v, %v", first.file, fi.Mode(), err)
	}
	again, err := a.sshKey("", true)
	if err != nil || !again.is(first.authorized()) {
		t.Errorf("the second is another: %v", err)
	}
	if again.is("ssh-ed25519 nonsense") || again.is("") {
		t.Error("nonsense is taken for the key")
	}
}

// The user's own key is used, unless it asks for a passphrase.
func TestKeyOfTheUser(t *testing.T) {
	for _, c := range []struct {
		passphrase string
		own        bool
	}{{"", true}, {"secret", false}} {
		home := t.TempDir()
		t.Setenv("HOME", home)
		a := &app{dataDir: t.TempDir()}
		file := filepath.Join(home, ".ssh", "id_ed25519")
		writeKey(t, file, c.passphrase)
		k, err := a.sshKey("", true)
		if err != nil || (k.file == file) != c.own {
			t.Errorf("passphrase %q: %v, %v", c.passphrase, k, err)
		}
		_, err = a.sshKey(file, true)
		var usage usageError
		if (err == nil) != c.own || err != nil && !errors.As(err, &usage) {
			t.Errorf("--key with passphrase %q: %v", c.passphrase, err)
		}
	}
}

func writeKey(t *testing.T, file, passphrase string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, pem.EncodeToMemory(block), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func hostKey(t *testing.T) ssh.PublicKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A server keeps its host key; an address that moves to another server is no alarm.
func TestKnownHosts(t *testing.T) {
	a := &app{dataDir: t.TempDir()}
	h, err := a.knownHosts()
	if err != nil {
		t.Fatal(err)
	}
	addr := &net.TCPAddr{IP: net.IPv4(198, 18, 0, 3), Port: 22}
	one, other := hostKey(t), hostKey(t)
	const web, db = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
	for i, c := range []struct {
		server string
		key    ssh.PublicKey
		ok     bool
	}{{web, one, true}, {web, one, true}, {web, other, false}, {db, other, true}, {web, one, true}} {
		err := h.check(hostAlias(c.server))("ignored", addr, c.key)
		var changed *knownhosts.KeyError
		if (err == nil) != c.ok || err != nil && !errors.As(err, &changed) {
			t.Errorf("%d: %v", i, err)
		}
		dial := sshDial{addr: addr.IP.String()}
		if (dial.hopeless(err) == nil) != c.ok {
			t.Errorf("%d: %v is worth waiting for", i, err)
		}
	}
	if fi, err := os.Stat(h.file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}
