package keypair

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/strata-cloud/strata/internal/errs"
)

// fill checks the given public key or makes a pair; only then is there a private key to show, once.
func (k *Key) fill() (private string, err error) {
	if k.PublicKey == "" {
		return k.generate()
	}
	if k.Type == "x509" {
		block, _ := pem.Decode([]byte(k.PublicKey))
		if block == nil {
			return "", errs.Invalidf("Keypair data is invalid: failed to generate X509 fingerprint")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", errs.Invalidf("Keypair data is invalid: failed to generate X509 fingerprint")
		}
		k.Fingerprint = certificatePrint(block.Bytes)
		return "", nil
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(k.PublicKey))
	if err != nil {
		return "", errs.Invalidf("Keypair data is invalid: failed to generate fingerprint")
	}
	k.Fingerprint = ssh.FingerprintLegacyMD5(public)
	return "", nil
}

func (k *Key) generate() (private string, err error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	private = string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	if k.Type == "x509" {
		return private, k.certify(key)
	}
	public, err := ssh.NewPublicKey(&key.PublicKey)
	if err != nil {
		return "", err
	}
	k.PublicKey = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))) + " Generated-by-Nova"
	k.Fingerprint = ssh.FingerprintLegacyMD5(public)
	return private, nil
}

// certify makes a certificate for WinRM, signed by its own key and good for ten years, as nova/crypto.py does.
func (k *Key) certify(key *rsa.PrivateKey) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	cert := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: k.UserID}, NotBefore: k.Created.Add(-time.Hour), NotAfter: k.Created.AddDate(10, 0, 0),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		return err
	}
	k.PublicKey = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	k.Fingerprint = certificatePrint(der)
	return nil
}

// certificatePrint is the SHA-1 of a certificate in pairs of digits, the form that Windows shows.
func certificatePrint(der []byte) string {
	sum := sha1.Sum(der)
	text := hex.EncodeToString(sum[:])
	pairs := make([]string, 0, len(sum))
	for i := 0; i < len(text); i += 2 {
		pairs = append(pairs, text[i:i+2])
	}
	return strings.Join(pairs, ":")
}
