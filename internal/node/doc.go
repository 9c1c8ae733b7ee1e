// Package node is the agent of one node: it makes true what the control plane
// wants of the node and reports what is.
//
// It knows the control plane only through Control, and sees only its own node's
// records. Two loops do the work, both level-triggered: one applies the network
// state as a whole, one brings each instance to its wanted generation. Every side
// effect is named by the instance's or port's id and may be repeated.
//
// What the agent must remember itself is in one small file per instance, beside
// its disks: the generation that was reached, the last reboot that was done and
// the machine's boot id then. From these it tells a guest that shut itself down
// (report it stopped) from a machine that was restarted (start the guest again).
//
// Servers that ask for it are cloned: the first of a shape boots, and a template
// of its image is frozen in the background, in a machine that is nobody's server.
// A clone starts only in the step that makes its disk: memory never meets a disk
// that it does not match. Any other start, and any failure, is a boot.
//
// A server that is on its way here is in nobody's list and is kept all the same,
// until the control plane ends the move or says that the server is this node's: then
// it is taken over as it is. One that has gone is told nothing of any more, and is
// removed when it is wanted here no more.
//
// Volumes of this node that servers on others use are exported, as a third loop is
// told; a machine here that has such a volume open changes over to the export.
//
// Crash story: QEMU processes, taps, bridges and rules outlive the agent. A new
// agent adopts what runs, and removes instances that nobody wants any more once it
// has seen the whole of what is wanted, and among them what was to be a template.
package node
