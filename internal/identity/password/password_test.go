package password

import (
	"context"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

func TestCheck(t *testing.T) {
	h, err := New(bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 100)
	for _, c := range []struct{ set, try string }{
		{"secret", "secret"}, {"", ""}, {long, long}, {"päßwörd 密码", "päßwörd 密码"},
	} {
		hash, err := h.Hash(t.Context(), c.set)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second answer comes from memory
			if !h.Check(t.Context(), hash, c.try) {
				t.Errorf("%q is refused", c.try)
			}
			if h.Check(t.Context(), hash, c.try+"y") {
				t.Errorf("%q is accepted", c.try+"y")
			}
		}
		if h.Check(t.Context(), "", c.set) {
			t.Error("a user without a password can log in")
		}
		// A changed password makes the remembered one useless.
		other, _ := h.Hash(t.Context(), c.set+"z")
		if h.Check(t.Context(), other, c.try) {
			t.Error("the former password is accepted")
		}
	}
	if h.Check(t.Context(), "", strings.Repeat("a", MaxLength+1)) {
		t.Error("an overlong secret is accepted")
	}
}

func TestCacheIsBounded(t *testing.T) {
	h, _ := New(bcrypt.MinCost)
	for i := range 3 * remembered {
		h.remember([32]byte{byte(i), byte(i >> 8), byte(i >> 16)})
	}
	if n := len(h.young) + len(h.old); n > 2*remembered {
		t.Errorf("%d entries", n)
	}
}

func BenchmarkRepeatedCheck(b *testing.B) {
	h, _ := New(DefaultCost)
	hash, _ := h.Hash(context.Background(), "secret")
	h.Check(context.Background(), hash, "secret")
	for b.Loop() {
		if !h.Check(context.Background(), hash, "secret") {
			b.Fatal("refused")
		}
	}
}
