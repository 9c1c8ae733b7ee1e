// Command keys has an SSH agent sign something, as a client that logs in would, and
// prints the fingerprints of its keys.
package main

import (
	"fmt"
	"log"
	"net"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

func main() {
	c, err := net.Dial("unix", os.Getenv("SSH_AUTH_SOCK"))
	if err != nil {
		log.Fatal(err)
	}
	signers, err := agent.NewClient(c).Signers()
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range signers {
		sig, err := s.Sign(nil, []byte("a challenge"))
		if err != nil {
			log.Fatal(err)
		}
		if err := s.PublicKey().Verify([]byte("a challenge"), sig); err != nil {
			log.Fatal(err)
		}
		fmt.Println(ssh.FingerprintSHA256(s.PublicKey()))
	}
}
