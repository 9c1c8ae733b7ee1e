package guest

import (
	"path/filepath"
	"slices"
)

// WorkerPrograms are this project's programs in the image of KindKubeWorker.
var WorkerPrograms = []string{"strata-worker", "strata-kube", "strata-pause", "strata-shim"}

// workerRecipeCount counts changes of the code that change this image alone.
const workerRecipeCount = 1

// workerDiskSize has room for the programs; images and pods are on what the disk has more.
const workerDiskSize = 512 << 20

// What the image has besides the tiny one's: what kube-proxy and the pods' network filter
// with, what starts containers, a mount that knows all that kubelet says to it, and XFS.
var (
	workerPackages   = append(slices.Clone(tinyPackages), "nftables", "runc", "mount", "xfsprogs")
	workerProgramsOf = append(slices.Clone(tinyPrograms), "usr/sbin/nft", "usr/sbin/runc", "bin/mount", "bin/umount", "sbin/mkfs.xfs", "usr/sbin/xfs_growfs")
	workerModules    = append(slices.Clone(extraModules),
		"nfnetlink", "nf_tables", "nf_conntrack", "nf_conntrack_netlink", "nf_nat", "nf_log_syslog", "nft_chain_nat", "nft_ct", "nft_nat", "nft_masq", "nft_redir", "nft_reject", "nft_reject_inet",
		"nft_reject_ipv4", "nft_reject_ipv6", "nft_fib", "nft_fib_inet", "nft_fib_ipv4", "nft_fib_ipv6", "nft_numgen", "nft_hash", "nft_limit", "nft_log", "nft_counter", "nft_objref", "nft_quota", "nft_connlimit",
		"nft_socket", "dummy", "fuse", "xfs", "ext4", "sctp", "nbd")
)

// workerRecipe is the guest that works for a cluster of Kubernetes.
func workerRecipe(programs string) *smallRecipe {
	r := &smallRecipe{packages: workerPackages, programs: workerProgramsOf, modules: workerModules, files: []string{"files/root", "files/kube-worker"}, extra: map[string]string{}, disk: workerDiskSize}
	for _, name := range WorkerPrograms {
		r.extra[filepath.Join(programs, name)] = "usr/lib/strata/" + name
	}
	return r
}
