package store_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/store/storetest"
)

// vm is the record of these tests and benchmarks.
type vm struct {
	ID      string            `json:"id"`
	Name    string            `json:"name"`
	Project string            `json:"project"`
	Host    string            `json:"host"`
	Meta    map[string]string `json:"meta,omitempty"`
	Note    string            `json:"note,omitempty"`
}

func openVMs(t testing.TB, b store.Backend) (*store.DB, *store.Collection[vm]) {
	t.Helper()
	db, vms, err := startVMs(storetest.Context(t), b)
	if err != nil {
		t.Fatal(err)
	}
	return db, vms
}

func startVMs(ctx context.Context, b store.Backend) (*store.DB, *store.Collection[vm], error) {
	db, err := store.Open(ctx, store.Options{Backend: b, Log: storetest.Quiet()})
	if err != nil {
		return nil, nil, err
	}
	vms := store.Register(db, store.Schema[vm]{
		Service: "compute", Kind: "server",
		ID:     func(v *vm) string { return v.ID },
		Unique: map[string]func(*vm) []string{"name": func(v *vm) []string { return []string{v.Name} }},
		Index: map[string]func(*vm) []string{
			"project": func(v *vm) []string { return []string{v.Project} },
			"host":    func(v *vm) []string { return []string{v.Host} },
		},
	})
	return db, vms, db.Start(ctx)
}

func closeDB(t testing.TB, db *store.DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Errorf("closing the store: %v", err)
	}
}

const writerEnv = "STRATA_STORE_TEST_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerEnv); dir != "" {
		if err := write(context.Background(), dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// write is what the child process of TestKill does: it creates, updates and deletes
// for ever, by transaction and by ledger, and says what was acknowledged.
func write(ctx context.Context, dir string) error {
	b, err := store.NewEtcd(ctx, store.EtcdOptions{Dir: dir, Log: storetest.Quiet()})
	if err != nil {
		return err
	}
	db, vms, err := startVMs(ctx, b)
	if err != nil {
		return err
	}
	lines := make(chan string)
	for g := range 4 {
		go writeOn(ctx, db, vms, g, lines)
	}
	for l := range lines {
		fmt.Println(l)
	}
	return nil
}

func writeOn(ctx context.Context, db *store.DB, vms *store.Collection[vm], g int, lines chan<- string) {
	for i := 0; ; i++ {
		id := fmt.Sprintf("%d-%d-%d", os.Getpid(), g, i)
		v := &vm{ID: id, Name: "name-" + id}
		create := func(tx *store.Tx) error { return vms.TxCreate(tx, v) }
		var err error
		if g%2 == 0 {
			err = db.Txn(ctx, create)
		} else {
			err = db.Ledger("l").Do(ctx, create)
		}
		if err != nil {
			continue
		}
		lines <- "+" + id
		if i%3 == 1 && vms.Delete(ctx, id) == nil {
			lines <- "-" + id
		}
	}
}

// TestKill kills a writing process at random moments: what it acknowledged is
// there, and the unique keys are exactly those of the records.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	acked := map[string]bool{}
	for range rounds {
		killOnce(t, dir, acked)
		b := openEtcd(t, dir)
		db, vms := openVMs(t, b)
		lost := 0
		for id, alive := range acked {
			if _, err := vms.Get(id); alive != (err == nil) {
				lost++
			}
		}
		if lost > 0 {
			t.Errorf("%d of %d acknowledged creations and deletions lost", lost, len(acked))
		}
		checkUnique(t, b, vms)
		if db.Epoch() == 0 {
			t.Error("the leadership was not taken back")
		}
		closeDB(t, db)
	}
	t.Logf("%d records acknowledged in %d rounds", len(acked), rounds)
	if len(acked) < rounds*20 {
		t.Errorf("only %d records: the test proved little", len(acked))
	}
}

func killOnce(t *testing.T, dir string, acked map[string]bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sc := bufio.NewScanner(out)
	var timer *time.Timer
	for sc.Scan() {
		if timer == nil {
			timer = time.AfterFunc(50*time.Millisecond+rand.N(350*time.Millisecond), func() { _ = cmd.Process.Kill() })
		}
		switch l := sc.Text(); l[0] {
		case '+':
			acked[l[1:]] = true
		case '-':
			acked[l[1:]] = false
		}
	}
	if err := cmd.Wait(); err == nil || timer == nil {
		t.Fatalf("the writer ended by itself: %v", err)
	}
	// A deletion in flight when the process died may have happened.
	for id, alive := range acked {
		if alive && strings.HasPrefix(id, fmt.Sprint(cmd.Process.Pid, "-")) && inFlight(id) {
			delete(acked, id)
		}
	}
}

// inFlight tells whether the writer deletes this record after acknowledging it.
func inFlight(id string) bool {
	var pid, g, i int
	_, err := fmt.Sscanf(id, "%d-%d-%d", &pid, &g, &i)
	return err != nil || i%3 == 1
}

func checkUnique(t *testing.T, b store.Backend, vms *store.Collection[vm]) {
	t.Helper()
	res, err := b.Range(storetest.Context(t), "/u1/compute/server/name/", store.RangeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.KVs) != vms.Len() {
		t.Errorf("%d unique keys for %d records", len(res.KVs), vms.Len())
	}
	for _, kv := range res.KVs {
		v, err := vms.Get(string(kv.Value))
		if err != nil || "/u1/compute/server/name/"+v.Name != kv.Key {
			t.Errorf("unique key %s names %s: %v", kv.Key, kv.Value, err)
		}
	}
}

