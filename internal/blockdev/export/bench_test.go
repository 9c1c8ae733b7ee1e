package export

import (
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkAgainstPlainFile compares a volume's I/O, by its linked file and over
// NBD, with plain QEMU on a file of its own: the ratios of the rates, 1 is as fast.
func BenchmarkAgainstPlainFile(b *testing.B) {
	w := newWorld(b, "")
	dir := b.TempDir()
	plain := filepath.Join(dir, "plain")
	for _, args := range [][]string{{"create", "-q", "-f", "qcow2", plain, "256M"}} {
		if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
	w.must(w.driver.Extend(b.Context(), w.ref, 256<<20, nil))
	disk, err := w.driver.Link(b.Context(), w.ref, dir)
	w.must(err)
	run := func(write bool, image string, more ...string) time.Duration {
		args := append([]string{"bench", "-q", "-t", "writeback", "-d", "32", "-s", "64k", "-c", "4000"}, more...)
		if write {
			args = append(args, "-w")
		}
		begun := time.Now()
		if out, err := exec.Command("qemu-img", append(args, image)...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		return time.Since(begun)
	}
	link := filepath.Join(dir, disk.File)
	for _, image := range []string{plain, link} { // allocate every cluster first
		run(true, image, "-f", "qcow2")
	}
	for _, write := range []bool{true, false} {
		name := "read"
		if write {
			name = "write"
		}
		b.Run(name, func(b *testing.B) {
			var base, file, nbd []time.Duration
			for b.Loop() {
				base = append(base, run(write, plain, "-f", "qcow2"))
				file = append(file, run(write, link, "-f", "qcow2"))
				w.ensure()
				nbd = append(nbd, run(write, "nbd+unix:///"+Name+"?socket="+filepath.Join(w.at, w.ref.ID+linkExt), "-f", "raw"))
				w.must(w.m.End(b.Context(), w.ref.ID))
			}
			b.ReportMetric(float64(median(base))/float64(median(file)), "file/plain")
			b.ReportMetric(float64(median(base))/float64(median(nbd)), "nbd/plain")
			b.ReportMetric(float64(4000*64<<10)/(1<<20)/median(base).Seconds(), "plain-MiB/s")
		})
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
