package volumes

import (
	"context"
	"fmt"
	"io"

	"github.com/strata-cloud/strata/internal/errs"
)

// copyPart is how much is read at once.
const copyPart = 1 << 20

// Copy writes the content of one device over another, which is blank and at least
// as large, and returns when it is stable there.
func Copy(ctx context.Context, to, from Device) error {
	if to.Size() < from.Size() {
		return errs.Invalidf("a disk of %d bytes does not fit in one of %d", from.Size(), to.Size())
	}
	buf := make([]byte, copyPart)
	for off := int64(0); off < from.Size(); {
		extents, err := from.Map(off, from.Size()-off)
		if err != nil {
			return err
		}
		for _, e := range extents {
			end := min(off+e.Length, from.Size())
			if !e.Zero {
				if err := copyRange(ctx, to, from, off, end, buf); err != nil {
					return err
				}
			}
			off = end
		}
	}
	return to.Flush()
}

func copyRange(ctx context.Context, to, from Device, off, end int64, buf []byte) error {
	for off < end {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		part := buf[:min(int64(len(buf)), end-off)]
		if _, err := from.ReadAt(part, off); err != nil && err != io.EOF {
			return fmt.Errorf("reading at %d: %w", off, err)
		}
		if _, err := to.WriteAt(part, off); err != nil {
			return fmt.Errorf("writing at %d: %w", off, err)
		}
		off += int64(len(part))
	}
	return nil
}
