// Package build makes images: BuildKit inside this process, over the engine's own
// containerd.
//
// Snapshots and content of a build are containerd's, so that a finished image is
// there at once. Build containers are runc's, without a shim: they end with the build.
// Each has a namespace of the engine's bridge (Config.Sandbox), or none, or the
// host's where the client says so.
//
// Three ways lead in. Connections of buildx (Serve, Session) speak BuildKit's own
// protocol. Build serves POST /build: with version 2 it passes BuildKit's progress on,
// with version 1 it tells of it as the classic builder did (classic). The classic
// builder itself is not here: its builds are BuildKit's as well.
//
// A context that comes as a tar is unpacked below Dir/contexts (archive) and shown to
// BuildKit as a client's directory would be, which is what honours .dockerignore.
//
// Crash story: Clean ends what a build of a process that died has left: processes by
// their control group, mounts, and files. BuildKit's leases keep its cache.
package build
