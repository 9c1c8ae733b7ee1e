package cli

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// keysDir is where in the data directory our own SSH files are.
const keysDir = "keys"

// sshKey is the private key that servers are logged into with.
type sshKey struct {
	file   string
	signer ssh.Signer
}

// sshKey finds the key: the file that is asked for, else the user's own when it
// can be used without a passphrase, else one of the data directory, which is made
// when that is allowed.
func (a *app) sshKey(file string, create bool) (*sshKey, error) {
	if file != "" {
		k, err := readKey(file)
		var locked *ssh.PassphraseMissingError
		if errors.As(err, &locked) {
			return nil, usageError{fmt.Errorf("--key: %s has a passphrase, which cannot be asked for here: give a key without one", file)}
		} else if err != nil {
			return nil, usageError{fmt.Errorf("--key: %w", err)}
		}
		return k, nil
	}
	if home, err := os.UserHomeDir(); err == nil {
		if k, err := readKey(filepath.Join(home, ".ssh", "id_ed25519")); err == nil {
			return k, nil
		}
	}
	own := a.path(filepath.Join(keysDir, "id_ed25519"))
	k, err := readKey(own)
	if errors.Is(err, fs.ErrNotExist) && create {
		return newKey(own)
	} else if err != nil {
		return nil, fmt.Errorf("no key to log in with: %w; give one with --key FILE", err)
	}
	return k, nil
}

func readKey(file string) (*sshKey, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("%s is not a private key that can be used: %w", file, err)
	}
	return &sshKey{file, signer}, nil
}

// newKey makes a key pair, the public half beside the private one.
func newKey(file string) (*sshKey, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "strata")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	k, err := readKey(file)
	if err != nil {
		return nil, err
	}
	return k, os.WriteFile(file+".pub", []byte(k.authorized()), 0o644)
}

// authorized is the public key as in authorized_keys.
func (k *sshKey) authorized() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.signer.PublicKey()))) + " strata\n"
}

// is tells whether the authorized_keys line is our public key.
func (k *sshKey) is(line string) bool {
	p, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	return err == nil && bytes.Equal(p.Marshal(), k.signer.PublicKey().Marshal())
}

// short tells keys apart in names.
func (k *sshKey) short() string {
	sum := sha256.Sum256(k.signer.PublicKey().Marshal())
	return hex.EncodeToString(sum[:4])
}
