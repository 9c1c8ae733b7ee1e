package image

import (
	"strconv"
	"strings"
)

// byteRange reads a Range header of one range against data of size bytes; "" is
// everything. ok is false where upstream answers 416: a form that is not
// understood, several ranges, or one that lies outside (RFC 9110, section 14).
func byteRange(header string, size int64) (from, n int64, ok bool) {
	if header == "" {
		return 0, size, true
	}
	spec, found := strings.CutPrefix(strings.TrimSpace(header), "bytes=")
	first, last, dash := strings.Cut(spec, "-")
	if !found || !dash {
		return 0, 0, false
	}
	if first == "" {
		back, err := strconv.ParseUint(last, 10, 63)
		if err != nil || back == 0 || size == 0 {
			return 0, 0, false
		}
		n = min(int64(back), size)
		return size - n, n, true
	}
	start, err := strconv.ParseUint(first, 10, 63)
	if err != nil || int64(start) >= size {
		return 0, 0, false
	}
	end := uint64(size - 1)
	if last != "" {
		if end, err = strconv.ParseUint(last, 10, 63); err != nil || end < start {
			return 0, 0, false
		}
		end = min(end, uint64(size-1))
	}
	return int64(start), int64(end-start) + 1, true
}
