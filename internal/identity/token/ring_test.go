package token

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func ids() *rapid.Generator[string] {
	return rapid.OneOf(rapid.Just("default"), rapid.StringMatching(`[0-9a-f]{32}`), rapid.StringMatching(`[0-9A-Fa-z-]{1,36}`))
}

func payloads() *rapid.Generator[*Payload] {
	return rapid.Custom(func(t *rapid.T) *Payload {
		now := time.UnixMicro(rapid.Int64Range(1, 1<<52).Draw(t, "now")).UTC()
		p := &Payload{
			UserID: ids().Draw(t, "user"), Methods: []string{"password"}, Scope: Scope(rapid.IntRange(0, 4).Draw(t, "scope")),
			IssuedAt: now, ExpiresAt: now.Add(time.Hour), AuditID: NewAuditID(),
		}
		if p.Scope == Project || p.Scope == Domain || p.Scope == Trust {
			p.ScopeID = ids().Draw(t, "scope id")
		}
		if p.Scope == Trust {
			p.TrustID = ids().Draw(t, "trust")
		}
		if rapid.Bool().Draw(t, "rescoped") {
			p.Methods, p.ParentAudit = append(p.Methods, "token"), NewAuditID()
		}
		if rapid.Bool().Draw(t, "app cred") {
			p.AppCredID = ids().Draw(t, "app cred id")
		}
		return p
	})
}

func TestSealOpen(t *testing.T) {
	ring, err := NewRing(NewKeySet(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		p := payloads().Draw(t, "payload")
		text := ring.Seal(p)
		if len(text) >= 255 {
			if len(p.ScopeID) <= 32 { // only ids that are no UUIDs may be longer
				t.Logf("%d characters", len(text))
			}
		}
		got, err := ring.Open(text)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(p, got); d != "" {
			t.Fatal(d)
		}
		// Any flipped bit is noticed.
		i := rapid.IntRange(0, len(text)-2).Draw(t, "at")
		forged := []byte(text)
		if forged[i] == 'A' {
			forged[i] = 'B'
		} else {
			forged[i] = 'A'
		}
		if _, err := ring.Open(string(forged)); err == nil {
			t.Fatal("a forged token was accepted")
		}
	})
}

func TestLongestTokenOfUUIDs(t *testing.T) {
	ring, _ := NewRing(NewKeySet(time.Now()))
	id := "0123456789abcdef0123456789abcdef"
	p := &Payload{UserID: id, ScopeID: id, TrustID: id, AppCredID: id, Scope: Trust, AuditID: NewAuditID(), ParentAudit: NewAuditID()}
	if n := len(ring.Seal(p)); n >= 255 {
		t.Fatalf("%d characters", n)
	}
}

func TestRotation(t *testing.T) {
	now := time.Now()
	set := NewKeySet(now)
	old, _ := NewRing(set)
	text := old.Seal(&Payload{UserID: "u"})
	staged := set.Keys[1].ID
	set.Rotate(now.Add(time.Hour), 2*time.Hour)
	ring, _ := NewRing(set)
	if ring.primary != staged {
		t.Errorf("primary is %d, want the staged key %d", ring.primary, staged)
	}
	if _, err := ring.Open(text); err != nil {
		t.Errorf("a token of the former primary key: %v", err)
	}
	if _, err := old.Open(ring.Seal(&Payload{UserID: "u"})); err != nil {
		t.Errorf("a member that has not heard of the rotation must open new tokens: %v", err)
	}
	set.Rotate(now.Add(4*time.Hour), 2*time.Hour)
	ring, _ = NewRing(set)
	if _, err := ring.Open(text); err == nil {
		t.Error("a token of a forgotten key was accepted")
	}
	if len(set.Keys) != 3 {
		t.Errorf("%d keys, want staged, primary and one secondary", len(set.Keys))
	}
}

func TestSealBytes(t *testing.T) {
	set := NewKeySet(time.Now())
	ring, _ := NewRing(set)
	other, _ := NewRing(NewKeySet(time.Now()))
	text := ring.SealBytes("a", []byte("secret"))
	if got, err := ring.OpenBytes("a", text); err != nil || string(got) != "secret" {
		t.Fatal(string(got), err)
	}
	forged := []byte(text)
	forged[len(forged)-3] ^= 1
	token := ring.Seal(&Payload{UserID: "u"})
	for what, open := range map[string]func() ([]byte, error){
		"another purpose": func() ([]byte, error) { return ring.OpenBytes("b", text) },
		"no purpose":      func() ([]byte, error) { return ring.OpenBytes("", text) },
		"another ring":    func() ([]byte, error) { return other.OpenBytes("a", text) },
		"a changed text":  func() ([]byte, error) { return ring.OpenBytes("a", string(forged)) },
		"a token":         func() ([]byte, error) { return ring.OpenBytes("a", token) },
		"nothing":         func() ([]byte, error) { return ring.OpenBytes("a", "") },
		"as a token": func() ([]byte, error) {
			_, err := ring.Open(text)
			return nil, err
		},
	} {
		if _, err := open(); err != ErrInvalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	set.Rotate(time.Now(), time.Hour)
	if turned, _ := NewRing(set); turned != nil {
		if _, err := turned.OpenBytes("a", text); err != nil {
			t.Errorf("after a rotation: %v", err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	ring, _ := NewRing(NewKeySet(time.Now()))
	f.Add(ring.Seal(&Payload{UserID: "u"}))
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := ring.Open(text); err == nil && p.UserID != "u" {
			t.Fatal("forged")
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	ring, _ := NewRing(NewKeySet(time.Now()))
	text := ring.Seal(&Payload{UserID: "0123456789abcdef0123456789abcdef", AuditID: NewAuditID()})
	for b.Loop() {
		if _, err := ring.Open(text); err != nil {
			b.Fatal(err)
		}
	}
}
