package nodestest

import (
	"net"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Exported is the report of a node at the address that exports all that is wanted.
func Exported(addr string, wanted []nodeapi.Export) []nodeapi.ExportStatus {
	out := []nodeapi.ExportStatus{}
	for _, e := range wanted {
		st := nodeapi.ExportStatus{Volume: e.ID, Addr: net.JoinHostPort(addr, "21000")}
		for _, c := range e.Clients {
			st.Users = append(st.Users, c.User)
		}
		out = append(out, st)
	}
	return out
}
