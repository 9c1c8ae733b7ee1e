// Package image is the image service, API v2 (Glance).
//
// It owns the Image records, with their members, tags and properties, and the
// files in Options.Dir that hold the images' data.
//
// An image's life, as status (upstream's names, which are on the wire):
//
//	queued -upload-> saving -> active <-> deactivated
//	queued -stage-> uploading -import-> active
//	saving, uploading -> queued (the data was refused, or its writer died)
//	any -> gone
//
// Invariants: the data of an active image never changes; its blob has the size
// and the hashes that the record tells, and its content has been inspected:
// it agrees with disk_format and refers to no other file. A record names a blob
// only after the blob was fsynced, and each blob belongs to one record.
//
// Crash story: data goes to a temporary file, which is fsynced, renamed to a name
// that was never used before, and only then named by the record. A delete
// removes the record first and the file after it. So whatever dies in between
// leaves at most a file that no record names, which the sweep at the next start
// removes; and an image in saving, which the sweep puts back to queued.
//
// The files live on the member that serves the API: a region with several control
// members needs Options.Dir on storage that they share.
package image