// TestKillStart kills a process while it makes its first store; the next start
// must find its way.
func TestKillStart(t *testing.T) {
	for range 12 {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerEnv+"="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(10*time.Millisecond+rand.N(90*time.Millisecond), func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); err == nil {
			t.Fatal("the writer ended by itself")
		}
		timer.Stop()
		db, vms := openVMs(t, openEtcd(t, dir))
		if err := vms.Create(storetest.Context(t), &vm{ID: "after", Name: "after"}); err != nil {
			t.Error(err)
		}
		closeDB(t, db)
	}
}

func TestSecondStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	b := openEtcd(t, dir)
	defer b.Close()
	_, err := store.NewEtcd(storetest.Context(t), store.EtcdOptions{Dir: dir, Log: storetest.Quiet()})
	if want := fmt.Sprintf("in use by the process with pid %d;", os.Getpid()); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), want) {
		t.Errorf("second start: %v, want %q", err, want)
	}
	for _, sub := range []string{"", "etcd"} {
		if st, err := os.Stat(filepath.Join(dir, sub)); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("mode of %q: %v %v", sub, st.Mode(), err)
		}
	}
}

func TestTooLarge(t *testing.T) {
	db, vms := openVMs(t, openEtcd(t, t.TempDir()))
	defer closeDB(t, db)
	ctx := storetest.Context(t)
	big := &vm{ID: "big", Name: "big", Note: strings.Repeat("x", 9<<20)}
	if err := vms.Create(ctx, big); !errs.Is(err, errs.TooLarge) {
		t.Errorf("too large a record: %v", err)
	}
	if err := db.Ledger("l").Do(ctx, func(tx *store.Tx) error { return vms.TxCreate(tx, big) }); !errs.Is(err, errs.TooLarge) {
		t.Errorf("too large a record in a ledger: %v", err)
	}
	if err := vms.Create(ctx, &vm{ID: "next", Name: "big"}); err != nil {
		t.Errorf("after it: %v", err)
	}
}

func TestRestore(t *testing.T) {
	ctx := storetest.Context(t)
	db, vms := openVMs(t, openEtcd(t, t.TempDir()))
	for i := range 20 {
		if err := vms.Create(ctx, &vm{ID: fmt.Sprint(i), Name: fmt.Sprint("n", i), Project: "p"}); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "snapshot")
	if err := db.SnapshotFile(ctx, file); err != nil {
		t.Fatal(err)
	}
	snap, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	epoch, rev := db.Epoch(), db.Revision()
	if err := vms.Create(ctx, &vm{ID: "later", Name: "later"}); err != nil {
		t.Fatal(err)
	}
	closeDB(t, db)

	dir := filepath.Join(t.TempDir(), "restored")
	damaged := bytes.Clone(snap)
	damaged[len(damaged)/2] ^= 1
	if err := store.RestoreEtcd(dir, bytes.NewReader(damaged)); !errs.Is(err, errs.Invalid) {
		t.Errorf("damaged snapshot: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "etcd")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a damaged snapshot left something: %v", err)
	}
	if err := store.RestoreEtcd(dir, strings.NewReader("not a snapshot")); !errs.Is(err, errs.Invalid) {
		t.Errorf("no snapshot: %v", err)
	}
	if err := store.RestoreEtcd(dir, bytes.NewReader(snap)); err != nil {
		t.Fatal(err)
	}
	if err := store.RestoreEtcd(dir, bytes.NewReader(snap)); !errs.Is(err, errs.Conflict) {
		t.Errorf("restore over a store: %v", err)
	}
	again, vms := openVMs(t, openEtcd(t, dir))
	defer closeDB(t, again)
	if vms.Len() != 20 || vms.Count("project", "p") != 20 {
		t.Errorf("%d records restored", vms.Len())
	}
	if again.Epoch() != epoch+1 || again.Revision() <= rev+1000 {
		t.Errorf("epoch %d revision %d after %d %d", again.Epoch(), again.Revision(), epoch, rev)
	}
	if err := vms.Create(ctx, &vm{ID: "new", Name: "n0"}); !errs.Is(err, errs.Conflict) {
		t.Errorf("unique key after the restore: %v", err)
	}
	if err := vms.Create(ctx, &vm{ID: "new", Name: "new"}); err != nil {
		t.Error(err)
	}
}

func TestMaintain(t *testing.T) {
	ctx := storetest.Context(t)
	b := openEtcd(t, t.TempDir())
	db, vms := openVMs(t, b)
	defer closeDB(t, db)
	if err := vms.Create(ctx, &vm{ID: "a", Name: "a"}); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		_, err := vms.Update(ctx, "a", func(v *vm) error { v.Note = strings.Repeat(fmt.Sprint(i), 20_000); return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Maintain(ctx, db.Revision()); err != nil {
		t.Fatal(err)
	}
	if err := b.(store.Defragmenter).Defrag(ctx); err != nil {
		t.Fatal(err)
	}
	st, err := db.Status(ctx)
	if err != nil || st.Members != 1 || st.Quota == 0 || st.Revision < 300 || st.Alarming() {
		t.Errorf("status: %+v, %v", st, err)
	}
	if _, err := vms.Update(ctx, "a", func(v *vm) error { v.Note = "small"; return nil }); err != nil {
		t.Errorf("after the defragmentation: %v", err)
	}
}

func TestFsyncProbe(t *testing.T) {
	mean, slowest, err := store.FsyncProbe(t.TempDir(), 20)
	if err != nil || mean <= 0 || slowest < mean {
		t.Errorf("mean %v, slowest %v, %v", mean, slowest, err)
	}
	if _, _, err := store.FsyncProbe(filepath.Join(t.TempDir(), "absent"), 1); err == nil {
		t.Error("probing a directory that is not there")
	}
}
