// Package configdrive makes the documents that tell a guest who it is, in the
// layouts of OpenStack and of EC2, and offers them in the two ways that guests
// look for them: as the config drive (an ISO 9660 disk labelled config-2) and
// over HTTP at 169.254.169.254. Paths, listings and versions are those of
// nova/api/metadata. It keeps nothing and has no state.
//
// The admin password is on the config drive alone; openstack/*/password, where a
// guest posts a password that it made up and encrypted, is over HTTP alone.
package configdrive
