package hypervisor

import (
	"os"
	"strings"
)

// lastLog is the end of QEMU's own complaints, for an error's text.
func lastLog(path string) string {
	data, err := os.ReadFile(path)
	text := strings.TrimSpace(string(data[max(0, len(data)-500):]))
	if err != nil || text == "" {
		return ""
	}
	return ": " + text
}
