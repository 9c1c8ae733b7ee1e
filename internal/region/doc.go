// Package region builds a whole region, in visible order, into one struct, and is
// the only place where services meet: each declares the small interfaces that it
// needs of others, and the adapters here satisfy them.
//
// With an address for other machines it is one of a council of control members, of
// which one has the region; see council.
//
// The data directory has:
//
//	store/        the embedded etcd: every durable fact of the control plane
//	images/       image data
//	instances/    one directory per server on this node
//	leases/       until when servers with high availability may run here
//	volumes/      one directory per volume that this node keeps
//	pools/        links to further pools of volumes, elsewhere
//	attached/     which servers of this node have which volumes
//	exports/      storage daemons of volumes that several servers share
//	backups/      backups of volumes, in chunks, mode 0700
//	registry/     the registry's blobs, and what is being uploaded to it
//	bases/        base images in the form that guests read, linked or converted
//	clouds.yaml   the credentials made at the first start, mode 0600
//	policy.yaml   the operator's overrides of policy rules, if any
//	strata.log    what a detached process says
//	snapshots/    hourly copies of the store, the last 24
//	keys/         SSH keys and host keys of strata launch and strata ssh
//	guest/        packages and images of strata image build
//	control.crt   a control member's certificate for the others
//	fetched/      images that its agent fetched before the copy was there
//	admin.sock    where strata status, doctor and backup reach the process, mode 0600
package region
